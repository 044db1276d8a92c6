"""edit: does the reply follow when a slot is edited, deleted, or superseded by something told later?

Slots are found as a person would find them, by reading the list for the value. An edit puts another held-out value
of the same kind of fact into the slot's text; everything is asked in a fresh session right afterwards.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator

from mam import lives as generator
from mam.bench import common
from mam.bench.scoring import contains, contains_all, contains_any, share, untold
from mam.lives import Fact, Life, Question
from mam.space import Space
from mam.values import Slot

EDITS = DELETES = UPDATES = 2  # per life
POOL = 60  # lives whose values serve as new ones


def new_values(settings: common.Settings) -> dict[str, list[str]]:
    """Held-out values by kind of fact, from lives that are not asked about."""
    pool: dict[str, set[str]] = {}
    for number in range(POOL):
        for fact in common.life(settings, settings.seed + 100_000 + number).facts:
            pool.setdefault(fact.kind, set()).add(fact.value)
    return {kind: sorted(values) for kind, values in pool.items()}


def standing(life: Life) -> list[tuple[Question, Fact]]:
    """Questions about one fact that nothing later in the life replaces."""
    replaced = {fact.replaces for fact in life.facts}
    return [
        (question, life.facts[question.evidence[0]])
        for question in life.questions
        if question.type == "single"
        and len(question.evidence) == 1
        and question.evidence[0] not in replaced
        and life.facts[question.evidence[0]].replaces is None
    ]


def only_slot(slots: list[Slot], value: str) -> Slot | None:
    """The one slot that names the value; None where none does, or several, which one edit would not change."""
    found = [slot for slot in slots if contains(slot.text, value)]
    return found[0] if len(found) == 1 else None


def replaced(text: str, old: str, new: str) -> str:
    return re.sub(re.escape(old), lambda _: new, text, flags=re.IGNORECASE)


class Outcomes:
    def __init__(self) -> None:
        self.lists: dict[str, list[bool]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, **outcomes: bool) -> None:
        for name, outcome in outcomes.items():
            self.lists.setdefault(name, []).append(outcome)

    def results(self) -> dict:
        keys = ("edited_new", "edited_old", "deleted_old", "deleted_abstains", "update_new", "update_old")
        return {**{key: share(self.lists.get(key, ())) for key in keys}, "counts": dict(sorted(self.counts.items()))}


def targets(life: Life, slots: list[Slot], outcomes: Outcomes) -> Iterator[tuple[Question, Fact, Slot]]:
    """Facts of this life, in random order, that one slot holds."""
    pairs = standing(life)
    random.Random(life.seed).shuffle(pairs)
    for question, fact in pairs:
        slot = only_slot(slots, fact.value)
        if slot is None:
            outcomes.counts["no_single_slot"] += 1
        else:
            yield question, fact, slot


def edit(space: Space, question: Question, fact: Fact, slot: Slot, new: str, outcomes: Outcomes) -> None:
    space.edit(slot.id, replaced(slot.text, fact.value, new))
    reply = common.ask(space, question.text).reply
    outcomes.add(edited_new=contains(reply, new), edited_old=contains(reply, fact.value))
    outcomes.counts["edited"] += 1


def delete(space: Space, question: Question, fact: Fact, slot: Slot, outcomes: Outcomes) -> None:
    space.delete(slot.id)
    turn = common.ask(space, question.text)
    outcomes.add(deleted_old=contains(turn.reply, fact.value), deleted_abstains=turn.abstained or untold(turn.reply))
    outcomes.counts["deleted"] += 1


def updates(space: Space, life: Life, outcomes: Outcomes) -> None:
    """The lives themselves tell updates in a later session."""
    asked = [question for question in life.questions if question.type == "updated"][:UPDATES]
    for question in asked:
        reply = common.ask(space, question.text).reply
        outcomes.add(update_new=contains_all(reply, question.values), update_old=contains_any(reply, question.stale))
        outcomes.counts["updated"] += 1


def one_life(space: Space, life: generator.Life, pool: dict[str, list[str]], outcomes: Outcomes) -> None:
    updates(space, life, outcomes)
    draw, edited, deleted = random.Random(life.seed + 1), 0, 0
    told = " ".join(fact.text for fact in life.facts)
    for question, fact, slot in targets(life, space.slots(), outcomes):
        fresh = [value for value in pool.get(fact.kind, ()) if not contains(told, value)]
        if edited < EDITS and fresh:
            edit(space, question, fact, slot, draw.choice(fresh), outcomes)
            edited += 1
        elif deleted < DELETES:
            delete(space, question, fact, slot, outcomes)
            deleted += 1
        if edited == EDITS and deleted == DELETES:
            return


def run(world: common.World, settings: common.Settings) -> dict:
    outcomes, pool = Outcomes(), new_values(settings)
    for life in common.lives(settings, "edit"):
        with world.told(life) as space:
            one_life(space, life, pool, outcomes)
    return outcomes.results()
