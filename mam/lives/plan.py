"""Decides what there is to know in a life, before a word of it is said.

A plan is a list of groups: one thing (perhaps with a later change), or several things of one kind that hold at
once. No two groups can be meant by the same question. `generator` then tells the plan in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from .kinds import Kind, bank, kinds, phrases, relations

SELF = "user"
NAME = "relative_name"  # what somebody is called is told in every split, in phrases of its own: later facts use it

_SHE = frozenset((
    "sister", "mother", "aunt", "grandmother", "wife", "daughter", "niece", "stepmother", "godmother", "girlfriend",
    "stepdaughter", "goddaughter", "stepsister", "granddaughter", "great-aunt", "mother-in-law", "sister-in-law",
))  # fmt: skip
_HE = frozenset((
    "brother", "father", "uncle", "grandfather", "husband", "son", "nephew", "stepfather", "godfather", "boyfriend",
    "stepson", "godson", "stepbrother", "grandson", "great-uncle", "father-in-law", "brother-in-law",
))  # fmt: skip
_PARTNERS = frozenset(("husband", "wife", "girlfriend", "boyfriend", "partner", "fiance", "fiancee"))
_UPDATED, _CIRCLE = 0.22, 7  # share of changeable things that change; how many people matter in a life


@dataclass(eq=False)
class Item:
    """One fact to be told. `value`, `index` and `text` of a date or of anything told are filled in on telling."""

    kind: Kind
    subject: str
    value: str
    session: int
    old: Item | None = None  # the fact that this one changes
    name: Item | None = None  # the fact that tells the subject's name, if the name stands in for the relation
    she: bool = False  # whether the subject, if it is somebody else, is a woman
    told_by_name: bool = False  # with `name`: told by name and asked by relation, or the other way round
    index: int = -1
    text: str = ""


@cache
def name_kind(split: str) -> Kind:
    tell, ask = phrases(split, "name_tell"), phrases(split, "name_ask")
    names = bank(split, "names_first")
    return Kind(NAME, NAME, tell, ask, "Your {who} is called {v}.", names, "names_first", relations())


class Planner:
    """Draws the groups of one life."""

    def __init__(self, random: Random, split: str, sessions: int, facts: int):
        self.random, self.split, self.sessions, self.facts = random, split, sessions, facts
        self.pool = [kind for kind in kinds(split) if kind.name != NAME]
        self.circle = self._circle()
        self.names: dict[str, Item] = {}
        self.women = {who for who in relations() if who in _SHE or (who not in _HE and random.random() < 0.5)}
        self.groups: list[list[Item]] = []
        self.taken: set[tuple[str, str]] = set()  # (kind, subject)
        self.used: set[str] = set()  # values, so that no two facts of a life share one

    def groups_of_life(self) -> list[list[Item]]:
        """Groups with `facts` items in all, fewer only where the split has no more to tell."""
        todo = self.random.sample(self.pool, len(self.pool))
        while todo and self._left() > 0:
            kind = todo.pop()
            if not kind.who:
                self._add(kind, SELF)
                continue
            for subject in self._subjects(kind):
                self._add(kind, subject)
            self._add_for_self(kind, todo)
        more = self.random.sample(self.pool, len(self.pool)) if self._left() > 0 else ()
        for kind in more:  # a long life in a small split draws on more people
            for subject in self.random.sample(kind.who, len(kind.who)):
                self._add(kind, subject)
        return self.groups

    def told(self, family: str, subject: str) -> list[Kind]:
        return [g[0].kind for g in self.groups if g[0].kind.family == family and g[0].subject == subject]

    def _left(self) -> int:
        return self.facts - sum(map(len, self.groups))

    def _circle(self) -> list[str]:
        relations = sorted({relation for kind in self.pool for relation in kind.who})
        drawn = self.random.sample(relations, len(relations))
        partner = next((relation for relation in drawn if relation in _PARTNERS), None)
        drawn = [relation for relation in drawn if relation not in _PARTNERS or relation == partner]
        # a relative first: most kinds about somebody else are about relatives
        return sorted(drawn[: 3 * _CIRCLE], key=lambda relation: relation not in _SHE | _HE)[:_CIRCLE]

    def _subjects(self, kind: Kind) -> list[str]:
        known = [relation for relation in self.circle if relation in kind.who]
        if not known:
            return [self.random.choice([who for who in kind.who if who not in _PARTNERS] or list(kind.who))]
        return self.random.sample(known, min(len(known), self.random.choice((1, 1, 1, 2, 2, 3))))

    def _add_for_self(self, kind: Kind, todo: list[Kind]) -> None:
        """Often the same thing is told about oneself as well: that makes for near misses."""
        twins = [twin for twin in todo if twin.family == kind.family and not twin.who]
        if twins and self.random.random() < 0.5:
            twin = self.random.choice(twins)
            todo.remove(twin)
            self._add(twin, SELF)

    def _add(self, kind: Kind, subject: str) -> None:
        left = self._left()
        if left <= 0 or self._clashes(kind, subject):
            return
        values = self._values(kind)
        if not values and not kind.when:
            return
        self.taken.add((kind.name, subject))
        if kind.many:
            group = [self._item(kind, subject, value) for value in values[: min(left, self.random.randint(2, 3))]]
        else:
            group = [self._item(kind, subject, "" if kind.when else values[0])]
            if kind.update and left > 1 and self.random.random() < _UPDATED:
                self._change(group, values)
        self.groups.append(group)
        self.used.update(item.value.casefold() for item in group)
        if subject != SELF and len(group) == 1 and self._left() > 0:
            self._by_name(group[0])

    def _item(self, kind: Kind, subject: str, value: str, session: int | None = None) -> Item:
        session = self.random.randrange(self.sessions) if session is None else session
        return Item(kind, subject, value, session, she=subject in self.women)

    def _change(self, group: list[Item], values: list[str]) -> None:
        """Adds the later fact that changes the only one of `group`."""
        old = group[0]
        others = [value for value in values[1:] if not _overlap(value, old.value)]
        if not old.kind.when and not others:
            return
        if self.sessions > 1 and old.session == self.sessions - 1:
            old.session = self.random.randrange(self.sessions - 1)
        later = self.random.randrange(old.session + 1, self.sessions) if self.sessions > 1 else 0
        new = self._item(old.kind, old.subject, "" if old.kind.when else others[0], later)
        new.old = old
        group.append(new)

    def _by_name(self, item: Item) -> None:
        """Sometimes the subject has a name that stands in for the relation, in the telling or in the question."""
        name = self.names.get(item.subject)
        if name is None:
            if self.random.random() > 0.3 or self._named_otherwise(item.subject):
                return
            name = self.names[item.subject] = self._item(name_kind(self.split), item.subject, self._name(item.subject))
            self.taken.add((NAME, item.subject))
            self.groups.append([name])
            self.used.add(name.value.casefold())
        elif self.random.random() < 0.3:
            return
        item.name, item.told_by_name = name, self.random.random() < 0.7
        name.session = min(name.session, item.session)

    def _name(self, relation: str) -> str:
        names, of_women = bank(self.split, "names_first"), bank(self.split, "names_women")
        fitting = [name for name in names if (name in of_women) == (relation in self.women)]
        return self.random.choice([name for name in fitting if name.casefold() not in self.used] or fitting)

    def _values(self, kind: Kind) -> list[str]:
        """The kind's values in random order, those that this life already uses left out."""
        fresh = [value for value in kind.values if value.casefold() not in self.used]
        drawn = self.random.sample(fresh, min(len(fresh), 8))
        kept: list[str] = []
        for value in drawn:
            if not any(_overlap(value, other) for other in kept):
                kept.append(value)
        return kept

    def _clashes(self, kind: Kind, subject: str) -> bool:
        if (kind.name, subject) in self.taken:
            return True
        twins = self.told(kind.family, subject)
        if twins and (kind.many or any(twin.many for twin in twins)):
            return True  # "Which languages do I speak?" would take in the native one
        return any(relation in self.names for relation in _mentioned(kind))

    def _named_otherwise(self, relation: str) -> bool:
        """Whether something told about oneself may name this person already: "My boss is called {v}."."""
        return any(relation in _mentioned(group[0].kind) for group in self.groups)


@cache
def _mentioned(kind: Kind) -> frozenset[str]:
    """Relations that a kind about oneself mentions by the way: "My boss is called {v}."."""
    text = " ".join((*kind.tell, *kind.ask)).casefold()
    return frozenset(relation for relation in relations() if f"my {relation}" in text)


def _overlap(one: str, other: str) -> bool:
    """Whether one value contains the other as words ("tea", "green tea"): a reply would seem to hold both."""
    short, long = sorted((f" {one.casefold()} ", f" {other.casefold()} "), key=len)
    return short in long
