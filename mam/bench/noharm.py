"""noharm: a full memory must not disturb ordinary talk, and must say so when it does not hold the answer.

Part one asks general prompts beside some 200 slots about a person and compares with the base alone, token for token.
Part two asks lives for what was never said (near misses included) and for what was.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tqdm import tqdm

from mam import lives as generator
from mam.bench import common
from mam.bench.general import PROMPTS
from mam.bench.recall import ONE
from mam.bench.scoring import contains_all, share, untold
from mam.lives import Question
from mam.space import Space
from mam.values import Turn

ASKED = 300  # prompts
EACH = 2  # questions of either kind that a life is asked
SLOTS = 200


@contextmanager
def crowded(world: common.World, settings: common.Settings) -> Iterator[Space]:
    """A space with 200 active slots, or a few more: long lives told session by session until there are as many."""
    wanted, facts = settings.capped(SLOTS), settings.capped(SLOTS + 20)
    with world.space() as space:
        for seed in range(settings.seed, settings.seed + 10):
            life = generator.life(seed, settings.split, sessions=settings.sessions * 3, facts=facts)
            for session in life.sessions:
                if space.count() < wanted:
                    common.tell(space, replace(life, sessions=(session,)))
        yield space


def identical(world: common.World, turn: Turn, prompt: str) -> bool:
    """Whether the turn said what the base says by itself: as many tokens, and the same text."""
    base = world.base
    alone = list(base.generate(base.prompt([{"role": "user", "content": prompt}]), max_tokens=common.MAX_TOKENS))
    return turn.tokens == len(alone) and turn.reply.strip() == base.decode(alone).strip()


def general_prompts(settings: common.Settings) -> list[str]:
    """Different ordinary prompts in random order, none of which training may have seen."""
    seen = {prompt for split in ("train", "val") for prompt in _ordinary(split)}
    fresh = sorted(set(_ordinary(settings.split)).union(PROMPTS) - seen)
    return random.Random(settings.seed).sample(fresh, min(len(fresh), settings.capped(ASKED)))


def _ordinary(split: str) -> list[str]:
    return generator.general_prompts(split) + generator.commands(split)


def untouched(turn: Turn) -> bool:
    return not turn.abstained and not any(read.given for read in turn.reads)


def general(world: common.World, settings: common.Settings) -> dict:
    prompts = general_prompts(settings)
    # personal in tone, but nothing a memory could answer: "I'm bored"
    moods = generator.personal_questions(settings.split)[: settings.capped(ASKED)]
    free, same = [], []
    with crowded(world, settings) as space:
        slots = len(space.slots())
        for prompt in tqdm(prompts, desc="noharm: general", dynamic_ncols=True):
            turn = common.ask(space, prompt)
            free.append(untouched(turn))
            if free[-1]:
                same.append(identical(world, turn, prompt))
        free_moods = [untouched(common.ask(space, mood)) for mood in moods]
    return {
        "nothing_read": share(free),
        "identical": share(same),
        "nothing_read_personal_talk": share(free_moods),
        "prompts": len(free),
        "slots": slots,
    }


def drawn(life: generator.Life, types: Collection[str], count: int) -> list[Question]:
    """Some of a life's questions of these types."""
    pool = [question for question in life.questions if question.type in types]
    return random.Random(life.seed).sample(pool, min(count, len(pool)))


def personal(world: common.World, settings: common.Settings) -> dict:
    """Shares over questions about what was never said, and over as many about what was."""
    abstained, invented, refused, wrong = [], [], [], []
    for life in common.lives(settings, "noharm: personal"):
        with world.told(life) as space:
            for question in drawn(life, {"unknown"}, EACH):
                turn = common.ask(space, question.text)
                abstained.append(turn.abstained)
                invented.append(not turn.abstained and not untold(turn.reply))
            for question in drawn(life, ONE, EACH):
                turn = common.ask(space, question.text)
                refused.append(turn.abstained)
                wrong.append(not turn.abstained and not contains_all(turn.reply, question.values))
    return {
        "abstained": share(abstained),
        "hallucinated": share(invented),
        "false_abstained": share(refused),
        "answered_wrong": share(wrong),
        "unknown_questions": len(abstained),
        "answerable_questions": len(refused),
    }


def run(world: common.World, settings: common.Settings) -> dict:
    return {**general(world, settings), **personal(world, settings)}
