"""The relation head: what is a new candidate to a slot that is already there? Runs after the gate, before the store.

It reads old and new text together (a pair encoder with low-rank updates of its own, because a duplicate and an
update differ in one word that two separate vectors blur) and says: unrelated, duplicate or update. An update
supersedes the old slot; nothing is ever dropped silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mam.encoder import Encoder
from mam.values import Slot

KINDS = (
    "new",
    "duplicate",
    "update",
)  # index = class; "new" is unrelated to the old slot


@dataclass(frozen=True)
class Relation:
    """`kind` "new" has no slot; `score` is the probability of the kind, 0..1."""

    kind: str
    slot: Slot | None = None
    score: float = 1.0


class RelationHead(nn.Module):
    """Pair encoder and linear head: log-odds (pairs, 3) over KINDS."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.out = nn.Linear(encoder.width, len(KINDS))

    def forward(self, old: Sequence[str], new: Sequence[str]) -> Tensor:
        return self.out(self.encoder(old, new))

    @torch.inference_mode()
    def odds(self, old: Sequence[str], new: Sequence[str]) -> np.ndarray:
        """Probabilities (pairs, 3) over KINDS, float32."""
        vectors = torch.from_numpy(self.encoder.encode(old, new)).to(self.out.weight.device)
        return self.out(vectors).softmax(-1).cpu().numpy()

    def judge(self, text: str, near: Sequence[Slot], threshold: float = 0.5) -> Relation:
        """The strongest relation of `text` to the near slots; "new" where every relation stays below `threshold`.

        A slot superseded by mistake is worse than one kept twice, so the threshold may ask for more than a half.
        """
        if not near:
            return Relation("new")
        odds = self.odds([s.text for s in near], [text] * len(near))
        best = int(np.argmin(odds[:, 0]))
        if 1 - odds[best, 0] < threshold:
            return Relation("new", score=float(odds[best, 0]))
        kind = 1 + int(np.argmax(odds[best, 1:]))
        return Relation(KINDS[kind], near[best], float(odds[best, kind]))
