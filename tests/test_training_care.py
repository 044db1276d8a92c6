"""Training: on any device, gone on from only where it is the same run, and damage or a full disk told in a line."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from conftest import byte_tokenizer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mam import base as bases
from mam import model
from mam.cli import main
from mam.errors import InputError, WeightsError
from mam.gate import Gate
from mam.integrator import IntegratorConfig
from mam.model import SHIPPED, MemoryModel, Settings, settings_of
from mam.reader import Reader, Thresholds
from mam.train import cli, integrator, loop, memory, relation, reranker
from mam.train.data import scene
from mam.train.loop import Part, Schedule, forecast, train
from mam.values import Candidate

META = "meta"  # a device that every machine has: it computes nothing, but refuses tensors of another one


def told_in_a_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- devices --------------------------------------------------------------------------------------------------------


def test_gate_and_reader_learn_on_any_device():
    def encoder(texts):
        return torch.zeros(len(texts), 8, device=META)

    model = SimpleNamespace(dim=4, encoder=encoder, reader=Reader(8, 4).to(META), gate_head=Gate(8).to(META))
    s = scene(5)
    found = memory.losses(model, [s], [(Candidate("I like tea.", "I like tea."), True)])
    assert {loss.device.type for loss in found.values()} == {META}


def test_the_pair_encoders_learn_on_any_device():
    head = torch.nn.Module()
    head.out = torch.nn.Linear(8, 3, device=META)
    head.encoder = SimpleNamespace(low_rank=torch.nn.Linear(1, 1))
    head.forward = lambda old, new: head.out(torch.zeros(len(old), 8, device=META))
    made = relation.part(SimpleNamespace(relation=head))
    assert made.losses(made.batch(0))["relation"].device.type == META
    assert reranker._entropy(torch.zeros(3, device=META), [True, None, False]).device.type == META


# ---- what a run goes on from ----------------------------------------------------------------------------------------


def noisy(seed: int = 0) -> Part:
    """Learns y = 3x through a dropout; a batch is a function of the step alone."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 1, bias=False))

    def batch(step: int) -> torch.Tensor:
        return torch.randn(16, 8, generator=torch.Generator().manual_seed(step))

    def losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square": ((module(x) - 3 * x[:, :1]) ** 2).mean()}

    def validate() -> dict[str, float]:
        return {"score": -abs(float(module[1].weight[0, 0]) - 3)}

    return Part("line", module, [{"params": list(module.parameters()), "lr": 0.1}], batch, losses, validate)


def interrupted(folder, schedule: Schedule, monkeypatch, after: int = 3, **given) -> None:
    """A run that is killed when so many checkpoints are written."""
    checkpoint, count = loop._checkpoint, 0

    def dies(*arguments):
        nonlocal count
        checkpoint(*arguments)
        count += 1
        if count == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            train(noisy(), schedule, folder, **given)


def test_chance_is_the_same_in_a_run_that_was_interrupted(tmp_path, monkeypatch):
    schedule, whole = Schedule(steps=30, every=5, patience=99), noisy()
    train(whole, schedule, tmp_path / "whole", seed=0)
    interrupted(tmp_path / "cut", schedule, monkeypatch, seed=0)
    resumed = noisy(seed=7)
    torch.manual_seed(99)  # what else drew from the generator meanwhile
    train(resumed, schedule, tmp_path / "cut", seed=0)
    assert torch.equal(whole.module[1].weight, resumed.module[1].weight)
    assert (tmp_path / "whole" / "line.csv").read_text() == (tmp_path / "cut" / "line.csv").read_text()
    other = noisy()
    train(other, schedule, tmp_path / "other", seed=1)
    assert not torch.equal(whole.module[1].weight, other.module[1].weight)


def test_without_a_seed_the_generator_is_left_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    part = replace(noisy(), module=torch.nn.Identity(), validate=lambda: {"score": 1.0})
    part.module.weight = torch.nn.Parameter(torch.ones(1))
    part = replace(part, groups=[{"params": [part.module.weight], "lr": 0.1}])
    part = replace(part, losses=lambda _: {"one": part.module.weight.sum()})
    torch.manual_seed(3)
    train(part, Schedule(steps=4, every=2), tmp_path)
    assert torch.equal(torch.rand(1), expected)


