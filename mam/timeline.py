"""What happened to slots over time: every write, read, edit and delete, with the turn it happened in.

Reads stand in the traces of turns, changes in the rows of versions; both are brought into one order of *steps*. Each
turn is a step, in the order in which they took place; what was done by hand lies between two steps. Knows rows; does
not know figures or pages.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mam import rows
from mam.schema import slots, turns, versions
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED

if TYPE_CHECKING:
    from mam.store import Store

WRITE, READ, EDIT, REPLACE, ARCHIVE, DELETE, RESTORE = KINDS = (
    "write", "read", "edit", "replace", "archive", "delete", "restore",
)  # fmt: skip
BY_HAND = 0.5  # how far after a turn's step what was done by hand lies
_INTO = {ACTIVE: RESTORE, SUPERSEDED: REPLACE, ARCHIVED: ARCHIVE, DELETED: DELETE}


@dataclass(frozen=True)
class Step:
    """A turn, as far as a timeline needs it."""

    turn: str  # id
    session: str  # id
    text: str
    at: datetime
    done: datetime  # the time of its last change, for `Space.slots(as_of=...)`: imports hear what was said long ago


@dataclass(frozen=True)
class Happening:
    """One thing that happened to one slot."""

    kind: str  # one of KINDS
    slot: str  # id
    at: datetime
    step: float  # number of the turn, from 0; by hand: half a step after the last turn before it
    turn: str | None = None  # id; None: by hand, or by an import
    weight: float = 1.0  # of a read, 0..1
    by: str = "chat"  # "user", "chat", "import", "ingest", "consolidation", "capacity" or "undo"


@dataclass(frozen=True)
class Timeline:
    """Turns and what happened in and between them, oldest first."""

    steps: tuple[Step, ...]
    happenings: tuple[Happening, ...]


def timeline(store: Store, session: str | None = None) -> Timeline:
    """See `Space.timeline`."""
    with store.database.reading() as connection:
        columns = (turns.c.id, turns.c.session, turns.c.text, turns.c.reply, turns.c.at, turns.c.trace)
        query = sa.select(*columns).order_by(turns.c.at, turns.c.seq)
        told = connection.execute(query if session is None else query.where(turns.c.session == session)).all()
        homes = {row.id: row for row in connection.execute(sa.select(slots.c.id, slots.c.turn, slots.c.session))}
        changes = connection.execute(_changes()).all()
    numbers = {row.id: number for number, row in enumerate(told)}
    found = [read for row in told for read in _reads(row, numbers[row.id]) if read.slot in homes]
    read = {event.slot for event in found}
    for event in _changed(changes, homes, numbers, [row.at for row in told]):
        if session is None or event.turn or homes[event.slot].session == session or event.slot in read:
            found.append(event)
    found.sort(key=lambda event: (event.step, event.at))
    return Timeline(tuple(_steps(told, found)), tuple(found))


def _steps(told: list[sa.Row], found: list[Happening]) -> Iterator[Step]:
    last: dict[str, datetime] = {}
    for event in found:
        if event.turn:
            last[event.turn] = max(event.at, last.get(event.turn, event.at))
    done = None
    for row in told:
        at = datetime.fromisoformat(row.at)
        done = max(at, last.get(row.id, at), done or at)
        yield Step(row.id, row.session, row.text or row.reply, at, done)


def _changes() -> sa.Select:
    """Versions, each with what its slot was just before."""
    before = {"partition_by": versions.c.slot, "order_by": versions.c.seq}
    return sa.select(
        versions.c.slot, versions.c.by, versions.c.at, versions.c.state, versions.c.text, versions.c.superseded_by,
        sa.func.lag(versions.c.state).over(**before).label("was"),
        sa.func.lag(versions.c.text).over(**before).label("said"),
    ).order_by(versions.c.seq)  # fmt: skip


def _reads(row: sa.Row, step: int) -> Iterator[Happening]:
    with rows.readable(f"turn {row.id}"):
        at = datetime.fromisoformat(row.at)
        for read in json.loads(row.trace)["reads"]:
            if read.get("given", True):
                yield Happening(READ, read["slot"]["id"], at, step, row.id, read["weight"])


def _changed(
    changes: list[sa.Row], homes: Mapping[str, sa.Row], numbers: Mapping[str, int], starts: list[str]
) -> Iterator[Happening]:
    with rows.readable("history of a memory"):
        for row in changes:
            kind = WRITE if row.was is None else EDIT if row.text != row.said else _INTO[row.state]
            if kind not in (WRITE, EDIT) and row.state == row.was:
                continue  # tagged or pinned
            turn = _turn_of(row, kind, homes)
            turn = turn if turn in numbers else None
            number = numbers[turn] if turn else bisect_right(starts, row.at) - 1 + BY_HAND
            yield Happening(kind, row.slot, datetime.fromisoformat(row.at), number, turn, by=row.by)


def _turn_of(row: sa.Row, kind: str, homes: Mapping[str, sa.Row]) -> str | None:
    """The turn that made a change: that in which the slot was told, or in which the one that replaces it was."""
    if row.by not in ("chat", "import"):
        return None
    if kind == WRITE:
        return homes[row.slot].turn
    newer = homes.get(row.superseded_by) if kind == REPLACE and row.superseded_by else None
    return newer.turn if newer else None
