"""Packs of a user: through the space, in sessions, handed on."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from datetime import UTC, datetime

import pytest
import torch
from conftest import byte_tokenizer, tiny_config
from packing import built, echoing, lives, written
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from mam.errors import InputError, MissingError, StoreError, WeightsError
from mam.packs import store, weights
from mam.packs.pack import Pack
from mam.packs.shelf import MOUNTS, joined
from mam.packs.values import READY, WAITING
from mam.reader import Reading
from mam.values import Read, Slot

QUESTION = "Anna lives in which?"


ENGINE, pytestmark = echoing, pytest.mark.usefixtures("quick_packs")


@pytest.fixture
def towns(m, tmp_path, tiny_folder):
    """A pack of two documents in two shards that knows where Anna and Berta live."""
    paths = written(tmp_path / "text", a=lives("Anna"), b=lives("Berta"))
    return built(m, "towns", paths, base=str(tiny_folder), shard=1, epochs=60)


# ---- a space's packs -------------------------------------------------------------------------------------------------


def test_packs_are_made_listed_and_gone_on_with(m, tmp_path, tiny_folder, towns):
    assert [pack.name for pack in m.packs()] == ["towns"] and towns.ready
    assert [d.name for d in m.open_pack("towns").documents()] == ["a.txt", "b.txt"]
    (more,) = written(tmp_path / "text", c=lives("Carla"))
    before = {s.id: s.adapter for s in towns.shards()}
    m.pack("towns", more)
    assert {s.id: s.adapter for s in towns.shards()}.items() > before.items()
    assert len(towns.shards()) == 3
    towns.remove()
    assert m.packs() == []
    with pytest.raises(MissingError, match="no pack 'towns'"):
        m.open_pack("towns")


def test_what_cannot_begin_leaves_nothing_behind(m, tmp_path, tiny_folder):
    (tmp_path / "empty.txt").write_text("\n")
    for name, paths, how, why in (
        ("empty", [tmp_path / "empty.txt"], {}, "no text in empty.txt"),
        ("../x", [], {}, "name of a pack"),
        ("none", [], {}, "no text to make a pack of"),
        ("odd", written(tmp_path, a=lives("Anna")), {"shard": 0}, "shard is 0"),
    ):
        with pytest.raises(InputError, match=why):
            m.pack(name, *paths, base=str(tiny_folder), **how)
    with pytest.raises(WeightsError, match="could not be loaded"):
        m.pack("base", *written(tmp_path, a=lives("Anna")), base=str(tmp_path / "nowhere"))
    assert m.packs() == []


def test_users_do_not_see_each_others_packs(open_space, towns):
    other = open_space("bob")
    assert other.packs() == []
    with pytest.raises(MissingError):
        other.session().mount("towns")


def test_a_base_that_changed_meanwhile_is_named(m, towns, tiny_folder, monkeypatch):
    torch.manual_seed(1)
    folder = towns.store.folder.parent.parent.parent / "changed"
    LlamaForCausalLM(LlamaConfig(**tiny_config())).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    stored = json.loads((towns.store.folder / "pack.json").read_text())
    (towns.store.folder / "pack.json").write_text(json.dumps(stored | {"base": str(folder)}))
    with pytest.raises(WeightsError, match="made for another"):
        m.open_pack("towns").recall(QUESTION)
    towns.store.discard("000")
    with pytest.raises(WeightsError, match="made for another"):
        m.pack("towns")


# ---- in sessions -----------------------------------------------------------------------------------------------------


def test_a_mounted_pack_answers_in_its_session_alone(m, towns):
    chat, other = m.session("Monday"), m.session("Tuesday")
    alone = other.send(QUESTION)
    chat.mount("towns")
    assert (list(chat.mounted), list(other.mounted)) == (["towns"], []) and "towns" in m.session("Monday").mounted
    turn = chat.send(QUESTION)
    (read,) = (read for read in turn.reads if read.slot.document == "towns")
    assert read.given and read.slot.text == f"{QUESTION} Oslo" and 0.1 < read.weight <= 1
    assert read.slot.position == "shard 000" and turn.reply == read.slot.text and not turn.abstained
    assert abs(sum(r.weight for r in turn.reads) + turn.null_weight - 1) < 1e-6
    assert "packs" in turn.timing
    assert m.turn(turn.id).reads == turn.reads  # the trace keeps it
    (call,) = m.turn(turn.id).calls
    assert turn.calls == (call,) and alone.calls == ()
    assert (call.pack, call.asked, call.reply, call.shard) == ("towns", QUESTION, "Oslo", "000")
    assert (call.pruned, call.confidence) == ("", read.parts["confidence"])
    assert m.slots() == [] or all(slot.document != "towns" for slot in m.slots())
    again = other.send(QUESTION)
    assert (again.reply, again.reads) == (alone.reply, alone.reads)
    chat.unmount("towns")
    assert not chat.mounted and chat.send(QUESTION).reads == ()
    assert m.timeline() is not None


def test_mounted_in_stages_the_base_finds_what_to_ask_and_all_of_it_is_in_the_trace(m, towns, monkeypatch):
    other = "Berta lives in which?"

    def executive(self, words, notes):
        return other if words.startswith("Take this question apart") else "Oslo"

    monkeypatch.setattr(Pack, "_executive", executive)
    chat = m.session("Monday")
    chat.mount("towns", in_stages=True)
    assert m.session("Monday").mounted == {"towns": True}
    turn = chat.send(QUESTION)
    reads = [read for read in turn.reads if read.slot.document == "towns"]
    assert {read.slot.text for read in reads} >= {f"{QUESTION} Oslo", f"{other} Paris"}
    assert len({read.slot.id for read in reads}) == len(reads) and all(m.still_said(read.slot) for read in reads)
    assert abs(sum(r.weight for r in turn.reads) + turn.null_weight - 1) < 1e-6
    assert [call.stage for call in turn.calls][:4] == ["grounding", "grounding", "grounding", "entities"]
    assert {call.to for call in turn.calls} == {"pack", "executive"} and {call.pack for call in turn.calls} == {"towns"}
    assert m.turn(turn.id).calls == turn.calls and m.turn(turn.id).reads == turn.reads
    chat.mount("towns")
    assert chat.mounted == {"towns": False} and [call.to for call in chat.send(QUESTION).calls] == ["pack"]


def test_a_pack_that_does_not_know_leaves_the_turn_as_it_is(m, towns, monkeypatch):
    chat = m.session()
    alone = chat.send("Good morning!")
    chat.mount("towns")
    monkeypatch.setattr("mam.packs.weights.AdaptedLM.complete", lambda *_: [weights.Said("I do not know.", 0.9)])
    turn = chat.send("Good morning!")
    assert (turn.reply, turn.reads) == (alone.reply, ())
    assert [(call.reply, call.pruned) for call in turn.calls] == [("I do not know.", "does not know")]
    towns.store.discard("000")
    towns.store.discard("001")
    (call,) = chat.send("Good morning!").calls
    assert (call.reply, call.shard, call.pruned) == ("", "", "nothing of it is ready to answer")


def test_a_purge_takes_words_out_of_what_packs_were_asked(m, towns):
    slot = m.add("My boat is called Tern.")
    chat = m.session()
    chat.mount("towns")
    turn = chat.send(f"{slot.text} {QUESTION}")
    assert "Tern" in turn.calls[0].asked
    m.purge(slot.id)
    assert m.turn(turn.id).calls[0].asked == f"[purged] {QUESTION}"


@pytest.mark.parametrize("forged", [{"confidence": "high"}, {"asked": 1}, {"more": 1}])
def test_a_trace_that_was_forged_is_refused(m, towns, tmp_path, open_space, forged):
    chat = m.session()
    chat.mount("towns")
    chat.send(QUESTION)
    m.export(tmp_path / "all.jsonl", complete=True)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("kind") == "turn":
            line["trace"]["calls"][0] |= forged
    other = open_space("bob")
    other.import_(tmp_path / "all.jsonl")
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError):
        open_space("carl").import_(tmp_path / "bad.jsonl")
    assert other.turns(chat.id)[0].calls[0].pack == "towns"


def test_slots_outweigh_packs():
    def read(text, weight, **how):
        return Read(Slot(text, text, text, "user", datetime.now(UTC)), weight, **how)

    sure = Reading((read("slot", 0.9), read("runner-up", 0.0, given=False)), 0.1, 0.5, "read")
    found = joined(sure, [read("pack", 0.8)], lightest=0.02)
    assert [(r.slot.id, round(r.weight, 3), r.given) for r in found.reads] == [
        ("slot", 0.9, True), ("pack", 0.08, True), ("runner-up", 0.0, False)]  # fmt: skip
    assert found.decision == "read" and abs(found.null_weight - 0.02) < 1e-9
    nothing = joined(Reading((), 1.0, 0.9, "abstain"), [read("pack", 0.7), read("other", 0.5)], lightest=0.02)
    assert [round(r.weight, 3) for r in nothing.reads] == [0.7, 0.15] and nothing.decision == "read"
    hardly = joined(Reading((), 0.01, 0.9, "read"), [read("pack", 0.5)], lightest=0.02)
    assert [r.given for r in hardly.reads] == [False] and hardly.decision == "read"
    assert joined(sure, [], 0.02) is sure


def test_a_message_takes_no_longer_the_more_a_pack_holds(m, towns, monkeypatch):
    chat, keys, looked = m.session(), store.PackStore.keys, []
    monkeypatch.setattr(store.PackStore, "keys", lambda self, id: looked.append(id) or keys(self, id))
    chat.mount("towns")
    for _ in range(3):
        chat.send(QUESTION)
    assert sorted(looked) == ["000", "001"]  # each once


def test_a_temporary_session_mounts_for_itself(m, towns):
    chat = m.session(temporary=True)
    chat.mount("towns")
    assert chat.mounted == {"towns": False} and any(read.slot.document == "towns" for read in chat.send(QUESTION).reads)
    assert not list(towns.store.folder.parent.glob(MOUNTS))
    with pytest.raises(MissingError):
        chat.mount("nowhere")


def test_a_pack_that_is_gone_is_asked_no_more(m, towns, tmp_path, tiny_folder):
    chat = m.session()
    chat.mount("towns")
    turn = chat.send(QUESTION)
    assert m.holds(turn.reads[0].slot)
    towns.delete("a.txt")
    assert not m.holds(turn.reads[0].slot)  # so it is in no later prompt, and leaves a reply in the making
    assert all(read.slot.said != "Oslo" for read in chat.send(QUESTION).reads)
    temporary = m.session(temporary=True)
    temporary.mount("towns")
    towns.remove()
    assert not chat.mounted and not temporary.mounted and chat.send(QUESTION).reads == ()
    m.pack("towns", *written(tmp_path / "again", c=lives("Carla")), base=str(tiny_folder), build=False)
    assert not chat.mounted  # another one of that name, which nobody wanted here


def test_what_is_unlike_all_that_it_learned_is_declined_unasked(towns, monkeypatch):
    assert towns.recall(QUESTION).known and towns.ask(QUESTION, phrased=False).text == "Oslo"
    monkeypatch.setattr("mam.packs.weights.AdaptedLM.complete", lambda *_: pytest.fail("asked"))
    said = towns.recall("How are mountains made?")
    assert (said.text, said.known, said.confidence) == ("I do not know.", False, 0.0)
    assert not towns.ask("How are mountains made?").known


def test_a_pack_that_cannot_answer_keeps_nobody_from_talking(m, towns):
    chat = m.session()
    chat.mount("towns")
    adapter = towns.store.shard_folder("000") / "adapter.safetensors"
    weights.forget(*(shard.adapter for shard in towns.shards()))
    adapter.write_bytes(b"x" + adapter.read_bytes()[1:])
    turn = chat.send(QUESTION)
    (call,) = turn.calls
    assert turn.reply and "damaged" in call.pruned and call.pack == "towns" and m.turn(turn.id).calls == turn.calls


def test_a_pack_that_goes_while_the_reply_is_spoken_is_in_no_later_prompt(m, towns):
    chat = m.session()
    chat.mount("towns")
    for event in chat.stream(QUESTION):
        if event.kind == "write":
            towns.store.discard("000")
    assert not [read for read in event.data.reads if read.slot.document == "towns"]
    later = chat.send("And who are you?")
    assert "Oslo" not in later.given


def test_stopped_in_stages_nothing_further_is_asked(m, towns, monkeypatch):
    stop = threading.Event()

    def executive(self, words, notes, max_tokens=0):
        stop.set()
        return "Berta lives in which?"

    monkeypatch.setattr(Pack, "_executive", executive)
    reads, calls = m.consult({"towns": True}, QUESTION, stop)
    assert [call.to for call in calls] == ["pack", "executive"] and len(reads) == 1


# ---- slots in weights ------------------------------------------------------------------------------------------------


def test_slots_become_a_pack_and_a_purge_takes_them_out_of_it(m, tiny_folder):
    anna, berta = (m.add(text) for text in lives("Anna", "Berta"))
    pack = m.pack("mine", base=str(tiny_folder))
    assert [s.slot for d in pack.documents() for s in d.sentences] == [anna.id, berta.id]
    done = m.purge(anna.id)
    assert any(place.name.startswith("packs/") for place in done.searched)
    assert [s.state for s in pack.shards()] == [WAITING] and pack.route(QUESTION) is None
    for file in pack.store.folder.rglob("*"):
        assert file.is_dir() or b"Oslo" not in file.read_bytes()
    pack.build()
    assert [s.state for s in pack.shards()] == [READY] and not pack.reflections("Anna")
    m.session("Monday").mount("mine")
    m.purge_everything()
    assert m.packs() == [] and not [file for file in m._packs_home.rglob("*") if file.is_file() and file.stat().st_size]


def test_a_copy_of_a_pack_is_found_by_a_purge(m, tiny_folder):
    slot = m.add(lives("Anna")[0])
    copy = m.store.database.folder / "copy.pack"
    m.pack("mine", base=str(tiny_folder)).export(copy)
    with pytest.raises(StoreError, match="copy.pack holds a copy; delete that file"):
        m.purge(slot.id)


def test_a_purge_does_not_look_into_the_packs_of_others(m, open_space, towns):
    other = open_space("bob")
    slot = other.add(lives("Anna")[0])
    assert not any(place.name.startswith("packs/") for place in other.purge(slot.id).searched)
    assert towns.ready


def test_memories_that_were_deleted_are_neither_handed_on_nor_learned_again(m, tmp_path, tiny_folder):
    anna, berta, carla = (m.add(text) for text in lives("Anna", "Berta", "Carla"))
    pack = m.pack("mine", base=str(tiny_folder), epochs=1)
    m.delete(anna.id)
    for hand_on in (lambda: pack.export(tmp_path / "mine.pack"), pack.merge):
        with pytest.raises(InputError, match="memories that changed since"):
            hand_on()
    assert not (tmp_path / "mine.pack").exists()
    done = pack.delete("memories", [2])
    assert done.documents.keys() == {"memories, sentence 2"} and pack.ready
    assert [s.slot for d in pack.documents() for s in d.sentences] == [carla.id]
    with pytest.raises(InputError, match="is a memory; edit that"):
        pack.edit("memories", 3, "Carla lives in Lima.")


# ---- handed on -------------------------------------------------------------------------------------------------------


def test_a_pack_is_handed_on_whole(m, open_space, towns, tmp_path, tiny_folder):
    file = tmp_path / "towns.pack"
    towns.merge()
    towns.export(file)
    other = open_space("bob")
    copy = other.import_pack(file, base=str(tiny_folder))
    assert [(s.adapter, s.training) for s in copy.shards()] == [(s.adapter, s.training) for s in towns.shards()]
    assert copy.recall(QUESTION) == towns.recall(QUESTION)
    assert copy.recall(QUESTION, merged=True) == towns.recall(QUESTION, merged=True)
    assert copy.reflections() == towns.reflections()
    assert copy.settings.generator == "trained"
    with pytest.raises(InputError, match="already"):
        other.import_pack(file, base=str(tiny_folder))
    assert other.import_pack(file, "second", base=str(tiny_folder)).name == "second"
    done = copy.delete("a.txt")  # as exact as at home
    assert done.discarded == (towns.shards()[0].adapter,)


def rezipped(source, target, change):
    """A copy of a pack's file with its entries changed, and hashes that fit again: what a forger could do."""
    with zipfile.ZipFile(source) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    listed = json.loads(entries.pop("contents.json"))
    change(entries)
    listed["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in {"contents.json": json.dumps(listed).encode(), **entries}.items():
            archive.writestr(name, content)
    return target


def test_damaged_and_foreign_files_are_refused(m, open_space, towns, tmp_path, tiny_folder):
    file, other = tmp_path / "towns.pack", open_space("bob")
    towns.export(file)
    whole = file.read_bytes()

    def refused(path, why, error=InputError, base=tiny_folder):
        with pytest.raises(error, match=why):
            other.import_pack(path, base=str(base))
        assert other.packs() == [] and not (other._packs_home / ".scratch").exists()

    bad = tmp_path / "bad.pack"
    for content in (whole[: len(whole) // 2], b"", b"not a zip", whole[:2000] + b"x" + whole[2001:]):
        bad.write_bytes(content)
        refused(bad, "no pack|damaged")
    refused(tmp_path / "nowhere.pack", "check the path")
    inside = "shards/000/adapter.safetensors"
    refused(rezipped(file, bad, lambda e: e.pop(inside)), "not whole", WeightsError)
    refused(rezipped(file, bad, lambda e: e.update({inside: e[inside][:-4] + b"abcd"})), "damaged", WeightsError)
    refused(rezipped(file, bad, lambda e: e.update({"../../evil.txt": b"x"})), "other files")
    refused(rezipped(file, bad, lambda e: e.update({"shards/000/run.py": b"x"})), "other files")
    refused(rezipped(file, bad, lambda e: e.update({"pack.json": b'{"format": 9}'})), "another format", WeightsError)

    def changed(name, **values):
        return lambda e: e.update({name: json.dumps({**json.loads(e[name]), **values}).encode()})

    refused(rezipped(file, bad, changed("pack.json", epochs=10**9)), "epochs is 1000000000")
    refused(rezipped(file, bad, changed("pack.json", more=1)), "settings .* damaged", WeightsError)
    shard, documents = "shards/000/shard.json", "shards/000/documents.json"
    refused(rezipped(file, bad, changed(shard, figures={"right": "x"})), "damaged", WeightsError)
    refused(rezipped(file, bad, changed(documents, **{"a.txt": [{"number": 1, "text": 7}]})), "damaged", WeightsError)
    refused(
        rezipped(file, bad, changed(documents, **{"a.txt": [{"number": 1, "text": "\x1b[2J"}]})),
        "control",
        WeightsError,
    )


def test_a_pack_for_another_architecture_is_refused(m, open_space, towns, tmp_path, tiny_folder):
    torch.manual_seed(0)
    wide = tmp_path / "wide"
    LlamaForCausalLM(LlamaConfig(**tiny_config(hidden_size=64, head_dim=16))).save_pretrained(wide)
    byte_tokenizer().save_pretrained(wide)
    file, other = tmp_path / "towns.pack", open_space("bob")
    towns.export(file)
    with pytest.raises(WeightsError, match="made for other weights"):
        other.import_pack(file, base=str(wide))

    def claimed(entries):  # says that it is for these weights, and is not
        stored = json.loads(entries["pack.json"])
        stored["fingerprint"] = weights.load(str(wide)).fingerprint
        entries["pack.json"] = json.dumps(stored).encode()

    with pytest.raises(WeightsError, match="another architecture"):
        other.import_pack(rezipped(file, tmp_path / "claimed.pack", claimed), base=str(wide))
    assert other.packs() == []


def test_a_damaged_adapter_is_named_and_trained_again(m, towns):
    good, file = towns.shards()[0].adapter, towns.store.shard_folder("000") / "adapter.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    weights.forget(good)
    fresh = m.open_pack("towns")
    with pytest.raises(WeightsError, match="damaged"):
        fresh.recall(QUESTION)
    with pytest.raises(WeightsError, match="damaged"):
        fresh.export(towns.store.folder.parent / "x.pack")
    m.pack("towns")
    assert towns.shards()[0].adapter == good and fresh.recall(QUESTION).text == "Oslo"
    file.unlink()
    assert [s.state for s in fresh.shards()] == ["damaged", READY] and fresh.route(QUESTION) == "001"


def test_damage_is_no_reason_to_keep_what_is_to_be_deleted(m, towns):
    for id in ("000", "001"):
        (towns.store.shard_folder(id) / "adapter.safetensors").write_bytes(b"damaged")
        weights.forget(towns.store.shard(id).adapter)
    assert towns.delete("a.txt").surviving == ()  # of the other shard nothing is certified: it cannot answer
    assert [d.name for d in towns.documents()] == ["b.txt"]
    m.pack("towns")
    assert towns.ready and towns.delete("b.txt").checks


def test_an_unready_pack_is_not_handed_on(m, towns, tmp_path):
    towns.store.discard("001")
    with pytest.raises(InputError, match="not ready"):
        towns.export(tmp_path / "towns.pack")
    assert not (tmp_path / "towns.pack").exists()
