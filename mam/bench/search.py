"""Which prompt serves a baseline best? Searched on training material, one property of the prompt after the other.

Every property keeps its best value while the next is tried, because all combinations would take days: some thirty
prompts instead of hundreds. What was tried stays in the results. Knows neither documents nor the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tqdm import tqdm

from mam.bench.prompts import Choice

SOURCES = ("said", "text")
COUNTS = (1, 3, 5, 8)
ORDERS = (False, True)  # best last
FIRST = 3  # notes of a sentence each, before their number is tried
CHUNK = 3  # sentences: as one note they say as much as the first notes do


class Search:
    """score: what a way of prompting reaches with a choice, more is better."""

    def __init__(self, score: Callable[[str, Choice], float]):
        self._score = score
        self._scored: dict[str, dict[str, Choice]] = {}

    def best(self, way: str, start: Choice, *steps: Sequence[dict]) -> Choice:
        """The choice that serves `way` best, with its score, beginning at `start`.

        steps: of each the changes to try, as fields of a choice; the best is kept before the next step.
        """
        best = self._tried(way, start)
        for changes in tqdm(steps, desc=f"prompts: {way}", unit="step", dynamic_ncols=True):
            tried = [self._tried(way, replace(best, **change)) for change in changes]
            best = max([best, *tried], key=lambda choice: choice.score)  # what is no better changes nothing
        return best

    def forms(self, way: str, count: int) -> list[str]:
        """The forms that came off best in what was tried of a way, best first."""
        ranked = sorted(self._scored[way].values(), key=lambda choice: -choice.score)
        return list(dict.fromkeys(choice.form for choice in ranked))[:count]

    @property
    def tried(self) -> dict[str, dict[str, float]]:
        """Score of every prompt that was tried, by way."""
        return {way: {name: choice.score for name, choice in known.items()} for way, known in self._scored.items()}

    def _tried(self, way: str, choice: Choice) -> Choice:
        known = self._scored.setdefault(way, {})
        choice = replace(choice, best_last=choice.best_last and choice.notes != 1)  # one note has no order
        if str(choice) not in known:
            known[str(choice)] = replace(choice, score=self._score(way, choice))
        return known[str(choice)]


def each(field: str, values: Iterable) -> list[dict]:
    """A step: the values of one field."""
    return [{field: value} for value in values]


def retrieval(forms: Iterable[str], chunks: bool = True) -> list[list[dict]]:
    """The steps for notes that are retrieved: form, text, sentences or chunks, how many, best first or last."""
    chunk = [{"unit": CHUNK, "notes": 1}] if chunks else []
    return [each("form", forms), each("source", SOURCES), chunk, each("notes", COUNTS), each("best_last", ORDERS)]
