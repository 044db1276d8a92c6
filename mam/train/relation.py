"""Training of the relation head on pairs (old slot, new sentence) made from the kinds of fact.

duplicate   the same thing told in other words
update      another value for what can hold only one, told as a change or plainly
new         everything else, chosen to be near: another person, another value where several may hold, a sister kind
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from random import Random

import numpy as np
import torch
import torch.nn.functional as F

from mam.lives import days, kinds, phrasing
from mam.model import MemoryModel
from mam.relation import KINDS
from mam.train.loop import Part

PAIRS = 48  # of a step
VALIDATION = 600
NEW, DUPLICATE, UPDATE = range(len(KINDS))


@cache
def _kinds(split: str) -> tuple[kinds.Kind, ...]:
    return kinds.kinds(split)


@cache
def _families(split: str) -> dict[str, list[kinds.Kind]]:
    out: dict[str, list[kinds.Kind]] = {}
    for kind in _kinds(split):
        out.setdefault(kind.family, []).append(kind)
    return out


def pair(random: Random, split: str) -> tuple[str, str, int]:
    """Old text, new text and the class of their relation."""
    label = random.choices((NEW, DUPLICATE, UPDATE), (0.5, 0.22, 0.28))[0]
    if label == UPDATE:
        kind = random.choice([k for k in _kinds(split) if k.update])
        who, (old, new) = _who(random, kind), _values(random, kind, 2)
        how = random.choice(kind.update) if random.random() < 0.75 else random.choice(kind.tell)
        return (
            _told(random, split, random.choice(kind.tell), old, who),
            _told(random, split, how, new, who, old),
            UPDATE,
        )
    kind = random.choice(_kinds(split))
    if label == DUPLICATE:
        who, (value,) = _who(random, kind), _values(random, kind, 1)
        one, two = random.sample(kind.tell, 2)
        return (
            _told(random, split, one, value, who),
            _told(random, split, two, value, who),
            DUPLICATE,
        )
    return *_unrelated(random, split, kind), NEW


def _unrelated(random: Random, split: str, kind: kinds.Kind) -> tuple[str, str]:
    who = _who(random, kind)
    many = [k for k in _kinds(split) if k.many]
    roll = random.random()
    if roll < 0.3 and many:
        kind = random.choice(many)
        who, values = _who(random, kind), _values(random, kind, 2)
        one, two = random.choice(kind.tell), random.choice(kind.tell)
        return _told(random, split, one, values[0], who), _told(random, split, two, values[1], who)
    if roll < 0.5 and len(kind.who) > 1:
        first, second = random.sample(kind.who, 2)
        values = _values(random, kind, 2)
        how = random.choice(kind.update or kind.tell)
        return _told(random, split, random.choice(kind.tell), values[0], first), _told(
            random, split, how, values[1], second, values[0]
        )
    sisters = [k for k in _families(split)[kind.family] if k.name != kind.name]
    other = random.choice(sisters) if sisters and roll < 0.75 else random.choice(_kinds(split))
    if other.name == kind.name:
        other = random.choice([k for k in _kinds(split) if k.name != kind.name])
    shared = who if who in other.who else _who(random, other)
    first, second = _values(random, kind, 1)[0], _values(random, other, 2)
    how = random.choice(other.update) if other.update and random.random() < 0.3 else random.choice(other.tell)
    return _told(random, split, random.choice(kind.tell), first, who), _told(
        random, split, how, second[0], shared, second[1]
    )


def _who(random: Random, kind: kinds.Kind) -> str:
    return random.choice(kind.who) if kind.who else ""


def _values(random: Random, kind: kinds.Kind, count: int) -> list[str]:
    """Different values of a kind; for a date, its words with the date that a slot holds."""
    if not kind.when:
        return random.sample(kind.values, count)
    today = date(2026, 1, 1) + timedelta(days=random.randrange(700))
    found: dict[date, str] = {}
    while len(found) < count:
        words, day = days.named_day(random, today, kind.when)
        found[day] = f"{words} ({days.written(day)})"
    return list(found.values())


def _told(random: Random, split: str, template: str, value: str, who: str, old: str = "") -> str:
    if random.random() < 0.15:
        template = phrasing.framed(random.choice(kinds.phrases(split, "leadins")), template)
    template = phrasing.roughened(random, template, last=True)
    return phrasing.filled(template, v=value, when=value, who=who, old=old)


def part(model: MemoryModel) -> Part:
    head = model.relation
    val = [pair(Random(f"relation val {i}"), "val") for i in range(VALIDATION)]

    def batch(step: int) -> list[tuple[str, str, int]]:
        random = Random(f"relation {step}")
        return sorted(
            (pair(random, "train") for _ in range(PAIRS)),
            key=lambda p: len(p[0]) + len(p[1]),
        )

    def losses(pairs):
        halves = [
            pairs[: PAIRS // 2],
            pairs[PAIRS // 2 :],
        ]  # short pairs are not padded to the length of long ones
        logits = torch.cat([head([o for o, _, _ in h], [n for _, n, _ in h]) for h in halves])
        return {"relation": F.cross_entropy(logits, torch.tensor([label for _, _, label in pairs]))}

    groups = [
        {"params": list(head.encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": list(head.out.parameters()), "lr": 3e-3},
    ]
    return Part("relation", head, groups, batch, losses, lambda: validate(head, val))


@torch.no_grad()
def validate(head, pairs) -> dict[str, float]:
    """Accuracy, and the share recognised of each class."""
    said = (
        head.out(torch.from_numpy(head.encoder.encode([o for o, _, _ in pairs], [n for _, n, _ in pairs])))
        .argmax(-1)
        .numpy()
    )
    truth = np.array([label for _, _, label in pairs])
    out = {name: float((said[truth == i] == i).mean()) for i, name in enumerate(KINDS)}
    return out | {"score": float((said == truth).mean())}
