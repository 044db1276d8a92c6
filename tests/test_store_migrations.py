"""Files of every earlier mam open, and hold what they held. `schemas/` has one of each step, as SQL text."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mam import schema
from mam.database import file_name
from mam.errors import InputError
from mam.store import Store
from mam.values import ACTIVE, DELETED, SUPERSEDED

SCHEMAS = Path(__file__).parent / "schemas"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(params=[file.stem for file in sorted(SCHEMAS.glob("*.sql"))])
def old(request, tmp_path) -> Path:
    """A folder with a file of that step, with the same memories in it: see `test_nothing_is_lost`."""
    with sqlite3.connect(tmp_path / file_name("ann")) as connection:
        connection.executescript((SCHEMAS / f"{request.param}.sql").read_text("utf-8"))
    connection.close()
    return tmp_path


def test_every_step_but_the_newest_has_a_file_here():
    assert {file.stem for file in SCHEMAS.glob("*.sql")} == {name[:4] for name in list(schema.MIGRATIONS)[:-1]}


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
