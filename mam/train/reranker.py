"""Training of the reader's second look: messages paired with the slots that the first stage finds for them.

Positive are the slots that answer; negative the others among the best, also for questions that nothing answers and
for messages that ask nothing. Loss: binary cross-entropy, nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.index import SlotIndex
from mam.model import MemoryModel
from mam.reranker import Reranker
from mam.train.data import Passage, Scene, passage_scene, scene
from mam.train.loop import Part

LIFE_PAIRS, PASSAGE_PAIRS = 48, 16  # of a step
K = 8
WRONG = 3  # slots that do not answer, for each message


@dataclass(frozen=True)
class Judged:
    """A message and a slot that the first look found for it, with its log-odds against null; does it answer?"""

    message: str
    row: int
    text: str
    first: float
    right: bool


def judged(model: MemoryModel, s: Scene) -> list[list[Judged]]:
    """The best slots of the first look for each message of a scene."""
    index = SlotIndex(model.dim)
    index.add(s.slots, model.keys(model.encode([x.text for x in s.slots])))
    messages = [(a.text, a.rows) for a in s.asked] + [(text, ()) for text in s.idle]
    found = []
    for (text, rows), vector in zip(messages, model.encode([text for text, _ in messages]), strict=True):
        best = model.reader.rank(text, vector, index, K, s.now)
        found.append([Judged(text, int(x.id), x.text, first, int(x.id) in rows) for x, first in best])
    return found


def sample(model: MemoryModel, s: Scene, random: Random, count: int) -> list[Judged]:
    """`count` pairs of a scene, a third of them right ones if there are as many."""
    right, wrong = [], []
    for found in judged(model, s):
        right += [x for x in found if x.right]
        others = [x for x in found if not x.right]
        wrong += others[:1] + random.sample(others[1:], min(len(others[1:]), WRONG - 1))
    right = random.sample(right, min(len(right), count // 3))
    return right + random.sample(wrong, min(len(wrong), count - len(right)))


def part(model: MemoryModel, pool: Sequence[Passage], val: Sequence[Scene]) -> Part:
    """What `loop.train` needs to train the reranker of `model`, whose first look is trained already."""
    head = model.reranker
    held_out = [found for s in val for found in judged(model, s)]

    def batch(step: int) -> list[Judged]:
        random = Random(f"reranker {step}")
        made = sample(model, scene(step), random, LIFE_PAIRS)
        if pool:
            made += sample(model, passage_scene(step, pool), random, PASSAGE_PAIRS)
        return sorted(made, key=lambda x: len(x.message) + len(x.text))

    def losses(batch: list[Judged]) -> dict[str, Tensor]:
        halves = batch[: len(batch) // 2], batch[len(batch) // 2 :]  # short pairs are not padded like long ones
        logits = [head([x.message for x in h], [x.text for x in h], torch.tensor([x.first for x in h])) for h in halves]
        truth = torch.tensor([float(x.right) for x in batch])
        return {"answers": F.binary_cross_entropy_with_logits(torch.cat(logits), truth)}

    groups = [
        {"params": list(head.encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": [*head.out.parameters(), head.first_look], "lr": 3e-3},
    ]
    return Part("reranker", head, groups, batch, losses, lambda: validate(head, held_out))


def validate(head: Reranker, held_out: Sequence[Sequence[Judged]]) -> dict[str, float]:
    """Shares of right decisions (read when something answers, not otherwise), and of answering slots seen as such."""
    flat = [x for found in held_out for x in found]
    odds = head.odds([x.message for x in flat], [x.text for x in flat], np.array([x.first for x in flat]))
    strength, reads, nulls, slots = iter(odds.tolist()), [], [], []
    for found in held_out:
        z = np.array([next(strength) for _ in found])
        held = np.exp(z).sum() / (1 + np.exp(z).sum()) >= 0.5
        if any(x.right for x in found):
            reads.append(held)
            slots += [value > 0 for value, x in zip(z, found, strict=True) if x.right]
        else:
            nulls.append(not held)
    found = {"reads": float(np.mean(reads)), "nulls": float(np.mean(nulls)), "slots": float(np.mean(slots))}
    return found | {"score": sum(found.values()) / 3}
