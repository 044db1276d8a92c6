"""What the base can say at best: with what answers a question, and nothing else, in its prompt or as slots.

A reply that falls short of this was lost in integrating; what both of these lack is beyond the base (see
`metrics.losses`). Does not know how the right slots are told from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mam.bench import baselines, common
from mam.prompt import compose
from mam.render import asks_when, render
from mam.values import Read, Slot


def from_slots(world: common.World, slots: Sequence[Slot], question: str, max_tokens: int | None = None) -> str:
    """What the base says when it is given these slots at equal weights, whatever the reader thinks."""
    engine, most = world.engine, max_tokens or common.MAX_TOKENS
    reads = [Read(slot, 1 / len(slots), dated=asks_when(question)) for slot in slots]
    with engine.lock:
        memory = engine.integrator.prepare(reads) if reads else None
        prompt = compose(engine.base, [], question, [], memory.start if memory else 0, most).prompt
        ids = list(engine.base.generate(prompt, max_tokens=most, memory=memory))
        return engine.base.decode(ids).strip()


def with_gold(
    world: common.World,
    rows: Sequence[dict],
    slots: Sequence[Sequence[Slot]],
    score: Callable[[dict, str], float],
    max_tokens: int | None = None,
) -> list[dict]:
    """Rows with "gold_prompt" and "gold_slots": the score 0..1 of a reply to the row's slots alone, told either way.

    slots: of each row, those that answer its question. The rest is as in `baselines.with_gold_prompt`.
    """
    most = max_tokens or common.MAX_TOKENS
    notes = [
        [render(slot, asks_when(row["question"])) for slot in given] for row, given in zip(rows, slots, strict=True)
    ]
    rows = baselines.with_gold_prompt(world.base, rows, notes, score, max_tokens=most)
    replies = [
        None if row["gold_prompt"] is None else from_slots(world, given, row["question"], most)
        for row, given in zip(rows, slots, strict=True)
    ]
    return [
        {**row, "gold_slots": None if reply is None else score(row, reply)}
        for row, reply in zip(rows, replies, strict=True)
    ]
