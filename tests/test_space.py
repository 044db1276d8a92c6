"""A space remembers across sessions and restarts, and an edit or a delete holds at the next token."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import numpy as np
import pytest
from fakes import RuleMemory

import mam.chat
from mam.chat import Chat
from mam.errors import ConflictError, InputError, StoreError
from mam.reader import ABSTAIN
from mam.space import Space
from mam.store import Store
from mam.values import Turn

SHORT = {"max_tokens": 12}
DOG = "My dog is called Rex."
ASK = "What is my dog called?"


@pytest.fixture
def chat(m):
    return m.session("Monday")


def told(chat, text=DOG):
    """Say something and return the slot it left."""
    (write,) = chat.send(text, **SHORT).writes
    return write.slot


def given(turn: Turn) -> list[str]:
    return [read.slot.text for read in turn.reads if read.given]


# -- a turn --------------------------------------------------------------------------------------------------------


def test_what_was_told_is_written_and_later_read(m, chat):
    turn = chat.send(f"Hello! {DOG} How are you?", **SHORT)
    assert [write.slot.text for write in turn.writes] == [DOG]
    assert {candidate.said for candidate in turn.rejected} == {"Hello!", "How are you?"}
    assert all(candidate.why and candidate.score < 0.5 for candidate in turn.rejected)
    slot = turn.writes[0].slot
    assert turn.text[slice(*slot.span)] == slot.said and slot.turn == turn.id and slot.session == chat.id
    asked = m.session("Tuesday").send(ASK, **SHORT)
    assert given(asked) == [DOG] and asked.given.startswith("[0.") and DOG in asked.given
    assert asked.null_weight + sum(read.weight for read in asked.reads) == pytest.approx(1, abs=1e-5)


def test_a_message_does_not_read_itself(chat):
    turn = chat.send(DOG, **SHORT)
    assert turn.writes and turn.reads == ()


def test_nothing_read_is_the_base_alone(m, chat):
    told(chat)
    text = "Tell a story about mountains."
    turn = m.session().send(text, **SHORT)
    base = m.engine.base
    alone = base.decode(base.generate(base.prompt([{"role": "user", "content": text}]), max_tokens=12))
    assert not any(read.given for read in turn.reads) and turn.reply == alone


def test_what_is_read_changes_the_reply(m, chat):
    told(chat)
    base = m.engine.base
    alone = base.decode(base.generate(base.prompt([{"role": "user", "content": ASK}]), max_tokens=12))
    assert m.session().send(ASK, **SHORT).reply != alone


def test_asked_but_not_held_abstains(m, chat):
    events = list(chat.stream("What is my horse called?", **SHORT))
    turn = events[-1].data
    assert turn.abstained and turn.reply == ABSTAIN == "".join(e.data for e in events if e.kind == "token")
    assert m.turn(turn.id) == turn


def test_events_come_in_order_and_join_to_the_reply(chat):
    kinds = [event.kind for event in chat.stream(DOG, **SHORT)]
    assert kinds[:3] == ["read", "token", "write"] and kinds[-1] == "turn" and set(kinds[3:-1]) == {"token"}
    turn = chat.turns()[-1]
    assert set(turn.timing) == {
        "split", "encode", "read", "prepare", "first_token", "write", "reply", "total"
    }  # fmt: skip
    assert 0 < turn.tokens <= 12 and not turn.stopped
    assert turn.thresholds["gate"] == RuleMemory().gate_threshold
    assert {"relation", "read", "asked"} < turn.thresholds.keys()


def test_an_update_supersedes_and_both_stay_visible(m, chat):
    old = told(chat)
    turn = chat.send("Actually, my dog is called Max now.", **SHORT)
    assert turn.writes[0].relation == "update" and turn.writes[0].superseded == old.id
    assert [slot.id for slot in m.slots("superseded")] == [old.id]
    assert given(m.session().send(ASK, **SHORT)) == ["Actually, my dog is called Max now."]


def test_a_duplicate_is_not_kept_twice(m, chat):
    slot = told(chat)
    turn = chat.send(f"{DOG} {DOG}", **SHORT)
    assert [(write.relation, write.slot.id) for write in turn.writes] == [("duplicate", slot.id)] * 2
    assert len(m.slots(None)) == 1


def test_stop_ends_the_reply_and_keeps_what_was_said(m, chat):
    stop, events = threading.Event(), []
    for event in chat.stream(DOG, max_tokens=200, stop=stop):
        events.append(event)
        if sum(event.kind == "token" for event in events) == 3:
            stop.set()
    turn = events[-1].data
    assert turn.stopped and 3 <= turn.tokens < 20 and turn.reply
    assert m.turn(turn.id) == turn


def test_a_closed_stream_keeps_what_was_said(m, chat):
    stream = chat.stream(DOG, max_tokens=200)
    said = ""
    for event in stream:
        said += event.data if event.kind == "token" else ""
        if len(said) > 3:
            break
    stream.close()
    (turn,) = chat.turns()
    assert turn.stopped and turn.reply == said and turn.writes[0].slot in m.slots()


def test_an_error_of_the_base_keeps_what_was_told(m, chat):
    with pytest.raises(InputError, match="temperature"):
        chat.send(DOG, temperature=-1)
    assert [slot.text for slot in m.slots()] == [DOG]
    assert chat.turns()[0].text == DOG


def test_the_base_is_frozen(m, chat):
    before = m.engine.base.weights_hash()
    slot = told(chat)
    chat.send(ASK, **SHORT)
    m.edit(slot.id, "My dog is called Max.")
    chat.send(ASK, **SHORT)
    assert m.engine.base.weights_hash() == before


# -- edits and deletes hold at the next token ----------------------------------------------------------------------


def test_edit_holds_in_every_open_space(open_space):
    here, there = open_space(), open_space()
    slot = told(here.session())
    chat = there.session()
    assert given(chat.send(ASK, **SHORT)) == [DOG]
    here.edit(slot.id, "My dog is called Max.")
    turn = chat.send(ASK, **SHORT)
    assert given(turn) == ["My dog is called Max."] and "Rex" not in turn.given
    here.delete(slot.id)
    assert chat.send(ASK, **SHORT).abstained
    here.restore(slot.id)
    assert given(chat.send(ASK, **SHORT)) == ["My dog is called Max."]


def test_edited_and_deleted_words_leave_the_session_they_were_said_in(m, chat):
    slot = told(chat)
    assert DOG in chat.send("Tell a story about mountains.", **SHORT).given  # the history of the session
    m.edit(slot.id, "My cat is called Tom.")
    assert "Rex" not in chat.send("Tell a story about rivers.", **SHORT).given


def test_what_is_said_next_leans_on_what_is_true_now(m, chat):
    anna, said = told(chat, "My sister Anna lives in Oslo."), "She works as a nurse."
    m.edit(anna.id, "My sister Anna lives in Bergen.")
    assert told(chat, said).text == "My sister Anna works as a nurse."
    m.delete(anna.id)
    (candidate,) = chat._candidates("She likes tea.", "user", datetime.now(UTC), chat.turns()[:1])
    assert candidate.text == candidate.said
    m.purge(anna.id)
    (candidate,) = chat._candidates("She likes tea.", "user", datetime.now(UTC), chat.turns()[:1])
    assert candidate.text == candidate.said


def test_an_update_that_leans_on_what_it_replaces_does_not_keep_the_old_words(m, chat):
    told(chat, "My cousin speaks Italian.")
    write = told(chat, "Actually she speaks German.")
    assert write.text == "Actually my cousin speaks German." and m.slots() == [write]
    key = m.engine.memory.keys(m.engine.memory.encode([write.text]))[0]
    assert m.index.nearest(key, 1)[0] == (write, pytest.approx(1))
    told(chat, "My cousin met Berta on 3 March 2020.")
    met = told(chat, "Actually she met Carla.")
    assert (met.text, met.when) == ("Actually my cousin met Carla.", None)
    told(chat, "My brother has an old Volvo.")
    old = told(chat, "Actually it is a Saab.")  # what "it" is stands in the other sentence
    assert old.text == "My brother has an old Volvo. Actually it is a Saab."


def test_what_was_told_again_in_other_words_is_gone_as_well(m, chat):
    slot = told(chat)
    (write,) = chat.send("Rex is my dog.", **SHORT).writes
    assert write.relation == "duplicate"
    before = chat.turns()
    m.delete(slot.id)
    (candidate,) = chat._candidates("He sleeps a lot.", "user", datetime.now(UTC), before)
    assert candidate.text == candidate.said


@pytest.mark.parametrize("change", ["edit", "delete", "purge"])
def test_a_change_during_the_reply_holds_at_the_next_token(m, open_space, change):
    told(m.session())
    slot, other = m.slots()[0], open_space()
    stream = m.session().stream(ASK, max_tokens=40)
    before, after = "", ""
    for event in stream:
        if event.kind != "token":
            continue
        if len(before) < 3:
            before += event.data
            if len(before) >= 3:
                other.edit(slot.id, "My dog is called Max.") if change == "edit" else getattr(other, change)(slot.id)
        else:
            after += event.data
    turn = event.data
    assert given(turn) == (["My dog is called Max."] if change == "edit" else [])
    base = m.engine.base
    prompt = base.prompt([{"role": "user", "content": ASK}])
    reads = [read for read in turn.reads if read.given]
    memory = m.engine.integrator.prepare(reads) if reads else None
    said = base.tokenizer(before, add_special_tokens=False)["input_ids"] if "\ufffd" not in before else None
    if said is not None:
        expected = list(base.generate(prompt + said, max_tokens=40 - len(said), memory=memory))
        assert base.decode(said + expected) == turn.reply
    assert turn.tokens <= 40


def test_purge_removes_the_words_from_the_data_folder(m, chat, tmp_path):
    slot = told(chat, "My secret word is Xylophonic.")
    chat.send("What is my secret word?", **SHORT)
    m.purge(slot.id)
    for file in (tmp_path / "data").iterdir():
        assert b"Xylophonic" not in file.read_bytes(), file.name
    assert m.slots(None) == [] and chat.send("What is my secret word?", **SHORT).abstained
    assert not any("Xylophonic" in text for text in m.engine.integrator._blocks)


def test_nobody_repeats_or_updates_what_somebody_else_said(m, tmp_path):
    chat = m.session("Two friends")
    chat.observe("I keep bees.", speaker="Ana")
    (same,), _ = chat.observe("I keep bees.", speaker="Ben")
    (other,), _ = chat.observe("Actually I keep bees and hens.", speaker="Cleo")
    assert (same.relation, other.relation) == ("new", "new") and other.superseded is None
    (again,), _ = chat.observe("I keep bees.", speaker="Ana")
    (update,), _ = chat.observe("Actually I keep no bees.", speaker="Ana")
    assert (again.relation, update.relation) == ("duplicate", "update") and update.superseded == again.slot.id
    file = tmp_path / "diary.txt"
    file.write_text("I keep bees.")
    assert [slot.document for slot in m.ingest(file)] == ["diary.txt"]
    assert {slot.speaker for slot in m.slots(find="I keep bees")} >= {"Ben", "diary.txt"}
    assert m.consolidate(preview=True) == []


def test_edit_checks_the_version_that_was_seen(m):
    slot = m.add(DOG)
    m.edit(slot.id, "My dog is called Max.", version=1)
    with pytest.raises(ConflictError):
        m.edit(slot.id, "My dog is called Tim.", version=1)


def test_a_write_that_fails_is_nowhere(m, chat, monkeypatch):
    told(chat)

    def fails(*_args, **_more):
        raise StoreError("The disk is full.")

    monkeypatch.setattr(Store, "supersede_slot", fails)
    with pytest.raises(StoreError):
        chat.send("Actually, my dog is called Max now.", **SHORT)
    monkeypatch.undo()
    assert [slot.text for slot in m.slots(None)] == [DOG]
    assert [read.slot.text for read in m.read(ASK).reads] == [DOG]


# -- restarts, users, threads --------------------------------------------------------------------------------------


def test_restart_gives_the_same_slots_and_greedy_replies(open_space):
    first = open_space()
    told(first.session())
    slots, reply = first.slots(), first.session().send(ASK, **SHORT).reply
    first.close()
    again = open_space()
    assert again.slots() == slots and again.session().send(ASK, **SHORT).reply == reply


def test_sessions_are_resumed_by_id_and_title(m, chat):
    told(chat)
    assert m.session("Monday").id == chat.id == m.session(chat.id).id
    assert m.session().id != chat.id and chat.title == "Monday"
    chat.rename("Tuesday")
    assert m.session("Tuesday").id == chat.id
    with pytest.raises(InputError):
        m.session("  ")


def test_users_never_see_each_other(open_space):
    ann, bob = open_space("ann"), open_space("bob")
    slot, turn = told(ann.session("Monday")), ann.session("Monday").turns()[0]
    assert bob.slots(None) == [] and bob.sessions() == [] and bob.read(ASK).reads == ()
    assert bob.session(turn.session).id != turn.session and bob.session("Monday").turns() == []
    for call in (bob.slot, bob.delete, bob.restore, bob.purge, bob.versions, lambda id: bob.edit(id, "x y z")):
        with pytest.raises(InputError):
            call(slot.id)
    with pytest.raises(InputError):
        bob.turn(turn.id)
    assert ann.slots() == [slot]


def test_others_take_turns_while_keys_are_made_anew(tmp_path, engine, monkeypatch):
    m = Space(Store(tmp_path, "ann"), engine)
    m.add("My dog is called Rex.")
    m.close()
    monkeypatch.setattr(RuleMemory, "fingerprint", "retrained")
    had = []

    def progress(*_) -> None:
        def look() -> None:
            with engine.lock:
                pass

        look = threading.Thread(target=look, daemon=True)
        look.start()
        look.join(5)
        had.append(not look.is_alive())

    Space(Store(tmp_path, "ann"), engine, progress).close()
    assert had == [True]


def test_keys_of_another_memory_model_are_made_anew(tmp_path, engine, monkeypatch):
    store = Store(tmp_path, "ann")
    slot = Space(store, engine).add(DOG)
    monkeypatch.setattr(RuleMemory, "fingerprint", "retrained")
    monkeypatch.setattr(RuleMemory, "keys", lambda _, hidden: np.full_like(hidden, 0.5))
    space = Space(store, engine)
    assert store.keys([slot.id], "retrained")[slot.id] == np.full(64, 0.5, "<f4").tobytes() and len(space.slots()) == 1


def test_threads_talk_at_once(m):
    errors = []

    def talk(number):
        try:
            chat = m.session(f"session {number}")
            for name in ("Ada", "Bob", "Cleo"):
                chat.send(f"My friend number {number} is {name}", **SHORT)
                m.add(f"Note {number} {name}")
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(m.slots(None)) == 24 and len(m.sessions()) == 4


# -- slots by hand, files ------------------------------------------------------------------------------------------


def test_added_slots_are_dated_and_read(m):
    slot = m.add("My exam is on 3 March 2027.")
    assert slot.when == "2027-03-03" and slot.score is None
    assert m.read("When is my exam?").reads[0].slot == slot


def test_observe_only_writes(m):
    chat = m.session()
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    writes, rejected = chat.observe("I see my dentist next Friday. Bye!", at=at)
    assert [write.slot.text for write in writes] == ["I see my dentist next Friday (27 November 2026)."]
    assert [candidate.said for candidate in rejected] == ["Bye!"] and writes[0].slot.told == at
    chat.observe("What is the dentist called?", speaker="assistant")
    writes, _ = chat.observe("Dr. Tooth", at=at)
    assert chat.turns()[-1].reply == ""
    by_tom, _ = chat.observe("I live in Oslo.", speaker="Tom")
    assert by_tom[0].slot.speaker == "Tom"


def test_export_and_import_are_a_round_trip(m, open_space, tmp_path):
    slot = m.add("My dog likes «cheese» 🧀\nand cream.")
    old = m.add("I live in Oslo.")
    m.store.supersede_slot(old.id, slot.id)
    m.delete(m.add("Into the trash.").id)
    file = tmp_path / "memory.jsonl"
    assert m.export(file) == 2
    other = open_space("bob")
    assert other.import_(file) == other.slots(None)
    assert [(s.id, s.text, s.state, s.told) for s in other.slots(None)] == [
        (s.id, s.text, s.state, s.told) for s in m.slots(None) if s.state != "deleted"
    ]
    assert other.read("cheese").reads[0].slot.id == slot.id
    assert other.import_(file) == []


@pytest.mark.parametrize(
    "line, said",
    [
        ("not json", "Line 3"),
        ('{"id": "x"}', "Line 3"),
        (
            json.dumps({"id": "a" * 16, "text": "", "said": "", "speaker": "u", "told": "x", "state": "active"}),
            "Line 3",
        ),
        ("[]", "Line 3"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_imported(m, tmp_path, line, said):
    m.add(DOG)
    file = tmp_path / "memory.jsonl"
    m.export(file)
    good = file.read_text().splitlines()
    file.write_text("\n".join([good[0], good[1].replace('"id": "', '"id": "z'), line]))
    with pytest.raises(InputError, match=said):
        m.import_(file)
    assert len(m.slots(None)) == 1


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "exported"),
        (b'{"mam": "slots", "version": 9}\n', "newer"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[1]", "exported"),
    ],
)
def test_other_files_are_not_imported(m, tmp_path, content, said):
    file = tmp_path / "x.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        m.import_(file)


def test_documents_become_slots(m, tmp_path):
    file = tmp_path / "notes.md"
    file.write_text(
        "# Trip\n\nThe train leaves at nine. It arrives at noon.\n\n- Bring the tickets.\n", encoding="utf-8"
    )
    slots = m.ingest(file)
    assert [slot.said for slot in slots] == [
        "Trip", "The train leaves at nine.", "It arrives at noon.", "Bring the tickets.",
    ]  # fmt: skip
    assert {slot.speaker for slot in slots} == {"notes.md"} and m.slots() == slots
    for name, content, said in (
        ("a.docx", b"", "no text"),
        ("a.pdf", b"", "no PDF"),
        ("b.txt", b"\xff\xfe", "UTF-8"),
        ("c.txt", None, "cannot be read"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            m.ingest(tmp_path / name)


def test_export_into_nowhere_is_explained(m, tmp_path):
    with pytest.raises(InputError, match="could not be written"):
        m.export(tmp_path / "missing" / "x.jsonl")


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  \n", "\x00\x07", "\ufeff"])
def test_empty_messages_are_refused(m, chat, text):
    for call in (chat.send, chat.observe, m.add, m.read):
        with pytest.raises(InputError, match="nothing in this message"):
            call(text)
    assert chat.turns() == []


def test_too_long_messages_are_refused_and_long_ones_cut_for_the_base(chat):
    with pytest.raises(InputError, match="100,001"):
        chat.send("a" * 100_001)
    text = "My dog eats bananas every day. " * 3000
    turn = chat.send(text, **SHORT)
    assert turn.text == text.strip() and "characters fit)" in turn.given and turn.tokens == 12
    assert len(turn.writes) == 3000 and turn.writes[-1].relation == "duplicate"


def test_control_characters_are_stripped_and_broken_ones_replaced(chat):
    assert chat.send("My dog\x00 is \x1b[31mcalled Rex\ud800.", **SHORT).text == "My dog is [31mcalled Rex?."


@pytest.mark.parametrize("k", [0, 65, -1, "8", 2.0])
def test_k_out_of_range(m, chat, k):
    with pytest.raises(InputError, match="between 1 and 64"):
        m.read(ASK, k=k)
    with pytest.raises(InputError, match="between 1 and 64"):
        chat.send(ASK, k=k)


def test_a_memory_has_a_length(m):
    with pytest.raises(InputError, match="at most 2,000"):
        m.add("word " * 1000)


def test_an_utterance_without_an_end_is_rejected_not_kept(chat):
    turn = chat.send("I said " + "word " * 1000, **SHORT)
    assert turn.writes == () and turn.rejected[0].why == "too long to be one memory"


def test_the_history_stays_within_its_budget(m, chat, monkeypatch):
    monkeypatch.setattr("mam.prompt.HISTORY_TOKENS", 120)
    for number in range(6):
        turn = chat.send(f"Story number {number} about the sea.", **SHORT)
    assert "number 5" in turn.given and "number 4" in turn.given and "number 0" not in turn.given


def test_chat_reads_no_more_turns_than_it_needs(m, monkeypatch):
    seen = []
    turns = Store.turns
    monkeypatch.setattr(Store, "turns", lambda self, id, last=None: seen.append(last) or turns(self, id, last))
    Chat(m, m.store.new_session()).send(DOG, **SHORT)
    assert seen == [mam.chat.TURNS_BACK]
