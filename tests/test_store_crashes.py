"""Power cuts, killed programs, full and failing disks: what was acknowledged stays, what was not is nowhere."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from mam import backup, exchange
from mam.database import file_name
from mam.errors import InputError, StoreError
from mam.store import Store, new_id
from mam.timeline import timeline
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, Slot, Turn, Write

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KILLS = 220

# Forks writers and kills each at a random moment, up to while it opens the file. One program instead of many: importing
# takes far longer than writing. After each kill the file is opened and compared with what the writer had acknowledged.
KILLER = f"""
import os, random, select, signal, sqlite3, sys, time
from dataclasses import replace
from datetime import UTC, datetime
from mam.store import Store, new_id
from mam.values import Slot, Turn

folder, draw = sys.argv[1], random.Random(7)
texts, gone = {{}}, set()  # what was acknowledged: text of each slot; ids purged

def write(out, seed):
    draw, store = random.Random(seed), Store(folder, "ann")
    session = store.new_session().id
    while True:
        slots = [Slot(id := new_id(), "text of " + id, "said", "user", datetime.now(UTC)) for _ in range(3)]
        with store.atomic():
            for slot in slots:
                store.add_slot(slot)
            store.save_turn(Turn(new_id(), session, slots[0].text, "", slots[0].told))
        os.write(out, ("add " + " ".join(slot.id for slot in slots) + "\\n").encode())
        store.edit_slot(slots[0].id, "new " + slots[0].id)
        os.write(out, f"edit {{slots[0].id}}\\n".encode())
        if draw.random() < 0.3:
            os.write(out, f"purging {{slots[1].id}}\\n".encode())
            store.purge_slots([slots[1].id])
            os.write(out, f"purge {{slots[1].id}}\\n".encode())

for number in range({KILLS}):
    read, out = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            write(out, number)
        finally:
            os._exit(1)
    os.close(out)
    lines, enough, end = b"", draw.choice([0, 1, 2, 4, 8]), time.monotonic() + 10
    while lines.count(b"\\n") < enough and time.monotonic() < end:  # so many, however slow the machine is
        if select.select([read], [], [], 0.1)[0]:
            lines += os.read(read, 65536)
    time.sleep(draw.uniform(0, 0.03 if enough == 0 else 0.008))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer failed by itself"
    while part := os.read(read, 65536):
        lines += part
    os.close(read)
    maybe = set()
    for line in lines.decode().splitlines():
        act, *ids = line.split()
        if act == "add":
            texts |= {{id: "text of " + id for id in ids}}
        elif act == "edit":
            texts[ids[0]] = "new " + ids[0]
        elif act == "purging":
            maybe.add(ids[0])
        else:
            gone.add(ids[0])
            maybe.discard(ids[0])
    store = Store(folder, "ann")
    kept = {{slot.id: slot.text for slot in store.slots(None)}}
    gone |= maybe - kept.keys()  # its purge was under way: either all of it happened or nothing
    for id, text in texts.items():
        if id in gone:
            assert id not in kept
        else:  # an edit that was written but not yet acknowledged may be there
            assert kept[id] in (text, "new " + id), (id, kept.get(id))
    assert all(text in ("text of " + id, "new " + id) for id, text in kept.items())
    fresh = kept.keys() - texts.keys()
    assert len(fresh) in (0, 3), "half a transaction"
    texts |= {{id: kept[id] for id in kept}}
    assert all(version.text for id in list(kept)[-3:] for version in store.versions(id))
    file = store.file
    store.close()
    with open(file, "rb") as opened:
        content = opened.read()
    assert not any(("text of " + id).encode() in content for id in gone), "a purged text is still in the file"
    if number % 10 == 0:
        check = sqlite3.connect(file)
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert check.execute("PRAGMA foreign_key_check").fetchall() == []
        check.close()
    assert not [name for name in os.listdir(folder) if "-purging" in name]
