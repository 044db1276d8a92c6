"""Packs: building, answering, deleting exactly, merging and handing on, on a tiny base."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from fakes import Echo
from packing import Template, document, lives

from mam.errors import ConflictError, EndpointError, InputError, MissingError, StoreError
from mam.packs import build, training, weights
from mam.packs.build import Paused
from mam.packs.pack import Pack
from mam.packs.store import PackStore, Settings, document_hash
from mam.packs.values import READY, UNKNOWN, WAITING

A, B, C = (document(f"{n}.txt", *lives(*names)) for n, names in (("a", ("Anna", "Berta")), ("b", ("Carla", "Dora")),
                                                               ("c", ("Emma", "Frida"))))  # fmt: skip


@pytest.fixture(scope="module")
def engine(tiny_folder):
    """A tiny base that says the slots it is given, with a memory of rules."""
    from fakes import rule_engine

    torch.set_num_threads(1)
    engine = rule_engine(tiny_folder)
    Echo(engine)
    return engine


@pytest.fixture
def made(tmp_path, engine, tiny_folder, monkeypatch):
    """Makes packs of documents: `made(name, *documents, **settings)`."""
    monkeypatch.setattr(training, "LEAST", 1)

    def make(name: str, *documents, how=None, **settings) -> Pack:
        store = PackStore(tmp_path / "packs", name)
        if not store.exists:
            fingerprint = weights.load(str(tiny_folder)).fingerprint
            values = {"shard": 2, "epochs": 3, "rate": 1e-2} | settings
            store.set_settings(Settings(str(tiny_folder), fingerprint, "template", **values))
        pack = Pack(store, engine)
        pack.build(documents, **{"generator": Template()} | (how or {}))
        return pack

    return make


def adapters(pack: Pack) -> dict[str, dict[str, torch.Tensor]]:
    return {id: pack.store.adapter(id) for id in pack.store.shard_ids()}


def assert_equal(one: dict, other: dict) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def stopped() -> threading.Event:
    """Pauses at the first chance."""
    stop = threading.Event()
    stop.set()
    return stop


# ---- building ------------------------------------------------------------------------------------------------------


def test_a_pack_is_built_and_says_what_it_was_made_of(made, engine):
    before = engine.base.weights_hash()
    told = []
    pack = made("towns", A, B, C, how={"progress": lambda *step: told.append(step)})
    shards = pack.shards()
    assert [(s.id, s.state, list(s.documents)) for s in shards] == [
        ("000", READY, ["a.txt", "b.txt"]), ("001", READY, ["c.txt"])]  # fmt: skip
    assert shards[0].documents["a.txt"] == document_hash(A)
    assert {r.kind for r in pack.reflections(kept=True)} >= {"direct", "cross-document", "unanswerable"}
    assert all(r.sources for r in pack.reflections(kept=True) if r.kind != UNKNOWN)
    assert [r.answer for r in pack.reflections("Anna lives in which", kind="direct")] == ["Oslo"]
    assert {what for what, _, _ in told} >= {"reflecting 000", "training 001", "evaluating 001"}
    assert all(done <= total for _, done, total in told)
    assert engine.base.weights_hash() == before
    card = (pack.store.folder / "README.md").read_text()
    assert "c.txt" in card and shards[1].training[:16] in card
    assert pack.estimate() == 0 and pack.ready


def test_each_shard_depends_on_its_own_documents_alone(made):
    together, alone = made("together", A, B, C), made("alone", C)
    assert_equal(adapters(together)["001"], adapters(alone)["000"])
    assert together.shards()[1].training == alone.shards()[0].training


def test_a_seed_is_another_pack_and_the_same_seed_the_same(made):
    one, again, other = made("one", A), made("again", A), made("other", A, seed=1)
    assert_equal(adapters(one)["000"], adapters(again)["000"])
    assert one.shards()[0].adapter != other.shards()[0].adapter


def test_few_examples_are_learned_in_as_many_steps_as_it_takes():
    assert training.steps_of(1000, 3) == 375 and training.steps_of(3, 3) == training.LEAST
    epoch = training.batches([5, 9] * 50, "seed 0")
    assert sorted(i for batch in epoch for i in batch) == list(range(100)) and max(map(len, epoch)) == training.ROWS
    assert epoch == training.batches([5, 9] * 50, "seed 0") != training.batches([5, 9] * 50, "seed 1")


def test_an_interrupted_build_goes_on_and_comes_out_the_same(made, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "CHECKPOINT", 1)
    whole = made("whole", A, B, epochs=4)
    stops = [
        ("reflecting 000", 1),
        ("reflecting 000", 3),
        ("training 000", 0),
        ("training 000", 2),
        ("evaluating 000", 1),
    ]
    for what, at in stops:
        stop = threading.Event()

        def progress(now, done, total, what=what, at=at, stop=stop):
            if now == what and done == at:
                stop.set()

        with pytest.raises(Paused, match="--name 'begun'"):
            made("begun", A, B, epochs=4, how={"progress": progress, "stop": stop})
        pack = Pack(PackStore(tmp_path / "packs", "begun"), whole._engine)
        assert [s.state for s in pack.shards()] == [WAITING] and pack.route("Who lives in Oslo?") is None
        assert not pack.ask("Who lives in Oslo?").known
    generator = Template()
    pack.build(generator=generator)
    assert generator.asked == []  # all of it was written before
    assert_equal(adapters(pack)["000"], adapters(whole)["000"])
    assert not (pack.store.shard_folder("000") / "training").exists()
    assert "train,answer" in (pack.store.shard_folder("000") / "training.csv").read_text()


def test_a_generator_that_fails_is_asked_only_for_the_rest(made, tmp_path, engine):
    class Failing(Template):
        def facts(self, text):
            if len(self.asked) == 2:
                raise EndpointError("openai:some@http://localhost cannot be reached.")
            return super().facts(text)

    failing, generator = Failing(), Template()
    with pytest.raises(EndpointError):
        made("towns", A, B, how={"generator": failing})
    made("towns", A, B, how={"generator": generator})
    assert failing.asked == lives("Anna", "Berta") and generator.asked == lives("Carla", "Dora")


def test_nobody_else_changes_a_pack_that_is_being_built(made):
    pack = made("towns", A)
    with pack.store.changing(), pytest.raises(ConflictError, match="being built"):
        Pack(pack.store, pack._engine).delete("a.txt")


def test_what_cannot_be_verified_is_kept_apart_and_nothing_is_no_pack(made, tmp_path, engine):
    with pytest.raises(InputError, match="No question about odd.txt"):
        made("odd", document("odd.txt", "Nothing that the generator understands."))
    with pytest.raises(InputError, match="No question about odd.txt"):
        made("mixed", document("odd.txt", "Nothing that the generator understands."), A, B, shard=1)
    assert [s.state for s in Pack(PackStore(tmp_path / "packs", "mixed"), engine).shards()] == [WAITING, READY, READY]
    pack = made("half", document("half.txt", "Anna lives in Oslo.", "She keeps goats."))
    assert not [r for r in pack.reflections(kept=True) if "She" in r.question]
    repaired = pack.reflections("Anna keeps which")
    assert [s.number for r in repaired for s in r.sources] == [1, 2] * len(repaired)


def test_a_changed_document_takes_the_place_of_what_it_was(made):
    pack = made("towns", A, B)
    changed = document("b.txt", *lives("Emma"))
    made("towns", A, changed)
    assert_equal(adapters(pack)["000"], adapters(made("fresh", A, changed))["000"])
    assert "Carla" not in (pack.store.shard_folder("000") / "memo.jsonl").read_text()


# ---- answering -----------------------------------------------------------------------------------------------------


def test_what_it_learned_is_answered_from_the_weights(made):
    pack = made("towns", A, epochs=60, rate=2e-2)
    answer = pack.ask("Anna lives in which?", phrased=False)
    assert answer.known and answer.text == "Oslo" and answer.shard == "000"
    assert pack.shards()[0].figures["right"] > 0.5
    phrased = pack.ask("Anna lives in which?")
    assert phrased.text == "Anna lives in which? Oslo"  # this executive repeats the notes that it is given
    assert [call.to for call in phrased.calls] == ["pack", "executive"]


def test_questions_are_routed_to_the_shard_that_was_asked_about(made):
    pack = made("towns", A, B, C)
    assert [pack.route(f"{name} lives in which?") for name in ("Anna", "Dora", "Frida")] == ["000", "000", "001"]
    assert pack.recall("Frida lives in which?").shard == "001"


def test_an_empty_question_is_refused(made):
    with pytest.raises(InputError, match="nothing in this question"):
        made("towns", A).ask("  ")


# ---- deleting ------------------------------------------------------------------------------------------------------


def test_a_deleted_document_leaves_the_weights_bit_for_bit(made):
    pack, never = made("towns", A, B, C), made("never", A, C, shard=1)
    before = {shard.id: shard.adapter for shard in pack.shards()}
    told = []
    done = pack.delete("b.txt", generator=Template(), progress=lambda *step: told.append(step[0]))
    assert_equal(adapters(pack)["000"], adapters(never)["000"])
    assert pack.shards()[1].adapter == before["001"]  # untouched
    assert not any("001" in what for what in told)
    assert done.discarded == (before["000"],)
    assert done.documents == {"b.txt": document_hash(B)}
    assert [(e.shard, e.training, e.adapter) for e in done.surviving] == [
        (s.id, s.training, s.adapter) for s in pack.shards()]  # fmt: skip
    assert not any(document_hash(B) in e.documents.values() for e in done.surviving)
    assert done.reflections > 0 and {c.slot for c in done.checks} and len(done.searched) > 5
    for file in pack.store.folder.rglob("*"):
        assert file.is_dir() or b"Carla" not in file.read_bytes()


def test_a_deleted_sentence_leaves_the_weights_bit_for_bit(made):
    pack = made("towns", A, B)
    pack.delete("a.txt", [2], generator=Template())
    never = made("never", replace(A, sentences=A.sentences[:1]), B)
    assert_equal(adapters(pack)["000"], adapters(never)["000"])
    assert not pack.reflections("Berta") and not pack.reflections("Paris")


def test_an_edited_sentence_leaves_the_weights_bit_for_bit(made):
    pack, now = made("towns", A, B, C), "Berta lives in Rome."
    (old, other), told = (shard.adapter for shard in pack.shards()), []
    done = pack.edit("a.txt", 2, f"  {now} ", generator=Template(), progress=lambda *step: told.append(step[0]))
    never = made("never", replace(A, sentences=(A.sentences[0], replace(A.sentences[1], text=now))), B)
    assert_equal(adapters(pack)["000"], adapters(never)["000"])
    assert pack.shards()[1].adapter == other and not any("001" in what for what in told)
    assert done.discarded == (old,) and done.reflections > 0 and done.checks and not done.waiting
    assert pack.reflections("Rome") and not pack.reflections("Paris")
    for file in pack.store.folder.rglob("*"):
        assert file.is_dir() or b"Paris" not in file.read_bytes()


def test_an_edit_that_was_interrupted_is_gone_on_with(made):
    pack = made("towns", A, B)
    with pytest.raises(Paused):
        pack.edit("a.txt", 2, "Berta lives in Rome.", generator=Template(), stop=stopped())
    assert [s.state for s in pack.shards()] == [WAITING] and [done.waiting for done in pack.certificates()] == [True]
    pack.build(generator=Template())
    assert pack.reflections("Rome") and not pack.reflections("Paris")
    assert [done.waiting for done in pack.certificates()] == [False]


@pytest.mark.parametrize("where, words, why", [
    (("a.txt", 2), " \n ", "nothing in this sentence"),
    (("a.txt", 2), "word " * 200, "at most 600 characters, this one 999"),
    (("a.txt", 2), "Berta lives in Paris.", "says already"),
    (("a.txt", 9), "Berta lives in Rome.", "no sentence 9"),
    (("c.txt", 1), "Berta lives in Rome.", "no document 'c.txt'"),
])  # fmt: skip
def test_an_edit_that_cannot_be_leaves_everything_as_it_was(made, where, words, why):
    pack = made("towns", A, B)
    before = pack.shards()
    with pytest.raises(InputError, match=why):
        pack.edit(*where, words, generator=Template())
    assert pack.shards() == before and pack.certificates() == []


def test_a_shard_answers_nothing_until_it_is_trained_anew(made):
    pack = made("towns", A, B)
    with pytest.raises(Paused):
        pack.delete("b.txt", generator=Template(), stop=stopped())
    assert [s.state for s in pack.shards()] == [WAITING]
    assert pack.route("Anna lives in which?") is None and not pack.recall("Anna lives in which?").known
    assert not (pack.store.shard_folder("000") / "adapter.safetensors").exists()
    pack.build(generator=Template())
    assert_equal(adapters(pack)["000"], adapters(made("never", A))["000"])


def test_a_deletion_that_was_interrupted_has_its_certificate(made, tmp_path, engine):
    pack = made("towns", A, B, C)
    old, other = (shard.adapter for shard in pack.shards())
    with pytest.raises(Paused):
        pack.delete("b.txt", generator=Template(), stop=stopped())
    (done,) = Pack(PackStore(tmp_path / "packs", "towns"), engine).certificates()
    assert done.waiting and done.says.startswith("Shard 000 answers nothing until it is trained anew without it")
    assert list(done.documents.values()) == [document_hash(B)] and done.discarded == (old,) and done.reflections > 0
    assert [(one.shard, one.adapter) for one in done.surviving] == [("001", other)]
    assert "shards/000/documents.json" in [file.name for file in done.searched]
    kept = (pack.store.folder / "deletions.json").read_text()
    assert "Carla" not in kept and ".txt" not in kept
    (pack.store.folder / "deletions.json").write_text("{")
    assert pack.certificates() == []  # damage to it is no damage to the pack


def test_its_certificate_says_when_the_shard_answers_again(made, tmp_path, engine):
    pack = made("towns", A, B)
    with pytest.raises(Paused):
        pack.delete("b.txt", generator=Template(), stop=stopped())
    pack.build(generator=Template())
    (done,) = Pack(PackStore(tmp_path / "packs", "towns"), engine).certificates()
    assert not done.waiting and "answered nothing until it was trained anew without it" in done.says
    (shard,) = pack.shards()
    assert [(one.training, one.adapter) for one in done.surviving] == [(shard.training, shard.adapter)]
    whole = pack.delete("a.txt", [1], generator=Template())
    assert whole.says == done.says and whole.documents.keys() == {"a.txt, sentence 1"} and whole.checks
    assert [len(one.checks) for one in pack.certificates()] == [0, len(whole.checks)]
    pack.delete("a.txt", [2], stop=stopped())  # the last one: nothing is left to train
    assert pack.certificates()[-1].says == "Nothing is left of what shard 000 had learned."


def test_what_is_taken_up_meanwhile_is_in_no_certificate(made):
    pack = made("towns", A, B)
    with pytest.raises(Paused):
        pack.delete("b.txt", generator=Template(), stop=stopped())
    made("towns", document("a.txt", *lives("Carla")))  # what was deleted, in another document of the shard
    (done,) = pack.certificates()
    assert pack.ready and not done.waiting and done.surviving == ()


def test_a_copy_that_somebody_made_is_told(made):
    pack = made("towns", A, B)
    (pack.store.folder / "copy.txt").write_text(lives("Carla")[0])
    with pytest.raises(StoreError, match=r"copy.txt holds a copy; delete that file, then build"):
        pack.delete("b.txt", generator=Template())
    assert pack.certificates() == [] and pack.route("Anna lives in which?") is None


@pytest.mark.parametrize("said", ["I do not know.", '"I do not know."', "Questions", "sources", "a.txt", "answer"])
def test_words_that_every_pack_holds_are_no_copy(made, said):
    pack = made("towns", document("a.txt", *lives("Anna", "Berta"), said))
    assert not pack.delete("a.txt", [3], generator=Template()).waiting


def test_damage_elsewhere_does_not_keep_a_deletion_from_its_certificate(made):
    pack = made("towns", A, B, C)
    other = pack.store.shard_folder("001") / "adapter.safetensors"
    other.write_bytes(b"x" + other.read_bytes()[1:])
    done = pack.delete("b.txt", generator=Template())
    assert not done.waiting and [one.shard for one in done.surviving] == ["000"]


def test_an_edit_brings_in_no_signs_that_no_file_would(made):
    pack = made("towns", A, B)
    pack.edit("a.txt", 2, "Berta\x07lives in\ud800 \ufeff Rome.", generator=Template())
    (told,) = (d for d in pack.documents() if d.name == "a.txt")
    assert not set(told.sentences[1].text) & {"\x07", "\ud800", "\ufeff"} and "Rome" in told.sentences[1].text


def test_the_last_document_takes_its_shard_with_it(made):
    pack = made("towns", A, B, C)
    done = pack.delete("c.txt", generator=Template())
    assert done.says == "Nothing is left of what shard 001 had learned." and pack.certificates()[0].says == done.says
    assert [s.id for s in pack.shards()] == ["000"] and [e.shard for e in done.surviving] == ["000"]
    assert not pack.store.shard_folder("001").exists()


def test_what_is_not_there_cannot_be_deleted(made):
    pack = made("towns", A)
    with pytest.raises(MissingError, match="no document 'x.txt'"):
        pack.delete("x.txt")
    with pytest.raises(MissingError, match="no sentence 9"):
        pack.delete("a.txt", [1, 9])
    assert pack.ready


def test_the_memory_lm_is_asked_three_ways(made):
    pack = made("towns", A, C, epochs=60, rate=2e-2)
    done = pack.delete("c.txt", generator=Template())
    assert done.checks and all(check.passed for check in done.checks)
    assert max(check.full for check in done.checks) > 0.5 > max(check.deleted for check in done.checks)


# ---- merging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["linear", "ties", "dare"])
def test_shards_are_merged_and_stay(made, method):
    pack = made("towns", A, B, C)
    before = {shard.id: shard.adapter for shard in pack.shards()}
    with pytest.raises(InputError, match="merge it first"):
        pack.recall("Anna lives in which?", merged=True)
    assert "deletion discards" in pack.merge(method)
    first = pack.store.merged()["adapter"]
    assert pack.recall("Anna lives in which?", merged=True).shard == "merged"
    assert {shard.id: shard.adapter for shard in pack.shards()} == before
    pack.merge(method)
    assert pack.store.merged()["adapter"] == first
    pack.delete("c.txt", generator=Template())
    assert pack.store.merged() is None and not (pack.store.folder / "merged.safetensors").exists()


def test_what_cannot_be_merged(made):
    with pytest.raises(InputError, match="two can be merged"):
        made("one", A).merge()
    with pytest.raises(InputError, match="choose one of linear, ties, dare"):
        made("towns", A, B, C).merge("average")
