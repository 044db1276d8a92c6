"""The benchmarks on real text: good memories told from bad ones, runs that resume."""

from __future__ import annotations

import argparse
import json
import re

import numpy as np
import pytest
from fakes import Blind, Generous, Mute, RuleMemory
from published import QUESTIONS, fill, packed

from mam.bench import baselines, cli, common, locomo, readme, report, sets
from mam.bench.parts import Parts
from mam.errors import InputError
from mam.reader import Reading
from mam.space import MOST_READ
from mam.values import Read


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


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

    def perfect(base, lists, most):  # a base that answers whatever is asked with the right note in its prompt
        asked.extend(lists)
        answers = {question["question"]: str(question.get("answer")) for question in QUESTIONS}
        return [next(a for q, a in answers.items() if q in messages[-1]["content"]) for messages in lists]

    monkeypatch.setattr(baselines, "answers", perfect)
    told = locomo.run(world, settings)
    assert told["gate_off"]["lost"]["base"] == 0 < off["lost"]["base"]
    assert (
        off["lost"]["integrating"] > 0
    )  # by a prompt that base says nothing of use, but the right slot alone it echoes
    assert told["f1_1_4"] == good["f1_1_4"] and "Ann: I adopted a greyhound" in str(asked)
    assert not any("Who sang" in str(messages) for messages in asked)  # nothing can answer that

    world.engine.memory = Mute()
    mute = locomo.run(world, settings)
    assert mute["abstained_5"] == mute["false_abstained_1_4"] == 1
    assert mute["score_5"] == 100 and mute["f1_1_4"] == 0
    assert mute["gate_off"]["stages"]["not_read"]["questions"] == 3

    world.engine.memory = Blind()
    assert locomo.run(world, settings)["score_5"] == 0


class Deep(RuleMemory):
    """Reads whatever is nearest, but its second look finds what is farthest best; keeps what it was asked."""

    def __init__(self):
        self.looked = []

    def read(self, query, hidden, index, k):
        near = index.nearest(self.keys(hidden[None])[0], k)[::-1]
        self.looked.append((query, hidden.tolist(), k))
        weights = np.arange(len(near), 0, -1) / (len(near) * (len(near) + 1) / 2)
        reads = [Read(slot, float(weight)) for (slot, _), weight in zip(near, weights, strict=True)]
        return Reading(tuple(reads), 0.0, 0.9, "read")


def test_recall_is_what_a_turn_ranks(world, folder):
    """A second look at 64 slots finds another order than one at the few that a turn reads: both are told apart."""
    facts = [f"My greyhound number {n} runs in Lisbon{' and Oslo' * n}." for n in range(12)]
    talk = {"session_1_date_time": "1:56 pm on 8 May, 2023"}
    talk["session_1"] = [{"speaker": "Ann", "dia_id": f"D1:{n}", "text": fact} for n, fact in enumerate(facts)]
    question = {"question": " Greyhound \t number runs in Lisbon? ", "answer": "x", "category": 4}
    asked = [question | {"evidence": [f"D1:{n}"]} for n in range(12)]
    packed(folder / sets.LOCOMO, [{"sample_id": "conv-1", "conversation": talk, "qa": asked}])
    world.engine.memory = memory = Deep()
    (talk,) = sets.locomo(folder)
    found = locomo.remembered(world, talk, talk.questions, False)
    ranks, deep = ([row[name][0] for row in found["questions"]] for name in ("ranks", "ranks_deep"))
    first = [11 - place for place in deep]  # all were looked at twice, and stand the other way round
    assert sorted(first) == list(range(12))
    # the eight that were read by their weights, the others as they were found
    assert ranks == [7 - place if place < 8 else place for place in first]
    whole = locomo.run(world, common.Settings(data=folder))
    assert whole["recall_at_1"] == whole["gate_on"]["recall"]["at_1"]
    assert whole["recall_deep"] == whole["gate_on"]["recall_deep"]
    assert {k for _, _, k in memory.looked} == {common.K, MOST_READ}
    assert len({query for query, _, _ in memory.looked}) == 1  # whichever k, the same text is looked at, twice
    assert len({str(hidden) for _, hidden, _ in memory.looked}) == 1


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
        "conditions": {"memory_100_read_cold": way | {"memory_mib": 5}, "base_alone": way},
        "memory_mib": {"0": 1, "100": 2},
    }
    *_, replies, slots = report.figures({"name": "latency", "results": latency})
    assert [(line.name, line.x, line.y) for line in replies.data] == [("read cold", (100,), (5,))]
    assert slots.data[0].y == (2,)
    assert len(list(report.figures({"name": "latency", "results": latency}))) == 7
    scores = {"score": 4.0, "qasper": {"score": 4.0, "lost": {"not_read": 90.0, "base": 6.0}}}
    assert len(list(report.figures({"name": "scrolls", "results": scores}))) == 2
    assert not list(report.figures({"name": "store", "results": {"open_s": 1.0}}))


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    assert report.write(tmp_path).name == "index.html"
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(InputError, match="gate.json is damaged"):
        report.write(tmp_path)


