"""Which prompt serves a baseline best? Searched on training material, one property of the prompt after the other.

Every property keeps its best value while the next is tried, because all combinations would take days: some thirty
prompts instead of hundreds. What was tried stays in the results. Knows neither documents nor the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tqdm import tqdm

from mam.bench.prompts import Choice

SOURCES = ("said", "text")
UNITS = (1, 3)
COUNTS = (1, 3, 5, 8)
ORDERS = (False, True)  # best last
FIRST = 3  # notes, before their number is tried


class Search:
    """score: what a way of prompting reaches with a choice, more is better."""

    def __init__(self, score: Callable[[str, Choice], float]):
        self._score = score
        self._scored: dict[str, dict[str, Choice]] = {}

    def best(self, way: str, start: Choice, **steps: Iterable) -> Choice:
        """The choice that serves `way` best, with its score, beginning at `start`.

        steps: values to try of each property of a choice, in the order in which they are tried.
        """
        best = self._tried(way, start)
        for name, values in steps.items():
            if name == "best_last" and best.notes == 1:
                continue  # one note has no order
            others = [replace(best, **{name: value}) for value in values]
            tried = [self._tried(way, other) for other in tqdm(others, desc=f"{way}: {name}", dynamic_ncols=True)]
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
        if str(choice) not in known:
            known[str(choice)] = replace(choice, score=self._score(way, choice))
        return known[str(choice)]
