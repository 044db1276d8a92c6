"""Figures: what they show is what happened, and no text in them is taken for markup."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from mam.atlas import Layout
from mam.attribution import Attribution
from mam.figures import heat_map, memory_map, question, score_parts, shade, stages
from mam.figures.map import COLOURS
from mam.figures.style import plain
from mam.values import Read, Slot, Turn

NOW = datetime(2026, 5, 2, tzinfo=UTC)
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


# -- the map --------------------------------------------------------------------------------------------------------


def a_map(count: int = 4, dimensions: int = 2, **more) -> tuple[Layout, list[Slot]]:
    slots = [replace(slot(f"s{n}", NASTY if n == 1 else f"Memory {n}."), score=n / count) for n in range(count)]
    at = np.arange(count * dimensions, dtype=float).reshape(count, dimensions)
    return Layout(tuple(s.id for s in slots), at, "PCA", {"n": count}, NOW, **more), slots


def points(figure) -> dict[str, tuple]:
    """Where each slot is drawn, by id."""
    return {
        id: (x, y)
        for trace in figure.data if trace.meta == "slots"
        for id, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }  # fmt: skip


@pytest.mark.parametrize("by", COLOURS)
def test_every_slot_is_on_the_map_whatever_its_colour_says(by):
    layout, slots = a_map(40)
    slots = [replace(s, session=f"c{n % 9}", tags=("t",) * (n == 3), reads=n) for n, s in enumerate(slots)]
    slots[5] = replace(slots[5], score=None, state="deleted", document="<b>notes</b>.md")
    titles = {f"c{n}": f"<script>{n}" for n in range(9)}
    for dark, dimensions in ((False, 2), (True, 3)):
        layout, _ = a_map(40, dimensions)
        figure = memory_map(layout, slots, shade(by, slots, NOW, titles, {"s1": 0.5}), dark)
        assert set(points(figure)) == set(layout.ids)
        drawn = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
        assert not any(bad in drawn for bad in ("<img", "<b>", "<script", "\\u001b"))
        shapes = [np.atleast_1d(trace.marker.symbol) for trace in figure.data if trace.meta == "slots"]
        assert [shape for each in shapes for shape in each].count("x") == 1  # in the trash: not a colour alone
        colours = [trace.marker.color for trace in figure.data if isinstance(trace.marker.color, str)]
        assert len(set(colours)) <= 8


def test_a_search_greys_out_and_hides_nothing():
    layout, slots = a_map()
    figure = memory_map(layout, slots, shade("State", slots, NOW), matched={"s2"})
    assert points(figure) == points(memory_map(layout, slots, shade("State", slots, NOW)))
    grey, found = (trace for trace in figure.data if trace.meta == "slots")
    assert list(found.customdata) == ["s2"] and grey.marker.opacity < 0.5 and grey.name == "not found (3)"


def test_the_question_lies_at_the_mean_of_what_it_read_with_lines_as_thick_as_it_counted():
    layout, slots = a_map()
    reads = (Read(slots[0], 0.6), Read(slots[2], 0.2), Read(slots[3], 0.1, {}, False), Read(slot("x", "x"), 0.1))
    asked = question(Turn("t", "s", NASTY, "", NOW, reads=reads))
    figure = memory_map(layout, slots, shade("State", slots, NOW), asked=asked)
    (star,) = (trace for trace in figure.data if trace.name == "the last message")
    assert (star.x[0], star.y[0]) == pytest.approx((1.0, 2.0))  # (0, 1) three times, (4, 5) once
    one, other = (trace for trace in figure.data if trace.name and trace.name.startswith("read "))
    assert list(one.x) == [1.0, 0.0] and one.line.width > 2 * other.line.width
    nothing = memory_map(layout, slots, shade("Age", slots, NOW), asked=question(Turn("t", "s", "Hi!", "", NOW)))
    assert not any(trace.name == "the last message" for trace in nothing.data)


def test_an_edited_slot_leaves_a_trail_and_a_chosen_one_is_ringed():
    layout, slots = a_map(before={"s1": np.array([9.0, 9.0]), "gone": np.array([5.0, 5.0])})
    figure = memory_map(layout, slots, shade("State", slots, NOW), chosen="s3")
    (trail,) = (trace for trace in figure.data if trace.name == "trail")
    assert list(trail.x) == [9.0, 2.0, None] and list(trail.y) == [9.0, 3.0, None]
    (ring,) = (trace for trace in figure.data if trace.meta == "chosen")
    assert (list(ring.x), list(ring.y)) == ([6.0], [7.0])


def test_many_points_are_drawn_by_webgl():
    assert {trace.type for trace in memory_map(*a_map(1200), shade("State", a_map(1200)[1], NOW)).data} == {"scattergl"}
