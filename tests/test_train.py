"""Training end to end, a few steps of everything: files, resumption, and that what is learned can be used."""

from __future__ import annotations

import csv
import json
import shutil
import time
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import byte_tokenizer, tiny_config
from transformers import LlamaConfig, LlamaForCausalLM

from mam import base as bases
from mam.cli import main
from mam.errors import InputError, WeightsError
from mam.model import MemoryModel
from mam.render import asks_when, render
from mam.reranker import Found, Reranker
from mam.train import cli, loop
from mam.train.card import LIVES, write_card
from mam.train.data import revoiced, scene
from mam.train.loop import Part, Schedule, forecast, train
from mam.train.reranker import Case, pairs
from mam.train.tune import calibrate
from mam.values import Candidate


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_folder):
    """A memory model after two steps of every part, for a tiny base."""
    folder = tmp_path_factory.mktemp("training")
    arguments = [
        "--smoke",
        "--base",
        str(tiny_folder),
        "--device",
        "cpu",
        "--run",
        str(folder / "run"),
        "--out",
        str(folder / "out"),
    ]
    parser = cli.argparse.ArgumentParser()
    cli.add_arguments(parser)
    began = time.monotonic(), time.process_time()
    assert cli.run(parser.parse_args(arguments)) == 0
    took = min(time.monotonic() - began[0], time.process_time() - began[1])  # without waiting for other tests
    assert took < 120, "a smoke run takes less than two minutes"
    return folder


def test_a_smoke_run_leaves_a_model_that_works(trained, tiny_folder):
    model = MemoryModel.load(trained / "out", "cpu")
    integrator = model.attach(bases.load(tiny_folder, "cpu"))
    hidden = model.encode(["My dog is called Rex.", "What is my dog called?"])
    assert model.keys(hidden).shape == (2, model.dim)
    assert integrator.prefix.shape[3] == integrator.config.prefix


def test_it_leaves_curves_and_a_card(trained):
    for part in cli.PARTS:
        rows = list(csv.DictReader((trained / "run" / f"{part}.csv").open()))
        assert {"train", "val"} <= {row["split"] for row in rows}
    card = (trained / "out" / "README.md").read_text()
    assert "Training runs" in card and "held-out" in card
    (record,) = json.loads((trained / "out" / "training.json").read_text())
    assert record["parts"] == list(cli.PARTS) and record["seconds"] >= 0
    assert record["validated on"] == LIVES  # there was nothing else


def test_attaching_another_base_leaves_all_that_writes_and_reads_as_it_is(trained, tmp_path, capsys):
    """Only its attachment comes to the others, and the card tells of it."""
    torch.manual_seed(9)
    LlamaForCausalLM(LlamaConfig(**tiny_config())).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    shutil.copytree(trained / "out", tmp_path / "out")
    before = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in (tmp_path / "out").rglob("*.*")}
    command = ["attach", "--smoke", "--device", "cpu", "--out", str(tmp_path / "out"), "--run", str(tmp_path / "run")]
    assert main([*command, "--base", str(tmp_path / "other")]) == 0
    after = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in (tmp_path / "out").rglob("*.*")}
    assert {str(file) for file in after.keys() - before.keys()} == {
        "attachments/other.json",
        "attachments/other.safetensors",
    }
    assert {str(file) for file, was in before.items() if after[file] != was} == {"training.json", "README.md"}
    more = ["--out", str(tmp_path / "out"), "--run", str(trained / "run")]
    assert (
        main(["train", "--smoke", "--device", "cpu", "--parts", "integrator", "--base", f"{tmp_path}/other", *more])
        == 2
    )
    assert "begun with another base" in capsys.readouterr().err  # instead of going on from the first one's
    assert f"{tmp_path}/other (under its own terms)" in (tmp_path / "out" / "README.md").read_text()


