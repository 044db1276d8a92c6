"""The benchmarks on real text: public files read as published, good memories told from bad ones, runs that resume."""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time

import datasets
import numpy as np
import pytest
from fakes import Blind, Generous, Mute

from mam.bench import baselines, cli, common, locomo, longtext, metrics, reading, report, sets
from mam.bench.parts import Parts
from mam.errors import InputError

TALK = {
    "session_1_date_time": "1:56 pm on 8 May, 2023",
    "session_1": [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I adopted a greyhound in Lisbon."},
        {"speaker": "Bob", "dia_id": "D1:2", "text": "Nice!", "blip_caption": "a photo of my violin"},
    ],
    "session_2_date_time": "9:05 am on 1 June, 2023",
    "session_2": [
        {"speaker": "Bob", "dia_id": "D2:1", "text": "We moved to Oslo yesterday."},
        {"speaker": "Ann", "dia_id": "D2:2", "text": "Ok."},
    ],
    "session_3_date_time": "9:05 am on 2 June, 2023",  # as published: a time without a session
}
QUESTIONS = [
    {"question": "What greyhound did Ann adopt?", "answer": "a greyhound", "category": 4, "evidence": ["D1:1"]},
    {"question": "Which moved to Oslo, greyhound?", "answer": "Oslo", "category": 1, "evidence": ["D1:1; D2:1", "D"]},
    {"question": "What does Ann say to Oslo?", "answer": 2023, "category": 2, "evidence": ["D2:2"]},
    {"question": "Who sang in Lisbon?", "adversarial_answer": "Bob", "category": 5, "evidence": ["D1:1"]},
]


def packed(path, content, lines=False):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, content)) if lines else json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    """A data folder with a little of everything."""
    packed(tmp_path / sets.LOCOMO, [{"sample_id": "conv-1", "conversation": TALK, "qa": QUESTIONS}])
    text = "The Lune is a river. We know that Edgar Vane built the mill.\n"
    at = text.index("Edgar")
    row = {"context": text, "question": "Who built the mill?", "answers": [{"text": "Edgar Vane", "start": at}]}
    for part in ("wiki", "reddit"):
        packed(tmp_path / f"qa_squadshifts_{part}.jsonl.gz", [row], lines=True)
    section = {"section": "1", "text": "A fox went to\rthe well.\n\nIt was afraid\nof the hens."}
    asked = {"story": "fox", "sections": ["1"], "question": "What did it fear?", "answers": ["the hens"], "kind": "x"}
    for part in ("val", "train"):
        packed(tmp_path / f"stories_fairytale_{part}.jsonl.gz", [{"story": "fox", "sections": [section]}], lines=True)
        packed(tmp_path / f"qa_fairytale_{part}.jsonl.gz", [asked], lines=True)
    return tmp_path


# ---- files -----------------------------------------------------------------------------------------------------------


def test_locomo_as_published(folder):
    (talk,) = sets.locomo(folder)
    assert [turn.id for turn in talk.turns] == ["D1:1", "D1:2", "D2:1", "D2:2"]
    assert talk.turns[1].text == "Nice! I am showing a photo of my violin."
    assert f"{talk.turns[2].at:%Y-%m-%d %H:%M}" == "2023-06-01 09:05"
    assert [question.evidence for question in talk.questions] == [("D1:1",), ("D1:1", "D2:1"), ("D2:2",), ("D1:1",)]
    assert talk.questions[2].answer == "2023" and talk.questions[3].answer == ""


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo"])
def test_locomo_is_told_at_the_same_hour_everywhere(folder, world, monkeypatch, zone):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        (talk,) = sets.locomo(folder)
        with world.space() as space:
            locomo.tell(space, talk)
            times = {
                f"{turn.at.astimezone():%d %B %H:%M}" for chat in space.sessions() for turn in space.turns(chat.id)
            }
    time.tzset()
    assert times == {"08 May 13:56", "01 June 09:05"}


def test_documents_as_published(folder):
    (wiki,), (story,) = sets.squad(folder, "wiki"), sets.stories(folder, "val")
    assert wiki.text[wiki.questions[0].at :].startswith("Edgar Vane")
    assert story.text == "A fox went to the well.\n\nIt was afraid of the hens.\n\n"
    assert story.questions[0].within == (0, len(story.text))


