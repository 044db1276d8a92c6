"""A message may be as long as a book's chapter: others get their turns meanwhile, and what it leaves is whole."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import RuleMemory

from mam import draft
from mam.candidates import split
from mam.chat import _texts
from mam.errors import InputError, StoreError
from mam.space import PIECE, PIECE_CHARACTERS, Space, _pieces
from mam.store import Store, new_id
from mam.values import Turn, Write

SHORT = {"max_tokens": 3}
DOG, CAT = "My dog is called Rex.", "My cat is called Tom."
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_message(sentences: int, seed: int = 0) -> str:
    """Facts, some of them told twice and some corrected, among greetings and questions."""
    draw = random.Random(seed)
    said = []
    for number in range(sentences):
        name, thing = draw.choice(("Ada", "Bob", "Cleo", "Dan")), draw.choice(("tea", "chess", "Rome", "boats", "jazz"))
        kinds = (
            f"My friend {name} likes {thing}.",
            f"Actually, I like {thing}.",
            "Hello!",
            f"I met {name} in year {number}.",
        )
        said.append(draw.choice(kinds))
    return " ".join(said)


def written_one_by_one(space: Space, turn: Turn, candidates, hidden):
    """What a message leaves when each of its candidates is judged and written before the next one: the rule itself."""
    memory, writes, rejected = space.engine.memory, [], []
    with space.writing():
        space.store.save_turn(turn)
        for candidate, key in zip(*draft.gated(space, candidates, hidden), strict=True):
            if candidate.why:
                rejected.append(candidate)
                continue
            relation = memory.relate(candidate.text, [slot for slot, _ in space.index.nearest(key, draft.NEAR)])
            if relation.kind == "duplicate":
                writes.append(Write(relation.slot, candidate.score, "duplicate", None, relation.score))
                continue
            slot = space.store.add_slot(draft._slot(candidate, turn), key, memory.fingerprint, "chat")
            superseded = relation.slot.id if relation.kind == "update" else None
            if superseded:
                space.store.supersede_slot(superseded, slot.id)
            writes.append(Write(slot, candidate.score, relation.kind, superseded, relation.score))
            space.refresh()
        archived = space.make_room({write.slot.id for write in writes})
    return tuple(writes), tuple(rejected), archived


def left(space: Space, writes, rejected, archived) -> list:
    """All that a message left, with numbers in the place of ids."""
    slots = space.slots(None)
    number = {slot.id: at for at, slot in enumerate(slots)} | {None: None}
    plain = [replace(s, id="", session=None, turn=None, superseded_by=None, told=NOW) for s in slots]
    found = [(slot, number[was.superseded_by]) for slot, was in zip(plain, slots, strict=True)]
    found += [(number[w.slot.id], w.score, w.relation, number[w.superseded], w.relation_score) for w in writes]
    found += [[(v.text, v.state, v.by, v.version) for v in space.versions(slot.id)] for slot in slots]
    keys = space.store.keys([slot.id for slot in slots], space.engine.memory.fingerprint)
    return [*found, *rejected, *(number[a.slot.id] for a in archived), [keys[slot.id] for slot in slots]]


@pytest.mark.parametrize("seed", range(6))
def test_a_long_message_leaves_what_its_sentences_would_leave_one_by_one(open_space, seed):
    found = []
    for user, write in (("ann", draft.write), ("bob", lambda *args: written_one_by_one(*args[:4]))):
        space = open_space(user)
        for text in (DOG, "My friend Ada likes tea.", "I like jazz."):
            space.add(text)
        if seed == 5:
            space.set_capacity(12)
        turn = Turn(new_id(), space.session("Monday").id, a_message(120, seed), "", NOW)
        candidates = split(turn.text, now=NOW)
        hidden = space.encoded(_texts(candidates))
        found.append(left(space, *write(space, turn, candidates, hidden, space.version(), ())))
        assert len(space.index) == len(space.slots()) and space.turn(turn.id).text == turn.text
        again = open_space(user)  # what the open space believes is what another one reads
        assert {slot.id for slot in again.index.slots if slot} == {slot.id for slot in space.index.slots if slot}
    assert found[0] == found[1]
    relations = {write[2] for write in found[0] if isinstance(write, tuple) and len(write) == 5}
    assert relations == {"new", "duplicate", "update"}


# -- others ----------------------------------------------------------------------------------------------------------


class Slow:
    """Networks that take their time; counts what each thread has them do."""

    def __init__(self, monkeypatch):
        self.begun, self.done = threading.Event(), {}
        self.encode, self.relate = RuleMemory.encode, RuleMemory.relate
        monkeypatch.setattr(
            RuleMemory, "encode", lambda memory, texts: self._slowly(self.encode, memory, texts, len(texts))
        )
        monkeypatch.setattr(RuleMemory, "relate", lambda *args: self._slowly(self.relate, *args, 4))

    def _slowly(self, work, *args):
        *args, units = args
        self.begun.set()
        time.sleep(units / 1000)
        me = threading.current_thread().name
        self.done[me] = self.done.get(me, 0) + units
        return work(*args)


@pytest.mark.parametrize("how", ["send", "observe", "ingest"])
def test_another_user_gets_a_turn_while_a_long_message_is_written(open_space, monkeypatch, tmp_path, how):
    ann, bob, slow, errors = open_space("ann"), open_space("bob"), Slow(monkeypatch), []
    text = " ".join(f"My friend number {number} likes word{number * 7}." for number in range(600))
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    tell = {
        "send": lambda: ann.session().send(text, **SHORT),
        "observe": lambda: ann.session().observe(text),
        "ingest": lambda: ann.ingest(tmp_path / "long.txt"),
    }[how]

    def work():
        try:
            tell()
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    long = threading.Thread(target=work, name="long")
    long.start()
    assert slow.begun.wait(20)
    before = slow.done.get("long", 0)
    turn = bob.session().send(DOG, **SHORT)
    waited, over = slow.done.get("long", 0) - before, not long.is_alive()
    between = len(ann.slots(None))
    long.join(60)
    assert errors == [] and [write.slot.text for write in turn.writes] == [DOG]
    assert not over and between == 0, "the short message had to wait for the long one"
    assert waited < 12 * PIECE, waited  # of some thousands: a few pieces, one for each time that the lock changed hands
    assert len(ann.slots(None)) == 600 and [slot.text for slot in bob.slots()] == [DOG]


def test_nothing_is_written_and_nobody_kept_from_writing_while_a_message_is_judged(open_space, monkeypatch):
    """Another program, which knows of no lock in here, adds and deletes meanwhile; the result is right for that."""
    m = open_space()
    dog = m.add(DOG)
    seen, relate = [], RuleMemory.relate

    def meanwhile(memory, text, near):
        if text == "My horse is called Max." and not seen:
            other = Store(m.store.database.folder, "ann")
            seen.append([slot.text for slot in other.slots(None)])
            other.delete_slot(dog.id)
            other.close()
            open_space().add(CAT)
        return relate(memory, text, near)

    monkeypatch.setattr(RuleMemory, "relate", meanwhile)
    turn = m.session().send(f"{DOG} {CAT} My horse is called Max.", **SHORT)
    assert seen == [[DOG]], "nothing of the message was there yet"
    assert [(write.slot.text, write.relation) for write in turn.writes] == [
        (DOG, "new"), (CAT, "duplicate"), ("My horse is called Max.", "new"),
    ]  # fmt: skip
    assert sorted(slot.text for slot in m.slots()) == sorted([CAT, DOG, "My horse is called Max."])


def test_a_message_is_written_also_when_the_memory_never_keeps_still(open_space, monkeypatch):
    m, relate, notes = open_space(), RuleMemory.relate, []

    def meanwhile(memory, text, near):
        if getattr(m.store.database._local, "transaction", None) is None:  # it would be written with the message
            notes.append(m.add(f"Note {len(notes)}"))
        return relate(memory, text, near)

    monkeypatch.setattr(RuleMemory, "relate", meanwhile)
    turn = m.session().send(f"{DOG} {CAT} {DOG}", **SHORT)
    assert [write.relation for write in turn.writes] == ["new", "new", "duplicate"]
    assert {slot.text for slot in m.slots()} == {DOG, CAT, *(note.text for note in notes)}


def test_a_write_of_others_that_fails_meanwhile_changes_nothing(open_space, monkeypatch):
    m, relate = open_space(), RuleMemory.relate
    dog, failed = m.add(DOG), []

    def meanwhile(memory, text, near):
        if not failed:
            with pytest.raises(StoreError), m.writing():
                failed.append(m.add("My horse is called Max."))
                m.delete(dog.id)
                m.refresh()
                raise StoreError("The disk is full.")
        return relate(memory, text, near)

    monkeypatch.setattr(RuleMemory, "relate", meanwhile)
    turn = m.session().send(f"{CAT} {DOG}", **SHORT)
    assert failed and [(write.slot.text, write.relation) for write in turn.writes] == [(CAT, "new"), (DOG, "duplicate")]
    assert {slot.text for slot in m.slots(None)} == {DOG, CAT} == {slot.text for slot in m.index.slots if slot}


def test_what_was_purged_meanwhile_does_not_come_back_with_the_turn(open_space, monkeypatch, tmp_path):
    m, relate = open_space(), RuleMemory.relate
    slot = m.add("My PIN is forty-two.")

    def meanwhile(memory, text, near):
        if slot.id in m.store.ids():
            m.purge(slot.id)
            kept.append(b"forty-two")
        return relate(memory, text, near)

    kept = []
    chat = m.session()
    stream = chat.stream("What was my PIN? I also like tea.", **SHORT)
    monkeypatch.setattr(RuleMemory, "relate", meanwhile)
    for event in stream:
        if event.kind == "write":
            assert kept and not any(b"forty-two" in file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert [slot.text for slot in m.slots(None)] == ["I also like tea."]


KILLED = """
import os, random, signal, sys, time
from mam.engine import Engine
from mam.space import Space
from mam.store import Store
sys.path.insert(0, sys.argv[2])
import torch
from fakes import RuleMemory

