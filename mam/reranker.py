"""The reader's second look: does this slot help to answer this message? A cross-encoder over the best few slots.

The first stage of the reader compares one vector with another, over all slots; it finds what answers, but cannot
always tell "my dog" from "my sister's dog". Here message and slot are read together, by a pair encoder with low-rank
updates of its own, and every slot is judged by itself, so that several can be right at once. What the first stage
found counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mam.encoder import Encoder


class Reranker(nn.Module):
    """Pair encoder, linear head and a share of the first look's score: log-odds that the slot helps to answer."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.out = nn.Linear(encoder.width, 1)
        self.first_look = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.out.weight)  # begins as the first look alone and learns where that is wrong

    def forward(self, messages: Sequence[str], slots: Sequence[str], first: Tensor) -> Tensor:
        """`first`: (pairs,) what the first look found, log-odds against its null → (pairs,) log-odds."""
        return self.out(self.encoder(messages, slots)).squeeze(-1) + self.first_look * first

    @torch.inference_mode()
    def odds(self, messages: Sequence[str], slots: Sequence[str], first: np.ndarray) -> np.ndarray:
        """The same for any number of pairs: (pairs,) float32."""
        vectors = torch.from_numpy(self.encoder.encode(messages, slots)).to(self.out.weight.device)
        own = self.out(vectors).squeeze(-1).cpu().numpy()
        return own + float(self.first_look) * np.asarray(first, dtype=np.float32)
