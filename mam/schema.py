"""The tables of a user's memory and the migrations that make them.

Knows SQL types; does not know connections, transactions or who asks (see `database`), nor values (see `rows`). A
migration is a small function; it and its record are committed together, so a file is always at a known step.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)

from mam.errors import StoreError

metadata = MetaData()

migrations = Table("migrations", metadata, Column("name", String, primary_key=True), Column("at", String))
meta = Table("meta", metadata, Column("name", String, primary_key=True), Column("value", String))
sessions = Table(
    "sessions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String),
    Column("title", Text),  # null: named after its first message when listed, so that no copy of it is kept
    Column("created", String),
    Column("archived", Boolean, default=False),
)
turns = Table(
    "turns",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String),
    Column("session", String),
    Column("text", Text),
    Column("reply", Text),
    Column("at", String),
    Column("trace", Text),  # JSON: everything of a Turn but the columns before
)
slots = Table(
    "slots",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String),
    Column("text", Text),
    Column("said", Text),
    Column("speaker", String),
    Column("told", String),
    Column("when", String),
    Column("state", String),
    Column("version", Integer),
    Column("session", String),
    Column("turn", String),
    Column("span_start", Integer),
    Column("span_end", Integer),
    Column("score", Float),
    Column("superseded_by", String),
    Column("changed", Integer),  # the data version of its last change: what other processes ask for
    Column("tags", Text, default="[]"),  # JSON list
    Column("pinned", Boolean, default=False),
    Column("document", Text),
    Column("position", Text),
    Column("reads", Integer, default=0),
    Column("last_read", String),
)
versions = Table(
    "versions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("slot", String),
    Column("version", Integer),
    Column("text", Text),
    Column("state", String),
    Column("by", String),
    Column("at", String),
    Column("when", String),
    Column("superseded_by", String),
    Column("tags", Text, default="[]"),
    Column("pinned", Boolean, default=False),
    Column("changed", Integer, default=0),  # data version of this change; 0: written before they were kept
    Column("batch", Integer, default=0),  # first data version of its transaction: what undo takes back at once
    Column("undoes", Integer),  # the batch that this row took back
)
keys = Table(
    "keys",
    metadata,
    Column("slot", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),  # of the memory model that made the key
    Column("key", LargeBinary),  # float32, little-endian
)
# Maps of the keys, as derived as they are: see `places` and `atlas`.
layouts = Table(
    "layouts",
    metadata,
    Column("fingerprint", String, primary_key=True),  # of the memory model whose keys were laid out
    Column("dimensions", Integer, primary_key=True),  # 2 or 3
    Column("method", String),
    Column("parameters", Text),  # JSON
    Column("fitted", String),
)
places = Table(
    "places",
    metadata,
    Column("slot", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),
    Column("dimensions", Integer, primary_key=True),
    Column("version", Integer),  # of the slot when it was put there
    Column("anchor", Boolean),  # part of the fit; others were placed among the anchors later
    Column("coordinates", LargeBinary),  # float64, little-endian
    Column("before", LargeBinary),  # where it was until its text was edited
)
removed = Table("removed", metadata, Column("slot", String, primary_key=True), Column("changed", Integer))  # no text


def _first_tables(connection: Connection) -> None:
    for statement in (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE sessions (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT, created TEXT NOT NULL)",
        "CREATE TABLE turns (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL"
        " REFERENCES sessions(id), text TEXT NOT NULL, reply TEXT NOT NULL, at TEXT NOT NULL, trace TEXT NOT NULL)",
        "CREATE INDEX turns_session ON turns (session, seq)",
        "CREATE TABLE slots (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, said TEXT NOT NULL,"
        " speaker TEXT NOT NULL, told TEXT NOT NULL, [when] TEXT, state TEXT NOT NULL, version INTEGER NOT NULL,"
        " session TEXT, turn TEXT, span_start INTEGER, span_end INTEGER, score REAL, superseded_by TEXT,"
        " changed INTEGER NOT NULL)",
        "CREATE INDEX slots_state ON slots (state, seq)",
        "CREATE INDEX slots_changed ON slots (changed)",
        "CREATE TABLE versions (seq INTEGER PRIMARY KEY, slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE,"
        " version INTEGER NOT NULL, text TEXT NOT NULL, state TEXT NOT NULL, [by] TEXT NOT NULL, at TEXT NOT NULL)",
        "CREATE INDEX versions_slot ON versions (slot, seq)",
        "CREATE TABLE keys (slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE, fingerprint TEXT NOT NULL,"
        " [key] BLOB NOT NULL, PRIMARY KEY (slot, fingerprint))",
        "CREATE TABLE removed (slot TEXT PRIMARY KEY, changed INTEGER NOT NULL)",
        "CREATE INDEX removed_changed ON removed (changed)",
    ):
        connection.exec_driver_sql(statement)
    connection.execute(meta.insert().values(name="changes", value="0"))


def _slots_remember_more(connection: Connection) -> None:
    """Tags, pins, documents, usage; versions that hold everything a slot was; archived sessions."""
    for statement in (
        "ALTER TABLE slots ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE slots ADD COLUMN pinned BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE slots ADD COLUMN document TEXT",
        "ALTER TABLE slots ADD COLUMN position TEXT",
        "ALTER TABLE slots ADD COLUMN reads INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE slots ADD COLUMN last_read TEXT",
        "ALTER TABLE versions ADD COLUMN [when] TEXT",
        "ALTER TABLE versions ADD COLUMN superseded_by TEXT",
        "ALTER TABLE versions ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE versions ADD COLUMN pinned BOOLEAN NOT NULL DEFAULT FALSE",
        "ALTER TABLE versions ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE versions ADD COLUMN batch INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE versions ADD COLUMN undoes INTEGER",
        "ALTER TABLE sessions ADD COLUMN archived BOOLEAN NOT NULL DEFAULT FALSE",
        "CREATE INDEX versions_batch ON versions (batch)",
        "CREATE INDEX slots_session ON slots (session)",
        # what the slot is now, its last version was, too; of earlier versions no more than text and state is known
        "UPDATE versions SET [when] = (SELECT [when] FROM slots WHERE slots.id = versions.slot)"
        " WHERE text = (SELECT text FROM slots WHERE slots.id = versions.slot)",
        "UPDATE versions SET superseded_by = (SELECT superseded_by FROM slots WHERE slots.id = versions.slot)"
        " WHERE seq IN (SELECT max(seq) FROM versions GROUP BY slot)",
        # documents were kept with their name as the speaker, and no session
        "UPDATE slots SET document = speaker WHERE session IS NULL AND span_start IS NOT NULL",
        "INSERT INTO meta (name, value) SELECT 'history', value FROM meta WHERE name = 'changes'",
    ):
        connection.exec_driver_sql(statement)


def _maps(connection: Connection) -> None:
    """Layouts of the keys; a slot's place goes with the slot."""
    for statement in (
        "CREATE TABLE layouts (fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, method TEXT NOT NULL,"
        " parameters TEXT NOT NULL, fitted TEXT NOT NULL, PRIMARY KEY (fingerprint, dimensions))",
        "CREATE TABLE places (slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE, fingerprint TEXT NOT NULL,"
        " dimensions INTEGER NOT NULL, version INTEGER NOT NULL, anchor BOOLEAN NOT NULL, coordinates BLOB NOT NULL,"
        " before BLOB, PRIMARY KEY (slot, fingerprint, dimensions))",
    ):
        connection.exec_driver_sql(statement)


