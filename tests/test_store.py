"""The store keeps what it acknowledged, forgets what was purged, and never mixes users."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from mam import schema
from mam.database import file_name
from mam.errors import ConflictError, InputError, StoreError
from mam.store import Store, new_id
from mam.values import ACTIVE, DELETED, SUPERSEDED, Candidate, Read, Slot, Turn, Write

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "ann")
    yield store
    store.close()


def a_slot(text="My dog is called Rex.", **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": NOW} | fields)


def a_turn(store, text="My dog is called Rex.", **fields) -> Turn:
    session = store.new_session()
    turn = Turn(id=new_id(), session=session.id, text=text, reply="Nice!", at=NOW, **fields)
    store.save_turn(turn)
    return turn


def test_slots_come_back_as_they_were(store):
    slot = a_slot(span=(3, 20), score=0.93, when="2026-11-27")
    store.add_slot(slot, np.arange(4), "f1")
    assert store.slots() == [slot] == [store.slot(slot.id)]
    assert np.frombuffer(store.keys([slot.id], "f1")[slot.id], "<f4").tolist() == [0, 1, 2, 3]
    assert store.keys([slot.id], "f2") == {}


def test_slots_and_turns_survive_reopening(tmp_path):
    store = Store(tmp_path, "ann")
    slot = store.add_slot(a_slot())
    write = Write(slot, 0.9, "update", "older", 0.8)
    read = Read(slot, 0.7, {"meaning": 1.5}, False)
    rejected = Candidate("hi", "hi", (0, 2), score=0.1, why="greeting")
    turn = a_turn(store, writes=(write,), reads=(read,), rejected=(rejected,), timing={"total": 1.0}, given="…")
    store.close()
    again = Store(tmp_path, "ann")
    assert again.slots() == [slot]
    assert again.turn(turn.id) == turn
    assert again.turns(turn.session) == [turn]


def test_edit_raises_the_version_and_drops_the_old_key(store):
    slot = store.add_slot(a_slot(), np.ones(3), "f")
    edited = store.edit_slot(slot.id, "My dog is called Max.")
    assert (edited.text, edited.version, edited.said) == ("My dog is called Max.", 2, slot.said)
    assert store.keys([slot.id], "f") == {}
    assert [(v.version, v.text) for v in store.versions(slot.id)] == [(1, slot.text), (2, edited.text)]


def test_edit_of_an_older_version_is_a_conflict(store):
    slot = store.add_slot(a_slot())
    store.edit_slot(slot.id, "first", version=1)
    with pytest.raises(ConflictError, match="version 2"):
        store.edit_slot(slot.id, "second", version=1)
    assert store.slot(slot.id).text == "first"


def test_delete_and_restore(store):
    slot = store.add_slot(a_slot())
    store.delete_slot(slot.id)
    assert store.slots() == [] and store.slots(DELETED)[0].id == slot.id
    with pytest.raises(InputError, match="trash"):
        store.edit_slot(slot.id, "x")
    assert store.restore_slot(slot.id).state == ACTIVE
    assert [v.state for v in store.versions(slot.id)] == [ACTIVE, DELETED, ACTIVE]


def test_supersede_only_active_slots(store):
    old, new = store.add_slot(a_slot()), store.add_slot(a_slot("My dog is called Max."))
    assert store.supersede_slot(old.id, new.id).superseded_by == new.id
    assert [slot.id for slot in store.slots(SUPERSEDED)] == [old.id]
    with pytest.raises(ConflictError):
        store.supersede_slot(old.id, new.id)
    assert store.restore_slot(old.id).superseded_by is None


def test_unknown_things_are_named(store):
    def purge(id):
        store.purge_slots([id])

    for call in (store.slot, store.delete_slot, store.restore_slot, purge, store.versions, store.turn):
        with pytest.raises(InputError, match="nothing-like-it"):
            call("nothing-like-it")
    with pytest.raises(InputError, match="state"):
        store.slots("sleeping")


def test_sessions_are_found_by_id_and_title_and_named_after_their_first_message(store):
    monday = store.new_session("Monday")
    turn = a_turn(store, "Hello there, this is a first message that goes on for quite a long while")
    assert store.session("Monday") == store.session(monday.id) == monday
    listed = {session.id: session for session in store.sessions()}
    assert listed[turn.session].title.startswith("Hello there") and listed[turn.session].turns == 1
    store.rename_session(monday.id, "Tuesday")
    assert store.session("Monday") is None and store.session("Tuesday").id == monday.id
    with pytest.raises(InputError):
        store.rename_session("nobody", "x")


def test_a_failed_transaction_leaves_nothing(store):
    version = store.version()
    with pytest.raises(ZeroDivisionError), store.atomic():
        store.add_slot(a_slot())
        raise ZeroDivisionError
    assert store.slots(None) == [] and store.version() == version


def test_purge_leaves_the_text_in_no_file(tmp_path, store):
    secret = "My PIN is forty-two seventeen."
    text = f"Hello. {secret} Bye."
    slot = a_slot(secret, said=secret)
    turn = a_turn(store, text, writes=(Write(slot, 0.9, "new"),), given=f"<user>{text}")
    store.add_slot(replace(slot, turn=turn.id))
    store.edit_slot(slot.id, "My PIN is ninety ninety.")
    leaning = store.add_slot(a_slot(f"{secret} Nobody else knows it.", said="Nobody else knows it."), np.ones(2), "f")
    twin = store.add_slot(a_slot(secret))
    purged = store.purge_slots([slot.id])
    assert set(purged.slots) == {slot.id, twin.id} and purged.versions >= 2 and purged.turns == 1 and purged.searched
    for file in tmp_path.rglob("*"):
        content = file.read_bytes()
        assert b"forty-two" not in content and b"ninety" not in content, file
    kept = store.turn(turn.id)
    assert kept.text == "Hello. [purged] Bye." and kept.writes[0].slot.text == "[purged]"
    assert store.sessions()[0].title == "Hello. [purged] Bye."
    assert store.slot(leaning.id).text == "Nobody else knows it."
    assert store.keys([leaning.id], "f") == {}


def test_purging_a_short_answer_spares_the_same_words_elsewhere(store):
    home, other = a_turn(store, "Rex"), a_turn(store, "Rex is a good name")
    slot = store.add_slot(a_slot("What is your dog called? Rex", said="Rex", turn=home.id))
    store.purge_slots([slot.id])
    assert store.turn(home.id).text == "[purged]"
    assert store.turn(other.id).text == other.text


def test_purge_says_so_when_another_program_keeps_a_copy(tmp_path, store, monkeypatch):
    secret = "The safe is behind the painting."
    slot = store.add_slot(a_slot(secret))
    reader = sqlite3.connect(store.file)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM slots").fetchall()
    monkeypatch.setattr("mam.database.BUSY_SECONDS", 0.1)
    busy = Store(tmp_path, "ann")
    with pytest.raises(StoreError, match="another program"):
        busy.purge_slots([slot.id])
    reader.close()
    assert busy.slots(None) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "C:\\x", "nul\0byte", "ANN", "ann ", "é", "x" * 200])
def test_user_names_stay_in_the_folder(tmp_path, name):
    store = Store(tmp_path / "data", name)
    assert store.file.resolve().parent == (tmp_path / "data").resolve()
    assert store.file.exists() and store.file.name != file_name("ann")


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.text(min_size=1, max_size=60).filter(str.strip))
@settings(max_examples=200)
def test_two_users_never_share_a_file(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)
    assert "/" not in file_name(one) and "\\" not in file_name(one)


def test_users_do_not_see_each_other(tmp_path):
    ann, bob = Store(tmp_path, "ann"), Store(tmp_path, "bob")
    slot, turn = ann.add_slot(a_slot()), a_turn(ann)
    assert bob.slots(None) == [] and bob.sessions() == [] and bob.turns(turn.session) == []
    for call in (bob.slot, bob.delete_slot, lambda id: bob.purge_slots([id]), bob.restore_slot):
        with pytest.raises(InputError):
            call(slot.id)
    assert ann.slots() == [slot]


def test_a_file_of_another_user_is_refused(tmp_path):
    Store(tmp_path, "ann").close()
    (tmp_path / file_name("ann")).rename(tmp_path / file_name("bob"))
    with pytest.raises(StoreError, match="another user"):
        Store(tmp_path, "bob")


@pytest.mark.parametrize("name", ["", "   ", "x" * 201])
def test_user_names_have_a_length(tmp_path, name):
    with pytest.raises(InputError, match="user name"):
        Store(tmp_path, name)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="folder"):
        Store(tmp_path / "f")


def test_full_disk_keeps_the_old_state_readable(store):
    slot = store.add_slot(a_slot())
    with sqlite3.connect(store.file) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    store.close()

    @sa.event.listens_for(store.database._engine, "connect")
    def limit(connection, _record):  # no more room than a few pages, as on a full disk
        connection.execute(f"PRAGMA max_page_count={pages + 4}")

    with pytest.raises(StoreError, match="full"):
        for _ in range(200):
            store.add_slot(a_slot("x" * 2000))
    assert slot in store.slots()


def test_damaged_and_foreign_files_are_explained(tmp_path):
    (tmp_path / file_name("ann")).write_bytes(b"this is not a database at all" * 200)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path, "ann")


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    store = Store(tmp_path, "ann")
    store.add_slot(a_slot())
    store.close()
    with sqlite3.connect(store.file) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999 from the future', '')")
    with pytest.raises(StoreError, match="newer"):
        Store(tmp_path, "ann")
    with sqlite3.connect(store.file) as connection:
        assert connection.execute("SELECT count(*) FROM slots").fetchone() == (1,)


def test_tables_in_the_file_are_those_in_the_schema(store):
    with sqlite3.connect(store.file) as connection:
        for table in schema.metadata.sorted_tables:
            found = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
            assert found == [column.name for column in table.columns], table.name


def test_every_connection_writes_through_and_wipes_what_it_deletes(store):
    wanted = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1, "temp_store": 2}
    with store.database.reading() as one, store.atomic() as other:
        for connection in (one, other.connection):
            for name, value in wanted.items():
                assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value, name


def test_a_failed_migration_leaves_the_file_at_the_step_before(tmp_path, monkeypatch):
    Store(tmp_path, "ann").close()

    def breaks(connection):
        connection.exec_driver_sql("CREATE TABLE half_done (x)")
        raise ZeroDivisionError

    monkeypatch.setitem(schema.MIGRATIONS, "9000 breaks", breaks)
    with pytest.raises(ZeroDivisionError):
        Store(tmp_path, "ann")
    with sqlite3.connect(tmp_path / file_name("ann")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert "half_done" not in tables
        assert len(connection.execute("SELECT * FROM migrations").fetchall()) == len(schema.MIGRATIONS) - 1


def test_threads_write_at_once(store):
    def write():
        for _ in range(10):
            store.add_slot(a_slot())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.slots()) == 40


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    script = """
import sys
from datetime import UTC, datetime
from mam.store import Store, new_id
from mam.values import Slot
store = Store(sys.argv[1], "ann")
while True:
    with store.atomic():
        ids = [new_id() for _ in range(3)]
        for id in ids:
            store.add_slot(Slot(id, "text of " + id, "said", "user", datetime.now(UTC)))
    print(*ids, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline().split() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [line.split() for line in process.communicate()[0].splitlines()]
    store = Store(tmp_path, "ann")
    kept = {slot.id for slot in store.slots()}
    assert {id for ids in acknowledged for id in ids} <= kept
    assert len(kept) % 3 == 0  # a transaction is there as a whole or not at all
    assert all(slot.text == f"text of {slot.id}" for slot in store.slots())
