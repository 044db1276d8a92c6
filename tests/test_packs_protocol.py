"""Packs: how an executive questions one, in stages within a budget, and in a single step."""

from __future__ import annotations

import pytest

from mam.errors import InputError
from mam.packs.protocol import (
    ABSTAINS,
    ANSWER,
    ENTITIES,
    EXECUTIVE,
    GROUNDING,
    PACK,
    SYNTHESIS,
    Recalled,
    explored,
    single,
    staged,
)

FACTS = {
    "Who built the mill?": "Edgar Vane",
    "Who or what is Edgar Vane?": "a miller of Lancaster",
    "When was Edgar Vane born?": "in 1801",
}


class Executive:
    """Says what it is scripted to, by the first words of what it is asked."""

    def __init__(self, **lines: str):
        self.lines, self.given = lines, []

    def __call__(self, words: str, notes) -> str:
        if words.startswith("Take this question apart"):
            return self.lines.get("parts", "")
        if "Which persons or things" in words:
            return self.lines.get("entities", "")
        if "What else has to be known" in words:
            return self.lines.get("following", "")
        self.given.append(list(notes))
        return f"from {len(notes)} notes"


def memory(question: str) -> Recalled:
    known = question in FACTS
    return Recalled(FACTS.get(question, "I do not know."), known, "000", 0.9 if known else 0.8)


def stages(answer):
    return [(call.stage, call.to, call.pruned) for call in answer.calls]


def test_the_stages_in_their_order():
    executive = Executive(
        parts="1. Who built the mill?", entities="- Edgar Vane", following="When was Edgar Vane born?"
    )
    answer = staged("When was the builder of the mill born?", executive, memory)
    assert stages(answer) == [
        (GROUNDING, PACK, "does not know"),  # the question as it was asked
        (GROUNDING, EXECUTIVE, ""),
        (GROUNDING, PACK, ""),
        (ENTITIES, EXECUTIVE, ""),
        (ENTITIES, PACK, ""),
        (ANSWER, EXECUTIVE, ""),
        (ANSWER, PACK, ""),
        (SYNTHESIS, EXECUTIVE, ""),
    ]
    assert answer.known and answer.text == "from 3 notes" and answer.shard == "000"
    assert executive.given == [[f"{question} {said}" for question, said in FACTS.items()]]
    assert "Edgar Vane" in answer.calls[3].asked  # what came back is told


def test_explored_is_the_same_without_the_last_call():
    how = {"parts": "1. Who built the mill?", "entities": "- Edgar Vane", "following": "When was Edgar Vane born?"}
    question = "When was the builder of the mill born?"
    held = explored(question, Executive(**how), memory)
    assert held.calls == list(staged(question, Executive(**how), memory).calls[:-1])
    assert held.notes == [f"{question} {said}" for question, said in FACTS.items()]


def test_dead_ends_are_not_followed():
    executive = Executive(parts="Who built the mill?", entities="The Lune\nEdgar Vane", following="Was he tall?\nHow?")
    answer = staged("Who was the builder?", executive, memory)
    asked = [call.asked for call in answer.calls if call.to == PACK]
    assert asked == ["Who was the builder?", "Who built the mill?", "Who or what is The Lune?",
                     "Who or what is Edgar Vane?", "Was he tall?", "How?"]  # fmt: skip
    assert sum(call.stage == ANSWER and call.to == EXECUTIVE for call in answer.calls) == 1  # none about the Lune


def test_nothing_is_asked_twice_and_what_does_not_stand_alone_not_at_all():
    executive = Executive(parts="Who built the mill?\nwho built the Mill?\nWhere did he live?\nno question")
    answer = staged("Who built the mill?", executive, memory)
    assert [call.asked for call in answer.calls if call.to == PACK] == ["Who built the mill?"]


def test_when_nothing_comes_back_the_executive_is_not_asked_to_make_something_up():
    executive = Executive(parts="Who built the tower?")
    answer = staged("When was the tower built?", executive, memory)
    assert (answer.text, answer.known) == (ABSTAINS, False) and executive.given == []
    assert single("When was the tower built?", executive, memory).text == ABSTAINS and executive.given == []


def test_what_is_hardly_believed_is_a_guess():
    answer = single("Who built the mill?", Executive(), lambda _: Recalled("Edgar Vane", True, "000", 0.01))
    assert not answer.known and [call.pruned for call in answer.calls] == ["unsure"]


@pytest.mark.parametrize("budget", range(2, 10))
def test_the_budget_is_kept(budget):
    executive = Executive(parts="Who built the mill?\nWho?\nWhat?", entities="Edgar Vane\nThe mill", following="a?\nb?")
    answer = staged("Who built the mill?", executive, memory, budget)
    assert len(answer.calls) <= budget
    assert answer.known and answer.calls[-1].stage == SYNTHESIS  # two calls are enough


def test_a_budget_that_is_too_small():
    with pytest.raises(InputError, match="budget of 1"):
        staged("Who?", Executive(), memory, 1)


def test_the_single_step():
    answer = single("Who built the mill?", Executive(), memory)
    assert stages(answer) == [(ANSWER, PACK, ""), (SYNTHESIS, EXECUTIVE, "")]
    own = single("Who built the mill?", None, memory)
    assert own.text == "Edgar Vane" and stages(own) == [(ANSWER, PACK, "")]
    assert not single("Who built the tower?", None, memory).known
