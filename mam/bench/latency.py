"""latency: what a memory costs, from 0 to 1,000,000 slots, against the base alone and against prompts.

All conditions of a repetition run one after the other in random order, so that whatever else the machine does hits
all of them alike; every figure is a median and a 95th percentile. The fillers are distinct generated sentences that
lie in the store like any other slot; beyond 100,000 their keys are random, because encoding a million would take longer
than all that is measured, and a search costs the same. How it goes with the length of the history is in `growth`.

Memory: `memory_mib` of a condition is what one reply takes at its peak, and on CUDA `device_mib` all that is taken
there; the `memory_mib` on top is what opening a memory of each size and reading once takes. An open memory is in RAM as
a whole, nothing of it is memory-mapped.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mam import decode
from mam import lives as generator
from mam.bench import baselines, common, growth, prompts, store, timing
from mam.bench.scoring import spread
from mam.space import Space
from mam.store import Store, new_id
from mam.values import USER, Slot

SIZES = (0, 100, 1_000, 10_000, 100_000, 1_000_000)
ENCODED = 100_000  # fillers that the encoder has read
REPEATS = 30
READS = 200  # readings timed per size
BATCH = 5_000  # slots written at once
STEADY = 48  # tokens of the decoding comparison, stop tokens ignored


# ---- memories of a given size ----------------------------------------------------------------------------


def filler(count: int, settings: common.Settings) -> list[str]:
    """Distinct sentences as slots would hold them, from training lives (no test sentence is an answer twice)."""
    texts: dict[str, None] = {}
    for seed in itertools.count(1_000_000):
        if len(texts) >= count:
            break
        texts.update(dict.fromkeys(fact.text for fact in generator.life(seed, "train", facts=settings.facts).facts))
    return list(texts)[:count]


def fill(
    folder: Path, world: common.World, size: int, life: generator.Life, texts: Sequence[str], keys: np.ndarray
) -> None:
    """Put `size` slots into a folder: a life that was told and fillers, beyond those encoded with random keys."""
    with world.open(folder) as space:
        if size:
            common.tell(space, life)
        rest = max(size - space.count(), 0)
    with closing(Store(folder)) as opened:
        for start in range(0, min(rest, len(texts)), BATCH):
            part = slice(start, min(start + BATCH, rest))
            opened.add_slots([_slot(text) for text in texts[part]], keys[part], world.memory.fingerprint)
    store.fill(folder, world, max(rest - len(texts), 0))


def _slot(text: str) -> Slot:
    return Slot(new_id(), text, text, USER, datetime.now(UTC))


# ---- the base and its prompts, through the whole turn ----------------------------------------------------


@dataclass
class Talk:
    """What is asked: `personal` is answered by the life that was told, `general` by no memory."""

    life: generator.Life
    personal: list[str]
    general: list[str]
    facts: list[str]  # told while timing writes

    def asked(self, number: int) -> dict[str, str]:
        """The questions of a repetition, by kind."""
        kinds = {"question": self.personal, "general": self.general}
        return {kind: pool[number % len(pool)] for kind, pool in kinds.items()}

    @classmethod
    def make(cls, settings: common.Settings) -> Talk:
        life = common.life(settings, settings.seed)
        return cls(
            life,
            [question.text for question in life.questions if question.type == "single"],
            generator.general_prompts(settings.split),
            [fact.text for fact in common.life(settings, settings.seed + 1).facts],
        )


def prompt_conditions(world: common.World, talk: Talk) -> dict[str, Callable[[str], list[int]]]:
    """Token ids by condition, for a question."""
    base, told = world.base, baselines.Told.in_life(talk.life)
    index = baselines.BM25(told.notes)
    retrieval, k = prompts.FORMS[prompts.CHOSEN["prompt_bm25"].form], prompts.CHOSEN["prompt_bm25"].notes
    whole = prompts.FORMS[prompts.CHOSEN["full_context"].form]
    room = base.context - timing.REPLY
    return {
        "base_alone": lambda q: base.prompt(prompts.bare((), q)),
        "prompt_retrieval": lambda q: base.prompt(retrieval([told.notes[i] for i in index.best(q, k)], q)),
        "prompt_whole_history": lambda q: baselines.cut(base, whole(told.transcript, q), room),
    }


def conditions(world: common.World, spaces: dict[int, Space], talk: Talk) -> dict[str, Callable]:
    """For each condition, what asks one of two questions, about the life or about anything, and adds how long it took;
    it returns why that was not timed, if so. The blocks of a question are warm only after it was asked cold.
    """

    def prompted(make: Callable, kind: str, times: timing.Times, **asked: str) -> None:
        timing.prompted(world, times, partial(make, asked[kind]))

    def memory(space: Space, kind: str, cold: bool, times: timing.Times, **asked: str) -> str | None:
        if cold:
            timing.cool(space, asked["question"])
        return timing.streamed(space, asked[kind], times, read=kind == "question")

    makers = prompt_conditions(world, talk)
    found = {name: partial(prompted, make, "question") for name, make in makers.items()}
    found["base_alone_general"] = partial(prompted, makers["base_alone"], "general")
    for size, space in spaces.items():
        if size:
            found[f"memory_{size}_read_cold"] = partial(memory, space, "question", True)
            found[f"memory_{size}_read_warm"] = partial(memory, space, "question", False)
        found[f"memory_{size}_nothing_read"] = partial(memory, space, "general", False)
    return found


def reply_memory(world: common.World, way: Callable, talk: Talk, most: int) -> dict[str, int]:
    """Peak memory of the first reply that comes out as its condition says, of so many; {} if none does."""
    for number in range(most):
        with common.peak_memory(world.base.device) as found:
            missed = way(timing.Times(), **talk.asked(number))
        if not missed:
            return common.mib(found)
    return {}


def turns(world: common.World, spaces: dict[int, Space], talk: Talk, repeats: int, seed: int) -> dict:
    """Time to first token, tokens per second and memory of every condition, interleaved."""
    times: dict[str, timing.Times] = defaultdict(timing.Times)
    writes: dict[str, list[float]] = defaultdict(list)
    missed: Counter[str] = Counter()
    ways, draw = conditions(world, spaces, talk), random.Random(seed)
    # those of one size one after the other, see `conditions`; all else in random order
    groups = [[name for name in ways if name.startswith(f"memory_{size}_")] for size in spaces]
    groups += [[name] for name in ways if not name.startswith("memory_")]

    def ask(names: list[str], **asked: str) -> None:
        for name in names:
            if why := ways[name](times[name], **asked):
                missed[f"{name}: {why}"] += 1

    def write(size: int, fact: str) -> None:
        chat = spaces[size].session()
        start = time.perf_counter()
        chat.observe(fact)
        writes[f"memory_{size}"].append(time.perf_counter() - start)

    for number in tqdm(range(repeats), desc="latency: turns", dynamic_ncols=True):
        asked, fact = talk.asked(number), talk.facts[number % len(talk.facts)]
        jobs = [partial(ask, group, **asked) for group in groups]
        jobs += [partial(write, size, f"{fact} ({number})") for size in spaces]
        for job in draw.sample(jobs, len(jobs)):
            job()
    tasks = tqdm(ways.items(), desc="latency: memory", dynamic_ncols=True)
    memory = {name: reply_memory(world, way, talk, repeats) for name, way in tasks}
    return {
        "conditions": {name: {**times[name].summary(), **memory[name]} for name in sorted(ways)},
        "write_seconds_per_turn": {name: spread(seconds) for name, seconds in writes.items()},
        "left_out": dict(sorted(missed.items())),
    }


# ---- reading and decoding by themselves ------------------------------------------------------------------


def readings(world: common.World, spaces: dict[int, Space], talk: Talk, repeats: int) -> dict:
    """Milliseconds to read exactly over all slots: of a question already encoded, and with its encoding.

    Personal questions only: they get both looks. Ordinary talk is spared the second one, and most of the time.
    """
    memory, found = world.memory, {}
    indices = {size: space.index for size, space in spaces.items() if size}
    seconds: dict[tuple[int, str], list[float]] = defaultdict(list)
    for number in tqdm(range(repeats), desc="latency: readings", dynamic_ncols=True):
        query = talk.personal[number % len(talk.personal)]
        for size, index in indices.items():
            start = time.perf_counter()
            hidden = memory.encode([query])[0]
            encoded = time.perf_counter()
            memory.read(query, hidden, index, common.K)
            end = time.perf_counter()
            seconds[size, "read_ms"].append(end - encoded)
            seconds[size, "with_encoding_ms"].append(end - start)
    for (size, name), values in seconds.items():
        found.setdefault(f"memory_{size}", {})[name] = spread(values, 1000, 2)
    return found


def decoding(world: common.World, space: Space, talk: Talk, repeats: int) -> dict:
    """Tokens per second after the first: our loop with eight slots attached, without, and transformers.generate.

    Stop tokens are ignored, so that all three make the same number of tokens from the same prompt.
    """
    base, rates = world.base, defaultdict(list)
    for number in tqdm(range(repeats), desc="latency: decoding", dynamic_ncols=True):
        question = talk.personal[number % len(talk.personal)]
        ids = base.prompt(prompts.bare((), question))
        reads = [replace(read, given=True, weight=max(read.weight, 0.01)) for read in space.read(question).reads]
        prepared = world.engine.integrator.prepare(reads)
        jobs = {
            "memory": partial(_loop, world, ids, prepared),
            "loop": partial(_loop, world, ids, None),
            "generate": partial(_generate, world, ids),
        }
        for name in random.Random(number).sample(sorted(jobs), len(jobs)):
            rates[name].append(jobs[name]())
    median = {name: float(np.median(values)) for name, values in rates.items()}
    return {
        "tokens_per_second": {name: spread(values, digits=1) for name, values in rates.items()},
        "decode_ratio": round(median["memory"] / median["loop"], 3),
        "loop_vs_generate": round(median["loop"] / median["generate"], 3),
    }


def _loop(world: common.World, ids: list[int], memory: decode.Prepared | None) -> float:
    stamps = []
    for _ in decode.generate(world.base.model, ids, context=world.base.context, max_tokens=STEADY, memory=memory):
        stamps.append(time.perf_counter())
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


class _Stamps:
    """The least that `transformers.generate` accepts as a streamer: when did each token come?"""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


@torch.inference_mode()
def _generate(world: common.World, ids: list[int]) -> float:
    stamps, given = _Stamps(), torch.tensor([ids], device=world.base.device)
    world.base.model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        streamer=stamps,
        min_new_tokens=STEADY,
        max_new_tokens=STEADY,
    )
    made = stamps.times[1:]  # the first call hands over the prompt
    return (len(made) - 1) / (made[-1] - made[0])


# ---- the whole -------------------------------------------------------------------------------------------


def ratio(conditions: dict, name: str, base: str) -> float | None:
    """Median time to first token of a condition over that of the base alone on the same prompts."""
    over, under = (conditions.get(which, {}).get("seconds_to_first_token") for which in (name, base))
    return round(over["median"] / under["median"], 3) if over and under else None


def run(world: common.World, settings: common.Settings) -> dict:
    repeats, talk = settings.capped(REPEATS), Talk.make(settings)
    sizes = [size for size in SIZES if not settings.limited or size <= 1000 * settings.limit]
    clock = common.Clock()
    with clock("make_filler"):
        texts = filler(min(max(sizes), ENCODED), settings)
    with clock("encode_filler"):
        keys = world.memory.keys(world.memory.encode(texts))
    with ExitStack() as stack:
        spaces, grown = {}, {}
        for size in tqdm(sizes, desc="latency: filling", dynamic_ncols=True):
            folder = stack.enter_context(common.temporary())
            with clock("fill"):
                fill(folder, world, size, talk.life, texts, keys)
            with clock("open"), common.peak_memory(world.base.device) as grown[size]:
                spaces[size] = stack.enter_context(world.open(folder))
                spaces[size].read(talk.personal[0])  # the first reading takes up the words of all
        with clock("turns"):
            measured = turns(world, spaces, talk, repeats, settings.seed)
        with clock("readings"):
            read = readings(world, spaces, talk, settings.capped(READS))
        with clock("decoding"):
            decoded = decoding(world, spaces[100], talk, repeats)
        held = {str(size): space.count() for size, space in spaces.items()}
    with clock("contexts"):
        grew = growth.contexts(world, settings)
    return {
        **_headline(measured["conditions"], read, decoded),
        **grew,
        **measured,
        "readings": read,
        "decoding": decoded["tokens_per_second"],
        "slots": held,
        "memory_mib": {str(size): memory["grown"] for size, memory in grown.items()},
        "peak_mib": max(memory["peak"] for memory in grown.values()),  # of the whole process, all sizes open at once
        "filler_encoded_per_second": round(len(texts) / max(clock.seconds["encode_filler"], 1e-9)),
        "seconds_by_part": clock.rounded(),
    }


def _headline(conditions: dict, read: dict, decoded: dict) -> dict:
    largest = read.get("memory_100000", {})
    return {
        "ttft_ratio_10000": ratio(conditions, "memory_10000_read_warm", "base_alone"),
        "ttft_ratio_10000_cold": ratio(conditions, "memory_10000_read_cold", "base_alone"),
        "ttft_ratio_10000_nothing_read": ratio(conditions, "memory_10000_nothing_read", "base_alone_general"),
        "read_1000000_p95_ms": read["memory_1000000"]["read_ms"]["p95"] if "memory_1000000" in read else None,
        "read_100000_p95_ms": largest["read_ms"]["p95"] if largest else None,
        "read_100000_with_encoding_p95_ms": largest["with_encoding_ms"]["p95"] if largest else None,
        "decode_ratio": decoded["decode_ratio"],
        "loop_vs_generate": decoded["loop_vs_generate"],
    }
