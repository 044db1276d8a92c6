"""One question, answered five ways by the same frozen base: what a memory model does that a prompt does not.

No memory, the whole history in the prompt, eight retrieved notes in the prompt (BM25 or MiniLM, in the prompt form that
served each best, see `bench.prompts`), and the memory model. Nothing of it is stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from mam import fetch
from mam.bench.baselines import MiniLM, Told, cut, message_lists
from mam.candidates import split
from mam.prompt import sizes
from mam.values import ASSISTANT, USER

if TYPE_CHECKING:
    from mam.space import Space

WAYS = ("none", "full_context", "prompt_bm25", "prompt_minilm", "memory")
MAX_TOKENS = 48


@dataclass(frozen=True)
class Answer:
    """What the base said one way."""

    way: str  # of WAYS
    reply: str
    context: int  # tokens that the base was given: slots and prompt
    memory: int  # of these, tokens of slots
    seconds: float  # from the question to the last token, retrieval included


def compare(space: Space, question: str) -> Iterator[Answer]:
    """The answers in the order of WAYS, each as soon as it is there. Raises InputError for an empty question."""
    from mam.space import cleaned

    question = cleaned(question)
    said = told(space)
    for way in WAYS[:-1]:
        began = time.perf_counter()
        (messages,) = message_lists(way, said, [question], _minilm())
        base = space.engine.base
        prompt = cut(base, messages, base.context - MAX_TOKENS)
        reply = "".join(base.speech(space.engine.tokens(prompt, max_tokens=MAX_TOKENS))).strip()
        yield Answer(way, reply, base.size(prompt), 0, time.perf_counter() - began)
    yield _remembered(space, question)


def told(space: Space) -> Told:
    """Everything said in any conversation, and what was added by hand, as a prompt can hold it; oldest first."""
    said: list[tuple[datetime, str, str, list[str]]] = []
    for session in space.sessions():
        for turn in space.turns(session.id):
            sentences = [candidate.said for candidate in split(turn.text, now=turn.at)] if turn.text else []
            said += [(turn.at, USER, turn.text, sentences)] if turn.text else []
            said += [(turn.at, ASSISTANT, turn.reply, [])] if turn.reply else []
    said += [(slot.told, USER, slot.said, [slot.said]) for slot in space.slots() if slot.turn is None]
    return Told.of(sorted(said, key=lambda item: item[0]))


def _remembered(space: Space, question: str) -> Answer:
    began = time.perf_counter()
    turn = space.session(temporary=True).send(question, max_tokens=MAX_TOKENS)
    seconds = time.perf_counter() - began
    if turn.abstained:
        return Answer("memory", turn.reply, 0, 0, seconds)
    with space.engine.lock:
        memory, prompt = sizes(space.engine.base, space.engine.integrator, turn)
    return Answer("memory", turn.reply, memory + prompt, memory, seconds)


@cache
def _minilm() -> MiniLM:
    return MiniLM(fetch.encoder())
