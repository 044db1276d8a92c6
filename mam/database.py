"""Where a user's rows live, and every connection and transaction to them.

Two homes, one behaviour: a SQLite file per user (the default), or the user's own rows of a PostgreSQL server that
many users and several programs share. There the database itself keeps users apart: row-level security on the owner
of each row, set anew for every transaction. Knows neither tables nor memories (see `schema`, `store`).
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary, finalize

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from mam import schema
from mam.errors import InputError, StoreError
from mam.schema import meta

BUSY_SECONDS = 10  # how long a write waits for another process
DRIVER = "postgresql+psycopg"
_FAILURES = (DBAPIError, sqlite3.Error)


def data_folder(path: str | os.PathLike | None = None) -> Path:
    """The folder of all users' files: `path`, else $MAM_HOME, else the platform's place for application data."""
    if path is None:
        path = os.environ.get("MAM_HOME") or platformdirs.user_data_dir("mam", appauthor=False)
    folder = Path(path).expanduser().absolute()  # the program may go to another folder meanwhile
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the folder that holds the memories.")
    return folder


def file_name(user: str) -> str:
    """The file of a user: a plain lower-case name as it is, any other made harmless and told apart by a hash."""
    if not user.strip() or len(user) > 200 or re.search("[\ud800-\udfff]", user):
        raise InputError("A user name has 1 to 200 characters, all of them whole.")
    if re.fullmatch(r"[a-z0-9][a-z0-9_]{0,39}", user):
        return f"memory-{user}.db"
    mark = hashlib.sha256(user.encode("utf-8")).hexdigest()[:16]
    return f"memory-{re.sub('[^a-z0-9]+', '-', user.lower()).strip('-')[:40]}-{mark}.db"


class RawFile:
    """The bytes of a SQLite file as they lie on the disk; one for everything in this program that has the file open.

    Nothing else may open it. On POSIX, closing any descriptor of a file drops all locks that the program holds on it,
    SQLite's too: the next program that closes the memory takes itself for the last one and deletes the log, and with it
    what was acknowledged (sqlite.org/howtocorrupt.html, 2.2). So the descriptor stays until nothing here uses the file.
    """

    _known: WeakValueDictionary[tuple[int, int], RawFile] = WeakValueDictionary()
    _one_at_a_time = threading.Lock()

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def of(cls, file: Path) -> RawFile:
        """Before SQLite opens the file, which is made if there is none. Raises OSError."""
        with cls._one_at_a_time:
            found = file.stat() if file.exists() else None
            raw = found and cls._known.get((found.st_dev, found.st_ino))
            if not raw:
                raw = cls(os.open(file, os.O_RDONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644))
                made = os.fstat(raw._descriptor)
                cls._known[made.st_dev, made.st_ino] = raw
            return raw

    def read(self) -> bytes:
        with self._one_at_a_time, open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()


class Transaction:
    """A connection that writes. Every change takes the next data version; the first of them names the batch."""

    def __init__(self, connection: sa.Connection):
        self.connection = connection
        self.at = datetime.now(UTC)
        self.batch: int | None = None
        self.execute, self.scalar, self.scalars = connection.execute, connection.scalar, connection.scalars

    def next_version(self) -> int:
        version = read_version(self.connection) + 1
        self.connection.execute(meta.update().where(meta.c.name == "changes").values(value=str(version)))
        if self.batch is None:
            self.batch = version
        return version

    def note(self, name: str, value: str) -> None:
        """Keep a setting."""
        self.connection.execute(meta.delete().where(meta.c.name == name))
        self.connection.execute(meta.insert().values(name=name, value=value))


def read_version(connection: sa.Connection) -> int:
    """The data version: grows with every write of any process."""
    return read_number(connection, "changes")


def read_number(connection: sa.Connection, name: str) -> int:
    """A setting that counts something; 0 where there is none. Raises StoreError for one that is no number."""
    value = connection.scalar(sa.select(meta.c.value).where(meta.c.name == name)) or "0"
    if not value.isdecimal():
        raise StoreError(
            f"The memory is damaged (its {name} are {value[:40]!r}); restore it from an export or a backup."
        )
    return int(value)


class Database:
    """One user's rows. Safe to share between threads; several processes may use the same rows."""

    def __init__(self, where: str | os.PathLike | None, user: str):
        self.user = user
        self.shared = isinstance(where, str) and bool(re.match(r"postgres(ql)?(\+\w+)?://", where))
        name = file_name(user)  # also checks the name
        self.folder = self.file = self.raw = None
        self._local = threading.local()
        if self.shared:
            self._engine = self._server(str(where))
        else:
            self.folder = data_folder(where)
            self.file = self.folder / name
            self._engine = self._one_file()
        sa.event.listen(self._engine, "begin", self._on_begin)
        self._migrate()

    def _one_file(self) -> sa.Engine:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make the folder {self.folder} ({error.strerror}); choose another one.") from error
        try:
            self.raw = RawFile.of(self.file)
        except OSError as error:
            raise StoreError(f"{self.file} cannot be opened ({error.strerror}); check that it may be read.") from error
        url = sa.URL.create("sqlite", database=str(self.file))
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _on_connect)
        return engine

    def _server(self, url: str) -> sa.Engine:
        if "\0" in self.user or not self.user.isprintable():
            raise InputError("A user name on a server has printable characters only.")
        try:
            parsed = sa.make_url(url)
            if parsed.drivername in ("postgresql", "postgres"):
                parsed = parsed.set(drivername=DRIVER)
            return sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": BUSY_SECONDS})
        except (ArgumentError, NoSuchModuleError) as error:
            raise InputError(f"{url!r} is no address; one looks like {DRIVER}://USER@HOST/DATABASE.") from error
        except ModuleNotFoundError as error:
            raise InputError("A PostgreSQL store needs psycopg: pip install 'psycopg[binary]'.") from error

    @property
    def place(self) -> str:
        """Where the rows are, for people; no password in it."""
        return self._engine.url.render_as_string(hide_password=True) if self.shared else str(self.file)

    def close(self) -> None:
        self._engine.dispose()

    # -- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def atomic(self) -> Iterator[Transaction]:
        """One transaction for everything written inside; nested calls join the outer one.

        On return it is on the disk. Raises StoreError when it could not be written; then nothing of it is kept.
        """
        outer = getattr(self._local, "transaction", None)
        if outer is not None:
            yield outer
            return
        with self._connection("write") as connection:
            self._local.transaction = Transaction(connection)
            try:
                yield self._local.transaction
            finally:
                self._local.transaction = None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view of everything read inside."""
        outer = getattr(self._local, "transaction", None)
        if outer is not None:
            yield outer.connection
            return
        with self._connection("read") as connection:
            yield connection

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[sa.Connection]:
        isolation = {"isolation_level": "REPEATABLE READ"} if self.shared and purpose == "read" else {}
        try:
            options = {"mam_purpose": purpose, **isolation}
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except _FAILURES as error:
            raise self._explained(error) from error
        except (UnicodeEncodeError, OverflowError) as error:  # half a character; a number that no column holds
            raise InputError(f"This can be neither kept nor looked for ({error}); nothing was changed.") from error

    def _on_begin(self, connection: sa.Connection) -> None:
        purpose = connection.get_execution_options().get("mam_purpose")
        if not self.shared:
            # IMMEDIATE: a write waits at its start for other processes, instead of failing after its first reads.
            if purpose:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if purpose == "write" else "BEGIN")
        elif purpose:
            # Only until the end of this transaction: a connection that goes back to the pool belongs to nobody.
            settings = "SELECT set_config('app.user', :user, true), set_config('lock_timeout', :wait, true)"
            connection.execute(sa.text(settings), {"user": self.user, "wait": f"{int(BUSY_SECONDS * 1000)}ms"})
            if purpose == "write":  # one writer of a user at a time, as with a file
                connection.execute(sa.select(meta.c.value).where(meta.c.name == "changes").with_for_update())

    def maintain(self, *statements: str) -> None:
        """Run statements that databases refuse inside a transaction."""
        try:
            with self._engine.connect() as connection:
                if self.shared:
                    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in statements:
                    connection.exec_driver_sql(statement)
        except _FAILURES as error:
            raise self._explained(error) from error

    def truncate_log(self) -> bool:
        """Carry SQLite's write-ahead log into the file and empty it; False if another program was reading it."""
        try:
            with self._engine.connect() as connection:
                return connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0] == 0
        except _FAILURES as error:
            raise self._explained(error) from error

    def contains(self, column: sa.Column, text: str) -> sa.ColumnElement[bool]:
        """Whether a text column holds exactly these characters somewhere."""
        find = sa.func.strpos if self.shared else sa.func.instr
        return find(column, text) > 0

    def folded(self, column: sa.Column) -> sa.ColumnElement[str]:
        """A text column without upper case, in all alphabets."""
        return sa.func.lower(column) if self.shared else sa.func.mam_fold(column)

    # -- opening ------------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        with self._connection("open") as connection:  # reading only: an up-to-date file opens on a full disk
            if self.shared:
                _check_server(connection)
            current = not schema.pending(connection)
            current = current and connection.scalar(sa.select(meta.c.value).where(meta.c.name == "changes")) is not None
        if not current:
            with self._connection("open" if self.shared else "write") as connection:
                if self.shared:  # several programs may start at once
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7235431)")
                schema.migrate(connection, self.user)
        if not self.shared:
            with self._connection("read") as connection:
                if connection.scalar(sa.select(meta.c.value).where(meta.c.name == "owner")) != self.user:
                    raise StoreError(f"{self.file} belongs to another user; nothing was read.")

    def _explained(self, error: Exception) -> StoreError:
        """What the database said, in words of a person, with what to do."""
        cause = " ".join(str(getattr(error, "orig", error)).split())
        place = self.place
        full = f"The disk of {place} is full; the change was not kept, nothing else is lost. Free space, repeat."
        explanations = {
            "full": full,
            "No space": full,
            "lock timeout": f"{place} is in use by another program; nothing was changed. Try again.",
            "locked": f"{place} is in use by another program; nothing was changed. Try again.",
            "readonly": f"{place} cannot be written; allow writing to it and to its folder.",
            "disk I/O": f"The disk of {place} failed; the change was not kept. Check the disk, then try again.",
            "unable to open": f"{place} cannot be opened; check that its folder exists and may be written.",
            "not a database": f"{place} is damaged or not a memory file; restore it from an export or a backup.",
            "malformed": f"{place} is damaged; restore it from an export or a backup.",
            "connection to server": f"{place} cannot be reached; check that the server runs and lets you in ({cause}).",
            "row-level security": f"{place} refused the change: these rows are not yours.",
            "permission denied": f"{place} does not let this role in ({cause}); ask who runs the server.",
        }
        for sign, explanation in explanations.items():
            if sign in cause:
                return StoreError(explanation)
        return StoreError(f"{place} could not be used ({cause}); nothing stored was lost.")


def _check_server(connection: sa.Connection) -> None:
    """Row-level security does not bind superusers: with such a role users would see each other."""
    if connection.exec_driver_sql("SHOW server_encoding").scalar() != "UTF8":
        raise StoreError("This database cannot hold every text; make one with ENCODING 'UTF8'.")
    query = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    if connection.exec_driver_sql(query).scalar():
        raise StoreError(
            "This role may read everything on the server, so users would not be kept apart; "
            "connect as an ordinary role (CREATE ROLE mam LOGIN)."
        )


def _on_connect(connection, _record) -> None:
    connection.isolation_level = None  # transactions are begun above, not by the driver's guess
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
        "temp_store=MEMORY",  # what VACUUM copies must not reach another folder
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("mam_fold", 1, lambda text: text and text.casefold(), deterministic=True)
