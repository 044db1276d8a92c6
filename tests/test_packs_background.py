"""Building in the background: one after the other, paused, followed, and how long it still takes."""

from __future__ import annotations

import threading
import time

import pytest
from packing import document, lives

from mam.errors import InputError
from mam.packs import background, build
from mam.packs.background import FAILED, FINISHED, PAUSED, QUEUED, Job
from mam.packs.build import Paused
from mam.packs.store import PackStore, Settings


def test_one_after_the_other_and_each_says_how_it_ended(caplog):
    gate, order = threading.Event(), []

    def first(told, stop):
        told("reflecting 000", 1, 2)
        gate.wait(10)
        order.append("first")
        return "a certificate"

    def paused(told, stop):
        order.append("taken away")  # a deletion does not wait for that
        told("reflecting 000", 0, 2)
        order.append("second")
        raise Paused("Paused.")

    one = Job("towns", first)
    while not one.step[0]:
        time.sleep(0.01)
    jobs = [one, Job("towns", paused)]
    while jobs[1].state != QUEUED:
        time.sleep(0.01)
    assert jobs[1].left() is None and jobs[1].going
    gate.set()
    for job in jobs:
        job.wait(10)
    assert order == ["taken away", "first", "second"] and [job.state for job in jobs] == [FINISHED, PAUSED]
    assert (one.result, one.step, one.left()) == ("a certificate", ("reflecting 000", 1, 2), None)

    def refused(told, stop):
        raise InputError("There is no text in it.")

    for work, message in ((refused, "There is no text in it."), (lambda told, stop: 1 / 0, "It failed (division")):
        job = Job("towns", work)
        job.wait(10)
        assert job.state == FAILED and job.message.startswith(message)


def test_a_job_that_waits_is_taken_back():
    def work(told, stop):
        told("reflecting 000", 0, 2)
        assert stop.is_set()
        raise Paused("Paused.")

    with background._one:
        job = Job("towns", work)
        while job.state != QUEUED:
            time.sleep(0.01)
        job.pause()
        job.wait(10)
        assert job.state == PAUSED
    assert not background._one.locked()


def test_what_is_left_goes_by_its_own_pace(monkeypatch):
    now, gate = [0.0], threading.Event()
    monkeypatch.setattr(background.time, "monotonic", lambda: now[0])
    job = Job(
        "towns", lambda told, stop: told("training 000", 0, 100) or gate.wait(10), lambda _, done, total: 100.0 - done
    )
    while job._begun is None:
        time.sleep(0.01)
    assert job.left() == 100
    now[0] = 200.0
    job._tell("training 000", 5, 100)
    assert job.left() == 95  # too early to tell
    job._tell("training 000", 50, 100)
    assert job.left() == 200
    gate.set()
    job.wait(10)


def test_the_rest_of_a_build_is_known_from_where_it_is(tmp_path):
    store = PackStore(tmp_path, "towns")
    store.set_settings(Settings("base", "", "other", shard=1, epochs=10))
    build.plan(store, [document("a.txt", *lives("Anna")), document("b.txt", *lives("Berta"))])
    whole = build.estimate(store)
    assert whole == pytest.approx(2 * (build.SECONDS["reflecting"] + 10 * build.SECONDS["training"]))
    steps = [("reflecting 000", 1, 2), ("training 000", 0, 10), ("training 000", 9, 10), ("evaluating 000", 0, 5)]
    left = [build.remaining(store, *step) for step in steps]
    assert build.remaining(store) == build.remaining(store, "reflecting 000", 0, 2) == whole
    assert whole > left[0] > left[1] > left[2] > left[3] == pytest.approx(whole / 2)
    assert build.remaining(store, "training 099", 1, 1) == whole