torch.set_num_threads(1)
folder, draw = sys.argv[1], random.Random(3)
text = " ".join(f"My friend number {number} likes word{number * 7}." for number in range(60))

def tell():
    space = Space(Store(folder, "ann"), Engine(None, RuleMemory(), None))
    chat = space.session("Monday")
    os.write(out, b"r")
    while True:
        chat.observe(text + f" I am told {os.getpid()} and {time.monotonic_ns()}.")
        os.write(out, b"t")

Store(folder, "ann").new_session("Monday")
told = 0
for number in range(12):
    read, out = os.pipe()
    child = os.fork()
    if not child:
        try:
            tell()
        finally:
            os._exit(1)
    os.close(out)
    os.read(read, 1)
    time.sleep(draw.uniform(0, 0.15))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer failed by itself"
    acknowledged = len(os.read(read, 1 << 16))
    os.close(read)
    store = Store(folder, "ann")
    turns = store.turns(store.session("Monday").id)
    assert len(turns) >= told + acknowledged, "an acknowledged message was lost"
    told = len(turns)
    slots = store.slots(None)
    assert len(slots) == (60 + told if told else 0), "half a message"
    assert all(len(store.slots(None, turn=turn.id)) == (61 if at == 0 else 1) for at, turn in enumerate(turns))
    store.close()