@pytest.mark.parametrize(
    "break_it, named",
    [
        (lambda s: s[0]["conversation"].pop("session_2_date_time"), '"session_2_date_time"'),
        (lambda s: s[0]["conversation"].update(session_1_date_time="a while ago"), "no time"),
        (lambda s: s[0]["conversation"]["session_1"][0].pop("dia_id"), 'turn 1 of session_1, has no field "dia_id"'),
        (lambda s: s[0]["conversation"].update(session_1="talk"), '"session_1"'),
        (lambda s: s[0].pop("qa"), 'conversation 1, has no field "qa"'),
        (lambda s: s[0]["qa"][0].pop("answer"), 'question 1, has no field "answer"'),
        (lambda s: s[0]["qa"][0].update(category=7), '"category" is 7'),
        (lambda s: s[0].update(conversation={}), '"session_1"'),
        (lambda s: s.clear(), "no conversations"),
    ],
)
def test_a_bad_conversation_is_named(tmp_path, break_it, named):
    samples = json.loads(json.dumps([{"sample_id": "conv-1", "conversation": TALK, "qa": QUESTIONS}]))
    break_it(samples)
    packed(tmp_path / sets.LOCOMO, samples)
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        sets.locomo(tmp_path)
    assert sets.LOCOMO in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="--data"):
        sets.locomo(None)
    with pytest.raises(InputError, match="nowhere.*is missing"):
        sets.locomo(tmp_path / "nowhere")
    whole = (folder / sets.LOCOMO).read_bytes()
    for damaged in (b"half a file", whole[:-20], whole[:40] + b"\xff\xff" + whole[42:]):
        (folder / sets.LOCOMO).write_bytes(damaged)
        with pytest.raises(InputError, match=f"{sets.LOCOMO} is damaged"):
            sets.locomo(folder)
    packed(folder / "qa_squadshifts_wiki.jsonl.gz", [{"context": "a", "question": "b"}], lines=True)
    with pytest.raises(InputError, match='wiki.jsonl.gz, line 1, has no field "answers"'):
        sets.squad(folder, "wiki")
    row = {"context": "A mill.", "question": "What?", "answers": [{"text": "mill", "start": 1}]}
    packed(folder / "qa_squadshifts_wiki.jsonl.gz", [row], lines=True)
    with pytest.raises(InputError, match='line 1, field "answers"'):
        sets.squad(folder, "wiki")
    row = {"story": "fox", "sections": [["1"]], "question": "What?", "answers": ["hens"], "kind": "x"}
    packed(folder / "qa_fairytale_val.jsonl.gz", [row], lines=True)
    with pytest.raises(InputError, match='line 1, field "sections"'):
        sets.stories(folder, "val")


# ---- LoCoMo ----------------------------------------------------------------------------------------------------------


def test_locomo_tells_memories_apart(world, folder, monkeypatch):
    settings = common.Settings(data=folder)
    world.engine.memory = Generous()
    good = locomo.run(world, settings)
    assert good["questions"] == {"1": 1, "2": 1, "3": 0, "4": 1, "5": 1} and good["conversations"] == 1
    assert good["recall_at_1"] > 0 and good["recall_without_memory"]["sum"]["at_5"] == 100
    on, off = good["gate_on"], good["gate_off"]
    assert on["slots"] < off["slots"] and on["evidence_active"] < off["evidence_active"] == 1
    assert on["stages"]["not_kept"]["questions"] == 1 and off["stages"]["not_kept"]["questions"] == 0
    assert off["stages"]["answered"]["questions"] == 3 and good["f1_1_4"] > 0
    assert sum(on["lost"].values()) + on["f1_1_4"] == pytest.approx(100, abs=0.05)
    assert good["abstained_5"] == good["false_abstained_1_4"] == good["score_5"] == 0

    asked = []

    def perfect(base, lists, most):  # a base that says from a prompt whatever stands in it
        asked.extend(lists)
        return [messages[-1]["content"] for messages in lists]

    monkeypatch.setattr(baselines, "answers", perfect)
    told = locomo.run(world, settings)
    assert told["gate_off"]["lost"]["base"] < off["lost"]["base"] and told["gate_off"]["lost"]["integrating"] >= 0
    assert told["f1_1_4"] == good["f1_1_4"] and "Ann: I adopted a greyhound" in str(asked)
    assert not any("Who sang" in str(messages) for messages in asked)  # nothing can answer that

    world.engine.memory = Mute()
    mute = locomo.run(world, settings)
    assert mute["abstained_5"] == mute["false_abstained_1_4"] == 1
    assert mute["score_5"] == 100 and mute["f1_1_4"] == 0
    assert mute["gate_off"]["stages"]["not_read"]["questions"] == 3

    world.engine.memory = Blind()
    assert locomo.run(world, settings)["score_5"] == 0


def test_asking_writes_nothing(world, folder):
    (talk,) = sets.locomo(folder)
    with world.space() as space:
        locomo.tell(space, talk)
        before = space.version()
        common.ask(space, "My cat lives in Rome, does it?", temporary=True)
        assert space.version() == before


def test_the_gate_is_as_before_afterwards(world):
    before = world.memory.gate_threshold
    with pytest.raises(ZeroDivisionError), common.gate(world, False):
        assert world.memory.gate_threshold == 0
        raise ZeroDivisionError
    assert world.memory.gate_threshold == before


