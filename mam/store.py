"""The store: a user's sessions, turns, slots, versions and keys, and every promise about keeping them.

It knows values and what may be done to them; connections are in `database`, tables in `schema`, past states in
`history`, purging in `erasure` and `residue`. It knows nothing of encoders, bases or pages. In the flow of a turn it
comes after the relation head (slots and versions are written) and at the very end (the turn with its trace is saved).

Every write goes through `atomic()`: one transaction, acknowledged only when it is on the disk. A data version grows
with each change, so that other processes and tabs notice. All methods raise StoreError when the database cannot be
used, and InputError for ids that are not this user's.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa

from mam import erasure, history, queries, residue, rows
from mam.database import Database, Transaction, read_number, read_version
from mam.erasure import Erased
from mam.errors import ConflictError, InputError, MissingError
from mam.schema import keys, removed, sessions, slots, turns, versions
from mam.values import (
    ACTIVE,
    ARCHIVED,
    DELETED,
    LONGEST_TAG,
    LONGEST_TITLE,
    MOST_TAGS,
    SUPERSEDED,
    Certificate,
    Read,
    Session,
    Slot,
    Turn,
    Version,
)

BOUND = 500  # values in one statement


class Store:
    """A user's memory. Safe to share between threads; several processes may hold the same one open.

    where: a folder (None: $MAM_HOME, else the platform's place), or the address of a PostgreSQL server.
    """

    def __init__(self, where: str | os.PathLike | None = None, user: str = "local"):
        self.database = Database(where, user)
        self.user, self.file, self.place = user, self.database.file, self.database.place
        residue.finish(self.database)

    def close(self) -> None:
        self.database.close()

    def atomic(self) -> AbstractContextManager[Transaction]:
        """One transaction for everything written inside; nested calls join the outer one. See `Database.atomic`."""
        return self.database.atomic()

    def version(self) -> int:
        """The data version: grows with every write of any process."""
        with self.database.reading() as connection:
            return read_version(connection)

    # -- settings -------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int | None:
        """How many active slots there may be; None: any number."""
        with self.database.reading() as connection:
            return read_number(connection, "capacity") or None

    def set_capacity(self, capacity: int | None) -> None:
        if capacity is not None and capacity < 1:
            raise InputError(f"A capacity is 1 or more, not {capacity}; leave it out for a memory without bounds.")
        with self.atomic() as tx:
            tx.note("capacity", str(capacity or 0))
            tx.next_version()

    # -- sessions -------------------------------------------------------------------------------------------------

    def new_session(self, title: str | None = None) -> Session:
        _check_title(title or "")
        session = Session(new_id(), title or "", datetime.now(UTC))
        with self.atomic() as tx:
            row = {"id": session.id, "title": title, "created": rows.to_text(session.created)}
            tx.execute(sessions.insert().values(row))
            tx.next_version()
        return session

    def sessions(self, archived: bool | None = None) -> list[Session]:
        """The sessions, or only those archived or not archived; the one last used first."""
        return self._sessions(*([] if archived is None else [sessions.c.archived.is_(archived)]))

    def _sessions(self, *which: sa.ColumnElement[bool]) -> list[Session]:
        of_session = turns.c.session == sessions.c.id
        last = sa.select(sa.func.max(turns.c.at)).where(of_session).scalar_subquery()
        query = (
            sa.select(
                sessions,
                sa.select(sa.func.count()).where(of_session).scalar_subquery().label("turns"),
                sa.select(turns.c.text)
                .where(of_session)
                .order_by(turns.c.seq)
                .limit(1)
                .scalar_subquery()
                .label("first"),
            )
            .where(*which)
            .order_by(sa.func.coalesce(last, sessions.c.created).desc(), sessions.c.seq.desc())
        )
        with self.database.reading() as connection:
            return [rows.session_value(row) for row in connection.execute(query)]

    def session(self, which: str) -> Session | None:
        """The session with this id, else the last used one with this title, else that whose first message gives it."""
        return self.named(which) or next((session for session in self._sessions() if session.title == which), None)

    def named(self, which: str) -> Session | None:
        """The session with this id, else the last used one that was given this title."""
        found = self._sessions(sessions.c.id == which) or self._sessions(sessions.c.title == which)
        return found[0] if found else None

    def rename_session(self, id: str, title: str) -> None:
        if not title.strip():
            raise InputError("A session needs a title.")
        _check_title(title)
        self._change_session(id, title=title.strip())

    def archive_session(self, id: str, archived: bool = True) -> None:
        """Put a session out of sight, or back; what was told in it stays remembered."""
        self._change_session(id, archived=archived)

    def _change_session(self, id: str, **values) -> None:
        with self.atomic() as tx:
            if not tx.execute(sessions.update().where(sessions.c.id == id).values(**values)).rowcount:
                raise MissingError(f"There is no session {id!r}.")
            tx.next_version()

    # -- turns ----------------------------------------------------------------------------------------------------

    def save_turn(
        self, turn: Turn, *, finished: bool = False, began: int | None = None, seen: Iterable[Slot] = ()
    ) -> None:
        """Write the turn, or what has become of it since it was begun; a finished one counts as a use of its reads.

        began: the data version at its beginning. Of slots purged since then, nothing is written that the turn still
        holds; `seen` are those it has read or written, with their texts.
        """
        with self.atomic() as tx:
            if began is not None:
                purged = set(tx.scalars(sa.select(removed.c.slot).where(removed.c.changed > began)))
                turn = erasure.without_purged(turn, seen, purged) if purged else turn
            self._write_turn(tx, turn, finished)

    def _write_turn(self, tx: Transaction, turn: Turn, finished: bool) -> None:
        row = rows.turn_row(turn, self.database.shared)
        become = {name: row[name] for name in ("text", "reply", "trace")}
        if not tx.execute(turns.update().where(turns.c.id == turn.id).values(become)).rowcount:
            if not tx.scalar(sa.select(sessions.c.seq).where(sessions.c.id == turn.session)):
                raise InputError("This conversation was purged meanwhile; start a new one.")
            tx.execute(turns.insert().values(row))
        if finished:
            given = [read.slot.id for read in turn.reads if read.given]
            used = {"reads": slots.c.reads + 1, "last_read": rows.to_text(turn.at)}
            tx.execute(slots.update().where(slots.c.id.in_(given)).values(used))
        tx.next_version()

    def turns(self, session: str, last: int | None = None) -> list[Turn]:
        """The turns of a session, or its `last` ones; oldest first."""
        query = sa.select(turns).where(turns.c.session == session).order_by(turns.c.seq.desc()).limit(last)
        with self.database.reading() as connection:
            return [rows.turn_value(row) for row in reversed(connection.execute(query).all())]

    def turns_saying(self, *texts: str, last: int) -> list[Turn]:
        """Of each text the `last` turns, of any session, in which exactly this was said; the latest first."""
        latest = sa.func.row_number().over(partition_by=turns.c.text, order_by=turns.c.seq.desc()).label("latest")
        said = sa.select(turns.c.seq, latest).where(turns.c.text.in_(texts)).subquery()
        query = sa.select(turns).join(said, turns.c.seq == said.c.seq).where(said.c.latest <= last)
        query = query.order_by(turns.c.seq.desc())
        with self.database.reading() as connection:
            return [rows.turn_value(row) for row in connection.execute(query)]

    def remove_turn(self, id: str) -> None:
        """Take a turn out of its session; the slots that it wrote stay what they are."""
        with self.atomic() as tx:
            if not tx.execute(turns.delete().where(turns.c.id == id)).rowcount:
                raise MissingError(f"There is no turn {id!r}.")
            tx.next_version()

    def turn(self, id: str) -> Turn:
        with self.database.reading() as connection:
            row = connection.execute(sa.select(turns).where(turns.c.id == id)).first()
        if row is None:
            raise MissingError(f"There is no turn {id!r}.")
        return rows.turn_value(row)

    # -- looking at slots -----------------------------------------------------------------------------------------

    def slots(
        self,
        state: str | None = ACTIVE,
        *,
        as_of: datetime | int | None = None,
        newest_first: bool = False,
        order: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        **filters,
    ) -> list[Slot]:
        """Slots in one state (None: in any), in the order they were told; filters as in `count`.

        as_of: as they were at that time or data version, without filters; what was purged since is not among them.
        order: another one, out of `queries.ORDERS`. `limit` and `offset` are for paging.
        """
        matching = queries.matching(self.database, state, **filters)
        if as_of is not None:
            if order is not None or any(value is not None for value in filters.values()):
                raise InputError("A past state cannot be filtered or ordered; leave that or the time out.")
            with self.database.reading() as connection:
                return history.as_of(connection, as_of, state, newest_first, limit, offset)
        columns = queries.ordering(self.database, order or ("newest" if newest_first else "oldest"))
        query = sa.select(slots).where(*matching).order_by(*columns).limit(limit).offset(offset)
        with self.database.reading() as connection:
            return list(map(rows.slot_value, connection.execute(query)))

    def count(self, state: str | None = ACTIVE, **filters) -> int:
        """How many slots there are.

        filters: find (characters of text or original words, in any case), id (its beginning), ids, tag, speaker,
        session, turn, superseded_by (a slot's id), document, pinned (True or False), since and until (datetime, of its
        telling).
        """
        matching = queries.matching(self.database, state, **filters)
        with self.database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(slots).where(*matching))

    def slot(self, id: str) -> Slot:
        with self.database.reading() as connection:
            return _slot(connection, id)

    def least_used(self, limit: int) -> list[Slot]:
        """Active slots that are not pinned: those least often read first, of these the longest unused."""
        used = sa.func.coalesce(slots.c.last_read, slots.c.told)
        query = sa.select(slots).where(slots.c.state == ACTIVE, slots.c.pinned.is_(False))
        query = query.order_by(slots.c.reads, used, slots.c.seq).limit(limit)
        with self.database.reading() as connection:
            return list(map(rows.slot_value, connection.execute(query)))

    def ids(self) -> set[str]:
        """The ids of all slots, in any state."""
        with self.database.reading() as connection:
            return set(connection.scalars(sa.select(slots.c.id)))

    def versions(self, id: str) -> list[Version]:
        """Everything the slot has been, oldest first."""
        with self.database.reading() as connection:
            _slot(connection, id)
            query = sa.select(versions).where(versions.c.slot == id).order_by(versions.c.seq)
            return [rows.version_value(row) for row in connection.execute(query)]

    def tags(self, state: str | None = ACTIVE) -> dict[str, int]:
        """All tags of slots in a state (None: any), and how many slots have each."""
        with self.database.reading() as connection:
            return queries.tags(connection, state)

    def origins(self) -> tuple[list[str], list[str]]:
        """(everybody who told something, every document that something comes from), in alphabetical order."""
        with self.database.reading() as connection:
            return queries.origins(connection)

    def reads_of(self, id: str, limit: int | None = None) -> list[tuple[Turn, Read]]:
        """The turns in which the base was given the slot, the latest first, with what it weighed there."""
        with self.database.reading() as connection:
            _slot(connection, id)
            return list(queries.reads_of(connection, self.database, id, limit))

    def around(self, turn: str, near: int = 1) -> list[Turn]:
        """The turn with this id and up to `near` turns of its session before and after it, oldest first."""
        with self.database.reading() as connection:
            return queries.around(connection, turn, near)

    # -- changing slots -------------------------------------------------------------------------------------------

    def add_slot(self, slot: Slot, key: np.ndarray | None = None, fingerprint: str = "", by: str = "user") -> Slot:
        """Keep a new slot, with its key (dim,) float32 where it is known already."""
        self.add_slots([slot], None if key is None else np.asarray(key)[None], fingerprint, by)
        return slot

    def add_slots(
        self, new: Sequence[Slot], rows_of_keys: np.ndarray | None = None, fingerprint: str = "", by: str = "user"
    ) -> None:
        """Keep new slots, with their keys (slots, dim) float32 where they are known already."""
        if not new:
            return
        with self.atomic() as tx:
            changed = tx.next_version()
            tx.execute(slots.insert(), [rows.new_slot_row(slot) | {"changed": changed} for slot in new])
            history.record(tx, list(new), by, changed)
            if rows_of_keys is not None:
                self._insert_keys(tx, [slot.id for slot in new], rows_of_keys, fingerprint)

    def edit_slot(
        self,
        id: str,
        text: str,
        *,
        version: int | None = None,
        when: str | None = None,
        key: np.ndarray | None = None,
        fingerprint: str = "",
        by: str = "user",
    ) -> Slot:
        """Give the slot a new text; what was said stays as its origin.

        Raises ConflictError if `version` is given and no longer the current one.
        """
        with self.atomic() as tx:
            old = _slot(tx.connection, id)
            _expect(old, version)
            if old.state == DELETED:
                raise InputError("This memory is in the trash; restore it first, then edit it.")
            slot = replace(old, text=text, version=old.version + 1, when=when)
            history.put(tx, slot, by)
            same = keys.c.fingerprint == fingerprint if key is not None else sa.false()
            tx.execute(keys.delete().where(keys.c.slot == id, sa.not_(same)))
            if key is not None:  # in place of the old one, of which nothing is left then, also not in the file
                made = _packed(key)
                if not tx.execute(keys.update().where(keys.c.slot == id, same).values(key=made)).rowcount:
                    tx.execute(keys.insert().values(slot=id, fingerprint=fingerprint, key=made))
        return slot

    def delete_slot(self, id: str, by: str = "user", version: int | None = None) -> Slot:
        """Into the trash; `restore_slot` brings it back."""
        return self._change(id, by, version, lambda old: replace(old, state=DELETED))

    def restore_slot(self, id: str, by: str = "user", version: int | None = None) -> Slot:
        """Make a deleted, superseded or archived slot active again."""
        return self._change(id, by, version, lambda old: replace(old, state=ACTIVE, superseded_by=None))

    def archive_slot(self, id: str, by: str = "user", version: int | None = None) -> Slot:
        """Put an active slot away: kept, not read. Raises ConflictError if it is not active any more."""

        def put_away(old: Slot) -> Slot:
            if old.state not in (ACTIVE, ARCHIVED):
                raise ConflictError(f"This memory is {old.state} by now and cannot be archived.")
            return replace(old, state=ARCHIVED)

        return self._change(id, by, version, put_away)

    def supersede_slot(self, id: str, by_slot: str, by: str = "chat", version: int | None = None) -> Slot:
        """Retire an active slot in favour of `by_slot`. Raises ConflictError if it is not active any more."""

        def retire(old: Slot) -> Slot:
            if old.state != ACTIVE:
                raise ConflictError(f"This memory is {old.state} by now and cannot be superseded.")
            return replace(old, state=SUPERSEDED, superseded_by=by_slot)

        return self._change(id, by, version, retire)

    def pin_slot(self, id: str, pinned: bool = True, by: str = "user") -> Slot:
        """A pinned slot is never archived to make room. Raises InputError when pinned ones would fill the space."""
        with self.atomic():
            capacity = self.capacity
            if pinned and capacity and self.count(None, pinned=True) >= capacity - 1:
                raise InputError(f"Of {capacity} memories one must stay unpinned; unpin another one first.")
            return self._change(id, by, None, lambda old: replace(old, pinned=pinned))

    def tag_slot(self, id: str, tags: Iterable[str], by: str = "user") -> Slot:
        """Give the slot these tags instead of those it had."""
        tags = tuple(dict.fromkeys(tag.strip() for tag in tags))
        if len(tags) > MOST_TAGS or any(not 1 <= len(tag) <= LONGEST_TAG or not tag.isprintable() for tag in tags):
            raise InputError(f"A memory has at most {MOST_TAGS} tags of 1 to {LONGEST_TAG} printable characters each.")
        return self._change(id, by, None, lambda old: replace(old, tags=tags))

    def undo(self) -> list[Slot]:
        """Take back the last change of slots, whoever made it; the one before when called again. See `history.undo`."""
        with self.atomic() as tx:
            return history.undo(tx)

    def _change(self, id: str, by: str, version: int | None, change: Callable[[Slot], Slot]) -> Slot:
        with self.atomic() as tx:
            old = _slot(tx.connection, id)
            _expect(old, version)
            slot = change(old)
            if slot != old:
                history.put(tx, slot, by)
        return slot

    # -- keys -----------------------------------------------------------------------------------------------------

    def keys(self, ids: Sequence[str], fingerprint: str) -> dict[str, bytes]:
        """Stored keys, each (dim,) float32 little-endian, of those slots that have one from this memory model."""
        found: dict[str, bytes] = {}
        query = sa.select(keys.c.slot, keys.c.key).where(keys.c.fingerprint == fingerprint)
        with self.database.reading() as connection:
            if len(ids) > 20 * BOUND:  # one pass over all is quicker than many look-ups
                parts, wanted = [query], set(ids)
            else:
                parts = [query.where(keys.c.slot.in_(ids[at : at + BOUND])) for at in range(0, len(ids), BOUND)]
                wanted = None
            for part in parts:
                for slot, key in connection.execute(part).all():
                    if wanted is None or slot in wanted:
                        found[slot] = bytes(key)
        return found

    def without_key(self, fingerprint: str) -> list[Slot]:
        """Active slots that have no key from this memory model."""
        made = sa.select(keys.c.slot).where(keys.c.slot == slots.c.id, keys.c.fingerprint == fingerprint)
        query = sa.select(slots).where(slots.c.state == ACTIVE, ~made.exists()).order_by(slots.c.seq)
        with self.database.reading() as connection:
            return list(map(rows.slot_value, connection.execute(query)))

    def set_keys(self, of: Sequence[Slot], rows_of_keys: np.ndarray, fingerprint: str) -> None:
        """Keep the keys (slots, dim) made of the texts that these slots have; those of other memory models stay.

        A slot that somebody edited while its key was made is left out: with every edit the keys go in the same
        transaction, so that a key which is here is never that of an older text.
        """
        with self.atomic() as tx:
            current: dict[str, str] = {}
            for start in range(0, len(of), BOUND):
                ids = [slot.id for slot in of[start : start + BOUND]]
                found = tx.execute(sa.select(slots.c.id, slots.c.text).where(slots.c.id.in_(ids)))
                current |= {id: text for id, text in found}
                tx.execute(sa.delete(keys).where(keys.c.slot.in_(ids), keys.c.fingerprint == fingerprint))
            valid = [at for at, slot in enumerate(of) if current.get(slot.id) == slot.text]
            self._insert_keys(tx, [of[at].id for at in valid], [rows_of_keys[at] for at in valid], fingerprint)

    @staticmethod
    def _insert_keys(tx: Transaction, ids: Sequence[str], rows_of_keys: Iterable, fingerprint: str) -> None:
        packed = [
            {"slot": id, "fingerprint": fingerprint, "key": _packed(row)}
            for id, row in zip(ids, rows_of_keys, strict=True)
        ]
        if packed:
            tx.execute(keys.insert(), packed)

    def changes(self, since: int) -> tuple[int, list[Slot], list[str]]:
        """What happened after data version `since`: (version now, slots changed, ids purged)."""
        with self.database.reading() as connection:
            now = read_version(connection)
            if now == since:
                return now, [], []
            query = sa.select(slots).where(slots.c.changed > since).order_by(slots.c.seq)
            changed = list(map(rows.slot_value, connection.execute(query).all()))
            gone = list(connection.scalars(sa.select(removed.c.slot).where(removed.c.changed > since)))
        return now, changed, gone

    # -- purging --------------------------------------------------------------------------------------------------

    def purge_slots(self, ids: Sequence[str]) -> Certificate:
        """Overwrite slots for good: their texts leave slots, versions, keys, turns, traces, titles and the log.

        Turns and traces keep "[purged]" in their place; a slot that carried a text as context loses that part.
        Raises StoreError if another program kept an old copy from being overwritten.
        """
        return self._purge(lambda tx: erasure.erase_slots(tx, self.database, ids))

    def purge_session(self, id: str) -> Certificate:
        """Overwrite a session with its turns, and every slot told in it."""
        return self._purge(lambda tx: erasure.erase_session(tx, self.database, id))

    def purge_everything(self) -> Certificate:
        """Overwrite all there is of this user."""
        return self._purge(erasure.erase_everything)

    @property
    def purged(self) -> bool:
        """Whether anything was ever purged: then what is not here any more may have been."""
        with self.database.reading() as connection:
            return bool(read_number(connection, "purged") or connection.scalar(sa.select(removed.c.slot).limit(1)))

    def _purge(self, erase: Callable[[Transaction], Erased]) -> Certificate:
        def noted(tx: Transaction) -> Erased:
            tx.note("purged", "1")
            return erase(tx)

        erased, searched, encodings = residue.purge(self.database, noted)
        return Certificate(
            slots=tuple(erased.slots),
            versions=erased.versions,
            keys=erased.keys,
            places=erased.places,
            turns=erased.turns,
            sessions=tuple(erased.sessions),
            searched=tuple(searched),
            encodings=encodings,
            at=datetime.now(UTC),
        )


def new_id() -> str:
    """An id that cannot be guessed (96 random bits); it never starts with a dash, which a shell takes for an option."""
    while (id := secrets.token_urlsafe(12))[0] in "-_":
        pass
    return id


def _packed(key: np.ndarray) -> bytes:
    return np.asarray(key, dtype="<f4").tobytes()


def _check_title(title: str) -> None:
    if len(title) > LONGEST_TITLE:
        raise InputError(f"The title of a session has at most {LONGEST_TITLE} characters.")


def _slot(connection: sa.Connection, id: str) -> Slot:
    row = connection.execute(sa.select(slots).where(slots.c.id == id)).first()
    if row is None:
        raise MissingError(f"There is no memory {id!r}.")
    return rows.slot_value(row)


def _expect(slot: Slot, version: int | None) -> None:
    if version is not None and version != slot.version:
        raise ConflictError(
            f"This memory was changed elsewhere (it is at version {slot.version}); look again, then repeat."
        )
