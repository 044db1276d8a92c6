"""Packs: the benchmark, and the training of the generator, on a tiny base and files of a few lines."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from packing import Template, lives

import mam.cli
from mam.bench import cli, common, packs, prompts, sets
from mam.errors import InputError
from mam.packs import build, training
from mam.packs.generators import ASKS, Trained
from mam.packs.pack import Pack
from mam.packs.values import Pair
from mam.packs.weights import AdaptedLM, load
from mam.train import generator
from mam.train.data import Passage


def packed(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))


@pytest.fixture
def data(tmp_path):
    """Stories of two sentences, with a question about the first."""
    told, asked = [], []
    for story, names in (("one", ("Anna", "Berta")), ("two", ("Carla", "Dora"))):
        told.append({"story": story, "sections": [{"section": "1", "text": "\n\n".join(lives(*names))}]})
        asked.append({"story": story, "sections": ["1"], "question": f"{names[0]} lives in which?",
                      "answers": [lives(names[0])[0].split()[-1]], "kind": "explicit"})  # fmt: skip
    for part in ("val", "train"):
        packed(tmp_path / f"stories_fairytale_{part}.jsonl.gz", told)
        packed(tmp_path / f"qa_fairytale_{part}.jsonl.gz", asked)
    return tmp_path


def test_the_benchmark_has_every_key_and_resumes(world, data, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "open_generator", lambda *_: Template())
    monkeypatch.setattr(training, "LEAST", 1)
    settings = common.Settings(data=data, json=tmp_path / "packs.json")
    results = packs.run(world, settings)
    assert {"pack", "base", "slots", "prompt_bm25", "gold", "pack_plus_slots", "deleted_f1"} <= results.keys()
    assert results["questions"] == 2 and results["stages"]["questions"] == 2
    assert results["slots"] > 0 and results["gold"] is not None
    assert set(results["seconds"]) == {"1", "2"} and results["seconds"]["2"]["shards"] == 2
    assert all(one["answer"]["median"] > 0 for one in results["seconds"].values())
    assert [one["seed"] for one in results["deletion"]] == [0, 1]
    assert all(one["identical"] == 1 for one in results["deletion"])
    assert results["deleted_f1"] == results["never_f1"]
    assert results["building"]["minutes_for_2000_words"]["n"] == 2
    merging = results["merging"]
    assert merging["questions"] == 2 and merging["shards"] == results["pack_alone"]
    assert all(0 <= merging[method] <= 100 for method in ("linear", "ties", "dare"))
    left = common.parts("packs", world, settings)
    assert left.path.is_file() and left.folder.is_dir()  # hours of training: kept until the results are written
    assert results["prompts"]["base"] in prompts.CLOSED
    monkeypatch.setattr(packs, "_asked", lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr(packs, "_deleted", lambda *_: results["deletion"][0])
    assert packs.run(world, settings)["pack"] == results["pack"]
    left.finish(None)
    assert not left.path.exists() and not left.folder.exists()
    with pytest.raises(InputError, match="two stories"):
        packs.run(world, replace(settings, limit=1))
    assert cli.BENCHES["packs"] is not None


def test_one_shard_is_not_merged(monkeypatch):
    story = sets.Document("one", "Anna lives in Oslo.", (sets.Question("Who?", ("Oslo",), "explicit", (0, 19)),))
    monkeypatch.setattr(packs, "_f1", lambda *_, **how: 1.0)
    pack = SimpleNamespace(shards=lambda: [None], merge=lambda _: pytest.fail("merged"))
    found = packs._merged(pack, [story])
    assert found == {"questions": 1, "shards": 1.0, "linear": None, "ties": None, "dare": None}


def test_every_way_of_prompting_gets_the_form_that_serves_it_best(world, monkeypatch):
    story = sets.Document(
        "one", "Anna lives in Oslo. She has a cat.", (sets.Question("Who?", ("Oslo",), "explicit", (0, 19)),)
    )
    best = {"base": prompts.CLOSED["closed"], "gold": prompts.READING["text_two_shot"]}
    section, sentences = ["Anna lives in Oslo."], ["Anna lives in Oslo.", "She has a cat."]
    right = [
        best["base"]((), "Who?"), best["gold"](section, "Who?"),
        prompts.READING["text_two_shot"](sentences[::-1], "Who?"),
    ]  # fmt: skip
    monkeypatch.setattr(packs.baselines, "retrieved", lambda *args: [[1, 0][: args[-1]]])
    monkeypatch.setattr(
        packs.baselines, "answers", lambda base, lists, most: ["Oslo" if one in right else "a" for one in lists]
    )
    found = packs._tuned(world, [story], 1)
    chosen = {way: choice["form"] for way, choice in found["choices"].items()}
    assert chosen == {"base": "closed", "gold": "text_two_shot", "prompt_bm25": "text_two_shot"}
    assert found["tried"]["base"]["closed"] == 100 > found["tried"]["base"]["bare"]


def test_a_run_that_was_interrupted_knows_what_was_known_before_the_deletion(world, data, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "open_generator", lambda *_: Template())
    monkeypatch.setattr(training, "LEAST", 1)
    monkeypatch.setattr(packs, "SEEDS", 1)
    for part in ("_asked", "_merged"):  # what the others see to
        monkeypatch.setattr(packs, part, lambda *_: {"questions": []})
    settings, delete = common.Settings(data=data, json=tmp_path / "packs.json"), Pack.delete

    def interrupted(self, *args, **how):
        delete(self, *args, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pack, "delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packs.run(world, settings)
    monkeypatch.setattr(Pack, "delete", delete)
    results = packs.run(world, settings)
    assert all(one["before_f1"] is not None and one["identical"] == 1 for one in results["deletion"])


# ---- the generator ---------------------------------------------------------------------------------------------------

MILL = Passage(
    ("Edgar Vane built the mill .", "It stands on the Lune."),
    (("Who built the mill?", 0, "Edgar Vane"), ("Whose mill is it?", 0, "Edgar Vane"), ("Is it big?", 0, "mill"),
     ("Where does the mill stand?", 1, "the Lune"), ("Where does it stand?", 1, "the Lune")),
)  # fmt: skip
DENSE = Passage(
    ("A fox slept in the den at noon .",),
    (("Who slept?", 0, "A fox"), ("Where did the fox sleep?", 0, "the den"), ("When did the fox sleep?", 0, "noon"),
     ("Which animal slept?", 0, "A fox")),
)  # fmt: skip


def test_lessons_stand_alone_and_have_the_sentence_that_they_lean_on():
    taught = generator.lessons([MILL], "x", 100)
    assert {(x.text, x.ask, x.pair) for x in taught} == {
        ("Edgar Vane built the mill.", "who", Pair("Who built the mill?", "Edgar Vane")),
        ("Edgar Vane built the mill. It stands on the Lune.", "where", Pair("Where does the mill stand?", "the Lune")),
    }


def test_it_learns_where_nothing_can_be_asked():
    taught = generator.lessons([DENSE] * 10, "x", 1000)
    none = [lesson for lesson in taught if lesson.pair is None]
    assert {lesson.ask for lesson in none} <= set(ASKS) - {"who", "where", "when", "what"} and none
    assert len(none) == int(generator.NONES * 40) and len(taught) == 48
    assert len(generator.lessons([DENSE] * 10, "x", 16)) == 16
    assert generator.lessons([DENSE] * 10, "x", 16) == generator.lessons([DENSE] * 10, "x", 16)


def test_a_generator_is_trained_and_used(tmp_path, tiny_folder, monkeypatch):
    # no question of the sets that packs are measured on decides anything
    monkeypatch.setattr(generator, "passages", lambda folder, split: {"train": [MILL, DENSE] * 8}[split])
    torch.set_num_threads(1)
    how = {"base": str(tiny_folder), "out": tmp_path / "out", "run": tmp_path / "run"}
    figures = generator.train_generator(tmp_path, steps=3, **how)
    assert figures["loss"] > 0 and (tmp_path / "out" / "generator.csv").exists()
    made = Trained(load(str(tiny_folder)), tmp_path / "out")
    assert isinstance(made.facts("Edgar Vane built the mill."), list)  # nothing sensible after three steps
    again = Trained(AdaptedLM(str(tiny_folder)), tmp_path / "out")
    assert again.id == made.id and again.facts("A fox slept.") == made.facts("A fox slept.")
    asked = ["pack", "generator", "--data", str(tmp_path), "--base", str(tiny_folder), "--out", str(tmp_path / "out")]
    assert mam.cli.main([*asked, "--run", str(tmp_path / "run"), "--steps", "4"]) == 0  # goes on where it was
    assert json.loads((tmp_path / "out" / "generator.json").read_text())["steps"] == 4
    assert "of 4. On held-out passages" in (tmp_path / "out" / "README.md").read_text()
    monkeypatch.setattr(generator, "passages", lambda folder, split: [DENSE] * 16)
    with pytest.raises(InputError, match="another set of data"):
        generator.train_generator(tmp_path, steps=5, **how)
    with pytest.raises(InputError, match="at least 1"):
        generator.train_generator(tmp_path, steps=0, **how)