def test_the_sum_of_two_rankings():
    class Fixed:
        def encode(self, texts):
            return np.eye(3, dtype=np.float32)[: len(texts)]

    texts = ["the dog barks", "a cat and a dog and a dog", "nothing of it"]
    (found,) = baselines.rankings(texts, ["Which dog?"], Fixed())
    assert list(found["minilm"]) == [0, 1, 2]
    assert set(found["bm25"][:2]) == {0, 1} and found["sum"][0] == 0
    (nothing,) = baselines.rankings(texts, ["the?"], Fixed())  # no word to look for: no order but a whole one
    assert sorted(nothing["bm25"]) == [0, 1, 2]


# ---- documents -------------------------------------------------------------------------------------------------------


def test_reading_asks_five_ways(world, folder, monkeypatch):
    monkeypatch.setattr(common, "MAX_TOKENS", 60)
    world.engine.memory = Generous()
    results = reading.run(world, common.Settings(data=folder))
    wiki = results["squadshifts_wiki"]
    assert wiki["questions"] == wiki["documents"] == 1 and wiki["slots"] == 2
    assert wiki["f1"].keys() == set(reading.WAYS)
    assert wiki["f1"]["gold_slot"] == pytest.approx(100 * 2 * (2 / 7) / (1 + 2 / 7), abs=0.01)  # the sentence, echoed
    assert 0 < results["ratio_to_gold"] <= 1 and results["prompts"].keys() == {"gold_prompt", *reading.RETRIEVED}
    assert wiki["stages"]["answered"]["questions"] == 1
    assert results["fairytale_val"]["f1_by_kind"].keys() == {"x"}

    world.engine.memory = Mute()
    mute = reading.run(world, common.Settings(data=folder))
    assert mute["f1_memory"] == 0 and mute["squadshifts_wiki"]["stages"]["not_read"]["questions"] == 1


def test_gold_is_where_the_answer_stands(world, folder):
    (wiki,), (story,) = sets.squad(folder, "wiki"), sets.stories(folder, "val")
    with world.space() as space:
        assert "Edgar Vane" in reading.gold_slot(wiki.questions[0], reading.ingest(space, wiki)).said
        assert reading.gold_slot(wiki.questions[0], []) is None
    with world.space() as space:
        assert "hens" in reading.gold_slot(story.questions[0], reading.ingest(space, story)).said


# ---- LongBench and SCROLLS -------------------------------------------------------------------------------------------


def rows(*items):
    return ((f"line {number}", item) for number, item in enumerate(items, 1))


def test_scrolls_rows():
    text = "First part.\n\nSecond part."
    found = longtext.of_scrolls(
        rows(
            {"id": "1_0", "input": f"Who?\n\n{text}", "output": "Ann"},
            {"id": "1_0", "input": f"Who?\n\n{text}", "output": "Ann B."},
        )
    )
    assert found == [longtext.Example("1_0", text, "Who?", ("Ann", "Ann B."))]
    choices = "Why?\n\n (A) rain\n (B) snow\n\n (C) sun\n (D) wind"
    (quality,) = longtext.of_scrolls(rows({"id": "2", "input": f"{choices}\n\n{text}", "output": "snow"}), options=True)
    assert quality.text == text and quality.question == choices
    with pytest.raises(InputError, match='line 1.*"input"'):
        longtext.of_scrolls(rows({"id": "1", "input": "Who?", "output": "Ann"}))
    with pytest.raises(InputError, match='line 1, has no field "output"'):
        longtext.of_scrolls(rows({"id": "1", "input": "Who?\n\nText."}))


