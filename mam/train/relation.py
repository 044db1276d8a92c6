"""Training of the relation head on pairs (old slot, new sentence) made from the kinds of fact.

duplicate   the same thing told in other words
update      another value for what can hold only one, told as a change or plainly
new         everything else, chosen to be near: another person, another value where several may hold, a sister kind,
            a kind that is told in like words
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta
from functools import cache, partial
from heapq import nlargest
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.index import words
from mam.lives import days, kinds, phrasing
from mam.model import MemoryModel
from mam.relation import KINDS, RelationHead
from mam.train.loop import Part

PAIRS = 48  # of a step
VALIDATION = 600
ALIKE = 6  # kinds that sound most like one
NAMED = 0.5  # share of pairs that call people by their relation and name
AGAIN = 0.25  # share of duplicates that are the same sentence again
# shares with words before them that correct something: updates told plainly, updates told as a change, other texts
CORRECTED = 0.5, 0.15, 0.05
CONTEXT = 0.15  # share of pairs whose new text comes with the sentence before it
NEW, DUPLICATE, UPDATE = range(len(KINDS))


@cache
def _kinds(split: str) -> tuple[kinds.Kind, ...]:
    return kinds.kinds(split)


def pair(random: Random, split: str) -> tuple[str, str, int]:
    """Old text, new text and the class of their relation."""
    old, new, label = _plain(random, split)
    if random.random() < NAMED:
        old, new = _named(random, split, old, new)
    if random.random() < CONTEXT:  # a sentence that leans on an earlier one is kept together with it
        kind = random.choice(_kinds(split))
        before = _say(random, split, kind, _values(random, kind, 1)[0], _who(random, kind))
        new = f"{before} {new}"
        if label == NEW and random.random() < 0.5:
            old = before
    return old, new, label


def _named(random: Random, split: str, *texts: str) -> list[str]:
    """The texts with a name behind each relation: "my sister Anna"."""
    said = {who.lower() for text in texts for who in re.findall(r"\bmy ([\w-]+)\b", text, re.IGNORECASE)}
    names = {who: random.choice(kinds.bank(split, "names_first")) for who in sorted(said & set(kinds.relations()))}

    def named(text: str) -> str:
        for who, name in names.items():
            text = re.sub(rf"\b(my {who})\b(?!['’-])", rf"\1 {name}", text, flags=re.IGNORECASE)
        return text

    return list(map(named, texts))


def _plain(random: Random, split: str) -> tuple[str, str, int]:
    label = random.choices((NEW, DUPLICATE, UPDATE), (0.5, 0.22, 0.28))[0]
    say = partial(_say, random, split)
    if label == UPDATE:
        kind = random.choice([k for k in _kinds(split) if k.update])
        who, (old, new) = _who(random, kind), _values(random, kind, 2)
        change = random.random() < 0.75
        told = say(kind, new, who, old, change=change, corrected=CORRECTED[1 if change else 0])
        return say(kind, old, who), told, UPDATE
    kind = random.choice(_kinds(split))
    if label == DUPLICATE:
        who, (value,) = _who(random, kind), _values(random, kind, 1)
        one, two = random.sample(kind.tell, 2)
        two = one if random.random() < AGAIN else two
        return say(kind, value, who, template=one), _shortened(random, say(kind, value, who, template=two)), DUPLICATE
    return *_unrelated(random, split, kind), NEW


def _unrelated(random: Random, split: str, kind: kinds.Kind) -> tuple[str, str]:
    """Two texts that are near and yet say nothing about one another."""
    say, roll = partial(_say, random, split, corrected=CORRECTED[2]), random.random()
    if roll < 0.3:  # another value where several may hold
        kind = random.choice([k for k in _kinds(split) if k.many])
        who, (one, two) = _who(random, kind), _values(random, kind, 2)
        return say(kind, one, who), say(kind, two, who)
    if roll < 0.45 and len(kind.who) > 1:  # another person
        (first, second), (one, two) = random.sample(kind.who, 2), _values(random, kind, 2)
        return say(kind, one, first), say(kind, two, second, one, change=True)
    others = [k for k in _kinds(split) if k.name != kind.name]
    sisters = [k for k in others if k.family == kind.family]
    other = random.choice(_alike(split)[kind.name] if roll < 0.65 else sisters if sisters and roll < 0.75 else others)
    who = _who(random, kind)
    new, old = _values(random, other, 2)
    whom = who if who in other.who else _who(random, other)
    return say(kind, _values(random, kind, 1)[0], who), say(other, new, whom, old, change=random.random() < 0.3)


@cache
def _alike(split: str) -> dict[str, list[kinds.Kind]]:
    """For each kind those of other families that are told in the most like words: the view from a room, its walls."""
    said = {kind.name: set().union(*map(words, (*kind.tell, *kind.update))) for kind in _kinds(split)}
    common = Counter(word for told in said.values() for word in told)

    def likeness(one: kinds.Kind, other: kinds.Kind) -> float:
        return sum(1 / common[word] for word in said[one.name] & said[other.name]) / len(said[other.name]) ** 0.5

    return {
        kind.name: nlargest(ALIKE, (k for k in _kinds(split) if k.family != kind.family), partial(likeness, kind))
        for kind in _kinds(split)
    }


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


def _say(
    random: Random,
    split: str,
    kind: kinds.Kind,
    value: str,
    who: str,
    old: str = "",
    *,
    change: bool = False,
    corrected: float = 0.0,
    template: str = "",
) -> str:
    """One way of telling a value, or its `change` from `old` where the kind has words for that.

    corrected: how often words stand before it that correct something.
    """
    template = template or random.choice(kind.update if change and kind.update else kind.tell)
    if random.random() < corrected:
        template = phrasing.framed(random.choice(kinds.phrases(split, "corrections")), template)
    elif random.random() < 0.15:
        template = phrasing.framed(random.choice(kinds.phrases(split, "leadins")), template)
    template = phrasing.roughened(random, template, last=True)
    return phrasing.filled(template, v=value, when=value, who=who, old=old)


_SHORT = (("I am", "I'm"), ("is not", "isn't"), ("do not", "don't"), ("I have", "I've"), ("It is", "It's"))


def _shortened(random: Random, text: str) -> str:
    """The text with some long forms for short ones, or the other way round."""
    for pair in _SHORT:
        if random.random() < 0.5:
            text = text.replace(*(pair if random.random() < 0.5 else pair[::-1]))
    return text


def pairs(split: str, count: int = VALIDATION) -> list[tuple[str, str, int]]:
    """Held-out pairs, always the same ones."""
    return [pair(Random(f"relation {split} {i}"), split) for i in range(count)]


def part(model: MemoryModel) -> Part:
    head = model.relation
    val = pairs("val")

    def batch(step: int) -> list[tuple[str, str, int]]:
        random = Random(f"relation {step}")
        return sorted((pair(random, "train") for _ in range(PAIRS)), key=lambda p: len(p[0]) + len(p[1]))

    def losses(batch: list[tuple[str, str, int]]) -> dict[str, Tensor]:
        halves = batch[: PAIRS // 2], batch[PAIRS // 2 :]  # short pairs are not padded to the length of long ones
        logits = torch.cat([head([old for old, _, _ in half], [new for _, new, _ in half]) for half in halves])
        labels = torch.tensor([label for _, _, label in batch], device=logits.device)
        return {"relation": F.cross_entropy(logits, labels)}

    groups = [
        {"params": list(head.encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": list(head.out.parameters()), "lr": 3e-3},
    ]
    return Part("relation", head, groups, batch, losses, lambda: validate(head, val))


def validate(head: RelationHead, held_out: list[tuple[str, str, int]]) -> dict[str, float]:
    """Accuracy, and the share recognised of each class."""
    said = head.odds([old for old, _, _ in held_out], [new for _, new, _ in held_out]).argmax(-1)
    truth = np.array([label for _, _, label in held_out])
    out = {name: float((said[truth == i] == i).mean()) for i, name in enumerate(KINDS)}
    return out | {"score": float((said == truth).mean())}
