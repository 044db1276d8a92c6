"""latency: what a memory costs, from 0 to 100,000 slots, against the base alone and against prompts.

All conditions of a repetition run one after the other in random order, so that whatever else the machine does hits
all of them alike; every figure is a median and a 95th percentile. The fillers are distinct generated sentences that
lie in the store like any other slot. Abstentions are counted but not timed: they need no base and would flatter.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mam import decode
from mam import lives as generator
from mam.bench import baselines, common, prompts
from mam.bench.scoring import spread
from mam.space import Space
from mam.store import Store, new_id
from mam.values import Slot, Turn

SIZES = (0, 100, 10_000, 100_000)
REPEATS = 30
READS = 200  # readings timed per size
REPLY = 16  # tokens of the timed replies
STEADY = 48  # tokens of the decoding comparison, stop tokens ignored


@dataclass
class Times:
    """Measurements of one condition, in seconds and tokens per second."""

    first: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)

    def add(self, start: float, stamps: Sequence[float], tokens: int) -> None:
        """`stamps`: when pieces of the reply came; `tokens`: how many tokens they were."""
        self.first.append(stamps[0] - start)
        if tokens > 1 and stamps[-1] > stamps[0]:
            self.rate.append((tokens - 1) / (stamps[-1] - stamps[0]))

    def summary(self) -> dict:
        return {"seconds_to_first_token": spread(self.first) if self.first else None,
                "tokens_per_second": spread(self.rate, digits=1) if self.rate else None}


# ---- memories of a given size ----------------------------------------------------------------------------


def filler(count: int, settings: common.Settings) -> list[str]:
    """Distinct sentences as slots would hold them, from training lives (no test sentence is an answer twice)."""
    texts: dict[str, None] = {}
    for seed in itertools.count(1_000_000):
        if len(texts) >= count:
            break
        texts.update(dict.fromkeys(fact.text for fact in generator.life(seed, "train", facts=settings.facts).facts))
    return list(texts)[:count]


@contextmanager
def filled(world: common.World, life: generator.Life, texts: Sequence[str], keys: np.ndarray) -> Iterator[Space]:
    """A space that was told a life and holds `texts` beside it; the fillers are stored in one transaction."""
    folder = Path(tempfile.mkdtemp(prefix="mam-bench-"))
    try:
        with world.space(folder) as space:
            if texts:
                common.tell(space, life)
        store = Store(folder)
        with store.atomic():
            for text, key in zip(texts, keys, strict=True):
                slot = Slot(id=new_id(), text=text, said=text, speaker="user", told=datetime.now(UTC))
                store.add_slot(slot, key, world.memory.fingerprint)
        store.close()
        with world.space(folder) as space:
            yield space
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- one measurement -------------------------------------------------------------------------------------


def prompted(world: common.World, times: Times, ids: Callable[[], list[int]]) -> None:
    """The base on a prompt; making the prompt (searching, tokenising) counts."""
    start, stamps = time.perf_counter(), []
    for _ in world.base.generate(ids(), max_tokens=REPLY):
        stamps.append(time.perf_counter())
    if stamps:
        times.add(start, stamps, len(stamps))


def streamed(space: Space, question: str) -> tuple[Turn, float, list[float]]:
    """A turn through the public API: (turn, when it started, when pieces of the reply came)."""
    chat = space.session()
    start, stamps, turn = time.perf_counter(), [], None
    for event in chat.stream(question, max_tokens=REPLY, temperature=0.0):
        if event.kind == "token":
            stamps.append(time.perf_counter())
        elif event.kind == "turn":
            turn = event.data
    return turn, start, stamps


def with_memory(space: Space, question: str, times: dict[str, Times], name: str, outcome: str) -> bool:
    """Time one turn; it counts only if it came out as the condition says ("read" or "alone")."""
    turn, start, stamps = streamed(space, question)
    given = [read.slot for read in turn.reads if read.given]
    if turn.abstained or bool(given) != (outcome == "read") or not stamps:
        return False
    times.setdefault(name, Times()).add(start, stamps, turn.tokens)
    return True


def forget(space: Space) -> None:
    """Every cached slot block: the next reading pays for encoding what it reads."""
    for text in [slot.text for slot in space.reading_cache()]:
        space.integrator.forget(text)
