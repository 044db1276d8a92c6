"""The part of `latency` about long histories: 500 to 8,000 tokens of talk, in the prompt or in a memory.

Invented talk (as many lives as it takes, one after the other) is cut where it fills so many tokens of a prompt. The
same question is then asked of the base alone, with the whole history in its prompt, with what BM25 finds of it, and of
a memory that was told the history, before and after the blocks of the slots it reads were encoded. Retrieval has the
prompt that serves it best; the whole history has one without worked examples, which would only make it longer.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from tqdm import tqdm

from mam import lives as generator
from mam.base import Base
from mam.bench import baselines, common, prompts, timing
from mam.space import Space

SIZES = (500, 1_000, 2_000, 4_000, 8_000)  # tokens of history
REPEATS = 10
WAYS = ("base_alone", "whole_history", "retrieval", "memory_cold", "memory_warm")


def history(base: Base, settings: common.Settings, tokens: int) -> generator.Life:
    """A life whose sessions are those of several, cut at so many tokens of a prompt; a shorter one begins a longer."""
    first, sessions, left = common.life(settings, settings.seed), [], tokens
    for seed in itertools.count(settings.seed):
        for session in common.life(settings, seed).sessions:
            kept = []
            for utterance in session.utterances:
                one = replace(first, sessions=(replace(session, utterances=(utterance,)),))
                (line,) = baselines.Told.in_life(one).transcript
                left -= len(base.tokenizer(f"- {line}\n", add_special_tokens=False)["input_ids"])
                if left < 0:
                    return replace(first, sessions=(*sessions, replace(session, utterances=tuple(kept))))
                kept.append(utterance)
            sessions.append(session)


def questions(life: generator.Life) -> list[str]:
    """What can be answered from the life as far as it was told, by one fact; all it asks where nothing can."""
    told = {s.fact for session in life.sessions[:1] for said in session.utterances for s in said.sentences}
    asked = [question for question in life.questions if question.type == "single"]
    return [q.text for q in asked if told.issuperset(q.evidence)] or [q.text for q in asked]


def contexts(world: common.World, settings: common.Settings) -> dict:
    """Every way at every length of history: seconds, speed, context and memory; what was left out is counted."""
    repeats, draw = settings.capped(REPEATS), random.Random(settings.seed)
    sizes = [size for size in SIZES if not settings.limited or size <= 1000 * settings.limit]
    times: dict[tuple[int, str], timing.Times] = defaultdict(timing.Times)
    missed: Counter[str] = Counter()
    with ExitStack() as stack:
        asked: dict[int, dict[str, Callable]] = {}
        for size in tqdm(sizes, desc="latency: listening", dynamic_ncols=True):
            life = history(world.base, settings, size)
            asked[size] = ways(world, life, stack.enter_context(world.told(life)))
        pool = questions(history(world.base, settings, sizes[0]))

        def once(size: int, way: str, question: str) -> None:
            if why := asked[size][way](question, times[size, way]):
                missed[f"{size} {way}: {why}"] += 1

        for number in tqdm(range(repeats), desc="latency: contexts", dynamic_ncols=True):
            question = pool[number % len(pool)]
            for size, way in draw.sample([(size, way) for size in sizes for way in WAYS], len(sizes) * len(WAYS)):
                once(size, way, question)
        memory = {}
        for size, way in tqdm([(size, way) for size in sizes for way in WAYS], desc="latency: memory"):
            with common.peak_memory(world.base.device) as memory[size, way]:
                asked[size][way](pool[0], timing.Times())
    found = {
        str(size): {way: {**times[size, way].summary(), **common.mib(memory[size, way])} for way in WAYS}
        for size in sizes
    }
    return {"context": found, "context_left_out": dict(sorted(missed.items())), **headline(found)}


def ways(world: common.World, life: generator.Life, space: Space) -> dict[str, Callable]:
    """For each way, what asks a question and adds how long it took; it returns why that was not timed, if so."""
    base, told = world.base, baselines.Told.in_life(life)
    index, choice = baselines.BM25(told.notes), prompts.CHOSEN["prompt_bm25"]
    retrieval, room = prompts.FORMS[choice.form], base.context - timing.REPLY
    makers = {
        "base_alone": lambda q: base.prompt(prompts.bare((), q)),
        "whole_history": lambda q: baselines.cut(base, prompts.in_user(told.transcript, q), room),
        "retrieval": lambda q: base.prompt(retrieval([told.notes[i] for i in index.best(q, choice.notes)], q)),
    }

    def prompted(make: Callable, question: str, times: timing.Times) -> None:
        timing.prompted(world, times, partial(make, question))

    def memory(cold: bool, question: str, times: timing.Times) -> str | None:
        if cold:
            timing.cool(space, question)
        else:  # as in a conversation that goes on
            timing.streamed(space, question, timing.Times(), True, temporary=True)
        return timing.streamed(space, question, times, True, temporary=True)

    found = {name: partial(prompted, make) for name, make in makers.items()}
    return {**found, "memory_cold": partial(memory, True), "memory_warm": partial(memory, False)}


def headline(found: dict) -> dict:
    """Time to first token with 4,000 tokens of history: memory over whole history in the prompt."""

    def seconds(way: str) -> float | None:
        summary = found.get("4000", {}).get(way, {}).get("seconds_to_first_token")
        return summary and summary["median"]

    whole = seconds("whole_history")
    ratios = {"ttft_4000_ratio": seconds("memory_cold"), "ttft_4000_ratio_warm": seconds("memory_warm")}
    return {name: round(value / whole, 3) if value and whole else None for name, value in ratios.items()}
