"""The reader: what in the memory helps this turn, and does anything? Runs before the turn's own writes.

Every active slot gets a score, a sum of parts in log-odds that the trace keeps; the null option gets one too:

    score = meaning · cos(query, key) + words · overlap + recency · age + speaker · same      (trained weights)
    weights of the best k and of null = softmax                                               (Σ w + w_null = 1)

A second trained judgement, `asked`, says whether the message asks for something that only a memory could hold.
Both together decide the turn: read; or, when nothing helps, abstain (asked) or leave the base alone (not asked).
Does not know what happens to the weights (integrator).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam.index import EVIDENCE, SlotIndex
from mam.values import Read

ABSTAIN = "You haven't told me that."  # every abstention begins with this sentence
READ, ABSTAINS, ALONE = "read", "abstain", "alone"
RUNNERS_UP = 4  # how many of the slots that were weighed but not given stay in the trace


@dataclass(frozen=True)
class Thresholds:
    """Tuned on validation lives, shipped with the weights."""

    read: float = 0.5  # a message that asks for nothing personal reads when 1 - w_null is at least this
    asked: float = 0.5  # at least this: the message asks for something that only a memory could hold
    doubt: float = 0.1  # asked, and 1 - w_null at least this: read, and let the base see for itself; below: abstain
    given: float = 0.01  # lighter reads are runners-up: weighed, shown, not handed to the base


@dataclass(frozen=True)
class Reading:
    """What the reader found: reads heaviest first (runners-up with given=False), and what follows from it."""

    reads: tuple[Read, ...]
    null_weight: float
    asked: float  # probability
    decision: str  # "read", "abstain" or "alone"


def decide(held: float, asked: float, limits: Thresholds) -> str:
    """What a turn does, from the weight on slots (1 - null) and the probability that something personal is asked.

    The reader compares one vector with another and cannot always tell "my dog" from "my sister's dog"; the base, which
    reads both sentences, can, and was trained to say so. Hence the low bar once something is asked.
    """
    if held >= (limits.doubt if asked >= limits.asked else limits.read):
        return READ
    return ABSTAINS if asked >= limits.asked else ALONE


class Reader(nn.Module):
    """Query and key projections (width → dim), weights of the evidence, null and asked heads."""

    def __init__(self, width: int, dim: int = 256, hidden: int = 128):
        super().__init__()
        self.dim = dim
        self.key = nn.Linear(width, dim, bias=False)
        self.query = nn.Linear(width, dim, bias=False)
        with torch.no_grad():  # begin as the plain encoder: one random projection, which keeps angles, for both sides
            nn.init.orthogonal_(self.key.weight)
            self.query.weight.copy_(self.key.weight)
        self.meaning = nn.Parameter(torch.tensor(20.0))
        self.evidence = nn.Parameter(torch.tensor([4.0, 0.0, 0.0]))  # in the order of index.EVIDENCE
        self.null = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))
        self.asked = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, 1))
        nn.init.constant_(self.null[-1].bias, 10.0)

    def keys(self, hidden: Tensor) -> Tensor:
        """(n, width) → (n, dim) unit vectors."""
        return F.normalize(self.key(hidden), dim=-1)

    def scores(self, hidden: Tensor, keys: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (q, width), keys (s, dim), evidence (q, s, 3) → scores (q, s) and null scores (q,), log-odds."""
        cosine = F.normalize(self.query(hidden), dim=-1) @ keys.T
        return self.meaning * cosine + evidence @ self.evidence, self.null(hidden).squeeze(-1)

    @torch.inference_mode()
    def read(
        self,
        query: str,
        hidden: np.ndarray,
        index: SlotIndex,
        k: int,
        limits: Thresholds,
        now: datetime,
    ) -> Reading:
        """Weigh all active slots for `query`, whose encoder vector is `hidden` (width,)."""
        vector = torch.from_numpy(hidden).to(self.meaning.device)
        asked = float(torch.sigmoid(self.asked(vector)))
        null = float(self.null(vector))
        meaning = float(self.meaning) * index.similarity(F.normalize(self.query(vector), dim=-1).cpu().numpy())
        parts = index.evidence(query, now) * self.evidence.cpu()
        score = (meaning + parts.sum(1)).masked_fill(~index.alive, float("-inf"))
        top = score.topk(min(k + RUNNERS_UP, len(index)))
        weights = torch.cat([top.values[:k], torch.tensor([null])]).softmax(-1)
        null_weight = float(weights[-1])
        decision = decide(1 - null_weight, asked, limits)
        reads = []
        for rank, row in enumerate(top.indices.tolist()):
            weight = float(weights[rank]) if rank < k else 0.0
            reads.append(
                Read(
                    slot=index.slots[row],
                    weight=weight,
                    parts={
                        "meaning": float(meaning[row]),
                        **dict(zip(EVIDENCE, parts[row].tolist(), strict=True)),
                    },
                    given=decision == READ and weight >= limits.given,
                )
            )
        return Reading(tuple(reads), null_weight, asked, decision)
