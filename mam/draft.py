"""What a message leaves in the memory: write gate and relation head judge its candidates, then it is written at once.

A message may tell thousands of things, and the networks take their time for each. So it is worked out beside the memory
which slots there would be, while others take turns with the networks and no transaction is open; then all of it is
written in one. Works on a `space`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mam import exchange
from mam.candidates import ended
from mam.dates import resolve
from mam.index import SlotIndex
from mam.pronouns import named
from mam.relation import Relation
from mam.store import new_id
from mam.values import Archived, Candidate, Slot, Turn, Write

if TYPE_CHECKING:
    from mam.space import Space

AT_ONCE = 1024  # candidates that the gate judges
LONGEST = exchange.LONGEST["text"]  # characters of a memory
NEAR = 8  # active slots that the relation head compares a new one with
ROUNDS = 3  # at most so often all is looked at again because somebody changed the memory meanwhile


def write(
    space: Space,
    turn: Turn,
    candidates: Sequence[Candidate],
    hidden: dict[str, np.ndarray],
    began: int,
    seen: Iterable[Slot],
) -> tuple[tuple[Write, ...], tuple[Candidate, ...], tuple[Archived, ...]]:
    """Gate, relation head and store: save the turn that begins, keep what is worth it, and say why the rest is not.

    Returns also which slots had to make room. All is written at once, when everything has been judged; others take
    turns with the networks until then, so the engine's lock must not be held.
    hidden: encoder output (hidden,) float32 of every candidate's text and context. began, seen: see `Store.save_turn`.
    """
    found, keys = gated(space, candidates, hidden)
    worth = [(_slot(candidate, turn), key) for candidate, key in zip(found, keys, strict=True) if not candidate.why]
    draft = Draft(space, worth)
    draft.judge()
    with space.writing():
        writes = draft.writes()
        new = [write.slot for write in writes if write.relation != "duplicate"]
        space.store.save_turn(turn, began=began, seen=seen)
        space.store.add_slots(new, [draft.keys[slot.id] for slot in new], space.engine.memory.fingerprint, "chat")
        for write in writes:
            if write.superseded:
                space.store.supersede_slot(write.superseded, write.slot.id)
        archived = space.make_room({write.slot.id for write in writes})
    return tuple(writes), tuple(candidate for candidate in found if candidate.why), archived


def judged(
    space: Space, candidates: Sequence[Candidate], hidden: dict[str, np.ndarray], why: str
) -> tuple[Candidate, ...]:
    """What the gate thinks of candidates of which none is kept, for the reason `why`."""
    found, _ = gated(space, candidates, hidden)
    return tuple(replace(candidate, why=candidate.why or why) for candidate in found)


def gated(
    space: Space, candidates: Sequence[Candidate], hidden: dict[str, np.ndarray]
) -> tuple[list[Candidate], list[np.ndarray]]:
    """Candidates with the gate's score (and why not, where it stays below the threshold), and their keys (dim,)."""
    memory, found, keys = space.engine.memory, [], []
    for start in range(0, len(candidates), AT_ONCE):
        part = list(candidates[start : start + AT_ONCE])
        texts = np.stack([hidden[candidate.text] for candidate in part])
        contexts = np.stack([hidden[candidate.context] for candidate in part])
        with space.engine.lock:
            scores = memory.gate(part, texts, contexts)
            keys += list(memory.keys(texts))
        for candidate, score in zip(part, scores, strict=True):
            why = ""
            if len(candidate.text) > LONGEST:
                why = "too long to be one memory"
            elif score < memory.gate_threshold:
                why = "asks instead of telling" if candidate.said.endswith("?") else "nothing to remember"
            found.append(replace(candidate, score=float(score), why=why))
    return found, keys


class Draft:
    """Slots that are worth writing, each with its key (dim,) float32, and what it is to those that are there."""

    def __init__(self, space: Space, worth: Sequence[tuple[Slot, np.ndarray]]):
        self._space, self._worth = space, worth
        self.keys: dict[str, np.ndarray] = {}  # of the slots that are written, by id
        self._judged: dict[str, tuple[list[Slot], Relation]] = {}  # by id: the near slots, and what it is to them
        self._writes: list[Write] = []
        self._seen = -1  # data version of the memory that the writes are right for

    def judge(self) -> None:
        """Have the networks judge every slot, and let them go after each. Not to be called with the engine's lock."""
        for _ in range(ROUNDS):
            self._seen = self._space.refresh()
            self._writes, steps = [], self._decided()
            while True:
                with self._space.engine.lock:  # for one only: others take turns
                    self._space.refresh()  # a write of theirs that failed leaves nothing in the index
                    write = next(steps, None)
                if write is None:
                    break
                self._writes.append(write)
            if self._space.version() == self._seen:
                return

    def writes(self) -> list[Write]:
        """What is to be written into the memory as it is now, in order. Inside `Space.writing`.

        What somebody changed since it was judged is judged anew.
        """
        if self._space.refresh() != self._seen:
            self._writes = list(self._decided())
        return self._writes

    def _decided(self) -> Iterator[Write]:
        """As if each slot was written before the next one is looked at."""
        fresh, replaced = SlotIndex(self._space.engine.memory.dim), set()
        for slot, key in self._worth:
            relation = self._relation(slot, self._near(slot, key, fresh, replaced))
            if relation.kind == "duplicate":
                yield Write(relation.slot, slot.score, "duplicate", None, relation.score)
                continue
            superseded = relation.slot.id if relation.kind == "update" else None
            if superseded:
                slot, key = self._without(relation.slot, slot, key)
                replaced.add(superseded)
                fresh.remove(superseded)
            fresh.add([slot], key)
            self.keys[slot.id] = key
            yield Write(slot, slot.score, relation.kind, superseded, relation.score)

    def _without(self, old: Slot, slot: Slot, key: np.ndarray) -> tuple[Slot, np.ndarray]:
        """A slot that leans on the one it replaces keeps no more of it than whom it is about, or both would be read."""
        leaning = f"{ended(old.text)} "
        if slot.text.startswith(leaning) and (alone := named(slot.text.removeprefix(leaning), old.text, corrects=True)):
            slot = replace(slot, text=alone, when=resolve(alone, slot.told.astimezone())[1])
            memory = self._space.engine.memory
            key = memory.keys(memory.encode([alone]))[0]
        return slot, key

    def _near(self, slot: Slot, key: np.ndarray, fresh: SlotIndex, replaced: set[str]) -> list[Slot]:
        """The slots most like it among those that would be active. Of the same speaker: another's "I" is another's."""
        held = self._space.index.nearest(key, NEAR + len(replaced), slot.speaker)
        near = [pair for pair in held if pair[0].id not in replaced] + fresh.nearest(key, NEAR, slot.speaker)
        return [slot for slot, _ in sorted(near, key=lambda pair: -pair[1])[:NEAR]]

    def _relation(self, slot: Slot, near: list[Slot]) -> Relation:
        beside, relation = self._judged.get(slot.id, (None, None))
        if beside != near:
            relation = self._space.engine.memory.relate(slot.text, near)
            self._judged[slot.id] = near, relation
        return relation


def _slot(candidate: Candidate, turn: Turn) -> Slot:
    return Slot(
        id=new_id(),
        text=candidate.text,
        said=candidate.said,
        speaker=candidate.speaker,
        told=turn.at,
        when=candidate.when,
        session=turn.session,
        turn=turn.id,
        span=candidate.span,
        score=candidate.score,
    )
