"""A slot in words: who said it, what, and on what day where that is asked; the same for the reader and the base."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from mam.index import SlotIndex
from mam.integrator import Integrator, IntegratorConfig
from mam.notes import exchange
from mam.prompt import Asked, described
from mam.reader import Reader, Thresholds
from mam.render import asks_when, render
from mam.reranker import Judgement
from mam.values import Read, Slot

TOLD = datetime(2026, 5, 3, 12, tzinfo=UTC)
LOST = Slot("1", "I lost my umbrella.", "I lost my umbrella.", "user", TOLD)
DATED = "I lost my umbrella. (told on 3 May 2026)"


@pytest.mark.parametrize(
    "message",
    ["When did I lose it?", "when was that", "Which year was Ana in Rome?", "On what day did we meet?",
     "Since when do I smoke?", "How long ago did I move?", "How long have I lived here?", "What date was it?"],
)  # fmt: skip
def test_some_messages_ask_when(message):
    assert asks_when(message)


@pytest.mark.parametrize(
    "message",
    ["What do I wear when it rains?", "When does the library open?", "Which day is best?", "I was sad when he left.",
     "What was it?", ""],
)  # fmt: skip
def test_others_do_not(message):
    assert not asks_when(message)


def test_a_slot_says_who_told_it_and_when_if_asked():
    assert render(LOST) == LOST.text and render(LOST, dated=True) == DATED
    assert render(replace(LOST, speaker="Ana")) == "Ana: I lost my umbrella."
    assert render(replace(LOST, speaker="report.txt", document="report.txt")) == LOST.text


@pytest.mark.parametrize(
    "text",
    ["I moved here in 1998.", "We met last Friday (1 May 2026).", "My train leaves at 7:15.", "I rest on Sundays."],
)
def test_a_slot_that_says_when_is_left_as_it_is(text):
    assert render(replace(LOST, text=text), dated=True) == text


def test_a_slot_that_speaks_of_a_day_is_left_as_it_is():
    assert render(replace(LOST, when="2026-05-01"), dated=True) == LOST.text


def test_the_second_look_reads_what_the_base_will_read():
    index, looked = SlotIndex(4), []
    index.add([LOST, replace(LOST, id="2", text="I found it.", speaker="Ana")], np.eye(4, dtype=np.float32)[:2])

    def second_look(found):
        looked.extend(found[0].texts)
        return [Judgement(np.full(len(found[0].texts), 3.0, dtype=np.float32))]

    hidden = np.zeros(8, dtype=np.float32)
    for message in ("When did I lose my umbrella?", "What did I lose?"):
        reading = Reader(8, 4).read(message, hidden, index, 8, TOLD, Thresholds(glance=0.0), second_look)
        assert {render(read.slot, read.dated) for read in reading.reads} == set(looked[-2:])
    assert set(looked[:2]) == {DATED, "Ana: I found it. (told on 3 May 2026)"}
    assert set(looked[2:]) == {LOST.text, "Ana: I found it."}


def test_the_base_is_told_the_day_it_is_asked_for(tiny_base):
    integrator = Integrator(tiny_base, IntegratorConfig(base=tiny_base.fingerprint))
    dated = Read(LOST, 1.0, dated=True)
    integrator.prepare([dated])
    assert list(integrator._blocks) == [DATED]
    assert integrator.tokens(dated) > integrator.tokens(Read(LOST, 1.0))
    integrator.forget(LOST.text)  # an edit, a delete, a purge: however it was read
    assert not integrator._blocks
    assert DATED in exchange([dated])[0]["content"]
    assert DATED in described(tiny_base, [dated], Asked([], [], ""))
