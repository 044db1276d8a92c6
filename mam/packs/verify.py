"""Round-trip verification: does the memory model, reading the source of a pair as slots, give the same answer?

Knows the engine (memory model and executive, as in a turn) and texts; does not know who wrote the pair. A pair that
the reader does not find in its source, or to which the executive says something else, is not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mam.decode import Prepared
from mam.engine import Engine
from mam.index import SlotIndex, words
from mam.packs.generators import plain
from mam.prompt import compose
from mam.reader import READ, Reading
from mam.values import Read, Slot

SAME = 0.5  # F1 of the words that carry meaning from which two answers are the same
LONGEST = 32  # tokens of a reply
_NOW = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """A question with the answer hoped for, and the sentences to read."""

    question: str
    answer: str
    sources: tuple[str, ...]


def answered(engine: Engine, asked: Sequence[Asked], document: str) -> list[str]:
    """What a turn would answer to each if the memory held its sentences and no others; "" if it would not read them.

    All are answered side by side: a base of this size takes little longer for several replies than for one. What they
    say may depend on who is beside them, so what is asked together belongs together. A reply that cannot become the
    same as the answer any more is not heard to its end.
    """
    readings = [_read(engine, one, document) for one in asked]
    found = [number for number, reading in enumerate(readings) if reading.decision == READ]
    if engine.integrator is None:
        said = [
            spoken(engine, asked[n].question, readings[n].reads, LONGEST, lambda text, n=n: differs(text, asked[n]))
            for n in found
        ]
    else:
        prompts = _prompts(engine, [(asked[n].question, readings[n].reads) for n in found], LONGEST)

        def enough(row: int, ids: list[int]) -> bool:
            return differs(engine.base.decode(ids), asked[found[row]])

        said = []
        for row, ids in enumerate(engine.replies(prompts, LONGEST, enough)):
            said.append(engine.base.decode(ids).strip() + (" …" if enough(row, ids) else ""))
    heard = dict(zip(found, said, strict=True))
    return [heard.get(number, "") for number in range(len(asked))]


def _read(engine: Engine, asked: Asked, document: str) -> Reading:
    slots = [Slot(str(i), text, text, document, _NOW) for i, text in enumerate(asked.sources)]
    with engine.lock:
        index = SlotIndex(engine.memory.dim)
        hidden = engine.memory.encode([asked.question, *asked.sources])
        index.add(slots, engine.memory.keys(hidden[1:]))
        return engine.memory.read(asked.question, hidden[0], index, min(len(slots), 8))


def spoken(
    engine: Engine, question: str, reads: Sequence[Read], max_tokens: int, until: Callable[[str], bool] | None = None
) -> str:
    """What the executive answers, greedily, when it is given these reads; without any, alone. until: whether enough
    was said."""
    ((prompt, memory),) = _prompts(engine, [(question, reads)], max_tokens)
    said = ""
    for piece in engine.base.speech(engine.tokens(prompt, max_tokens=max_tokens, memory=memory)):
        said += piece
        if until and until(said):
            return f"{said.strip()} …"
    return said.strip()


def _prompts(
    engine: Engine, asked: Sequence[tuple[str, Sequence[Read]]], max_tokens: int
) -> list[tuple[list, Prepared | None]]:
    """What the executive is given for questions with their reads. Nothing of it is left in its caches: nobody tells
    those when a pack forgets."""
    found = []
    with engine.lock:
        try:
            for question, reads in asked:
                memory, notes = engine.prepared([read for read in engine.within(reads) if read.given])
                start = memory.start if memory else 0
                found.append((compose(engine.base, [], question, notes, start, max_tokens).prompt, memory))
        finally:
            for read in (read for _, reads in asked for read in reads):
                engine.drop(read.slot.text)
    return found


def same(reply: str, answer: str, question: str = "") -> bool:
    """Whether two answers are the same, in the words that carry meaning; those that only repeat the question do not."""
    wanted = words(answer)
    said = words(reply) - (words(question) - wanted)
    if not said or not wanted:
        return bool(reply) and plain(reply) == plain(answer)
    return 2 * len(said & wanted) >= SAME * (len(said) + len(wanted))


def differs(begun: str, asked: Asked) -> bool:
    """Whether a reply that begins so cannot be the same as the answer, however it goes on: it says too much else."""
    wanted = words(asked.answer)
    said = words(begun.rpartition(" ")[0]) - (words(asked.question) - wanted)  # the last word may go on
    return bool(wanted) and 2 * len(wanted) < SAME * (len(said | wanted) + len(wanted))