print({KILLS}, len(texts), len(gone))
"""


def a_slot(text="My dog is called Rex.", **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": NOW} | fields)


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLER), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kills, written, purged = map(int, done.stdout.split())
    assert kills >= 200 and written > 200 and purged > 5, done.stdout


def test_programs_that_start_on_nothing_at_once_share_one_file(tmp_path):
    script = "import sys; from mam.store import Store; print(Store(sys.argv[1], 'ann').new_session().id)"
    command = [sys.executable, "-c", script, str(tmp_path / "new")]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    made = [program.communicate(timeout=60)[0].strip() for program in programs]
    assert all(made) and {session.id for session in Store(tmp_path / "new", "ann").sessions()} == set(made)


def test_a_program_that_goes_to_another_folder_stays_with_its_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("memories", "ann")
    slot = store.add_slot(a_slot())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.close()  # whatever is opened from now on is opened anew
    assert store.slots() == [slot] and list((tmp_path / "elsewhere").iterdir()) == []


def test_a_purge_that_was_killed_is_finished_by_the_next_program(tmp_path, monkeypatch):
    store = Store(tmp_path, "ann")
    slot = store.add_slot(a_slot("My PIN is forty-two."))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mam.residue._clear_files", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        store.purge_slots([slot.id])
    assert any(b"forty-two" in file.read_bytes() for file in tmp_path.iterdir())  # the log still has it
    Store(tmp_path, "ann")
    assert not any(b"forty-two" in file.read_bytes() for file in tmp_path.iterdir())


# -- disks ----------------------------------------------------------------------------------------------------------

FILLER = """
import json, resource, signal, sys
from datetime import UTC, datetime
from mam.errors import StoreError
from mam.store import Store, new_id
from mam.values import Slot

