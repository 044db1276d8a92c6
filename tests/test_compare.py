"""One question answered five ways: every way sees what was said, and nothing of it is stored."""

from __future__ import annotations

import pytest
from fakes import RuleMemory

from mam import compare as comparing
from mam.compare import WAYS, compare, told
from mam.errors import InputError


@pytest.fixture(autouse=True)
def minilm(monkeypatch):
    monkeypatch.setattr(comparing, "_minilm", RuleMemory)
    monkeypatch.setattr(comparing, "MAX_TOKENS", 4)


def test_every_way_answers_and_nothing_is_stored(m):
    chat = m.session()
    chat.send("My dog is called Rex. It is raining.", max_tokens=4)
    m.add("My cat is called Tom.")
    version, before = m.version(), [t.id for t in chat.turns()]
    answers = {answer.way: answer for answer in compare(m, "What is my dog called?")}
    assert tuple(answers) == WAYS and all(answer.seconds > 0 for answer in answers.values())
    bare, whole, memory = answers["none"], answers["full_context"], answers["memory"]
    assert bare.context < answers["prompt_bm25"].context and bare.context < whole.context
    assert memory.memory > 0 and memory.context - memory.memory == bare.context
    assert (m.version(), [t.id for t in chat.turns()]) == (version, before)


def test_what_was_told_is_dated_and_in_order(m):
    m.session().send("My dog is called Rex. It is raining.", max_tokens=4)
    m.add("My cat is called Tom.")
    said = told(m)
    assert [note.split("] ")[1] for note in said.notes] == [
        "My dog is called Rex.", "It is raining.", "My cat is called Tom.",
    ]  # fmt: skip
    assert said.transcript[0].endswith("User: My dog is called Rex. It is raining.")
    assert said.transcript[1].split("] ")[1].startswith("Assistant: ")


def test_an_empty_memory_and_an_abstention_can_be_compared(m):
    answers = list(compare(m, "What is my horse called?"))
    assert len(answers) == len(WAYS) and answers[-1].reply == "You haven't told me that."
    assert answers[-1].context == 0


def test_an_empty_question_is_refused(m):
    with pytest.raises(InputError, match="nothing in this message"):
        next(compare(m, " "))
