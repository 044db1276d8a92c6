"""Files of every earlier mam open, and hold what they held. `schemas/` has one of each step, as SQL text."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pytest
import servers

from mam import schema
from mam.database import file_name
from mam.errors import InputError
from mam.store import Store
from mam.values import ACTIVE, DELETED, SUPERSEDED

SCHEMAS = Path(__file__).parent / "schemas"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(params=[file.stem for file in sorted(SCHEMAS.glob("0*.sql"))])
def old(request, tmp_path) -> Path:
    """A folder with a file of that step, with the same memories in it: see `test_nothing_is_lost`."""
    with sqlite3.connect(tmp_path / file_name("ann")) as connection:
        connection.executescript((SCHEMAS / f"{request.param}.sql").read_text("utf-8"))
    connection.close()
    return tmp_path


def test_every_step_but_the_newest_has_a_file_here():
    assert {file.stem for file in SCHEMAS.glob("0*.sql")} == {name[:4] for name in list(schema.MIGRATIONS)[:-1]}


def test_nothing_is_lost(old):
    store = Store(old, "ann")
    rex, tea, doc, oslo, rome = store.slots(None)
    assert (rex.text, rex.said, rex.version, rex.state, rex.span) == (
        "My dog is called Max.", "My dog is called Rex.", 2, ACTIVE, (0, 21),
    )  # fmt: skip
    assert (tea.state, tea.when, tea.score) == (DELETED, "2026-11-27", 0.8)
    assert (doc.document, doc.speaker, doc.span) == ("notes.md", "notes.md", (8, 33)) and rex.document is None
    assert (oslo.state, oslo.superseded_by) == (SUPERSEDED, rome.id) and rome.state == ACTIVE
    added = {(slot.tags, slot.pinned, slot.reads, slot.last_read) for slot in store.slots(None)}
    assert added == {((), False, 0, None)}
    assert [(v.version, v.text, v.state, v.by) for v in store.versions(rex.id)] == [
        (1, "My dog is called Rex.", ACTIVE, "chat"), (2, "My dog is called Max.", ACTIVE, "user"),
    ]  # fmt: skip
    assert store.versions(oslo.id)[-1].superseded_by == rome.id and store.versions(tea.id)[0].when == "2026-11-27"
    assert np.frombuffer(store.keys([rex.id], "f1")[rex.id], "<f4").tolist() == [1, 1, 1, 1]
    (session,) = store.sessions()
    assert (session.title, session.turns, session.archived) == ("Monday", 1, False)
    (turn,) = store.turns(session.id)
    assert turn.writes[0].slot.text == "My dog is called Rex." and turn.writes[0].slot.span == (0, 21)
    assert turn.reads[0].slot.text == doc.text and turn.rejected[0].said == "Hello!" and turn.archived == ()
    assert store.changes(0)[2] == ["slot-gone-000001"] and turn.at == AT == rex.told


def test_it_works_as_a_new_one_does(old):
    store = Store(old, "ann")
    rex = store.slots()[0]
    with pytest.raises(InputError, match="nothing to undo"):  # what came before is known as it was, not as steps
        store.undo()
    with pytest.raises(InputError, match="no version"):
        store.slots(as_of=3)
    now = store.version()
    store.tag_slot(rex.id, ["pets"])
    store.edit_slot(rex.id, "My dog is called Tim.")
    assert store.undo()[0].text == rex.text
    assert store.slots(None, as_of=now) == store.slots(None, as_of=now)
    assert store.slots(as_of=now)[0] == rex
    then = store.versions(rex.id)[0].at
    assert store.slots(as_of=then)[0].text == "My dog is called Rex."
    store.purge_slots([rex.id])
    assert not any(b"Rex" in file.read_bytes() or b"Max" in file.read_bytes() for file in old.iterdir())


def test_a_server_of_every_earlier_step_is_brought_to_the_newest(server, tmp_path):
    """`schemas/server-*.sql` are what was made there by each step; tables and rights are then those of a new one."""
    admin = server.replace("+psycopg", "").replace(servers.ROLE, "postgres", 1)
    steps = sorted(SCHEMAS.glob("server-*.sql"))
    assert [file.stem[7:] for file in steps] == [name[:4] for name in list(schema.SHARED_MIGRATIONS)[:-1]]
    for number, file in enumerate(steps):
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE old{number} OWNER {servers.ROLE} ENCODING 'UTF8' TEMPLATE template0")
        old = server.replace(servers.DATABASE, f"old{number}")
        with psycopg.connect(old.replace("+psycopg", "")) as connection:
            connection.execute(file.read_text("utf-8"))
        ann, bob = Store(old, "ann"), Store(old, "bob")
        (slot,) = ann.slots(None)
        assert (slot.text, slot.version, slot.tags, slot.told) == ("My dog is called Max.", 2, ("pets",), AT)
        assert [version.text for version in ann.versions(slot.id)] == ["My dog is called Rex.", slot.text]
        assert np.frombuffer(ann.keys([slot.id], "f1")[slot.id], "<f4").tolist() == [1, 1] and bob.slots(None) == []
        (turn,) = ann.turns(ann.session("Monday").id)
        assert turn.text == "My dog is called Rex." and ann.undo()[0].text == "My dog is called Rex."
        made = [_server_schema(address) for address in (old, server)]
        assert made[0] == made[1] and len(made[0]) > 60
        ann.close()
        bob.close()


def _server_schema(address: str) -> list[tuple]:
    """Columns, rules and indexes."""
    Store(address, "ann").close()
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        found = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ).fetchall()
        found += connection.execute("SELECT tablename, policyname, qual, with_check FROM pg_policies").fetchall()
        found += connection.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'").fetchall()
        return sorted(map(str, found))


def test_the_tables_are_those_of_a_new_file(old, tmp_path):
    Store(old, "ann").close()
    Store(tmp_path / "new", "ann").close()

    def columns(file):
        with sqlite3.connect(file) as connection:
            return {
                table.name: [row[1:] for row in connection.execute(f"PRAGMA table_info({table.name})")]
                for table in schema.metadata.sorted_tables
            }

    assert columns(old / file_name("ann")) == columns(tmp_path / "new" / file_name("ann"))
