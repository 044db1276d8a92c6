"""The reader: what in the memory helps this turn, and does anything? Runs before the turn's own writes.

It looks twice. The first look scores every active slot, exactly, by a sum of parts in log-odds that the trace keeps:

    score = meaning · cos(query, key) + words · overlap + recency · age + speaker · same      (trained weights)

The second look (`reranker`) reads message and slot together for the best k and corrects that to the log-odds that the
slot helps to answer, where somebody is named with the slot that says who is meant in mind:

    w_null = 1 / (1 + Σ exp odds),    w of the best k = (1 - w_null) · σ(odds)² / Σ σ(odds)²      (Σ w + w_null = 1)

Slots that surely help share alike, however sure each is: the items of a list are wanted together. A softmax would give
nearly all to the surest one.

A message that neither asks for something only a memory could hold (`asked`, trained too) nor is near any slot gets no
second look; then the weights are the softmax of the first look's scores and its own trained null. Weights and `asked`
decide the turn: read; or, when nothing helps, abstain (asked) or leave the base alone (not asked). Does not know what
the integrator does with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam.candidates import sentences
from mam.index import EVIDENCE, SlotIndex
from mam.render import asks_when, render
from mam.reranker import Found, Judgement
from mam.values import SAYS_WHO, Read, Slot

ABSTAIN = "You haven't told me that."  # every abstention begins with this sentence
READ, ABSTAINS, ALONE = "read", "abstain", "alone"
BEST = (ALONE, ABSTAINS, READ)  # of several readings of one message, the later one counts
LOOK = 480  # characters of a message that are read at once: the encoder takes in 128 tokens
WINDOW = 4_000  # characters at either end of a message in which its first and last sentence are looked for
RUNNERS_UP = 4  # how many of the slots that were weighed but not given stay in the trace


@dataclass(frozen=True)
class Thresholds:
    """Tuned on validation lives, shipped with the weights."""

    read: float = 0.5  # read when 1 - w_null is at least this
    asked: float = 0.5  # at least this: the message asks for something that only a memory could hold
    glance: float = 0.05  # `asked` or the first look's 1 - w_null at least this: worth a second look
    given: float = 0.02  # lighter reads are runners-up: weighed, shown, not handed to the base


@dataclass(frozen=True)
class Reading:
    """What the reader found: reads heaviest first (runners-up with given=False), and what follows from it."""

    reads: tuple[Read, ...]
    null_weight: float
    asked: float  # probability
    decision: str  # "read", "abstain" or "alone"


def looked_at(message: str) -> tuple[str, ...]:
    """What of a message is read, each by itself: all of a short one; of a long one its beginning, and its first and its
    last sentence, because a question comes before what is pasted or after it."""
    if len(message) <= LOOK:
        return (message,)
    first = [said[:LOOK] for said, _ in sentences(message[:WINDOW])[:1]]
    last = [said[-LOOK:] for said, _ in sentences(message[-WINDOW:])[-1:]]
    return tuple(dict.fromkeys([message[:LOOK], *first, *last]))


def best(readings: Sequence[Reading]) -> Reading:
    """The reading of a message that finds something, else one that asks for something; of several the surest."""
    return max(readings, key=lambda found: (BEST.index(found.decision), -found.null_weight))


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
    def rank(self, query: str, hidden: np.ndarray, index: SlotIndex, k: int, now: datetime) -> list[tuple[Slot, float]]:
        """The `k` slots that the first look finds best, with their log-odds against null, best first."""
        vector = torch.from_numpy(hidden).to(self.meaning.device)
        scores, _ = self._first(query, vector, index, now)
        top = scores.topk(min(k, len(index)))
        against = (top.values - self.null(vector).cpu()).tolist()
        return [(index.slots[row], x) for row, x in zip(top.indices.tolist(), against, strict=True)]

    @torch.inference_mode()
    def _first(self, query: str, vector: Tensor, index: SlotIndex, now: datetime) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (rows,) of all rows, dead ones -inf, and the parts they are the sum of."""
        meaning = float(self.meaning) * index.similarity(F.normalize(self.query(vector), dim=-1).cpu().numpy())
        evidence = index.evidence(query, now) * self.evidence.cpu()
        parts = {"meaning": meaning, **dict(zip(EVIDENCE, evidence.T, strict=True))}
        return sum(parts.values()).masked_fill(~index.alive, float("-inf")), parts

    @torch.inference_mode()
    def read(
        self,
        query: str,
        hidden: np.ndarray,
        index: SlotIndex,
        k: int,
        now: datetime,
        limits: Thresholds,
        second_look: Callable[[Sequence[Found]], list[Judgement]],
    ) -> Reading:
        """Weigh all active slots for `query`, whose encoder vector is `hidden` (width,).

        `second_look`: see `Reranker.judge`.
        """
        vector, dated = torch.from_numpy(hidden).to(self.meaning.device), asks_when(query)
        asked = float(torch.sigmoid(self.asked(vector)))
        scores, parts = self._first(query, vector, index, now)
        top = scores.topk(min(k + RUNNERS_UP, len(index)))
        slots = [index.slots[row] for row in top.indices.tolist()]
        odds = torch.cat([top.values[:k], self.null(vector).cpu()])
        looked = max(asked, 1 - float(odds.softmax(-1)[-1])) >= limits.glance and len(slots) > 0
        if looked:
            first = (odds[:-1] - odds[-1]).tolist()
            (judged,) = second_look([Found(query, [render(slot, dated) for slot in slots[:k]], first)])
            odds = torch.cat([torch.from_numpy(judged.odds), torch.zeros(1)])
        *weights, null_weight = odds.softmax(-1).tolist()
        if looked:
            weights = ((1 - null_weight) * (2 * F.logsigmoid(odds[:-1])).softmax(-1)).tolist()
        decision = READ if 1 - null_weight >= limits.read else ABSTAINS if asked >= limits.asked else ALONE
        weights += [0.0] * (len(slots) - len(weights))
        reads = []
        for i in sorted(range(len(slots)), key=lambda i: -weights[i]):
            shown = {name: float(values[top.indices[i]]) for name, values in parts.items()}
            if looked and i < k:
                shown[SAYS_WHO if i == judged.who else "second look"] = float(odds[i])
            given = decision == READ and weights[i] >= limits.given
            reads.append(Read(slots[i], weights[i], shown, given, dated))
        return Reading(tuple(reads), null_weight, asked, decision)
