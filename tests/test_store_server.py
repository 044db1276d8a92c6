"""On a server the database itself keeps users apart, whatever a program asks for."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
import servers
import sqlalchemy as sa
from fakes import rule_engine

import mam
from mam import backup, schema
from mam.errors import ConflictError, InputError, MamError, StoreError
from mam.space import Space
from mam.store import Store, new_id
from mam.values import Slot, Turn

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TABLES = ("meta", "sessions", "turns", "slots", "versions", "keys", "removed", "layouts", "places")


def a_slot(text="My dog is called Rex.") -> Slot:
    return Slot(new_id(), text, text, "user", NOW)


@pytest.fixture
def raw(server):
    """A connection of the same role that goes past the store."""
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@pytest.fixture
def ann(server):
    store = Store(server, f"ann {new_id()}")
    store.add_slot(a_slot(), np.ones(2), "f")
    store.new_session("Monday")
    yield store
    store.close()


def test_without_a_user_no_row_is_seen(ann, raw):
    for table in TABLES:
        assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_as_another_user_no_row_is_seen_changed_or_taken(ann, raw):
    raw.execute("SELECT set_config('app.user', 'mallory', false)")
    for table in TABLES:
        assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        assert raw.execute(f"DELETE FROM {table}").rowcount == 0
        assert raw.execute(f"UPDATE {table} SET owner = 'mallory'").rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        raw.execute("INSERT INTO meta (owner, name, value) VALUES (%s, 'capacity', '1')", (ann.user,))
    with pytest.raises(psycopg.errors.ForeignKeyViolation):  # not even to find out that it is there
        slot = ann.slots()[0].id
        raw.execute("INSERT INTO keys (slot, fingerprint, key) VALUES (%s, 'x', '')", (slot,))
    assert len(ann.slots()) == 1 and ann.capacity is None


def test_a_pooled_connection_belongs_to_nobody_afterwards(ann):
    with ann.database._engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM slots")).scalar() == 0


def test_a_role_that_sees_everything_is_refused(server):
    superuser = server.replace(servers.ROLE, "postgres", 1)
    with pytest.raises(StoreError, match="ordinary role"):
        Store(superuser, "ann")


def test_a_database_of_another_encoding_is_refused(server):
    admin = server.replace("+psycopg", "").replace(servers.ROLE, "postgres", 1)
    with psycopg.connect(admin, autocommit=True) as connection:
        create = "CREATE DATABASE latin OWNER {} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(create.format(servers.ROLE))
    with pytest.raises(StoreError, match="UTF8"):
        Store(server.replace(servers.DATABASE, "latin"), "ann")


def test_a_writer_that_hangs_is_not_waited_for_without_end(server, ann, monkeypatch):
    monkeypatch.setattr("mam.database.BUSY_SECONDS", 0.3)
    done = threading.Event()
    started = threading.Event()

    def hang():
        with ann.atomic():
            started.set()
            done.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    started.wait(20)
    other = Store(server, ann.user)
    with pytest.raises(StoreError, match="in use"):
        other.add_slot(a_slot())
    assert len(other.slots()) == 1  # reading waits for nobody
    done.set()
    thread.join()
    other.close()


def test_a_user_name_is_a_value_and_never_sql(server, ann):
    odd = Store(server, "'; DROP TABLE slots; --")
    assert odd.slots() == [] and len(ann.slots()) == 1
    odd.close()
    with pytest.raises(InputError, match="printable"):
        Store(server, "nul\0byte")


def test_what_cannot_be_reached_is_said_in_one_line(tmp_path):
    with pytest.raises(StoreError, match="cannot be reached") as error:
        Store(f"postgresql://nobody:secret@/none?host={tmp_path}", "ann")
    assert len(str(error.value).splitlines()) == 1 and "secret" not in str(error.value)
    with pytest.raises(InputError, match="no address"):
        Store("postgresql+nothing://x", "ann")


def test_a_newer_database_is_refused(server, raw):
    Store(server, "ann").close()
    raw.execute("INSERT INTO migrations VALUES ('9999 from the future', '')")
    try:
        with pytest.raises(StoreError, match="newer"):
            Store(server, "ann")
    finally:
        raw.execute("DELETE FROM migrations WHERE name LIKE '9999%'")


def test_tables_on_the_server_are_those_in_the_schema(ann, raw):
    for table in schema.metadata.sorted_tables:
        query = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
        found = {row[0] for row in raw.execute(query, (table.name,))}
        assert found - {"owner"} == {column.name for column in table.columns}, table.name


def test_several_programs_start_on_an_empty_server_at_once(raw, server):
    admin = server.replace("+psycopg", "").replace(servers.ROLE, "postgres", 1)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE fresh OWNER {servers.ROLE} ENCODING 'UTF8' TEMPLATE template0")
    fresh, errors = server.replace(servers.DATABASE, "fresh"), []

    def start(number):
        try:
            store = Store(fresh, f"user {number % 2}")
            store.add_slot(a_slot())
            store.close()
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(fresh, "user 0")
    assert errors == [] and len(store.slots()) == 3
    store.close()


def test_two_programs_of_many_users_share_a_server(server, tiny_folder):
    """A space works on a server as it does on a file: what one program changes holds at once in the other."""
    engine, user = rule_engine(tiny_folder), f"ann {new_id()}"
    here, there = (Space(Store(server, user), engine) for _ in range(2))
    bob = Space(Store(server, f"bob {new_id()}"), engine)
    turn = here.session("Monday").send("My dog is called Rex.", max_tokens=8)
    slot, ask = turn.writes[0].slot, "What is my dog called?"
    chat = there.session("Tuesday")
    assert [read.slot.text for read in chat.send(ask, max_tokens=8).reads] == ["My dog is called Rex."]
    here.edit(slot.id, "My dog is called Max.", version=1)
    with pytest.raises(ConflictError):
        there.edit(slot.id, "My dog is called Tim.", version=1)
    assert [read.slot.text for read in chat.send(ask, max_tokens=8).reads] == ["My dog is called Max."]
    assert bob.slots(None) == [] and bob.read(ask).reads == () and bob.session("Monday").turns() == []
    done = there.purge(slot.id)
    assert done.checks[0].passed and {place.name for place in done.searched} >= {"slots", "turns", "versions"}
    assert here.read(ask).reads == () and "Rex" not in repr(here.turn(turn.id)) and "ann" in here.about()["user"]
    for space in (here, there, bob):
        space.close()


def test_a_memory_moves_from_a_file_to_a_server(server, tmp_path):
    file, there = Store(tmp_path, "ann"), Store(server, f"ann {new_id()}")
    slot = file.add_slot(a_slot())
    file.edit_slot(slot.id, "My dog is called Max.")
    turn = Turn(new_id(), file.new_session("Monday").id, "Hello.", "a base may say \0", NOW)
    file.save_turn(turn)
    exported = backup.everything(file)
    backup.take_in(there, exported, exported.slots, np.ones((1, 2)), "f")
    assert there.turn(turn.id) == replace(turn, reply="a base may say \ufffd")  # a server takes no NUL
    assert there.slots(None) == file.slots(None) and there.versions(slot.id) == file.versions(slot.id)
    there.close()


def test_what_no_database_can_hold_is_said(ann):
    for call in (
        lambda: ann.edit_slot(ann.slots()[0].id, "half a \ud800"), lambda: ann.slot("\ud800"),
        lambda: ann.slots(find="\ud800"), lambda: ann.slots(limit=10**30),
    ):  # fmt: skip
        with pytest.raises(MamError) as error:
            call()
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match="user name"):
        Store(ann.place, "half a \ud800")


def test_the_front_door_takes_an_address_and_a_capacity(server, tiny_folder, monkeypatch):
    monkeypatch.setattr("mam.engine.engine", lambda *_: rule_engine(tiny_folder))
    user = f"ann {new_id()}"
    m = mam.open("nowhere", user=user, store=server, capacity=1)
    m.add("My dog is called Rex.")
    m.add("I love tea.")
    again = mam.open(user=user, store=server)  # the capacity stays
    assert [slot.text for slot in again.slots()] == ["I love tea."] and len(again.slots("archived")) == 1
    assert mam.open(user=user, store=server, capacity=0).store.capacity is None
    with pytest.raises(InputError, match="capacity"):
        mam.open(user=user, store=server, capacity=-1)


def test_what_was_acknowledged_on_a_server_survives_kill_9(server):
    script = """
import sys
from datetime import UTC, datetime
from mam.store import Store, new_id
from mam.values import Slot
store = Store(sys.argv[1], sys.argv[2])
while True:
    with store.atomic():
        ids = [new_id() for _ in range(3)]
        for id in ids:
            store.add_slot(Slot(id, "text of " + id, "said", "user", datetime.now(UTC)))
    print(*ids, flush=True)
"""
    user = new_id()
    process = subprocess.Popen([sys.executable, "-c", script, server, user], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline().split() for _ in range(10)]
    process.kill()
    acknowledged += [line.split() for line in process.communicate()[0].splitlines()]
    store = Store(server, user)
    kept = {slot.id for slot in store.slots()}
    assert {id for ids in acknowledged for id in ids} <= kept and len(kept) % 3 == 0
    store.close()
