"""The tables of a user's file, the migrations that make them, and the conversion between rows and values.

Knows SQL types and JSON; does not know connections, transactions or who asks (see `store`). A migration is a
small function; it and its record are committed together, so a file is always at a known step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, MetaData, String, Table, Text, inspect, select

from mam.errors import StoreError
from mam.values import Candidate, Read, Slot, Turn, Version, Write

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
)
keys = Table(
    "keys",
    metadata,
    Column("slot", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),  # of the memory model that made the key
    Column("key", LargeBinary),  # float32, little-endian
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


MIGRATIONS: dict[str, Callable[[Connection], None]] = {"0001 first tables": _first_tables}  # only ever add at the end


def pending(connection: Connection) -> list[str]:
    """Names of the migrations this file still needs; reads only. Raises StoreError for a file of a newer mam."""
    if not inspect(connection).has_table("migrations"):
        return list(MIGRATIONS)
    done = set(connection.scalars(select(migrations.c.name)))
    if newer := sorted(done - MIGRATIONS.keys()):
        raise StoreError(f"This memory was written by a newer mam (it has {newer[0]!r}); update mam to open it.")
    return [name for name in MIGRATIONS if name not in done]


def migrate(connection: Connection, owner: str) -> None:
    """Bring the file to the newest step, inside the caller's transaction; a new file gets its owner."""
    migrations.create(connection, checkfirst=True)
    for name in pending(connection):
        MIGRATIONS[name](connection)
        connection.execute(migrations.insert().values(name=name, at=to_text(datetime.now(UTC))))
    if connection.scalar(select(meta.c.value).where(meta.c.name == "owner")) is None:
        connection.execute(meta.insert().values(name="owner", value=owner))


# -- rows and values --------------------------------------------------------------------------------------------


def to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def slot_row(slot: Slot) -> dict:
    """Columns of a slot, without `seq` and `changed`."""
    row = asdict(slot)
    row["span_start"], row["span_end"] = row.pop("span") or (None, None)
    row["told"] = to_text(slot.told)
    return row


def slot_value(row) -> Slot:
    fields = {name: row[name] for name in Slot.__dataclass_fields__ if name not in ("told", "span")}
    span = None if row["span_start"] is None else (row["span_start"], row["span_end"])
    return Slot(**fields, told=datetime.fromisoformat(row["told"]), span=span)


def version_value(row) -> Version:
    return Version(row["slot"], row["version"], row["text"], row["state"], row["by"], datetime.fromisoformat(row["at"]))


def trace_text(turn: Turn) -> str:
    """The trace of a turn as JSON; characters stay as they are, so that purging finds them."""
    trace = asdict(turn)
    for column in ("id", "session", "text", "reply", "at"):
        del trace[column]
    return json.dumps(trace, ensure_ascii=False, default=to_text)


def map_texts(trace: str, change: Callable[[str], str]) -> str:
    """The same trace with every text in it changed."""

    def walk(item):
        if isinstance(item, str):
            return change(item)
        if isinstance(item, list):
            return [walk(each) for each in item]
        if isinstance(item, dict):
            return {name: walk(each) for name, each in item.items()}
        return item

    return json.dumps(walk(json.loads(trace)), ensure_ascii=False)


def turn_value(row) -> Turn:
    trace = json.loads(row["trace"])
    trace["writes"] = tuple(Write(**{**write, "slot": _slot(write["slot"])}) for write in trace["writes"])
    trace["reads"] = tuple(Read(**{**read, "slot": _slot(read["slot"])}) for read in trace["reads"])
    trace["rejected"] = tuple(Candidate(**{**item, "span": tuple(item["span"])}) for item in trace["rejected"])
    at = datetime.fromisoformat(row["at"])
    return Turn(id=row["id"], session=row["session"], text=row["text"], reply=row["reply"], at=at, **trace)


def _slot(fields: dict) -> Slot:
    span = fields["span"] and tuple(fields["span"])
    return Slot(**{**fields, "told": datetime.fromisoformat(fields["told"]), "span": span})
