"""Figures: what they show is what happened, and no text in them is taken for markup."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from mam.attribution import Attribution
from mam.figures import heat_map, score_parts, stages
from mam.figures.style import plain
from mam.values import Read, Slot, Turn

NASTY = '<img src=x onerror="alert(1)"><b>My dog</b> & \x1b[31mRex\x00'


def slot(id: str, text: str) -> Slot:
    return Slot(id, text, text, "user", datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture()
def turn() -> Turn:
    parts = {"meaning": 3.0, "words": 1.0, "recency": -0.5, "speaker": 0.0}
    reads = (
        Read(slot("a", "My dog is called Rex."), 0.8, parts | {"second look": 2.5}, True),
        Read(slot("b", NASTY), 0.1, parts | {"second look": -1.0}, True),
        Read(slot("c", "My dog is called Rex."), 0.0, parts, False),  # the same text, another slot
    )
    return Turn("t", "s", "What is my dog called?", "Your dog is called Rex.", datetime(2026, 5, 2, tzinfo=UTC),
                reads=reads, null_weight=0.1, timing={"read": 0.02, "reply": 0.5, "total": 0.52})  # fmt: skip


def test_retrieved_given_and_influenced_are_told_apart(turn):
    attention = np.array([[0.1, 0.0], [0.6, 0.1]], np.float32)
    looked = Attribution(("Your", " Rex"), tuple(r.slot for r in turn.reads[:2]), attention)
    figure = heat_map(turn, looked, 10 * attention)
    bars, seen, moved = figure.data
    assert list(bars.customdata) == ["c", "b", "a"] and list(bars.x) == [0.0, 0.1, 0.8]  # heaviest on top
    assert bars.marker.color[0] != bars.marker.color[2]  # weighed only, not given
    assert len(set(bars.y)) == 3  # equal texts keep rows of their own
    assert np.isnan(seen.z[0]).all() and seen.z[2].tolist() == pytest.approx([0.1, 0.6])
    assert moved.z[2].tolist() == pytest.approx([1.0, 6.0])
    assert seen.customdata[2][0] == "a"


def test_a_turn_without_reads_has_figures_too(turn):
    bare = Turn("t", "s", "Hi!", "Hello!", turn.at)
    nothing = Attribution(("Hello", "!"), (), np.zeros((2, 0), np.float32))
    for figure in (heat_map(bare, nothing, np.zeros((2, 0))), score_parts(bare), stages(bare)):
        json.loads(figure.to_json())


@pytest.mark.parametrize("dark", [False, True])
def test_stored_text_is_shown_and_not_run(turn, dark):
    looked = Attribution(("<script>", "\n"), tuple(r.slot for r in turn.reads[:2]), np.ones((2, 2), np.float32))
    for figure in (heat_map(turn, looked, np.ones((2, 2)), dark), score_parts(turn, dark), stages(turn, dark)):
        drawn = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
        assert "<img" not in drawn and "<b>" not in drawn and "<script" not in drawn and "\\u001b" not in drawn
    assert plain("a < b & c") == "a &lt; b &amp; c"


def test_parts_of_a_score_and_stages_of_a_turn(turn):
    by_name = {trace.name: trace for trace in score_parts(turn).data}
    assert list(by_name["meaning"].x) == [3.0, 3.0, 3.0]
    assert list(by_name["second look"].x) == [None, -1.0, 2.5]
    (bars,) = stages(turn).data
    assert list(bars.x) == [20.0, 500.0] and list(bars.base) == [0, 20.0]  # one begins where the other ends