def test_files_of_another_kind_are_refused(trained, tiny_folder, tmp_path):
    with pytest.raises(WeightsError, match="memory.json is missing"):
        MemoryModel.load(tmp_path, "cpu")
    for file in (trained / "out").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "memory.safetensors").read_bytes()
    (tmp_path / "memory.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        MemoryModel.load(tmp_path, "cpu")
    (tmp_path / "memory.safetensors").write_bytes(whole)
    (tmp_path / "memory.json").write_text('{"format": 99}')
    with pytest.raises(WeightsError, match="another format"):
        MemoryModel.load(tmp_path, "cpu")


def test_a_base_without_attachment_is_named(trained, tmp_path):
    torch.manual_seed(9)
    other = bases.Base("other", LlamaForCausalLM(LlamaConfig(**tiny_config())), byte_tokenizer())
    with pytest.raises(WeightsError, match="mam attach --base"):
        MemoryModel.load(trained / "out", "cpu").attach(other)


def test_unknown_parts_and_missing_data_are_refused(tmp_path):
    parser = cli.argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(InputError, match="There is no part"):
        cli.run(parser.parse_args(["--parts", "brain"]))
    with pytest.raises(InputError, match="is missing"):
        cli.run(parser.parse_args(["--data", str(tmp_path), "--out", str(tmp_path), "--run", str(tmp_path)]))


# ---- the loop, on a toy ---------------------------------------------------------------------------------------


def line(seed: int = 0) -> Part:
    """Learns y = 3x; a batch is a function of the step alone."""
    torch.manual_seed(seed)
    module = torch.nn.Linear(1, 1, bias=False)

    def batch(step: int) -> torch.Tensor:
        return torch.randn(16, 1, generator=torch.Generator().manual_seed(step))

    def losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square": ((module(x) - 3 * x) ** 2).mean()}

    def validate() -> dict[str, float]:
        return {"score": -abs(float(module.weight) - 3)}

    return Part("line", module, [{"params": list(module.parameters()), "lr": 0.1}], batch, losses, validate)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    schedule = Schedule(steps=30, every=5, patience=99)
    whole = line()
    train(whole, schedule, tmp_path / "whole")

    cut = line()
    checkpoint, count = loop._checkpoint, 0

    def dies(*arguments):
        nonlocal count
        checkpoint(*arguments)
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        train(cut, schedule, tmp_path / "cut")
    monkeypatch.setattr(loop, "_checkpoint", checkpoint)
    resumed = line(seed=7)  # what it starts from must not matter
    train(resumed, schedule, tmp_path / "cut")
    assert torch.equal(whole.module.weight, resumed.module.weight)


@pytest.mark.parametrize("dying", range(1, 13))
def test_a_checkpoint_that_was_cut_off_is_none_and_the_one_before_counts(tmp_path, monkeypatch, dying):
    schedule = Schedule(steps=30, every=5, patience=99)
    whole = line()
    train(whole, schedule, tmp_path / "whole")
    write, count = loop._write, 0

    def dies(tensors, file):
        nonlocal count
        count += 1
        if count == dying:
            raise KeyboardInterrupt
        write(tensors, file)

    monkeypatch.setattr(loop, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        train(line(), schedule, tmp_path / "cut")
    monkeypatch.setattr(loop, "_write", write)
    resumed = line(seed=7 if (tmp_path / "cut" / "line.state.json").exists() else 0)  # else from the beginning
    train(resumed, schedule, tmp_path / "cut")
    assert torch.equal(whole.module.weight, resumed.module.weight)
    logs = [(tmp_path / folder / "line.csv").read_text() for folder in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert len(list((tmp_path / "cut").glob("*.state*"))) == 3


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(tmp_path):
    train(line(), Schedule(steps=5, every=5, patience=99), tmp_path)
    for file in tmp_path.glob("line.state-5.*"):
        file.rename(tmp_path / file.name.replace("state-5", "state"))
    resumed = line(seed=7)
    train(resumed, Schedule(steps=5, every=5, patience=99), tmp_path)
    assert json.loads((tmp_path / "line.state.json").read_text())["step"] == 5
    train(resumed, Schedule(steps=10, every=5, patience=99), tmp_path)
    assert len(list(tmp_path.glob("*.state*"))) == 3


def test_it_stops_early_and_keeps_the_best(tmp_path):
    part = line()
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    weights = []

    def validate() -> dict[str, float]:
        weights.append(part.module.weight.detach().clone())
        return {"score": next(scores)}

    found = train(replace(part, validate=validate), Schedule(steps=60, every=10, patience=2), tmp_path)
    assert found["step"] == 20 and len(weights) == 4
    assert torch.equal(part.module.weight, weights[1])


def test_it_stops_when_there_is_nothing_left_to_learn(tmp_path):
    scores = iter([0.1, 0.5, 0.9])
    part = replace(line(), validate=lambda: {"score": next(scores)})
    assert train(part, Schedule(steps=60, every=10, patience=9, enough=0.4), tmp_path)["step"] == 20
    assert list(scores) == [0.9]


def test_a_forecast_changes_nothing(tmp_path):
    part, schedule = line(), Schedule(steps=30, every=5, patience=99)
    before = part.module.weight.detach().clone()
    assert "line: 30 steps of" in (said := forecast(part, schedule, tmp_path)) and "6 validations" in said
    assert torch.equal(part.module.weight, before) and part.module.weight.grad is None and not list(tmp_path.iterdir())
    train(part, schedule, tmp_path)
    assert "line: 0 steps of" in (said := forecast(part, schedule, tmp_path)) and "at most 0 min" in said


def test_the_card_keeps_the_latest_run_of_every_base(tmp_path):
    def run(parts: list[str], base: str | None, date: str) -> None:
        schedules = {part: {"steps": 2} for part in parts}
        figures = {part: {"score": 0.5, "step": 2, "seconds": 1.0} for part in parts}
        rest = {"seconds": 1, "seed": 0, "data": ["lives"], "hardware": "none"}
        record = {"parts": parts, "base": base, "date": date, "validation": figures, "schedules": schedules, **rest}
        write_card(tmp_path, record)

    run(["memory", "integrator"], "one", "first")
    run(["integrator"], "one", "second")
    run(["integrator"], "two", "third")
    run(["integrator"], "one", "fourth")
    run(["relation"], None, "fifth")
    kept = [record["date"] for record in json.loads((tmp_path / "training.json").read_text())]
    assert kept == ["first", "third", "fourth", "fifth"]
    assert "**integrator** for two, third" in (tmp_path / "README.md").read_text()


def test_scenes_are_reproducible_and_label_what_is_asked():
    one, again = scene(5), scene(5)
    assert one == again and one != scene(6)
    for asked in one.asked:
        assert bool(asked.rows) == (asked.type != "unknown")
        told = " ".join(render(one.slots[row], asks_when(asked.text)).lower() for row in asked.rows)
        assert all(value.lower() in told for value in asked.values)


def test_the_two_looks_are_joined_as_held_out_pairs_say():
    """The fit finds the scale, shift and share that made the labels."""
    draw = np.random.default_rng(0)
    own, first = draw.normal(size=(2, 4000))
    right = draw.random(4000) < 1 / (1 + np.exp(-(2 * own + 0.5 * first - 1)))
    head = Reranker(SimpleNamespace(width=1))
    with torch.no_grad():
        head.out.weight.fill_(1.0)
        head.out.bias.fill_(0.0)
    head.encoder.encode = lambda messages, slots: np.array([[float(s)] for s in slots], np.float32)
    made = [
        Case(Found("?", [str(x)], [float(y)]), (bool(z),), None, False, True)
        for x, y, z in zip(own, first, right, strict=True)
    ]
    calibrate(head, made)
    assert head.out.weight[0].item() == pytest.approx(2, abs=0.2)
    assert head.out.bias[0].item() == pytest.approx(-1, abs=0.2)
    assert head.first_look.item() == pytest.approx(0.5, abs=0.2)
    assert head.out.weight[1].item() == 1.0  # who is meant is another question


def test_pairs_of_a_message_that_names_somebody():
    """The slot that says who is meant is learned as such, and what it leads to only with it beside the message."""
    texts = ["Ngozi is my sister.", "My sister lives in Oslo.", "I live in Rome."]
    found = Found("Where does Ngozi live?", texts, [0, 0, 0])
    made = pairs(Case(found, (False, True, False), 0, True, True), Random(0))
    named = "Where does Ngozi live? (Ngozi is my sister.)"
    labels = {(p.message, p.text): (p.answers, p.who) for p in made}
    assert labels[found.message, "Ngozi is my sister."] == (False, True)
    assert labels[found.message, "My sister lives in Oslo."] == (None, False)
    assert labels[named, "My sister lives in Oslo."] == (True, None)
    assert labels[named, "I live in Rome."] == (False, None)


def test_facts_in_other_mouths():
    fact = Candidate("I live in Oslo.", "I live in Oslo.", speaker="user")
    heard = [revoiced(Random(i), fact, True) for i in range(400)]
    assert all(keep == (c.speaker != "assistant") for c, keep in heard)
    assert 0.7 < np.mean([c.speaker == "user" for c, _ in heard]) < 0.8
    assert revoiced(Random(1), replace(fact, speaker="assistant"), False)[1] is False
