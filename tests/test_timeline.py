"""What happened to slots, in the order in which it happened, and how each turn left the memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mam.errors import InputError
from mam.figures import raster
from mam.timeline import ARCHIVE, DELETE, EDIT, READ, REPLACE, RESTORE, WRITE

DOG, MAX = "My dog is called Rex.", "My dog is actually called Max."


@pytest.fixture
def told(m):
    """(told in turn 0, its replacement in turn 1, read in turn 2 of another session, by hand in between)."""
    monday = m.session("Monday")
    rex = monday.send(DOG, max_tokens=2).writes[0].slot
    note = m.add("A boat lies in the harbour.")
    m.edit(note.id, "A ship lies in the harbour.")
    new = monday.send(MAX, max_tokens=2).writes[0].slot
    friday = m.session("Friday")
    friday.send("What is my dog called?", max_tokens=2)
    m.delete(note.id)
    m.restore(note.id)
    m.archive(note.id)
    m.tag(note.id, "sea")
    return rex, new, note, monday.id, friday.id


def kinds(found, slot) -> list[tuple]:
    return [(event.kind, event.step, event.by) for event in found.happenings if event.slot == slot.id]


def test_everything_in_its_turn_or_between_two(m, told):
    rex, new, note, monday, friday = told
    found = m.timeline()
    assert [(step.text, step.session) for step in found.steps] == [
        (DOG, monday), (MAX, monday), ("What is my dog called?", friday),
    ]  # fmt: skip
    assert kinds(found, rex) == [(WRITE, 0, "chat"), (REPLACE, 1, "chat")]
    assert kinds(found, new) == [(WRITE, 1, "chat"), (READ, 2, "chat")]
    assert kinds(found, note) == [
        (WRITE, 0.5, "user"), (EDIT, 0.5, "user"),
        (DELETE, 2.5, "user"), (RESTORE, 2.5, "user"), (ARCHIVE, 2.5, "user"),
    ]  # fmt: skip
    (read,) = (event for event in found.happenings if event.kind == READ)
    assert 0 < read.weight <= 1 and read.turn == found.steps[2].turn
    assert [event.step for event in found.happenings] == sorted(event.step for event in found.happenings)


def test_one_session_alone(m, told):
    rex, new, note, monday, friday = told
    found = m.timeline(friday)
    assert len(found.steps) == 1 and kinds(found, rex) == []
    assert kinds(found, new) == [(WRITE, -0.5, "chat"), (READ, 0, "chat")]  # told in another conversation, before
    assert {event.slot for event in m.timeline(monday).happenings} == {rex.id, new.id}
    assert m.timeline("of somebody else").steps == ()


def test_as_it_was_after_each_turn(m, told):
    rex, new, note, monday, friday = told
    was = [{slot.id for slot in m.slots(as_of=step.done)} for step in m.timeline().steps]
    assert was == [{rex.id}, {note.id, new.id}, {note.id, new.id}]


def test_an_import_of_what_was_said_long_ago_is_replayed_as_it_was_heard(m):
    chat = m.session("Old letters")
    for text, day in ((DOG, 1), ("I live in Oslo.", 2)):
        chat.observe(text, at=datetime(2001, 5, day, tzinfo=UTC))
    steps = m.timeline(chat.id).steps
    assert [len(m.slots(as_of=step.done)) for step in steps] == [1, 2] and steps[0].at.year == 2001


def test_purged_slots_and_turns_taken_back_leave_no_marks(m, told):
    rex, new, note, monday, friday = told
    m.purge(new.id)
    assert all(event.slot != new.id for event in m.timeline().happenings)
    m.session(monday).take_back()
    assert len(m.timeline().steps) == 2
    with pytest.raises(InputError):
        m.slot(new.id)


@pytest.mark.parametrize("dark", [False, True])
def test_the_raster_shows_all_of_it_and_runs_nothing(m, told, dark):
    rex, new, note, monday, friday = told
    nasty = '<img src=x onerror="alert(1)"><b>My</b> \x1b[31mboat\x00 & co'
    m.session("<script>alert(1)</script>").send(f"{nasty} is mine.", max_tokens=2)
    slots = {slot.id: slot for slot in m.slots(None)}
    titles = {session.id: session.title for session in m.sessions()}
    figure = raster(m.timeline(), slots, titles, dark, 1)
    drawn = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    assert not any(bad in drawn for bad in ("<img", "<b>My", "<script", "\\u001b"))
    names = {trace.name.split(" (")[0]: trace for trace in figure.data}
    assert list(names["edited"].customdata[0]) == [note.id, ""] and names["edited"].x[0] == 1.5
    assert list(names["replaced by a newer one"].customdata[0]) == [rex.id, m.timeline().steps[1].turn]
    shapes = {trace.marker.symbol for trace in figure.data if trace.mode == "markers"}
    assert len(shapes) == len([trace for trace in figure.data if trace.mode == "markers"])  # not by colour alone
    assert figure.layout.shapes[-1].x0 == 2
    empty = raster(m.timeline("nobody"), {}, {}, dark)
    assert json.loads(empty.to_json())["data"]
