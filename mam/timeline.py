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
class Happening:
    """One thing that happened to one slot."""

    kind: str  # one of KINDS
    slot: str  # id
    at: datetime
    step: float  # number of the turn, from 0 over all sessions; by hand: half a step after the last turn before
    turn: str | None = None  # id; None: by hand, or by an import
    weight: float = 1.0  # of a read, 0..1
    by: str = "chat"  # "user", "chat", "import", "ingest", "consolidation", "capacity" or "undo"


def events(store: Store, session: str | None = None) -> list[Happening]:
    """See `Space.events`. Of a session: what happened in its turns, and by hand to slots that were told in it."""
    with store.database.reading() as connection:
        columns = (turns.c.id, turns.c.session, turns.c.at, turns.c.trace)
        told = connection.execute(sa.select(*columns).order_by(turns.c.at, turns.c.seq)).all()
        homes = {row.id: row for row in connection.execute(sa.select(slots.c.id, slots.c.turn, slots.c.session))}
        changes = connection.execute(_changes()).all()
    step = {row.id: number for number, row in enumerate(told)}
    of = {row.id: row.session for row in told}
    found = [event for row in told if session in (None, row.session) for event in _reads(row, step[row.id])]
    starts = [row.at for row in told]
    for event in _changed(changes, homes, step, starts):
        where = of[event.turn] if event.turn else homes[event.slot].session
        if session in (None, where):
            found.append(event)
    return sorted(found, key=lambda event: (event.step, event.at))


def moments(store: Store, session: str) -> list[tuple[str, datetime]]:
    """The turns of a session with the moment at which each was done: (turn id, time), for `Space.slots(as_of=...)`.

    That is the time of the last change that it made: an imported message was told long before it was heard.
    """
    with store.database.reading() as connection:
        query = sa.select(turns.c.id, turns.c.at).where(turns.c.session == session).order_by(turns.c.seq)
        told = connection.execute(query).all()
    last: dict[str, datetime] = {}
    for event in events(store, session):
        if event.turn:
            last[event.turn] = max(event.at, last.get(event.turn, event.at))
    found, before = [], None
    for row in told:
        done = max(last.get(row.id, datetime.fromisoformat(row.at)), datetime.fromisoformat(row.at))
        before = done if before is None else max(before, done)
        found.append((row.id, before))
    return found


def _changes() -> sa.Select:
    """Versions, each with what its slot was just before."""
    before = {"partition_by": versions.c.slot, "order_by": versions.c.seq}
    return sa.select(
        versions.c.slot, versions.c.by, versions.c.at, versions.c.state, versions.c.text, versions.c.superseded_by,
        sa.func.lag(versions.c.state).over(**before).label("was"),
        sa.func.lag(versions.c.text).over(**before).label("said"),
    ).order_by(versions.c.seq)  # fmt: skip


def _reads(row: sa.Row, step: int) -> Iterator[Happening]:
    at = datetime.fromisoformat(row.at)
    for read in json.loads(row.trace)["reads"]:
        if read.get("given", True):
            yield Happening(READ, read["slot"]["id"], at, step, row.id, read["weight"])


def _changed(
    changes: list[sa.Row], homes: Mapping[str, sa.Row], step: Mapping[str, int], starts: list[str]
) -> Iterator[Happening]:
    for row in changes:
        kind = WRITE if row.was is None else EDIT if row.text != row.said else _INTO[row.state]
        if kind not in (WRITE, EDIT) and row.state == row.was:
            continue  # tagged or pinned
        turn = _turn_of(row, kind, homes)
        turn = turn if turn in step else None
        number = step[turn] if turn else bisect_right(starts, row.at) - 1 + BY_HAND
        yield Happening(kind, row.slot, datetime.fromisoformat(row.at), number, turn, by=row.by)


def _turn_of(row: sa.Row, kind: str, homes: Mapping[str, sa.Row]) -> str | None:
    """The turn that made a change: that in which the slot was told, or the one that replaces it."""
    if row.by not in ("chat", "import"):
        return None
    if kind == WRITE:
        return homes[row.slot].turn
    newer = homes.get(row.superseded_by) if kind == REPLACE and row.superseded_by else None
    return newer.turn if newer else None
