"""Packs: programs that are killed, full disks, damage, forgery, and others who do something at the same time."""

# ruff: noqa: F811

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import Blind
from packing import Template, document, lives, written
from safetensors.torch import load, save
from test_packs import A, B, adapters, assert_equal, engine, made  # noqa: F401
from test_packs_shelf import QUESTION, rezipped, towns  # noqa: F401
from test_packs_text import GERMAN

from mam import cli
from mam.errors import ConflictError, EndpointError, InputError, MissingError, StoreError, WeightsError
from mam.packs import build, store, training, verify, weights
from mam.packs.memo import Memo
from mam.packs.pack import Pack
from mam.packs.reflect import Reflector
from mam.packs.store import PackStore
from mam.packs.values import READY, WAITING, Pair

MOVES = ("replace", "unlink", "rmdir")  # what changes a file for all others, in one step


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(build, "open_generator", lambda *_: Template())
    monkeypatch.setattr(training, "LEAST", 1)
    for few in ("EVALUATED", "DECLINED"):  # how well it learned is nothing that is looked at here
        monkeypatch.setattr(build, few, 1)
    monkeypatch.setattr(store.Settings.__init__, "__defaults__", (*store.Settings.__init__.__defaults__[:-1], 2e-2))


def killed_at(move: int, act) -> bool:
    """Do it in a program that dies right before its move of this number; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        made = 0

        def dying(before):
            def step(*args, **how):
                nonlocal made
                made += 1
                if made == move:
                    os._exit(9)
                return before(*args, **how)

            return step

        for name in MOVES:
            setattr(Path, name, dying(getattr(Path, name)))
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


# ---- killed ----------------------------------------------------------------------------------------------------------


def test_killed_at_any_point_a_build_goes_on_and_comes_out_the_same(made, monkeypatch):
    monkeypatch.setattr(build, "CHECKPOINT", 1)
    whole, begun = made("whole", A, epochs=3), made("begun", A, epochs=3)
    shutil.rmtree(begun.store.folder / "shards")
    for move in range(1, 100):  # each time a little further
        if not killed_at(move, lambda: begun.build([A], generator=Template())):
            break
        assert [shard.state for shard in begun.shards()] in ([], [WAITING], [READY])
        if move % 9 == 0:
            shutil.rmtree(begun.store.folder / "shards")
    assert move > 10 and begun.ready
    assert_equal(adapters(begun)["000"], adapters(whole)["000"])
    curves = (begun.store.shard_folder("000") / "training.csv").read_text()
    assert curves == (whole.store.shard_folder("000") / "training.csv").read_text()


def test_a_checkpoint_is_whole_or_the_one_before(made, monkeypatch):
    monkeypatch.setattr(build, "CHECKPOINT", 1)
    whole = made("whole", A, epochs=3)
    for move in range(20):
        begun = made("begun", A, epochs=3)
        begun.store.discard("000")
        assert killed_at(10 + move, lambda pack=begun: pack.build(generator=Template()))
        begun.build(generator=Template())
        assert_equal(adapters(begun)["000"], adapters(whole)["000"])


def test_killed_at_any_point_a_deletion_is_repeated_and_leaves_nothing(made, tmp_path):
    for documents, never in (((A, B), made("never", A)), ((B,), None)):
        pack = made("towns", *documents)
        shutil.copytree(pack.store.folder, tmp_path / "kept")
        for move in range(1, 100):
            stop = threading.Event()
            stop.set()

            def delete(pack=pack, stop=stop):
                pack.delete("b.txt", generator=Template(), stop=stop)

            dead = killed_at(move, delete)
            if "b.txt" in [d.name for d in pack.documents()]:
                pack.delete("b.txt", generator=Template())
            pack.build(generator=Template())
            assert [shard.state for shard in pack.shards()] == [READY] * bool(never)
            if never:
                assert_equal(adapters(pack)["000"], adapters(never)["000"])
            for file in pack.store.folder.rglob("*"):
                assert file.is_dir() or b"Carla" not in file.read_bytes()
            if not dead:
                break
            shutil.rmtree(pack.store.folder)
            shutil.copytree(tmp_path / "kept", pack.store.folder)
        assert move > 8
        pack.remove()
        shutil.rmtree(tmp_path / "kept")


def test_killed_at_any_point_a_pack_is_there_or_not(m, tmp_path, tiny_folder):
    (path,) = written(tmp_path / "text", a=lives("Anna"))
    for move in range(1, 20):
        dead = killed_at(move, lambda: m.pack("one", path, base=str(tiny_folder), build=False))
        if not dead:
            break
        assert m.packs() == [] or [d.name for d in m.open_pack("one").documents()] == ["a.txt"]
    for move in range(1, 20):
        dead = killed_at(move, lambda: m.open_pack("one").remove())
        if not dead:
            break
        assert [d.name for pack in m.packs() for d in pack.documents()] in ([], ["a.txt"])
        m.pack("one", path, base=str(tiny_folder), build=False)
    assert m.packs() == [] and not (m._packs_home / ".scratch").exists()


def test_what_somebody_was_writing_when_killed_goes_with_the_rest(made):
    pack = made("towns", A, B)
    folder = pack.store.shard_folder("000")
    for half in (folder / "adapter.safetensors.part", folder / "memo.jsonl.part", folder.parent.parent / "merged.part"):
        half.write_bytes(b"half of what it learned")
    pack.delete("b.txt", generator=Template())
    assert not list(pack.store.folder.rglob("*.part"))


# ---- disks and damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [100, 2_000, 20_000, 60_000])  # bytes: documents, memo, checkpoint, adapter
def test_a_full_disk_is_told_in_a_line_and_loses_nothing(made, room, monkeypatch):
    monkeypatch.setattr(build, "CHECKPOINT", 1)
    whole, pack = made("whole", A, B), made("towns", A, B)
    shutil.rmtree(pack.store.folder / "shards")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))  # no file may be larger
    try:
        with pytest.raises(StoreError, match="could not be written|cannot be used"):
            pack.build([A, B], generator=Template())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [shard.state for shard in pack.shards()] in ([], [WAITING])
    pack.build([A, B], generator=Template())
    assert_equal(adapters(pack)["000"], adapters(whole)["000"])


def test_damaged_reflections_are_made_again_and_no_reason_to_keep_a_text(made):
    pack = made("towns", A, B)
    file, good = pack.store.shard_folder("000") / "reflections.json", pack.shards()[0].adapter
    whole = json.loads(file.read_text())
    for damage in ("{", json.dumps({"reflections": whole["reflections"][:1]})):
        file.write_text(damage)
        pack.build(generator=Template())
        assert json.loads(file.read_text()) == whole and pack.shards()[0].adapter == good
    file.write_text("{")
    pack.delete("b.txt", generator=Template())
    assert [d.name for d in pack.documents()] == ["a.txt"] and pack.ready


def test_a_damaged_pack_hides_no_other_and_can_be_removed(m, towns, tmp_path, tiny_folder, monkeypatch, capsys):
    m.pack("whole", *written(tmp_path / "text", c=lives("Carla")), base=str(tiny_folder), build=False)
    (towns.store.shard_folder("000") / "documents.json").write_text("{")
    monkeypatch.setattr("mam.engine.engine", lambda *_: m.engine)
    assert cli.main(["pack", "list", "--user", "ann", "--path", str(m.store.database.folder)]) == 0
    out = capsys.readouterr().out
    assert "towns  damaged" in out and "whole  1 documents" in out
    towns.remove()
    assert [pack.name for pack in m.packs()] == ["whole"]


def test_an_executive_that_fails_leaves_what_was_verified(made, monkeypatch):
    asked = []

    def fails(*_):
        raise EndpointError("openai:some@http://localhost cannot be reached.")

    def failing(engine, together, *_):
        asked.append(together[0].question)
        return fails() if len(asked) == 2 else verify.answered(engine, together, *_)

    monkeypatch.setattr(build, "answered", failing)
    with pytest.raises(EndpointError):
        made("towns", A)
    made("towns", A)
    assert len(asked) > 2 and asked[0] not in asked[1:]
    pack = made("sure", A, epochs=60)
    monkeypatch.setattr("mam.packs.pack.spoken", fails)
    with pytest.raises(EndpointError):
        pack.ask("Anna lives in which?")
    assert pack.ask("Anna lives in which?", phrased=False).text == "Oslo"


def test_what_a_generator_says_can_be_shown_and_is_short(tmp_path):
    class Wild(Template):
        def facts(self, text):
            wild = Pair("Anna \x1b[2J lives\tin\nwhich?", "Os\ud800lo\x00")
            return [wild, Pair("Anna lives in which?", "Oslo " * 1000), Pair("Who? " * 1000, "Anna")]

    memo = Memo(tmp_path / "memo.jsonl")
    found = Reflector(Wild, lambda asked, _: ["Os\x07lo\ud800"] * len(asked), memo).of_shard(
        [document("a.txt", *lives("Anna"))]
    )
    texts = [text for r in found for text in (r.question, r.answer, r.reply)]
    assert all(text.isprintable() and len(text) <= 1000 for text in texts)
    assert "Anna [2J lives in which?" in texts and not any("Oslo Oslo" in text for text in texts)


# ---- at the same time ------------------------------------------------------------------------------------------------


def test_who_forgets_does_not_wait_for_who_answers_and_waits_for_it(tiny_folder):
    lm, inside = weights.load(str(tiny_folder)), threading.Event()
    with lm.lock:
        other = threading.Thread(target=lambda: (inside.set(), weights.forget("0" * 64)), daemon=True)
        other.start()
        inside.wait()
        again = threading.Thread(target=weights.load, args=(str(tiny_folder),), daemon=True)
        again.start()
        again.join(5)
        assert not again.is_alive()  # whoever answers loads while it has the lock
    other.join(5)
    assert not other.is_alive()


def test_who_comes_second_takes_nothing_from_who_was_first(m, tmp_path, tiny_folder, monkeypatch):
    (path,) = written(tmp_path / "text", a=lives("Anna"))
    (tmp_path / "german.txt").write_text(GERMAN)
    changing, first = PackStore.changing, []

    def later(self):
        if not first:
            first.append(True)
            m.pack("towns", path, base=str(tiny_folder), build=False)
        return changing(self)

    monkeypatch.setattr(PackStore, "changing", later)
    with pytest.raises(InputError, match="English"):
        m.pack("towns", tmp_path / "german.txt", base=str(tiny_folder))
    assert [d.name for d in m.open_pack("towns").documents()] == ["a.txt"]


def test_a_pack_that_changes_while_it_is_asked_says_nothing(m, towns, monkeypatch):
    chat, nearest = m.session(), Pack._nearest
    chat.mount("towns")

    def discarded(self, question):
        found = nearest(self, question)
        self.store.discard(found[1])
        return found

    monkeypatch.setattr(Pack, "_nearest", discarded)
    assert chat.send(QUESTION).reads == ()
    monkeypatch.setattr(Pack, "_nearest", lambda self, question: (1.0, self.remove()))
    assert chat.send(QUESTION).reads == () and m.packs() == []


def test_what_old_weights_said_is_never_taken_for_what_new_ones_say(m, towns, tmp_path, tiny_folder):
    said = towns.recall(QUESTION)
    assert m.still_said(towns.slot(QUESTION, said))
    m.pack("towns", *written(tmp_path / "text", a=lives("Emma")))  # the same document, with another text
    assert towns.ready and not m.still_said(towns.slot(QUESTION, said))


def test_a_pack_is_removed_or_unmounted_while_a_turn_reads_from_it(m, towns):
    for act in (lambda chat: chat.unmount("towns"), lambda chat: towns.remove()):
        chat = m.session()
        chat.mount("towns")
        events = chat.stream(QUESTION)
        assert next(events).data[0].slot.document == "towns"
        act(chat)
        *_, last = events
        assert last.data.text == QUESTION and not chat.mounted
    assert last.data.reads == ()


def test_names_that_files_of_packs_have(m, tmp_path, tiny_folder):
    paths = written(tmp_path / "text", a=lives("Anna"))
    for name in ("mounted.json", "mounted", "packs", "ä b-c.d"):
        pack = m.pack(name, *paths, base=str(tiny_folder), build=False)
        with pack.store.changing():
            m.session("Monday").mount(name)
    assert len(m.session("Monday").mounted) == len(m.packs()) == 4
    shutil.copytree(pack.store.folder, m._packs_home / "copy (1)")  # by hand: no pack, and in nobody's way
    assert len(m.packs()) == 4
    for name in ("𝒳" * 64, "a" * 65, "..", ".x", "a/b", "a\\b", "a\n", "\0", ""):
        with pytest.raises(InputError, match="name of a pack"):
            m.pack(name, *paths, base=str(tiny_folder))


def test_nothing_is_unmounted_where_there_are_no_packs(m):
    m.session().unmount("towns")
    assert m.packs() == []


# ---- slots -----------------------------------------------------------------------------------------------------------


def test_a_pack_of_slots_says_nothing_that_was_edited_or_deleted(m, tiny_folder):
    anna, berta = (m.add(text) for text in lives("Anna", "Berta"))
    pack, chat = m.pack("mine", base=str(tiny_folder), epochs=60), m.session()
    chat.mount("mine")
    turn = chat.send(QUESTION)
    (read,) = (read for read in turn.reads if read.slot.document == "mine")
    m.delete(berta.id)  # nobody can say which of the two it took
    assert pack.route(QUESTION) is None and not pack.ready and not m.holds(read.slot)
    assert all(read.slot.document != "mine" for read in chat.send(QUESTION).reads)
    m.restore(berta.id)
    assert pack.ready and m.holds(read.slot)
    m.edit(anna.id, "Anna lives in Rome.")
    assert not pack.ready
    m.pack("mine")
    assert pack.ready and [s.text for d in pack.documents() for s in d.sentences] == ["Anna lives in Rome.", berta.text]
    assert b"Oslo" not in b"".join(file.read_bytes() for file in pack.store.folder.rglob("*") if file.is_file())
    m.edit(berta.id, "Berta lives in Lima.")
    pack.build()  # the same, by its own button
    assert pack.ready and [s.text for d in pack.documents() for s in d.sentences][1] == "Berta lives in Lima."
    m.delete(anna.id), m.delete(berta.id)
    with pytest.raises(InputError, match="no text"):
        m.pack("mine")
    assert pack.shards() == []


def test_the_packs_of_a_user_on_one_server_are_not_those_on_another(m, monkeypatch):
    homes, database = {m._packs_home}, m.store.database
    monkeypatch.setattr(database, "shared", True)
    for address in ("postgresql://one/mam", "postgresql://two/mam"):
        monkeypatch.setattr(type(database), "place", address)
        homes.add(m._packs_home)
    assert len(homes) == 3


def test_a_purge_takes_a_text_out_of_packs_of_documents_too(m, tmp_path, tiny_folder):
    texts = [*lives("Anna"), "She keeps goats.", "Berta lives in Paris."]
    pack = m.pack("story", *written(tmp_path / "text", a=texts), base=str(tiny_folder))
    across = m.add(" ".join(texts[:2]))
    m.purge(across.id)
    assert [s.text for d in pack.documents() for s in d.sentences] == texts[2:]
    assert [s.state for s in pack.shards()] == [WAITING]


def test_a_purge_waits_for_no_pack_that_it_does_not_concern(m, towns):
    slot, other = m.add("My dog is called Rex."), m.add(lives("Anna")[0])
    with towns.store.changing():
        assert m.purge(slot.id).slots == (slot.id,)
        with pytest.raises(ConflictError):
            m.purge(other.id)
        assert m.slot(other.id) == other
    m.purge(other.id)
    assert [d.name for d in towns.documents()] == ["b.txt"]


def test_a_purged_conversation_is_mounted_no_more(m, towns):
    chat = m.session()
    chat.mount("towns")
    m.purge_session(chat.id)
    assert not m.mounted(chat.id) and chat.id not in (m._packs_home / ".mounted.json").read_text()


def test_no_text_stays_in_the_cache_of_blocks(m, towns):
    chat = m.session()
    chat.mount("towns")
    chat.send(QUESTION)
    towns.ask(QUESTION)
    assert not [text for text in m.engine.integrator._blocks if "Anna" in text or "Oslo" in text]


def test_nothing_learned_stays_in_a_memory_lm(m, towns, tiny_folder):
    lm = weights.load(str(tiny_folder), "cpu")
    towns.merge()
    names = [weights.adapter_name(towns.recall(QUESTION, merged=merged).adapter) for merged in (False, True)]
    assert all(map(lm.holds, names))
    towns.delete("a.txt")
    assert not any(map(lm.holds, names))
    towns.recall("Berta lives in which?")
    (name,) = (weights.adapter_name(shard.adapter) for shard in towns.shards())
    assert lm.holds(name)
    towns.remove()
    assert not lm.holds(name)


# ---- from elsewhere --------------------------------------------------------------------------------------------------


def test_forged_files_are_refused(m, open_space, towns, tmp_path, tiny_folder):
    file, bad, other = tmp_path / "towns.pack", tmp_path / "bad.pack", open_space("bob")
    towns.export(file)
    shard, reflections = "shards/000/shard.json", "shards/000/reflections.json"
    stored, asked = (json.loads((towns.store.folder / name).read_text()) for name in (shard, reflections))
    victim = towns.shards()[1].adapter

    def refused(why, change):
        rezipped(file, bad, change)
        with pytest.raises((WeightsError, InputError), match=why):
            other.import_pack(bad, base=str(tiny_folder))
        assert other.packs() == []

    def told(**values):
        return lambda entries: entries.update({shard: json.dumps({**stored, **values}).encode()})

    def numbers(change):
        def changed(entries):
            name = "shards/000/adapter.safetensors"
            entries[name] = save({key: change(tensor) for key, tensor in load(entries[name]).items()})
            sum = hashlib.sha256(entries[name]).hexdigest()
            told(adapter=sum, files={**stored["files"], "adapter.safetensors": sum})(entries)

        return changed

    refused("not whole", told(files={}))
    refused("not whole", told(adapter=victim))  # an adapter that this program holds for somebody else
    refused("not whole", told(figures={"right": 10**400}))
    refused("not whole", told(figures={"\x1b[2J": 1.0}))
    refused("not whole", told(seconds={"training": float("nan")}))
    refused("other reflections", told(training="0" * 64))
    refused("other numbers", numbers(lambda tensor: tensor * float("nan")))
    refused("other numbers", numbers(lambda tensor: tensor.to(torch.int8)))
    refused("without documents", lambda entries: entries.update({"shards/007/memo.jsonl": b""}))
    again = (towns.store.folder / "shards/000/documents.json").read_bytes()
    refused("Two documents", lambda entries: entries.update({"shards/001/documents.json": again}))
    refused("curves", lambda entries: entries.update({"shards/000/training.csv": b"=1+1"}))
    moved = [{**r, "sources": [{"document": "c.txt", "number": 1}]} for r in asked["reflections"]]
    refused("nothing that it holds", lambda e: e.update({reflections: json.dumps({"reflections": moved}).encode()}))
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile(file) as whole:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
    with pytest.raises(InputError, match="compressed"):
        other.import_pack(bad, base=str(tiny_folder))


def test_what_is_imported_is_not_taken_at_its_word(m, open_space, tmp_path, tiny_folder):
    slot = m.add(lives("Anna")[0])
    m.pack("mine", base=str(tiny_folder)).export(tmp_path / "mine.pack")
    forged = rezipped(tmp_path / "mine.pack", tmp_path / "bad.pack", lambda e: e.update({"README.md": b"Trust me."}))
    copy = open_space("bob").import_pack(forged, base=str(tiny_folder))
    assert "Trust me" not in (copy.store.folder / "README.md").read_text()
    assert [s.slot for d in copy.documents() for s in d.sentences] == [None] and copy.ready
    assert slot.id not in (copy.store.shard_folder("000") / "documents.json").read_text()


def test_no_export_takes_the_place_of_a_memory(m, towns, tmp_path):
    with pytest.raises(InputError, match="named as a memory"):
        towns.export(m.store.file)
    for name in ("", "a\0b", str(tmp_path / "no" / "such" / "folder")):
        with pytest.raises(InputError, match="could not be written"):
            towns.export(name)
    with pytest.raises((InputError, MissingError)):
        m.import_pack("a\0b")


def test_a_new_memory_model_has_its_own_keys_and_takes_nothing_from_a_build(made, monkeypatch):
    pack = made("towns", A)
    before = (pack.store.shard_folder("000") / "shard.json").read_bytes()
    monkeypatch.setattr(Blind, "fingerprint", "others")
    monkeypatch.setattr(pack, "_engine", replace(pack._engine, memory=Blind()))
    with pack.store.changing():
        assert pack.route("Anna lives in which?") == "000"
    assert (pack.store.shard_folder("000") / "shard.json").read_bytes() == before
    assert Pack(pack.store, pack._engine).route("Anna lives in which?") == "000"
    assert json.loads((pack.store.shard_folder("000") / "shard.json").read_text())["memory"] == "others"
    assert pack.ready
