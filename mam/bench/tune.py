"""Chooses the prompt of each baseline on validation lives.

    python -m mam bench recall --tune-prompts --lives 30

Every form is tried on the first quarter of the lives, for retrieval with one, three and eight notes and the best
one first and last; the best few of each baseline then on all lives (histories: on half). The winner and its score
are recorded in `prompts.CHOSEN`; the test lives are never looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from tqdm import tqdm

from mam import fetch
from mam.bench import baselines, common, prompts
from mam.bench.prompts import Choice
from mam.bench.recall import ONE, right
from mam.bench.scoring import share
from mam.lives import Life, Question

FINALISTS = 3
RETRIEVAL = [
    Choice(form, notes, last)
    for form, notes, last in product(prompts.FORMS, (1, 3, common.K), (False, True))
    if notes > 1 or not last
]
# the question before a whole history makes every prompt different from its first line on: minutes instead of seconds
HISTORY = [Choice(form) for form in prompts.FORMS if form != "in_user_first"]
Asked = Sequence[tuple[Life, list[Question]]]


def score(world: common.World, name: str, choice: Choice, asked: Asked, minilm: baselines.MiniLM) -> float:
    """Share right, 0..1."""
    questions = [question for _, some in asked for question in some]
    lists = [
        baselines.message_lists(name, told, [question.text for question in some], minilm, choice)
        for told, some in ((baselines.Told.in_life(life), some) for life, some in asked)
    ]
    if choice.notes is not None:  # short prompts of all lives share batches; those of a life share its history
        lists = [[messages for some in lists for messages in some]]
    replies = [reply for some in lists for reply in baselines.answers(world.base, some, common.MAX_TOKENS)]
    return share(right(question, reply) for question, reply in zip(questions, replies, strict=True)) or 0.0


def scores(
    world: common.World, name: str, choices: Sequence[Choice], asked: Asked, minilm: baselines.MiniLM
) -> dict[Choice, float]:
    """Best first."""
    found = {
        choice: score(world, name, choice, asked, minilm)
        for choice in tqdm(choices, desc=f"{name}, {len(asked)} lives", dynamic_ncols=True)
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def run(world: common.World, settings: common.Settings) -> dict:
    """Share right on questions about one fact, by prompt; `best` names the winner of each baseline."""
    minilm = baselines.MiniLM(fetch.encoder())
    asked = [
        (life, [question for question in common.chosen_questions(life) if question.type in ONE])
        for life in common.lives(settings, "validation lives")
    ]
    results: dict = {"best": {}, "questions": sum(len(questions) for _, questions in asked)}
    choices: Sequence[Choice] = RETRIEVAL
    for name in ("prompt_bm25", "prompt_minilm", "full_context"):
        if name == "full_context":  # long prompts: fewer lives
            choices, asked = HISTORY, asked[: max(1, len(asked) // 2)]
        first = scores(world, name, choices, asked[: max(1, len(asked) // 4)], minilm)
        final = scores(world, name, list(first)[:FINALISTS], asked, minilm)
        choices = list(first)[: 2 * FINALISTS]  # what suits one retriever suits the other
        results[name] = {str(choice): {"some": value, "all": final.get(choice)} for choice, value in first.items()}
        best = next(iter(final))
        results["best"][name] = {"prompt": str(best), "score": final[best]}
    return results