def _shared_tables(connection: Connection) -> None:
    """All tables on a server: every row has an owner, and a transaction sees and writes only rows of `app.user`."""
    seq = "seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
    tables = {
        "meta": "name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (owner, name)",
        "sessions": f"{seq}, id TEXT NOT NULL, title TEXT, created TEXT NOT NULL,"
        " archived BOOLEAN NOT NULL DEFAULT FALSE, UNIQUE (owner, id)",
        "turns": f"{seq}, id TEXT NOT NULL, session TEXT NOT NULL, text TEXT NOT NULL, reply TEXT NOT NULL,"
        " at TEXT NOT NULL, trace TEXT NOT NULL, UNIQUE (owner, id),"
        " FOREIGN KEY (owner, session) REFERENCES sessions (owner, id)",
        "slots": f"{seq}, id TEXT NOT NULL, text TEXT NOT NULL, said TEXT NOT NULL, speaker TEXT NOT NULL,"
        ' told TEXT NOT NULL, "when" TEXT, state TEXT NOT NULL, version INTEGER NOT NULL, session TEXT, turn TEXT,'
        " span_start INTEGER, span_end INTEGER, score DOUBLE PRECISION, superseded_by TEXT, changed BIGINT NOT NULL,"
        " tags TEXT NOT NULL DEFAULT '[]', pinned BOOLEAN NOT NULL DEFAULT FALSE, document TEXT, position TEXT,"
        " reads INTEGER NOT NULL DEFAULT 0, last_read TEXT, UNIQUE (owner, id)",
        "versions": f"{seq}, slot TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, state TEXT NOT NULL,"
        ' "by" TEXT NOT NULL, at TEXT NOT NULL, "when" TEXT, superseded_by TEXT, tags TEXT NOT NULL DEFAULT \'[]\','
        " pinned BOOLEAN NOT NULL DEFAULT FALSE, changed BIGINT NOT NULL DEFAULT 0, batch BIGINT NOT NULL DEFAULT 0,"
        " undoes BIGINT, FOREIGN KEY (owner, slot) REFERENCES slots (owner, id) ON DELETE CASCADE",
        "keys": "slot TEXT NOT NULL, fingerprint TEXT NOT NULL, key BYTEA NOT NULL,"
        " PRIMARY KEY (owner, slot, fingerprint),"
        " FOREIGN KEY (owner, slot) REFERENCES slots (owner, id) ON DELETE CASCADE",
        "removed": "slot TEXT NOT NULL, changed BIGINT NOT NULL, PRIMARY KEY (owner, slot)",
    }
    _own_rows(connection, tables)
    for index in (
        "turns_session ON turns (owner, session, seq)",
        "slots_state ON slots (owner, state, seq)",
        "slots_changed ON slots (owner, changed)",
        "slots_session ON slots (owner, session)",
        "versions_slot ON versions (owner, slot, seq)",
        "versions_batch ON versions (owner, batch)",
        "removed_changed ON removed (owner, changed)",
    ):
        connection.exec_driver_sql(f"CREATE INDEX {index}")


