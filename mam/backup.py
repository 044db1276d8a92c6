"""A whole memory as one value, and back: what a complete export holds and an import brings in.

Between `store` and `exchange`; knows neither files nor networks. What is here already stays as it is.
"""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa

from mam import history, rows
from mam.database import Transaction
from mam.exchange import Exported
from mam.rows import title_of
from mam.schema import sessions, turns, versions
from mam.store import Store
from mam.values import Session, Slot, Version

BATCH = 500  # rows written at once


def everything(store: Store) -> Exported:
    """All sessions, turns, slots and versions, in the order they came, as of one moment."""
    with store.database.reading() as connection:
        found = store.sessions()
        order = {id: seq for seq, id in connection.execute(sa.select(sessions.c.seq, sessions.c.id))}
        found.sort(key=lambda session: order[session.id])
        spoken = [rows.turn_value(row) for row in connection.execute(sa.select(turns).order_by(turns.c.seq))]
        been = [rows.version_value(row) for row in connection.execute(sa.select(versions).order_by(versions.c.seq))]
        return Exported(store.slots(None), found, spoken, been)


def new_slots(store: Store, exported: Exported) -> list[Slot]:
    """The slots that are not here yet."""
    known = store.ids()
    return [slot for slot in exported.slots if slot.id not in known]


def take_in(store: Store, exported: Exported, fresh: list[Slot], keys: np.ndarray, fingerprint: str) -> None:
    """Keep what is not here yet, all of it or nothing: `fresh` slots with their keys (slots, dim) float32.

    Versions come with the times at which they were written; a slot without one that says what it is gets it, of now.
    """
    new = {slot.id for slot in fresh}
    been = [version for version in exported.versions if version.slot in new]
    with_history = sorted({version.slot for version in been})
    with store.atomic() as tx:
        _take_in_sessions(tx, exported, store.database.shared)
        for start in range(0, len(fresh), BATCH):
            part = slice(start, start + BATCH)
            store.add_slots(fresh[part], keys[part], fingerprint, "import")
        same = {"changed": tx.next_version(), "batch": tx.batch}
        for start in range(0, len(with_history), BATCH):  # theirs in place of those that say they were added now
            tx.execute(versions.delete().where(versions.c.slot.in_(with_history[start : start + BATCH])))
        for start in range(0, len(been), BATCH):
            tx.execute(versions.insert(), [_row(version) | same for version in been[start : start + BATCH]])
        last = {version.slot: _row(version) for version in been}
        unlike = [
            slot for slot in fresh if slot.id in last and not rows.version_row(slot).items() <= last[slot.id].items()
        ]
        for start in range(0, len(unlike), BATCH):  # lines were cut from the file: the past must lead to what is now
            history.record(tx, unlike[start : start + BATCH], "import", tx.next_version())


def _take_in_sessions(tx: Transaction, exported: Exported, shared: bool) -> None:
    first: dict[str, str] = {}
    for turn in exported.turns:
        first.setdefault(turn.session, turn.text)
    for session in exported.sessions:
        if not tx.scalar(sa.select(sessions.c.seq).where(sessions.c.id == session.id)):
            tx.execute(sessions.insert().values(_session_row(session, first.get(session.id))))
    for turn in exported.turns:
        if not tx.scalar(sa.select(turns.c.seq).where(turns.c.id == turn.id)):
            tx.execute(turns.insert().values(rows.turn_row(turn, shared)))


def _session_row(session: Session, first: str | None) -> dict:
    """A session named after its first message stays so, instead of keeping a copy of those words as its title."""
    title = None if session.title == title_of(first) else session.title
    row = {"id": session.id, "title": title, "created": rows.to_text(session.created)}
    return row | {"archived": session.archived}


def _row(version: Version) -> dict:
    stated = ("version", "text", "state", "when", "superseded_by", "pinned", "slot", "by")
    row = {name: getattr(version, name) for name in stated}
    return row | {"tags": rows.tags_text(version.tags), "at": rows.to_text(version.at)}
