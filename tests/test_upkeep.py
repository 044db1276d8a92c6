"""Undo, merging, room in a bounded space, temporary sessions, certificates with a check of the base, re-encoding."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import RuleMemory

from mam import base as bases
from mam.chat import Chat
from mam.engine import Engine
from mam.errors import ConflictError, InputError, MamError
from mam.model import MemoryModel
from mam.packs.store import PackStore, Settings
from mam.packs.store import home as packs_home
from mam.schema import keys
from mam.space import BATCH, Space
from mam.store import Store, new_id
from mam.values import ACTIVE, Slot

SHORT = {"max_tokens": 8}
DOG, ASK = "My dog is called Rex.", "What is my dog called?"


def texts(slots) -> list[str]:
    return [slot.text for slot in slots]


def reads(m, query=ASK) -> list[str]:
    return [read.slot.text for read in m.read(query).reads if read.given]


# -- operations -----------------------------------------------------------------------------------------------------


def test_undo_holds_at_the_next_reading_everywhere(m, open_space):
    other, slot = open_space(), m.add(DOG)
    m.edit(slot.id, "My dog is called Max.")
    assert reads(other) == ["My dog is called Max."]
    m.undo()
    assert reads(m) == reads(other) == [DOG]
    m.undo()
    assert reads(m) == reads(other) == [] and texts(m.slots("deleted")) == [DOG]


def test_what_another_program_does_is_seen_at_the_next_turn(m):
    chat, slot = m.session(), m.add(DOG)
    assert [read.slot.text for read in chat.send(ASK, **SHORT).reads] == [DOG]
    script = "import sys; from mam.store import Store; Store(sys.argv[1], 'ann').edit_slot(sys.argv[2], sys.argv[3])"
    folder = str(m.store.file.parent)
    subprocess.run([sys.executable, "-c", script, folder, slot.id, "My dog is called Max."], check=True, timeout=60)
    assert [read.slot.text for read in chat.send(ASK, **SHORT).reads] == ["My dog is called Max."]


def test_undo_takes_back_a_turn_of_a_chat(m):
    slot = m.session().send(DOG, **SHORT).writes[0].slot
    m.session().send("Actually, my dog is called Max now.", **SHORT)
    assert {each.id for each in m.undo()} > {slot.id}
    assert reads(m) == [DOG] and m.slots("superseded") == []


def test_undo_takes_back_every_operation(m, tmp_path):
    """Whatever changes slots: what there was is there again, and what was new is in the trash."""
    chat = m.session("Monday")
    rex = chat.send(DOG, **SHORT).writes[0].slot
    tea, twin, gone, old = (m.add(text) for text in ("I love tea.", "I love TEA!", "I own a boat.", "I live in Oslo."))
    friday = m.session("Friday")
    friday.send("My hat is green.", **SHORT)
    m.tag(tea.id, "drinks")
    m.delete(gone.id)
    m.archive(old.id)
    (tmp_path / "notes.txt").write_text("The train leaves at nine. It is red.")
    chats = [{"role": "user", "content": "My cat is called Tom. I know Ida."}]
    (tmp_path / "chat.json").write_text(json.dumps(chats))
    other = Space(Store(tmp_path / "other", "ann"), m.engine)
    other.session().send("My horse is called Max.", **SHORT)
    other.export(tmp_path / "all.jsonl", complete=True)
    operations = {
        "add": lambda: m.add("I like rain."),
        "edit": lambda: m.edit(rex.id, "My exam is on 3 March 2027."),
        "delete": lambda: m.delete(rex.id),
        "restore from the trash": lambda: m.restore(gone.id),
        "restore from the archive": lambda: m.restore(old.id),
        "archive": lambda: m.archive(rex.id),
        "pin": lambda: m.pin(rex.id),
        "tag": lambda: m.tag(tea.id, "hot", "green"),
        "merge": lambda: m.merge(rex.id, tea.id, text="My dog Rex loves tea."),
        "consolidate": lambda: m.consolidate(),
        "an update in a chat": lambda: chat.send("Actually, my dog is called Max now.", **SHORT),
        "take back": lambda: friday.take_back(),
        "observe": lambda: chat.observe("My brother is called Tom."),
        "import": lambda: m.import_(tmp_path / "all.jsonl"),
        "import of a conversation": lambda: m.import_(tmp_path / "chat.json"),
        "ingest": lambda: m.ingest(tmp_path / "notes.txt"),
    }
    for name, act in operations.items():
        before, read = state(m), {each.slot.text: each.weight for each in m.read(ASK).reads}
        act()
        assert state(m) != before, name
        m.undo()
        now = state(m)
        assert {id: now.pop(id) for id in before} == before, name
        assert all(slot[1] == "deleted" for slot in now.values()), name
        assert {each.slot.text: each.weight for each in m.read(ASK).reads} == pytest.approx(read), name


def state(m) -> dict[str, tuple]:
    return {
        slot.id: (slot.text, slot.state, slot.when, slot.tags, slot.pinned, slot.superseded_by)
        for slot in m.slots(None)
    }


def test_undo_does_not_fill_a_bounded_space_beyond_its_bound(m):
    for text in (DOG, "I love tea.", "I live in Oslo.", "My car is red."):
        m.add(text)
    assert len(m.set_capacity(2)) == 2
    with pytest.raises(InputError, match="raise its capacity"):
        m.undo()
    assert len(m.slots()) == 2 == len(m.read(ASK).reads)
    m.add("My boat is blue.")  # one goes for it
    m.undo()
    assert len(m.slots()) == 2
    m.set_capacity(None)
    m.undo()
    assert len(m.slots()) == 4


def test_merge_makes_one_of_several(m):
    rex, brown = m.add(DOG), m.add("My dog is brown.")
    with pytest.raises(InputError, match="at least two"):
        m.merge(rex.id, rex.id)
    merged = m.merge(rex.id, brown.id, text="My brown dog is called Rex.")
    assert merged.id == rex.id and merged.version == 2 and m.slots() == [merged]
    assert m.slot(brown.id).superseded_by == rex.id and reads(m) == ["My brown dog is called Rex."]
    m.undo()
    assert texts(m.slots()) == [DOG, "My dog is brown."]
    with pytest.raises(InputError):
        m.merge(rex.id, "nothing-like-it")
    assert texts(m.slots()) == [DOG, "My dog is brown."]


def test_search_in_three_ways(m):
    rex, tea = m.add(DOG), m.add("I love green tea.")
    gone = m.add("I hate tea.")
    m.delete(gone.id)
    assert m.search(ASK)[0] == rex and m.search("tea", by="words") == [tea] and m.search("loving teas", by="words")
    assert m.search("zebra", by="words") == [] == m.search("zzzz", by="id")
    assert m.search(gone.id[:10], by="id") == [m.slot(gone.id)]
    with pytest.raises(InputError, match="search"):
        m.search("x", by="magic")
    assert Space.search(m, "tea", by="words", limit=1) == [tea]


def test_what_did_it_know_then(m):
    m.add(DOG)
    then, version = datetime.now(UTC), m.version()
    m.edit(m.slots()[0].id, "My dog is called Max.")
    assert texts(m.slots(as_of=then)) == [DOG] == texts(m.slots(as_of=version))


def test_consolidate_previews_merges_and_is_undone(m):
    old, pinned, new = m.add("My dog is called Rex"), m.add("My dog is called Rex!"), m.add(DOG)
    m.pin(pinned.id)
    m.add("I love tea.")
    (preview,) = m.consolidate(preview=True)
    assert preview.kept.id == pinned.id and {slot.id for slot in preview.others} == {old.id, new.id}
    assert preview.similarity > 0.8 and len(m.slots()) == 4
    assert [merged.kept.id for merged in m.consolidate()] == [pinned.id]
    assert texts(m.slots()) == ["My dog is called Rex!", "I love tea."] and m.consolidate() == []
    assert m.versions(old.id)[-1].by == "consolidation"
    m.undo()
    assert len(m.slots()) == 4


def test_consolidate_notices_what_changed_meanwhile(m, open_space, monkeypatch):
    m.add("My dog is called Rex")
    late = m.add(DOG)
    relate = RuleMemory.relate

    def meddle(self, text, near):
        open_space().edit(near[0].id, "My dog is called Max.")
        return relate(self, text, near)

    monkeypatch.setattr(RuleMemory, "relate", meddle)
    m.pin(late.id)
    with pytest.raises(ConflictError):
        m.consolidate()
    assert len(m.slots()) == 2


def test_a_past_turn_stays_exactly_as_it_was(m, open_space):
    m.set_capacity(3)
    for text in (DOG, "I love tea.", "I live in Oslo."):
        m.add(text)
    chat = m.session("Monday")
    turns = [chat.send(text, **SHORT) for text in (ASK, "My hat is green. Hello!", "Actually, my hat is red now.")]
    assert (
        turns[0].reads and turns[1].writes and turns[1].rejected and turns[1].archived and turns[2].writes[0].superseded
    )
    shown = [repr(turn) for turn in turns]  # with usage counts and times, which equality leaves out
    for slot in m.slots():
        m.tag(slot.id, "later")
        m.edit(slot.id, f"{slot.text} Really.")
    m.undo()
    m.delete(m.slots()[0].id)
    m.session().send(ASK, **SHORT)
    m.set_capacity(None)
    for space in (m, open_space()):
        assert [repr(turn) for turn in space.turns(chat.id)] == shown == [repr(space.turn(turn.id)) for turn in turns]


# -- capacity -------------------------------------------------------------------------------------------------------


def test_a_full_space_archives_what_is_least_useful_and_shows_why(m, open_space):
    m.set_capacity(3)
    used, twin, pinned = m.add(DOG), m.add("Green tea is what I love."), m.add("I was born in Rome.")
    m.pin(pinned.id)
    m.session().send(ASK, **SHORT)
    turn = m.session().send("My sister is called Anna.", **SHORT)
    (archived,) = turn.archived
    assert archived.slot.id == twin.id and set(archived.parts) == {"use", "age", "redundancy"}
    assert archived.score == pytest.approx(sum(archived.parts.values())) and m.turn(turn.id) == turn
    assert m.versions(twin.id)[-1].by == "capacity" and texts(m.slots("archived")) == [twin.text]
    assert {slot.id for slot in m.slots()} == {used.id, pinned.id, turn.writes[0].slot.id}
    assert open_space().about()["capacity"] == "3"
    m.restore(twin.id)  # makes room for itself, too
    assert len(m.slots()) == 3 and m.slot(twin.id).state == ACTIVE and m.slot(pinned.id).state == ACTIVE


def test_of_two_that_say_the_same_one_goes_first(m):
    for text in ("I love green tea.", DOG, "My dog is called Rex!", "My car is a blue Volvo."):
        m.add(text)
    archived = m.set_capacity(3)
    assert len(archived) == 1 and "Rex" in archived[0].slot.text and archived[0].parts["redundancy"] < -1
    assert m.set_capacity(3) == () and m.set_capacity(None) == ()


def test_old_unused_slots_go_before_recent_ones(m):
    now = datetime.now(UTC)
    for days, text in ((400, "I rented a flat in Bonn."), (2, "I bought a red bicycle."), (1, "My boss likes opera.")):
        slot = Slot(new_id(), text, text, "user", now - timedelta(days=days))
        m.store.add_slot(slot)
    (archived,) = m.set_capacity(2)
    assert archived.slot.text == "I rented a flat in Bonn."


def test_importing_more_than_fits_keeps_the_capacity(m, open_space, tmp_path):
    for number in range(12):
        m.add(f"My friend number {number} is called F{number}x.")
    m.export(tmp_path / "out.jsonl")
    other = open_space("bob")
    other.add(DOG)
    other.set_capacity(5)
    assert len(other.import_(tmp_path / "out.jsonl")) == 12 and len(other.slots()) == 5
    assert len(other.slots("archived")) == 8
    assert len(other._index) == 5


# -- temporary sessions -----------------------------------------------------------------------------------------------


def test_a_temporary_session_reads_and_writes_nothing(m, tmp_path):
    slot = m.add(DOG)
    m.store.purge_slots([m.add("carry the log into the file.").id])
    before, files = m.version(), {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    chat = m.session(temporary=True)
    asked = chat.send(ASK, **SHORT)
    assert [read.slot.id for read in asked.reads if read.given] == [slot.id]
    turn = chat.send("My sister is called Anna Zanzibar.", **SHORT)
    assert turn.writes == ()
    assert any(c.why == "this conversation is temporary" and c.score > 0.5 for c in turn.rejected)
    chat.observe("My brother is called Tom Zanzibar.")
    assert chat.turns()[:2] == [asked, turn] and len(chat.turns()) == 3
    assert "Anna" in chat.send("Tell a story about mountains.", **SHORT).given  # it knows what was said in it
    assert m.version() == before and m.sessions() == [] and m.slot(slot.id).reads == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()} == files
    with pytest.raises(InputError):
        chat.rename("Kept after all")
    with pytest.raises(InputError):
        m.turn(turn.id)
    assert m.session(chat.id).id != chat.id  # it cannot be found again


# -- purge ------------------------------------------------------------------------------------------------------------


def test_the_certificate_compares_the_base_with_and_without(m):
    slot = m.add(DOG)
    done = m.purge(slot.id)
    (check,) = done.checks
    assert check.slot == slot.id and check.passed
    assert check.full != check.off and check.deleted == check.off  # nothing else is remembered: as if it never was
    assert all(0 <= chance <= 1 for chance in (check.full, check.off, check.deleted))


@pytest.mark.parametrize("what", ["read", "written", "said before"])
def test_a_reply_that_is_being_spoken_does_not_bring_a_purged_text_back(m, open_space, tmp_path, what):
    """Another program purges while this one still holds the text, in what it read, heard or gave the base."""
    secret, chat = "My PIN is Zanzibar.", m.session()
    said = {"read": "What is my PIN?", "written": secret, "said before": "Tell a story about mountains."}[what]
    if what != "written":
        (m.session() if what == "read" else chat).send(secret, **SHORT)
    stream = chat.stream(said, max_tokens=30)
    for event in stream:
        if event.kind == "write":
            break
    (slot,) = m.slots()
    other = open_space()
    other.purge(slot.id)
    *_, last = stream
    turn = m.turn(last.data.id)
    assert "Zanzibar" not in repr(turn) and turn.given == "[purged]" and turn.reply
    assert not any(b"Zanzibar" in file.read_bytes() for file in (tmp_path / "data").iterdir())


@pytest.mark.parametrize("act", ["delete", "archive", "slot"])
def test_no_block_of_a_purged_slot_stays_in_memory(m, act):
    slot = getattr(m, act)(m.add("My PIN is Zanzibar.").id)
    m.purge(slot.id)
    assert not any("Zanzibar" in text for text in m.engine.integrator._blocks)


def test_the_real_base_knows_a_value_only_while_it_is_remembered(tmp_path, monkeypatch):
    """With the real base and the shipped integrator: it goes on with the value if and only if the slot is there."""
    monkeypatch.delenv("MAM_DTYPE")
    base = bases.load(device="cpu")
    integrator = MemoryModel.attach(SimpleNamespace(folder=None), base)
    m = Space(Store(tmp_path, "ann"), Engine(base, RuleMemory(), integrator))
    told = ("My sister Anna works as a nurse in Oslo.", "Our car is a blue Volvo.", "The capital of France is Paris.")
    slots = [m.add(text) for text in told]
    for check in m.purge(*(slot.id for slot in slots[:2])).checks:
        assert check.full > 0.5 > 10 * check.deleted and check.passed
    (known,) = m.purge(slots[2].id).checks  # what the base knows by itself it still knows, and that is no failure
    assert known.off > 0.5 and known.deleted > 0.5 and known.passed
    m.close()


def test_the_check_fails_when_the_base_still_says_it(m, monkeypatch):
    """A base that says it after the purge, though it did not while the slot was left out."""
    from mam import proof

    answers = iter([(0.9, True), (0.1, False), (0.9, True)])
    monkeypatch.setattr(proof, "_known", lambda *_: next(answers))
    (check,) = m.purge(m.add(DOG).id).checks
    assert not check.passed and (check.full, check.off, check.deleted) == (0.9, 0.1, 0.9)


def test_purge_of_sessions_and_everything(m, open_space, tmp_path):
    other, chat = open_space(), m.session("Monday")
    chat.send("My PIN is Zanzibar.", **SHORT)
    kept = m.add("I love tea.")
    assert other.purge_session(chat.id).sessions == (chat.id,)
    assert m.slots(None) == [kept] and m.sessions() == [] and reads(m, "What is my PIN?") == []
    with pytest.raises(InputError, match="purged"):
        chat.send("My PIN is still Zanzibar.", **SHORT)
    assert not any(b"Zanzibar" in file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert m.purge_everything().slots == (kept.id,) and other.slots(None) == [] and reads(other, "tea") == []
    for call in (m.purge, lambda: m.purge("nothing-like-it"), lambda: m.purge_session("nothing-like-it")):
        with pytest.raises(InputError):
            call()


# -- another memory model ---------------------------------------------------------------------------------------------


def test_re_encoding_shows_progress_and_goes_on_where_it_was_interrupted(m, open_space, monkeypatch):
    count = 2 * BATCH + 40
    slots = [Slot(new_id(), f"I know person {n}.", "x", "user", datetime.now(UTC)) for n in range(count)]
    m.store.add_slots(slots)
    monkeypatch.setattr(RuleMemory, "fingerprint", "retrained")
    encoded, seen, encode = [], [], RuleMemory.encode
    monkeypatch.setattr(RuleMemory, "encode", lambda self, texts: encoded.extend(texts) or encode(self, texts))

    def interrupted(what, done, total):
        seen.append((what, done, total))
        if done == 2 * BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_space(progress=interrupted)
    assert seen == [("encoding anew", BATCH, count), ("encoding anew", 2 * BATCH, count)]
    encoded.clear()
    again = open_space(progress=lambda *step: seen.append(step))
    assert len(encoded) == 40 and seen[-1] == ("encoding anew", 40, 40)
    assert len(again._index) == count and len(m.store.keys([slot.id for slot in slots], "retrained")) == count
    encoded.clear()
    open_space()
    assert encoded == []


def test_damaged_keys_are_made_anew(m, open_space):
    slot = m.add(DOG)
    with m.store.atomic() as tx:
        tx.execute(keys.update().values(key=b"\x00\x01"))
    assert reads(open_space()) == [DOG] and len(m.store.keys([slot.id], "rules")[slot.id]) == 4 * RuleMemory.dim


def test_a_key_made_of_an_older_text_is_not_kept(m, open_space, monkeypatch):
    """Another program edits a slot while this one encodes its old text."""
    other, slot = open_space(), m.add(DOG)
    monkeypatch.setattr(RuleMemory, "fingerprint", "retrained")
    encode = RuleMemory.encode

    def meanwhile(self, texts):
        monkeypatch.setattr(RuleMemory, "encode", encode)
        other.store.edit_slot(slot.id, "I love tea.")
        return encode(self, texts)

    monkeypatch.setattr(RuleMemory, "encode", meanwhile)
    late = open_space()
    assert late.read("tea").reads[0].slot.text == "I love tea."  # encoded when it was next looked at
    key = RuleMemory().keys(RuleMemory().encode(["I love tea."]))[0]
    assert m.store.keys([slot.id], "retrained")[slot.id] == key.astype("<f4").tobytes()


def test_index_and_store_agree_after_everything(m, open_space):
    """Whatever was done, a fresh space sees what the old one sees."""
    draw = np.random.default_rng(0)
    for step in range(120):
        slots = m.slots(None)
        id = slots[draw.integers(len(slots))].id if slots else None
        act = draw.integers(8) if id else 0
        try:
            if act in (0, 1):
                m.add(f"I know person {step} called N{step}x.")
            elif act == 2:
                m.edit(id, f"I know number {step} called E{step}x.")
            elif act == 3:
                m.delete(id)
            elif act == 4:
                m.restore(id)
            elif act == 5:
                m.archive(id)
            elif act == 6:
                m.undo()
            elif step % 10 == 0:
                m.purge(id)
        except (InputError, ConflictError):
            continue
        if step == 60:
            m.set_capacity(10)
    fresh = open_space()
    assert m._held == fresh._held == {slot.id: slot.text for slot in m.slots()} and 0 < len(m._held) <= 10
    assert [m._index.get(id) for id in m._held] == [fresh._index.get(id) for id in m._held]
    key = RuleMemory().keys(RuleMemory().encode(["I know person"]))[0]
    assert m._index.nearest(key, 3)[0][1] == pytest.approx(fresh._index.nearest(key, 3)[0][1])


# -- users ------------------------------------------------------------------------------------------------------------


def test_no_operation_reaches_another_user(open_space, tmp_path):
    """Every public method of a space with another user's ids; a new method must be added here to pass."""
    ann, bob = open_space("ann"), open_space("bob")
    chat = ann.session("Monday")
    turn = chat.send(DOG, **SHORT)
    slot = turn.writes[0].slot
    asked = ann.session("Tuesday").send(ASK, **SHORT)
    PackStore(packs_home(tmp_path / "data", "ann"), "anns").set_settings(Settings("base", "", "trained"))
    assert [pack.name for pack in ann.packs()] == ["anns"]
    state = ann.slots(None), ann.sessions(), ann.turns(chat.id), ann.versions(slot.id), ann.version()
    by_id = {
        "slot": lambda: bob.slot(slot.id),
        "versions": lambda: bob.versions(slot.id),
        "edit": lambda: bob.edit(slot.id, "forged text"),
        "delete": lambda: bob.delete(slot.id),
        "restore": lambda: bob.restore(slot.id),
        "archive": lambda: bob.archive(slot.id),
        "pin": lambda: bob.pin(slot.id),
        "tag": lambda: bob.tag(slot.id, "mine"),
        "merge": lambda: bob.merge(slot.id, asked.reads[0].slot.id + "x"),
        "undo": lambda: bob.undo(),
        "purge": lambda: bob.purge(slot.id),
        "purge_session": lambda: bob.purge_session(chat.id),
        "archive_session": lambda: bob.archive_session(chat.id),
        "rename_session": lambda: bob.rename_session(chat.id, "forged"),
        "turn": lambda: bob.turn(turn.id),
        "take_back": lambda: bob.take_back(turn),
        "around": lambda: bob.around(turn.id),
        "reads_of": lambda: bob.reads_of(slot.id),
        "neighbours": lambda: bob.neighbours(slot.id),
        "tokens_of": lambda: bob.tokens_of(slot.id),
        "open_pack": lambda: bob.open_pack("anns"),
        "mount": lambda: bob.mount(chat.id, "anns"),
    }
    for name, call in by_id.items():
        with pytest.raises(MamError):
            call()
            pytest.fail(name)
    empty = {
        "sessions": lambda: bob.sessions(),
        "turns": lambda: bob.turns(chat.id),
        "slots": lambda: bob.slots(None) + bob.slots(None, session=chat.id) + bob.slots(None, as_of=datetime.now(UTC)),
        "count": lambda: bob.count(None),
        "find": lambda: bob.find(state=None, ids=[slot.id]).slots + bob.find(slot.id, "id", None).slots,
        "tags": lambda: bob.tags(),
        "origins": lambda: sum(bob.origins(), []),
        "search": lambda: bob.search(ASK) + bob.search("dog", by="words") + bob.search(slot.id, by="id"),
        "read": lambda: bob.read(ASK).reads,
        "reading": lambda: bob.reading(ASK, bob.encoded([ASK]), 8).reads,
        "current": lambda: bob.current(asked.reads),
        "likeness": lambda: bob.likeness(ASK),
        "layout": lambda: bob.layout().ids,
        "refit": lambda: bob.refit().ids,
        "timeline": lambda: bob.timeline().happenings,
        "consolidate": lambda: bob.consolidate(),
        "export": lambda: bob.export(tmp_path / "x.jsonl") + bob.export(tmp_path / "y.jsonl", complete=True),
        "exported_lines": lambda: [line for line in bob.exported_lines(complete=True) if DOG in line],
        "set_capacity": lambda: bob.set_capacity(None),
        "make_room": lambda: bob.make_room({slot.id}),
        "holds": lambda: bob.holds(slot),
        "packs": lambda: bob.packs(),
        "mounted": lambda: bob.mounted(chat.id),
        "there": lambda: bob.there({"anns": False}),
        "consult": lambda: sum(map(len, bob.consult({"anns": False}, ASK))),
        "still_said": lambda: bob.still_said(slot),
        "struck": lambda: bob.struck([slot.id], lambda: None),
        "purge_everything": lambda: bob.purge_everything().slots,
    }
    for name, call in empty.items():
        assert not call(), name
    assert DOG.encode() not in (tmp_path / "y.jsonl").read_bytes() and DOG not in bob.exported(complete=True)
    forged = Chat(bob, next(session for session in ann.sessions() if session.id == chat.id))
    assert forged.turns() == []  # its id is ann's, its space is bob's
    for call in (
        lambda: forged.send("My cat is called Tom.", **SHORT), lambda: forged.observe("My cat is called Tom."),
        lambda: forged.rename("forged"), lambda: forged.title, lambda: forged.take_back(),
    ):  # fmt: skip
        with pytest.raises(InputError):
            call()
    assert bob.session(chat.id).id != chat.id and bob.session("Monday").turns() == []
    harmless = {  # take no id, or work on a turn or slot that the caller holds already
        "user", "about", "close", "session", "version", "add", "without", "attribution", "influence", "what_if",
        "keys", "import_", "ingest", "exported", "encoded", "writing", "refresh", "index", "as_now",
        "pack", "import_pack", "released", "repeating",
    }  # fmt: skip
    public = {name for name, _ in inspect.getmembers(Space) if not name.startswith("_")}
    assert public == by_id.keys() | empty.keys() | harmless
    assert (ann.slots(None), ann.sessions(), ann.turns(chat.id), ann.versions(slot.id), ann.version()) == state
