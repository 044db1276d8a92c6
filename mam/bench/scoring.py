"""When is a reply right, and how are many of them summed up. Knows strings and numbers only.

Memory and baselines are scored by the same functions, and where a rule is lenient (articles, the order of day and
month, a preposition before the value) it is so for all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

MONTHS = "january february march april may june july august september october november december"
_MONTH = "|".join(MONTHS.split())
_MONTH_FIRST = re.compile(rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b")
_ORDINAL = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)(?= (?:of )?(?:{_MONTH})\b)")
_OF_MONTH = re.compile(rf"\b(\d{{1,2}}) of ({_MONTH})\b")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PREPOSITION = re.compile(r"^(?:in|on|at|to|by|from)\b ")  # "on Lake Garda": she "drives to Lake Garda"
_NOT_WORD = re.compile(r"[^\w]+|_")

# The usual ways of saying "I was not told"; searched in the normalised reply, where an apostrophe is a space.
_UNTOLD = re.compile(
    r"\b(?:have not|haven t|did not|didn t|never|not been|wasn t|weren t|was not) (?:been )?(?:told|tell|said|say|"
    r"mention(?:ed)?|provided?|given?|shared?|specif(?:y|ied))\b"
    r"|\bnot (?:mentioned|stated|specified|provided|given|in the notes|listed|included)\b"
    r"|\b(?:do not|don t|does not|doesn t|did not|didn t) (?:know|have (?:any |that |this |access|enough|personal|the )"
    r"|say|mention|contain|specify|recall|remember)"
    r"|\bno (?:information|mention|record|notes?)\b|\bunknown\b|\bnot (?:sure|known)\b"
    r"|\b(?:cannot|can t|unable to) (?:answer|find|tell|provide|recall|determine)\b"
)


# The same as a statement about what was asked for; searched sentence by sentence, with "n t" written out.
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_SAID = r"(?:been )?(?:\w+ly )?(?:mentioned|stated|specified|disclosed|known(?! (?:for|as|to)\b))\b"
_DECLINES = re.compile(
    r"\byou (?:(?:have|did) not|(?:have )?never) (?:told|tell|said|say|mention(?:ed)?|shared?)\b"
    rf"|(?:^|\b(?:is|was|are|were|has|have|s) )(?:not|never) {_SAID}"
    r"|\b(?:it|that|this) (?:was|has) not (?:been )?told\b"
    r"|\b(?:notes?|text|conversations?|memor(?:y|ies)|messages?) do(?:es)? not (?:say|mention|contain|specify|state)\b"
    r"|^(?:there (?:is|was) |i (?:have|find|found|see) )?no (?:information|mention|record)\b"
    r"|^(?:(?:i m )?sorry |unfortunately |but )*i do not (?:know(?! how to)|have (?:\w+ )?information)\b"
    r"|(?:^|\b(?:is|was|are|were|remains?) )unknown$"
)


def normal(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces, dates as "27 november 2026"."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(_NOT_WORD.sub(" ", text).split())
    text = _ORDINAL.sub(r"\1", text)
    text = _OF_MONTH.sub(r"\1 \2", text)
    text = _MONTH_FIRST.sub(r"\2 \1", text)
    return " ".join(_ARTICLES.sub(" ", text).split())


def contains(reply: str, value: str) -> bool:
    """Whether the value stands in the reply as whole words: "Rex" is not in "Rexford", nor 4 in 14."""
    wanted = _PREPOSITION.sub("", normal(value))
    return bool(wanted) and f" {wanted} " in f" {normal(reply)} "


def contains_all(reply: str, values: Iterable[str]) -> bool:
    values = tuple(values)
    return bool(values) and all(contains(reply, value) for value in values)


def contains_any(reply: str, values: Iterable[str]) -> bool:
    return any(contains(reply, value) for value in values)


def untold(reply: str) -> bool:
    """Whether the reply says, in any usual words, that this was not told."""
    return bool(_UNTOLD.search(normal(reply)))


def declines(reply: str) -> bool:
    """Whether a sentence of the reply says that what was asked for was not told, not mentioned or is not known.

    Unlike `untold` for conversations between people, where such words come up by themselves: somebody "did not say"
    yes, is "not sure", has an "unknown" admirer.
    """
    sentences = (re.sub(r"n t\b", " not", normal(sentence)) for sentence in _SENTENCES.split(reply))
    return any(_DECLINES.search(sentence) for sentence in sentences)


def share(outcomes: Iterable[bool]) -> float | None:
    """Share of true outcomes, 0..1; None where there was nothing to judge (never a flattering 0 or 1)."""
    outcomes = list(outcomes)
    return round(sum(map(bool, outcomes)) / len(outcomes), 4) if outcomes else None


def f1(hits: int, false_alarms: int, misses: int) -> dict[str, float | None]:
    """Precision, recall and F1 from counts; None where undefined."""
    precision = hits / (hits + false_alarms) if hits + false_alarms else None
    recall = hits / (hits + misses) if hits + misses else None
    both = 2 * hits / (2 * hits + false_alarms + misses) if hits + false_alarms + misses else None
    return {
        name: None if x is None else round(x, 4)
        for name, x in (("precision", precision), ("recall", recall), ("f1", both))
    }


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney U / n m)."""
    if not len(positive) or not len(negative):
        return None
    below = np.sort(negative)
    wins = np.searchsorted(below, positive, side="left") + np.searchsorted(below, positive, side="right")
    return round(float(wins.mean() / (2 * len(below))), 4)


def spread(numbers: Sequence[float], scale: float = 1.0, digits: int = 4) -> dict[str, float | int]:
    """Median and 95th percentile of repeated measurements, times `scale`."""
    values = np.asarray(numbers, dtype=float) * scale
    return {
        "median": round(float(np.median(values)), digits),
        "p95": round(float(np.percentile(values, 95)), digits),
        "n": len(values),
    }
