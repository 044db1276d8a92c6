"""The benchmarks can be trusted: they score as a reader would, can fail, and write whole files."""

from __future__ import annotations

import argparse
import gzip
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import Blind, Generous, Mute, RuleMemory

from mam import lives as generator
from mam.bench import (
    baselines,
    cli,
    common,
    edit,
    gate,
    growth,
    latency,
    noharm,
    page,
    prompts,
    readme,
    recall,
    scoring,
    serve,
    sets,
    store,
)
from mam.errors import InputError

FEW = common.Settings(limit=2, facts=8)


@pytest.mark.parametrize(
    "reply, value, right",
    [
        ("Your dog is called Rex.", "Rex", True),
        ("your dog is REX!", "Rex", True),
        ("Rex's bed is blue.", "Rex", True),
        ("He is called Rexford.", "Rex", False),
        ("You have 14 cats.", "4", False),
        ("She works as an architect.", "an architect", True),
        ("Architect.", "an architect", True),
        ("She drives to Lake Garda.", "on Lake Garda", True),
        ("She drives to Lake Como.", "on Lake Garda", False),
        ("It is on November 27th, 2026.", "27 November 2026", True),
        ("It is on the 27th of November 2026.", "27 November 2026", True),
        ("It is on 7 November 2026.", "27 November 2026", False),
        ("It is on 27 November 2025.", "27 November 2026", False),
        ("at half\n past  six", "half past six", True),
        ("", "Rex", False),
        ("anything", "", False),
    ],
)
def test_contains(reply, value, right):
    assert scoring.contains(reply, value) is right


def test_all_values_are_needed():
    assert scoring.contains_all("chess and rowing", ("rowing", "chess"))
    assert not scoring.contains_all("chess", ("rowing", "chess"))
    assert not scoring.contains_all("chess", ())


@pytest.mark.parametrize(
    "reply, said",
    [
        ("You haven't told me that.", True),
        ("I don't know your dog's name.", True),
        ("The notes do not mention a dog.", True),
        ("It was not mentioned.", True),
        ("Your dog is called Rex.", False),
        ("You told me it is blue.", False),
    ],
)
def test_untold(reply, said):
    assert scoring.untold(reply) is said


@pytest.mark.parametrize(
    "reply",
    [
        "You haven't told me that.",
        "You never mentioned it.",
        "It was not mentioned.",
        "Not mentioned in the conversation",
        "No information available",
        "I'm sorry, but I don't know what Ann cooked.",
        "The name of the dog isn't specified.",
        "The notes do not mention a dog.",
        "That's not known.",
        "Unknown.",
        "Her age is unknown.",
        "She likes tea. When she was born has never been explicitly stated.",
        "I don't have that information.",
    ],
)
def test_who_declines_says_that_it_is_not_known(reply):
    assert scoring.declines(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Caroline is not sure yet.",
        "I'm not sure. Blue?",
        "He did not say yes.",
        "Melanie was not given a chance.",
        "She met an unknown artist.",
        "They don't have any pets.",
        "She doesn't know how to swim.",
        "I don't know how to swim.",
        "He was not told about the party.",
        "She doesn't remember her dream.",
        "He never mentioned it to her.",
        "She is not known for her cooking.",
        "He cannot find his keys.",
        "You told me that it is blue.",
    ],
)
def test_who_answers_does_not_decline(reply):
    assert not scoring.declines(reply)


def test_nothing_measured_is_not_a_figure():
    assert scoring.share([]) is None
    assert scoring.f1(0, 0, 0) == {"precision": None, "recall": None, "f1": None}
    assert scoring.auc([], [1.0]) is None


def test_auc_counts_ties_half():
    random = np.random.default_rng(0)
    positive, negative = random.integers(0, 5, 40), random.integers(0, 4, 60)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert scoring.auc(positive, negative) == pytest.approx(np.mean(pairs), abs=1e-4)


def test_f1():
    assert scoring.f1(8, 2, 2) == {"precision": 0.8, "recall": 0.8, "f1": 0.8}


