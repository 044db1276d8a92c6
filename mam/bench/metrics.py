"""The published metrics of the data sets, exactly as their own evaluation code computes them.

SQuAD 1.1 (Rajpurkar et al. 2016), which SQuADShifts, LongBench's and SCROLLS' question answering use, too; LoCoMo
(Maharana et al. 2024, `task_eval/evaluation.py`). Knows strings and numbers only, all scores are 0..1. What `scoring`
has is this project's own and more lenient; nothing of it enters here.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from nltk.stem.porter import PorterStemmer

MULTI_HOP, TEMPORAL, OPEN_DOMAIN, SINGLE_HOP, ADVERSARIAL = 1, 2, 3, 4, 5  # LoCoMo's categories
NOT_MENTIONED = "Not mentioned in the conversation"  # LoCoMo's own words for an answer that is not there

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ARTICLES_AND = re.compile(r"\b(a|an|the|and)\b")
_PUNCTUATION = set(string.punctuation)  # ASCII alone, as in the original
_stem = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)  # NLTK's own variant, not the original algorithm


def words(text: str, left_out: re.Pattern = _ARTICLES) -> list[str]:
    """Lower case, punctuation and articles dropped, split at white space."""
    return left_out.sub(" ", "".join(c for c in text.lower() if c not in _PUNCTUATION)).split()


def overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two multisets of words; 0 where they share none, also when both are empty."""
    shared = (Counter(said) & Counter(wanted)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def f1(reply: str, answer: str) -> float:
    return overlap(words(reply), words(answer))


def exact(reply: str, answer: str) -> float:
    return float(words(reply) == words(answer))


def best(metric: Callable[[str, str], float], reply: str, answers: Iterable[str]) -> float:
    """The score against the answer that fits best; 0 without any."""
    return max((metric(reply, answer) for answer in answers), default=0.0)


def holds(text: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in the text word for word."""
    said = f" {' '.join(words(text))} "
    return any(f" {' '.join(found)} " in said for answer in answers if (found := words(answer)))


# ---- LoCoMo ----------------------------------------------------------------------------------------------------------


def locomo_f1(reply: str, answer: str) -> float:
    """Token F1 of Porter stems, "and" dropped like an article."""
    said, wanted = ([_stem(word) for word in words(text, _ARTICLES_AND)] for text in (reply, answer))
    return overlap(said, wanted)


def locomo(category: int, reply: str, answer: str) -> float:
    """The score of a reply: F1 in categories 1 to 4, 1 or 0 in category 5.

    Several answers (category 1) stand between commas: the mean over them of the best part of the reply. Of category 3
    what follows a semicolon is an explanation. Category 5 asks for what was not said: the reply has to say so in
    LoCoMo's words. Raises ValueError for another category.
    """
    if category == MULTI_HOP:
        parts = [part.strip() for part in reply.split(",")]
        wanted = [part.strip() for part in answer.split(",")]
        return float(np.mean([max(locomo_f1(part, one) for part in parts) for one in wanted]))
    if category == ADVERSARIAL:
        return float(any(phrase in reply.lower() for phrase in ("no information available", "not mentioned")))
    if category not in (TEMPORAL, OPEN_DOMAIN, SINGLE_HOP):
        raise ValueError(f"LoCoMo has no category {category}")
    return locomo_f1(reply, answer.split(";")[0].strip() if category == OPEN_DOMAIN else answer)


# ---- means -----------------------------------------------------------------------------------------------------------


def percent(scores: Iterable[float]) -> float | None:
    """Mean of scores 0..1 as 0..100; None where there are none (never a flattering 0 or 100)."""
    scores = list(scores)
    return round(100 * float(np.mean(scores)), 2) if scores else None


def recall_at(ranks: Sequence[Sequence[int | None]], k: int) -> float | None:
    """Share, 0..100, of what was looked for that stands among the best `k`, averaged over questions.

    ranks: for each question the place (0 is best) of everything it needs; None: nowhere.
    """
    return percent(np.mean([rank is not None and rank < k for rank in needed]) for needed in ranks if needed)


def losses(rows: Sequence[dict], stages: Sequence[str]) -> dict:
    """Where what is missing to 100 was lost, in points, and questions and score by the stage they came to.

    rows have a "score" 0..1 and a "stage"; in the last stage the base was given all it needs. What it then says wrongly
    was lost in "integrating" as far as the same base says it right when it is given what answers and nothing else, in
    its prompt or as slots, whichever serves better (the row's "gold_prompt" and "gold_slots", 0..1; None or missing
    where that was not asked), and in the "base" as far as it does not.
    """
    by = {stage: [row["score"] for row in rows if row["stage"] == stage] for stage in stages}
    missing = {stage: sum(1 - score for score in by[stage]) for stage in stages}
    gold = [max(row["gold_prompt"] or 0, row.get("gold_slots") or 0) for row in rows]
    could = sum(max(g - row["score"], 0) for g, row in zip(gold, rows, strict=True) if row["stage"] == stages[-1])
    missing |= {"integrating": could, "base": missing.pop(stages[-1]) - could}
    return {
        "lost": {where: round(100 * points / max(len(rows), 1), 2) for where, points in missing.items()},
        "stages": {stage: {"questions": len(s), "score": percent(s)} for stage, s in by.items()},
    }
