"""Training of the reader's second look: messages paired with the slots that the first look finds for them.

Positive are the slots that answer; negative the others among the best, also for questions that nothing answers and
for messages that ask nothing. Beside it, which slot says who is meant, and the other slots with that beside the
message. Losses: binary cross-entropy, nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.index import SlotIndex
from mam.model import MemoryModel
from mam.render import asks_when, render
from mam.reranker import ANSWERS, WHO, Found, Reranker, informed
from mam.train.data import Pool, Scene, passage_scene, scene
from mam.train.loop import Part
from mam.train.talks import talk_scene

LIFE_PAIRS, TALK_PAIRS, PASSAGE_PAIRS = 40, 16, 16  # of a step
REUSED = 3  # steps that draw from one scene: looking through it costs as much as half a step
K = 8
CHUNK = 16  # pairs of similar length that go through the encoder together
LONGEST = 240  # characters of a slot; few are longer, and their padding would double a step
NAMED = 3  # messages of a life in which somebody is called by another name, taken first
IDLE = 0.4  # share of the messages that ask nothing


@dataclass(frozen=True)
class Case:
    """A message with what the first look found, best first: which answer, and which says who is meant."""

    found: Found
    right: tuple[bool, ...]
    who: int | None  # place among the found
    needs_who: bool  # nothing can be judged to answer without it
    asks: bool


@dataclass(frozen=True)
class Pair:
    """A message and a slot; a label of None is not learned from."""

    message: str
    text: str
    answers: bool | None
    who: bool | None = None


def cases(model: MemoryModel, s: Scene) -> list[Case]:
    """The best slots of the first look for each message of a scene."""
    index = SlotIndex(model.dim)
    index.add(s.slots, model.keys(model.encode([x.text for x in s.slots])))
    messages = [(a.text, a.rows, a.who, True) for a in s.asked] + [(text, (), None, False) for text in s.idle]
    made = []
    for (text, rows, who, asks), vector in zip(messages, model.encode([m[0] for m in messages]), strict=True):
        best = model.reader.rank(text, vector, index, K, s.now)
        at = [int(slot.id) for slot, _ in best]
        found = Found(text, [render(slot, asks_when(text)) for slot, _ in best], [first for _, first in best])
        right = tuple(row in rows and row != who for row in at)
        made.append(Case(found, right, at.index(who) if who in at else None, who in rows, asks))
    return made


def pairs(case: Case, random: Random) -> list[Pair]:
    """Up to two right slots of a case, the best wrong one and another; where somebody is named, all that twice."""
    places = range(len(case.right))
    right = [i for i in places if case.right[i]][:2]
    wrong = [i for i in places if not case.right[i] and i != case.who]
    taken = right + wrong[:1] + random.sample(wrong[1:], min(1, len(wrong[1:])))
    f = case.found
    plain = [
        Pair(f.message, f.texts[i], None if case.right[i] and case.needs_who else case.right[i], False) for i in taken
    ]
    if case.who is None:
        return plain
    plain.append(Pair(f.message, f.texts[case.who], False, True))
    message = informed(f.message, f.texts[case.who])
    return plain + [Pair(message, f.texts[i], case.right[i]) for i in taken]


def sample(made: Sequence[Case], random: Random, count: int) -> list[Pair]:
    """About `count` pairs of a scene's cases."""
    made = random.sample(made, len(made))
    named = [c for c in made if c.who is not None][:NAMED]
    others = [c for c in made if c not in named and (c.asks or random.random() < IDLE)]
    out: list[Pair] = []
    for case in named + others:
        if len(out) >= count:
            break
        out += pairs(case, random)
    return out


def part(model: MemoryModel, pool: Pool, val: Sequence[Scene]) -> Part:
    """What `loop.train` needs to train the reranker of `model`, whose first look is trained already."""
    head = model.reranker
    held_out = [case for s in val for case in cases(model, s)]
    life = lru_cache(maxsize=1)(lambda seed: cases(model, scene(seed)))
    talk = lru_cache(maxsize=1)(lambda seed: cases(model, talk_scene(seed)))
    told = lru_cache(maxsize=1)(lambda seed: cases(model, passage_scene(seed, pool)))

    def batch(step: int) -> list[Pair]:
        random = Random(f"reranker {step}")
        made = sample(life(step // REUSED), random, LIFE_PAIRS)
        made += sample(talk(step // REUSED), random, TALK_PAIRS)
        if pool:
            made += sample(told(step // REUSED), random, PASSAGE_PAIRS)
        return sorted((x for x in made if len(x.text) <= LONGEST), key=lambda x: len(x.message) + len(x.text))

    def losses(batch: list[Pair]) -> dict[str, Tensor]:
        chunks = [batch[i : i + CHUNK] for i in range(0, len(batch), CHUNK)]  # so short pairs are padded little
        both = torch.cat([head([x.message for x in c], [x.text for x in c]) for c in chunks])
        return {
            "answers": _entropy(both[:, ANSWERS], [x.answers for x in batch]),
            "who": _entropy(both[:, WHO], [x.who for x in batch]),
        }

    groups = [
        {"params": list(head.encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": list(head.out.parameters()), "lr": 3e-3},
    ]
    return Part("reranker", head, groups, batch, losses, lambda: validate(head, held_out))


def _entropy(logits: Tensor, labels: Sequence[bool | None]) -> Tensor:
    """Binary cross-entropy, nats, where there is a label."""
    known = [i for i, label in enumerate(labels) if label is not None]
    truth = torch.tensor([float(labels[i]) for i in known], device=logits.device)
    return F.binary_cross_entropy_with_logits(logits[known], truth)


def validate(head: Reranker, held_out: Sequence[Case]) -> dict[str, float]:
    """Shares of right decisions: what is held is read, what is not is not, and nothing for messages that ask nothing.

    The score is the share of what is held that is read at the threshold that refuses 90 % of what is not.
    """
    reads, nulls, idle = [], [], []
    for case, judged in zip(held_out, head.judge([case.found for case in held_out]), strict=True):
        held = float(1 - 1 / (1 + np.exp(judged.odds.astype(np.float64)).sum()))
        (reads if any(case.right) else nulls if case.asks else idle).append(held)
    reads, nulls, idle = np.array(reads), np.array(nulls), np.array(idle)
    shares = {"reads": reads >= 0.5, "nulls": nulls < 0.5, "idle": idle < 0.5, "score": reads > np.quantile(nulls, 0.9)}
    return {name: float(np.mean(x)) for name, x in shares.items()}