print(told)
"""


def test_kill_9_leaves_no_half_of_a_long_message(tmp_path):
    script = textwrap.dedent(KILLED)
    command = [sys.executable, "-c", script, str(tmp_path / "data"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 3, done.stdout


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_texts_are_encoded_in_pieces_of_like_length():
    texts = ["x" * length for length in (90_000, 3, 500, 70, 1_999, *range(1, 300))]
    parts = list(_pieces(texts))
    assert sorted(text for part in parts for text in part) == sorted(texts)
    assert all(part == sorted(part, key=len) and len(part) <= PIECE for part in parts)
    assert all(len(part) * min(len(part[-1]), 512) <= PIECE_CHARACTERS for part in parts)
    assert list(_pieces([])) == [] and [len(part) for part in _pieces("a" for _ in range(130))] == [64, 64, 2]


def test_a_message_that_is_cut_is_measured_a_few_times_only(m, monkeypatch):
    chat, sizes = m.session(), []
    for number in range(12):
        chat.send(f"Story {number}.", **SHORT)
    count, prompt = m.engine.base.count, m.engine.base.prompt
    monkeypatch.setattr(m.engine.base, "count", lambda text: sizes.append(len(text)) or count(text))
    monkeypatch.setattr(m.engine.base, "prompt", lambda said: sizes.append(len(said[-1]["content"])) or prompt(said))
    turn = chat.send("My dog eats bananas every day. " * 3000, **SHORT)
    assert "characters fit)" in turn.given and "Story" not in turn.given
    assert sum(size > 50_000 for size in sizes) <= 3


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "?!.,;:-()'\"" * 9_000,
        "😀" * 100_000,
        "3 March, 4 May 2027, " * 4_500,
        "我的狗叫雷克斯。" * 12_000,
    ],
    ids=["word", "punctuation", "emoji", "dates", "chinese"],
)
def test_odd_long_messages_are_answered(m, text):
    turn = m.session().send(text, **SHORT)
    assert turn.tokens and not [slot for slot in m.slots(None) if len(slot.text) > 2_000]


def test_longer_messages_are_refused_in_a_line(m, service):
    for length in (100_001, 10_000_000):
        with pytest.raises(InputError, match=f"this one {length:,}; ingest it"):
            m.session().send("x" * length)
        body = {"messages": [{"role": "user", "content": "x" * length}]}
        answer = service.http().post("/v1/chat/completions", json=body)
        said = answer.json()["error"]["message"]
        assert (answer.status_code, "\n" in said) == (413 if length > 4_000_000 else 400, False), said
        assert ("bytes" if length > 4_000_000 else "100,000 characters") in said
    body = {"messages": [{"role": "user", "content": "My dog eats bananas. " * 4_700}], "max_tokens": 3}
    assert service.http().post("/v1/chat/completions", json=body).status_code == 200
