"""How long a reply takes, and on how much context: the stopwatch of the latency benchmarks.

One condition is timed again and again; medians and 95th percentiles are made of it. Abstentions are counted but not
timed: they need no base and would flatter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mam.bench import common
from mam.bench.scoring import spread
from mam.prompt import prompt_text
from mam.space import Space
from mam.values import Turn

REPLY = 16  # tokens of the timed replies


@dataclass
class Times:
    """Measurements of one condition, in seconds, tokens per second and tokens."""

    first: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    context: list[int] = field(default_factory=list)

    def add(self, start: float, stamps: Sequence[float], tokens: int, context: int) -> None:
        """stamps: when pieces of the reply came; tokens: how many tokens they were; context: tokens before them."""
        self.first.append(stamps[0] - start)
        self.context.append(context)
        if tokens > 1 and stamps[-1] > stamps[0]:
            self.rate.append((tokens - 1) / (stamps[-1] - stamps[0]))

    def summary(self) -> dict:
        return {
            "seconds_to_first_token": spread(self.first) if self.first else None,
            "tokens_per_second": spread(self.rate, digits=1) if self.rate else None,
            "context_tokens": spread(self.context, digits=0) if self.context else None,
        }


def prompted(world: common.World, times: Times, ids: Callable[[], list[int]]) -> None:
    """The base on a prompt; making the prompt (searching, tokenising) counts."""
    start, stamps = time.perf_counter(), []
    given = ids()
    for _ in world.base.generate(given, max_tokens=REPLY):
        stamps.append(time.perf_counter())
    if stamps:
        times.add(start, stamps, len(stamps), len(given))


def streamed(space: Space, question: str, times: Times, read: bool, temporary: bool = False) -> str | None:
    """One turn through the public API, timed only if it came out as the condition says; else why it did not."""
    chat = space.session(temporary=temporary)
    start, stamps, turn = time.perf_counter(), [], None
    for event in chat.stream(question, max_tokens=REPLY, temperature=0.0):
        if event.kind == "token":
            stamps.append(time.perf_counter())
        elif event.kind == "turn":
            turn = event.data
    if turn.abstained:
        return "abstained"
    if any(given.given for given in turn.reads) != read:
        return "nothing_read" if read else "read"
    if stamps:
        times.add(start, stamps, turn.tokens, context(space, turn))
    return None


def cool(space: Space, question: str) -> None:
    """The next turn with this question pays for encoding the blocks it reads, as after a restart."""
    for read in space.read(question).reads:
        space.engine.integrator.forget(read.slot.text)


def context(space: Space, turn: Turn) -> int:
    """Tokens before the reply: the prompt, and with something read the prefix and the slots."""
    engine = space.engine
    slots = [engine.integrator.tokens(read) for read in turn.reads if read.given]
    prompt = len(engine.base.tokenizer(prompt_text(turn), add_special_tokens=False)["input_ids"])
    return prompt + (engine.integrator.config.prefix + sum(slots) if slots else 0)
