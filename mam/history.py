"""What a memory was: as of a time or a data version, and back by one change.

Works on the rows of versions, inside a transaction or a view that `store` opened. Every change of a slot leaves one
row that says what the slot was from then on, so that a past state is the last row of each slot before that moment.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from mam import rows
from mam.database import Transaction, read_number, read_version
from mam.erasure import PURGED
from mam.errors import InputError
from mam.schema import keys, slots, versions
from mam.values import DELETED, Slot, Version

_STATED = ("version", "text", "state", "when", "superseded_by", "tags", "pinned")  # what a version says of its slot


def as_of(
    connection: sa.Connection,
    moment: datetime | int,
    state: str | None,
    newest_first: bool = False,
    limit: int | None = None,
    offset: int = 0,
) -> list[Slot]:
    """The slots as they were at a time, or at a data version, in the order they were told; purged ones are gone.

    Raises InputError for a version that is still to come or older than what was kept of versions.
    """
    if isinstance(moment, int):
        first, now = _history(connection), read_version(connection)
        if not first <= moment <= now:
            raise InputError(f"There is no version {moment} of this memory; choose one from {first} to {now}.")
        before = versions.c.changed <= moment
    else:
        before = versions.c.at <= rows.to_text(moment)
    last = sa.select(sa.func.max(versions.c.seq)).where(before).group_by(versions.c.slot)
    then = [versions.c[name].label(f"then_{name}") for name in _STATED]
    query = sa.select(slots, *then).join(versions, versions.c.slot == slots.c.id)
    query = query.where(versions.c.seq.in_(last)).order_by(slots.c.seq.desc() if newest_first else slots.c.seq)
    if state is not None:
        query = query.where(versions.c.state == state)
    found = []
    for row in connection.execute(query.limit(limit).offset(offset)):
        stated = {name: getattr(row, f"then_{name}") for name in _STATED}
        stated["tags"] = rows.tags_value(stated["tags"])
        found.append(replace(rows.slot_value(row), **stated))
    return found


def _history(connection: sa.Connection) -> int:
    """The data version from which on every change is known."""
    return read_number(connection, "history")


def put(tx: Transaction, slot: Slot, by: str, undoes: int | None = None) -> None:
    """Write what a slot is now, and the version that says so."""
    changed = tx.next_version()
    tx.execute(slots.update().where(slots.c.id == slot.id).values(**rows.slot_row(slot), changed=changed))
    record(tx, [slot], by, changed, undoes)


def record(tx: Transaction, found: list[Slot], by: str, changed: int, undoes: int | None = None) -> None:
    same = {"by": by, "at": rows.to_text(tx.at), "changed": changed, "batch": tx.batch, "undoes": undoes}
    tx.execute(versions.insert(), [rows.version_row(slot) | same for slot in found])


def undo(tx: Transaction) -> list[Slot]:
    """Take back everything the last transaction did to slots that was not taken back yet; returns them as they are now.

    A slot that it had added goes to the trash. Undoing again takes back the change before. Raises InputError when
    nothing is left to undo.
    """
    taken_back = sa.select(versions.c.undoes).where(versions.c.undoes.is_not(None))
    query = sa.select(sa.func.max(versions.c.batch)).where(
        versions.c.undoes.is_(None), versions.c.batch > _history(tx.connection), versions.c.batch.not_in(taken_back)
    )
    batch = tx.scalar(query)
    if batch is None:
        raise InputError("There is nothing to undo.")
    first = sa.select(versions.c.slot, sa.func.min(versions.c.seq).label("first")).where(versions.c.batch == batch)
    changed = []
    for id, first_seq in tx.execute(first.group_by(versions.c.slot).order_by(sa.text("2"))).all():
        now = rows.slot_value(tx.execute(sa.select(slots).where(slots.c.id == id)).one())
        earlier = sa.select(versions).where(versions.c.slot == id, versions.c.seq < first_seq)
        row = tx.execute(earlier.order_by(versions.c.seq.desc()).limit(1)).first()
        slot = replace(now, state=DELETED) if row is None else _back(now, rows.version_value(row))
        if slot.text != now.text:
            tx.execute(keys.delete().where(keys.c.slot == id))
        put(tx, slot, "undo", undoes=batch)
        changed.append(slot)
    return changed


def _back(now: Slot, then: Version) -> Slot:
    """The slot as it was; its version goes on growing, so that whoever looked at it in between notices."""
    stated = {name: getattr(then, name) for name in _STATED if name != "version"}
    if then.text == PURGED:
        stated["text"] = now.text  # what was purged does not come back, and its mark is no memory
    return replace(now, version=now.version + (now.text != stated["text"]), **stated)