store = Store(sys.argv[1], "ann")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails, as on a full disk
size = max(file.stat().st_size for file in store.file.parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
written = []
try:
    for _ in range(2000):
        slot = Slot(new_id(), "x" * 1000, "said", "user", datetime.now(UTC))
        store.add_slot(slot)
        written.append(slot.id)
    failed = ""
except StoreError as error:
    failed = str(error)
print(json.dumps({"failed": failed, "written": written, "read": [slot.id for slot in store.slots()]}))
"""


def test_a_disk_that_fills_up_keeps_what_was_acknowledged(tmp_path):
    before = Store(tmp_path, "ann").add_slot(a_slot())
    done = subprocess.run([sys.executable, "-c", FILLER, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "disk" in found["failed"].lower() and len(found["failed"].splitlines()) == 1, found["failed"]
    assert found["written"] and found["read"] == [before.id, *found["written"]]
    store = Store(tmp_path, "ann")
    assert [slot.id for slot in store.slots()] == found["read"] and store.add_slot(a_slot()) in store.slots()


@pytest.mark.parametrize("at", range(1, 12))
def test_an_error_of_the_disk_anywhere_in_a_change_undoes_all_of_it(tmp_path, at):
    """The statement number `at` of a change fails, as a disk would make it."""
    store = Store(tmp_path, "ann")
    slot, other = store.add_slot(a_slot()), store.add_slot(a_slot("I love tea."))
    before, count = (store.slots(None), store.versions(slot.id), store.version()), 0

    def fails(connection, cursor, statement, *_):
        nonlocal count
        count += 1
        if count == at:
            raise sqlite3.OperationalError("disk I/O error")

    sa.event.listen(store.database._engine, "before_cursor_execute", fails)
    with pytest.raises(StoreError, match="disk .* failed"):
        with store.atomic():
            store.edit_slot(slot.id, "new text")
            store.supersede_slot(other.id, slot.id)
    sa.event.remove(store.database._engine, "before_cursor_execute", fails)
    assert (store.slots(None), store.versions(slot.id), store.version()) == before
    assert Store(tmp_path, "ann").edit_slot(slot.id, "new text").version == 2


def test_a_file_damaged_in_the_middle_is_named(tmp_path):
    store = Store(tmp_path, "ann")
    store.add_slots([a_slot("x" * 500) for _ in range(200)])
    store.purge_slots([store.slots()[0].id])  # carries the log into the file
    store.close()
    file = tmp_path / file_name("ann")
    content = bytearray(file.read_bytes())
    content[8192:40960] = b"\xa5" * 32768
    file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as error:
        Store(tmp_path, "ann").slots(None)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE slots SET told = 'Tuesday'", "UPDATE slots SET tags = '{'", "UPDATE slots SET last_read = 'x'",
        "UPDATE turns SET trace = '{'", "UPDATE turns SET trace = '[]'", "UPDATE turns SET at = 'x'",
        "UPDATE turns SET trace = '{\"writes\": 5}'", "UPDATE versions SET at = 'x'", "UPDATE versions SET tags = '{'",
        "UPDATE sessions SET created = 'x'", "UPDATE meta SET value = 'x' WHERE name = 'changes'",
        "UPDATE meta SET value = 'x' WHERE name = 'history'", "UPDATE meta SET value = 'x' WHERE name = 'capacity'",
    ],
)  # fmt: skip
def test_a_damaged_row_is_named(tmp_path, damage):
    store = Store(tmp_path, "ann")
    store.set_capacity(9)
    slot, session = store.add_slot(a_slot(last_read=NOW)), store.new_session()
    store.save_turn(Turn(new_id(), session.id, "Hello.", "", NOW))
    version = store.version()
    with sqlite3.connect(store.file) as connection:
        connection.execute(damage)
    if "versions" in damage:
        with pytest.raises(StoreError, match="is damaged"):
            timeline(store)
            store.slots(as_of=version)
    with pytest.raises(StoreError, match="The .* is damaged") as error:
        store.slot(slot.id)
        store.turns(session.id)
        store.versions(slot.id)
        store.sessions()
        assert store.capacity == 9
        timeline(store)
        store.slots(as_of=version)
    assert len(str(error.value).splitlines()) == 1
    connection.close()


def test_a_turn_whose_trace_is_damaged_is_purged_all_the_same(tmp_path):
    store = Store(tmp_path, "ann")
    slot, session = store.add_slot(a_slot("My PIN is forty-two.")), store.new_session()
    turn = Turn(new_id(), session.id, "Hello.", "", NOW)
    store.save_turn(turn)
    with sqlite3.connect(store.file) as connection:
        connection.execute("UPDATE turns SET trace = 'My PIN is forty-two. {'")
    connection.close()
    assert store.purge_slots([slot.id]).turns == 1
    store.close()
    assert not any(b"forty-two" in file.read_bytes() for file in tmp_path.iterdir())
    with pytest.raises(StoreError, match="is damaged"):
        store.turn(turn.id)


# -- every operation against a plain dictionary -----------------------------------------------------------------------


def still_there(act):
    """A rule that does nothing with a slot that went with its session."""

    @wraps(act)
    def unless_gone(self, id, **more):
        if id in self.model:
            act(self, id, **more)

    return unless_gone


class Against(RuleBasedStateMachine):
    """The store beside a model: id -> (text, state, tags, pinned, superseded_by), in the order they were told."""

    ids = Bundle("ids")

    @initialize()
    def start(self):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.folder.name, "ann")
        self.model: dict[str, tuple] = {}
        self.undos: list[dict[str, tuple | None]] = []  # what each change replaced
        self.past: list[tuple[int, datetime, dict[str, tuple]]] = []
        self.number = self.moved = 0
        self.session, self.told = None, []

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    def text(self) -> str:
        self.number += 1
        return f"memory number {self.number}."

    def changed(self, **new: tuple) -> None:
        """Note a change of the model, keyed by id; nothing if all is as before."""
        new = {id: value for id, value in new.items() if self.model.get(id) != value}
        if new:
            self.undos.append({id: self.model.get(id) for id in new})
            self.model |= new

    def put(self, id: str, **fields) -> None:
        names = ("text", "state", "tags", "pinned", "superseded_by")
        self.changed(**{id: tuple((dict(zip(names, self.model[id], strict=True)) | fields).values())})

    @rule(target=ids)
    def add(self):
        slot = self.store.add_slot(a_slot(self.text()))
        self.changed(**{slot.id: (slot.text, ACTIVE, (), False, None)})
        return slot.id

    @rule(id=ids)
    @still_there
    def edit(self, id):
        text = self.text()
        if self.model[id][1] == DELETED:
            with pytest.raises(InputError, match="trash"):
                self.store.edit_slot(id, text)
        else:
            self.store.edit_slot(id, text, version=self.store.slot(id).version)
            self.put(id, text=text)

    @rule(id=ids)
    @still_there
    def delete(self, id):
        self.store.delete_slot(id)
        self.put(id, state=DELETED)

    @rule(id=ids)
    @still_there
    def restore(self, id):
        self.store.restore_slot(id)
        self.put(id, state=ACTIVE, superseded_by=None)

    @rule(id=ids)
    @still_there
    def archive(self, id):
        if self.model[id][1] in (ACTIVE, ARCHIVED):
            self.store.archive_slot(id)
            self.put(id, state=ARCHIVED)

    @rule(id=ids, pinned=st.booleans(), tags=st.lists(st.sampled_from("abc"), unique=True))
    @still_there
    def pin_and_tag(self, id, pinned, tags):
        with self.store.atomic():  # one change
            self.store.pin_slot(id, pinned)
            self.store.tag_slot(id, tags)
        self.put(id, pinned=pinned, tags=tuple(tags))

    @rule(target=ids, id=ids)
    def update(self, id):
        """As a turn does: a new slot in place of an old one."""
        if id not in self.model:
            return multiple()
        new = a_slot(self.text())
        with self.store.atomic():
            self.store.add_slot(new)
            if self.model[id][1] == ACTIVE:
                self.store.supersede_slot(id, new.id)
        text, state, tags, pinned, by = self.model[id]
        old = {id: (text, SUPERSEDED, tags, pinned, new.id)} if state == ACTIVE else {}
        self.changed(**old, **{new.id: (new.text, ACTIVE, (), False, None)})
        return new.id

    @rule()
    def undo(self):
        if not self.undos:
            with pytest.raises(InputError, match="nothing to undo"):
                self.store.undo()
            return
        self.store.undo()
        for id, before in self.undos.pop().items():
            self.model[id] = before or (self.model[id][0], DELETED, *self.model[id][2:])

    @rule(id=consumes(ids))
    def purge(self, id):
        if id not in self.model:
            return  # it went with its session
        text = self.model[id][0]
        self.store.purge_slots([id])
        self.forget(id)
        self.search([text])

    def search(self, texts: list[str]) -> None:
        for file in self.store.file.parent.iterdir():
            assert not any(text.encode() in file.read_bytes() for text in texts)

    def forget(self, id: str) -> None:
        """Take a slot out of the model and its past, as if it never was."""

        def without(state: dict[str, tuple | None]) -> dict[str, tuple | None]:
            return {
                each: value and (*value[:4], None if value[4] == id else value[4])
                for each, value in state.items()
                if each != id
            }

        self.model = without(self.model)
        self.undos = [change for change in map(without, self.undos) if change]
        self.past = [(version, time, without(state)) for version, time, state in self.past]

    @rule(target=ids)
    def say(self):
        """A slot told in a conversation, and quoted in its turn."""
        self.session = self.session or self.store.new_session().id
        slot = a_slot(self.text(), session=self.session, turn=new_id())
        turn = Turn(slot.turn, self.session, f"Hello. {slot.text}", "", NOW, writes=(Write(slot, 0.9, "new"),))
        with self.store.atomic():
            self.store.save_turn(turn)
            self.store.add_slot(slot)
        self.told.append(slot.id)
        self.changed(**{slot.id: (slot.text, ACTIVE, (), False, None)})
        return slot.id

    @rule()
    def purge_the_session(self):
        if not self.session:
            return
        texts = [self.model[id][0] for id in self.told if id in self.model]
        assert set(self.store.purge_session(self.session).slots) == {id for id in self.told if id in self.model}
        for id in self.told:
            self.forget(id)
        self.session, self.told = None, []
        self.search(texts)

    @precondition(lambda self: len(self.model) > 8)
    @rule()
    def purge_everything(self):
        texts = [slot[0] for slot in self.model.values()]
        assert set(self.store.purge_everything().slots) == self.model.keys()
        for id in list(self.model):
            self.forget(id)
        self.session, self.told = None, []
        self.search(texts)

    @rule()
    def move_house(self):
        """Everything into a file, and from there into a new store, in place of the old one; steps are not undone."""
        file = Path(self.folder.name) / "all.jsonl"
        exchange.export(backup.everything(self.store), file, "ann", complete=True)
        self.store.close()
        self.moved += 1
        self.store = Store(Path(self.folder.name) / f"house {self.moved}", "ann")
        exported = exchange.load(file)
        fresh = backup.new_slots(self.store, exported)
        backup.take_in(self.store, exported, fresh, np.zeros((len(fresh), 2)), "f")
        again = file.with_name("again.jsonl")
        exchange.export(backup.everything(self.store), again, "ann", complete=True)
        assert again.read_bytes() == file.read_bytes()
        for path in (file, again):
            path.unlink()
        self.past = []
        self.undos = [dict.fromkeys(self.model)] if self.model else []  # now one change: that all of it came in

    @rule(id=ids)
    @still_there
    def crash_in_the_middle(self, id):
        """A program that dies before its transaction is committed; its store is never closed."""
        with pytest.raises(ZeroDivisionError), self.store.atomic():
            self.store.add_slot(a_slot(self.text()))
            self.store.restore_slot(id)
            raise ZeroDivisionError
        self.store = Store(self.store.file.parent, "ann")

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store(self.store.file.parent, "ann")

    @rule()
    def note(self):
        self.past.append((self.store.version(), datetime.now(UTC), dict(self.model)))

    @invariant()
    def slots_are_those_of_the_model(self):
        assert self.seen(self.store.slots(None)) == self.model
        for state in (ACTIVE, SUPERSEDED, ARCHIVED, DELETED):
            expected = [id for id, slot in self.model.items() if slot[1] == state]
            assert [slot.id for slot in self.store.slots(state)] == expected
        for version, time, model in self.past[-3:]:
            assert self.seen(self.store.slots(None, as_of=version)) == model
            assert self.seen(self.store.slots(None, as_of=time)) == model

    @staticmethod
    def seen(slots: list[Slot]) -> dict[str, tuple]:
        return {slot.id: (slot.text, slot.state, slot.tags, slot.pinned, slot.superseded_by) for slot in slots}


Against.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstADictionary = Against.TestCase