OF = {"base": "one", "set of data": "lives", "schedule": asdict(Schedule(steps=30, every=5))}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"base": "two"}, "another base"),
        ({"set of data": "passages"}, "another set of data"),
        ({"schedule": asdict(Schedule(steps=40, every=5))}, "another schedule"),
        ({"memory model": "none yet"}, "another memory model"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_from(tmp_path, monkeypatch, other, named):
    schedule = Schedule(steps=30, every=5, patience=99)
    interrupted(tmp_path, schedule, monkeypatch, of=OF)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=named) as error:
        train(noisy(), schedule, tmp_path, of=OF | other)
    assert "--run" in told_in_a_line(error)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert train(noisy(), schedule, tmp_path, of=OF)["seconds"] > 0  # the same one goes on
    assert json.loads((tmp_path / "line.state.json").read_text())["step"] == 30


def test_the_parts_of_a_job_say_what_they_are_made_of(tmp_path):
    def job(**changes) -> cli.Job:
        same = {"parts": ["memory"], "schedules": cli.PARTS, "base": "b", "device": torch.device("cpu"), "data": None}
        return cli.Job(**same | {"run": tmp_path, "start": tmp_path, "out": tmp_path} | changes)

    one = job().of("memory", base="1")
    assert one == job().of("memory", base="1") and json.loads(json.dumps(one)) == one
    assert one != job(schedules=cli.SMOKE).of("memory", base="1") != job().of("memory", base="2")
    assert one != job(validation=3).of("memory", base="1")


def test_an_integrator_is_bound_to_what_reads_not_to_how_that_was_rounded(tmp_path):
    job = cli.Job(["integrator"], cli.PARTS, "b", torch.device("cpu"), None, tmp_path, tmp_path, tmp_path)
    shutil.copytree(SHIPPED, job.made)
    before = cli._reads(job)
    for file, part, changes in (("reranker", "out.bias", False), ("relation", "low_rank", False),
                                ("reranker", "low_rank", True), ("memory", "low_rank", True)):  # fmt: skip
        path = job.made / f"{file}.safetensors"
        tensors = load_file(path)
        save_file({name: t + 1 if part in name else t for name, t in tensors.items()}, path)
        assert (cli._reads(job) != before) == changes
        save_file(tensors, path)
    assert cli._reads(job) == before


# ---- damage and disks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("line.state.json", b"{"),
        ("line.state.json", b"[]"),
        ("line.state.json", b"{}"),
        ("line.state.json", b"\xff\xfe"),
        ("line.state-*.weights.safetensors", b"none"),
        ("line.state-*.moments.safetensors", b"none"),
        ("line.state-*.moments.safetensors", None),
        ("line.csv", b""),
        ("line.best.safetensors", None),
    ],
)
def test_a_damaged_checkpoint_is_told_in_a_line(tmp_path, monkeypatch, pattern, damage):
    schedule = Schedule(steps=30, every=5, patience=99)
    interrupted(tmp_path, schedule, monkeypatch, after=6 if "best" in pattern else 3)
    (file,) = tmp_path.glob(pattern)
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(WeightsError, match="begin anew") as error:
        if "json" in pattern:
            forecast(noisy(), schedule, tmp_path)
        train(noisy(), schedule, tmp_path)
    assert str(tmp_path) in told_in_a_line(error)


def refused(arguments: list[str], capsys) -> str:
    """What a command that fails says: one line."""
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said and "\n" not in said
    return said


def test_folders_that_cannot_be_written_are_told_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file").write_text("no folder")
    for where in (["--run", f"{tmp_path}/file/run"], ["--run", f"{tmp_path}/run", "--out", f"{tmp_path}/file/out"]):
        assert "cannot be used" in refused(["train", "--parts", "relation", "--device", "cpu", *where], capsys)


def test_a_damaged_record_of_runs_is_told_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "train", lambda *_, **__: pytest.fail("trained"))
    command = ["train", "--parts", "relation", "--device", "cpu", "--out", str(tmp_path), "--run", f"{tmp_path}/run"]
    for damage in ("{", "{}", "[1]", '[{"parts": ["memory"]}]'):
        (tmp_path / "training.json").write_text(damage)
        assert "training.json is damaged" in refused(command, capsys)


