"""The sentence encoder: texts → vectors. The memory model's eyes; every other part of it looks through them.

all-MiniLM-L6-v2 (22.7 M parameters, Apache-2.0), its weights fetched, not shipped; what this project trained are
low-rank updates on all its linear layers, shipped with the memory model and folded in when it is loaded for use.
It reads single texts (slot, question, candidate) or pairs (old slot, new sentence), and knows nothing of slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from mam import fetch
from mam.lowrank import LowRank

UPPER, ALL = "345", "012345"  # layers with updates: the upper half spares the backward pass through the lower one
TOKENS = 128  # longer texts are cut, as in the encoder's own training
BATCH = 64


class Encoder(nn.Module):
    """Mean-pooled hidden states of MiniLM with trained low-rank updates; `width` is 384."""

    def __init__(
        self,
        rank: int = 16,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        layers: str = UPPER,
    ):
        super().__init__()
        folder = fetch.encoder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # eager: on short texts as fast forward as the fused kernel, and three times as fast backward on a CPU
        with fetch.quiet():
            network = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
        self.network = network.eval().requires_grad_(False).to(device)
        self.width = self.network.config.hidden_size
        targets = rf"layer\.[{layers}]\..*(query|key|value|dense)$"
        self.low_rank = LowRank(self.network, targets, rank).to(device)
        self.folded = False

    def fold(self) -> Encoder:
        """Add the low-rank updates to this copy of the network: the same function, without their cost."""
        if not self.folded:
            self.low_rank.fold()
            self.folded = True
        return self

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        self.network.eval()  # its dropout would cost a third of a training step and regularise what is frozen
        return self

    def forward(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tensor:
        """Vectors (texts, width), float32, of the texts, or of text pairs read together, in one batch."""
        batch = self.tokenizer(
            list(texts),
            list(pairs) if pairs else None,
            padding=True,
            truncation=True,
            max_length=TOKENS,
            return_tensors="pt",
        ).to(self.network.device)
        with nullcontext() if self.folded else self.low_rank.active():
            hidden = self.network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None].float()
        return (hidden * mask).sum(1) / mask.sum(1)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """The same for any number of texts: (texts, width) float32, in batches of similar length."""
        out = np.zeros((len(texts), self.width), dtype=np.float32)
        order = sorted(
            range(len(texts)),
            key=lambda i: len(texts[i]) + (len(pairs[i]) if pairs else 0),
        )
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            some = [pairs[i] for i in rows] if pairs else None
            out[rows] = self([texts[i] for i in rows], some).cpu().numpy()
        return out
