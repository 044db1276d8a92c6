"""Keeping a memory small: what is least useful is archived when it is full, what says the same is merged.

Works on a `space`; the scores and groups are pure functions of slots and index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mam.index import SlotIndex
from mam.relation import Relation
from mam.values import Archived, Merged, Slot

if TYPE_CHECKING:
    from mam.space import Progress, Space

SHORTLIST = 256  # slots, the least used and oldest, among which redundancy decides
NEAR = 0.8  # cosine of keys from which on two slots may say the same; the relation head decides
MOST_NEAR = 8  # slots that one is compared with
CHUNK = 1024  # rows of similarities held at once


def make_room(space: Space, fresh: set[str]) -> tuple[Archived, ...]:
    """Archive the least useful unpinned slots beyond the capacity; those just written (`fresh`) as the last."""
    capacity, archived = space.store.capacity, []
    if capacity is None:
        return ()
    space.refresh()
    while (over := len(space.index) - capacity) > 0:
        listed = space.store.least_used(SHORTLIST + len(fresh))
        older = [slot for slot in listed if slot.id not in fresh]
        ranked = usefulness(older or listed, space.index, datetime.now(UTC))
        if not ranked:
            break  # all that is left is pinned
        # a few at a time: when one of two that say the same has gone, the other is redundant no more
        for item in ranked[: max(1, min(over, len(ranked) // 8))]:
            space.store.archive_slot(item.slot.id, "capacity")
            archived.append(item)
        space.refresh()
    return tuple(archived)


def consolidate(space: Space, preview: bool, progress: Progress) -> list[Merged]:
    """See `Space.consolidate`. Raises ConflictError when a slot was changed while it was compared."""
    with space.engine.lock:
        space.refresh()

        def told(done: int, total: int) -> None:
            progress("comparing", done, total)

        found = near_duplicates(space.store.slots(), space.index, space.engine.memory.relate, told)
    if found and not preview:
        with space.writing():
            for merged in found:
                for slot in merged.others:  # what was compared must still be what is there
                    space.store.supersede_slot(slot.id, merged.kept.id, "consolidation", slot.version)
    return found


def usefulness(slots: Sequence[Slot], index: SlotIndex, now: datetime) -> list[Archived]:
    """Every slot with its score, the least useful first.

    use: log2(1 + times read), so that each doubling counts the same. age: minus half the logarithm of one plus the days
    since it was last read or told. redundancy: from 0 where nothing in the index is like it (cosine up to 0.5) to -2
    where something says the same.
    """
    scored = []
    for slot, nearest in zip(slots, _nearest(slots, index), strict=True):
        days = max((now - max(slot.told, slot.last_read or slot.told)).total_seconds(), 0) / 86400
        parts = {
            "use": math.log2(1 + slot.reads),
            "age": -0.5 * math.log1p(days),
            "redundancy": -4 * max(0.0, nearest - 0.5),
        }
        scored.append(Archived(slot, sum(parts.values()), parts))
    return sorted(scored, key=lambda item: item.score)


def _nearest(slots: Sequence[Slot], index: SlotIndex) -> list[float]:
    """Cosine of each slot with whatever other slot is most like it."""
    best = []
    for start in range(0, len(slots), CHUNK):
        part = slots[start : start + CHUNK]
        similar = index.similarities([slot.id for slot in part])
        best += similar.max(axis=1).clip(0, 1).tolist() if similar.size else [0.0] * len(part)
    return best


def near_duplicates(
    slots: Sequence[Slot],
    index: SlotIndex,
    relate: Callable[[str, Sequence[Slot]], Relation],
    progress: Callable[[int, int], None] | None = None,
) -> list[Merged]:
    """Groups of slots that say the same: near by their keys, and duplicates in the relation head's judgement.

    Of a group the pinned slot stays, else the one most often read, else the last told.
    """
    place = {slot.id: number for number, slot in enumerate(slots)}
    group = list(range(len(slots)))
    weakest: dict[int, float] = {}

    def head(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    for start in range(0, len(slots), CHUNK):
        part = slots[start : start + CHUNK]
        similar = index.similarities([slot.id for slot in part])
        for slot, row in zip(part, similar, strict=True):
            number = place[slot.id]
            near = [(index.slots[at], float(row[at])) for at in np.flatnonzero(row >= NEAR)]
            near = [
                (other, cosine)
                for other, cosine in near
                if other.speaker == slot.speaker and place.get(other.id, len(slots)) < number
            ]
            near = sorted(near, key=lambda pair: -pair[1])[:MOST_NEAR]
            if near:
                relation = relate(slot.text, [other for other, _ in near])
                if relation.kind == "duplicate":
                    cosine = next(cosine for other, cosine in near if other.id == relation.slot.id)
                    one, other = head(number), head(place[relation.slot.id])
                    group[max(one, other)] = root = min(one, other)
                    weakest[root] = min(cosine, weakest.pop(one, 1.0), weakest.pop(other, 1.0))
            if progress:
                progress(number + 1, len(slots))
    members: dict[int, list[Slot]] = {}
    for number, slot in enumerate(slots):
        members.setdefault(head(number), []).append(slot)
    merged = []
    for root, found in members.items():
        if len(found) > 1:
            kept = max(found, key=lambda slot: (slot.pinned, slot.reads, slot.told))
            others = tuple(slot for slot in found if slot.id != kept.id)
            merged.append(Merged(kept, others, weakest[root]))
    return merged
