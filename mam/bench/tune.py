"""Chooses the prompt of each baseline on validation lives: every form, and for retrieval both orders of the notes.

    python -m mam bench recall --tune-prompts --lives 30

The winner and its score are recorded in `prompts.CHOSEN`; the test lives are never looked at here.
"""

from __future__ import annotations

from mam import fetch
from mam.bench import baselines, common, prompts
from mam.bench.recall import ONE, right
from mam.bench.scoring import share

RETRIEVAL = ("prompt_bm25", "prompt_minilm")


def arms(names: tuple[str, ...] = (*RETRIEVAL, "full_context")) -> list[tuple[str, str, str]]:
    """(baseline, form, order) of everything that is tried."""
    return [(name, form, order) for name in names for form in prompts.FORMS
            for order in (prompts.ORDERS if name in RETRIEVAL else ("time",))]


def run(world: common.World, settings: common.Settings, names: tuple[str, ...] = (*RETRIEVAL, "full_context")) -> dict:
    """Share right on questions about one fact, by arm; `best` names the winner of each baseline."""
    minilm = baselines.MiniLM(fetch.encoder())
    outcomes: dict[tuple[str, str, str], list[bool]] = {arm: [] for arm in arms(names)}
    for life in common.lives(settings, "tuning prompts"):
        questions = [question for question in common.chosen_questions(life) if question.type in ONE]
        for arm, right_ones in outcomes.items():
            name, form, order = arm
            lists = baselines.message_lists(life, [q.text for q in questions], (name,), minilm, common.K,
                                            {name: (form, order, None)})
            replies = baselines.answers(world.base, lists[name], common.MAX_TOKENS)
            right_ones += [right(question, reply) for question, reply in zip(questions, replies, strict=True)]
    scores = {arm: share(right_ones) or 0.0 for arm, right_ones in outcomes.items()}
    best = {name: max((arm for arm in scores if arm[0] == name), key=scores.__getitem__) for name in names}
    return {
        "best": {name: " ".join(arm[1:]) for name, arm in best.items()},
        **{name: {" ".join(arm[1:]): score for arm, score in scores.items() if arm[0] == name} for name in names},
        "questions": max(map(len, outcomes.values()), default=0),
    }
