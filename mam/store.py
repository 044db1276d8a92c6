"""The store: one SQLite file per user with its sessions, turns, slots, versions and keys. All SQL lives here.

It knows rows and transactions; it knows nothing of encoders, bases or pages. In the flow of a turn it comes after
the relation head (slots and versions are written) and at the very end (the turn with its trace is saved).

Every write goes through `atomic()`: one transaction, acknowledged only when it is on the disk (WAL with
`synchronous=FULL`). A data version grows with each of them, so that other processes and tabs notice.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from mam import schema
from mam.errors import ConflictError, InputError, StoreError
from mam.schema import keys, meta, removed, sessions, slots, turns, versions
from mam.values import ACTIVE, DELETED, STATES, SUPERSEDED, Session, Slot, Turn, Version

BUSY_SECONDS = 10  # how long a write waits for another process
TITLE_LENGTH = 48  # characters of a first message shown as the title of its session
PURGED = "[purged]"  # what stands in turns and traces where a purged text was


@dataclass(frozen=True)
class Purged:
    """What a purge removed and what was checked afterwards: a certificate without the text itself."""

    slots: tuple[str, ...]  # ids: the slot, and those that held nothing else
    versions: int
    turns: int  # whose text, reply or trace quoted it
    files: tuple[str, ...]  # names of the files searched byte by byte afterwards: the text is in none of them
    at: datetime


def data_folder(path: str | os.PathLike | None = None) -> Path:
    """The folder of all users' files: `path`, else $MAM_HOME, else the platform's place for application data."""
    if path is None:
        path = os.environ.get("MAM_HOME") or platformdirs.user_data_dir("mam", appauthor=False)
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder that holds the memories.")
    return folder


def file_name(user: str) -> str:
    """The file of a user: a plain lower-case name as it is, any other made harmless and told apart by a hash."""
    if not user.strip() or len(user) > 200:
        raise InputError("A user name has 1 to 200 characters.")
    if re.fullmatch(r"[a-z0-9][a-z0-9_]{0,39}", user):
        return f"memory-{user}.db"
    mark = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"memory-{re.sub('[^a-z0-9]+', '-', user.lower()).strip('-')[:40]}-{mark}.db"


class Store:
    """A user's file. Safe to share between threads; several processes may hold the same file open."""

    def __init__(self, path: str | os.PathLike | None = None, user: str = "local"):
        self.user = user
        self.folder = data_folder(path)
        self.file = self.folder / file_name(user)
        self._local = threading.local()
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self.file)), connect_args={"timeout": BUSY_SECONDS}
        )
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make the folder {self.folder} ({error.strerror}); choose another one.") from error
        self._migrate()

    def close(self) -> None:
        self._engine.dispose()

    # -- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def atomic(self) -> Iterator[sa.Connection]:
        """One transaction for everything written inside; nested calls join the outer one.

        On return it is on the disk. Raises StoreError when it could not be written; then nothing of it is kept.
        """
        outer = getattr(self._local, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._connection(write=True) as connection:
            self._local.connection = connection
            try:
                yield connection
            finally:
                self._local.connection = None

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        outer = getattr(self._local, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._connection(write=False) as connection:
            yield connection

    @contextmanager
    def _connection(self, *, write: bool) -> Iterator[sa.Connection]:
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        try:
            with self._engine.connect().execution_options(mam_begin=begin) as connection, connection.begin():
                yield connection
        except (DatabaseError, sqlite3.Error) as error:
            raise _explained(error, self.file) from error

    def _migrate(self) -> None:
        with self._connection(write=False) as connection:  # reading only: an up-to-date file opens on a full disk
            current = not schema.pending(connection)
        if not current:
            with self._connection(write=True) as connection:
                schema.migrate(connection, self.user)
        with self._connection(write=False) as connection:
            if connection.scalar(sa.select(meta.c.value).where(meta.c.name == "owner")) != self.user:
                raise StoreError(f"{self.file} belongs to another user; nothing was read.")

    def version(self) -> int:
        """The data version: grows with every write of any process."""
        with self._reading() as connection:
            return _version(connection)

    # -- sessions -------------------------------------------------------------------------------------------------

    def new_session(self, title: str | None = None) -> Session:
        session = Session(new_id(), title or "", datetime.now(UTC))
        with self.atomic() as connection:
            row = {"id": session.id, "title": title, "created": schema.to_text(session.created)}
            connection.execute(sessions.insert().values(row))
            _next_version(connection)
        return session

    def sessions(self) -> list[Session]:
        """All sessions, the one last used first."""
        of_session = turns.c.session == sessions.c.id
        last = sa.select(sa.func.max(turns.c.at)).where(of_session).scalar_subquery()
        query = sa.select(
            sessions,
            sa.select(sa.func.count()).where(of_session).scalar_subquery().label("turns"),
            sa.select(turns.c.text).where(of_session).order_by(turns.c.seq).limit(1).scalar_subquery().label("first"),
        ).order_by(sa.func.coalesce(last, sessions.c.created).desc(), sessions.c.seq.desc())
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Session(
                row["id"], row["title"] or _title(row["first"]), datetime.fromisoformat(row["created"]), row["turns"]
            )
            for row in rows
        ]

    def session(self, which: str) -> Session | None:
        """The session with this id, else the last used one with this title."""
        found = [session for session in self.sessions() if which in (session.id, session.title)]
        return next((session for session in found if session.id == which), found[0] if found else None)

    def rename_session(self, id: str, title: str) -> None:
        if not title.strip():
            raise InputError("A session needs a title.")
        with self.atomic() as connection:
            done = connection.execute(sessions.update().where(sessions.c.id == id).values(title=title.strip()))
            if not done.rowcount:
                raise InputError(f"There is no session {id!r}.")
            _next_version(connection)

    # -- turns ----------------------------------------------------------------------------------------------------

    def save_turn(self, turn: Turn) -> None:
        """Write the turn, or what has become of it since it was begun."""
        row = {"text": turn.text, "reply": turn.reply, "trace": schema.trace_text(turn)}
        with self.atomic() as connection:
            done = connection.execute(turns.update().where(turns.c.id == turn.id).values(row))
            if not done.rowcount:
                row |= {"id": turn.id, "session": turn.session, "at": schema.to_text(turn.at)}
                connection.execute(turns.insert().values(row))
            _next_version(connection)

    def turns(self, session: str, last: int | None = None) -> list[Turn]:
        """The turns of a session, or its `last` ones; oldest first."""
        query = sa.select(turns).where(turns.c.session == session).order_by(turns.c.seq.desc()).limit(last)
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [schema.turn_value(row) for row in reversed(rows)]

    def turn(self, id: str) -> Turn:
        with self._reading() as connection:
            row = connection.execute(sa.select(turns).where(turns.c.id == id)).mappings().first()
        if row is None:
            raise InputError(f"There is no turn {id!r}.")
        return schema.turn_value(row)

    # -- slots ----------------------------------------------------------------------------------------------------

    def slots(self, state: str | None = ACTIVE) -> list[Slot]:
        """Slots in one state (None: in any), in the order they were told."""
        if state is not None and state not in STATES:
            raise InputError(f"There is no state {state!r}; choose one of {', '.join(STATES)}.")
        query = sa.select(slots).order_by(slots.c.seq)
        if state is not None:
            query = query.where(slots.c.state == state)
        with self._reading() as connection:
            return [schema.slot_value(row) for row in connection.execute(query).mappings()]

    def slot(self, id: str) -> Slot:
        with self._reading() as connection:
            return _slot(connection, id)

    def versions(self, id: str) -> list[Version]:
        """Every text and state the slot has had, oldest first."""
        with self._reading() as connection:
            _slot(connection, id)
            query = sa.select(versions).where(versions.c.slot == id).order_by(versions.c.seq)
            return [schema.version_value(row) for row in connection.execute(query).mappings()]

    def add_slot(self, slot: Slot, key: np.ndarray | None = None, fingerprint: str = "", by: str = "user") -> Slot:
        """Keep a new slot, with its key (dim,) float32 where it is known already."""
        with self.atomic() as connection:
            connection.execute(slots.insert().values(**schema.slot_row(slot), changed=_next_version(connection)))
            _record(connection, slot, by)
            if key is not None:
                self.set_keys([slot.id], np.asarray(key)[None], fingerprint)
        return slot

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
        with self.atomic() as connection:
            old = _slot(connection, id)
            if version is not None and version != old.version:
                raise ConflictError(
                    f"This memory was changed elsewhere (it is at version {old.version}); look again, then edit."
                )
            if old.state == DELETED:
                raise InputError("This memory is in the trash; restore it first, then edit it.")
            connection.execute(keys.delete().where(keys.c.slot == id))
            slot = replace(old, text=text, version=old.version + 1, when=when)
            self._put(connection, slot, by)
            if key is not None:
                self.set_keys([id], np.asarray(key)[None], fingerprint)
        return slot

    def delete_slot(self, id: str, by: str = "user") -> Slot:
        """Into the trash; `restore_slot` brings it back."""
        return self._set_state(id, DELETED, by)

    def restore_slot(self, id: str, by: str = "user") -> Slot:
        """Make a deleted, superseded or archived slot active again."""
        return self._set_state(id, ACTIVE, by)

    def supersede_slot(self, id: str, by_slot: str, by: str = "chat") -> Slot:
        """Retire an active slot in favour of `by_slot`. Raises ConflictError if it is not active any more."""
        with self.atomic() as connection:
            old = _slot(connection, id)
            if old.state != ACTIVE:
                raise ConflictError(f"This memory is {old.state} by now and cannot be superseded.")
            slot = replace(old, state=SUPERSEDED, superseded_by=by_slot)
            self._put(connection, slot, by)
        return slot

    def _set_state(self, id: str, state: str, by: str) -> Slot:
        with self.atomic() as connection:
            old = _slot(connection, id)
            if old.state == state:
                return old
            slot = replace(old, state=state, superseded_by=None if state == ACTIVE else old.superseded_by)
            self._put(connection, slot, by)
        return slot

    @staticmethod
    def _put(connection: sa.Connection, slot: Slot, by: str) -> None:
        row = schema.slot_row(slot)
        connection.execute(slots.update().where(slots.c.id == slot.id).values(**row, changed=_next_version(connection)))
        _record(connection, slot, by)

    # -- keys -----------------------------------------------------------------------------------------------------

    def keys(self, ids: Sequence[str], fingerprint: str) -> dict[str, np.ndarray]:
        """Stored keys, each (dim,) float32, of those slots that have one from this memory model."""
        found: dict[str, np.ndarray] = {}
        with self._reading() as connection:
            for start in range(0, len(ids), 500):  # SQLite limits the number of bound values
                query = sa.select(keys.c.slot, keys.c.key).where(
                    keys.c.fingerprint == fingerprint, keys.c.slot.in_(ids[start : start + 500])
                )
                found |= {slot: np.frombuffer(key, dtype="<f4") for slot, key in connection.execute(query)}
        return found

    def set_keys(self, ids: Sequence[str], rows: np.ndarray, fingerprint: str) -> None:
        """Keep the keys (len(ids), dim) of slots; those of other memory models stay."""
        with self.atomic() as connection:
            connection.execute(sa.delete(keys).where(keys.c.slot.in_(ids), keys.c.fingerprint == fingerprint))
            packed = [
                {"slot": id, "fingerprint": fingerprint, "key": np.asarray(row, dtype="<f4").tobytes()}
                for id, row in zip(ids, rows, strict=True)
            ]
            if packed:
                connection.execute(keys.insert(), packed)

    def changes(self, since: int) -> tuple[int, list[Slot], list[str]]:
        """What happened after data version `since`: (version now, slots changed, ids purged)."""
        with self._reading() as connection:
            now = _version(connection)
            if now == since:
                return now, [], []
            query = sa.select(slots).where(slots.c.changed > since).order_by(slots.c.seq)
            changed = [schema.slot_value(row) for row in connection.execute(query).mappings()]
            gone = list(connection.scalars(sa.select(removed.c.slot).where(removed.c.changed > since)))
        return now, changed, gone

    # -- purging --------------------------------------------------------------------------------------------------

    def purge_slot(self, id: str) -> Purged:
        """Overwrite a slot for good: its texts leave slots, versions, keys, turns, traces, titles and the log.

        Turns and traces keep "[purged]" in their place; a slot that carried the text as context loses that part.
        Words of one or two ("Rex.", as an answer) are only erased where they were said: elsewhere they are others'.
        Raises StoreError if another program kept an old copy from being overwritten.
        """
        with self.atomic() as connection:
            slot = _slot(connection, id)
            texts = {slot.text, *connection.scalars(sa.select(versions.c.text).where(versions.c.slot == id))}
            if len(slot.said.split()) > 2:
                texts.add(slot.said)
            gone = [id, *_cut_from_slots(connection, id, _eraser(texts, ""))]
            quoted = _erase_turns(connection, _eraser(texts), slot.turn, _eraser({*texts, slot.said}))
            _erase_column(connection, sessions.c.title, _eraser(texts))
            counted = connection.scalar(sa.select(sa.func.count()).where(versions.c.slot.in_(gone)))
            connection.execute(slots.delete().where(slots.c.id.in_(gone)))  # versions and keys go with it
            _erase_column(connection, versions.c.text, _eraser(texts))
            connection.execute(slots.update().where(slots.c.superseded_by.in_(gone)).values(superseded_by=None))
            now = _next_version(connection)
            connection.execute(removed.insert(), [{"slot": each, "changed": now} for each in gone])
        self._maintain("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
        return Purged(tuple(gone), counted, quoted, self._searched(texts), datetime.now(UTC))

    def _maintain(self, *statements: str) -> None:
        """Run statements that SQLite refuses inside a transaction."""
        try:
            with self._engine.connect().execution_options(mam_begin=None) as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
        except (DatabaseError, sqlite3.Error) as error:
            raise _explained(error, self.file) from error

    def _searched(self, texts: set[str]) -> tuple[str, ...]:
        """Search this user's files for the texts, byte by byte; returns their names. Raises StoreError when found."""
        names = []
        for file in sorted(self.folder.glob(self.file.name + "*")):
            content = file.read_bytes()
            if any(text.encode() in content for text in texts):
                raise StoreError(
                    f"The memory is purged, but {file.name} still holds a copy while another program has it open; "
                    "close that program, then purge any memory again."
                )
            names.append(file.name)
        return tuple(names)


def new_id() -> str:
    """An id that cannot be guessed (96 random bits); it never starts with a dash, which a shell takes for an option."""
    while (id := secrets.token_urlsafe(12))[0] in "-_":
        pass
    return id


# -- inside a transaction -----------------------------------------------------------------------------------------


def _version(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(meta.c.value).where(meta.c.name == "changes")))


def _next_version(connection: sa.Connection) -> int:
    version = _version(connection) + 1
    connection.execute(meta.update().where(meta.c.name == "changes").values(value=str(version)))
    return version


def _slot(connection: sa.Connection, id: str) -> Slot:
    row = connection.execute(sa.select(slots).where(slots.c.id == id)).mappings().first()
    if row is None:
        raise InputError(f"There is no memory {id!r}.")
    return schema.slot_value(row)


def _record(connection: sa.Connection, slot: Slot, by: str) -> None:
    row = {"slot": slot.id, "version": slot.version, "text": slot.text, "state": slot.state, "by": by}
    connection.execute(versions.insert().values(**row, at=schema.to_text(datetime.now(UTC))))


def _cut_from_slots(connection: sa.Connection, id: str, cut: Callable[[str], str]) -> list[str]:
    """Cut a text out of all other slots; returns the ids of those that held nothing else."""
    emptied = []
    for row in connection.execute(sa.select(slots).where(slots.c.id != id)).mappings().all():
        text, said = cut(row["text"]).strip(), cut(row["said"]).strip() or PURGED
        if not text:
            emptied.append(row["id"])
        elif (text, said) != (row["text"], row["said"]):
            connection.execute(keys.delete().where(keys.c.slot == row["id"]))
            values = {"text": text, "said": said, "changed": _next_version(connection)}
            connection.execute(slots.update().where(slots.c.seq == row["seq"]).values(values))
    return emptied


def _erase_turns(connection: sa.Connection, erase: Callable, home: str | None, erase_home: Callable) -> int:
    """Erase from all turns, and a little more from the turn `home`; returns how many turns changed."""
    changed = 0
    for row in connection.execute(sa.select(turns)).mappings().all():
        clean = erase_home if row["id"] == home else erase
        after = {"text": clean(row["text"]), "reply": clean(row["reply"])}
        after["trace"] = schema.map_texts(row["trace"], clean)
        if any(after[name] != row[name] for name in after):
            connection.execute(turns.update().where(turns.c.seq == row["seq"]).values(after))
            changed += 1
    return changed


def _erase_column(connection: sa.Connection, column: sa.Column, erase: Callable[[str], str]) -> None:
    table = column.table
    for seq, text in connection.execute(sa.select(table.c.seq, column).where(column.is_not(None))).all():
        if erase(text) != text:
            connection.execute(table.update().where(table.c.seq == seq).values({column: erase(text)}))


# -- plain helpers ------------------------------------------------------------------------------------------------


def _eraser(texts: Iterable[str], mark: str = PURGED) -> Callable[[str], str]:
    """A function that puts `mark` in place of whole occurrences of the texts, the longest first."""
    longest_first = sorted((re.escape(text) for text in texts if text), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)")
    return lambda text: pattern.sub(mark, text)


def _title(first: str | None) -> str:
    """A session without a title is named after its first message."""
    line = " ".join((first or "New conversation").split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def _on_connect(connection, _record) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    # IMMEDIATE: a write waits at its start for other processes, instead of failing after its first reads.
    statement = connection.get_execution_options().get("mam_begin")
    if statement:
        connection.exec_driver_sql(statement)


def _explained(error: Exception, file: Path) -> StoreError:
    """What SQLite said, in words of a person, with what to do."""
    cause = str(getattr(error, "orig", error))
    explanations = {
        "full": f"The disk of {file} is full; the change was not kept, nothing else is lost. Free space, repeat.",
        "locked": f"{file} is in use by another program; nothing was changed. Try again.",
        "readonly": f"{file} cannot be written; allow writing to it and to its folder.",
        "unable to open": f"{file} cannot be opened; check that its folder exists and may be written.",
        "not a database": f"{file} is damaged or not a memory file; restore it from an export or a backup.",
        "malformed": f"{file} is damaged; restore it from an export or a backup.",
    }
    for sign, explanation in explanations.items():
        if sign in cause:
            return StoreError(explanation)
    return StoreError(f"{file} could not be used ({cause}); nothing stored was lost.")
