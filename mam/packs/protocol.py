"""How an executive questions a pack: in stages, as MeMo does (arXiv 2605.15156, section 3), or in a single step.

    grounding    the memory LM is asked the question; the executive takes it apart; the memory LM is asked each part
    entities     who or what is it about? the executive names them from what came back; the memory LM is asked for each
    answer       the executive asks about these until it can answer, or the budget of calls is spent
    synthesis    it answers from all that came back; with nothing that came back, it says that the pack does not know

What the memory LM does not know is a dead end: nothing further is asked in that direction. The single step, for an
executive too small to plan: the memory LM answers the question itself, the executive phrases. Knows two functions, to
ask the executive and to ask the memory LM; knows neither networks nor files. Every call is kept for the trace.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mam.errors import InputError
from mam.packs.generators import plain, stands_alone
from mam.packs.values import Answer, Call

GROUNDING, ENTITIES, ANSWER, SYNTHESIS = "grounding", "entities", "answer", "synthesis"
EXECUTIVE, PACK = "executive", "pack"
BUDGET = 12  # calls of both together
PARTS, CANDIDATES, FOLLOWING = 3, 2, 2  # questions, entities and further questions that are followed at most
UNSURE = 0.1  # confidence below which what the memory LM says is taken for a guess
ABSTAINS = "The pack does not hold that."

TAKE_APART = (
    "Take this question apart: write the short questions that have to be answered first, one on a line, each"
    " understandable by itself. Write nothing else.\nQuestion: {question}"
)
NAME_THEM = (
    "{notes}\n\nWhich persons or things is this question about? Write their names, one on a line, and nothing else.\n"
    "Question: {question}"
)
SEEK = (
    "{notes}\n\nWhat else has to be known about {entity} to answer the question below? Write short questions that name"
    " {entity}, one on a line. Write nothing else.\nQuestion: {question}"
)


@dataclass(frozen=True)
class Recalled:
    """What the memory LM says to a question."""

    text: str
    known: bool  # False: it declines
    shard: str
    confidence: float
    adapter: str = ""  # sha256 of the weights that said it


Executive = Callable[[str, Sequence[str]], str]  # a question, and notes that it is given -> what it says
Memory = Callable[[str], Recalled]


@dataclass
class Exchange:
    """The calls so far; refuses to make more than the budget allows, or any once it is to stop."""

    executive: Executive
    memory: Memory
    budget: int
    stop: threading.Event = field(default_factory=threading.Event)
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what came back

    @property
    def left(self) -> int:
        """One call is always kept back for the synthesis."""
        return 0 if self.stop.is_set() else self.budget - len(self.calls) - 1

    def ask_executive(self, stage: str, words: str, most: int) -> list[str]:
        """The lines of what it says, without bullets, at most so many; none when there is no budget for that."""
        if self.left < 1:
            return []
        said = self.executive(words, [])
        self.calls.append(Call(stage, EXECUTIVE, words, said))
        lines = [re.sub(r"^\W*(?:\d+[.)])?\s*", "", line).strip() for line in said.splitlines()]
        return list(dict.fromkeys(line for line in lines if line))[:most]

    def ask_pack(self, stage: str, question: str) -> bool:
        """Whether the memory LM knows; what it says is a note then, else a dead end."""
        if self.left < 1 or any(call.to == PACK and plain(call.asked) == plain(question) for call in self.calls):
            return False
        said = self.memory(question)
        why = dead_end(said)
        self.calls.append(Call(stage, PACK, question, said.text, said.shard, said.confidence, why))
        if not why:
            self.notes.append(f"{question} {said.text}")
        return not why


def staged(question: str, executive: Executive, memory: Memory, budget: int = BUDGET) -> Answer:
    """The protocol of the paper. budget: calls of both together. Raises InputError for a budget below 2."""
    began = time.perf_counter()
    return _synthesis(question, explored(question, executive, memory, budget), began)


def explored(
    question: str, executive: Executive, memory: Memory, budget: int = BUDGET, stop: threading.Event | None = None
) -> Exchange:
    """The same up to the synthesis, whose call is kept back: what was asked, and the notes to answer from.

    Setting `stop` ends it with the call that is being made.
    """
    if budget < 2:
        raise InputError(f"A budget of {budget} is too small; it takes two calls at least to ask and to answer.")
    held = Exchange(executive, memory, budget, stop or threading.Event())
    held.ask_pack(GROUNDING, question)  # first: with the least budget there is no other call
    for part in held.ask_executive(GROUNDING, TAKE_APART.format(question=question), PARTS):
        if part.endswith("?") and stands_alone(part):
            held.ask_pack(GROUNDING, part)
    if held.notes:
        for entity in held.ask_executive(ENTITIES, _filled(NAME_THEM, held, question), CANDIDATES):
            if not held.ask_pack(ENTITIES, f"Who or what is {entity}?"):
                continue
            seek = _filled(SEEK, held, question, entity=entity)
            for following in held.ask_executive(ANSWER, seek, FOLLOWING):
                held.ask_pack(ANSWER, following)
    return held


def single(question: str, executive: Executive | None, memory: Memory) -> Answer:
    """The memory LM answers, the executive phrases; without one, the memory LM's own words are the answer."""
    began, held = time.perf_counter(), Exchange(executive, memory, 3)
    known = held.ask_pack(ANSWER, question)
    if known and executive is None:
        (call,) = held.calls
        return Answer(question, call.reply, True, (call,), time.perf_counter() - began, call.shard, call.confidence)
    return _synthesis(question, held, began)


def dead_end(said: Recalled) -> str:
    """Why nothing further is asked in the direction of this; "" if it is followed."""
    if not said.shard:
        return "nothing of it is ready to answer"
    if not said.known:
        return "does not know"
    return "" if said.confidence >= UNSURE else "unsure"


def _synthesis(question: str, held: Exchange, began: float) -> Answer:
    """With nothing that came back there is nothing to say: no executive is asked to make something up."""
    followed = [call for call in held.calls if call.to == PACK and not call.pruned]
    if not followed:
        return Answer(question, ABSTAINS, False, tuple(held.calls), time.perf_counter() - began)
    said = held.executive(question, held.notes)
    held.calls.append(Call(SYNTHESIS, EXECUTIVE, question, said))
    best = max(followed, key=lambda call: call.confidence)
    answer = Answer(question, said, True, tuple(held.calls), 0.0, best.shard, best.confidence)
    return replace(answer, seconds=time.perf_counter() - began)


def _filled(words: str, held: Exchange, question: str, **more: str) -> str:
    notes = "Notes:\n" + "\n".join(f"- {note}" for note in held.notes)
    return words.format(notes=notes, question=question, **more)