def test_all_goes_on_when_one_cannot_be_measured(world, monkeypatch, capsys, tmp_path):
    benches = {"locomo": locomo.run, "fine": lambda *_: {"f1": 1.0}, "scrolls": locomo.run}
    monkeypatch.setattr(cli, "BENCHES", benches)
    with pytest.raises(InputError, match="Not measured: locomo, scrolls"):
        run(world, monkeypatch, "all", "--json", tmp_path / "all.json")
    said = capsys.readouterr()
    assert "f1" in said.out and "--data" in said.err
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["results"] == {"fine": {"f1": 1.0}} and content["left_out"].keys() == {"locomo", "scrolls"}
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]


def test_all_is_one_file_and_goes_on_where_it_stopped(world, monkeypatch, tmp_path):
    times = []

    def bench(name):
        def measure(world, settings):
            times.append(name)
            if times == ["first", "second"]:
                raise KeyboardInterrupt
            return {"f1": len(times), "inner": common.parts(name, world, settings)("one", lambda: {"x": 1})}

        return measure

    monkeypatch.setattr(cli, "BENCHES", {name: bench(name) for name in ("first", "second")})
    file, folder = tmp_path / "out" / "mine.json", tmp_path / "report"
    command = "all", "--json", file, "--report", folder
    with pytest.raises(KeyboardInterrupt):
        run(world, monkeypatch, *command)
    assert json.loads(file.read_text())["results"].keys() == {"first"}
    assert run(world, monkeypatch, *command) == 0
    assert times == ["first", "second", "second"]  # the first was not measured again
    content = json.loads(file.read_text())
    assert content["name"] == "all" and content["left_out"] == {}
    assert {"base", "memory", "weights", "machine", "seconds", "settings", "date"} <= content.keys()
    assert content["results"] == {"first": {"f1": 1, "inner": {"x": 1}}, "second": {"f1": 3, "inner": {"x": 1}}}
    assert content["each"].keys() == content["results"].keys()
    assert [path.name for path in file.parent.iterdir()] == ["mine.json"]
    assert {"first.json", "second.json", "index.html", "first.questions.jsonl"} <= {p.name for p in folder.iterdir()}
    run(world, monkeypatch, *command)  # a new one, since that was over
    assert times[3:] == ["first", "second"]


def test_a_run_of_all_is_as_good_as_one_of_each(tmp_path):
    about = {"base": "b", "memory": "m", "machine": {}, "settings": {"limited": False}}
    each = {name: {"seconds": n, "machine": {}, "date": f"day {n}"} for n, name in enumerate(("gate", "edit"))}
    whole = {"name": "all", "results": {"gate": {"f1": 0.25}, "edit": {"edited_new": 0.5}}, "each": each, **about}
    (tmp_path / "z.json").write_text(json.dumps({**whole, "left_out": {"packs": "no"}}))
    page = report.write(tmp_path).read_text()
    assert page.count("<section") == 2 and 'id="gate"' in page and "date day 1" in page and "0.2500" in page
    assert "the new value | 0.5 |" in readme.tables(tmp_path) and "is kept | 0.25 |" in readme.tables(tmp_path)
    (tmp_path / "gate.json").write_text(json.dumps({"name": "gate", "results": {"f1": 0.75}, **about}))
    assert "is kept | 0.75 |" in readme.tables(tmp_path)  # what was run by itself counts
    assert report.write(tmp_path).read_text().count("<section") == 2