def test_longbench_from_a_folder(world, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    subset = longtext.LONGBENCH[3]
    (tmp_path / "longbench").mkdir()
    row = {"input": "Who built my mill?", "context": "I saw it.\n\nMy mill was built by Edgar.", "answers": ["Edgar"]}
    (tmp_path / "longbench" / "hotpotqa.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(longtext, "LONGBENCH", (subset,))
    world.engine.memory = Generous()
    results = longtext.longbench(world, common.Settings(data=tmp_path))
    assert results["hotpotqa"]["questions"] == 1
    assert results["score"] == results["hotpotqa"]["score"] > 0
    assert results["hotpotqa"]["stages"]["answered"]["questions"] == 1
    (tmp_path / "longbench" / "hotpotqa.jsonl").write_text(json.dumps({"input": "Who?", "answers": ["Ann"]}) + "\n")
    with pytest.raises(InputError, match='hotpotqa.jsonl, line 1, has no field "context"'):
        longtext.load(subset, "longbench", tmp_path)


def test_what_cannot_be_reached_is_said(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match="qasper of scrolls could not be read.*no route to host.*scrolls/qasper.jsonl"):
        longtext.load(longtext.SCROLLS[0], "scrolls", tmp_path)


def test_quality_is_scored_by_exact_match():
    assert {subset.name: subset.metric for subset in longtext.SCROLLS} == {
        "qasper": metrics.f1,
        "narrative_qa": metrics.f1,
        "quality": metrics.exact,
    }
    assert {subset.metric for subset in longtext.LONGBENCH} == {metrics.f1}


# ---- runs that stop and go on ----------------------------------------------------------------------------------------


def test_parts_survive_and_belong_to_their_run(tmp_path):
    beside = tmp_path / "locomo.json"
    parts = Parts(beside, {"seed": 0})
    assert not list(tmp_path.iterdir())  # nothing measured, nothing written
    assert parts("a", lambda: {"f1": 0.1}) == {"f1": 0.1}
    parts("b", lambda: {"text": "two\u2028lines"})
    with parts.path.open("a") as file:
        file.write('\n{"name": "c", "part"')  # killed while writing
    again = Parts(beside, {"seed": 0})
    assert again.found == {"a": {"f1": 0.1}, "b": {"text": "two\u2028lines"}}
    assert again("a", lambda: pytest.fail("measured twice")) == {"f1": 0.1}
    again("c", lambda: {"f1": 0.3})
    assert Parts(beside, {"seed": 0}).found.keys() == {"a", "b", "c"}
    assert not Parts(beside, {"seed": 1}).found
    again.finish(None)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_goes_on(world, folder, tmp_path, monkeypatch):
    settings = common.Settings(data=folder, json=tmp_path / "out" / "locomo.json")
    remembered, times = locomo.remembered, []

    def counted(*arguments):
        times.append(arguments[-1])
        if times == [True, False]:
            raise KeyboardInterrupt
        return remembered(*arguments)

    monkeypatch.setattr(locomo, "remembered", counted)
    with pytest.raises(KeyboardInterrupt):
        locomo.run(world, settings)
    whole = locomo.run(world, settings)
    assert times == [True, False, False]
    assert {**whole, "gate_on": 0, "gate_off": 0} == {**_fresh(world, folder), "gate_on": 0, "gate_off": 0}


def _fresh(world, folder):
    return locomo.run(world, common.Settings(data=folder))


# ---- report ----------------------------------------------------------------------------------------------------------


def run(world, monkeypatch, *arguments):
    monkeypatch.setattr(common.World, "load", lambda *_, **__: world)
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_report_needs_nothing_from_outside(world, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report"
    run(world, monkeypatch, "locomo", "--data", folder, "--report", out, "--limit", 1)
    run(world, monkeypatch, "gate", "--report", out, "--limit", 1)
    assert {path.name for path in out.iterdir()} == {
        "index.html",
        "locomo.json",
        "gate.json",
        "locomo.questions.jsonl",
    }
    page = (out / "index.html").read_text()
    assert page.count("<section") == 2 and page.count('class="limited"') == 2
    assert page.count("Plotly.newPlot(") == 4 and "recall_at_10" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page.split("</script>", 1)[1])
    assert 'href="' not in page.split("</head>")[0].replace(page.split("<script>")[1].split("</script>")[0], "")
    assert "greyhound" not in page and "greyhound" not in (out / "locomo.json").read_text()  # nothing of the data
    assert "LIMITED" in capsys.readouterr().out
    content = json.loads((out / "locomo.json").read_text())
    assert content["settings"]["limited"] and "json" not in content["settings"]


def test_figures_of_every_benchmark_can_be_drawn():
    way = {"seconds_to_first_token": {"median": 0.1}, "tokens_per_second": None, "context_tokens": {"median": 9}}
    latency = {
        "context": {"500": {"memory_cold": way | {"memory_mib": 3}}},
        "conditions": {"memory_100_read_cold": way, "base_alone": way},
        "memory_mib": {"0": 1, "100": 2},
    }
    assert len(list(report.figures({"name": "latency", "results": latency}))) == 6
    scores = {"score": 4.0, "qasper": {"score": 4.0, "lost": {"not_read": 90.0, "base": 6.0}}}
    assert len(list(report.figures({"name": "scrolls", "results": scores}))) == 2
    assert not list(report.figures({"name": "store", "results": {"open_s": 1.0}}))


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    assert report.write(tmp_path).name == "index.html"
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(InputError, match="gate.json is damaged"):
        report.write(tmp_path)


def test_all_goes_on_when_one_cannot_be_measured(world, monkeypatch, capsys):
    benches = {"locomo": locomo.run, "fine": lambda *_: {"f1": 1.0}}
    monkeypatch.setattr(cli, "BENCHES", benches)
    with pytest.raises(InputError, match="Not measured: locomo"):
        run(world, monkeypatch, "all")
    said = capsys.readouterr()
    assert "f1" in said.out and "--data" in said.err