def _shared_maps(connection: Connection) -> None:
    """The same layouts on a server."""
    tables = {
        "layouts": "fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, method TEXT NOT NULL,"
        " parameters TEXT NOT NULL, fitted TEXT NOT NULL, PRIMARY KEY (owner, fingerprint, dimensions)",
        "places": "slot TEXT NOT NULL, fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL,"
        " version INTEGER NOT NULL, anchor BOOLEAN NOT NULL, coordinates BYTEA NOT NULL, before BYTEA,"
        " PRIMARY KEY (owner, slot, fingerprint, dimensions),"
        " FOREIGN KEY (owner, slot) REFERENCES slots (owner, id) ON DELETE CASCADE",
    }
    _own_rows(connection, tables)


def _own_rows(connection: Connection, tables: dict[str, str]) -> None:
    """Make tables on a server of which a transaction sees and writes only the rows of `app.user`."""
    for name, columns in tables.items():
        owner = "owner TEXT NOT NULL DEFAULT current_setting('app.user')"
        connection.exec_driver_sql(f"CREATE TABLE {name} ({owner}, {columns})")
        connection.exec_driver_sql(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")  # also for the tables' owner
        rule = "owner = current_setting('app.user', true)"
        connection.exec_driver_sql(f"CREATE POLICY own_rows ON {name} USING ({rule}) WITH CHECK ({rule})")


# Only ever add at the end: files made by every release are out there.
MIGRATIONS: dict[str, Callable[[Connection], None]] = {
    "0001 first tables": _first_tables,
    "0002 slots remember more": _slots_remember_more,
    "0003 maps": _maps,
}
SHARED_MIGRATIONS: dict[str, Callable[[Connection], None]] = {
    "0001 shared tables": _shared_tables,
    "0002 shared maps": _shared_maps,
}


def pending(connection: Connection) -> list[str]:
    """Names of the migrations this database still needs; reads only. Raises StoreError for one of a newer mam."""
    known = _known(connection)
    if not inspect(connection).has_table("migrations"):
        return list(known)
    done = set(connection.scalars(select(migrations.c.name)))
    if newer := sorted(done - known.keys()):
        raise StoreError(f"This memory was written by a newer mam (it has {newer[0]!r}); update mam to open it.")
    return [name for name in known if name not in done]


def migrate(connection: Connection, owner: str) -> None:
    """Bring the database to the newest step, inside the caller's transaction; a new user gets their first rows."""
    migrations.create(connection, checkfirst=True)
    for name in pending(connection):
        _known(connection)[name](connection)
        connection.execute(migrations.insert().values(name=name, at=datetime.now(UTC).isoformat()))
    first = {"owner": owner, "changes": "0", "history": "0"}
    known = set(connection.scalars(select(meta.c.name)))
    for name in first.keys() - known:
        connection.execute(meta.insert().values(name=name, value=first[name]))


def _known(connection: Connection) -> dict[str, Callable[[Connection], None]]:
    return MIGRATIONS if connection.dialect.name == "sqlite" else SHARED_MIGRATIONS