FULL = 'Error while serializing: IoError(Os { code: 28, message: "No space\nleft" })'


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(FULL)])
def test_a_full_disk_is_told_in_a_line(tmp_path, capsys, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(cli, "train_all", full)
    said = refused(["train", "--parts", "relation", "--device", "cpu", "--run", str(tmp_path / "run")], capsys)
    assert "what is done is kept" in said and str(tmp_path / "run") in said


@pytest.fixture
def model_folder(tmp_path):
    """The settings and the attachment's settings of the shipped model, without weights."""
    (tmp_path / "attachments").mkdir()
    for name in ("memory.json", "attachments/smollm2-135m.json"):
        shutil.copyfile(SHIPPED / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        {"format": 1},
        [],
        "memory",
        None,
        {**asdict(Settings()), "format": 1, "colour": "red"},
        {**asdict(Settings()), "format": 1, "reading": 0.5},
        {**asdict(Settings()), "format": 1, "reading": {"read": "half"}},
        {**asdict(Settings()), "format": 1, "reading": {"reed": 0.5}},
        {**asdict(Settings()), "format": 1, "rank": 0},
        {**asdict(Settings()), "format": 1, "gate_threshold": None},
        {**asdict(Settings()), "format": 1, "dim": True},
    ],
)
def test_settings_that_make_no_sense_are_told_in_a_line(model_folder, settings):
    (model_folder / "memory.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match=r"memory\.json is damaged.*install mam again") as error:
        MemoryModel.load(model_folder, "cpu")
    told_in_a_line(error)


@pytest.mark.parametrize("change", [{"colour": "red"}, {"prefix": "16"}, {"rank": 0}, {"adapt_slots": 1}, None])
def test_an_attachment_that_makes_no_sense_is_told_in_a_line(model_folder, tiny_base, change):
    config = asdict(IntegratorConfig(tiny_base.fingerprint))
    file = model_folder / "attachments" / "tiny.json"
    file.write_text(json.dumps([] if change is None else config | change))
    found = SimpleNamespace(folder=model_folder)
    with pytest.raises(WeightsError, match=r"tiny\.json is damaged.*install mam again") as error:
        MemoryModel.attach(found, tiny_base)
    told_in_a_line(error)


def test_settings_come_back_as_they_were_saved(model_folder):
    assert asdict(settings_of(model_folder)) | {"format": 1} == json.loads((model_folder / "memory.json").read_text())


# ---- bases that cannot be taught -------------------------------------------------------------------------------------


def test_a_base_without_a_token_to_end_with_or_without_a_fast_tokenizer_is_refused(tiny_base, monkeypatch):
    model, slow = tiny_base.model, byte_tokenizer()
    assert integrator.unteachable(tiny_base) == "" and integrator.stop_of(tiny_base) == tiny_base.tokenizer.eos_token_id
    nameless = byte_tokenizer(template=None)
    nameless.eos_token = None
    other = bases.Base("nameless", model, nameless)
    assert other.tokenizer.eos_token_id is None and integrator.stop_of(other) == 258  # of the model's own settings
    assert integrator.unteachable(other) == ""
    other.stop_ids = frozenset()
    assert "ends a reply" in integrator.unteachable(other)
    monkeypatch.setattr(type(slow), "is_fast", False)
    assert "fast" in integrator.unteachable(bases.Base("slow", model, slow))
    monkeypatch.setattr(bases, "load", lambda *_: tiny_base)
    with pytest.raises(WeightsError, match="No integrator can be trained for .* fast") as error:
        cli._carrier("tiny", torch.device("cpu"))
    told_in_a_line(error)


# ---- where the files go ----------------------------------------------------------------------------------------------


def jobs(monkeypatch) -> list[cli.Job]:
    """The jobs that commands come to, instead of doing them."""
    made = []
    monkeypatch.setattr(cli, "train_all", lambda job, base: made.append(job) or {})
    return made


def test_a_smoke_run_never_replaces_the_shipped_weights(tmp_path, monkeypatch, capsys, tiny_base):
    made = jobs(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_carrier", lambda *_: tiny_base)
    for command in ("train", "attach"):
        (tmp_path / "runs" / "smoke").mkdir(parents=True)
        (tmp_path / "runs" / "smoke" / "memory.state.json").write_text("of an earlier one")
        assert main([command, "--smoke", "--device", "cpu"]) == 0
        job = made.pop()
        assert job.out.is_relative_to(job.run) and job.run.is_relative_to("runs/smoke") and job.start == SHIPPED
        assert not (tmp_path / "runs" / "smoke").exists()
        assert "shipped" in refused([command, "--smoke", "--device", "cpu", "--out", str(SHIPPED)], capsys)
        assert main([command, "--device", "cpu"]) == 0
        assert made.pop().out == SHIPPED
        assert made == []


def test_attachments_of_bases_with_like_names_have_runs_of_their_own(tmp_path, monkeypatch, tiny_base):
    made = jobs(monkeypatch)
    marks = iter(("a1", "b2", "c3"))
    monkeypatch.setattr(cli, "_carrier", lambda *_: SimpleNamespace(fingerprint=next(marks)))
    for name in ("org/m", "org-m", "org/m"):  # the third time it was fine-tuned
        assert main(["attach", "--base", name, "--device", "cpu", "--run", str(tmp_path)]) == 0
    assert len({job.run for job in made}) == 3


def files(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Done(list):
    pass


@pytest.fixture
def cheap(monkeypatch):
    """Training that takes no time: weights stay as they begin; returns the names of what was trained and tuned.

    `of`: what each part said it was made of; `begins`: the weights that it began with.
    """
    done = Done()
    done.of, done.begins = {}, {}

    def trained(part, schedule, folder, seed, of):
        done.append(part.name)
        done.of[part.name], done.begins[part.name] = of, {k: t.clone() for k, t in model.trained(part.module).items()}
        return {"score": 0.5, "step": 2, "seconds": 0.0}

    def tuned(name, **values):
        monkeypatch.setattr(cli, name, lambda model, *_: done.append(name) or values)

    monkeypatch.setattr(cli, "train", trained)
    tuned("tune_gate", gate_threshold=0.123)
    tuned("tune_relation", relation_threshold=0.321)
    tuned("tune_reading", reading=Thresholds(read=0.111, asked=0.222))
    return done


def test_training_one_part_again_leaves_the_others_and_their_thresholds(tmp_path, cheap):
    out, run = tmp_path / "out", str(tmp_path / "run")
    shutil.copytree(SHIPPED, out)
    before, old = files(out), settings_of(out)
    command = ["train", "--device", "cpu", "--validation", "3", "--out", str(out), "--run", run]
    assert main([*command, "--parts", "memory"]) == 0
    assert cheap == ["memory", "tune_gate", "tune_reading"]  # both looks decide together, and the first is new
    now, after = settings_of(out), files(out)
    assert now.relation_threshold == old.relation_threshold and now.gate_threshold == 0.123
    assert now.reading == Thresholds(read=0.111, asked=0.222)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"memory.json", "memory.safetensors", "training.json", "README.md"}
    cheap.clear()
    assert main([*command, "--parts", "relation"]) == 0
    assert cheap == ["relation", "tune_relation"]
    assert settings_of(out) == replace(now, relation_threshold=0.321)


def test_a_damaged_model_can_be_trained_anew(tmp_path, cheap, monkeypatch, capsys):
    monkeypatch.setattr(cli, "calibrate", lambda *_: None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "memory.json").write_text("{")
    command = ["train", "--device", "cpu", "--validation", "1", "--out", f"{tmp_path}/out", "--run", f"{tmp_path}/run"]
    assert "memory.json is damaged" in refused([*command, "--parts", "memory"], capsys)
    assert main([*command, "--parts", "memory,reranker,relation"]) == 0
    assert MemoryModel.load(tmp_path / "out", "cpu").settings.gate_threshold == 0.123


def test_parts_are_bound_to_what_they_learn_with_and_begin_alike(tmp_path, cheap, monkeypatch):
    """Whatever was trained before in the same run."""
    monkeypatch.setattr(cli, "calibrate", lambda *_: None)
    out = tmp_path / "out"
    shutil.copytree(SHIPPED, out)
    command = ["train", "--device", "cpu", "--validation", "1", "--out", str(out), "--run", str(tmp_path / "run")]
    assert main([*command, "--parts", "memory,reranker"]) == 0
    fingerprint = MemoryModel.load(out, "cpu", ["memory"]).fingerprint
    assert cheap.of["reranker"]["memory model"] == fingerprint and "memory model" not in cheap.of["memory"]
    assert {of["set of data"] for of in cheap.of.values()} == {"lives"}
    assert cheap.of["memory"]["schedule"] == asdict(cli.PARTS["memory"])
    begun = cheap.begins["reranker"]
    assert main([*command, "--parts", "reranker"]) == 0
    assert all(torch.equal(tensor, cheap.begins["reranker"][name]) for name, tensor in begun.items())


def test_until_all_is_trained_the_model_is_what_it_was(tmp_path, cheap, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(SHIPPED, out)
    before = files(out)

    def dies(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "tune_relation", dies)
    command = ["train", "--device", "cpu", "--validation", "3", "--out", str(out), "--run", str(tmp_path / "run")]
    assert main([*command, "--parts", "memory,relation"]) == 130
    assert cheap[0] == "memory" and files(out) == before
    assert MemoryModel.load(out, "cpu", ["memory"]).fingerprint
