"""A training run beside the page: started, watched, stopped, tried in a conversation, kept or thrown away."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from mam import figures
from mam.errors import InputError
from mam.train import background
from mam.train.background import Run, curves
from mam.web.desk import Desk
from mam.web.training import Training, estimate

ANN, BOB = (SimpleNamespace(username=name, session_hash=name) for name in ("ann", "bob"))


@pytest.fixture
def started():
    """Starts runs; none outlives its test."""
    runs = []

    def start(*arguments) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield start
    for run in runs:
        run.discard()


def finished(run: Run, seconds: float = 300) -> str:
    until = time.monotonic() + seconds
    while run.progress().state in ("running", "stopping"):
        assert time.monotonic() < until, run.progress().message
        time.sleep(0.1)
    return run.progress().state


def test_a_run_is_watched_stopped_and_leaves_a_model(tmp_path, started):
    run = started(tmp_path / "run", "relation", 2000, "smollm2-135m")
    until = time.monotonic() + 300
    while not run.progress().curves:
        assert run.progress().state == "running" and time.monotonic() < until, run.progress().message
        time.sleep(0.1)
    run.stop()
    assert finished(run) == "finished", run.progress().message
    found = run.progress()
    assert any(name.startswith("train ") for name in found.curves) and "val score" in found.curves
    assert len(found.curves["val score"]) == 1 and found.curves["val score"][0][0] < 2000
    assert (run.out / "relation.safetensors").is_file() and (run.out / "memory.safetensors").is_file()
    run.discard()
    assert not run.folder.exists()


def test_a_run_that_fails_says_why(tmp_path, started):
    run = started(tmp_path / "run", "integrator", 20, str(tmp_path / "no base here"))
    assert finished(run) == "failed" and "no base here" in run.progress().message


@pytest.mark.parametrize(("part", "steps"), [("everything", 20), ("relation", 0), ("relation", 10**6)])
def test_what_cannot_be_trained_is_refused(tmp_path, part, steps):
    with pytest.raises(InputError):
        Run(tmp_path / "run", part, steps, "smollm2-135m")
    assert not (tmp_path / "run").exists()


def test_half_written_curves_are_read_as_far_as_they_go(tmp_path):
    file = tmp_path / "relation.csv"
    assert curves(file) == {}
    file.write_text("step,split,figure,value\n1,train,loss,0.5\n2,train,loss,0.4\n2,val,new,")
    assert curves(file) == {"train loss": [(1, 0.5), (2, 0.4)]}


def test_the_figure_shows_losses_and_shares():
    found = {"train <b>": [(i, 1 / i) for i in range(1, 30)], "val new": [(10, 0.5)], "val score": [(10, 0.4)]}
    figure = figures.learning(found)
    assert [trace.name for trace in figure.data] == ["&lt;b&gt;", "&lt;b&gt;", "new"]
    mean = np.array(figure.data[1].y)
    assert len(mean) == 29 and mean[-1] == pytest.approx(np.mean([1 / i for i in range(20, 30)]))
    assert figures.learning({}, dark=True).data == ()


class Scripted:
    """A run that is as far as a test says."""

    state = "running"

    def __init__(self, folder, part, steps, base, memory):
        self.folder, self.out, self.part, self.discarded = folder, folder / "model", part, False
        self.out.mkdir(parents=True)
        (self.out / "weights").write_text("new")

    def progress(self):
        return background.Progress(self.state, {"train loss": [(1, 0.5)]})

    def stop(self):
        self.state = "finished"

    def discard(self):
        self.discarded = True


@pytest.fixture
def page(tmp_path, monkeypatch, open_space):
    monkeypatch.setattr("mam.web.training.Run", Scripted)
    opened = []

    def open_with(user, memory):
        opened.append((user, memory))
        return open_space()

    desk = Desk(open_with, "ann", folder=str(tmp_path))
    desk._load()
    return SimpleNamespace(desk=desk, view=Training(desk), opened=opened, folder=tmp_path)


def test_only_the_tab_that_tries_a_model_gets_it_until_it_is_kept(page):
    page.view.start("relation", 20, ANN)
    with pytest.raises(InputError, match="going on"):
        page.view.start("relation", 20, ANN)
    with pytest.raises(InputError, match="no finished run"):
        page.view.attempt(ANN)
    page.view.stop(ANN)
    run = page.view.run
    page.view.attempt(ANN)
    page.desk.space(ANN)
    page.desk.space(BOB)
    assert page.opened == [("ann", None), ("ann", run.out), ("bob", None)]
    page.view.keep(ANN)
    kept = page.folder / "models" / run.folder.name
    page.desk.space(BOB)
    assert page.opened[-1] == ("bob", kept) and (kept / "weights").read_text() == "new" and run.discarded


def test_thrown_away_the_old_model_answers_again(page):
    page.view.start("relation", 20, ANN)
    page.view.stop(ANN)
    page.view.attempt(ANN)
    page.desk.space(ANN)
    page.view.discard(ANN)
    assert page.view.run is None and page.desk.memory is None
    page.desk.space(ANN)
    assert [memory for _, memory in page.opened].count(None) == 1  # the one it had is still open


def test_in_a_class_only_one_may_train(page):
    page.desk.login = True
    with pytest.raises(InputError, match="only ann"):
        page.view.start("relation", 20, BOB)
    page.view.start("relation", 20, ANN)


def test_the_time_is_said_before():
    assert "about 6 min" in estimate("integrator", 100)
