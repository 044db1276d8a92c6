"""Questions to the rows of a memory that change nothing: which slots match, in which order, which turns read one.

Works on a connection that `store` opened; knows tables and rows, neither networks nor pages (see `lookback`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

import sqlalchemy as sa

from mam import rows
from mam.database import Database
from mam.errors import InputError, MissingError
from mam.schema import slots, turns
from mam.values import STATES, Read, Turn

ORDERS = ("oldest", "newest", "most read", "gate score", "alphabetical")
BATCH = 16  # turns fetched at once while looking for reads: often the first few are enough


def matching(
    database: Database,
    state: str | None,
    *,
    find: str | None = None,
    id: str | None = None,
    ids: Collection[str] | None = None,
    tag: str | None = None,
    speaker: str | None = None,
    session: str | None = None,
    turn: str | None = None,
    superseded_by: str | None = None,
    document: str | None = None,
    pinned: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[sa.ColumnElement[bool]]:
    """The conditions of `Store.count`. Raises InputError for a state that does not exist."""
    if state is not None and state not in STATES:
        raise InputError(f"There is no state {state!r}; choose one of {', '.join(STATES)}.")
    contains, folded = database.contains, database.folded
    equal = {"state": state, "speaker": speaker, "session": session, "turn": turn, "superseded_by": superseded_by}
    equal |= {"document": document, "pinned": pinned}
    found = [slots.c[name] == value for name, value in equal.items() if value is not None]
    if find and find.strip():
        sought = find.strip().lower() if database.shared else find.strip().casefold()
        found.append(sa.or_(contains(folded(slots.c.text), sought), contains(folded(slots.c.said), sought)))
    if id is not None:
        found.append(slots.c.id.startswith(id, autoescape=True))
    if ids is not None:
        found.append(slots.c.id.in_(ids))
    if tag is not None:
        found.append(contains(slots.c.tags, rows.tags_text((tag,))[1:-1]))
    if since is not None:
        found.append(slots.c.told >= rows.to_text(since))
    if until is not None:
        found.append(slots.c.told <= rows.to_text(until))
    return found


def ordering(database: Database, order: str) -> list[sa.ColumnElement]:
    """The columns that put slots into one of ORDERS; where they are equal, the last told comes first."""
    newest = slots.c.seq.desc()
    known = {
        "oldest": [slots.c.seq],
        "newest": [newest],
        "most read": [slots.c.reads.desc(), newest],
        "gate score": [sa.func.coalesce(slots.c.score, -1).desc(), newest],  # those added by hand have none: last
        "alphabetical": [database.folded(slots.c.text), newest],
    }
    if order not in known:
        raise InputError(f"There is no order {order!r}; choose one of {', '.join(ORDERS)}.")
    return known[order]


def tags(connection: sa.Connection, state: str | None) -> dict[str, int]:
    """All tags of slots in a state (None: any), and how many slots have each."""
    counts: dict[str, int] = {}
    query = sa.select(slots.c.tags).where(slots.c.tags != "[]")
    for text in connection.scalars(query if state is None else query.where(slots.c.state == state)):
        for tag in rows.tags_value(text):
            counts[tag] = counts.get(tag, 0) + 1
    return dict(sorted(counts.items()))


def origins(connection: sa.Connection) -> tuple[list[str], list[str]]:
    """(everybody who told something, every document that something comes from), in any state, in alphabetical order."""
    spoke = sa.select(slots.c.speaker).where(slots.c.document.is_(None)).distinct()
    written = sa.select(slots.c.document).where(slots.c.document.is_not(None)).distinct()
    return sorted(connection.scalars(spoke)), sorted(connection.scalars(written))


def reads_of(connection: sa.Connection, database: Database, id: str, limit: int | None) -> Iterator[tuple[Turn, Read]]:
    """The turns in which the base was given the slot, the latest first, with what it weighed there.

    The traces are searched instead of a table of reads beside them, which would be one more copy to purge. How often
    the slot was read and when the last time is known, so that the search ends with the first turn that can be the last.
    """
    slot = connection.execute(sa.select(slots.c.reads, slots.c.last_read).where(slots.c.id == id)).one()
    left = slot.reads if limit is None else min(slot.reads, limit)
    if not left:
        return
    query = sa.select(turns).where(database.contains(turns.c.trace, id))
    if slot.last_read:
        query = query.where(turns.c.at <= slot.last_read)
    found = connection.execute(query.order_by(turns.c.seq.desc()).execution_options(yield_per=BATCH))
    for row in found:
        turn = rows.turn_value(row)
        for read in turn.reads:
            if read.slot.id == id and read.given:
                yield turn, read
                left -= 1
        if left <= 0:
            found.close()
            return


def around(connection: sa.Connection, id: str, near: int) -> list[Turn]:
    """The turn with this id and up to `near` turns of its session before and after it, oldest first."""
    at = connection.execute(sa.select(turns.c.session, turns.c.seq).where(turns.c.id == id)).first()
    if at is None:
        raise MissingError(f"There is no turn {id!r}.")
    same = sa.select(turns).where(turns.c.session == at.session)
    before = same.where(turns.c.seq <= at.seq).order_by(turns.c.seq.desc()).limit(near + 1)
    after = same.where(turns.c.seq > at.seq).order_by(turns.c.seq).limit(near)
    found = [*reversed(connection.execute(before).all()), *connection.execute(after).all()]
    return list(map(rows.turn_value, found))