def test_json_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "results" / "recall.json"
    common.write_json(path, {"memory": 0.5})
    assert json.loads(path.read_text()) == {"memory": 0.5}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(common.os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        common.write_json(path, {"memory": 0.9})
    assert json.loads(path.read_text()) == {"memory": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["recall.json"]


def test_table_says_what_was_not_measured():
    text = common.table({"f1": 0.5, "locomo_auc": None, "part": {"x": scoring.spread([1.0, 3.0])}}, "gate")
    assert "not measured" in text and "part.x" in text and "0.5000" in text and "median" in text


def test_recall_tells_a_memory_from_a_blind_one(world, monkeypatch):
    monkeypatch.setattr(recall, "BASELINES", ("none",))
    seeing = recall.run(world, FEW)
    world.engine.memory = Blind()
    blind = recall.run(world, FEW)
    assert seeing["memory"] > 0 and seeing["reader_hit"] > 0
    assert blind["memory"] == blind["none"] == blind["reader_hit"] == 0
    assert blind["written"] == seeing["written"] > 0
    assert {"memory_date", "multi_slot", "baseline_prompts"} <= blind.keys()
    assert seeing["lost"].keys() == {"not_kept", "not_read", "integrating", "base"}
    assert blind["lost"]["not_read"] > 0 == blind["lost"]["integrating"] == blind["lost"]["base"]


def test_an_interrupted_recall_goes_on_with_the_next_life(world, monkeypatch, tmp_path):
    monkeypatch.setattr(recall, "BASELINES", ())
    settings, asked, lives = replace(FEW, lives=2, limit=None, json=tmp_path / "recall.json"), recall.asked, []

    def interrupted(world, life, minilm):
        if len(lives) == 1:
            lives.append(None)
            raise KeyboardInterrupt
        lives.append(life.seed)
        return asked(world, life, minilm)

    monkeypatch.setattr(recall, "asked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recall.run(world, settings)
    results = recall.run(world, settings)
    assert lives == [0, None, 1]
    assert results["questions"] == recall.run(world, replace(settings, json=None))["questions"] > 6
    monkeypatch.setattr(common, "_sha256", lambda file: "another")  # code or weights: measured anew
    recall.run(world, settings)
    assert lives[-2:] == [0, 1]


def test_what_the_base_can_say_from_a_prompt_was_not_lost_in_it(world, monkeypatch):
    monkeypatch.setattr(recall, "BASELINES", ())
    monkeypatch.setattr(common, "MAX_TOKENS", 1)  # no reply holds a value
    before = recall.run(world, FEW)
    monkeypatch.setattr(baselines, "answers", lambda base, lists, *_: [said[-1]["content"] for said in lists])
    lost = recall.run(world, FEW)["lost"]
    assert before["lost"]["base"] > 0 == before["lost"]["integrating"]
    assert lost["integrating"] == before["lost"]["base"] and lost["base"] == 0


def test_edit_follows_the_slots(world):
    world.engine.memory = Generous()
    results = edit.run(world, FEW)
    assert results["counts"]["edited"] > 0 and results["counts"]["deleted"] > 0
    assert results["edited_old"] == results["deleted_old"] == 0
    assert results["edited_new"] > 0.5


def test_noharm_tells_a_careful_memory_from_one_that_always_abstains(world):
    careful = noharm.run(world, FEW)
    world.engine.memory = Mute()
    mute = noharm.run(world, FEW)
    assert careful["nothing_read"] > mute["nothing_read"] == 0
    assert careful["identical"] == 1 and mute["identical"] is None
    assert mute["abstained"] == mute["false_abstained"] == 1


def test_labels_and_candidates_are_aligned():
    """A gate that knew the labels would score almost perfectly: the splitting hides no fact."""
    life = common.life(common.Settings(), 0)
    worth = [s.text for session in life.sessions for said in session.utterances for s in said.sentences if s.keep]

    class Knowing(RuleMemory):
        def gate(self, candidates, hidden, context_hidden):
            return [float(any(c.said in text or text in c.said for text in worth)) for c in candidates]

    results = gate.held_out(SimpleNamespace(memory=Knowing()), common.Settings(limit=1))
    assert results["f1"] > 0.95


def test_locomo_is_read_as_published(tmp_path):
    turns = [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I moved to my new flat."},
        {"speaker": "Bob", "dia_id": "D1:2", "text": "Nice!"},
    ]
    talk = {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns}
    question = {"question": "Where?", "answer": "a flat", "category": 4, "evidence": ["D1:1"]}
    samples = [{"conversation": talk, "qa": [question]}]
    with gzip.open(tmp_path / sets.LOCOMO, "wt") as file:
        json.dump(samples, file)
    results = gate.locomo(RuleMemory(), tmp_path, common.Settings())
    assert results == {"locomo_auc": 1.0, "locomo_turns": {"evidence": 1, "other": 1}}


@pytest.mark.parametrize("name", ["prompt_bm25", "prompt_minilm"])
def test_retrieval_hands_over_what_was_said(name):
    life = common.life(FEW, 0)
    fact = next(fact for fact in life.facts if fact.replaces is None)
    choice = prompts.Choice("in_user", 8, best_last=True)
    ((message,),) = baselines.message_lists(name, baselines.Told.in_life(life), [fact.text], RuleMemory(), choice)
    lines = message["content"].split("\n")[1:9]
    assert len(lines) == 8 and all(line.startswith("- [") for line in lines)
    assert scoring.contains(lines[-1], fact.value)


def test_a_batch_says_what_each_prompt_says_alone(tiny_base):
    base = tiny_base
    shared = base.prompt([{"role": "user", "content": "notes " * 9}])
    ids = [shared + base.tokenizer(text)["input_ids"] for text in ("a", "something longer", "b c")]
    alone = [base.decode(list(base.generate(row, max_tokens=12))).strip() for row in ids]
    assert baselines.complete(base, ids, 12) == alone
    assert baselines.complete(base, ids[:1], 12) == alone[:1]


def test_a_history_too_long_loses_its_oldest_notes(tiny_base):
    notes = [f"[1 May 2025] note number {i}" for i in range(60)]
    text = tiny_base.decode(baselines.cut(tiny_base, prompts.in_user(notes, "Where do I live?"), 700))
    assert "Where do I live?" in text and "number 59" in text and "number 0\n" not in text


def test_a_limited_run_says_so(world, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(common.World, "load", lambda *_, **__: world)
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    file = tmp_path / "gate.json"
    cli.run(parser.parse_args(["gate", "--limit", "1", "--json", str(file)]))
    content = json.loads(file.read_text())
    assert {"name", "base", "memory", "results", "machine", "seconds", "settings", "date"} <= content.keys()
    assert content["settings"]["limited"] is True and content["results"]["locomo_auc"] is None
    assert "LIMITED" in capsys.readouterr().out
    with pytest.raises(InputError, match="--lives"):
        cli.run(parser.parse_args(["gate", "--lives", "0"]))


def test_general_prompts_are_many_and_new():
    asked = noharm.general_prompts(common.Settings())
    assert len(asked) == len(set(asked)) == 300
    assert not set(asked) & set(generator.general_prompts("train") + generator.commands("train"))


def test_the_page_is_measured_in_a_browser(world):
    """Every figure is a time that passed: the bench waits for what it says, or fails."""
    found = page.run(world, common.Settings(limit=2))
    assert set(found["spread"]) == {
        "interactive_s", "edit_ms", "delete_ms", "inspector_beside_ms", "inspector_ms", "heat_map_ms", "map_2_s"
    }  # fmt: skip
    assert all(0 < spread["median"] <= spread["p95"] for spread in found["spread"].values())
    assert found["heat_map_ms"] >= found["inspector_ms"]


def test_the_store_is_measured_at_every_size(world, monkeypatch):
    monkeypatch.setattr(store, "SIZES", (20, 60))
    monkeypatch.setattr(store, "TIMES", 3)
    results = store.run(world, common.Settings())
    assert results["slots"] == 60 and list(results["growth"]) == ["20", "60"]
    for name in ("open_s", "first_read_s", "page_ms", "edit_ms", "add_ms", "purge_s", "purge_checked_s", "peak_mib"):
        assert results[name] > 0 and results[name] == results["growth"]["60"][name]
    assert list(store.run(world, common.Settings(limit=5))["growth"]) == ["5"]


def test_latency_measures_every_condition(world):
    world.engine.memory = Generous()
    results = latency.run(world, common.Settings(limit=2, facts=8))
    assert results["slots"]["100"] >= 100
    assert {
        "base_alone",
        "prompt_retrieval",
        "prompt_whole_history",
        "memory_100_read_cold",
        "memory_100_read_warm",
    } <= results["conditions"].keys()
    assert results["decode_ratio"] > 0 and results["loop_vs_generate"] > 0
    assert results["ttft_ratio_10000"] is None  # a limited run holds no 10,000 slots, and says nothing about them
    assert list(results["context"]) == ["500", "1000", "2000"] and results["ttft_4000_ratio"] is None
    assert results["memory_mib"].keys() == results["slots"].keys() == {"0", "100", "1000"}
    for name, way in [*results["conditions"].items(), *results["context"]["500"].items()]:
        assert "nothing_read" in name or way["memory_mib"] >= 0  # this memory always reads
        assert "device_mib" not in way  # a CPU has no memory of its own
    assert results["peak_mib"] > 100


def test_memory_of_a_reply_is_that_of_one_that_came_out_as_it_should(world, monkeypatch):
    asked = []

    def way(times, question, general):
        asked.append(question)
        return "abstained" if question == "one" else None

    talk = latency.Talk(None, ["one", "two"], ["hello"], [])
    assert latency.reply_memory(world, way, talk, 5)["memory_mib"] >= 0 and asked == ["one", "two"]
    assert latency.reply_memory(world, way, talk, 1) == {}


def test_peak_memory_is_that_of_what_is_gone_again():
    with common.peak_memory() as found:
        np.ones(64 << 20, dtype=np.uint8)[0] += 1
        time.sleep(0.1)
        block = np.ones(64 << 20, dtype=np.uint8)
        time.sleep(0.1)
        del block
    assert 60 <= found["grown"] < 200 and found["peak"] > found["grown"] and common.mib(found).keys() == {"memory_mib"}


def test_peak_memory_of_a_gpu_is_what_torch_counts(monkeypatch):
    reset = []
    monkeypatch.setattr(common.torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(common.torch.cuda, "max_memory_allocated", lambda device: 700 << 20)
    device = common.torch.device("cuda", 0)
    with common.peak_memory(device) as found:
        assert reset == [device]
    assert found["device"] == 700 and common.mib(found) == {"memory_mib": found["grown"], "device_mib": 700}


def test_a_memory_of_any_size_finds_what_a_look_at_all_its_keys_finds(world, tmp_path):
    """The way to 1,000,000 slots, with fewer: encoded fillers first, then random keys written past the encoder."""
    life = common.life(FEW, 0)
    texts = latency.filler(40, common.Settings())
    keys = world.memory.keys(world.memory.encode(texts))
    latency.fill(tmp_path, world, 6_000, life, texts, keys)  # more than are written, and listed, at once
    with world.open(tmp_path) as space:
        slots = space.slots()
        assert len(slots) == space.count() == len(space.index) == 6_000
        stored = space.store.keys([slot.id for slot in slots], world.memory.fingerprint)
        matrix = np.stack([np.frombuffer(stored[slot.id], dtype="<f4") for slot in slots])
        for row in (0, 60, 5_999):
            similar = matrix @ matrix[row]
            found = space.index.nearest(matrix[row], 8)
            assert found[0][0].id == slots[row].id
            assert np.allclose([cosine for _, cosine in found], np.sort(similar)[::-1][:8], atol=1e-5)
            assert all(np.isclose(similar[[s.id for s in slots].index(slot.id)], c, atol=1e-5) for slot, c in found)
        assert set(texts) < {slot.text for slot in slots}
        assert space.read(texts[3], 8).reads[0].slot.text == texts[3]


def test_a_long_history_stays_out_of_the_prompt(world, monkeypatch):
    world.engine.memory = Generous()
    monkeypatch.setattr(growth, "SIZES", (500, 4000))
    results = growth.contexts(world, common.Settings(limit=4, facts=8))
    short, long = (results["context"][size] for size in ("500", "4000"))
    tokens = {way: long[way]["context_tokens"]["median"] for way in growth.WAYS}
    assert 3500 < tokens["whole_history"] < 4400 and short["whole_history"]["context_tokens"]["median"] < 900
    assert tokens["base_alone"] < tokens["memory_cold"] == tokens["memory_warm"] < tokens["whole_history"] / 2
    assert all(
        long[way]["seconds_to_first_token"]["median"] > 0 and long[way]["memory_mib"] >= 0 for way in growth.WAYS
    )
    assert results["ttft_4000_ratio"] > 0 and results["ttft_4000_ratio_warm"] > 0


def test_a_shorter_history_begins_a_longer_one(world):
    short, long = (growth.history(world.base, common.Settings(facts=8), tokens) for tokens in (600, 5000))
    said = [[said.text for session in life.sessions for said in session.utterances] for life in (short, long)]
    assert 0 < len(said[0]) < len(said[1]) and said[1][: len(said[0])] == said[0]
    assert set(growth.questions(short)) <= {question.text for question in short.questions}


def test_serving_measures_one_and_many(world, monkeypatch):
    monkeypatch.setattr(serve, "REPLY", 12)
    del world.base.generate  # the base's own, which a batch does not go around
    results = serve.run(world, common.Settings(limit=3))
    assert results["clients"] == 3 and results["replies"] == 3 * serve.ASKED and results["batched"]
    assert results["batching_gain"] > 0 and results["identical"] == 1
    assert set(results["tokens_per_second"]) == {"one", "many", "many_in_turns"} and world.engine.batch is None


def test_the_readme_says_what_was_measured():
    text = (readme.ROOT / "README.md").read_text("utf-8")
    assert text.count(readme.BEGIN) == text.count(readme.END) == 1
    assert readme.filled(text) == text, "run python -m mam.bench.readme"
    for file in readme.RESULTS.rglob("*.json"):
        content = json.loads(file.read_text("utf-8"))
        assert content["name"] == file.stem and not content["settings"]["limited"]
        assert content["settings"]["lives"] >= 200


def test_the_readme_names_every_benchmark():
    text = (readme.ROOT / "README.md").read_text("utf-8")
    assert not [name for name in cli.BENCHES if f"`{name}`" not in text]
    for name, keys in readme.FIGURES.items():
        assert name in cli.BENCHES and keys


def shipped(base: str = "smollm2-135m") -> str:
    return common.digest(common.weights(base, common.SHIPPED))


def test_tables_are_made_from_the_files(tmp_path):
    (tmp_path / "gate.json").write_text(json.dumps({"results": {"f1": 0.9641, "locomo_auc": None}}))
    table = readme.tables(tmp_path)
    assert r"| `gate`\* | write gate, F1 of what is kept | 0.964 | ≥ 0.92 |" in table and "recall" not in table
    assert r"\* Measured with earlier weights" in table
    (tmp_path / "gate.json").write_text(json.dumps({"results": {"f1": 0.9641}, "weights": shipped()}))
    assert "| `gate` | write gate" in (table := readme.tables(tmp_path)) and "earlier weights" not in table
    assert readme.tables(tmp_path / "none") == ""


def test_figures_inside_figures_are_found(tmp_path):
    seconds = {size: {"answer": {"median": 0.5 + int(size) / 10}} for size in ("1", "20")}
    (tmp_path / "packs.json").write_text(json.dumps({"results": {"pack": 21.34, "seconds": seconds, "building": 3}}))
    table = readme.tables(tmp_path)
    assert "closed book: F1 | 21.3 |" in table and "of one story, s | 0.6 |" in table
    assert "of 20 stories | 2.5 |" in table and "of 5 stories | – |" in table and "2,000 words | – |" in table


def test_what_is_no_full_run():
    assert common.Settings().lacks == "" and common.Settings(lives=300).lacks == ""
    assert common.Settings(limit=2).lacks == "at most 2 of everything"
    assert common.Settings(lives=3, seed=17).lacks == "3 lives instead of 200, lives from seed 17 on"


def test_a_limited_run_stays_out_of_the_tables(tmp_path):
    content = {"results": {"f1": 0.9641}, "settings": {"limited": True}}
    (tmp_path / "gate.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"gate.json is of a limited run"):
        readme.tables(tmp_path)


def test_another_base_stands_beside_the_first(tmp_path):
    def write(folder, base: str, share: float) -> None:
        asked = dict.fromkeys(readme.ASKED, share)
        details = {"memory_details": asked, "baseline_details": dict.fromkeys(readme.WAYS, asked)}
        about = {"base": base, "weights": shipped(base)}
        (folder / "recall.json").write_text(json.dumps({**about, "results": details}))
        (folder / "noharm.json").write_text(json.dumps({**about, "results": {"identical": share}}))

    write(tmp_path, "one", 0.5)
    alone = readme.tables(tmp_path)
    assert alone.startswith("| `recall`: the reply") and "| measured | goal |" in alone and "token | 0.5 |" in alone
    (tmp_path / "other").mkdir()
    assert readme.tables(tmp_path) == alone
    write(tmp_path / "other", "two", 0.75)
    (tmp_path / "other" / "noharm.json").unlink()
    table = readme.tables(tmp_path)
    assert shipped() != shipped("one") == shipped("two")  # which have no attachment
    assert "| `recall`, one: the reply" in table and "| `recall`, two: the reply" in table
    assert "| what | one | two | goal |" in table and "token for token | 0.5 | – | 1.0 |" in table
