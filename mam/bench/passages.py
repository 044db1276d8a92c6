"""What of a document stands in a prompt: sentences or chunks of them, those that a question finds, those that answer.

The text is that of the document, cut into its sentences, or that of the slots made of it, in which pronouns and dates
are resolved. A chunk is what stands one after the other there, so nothing of the text is lost between two chunks and
the order inside of one is that of the text. Knows no questions' answers and no replies.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import count, groupby

from mam.bench import baselines, search, sets
from mam.bench.prompts import Choice
from mam.candidates import sentences
from mam.values import Slot

Piece = tuple[int, int, str]  # first character in the document, the one behind the last, text


class Passages:
    """A document with its questions. slots: those made of it, in the order of the text."""

    def __init__(self, document: sets.Document, slots: Sequence[Slot], minilm: baselines.MiniLM):
        self._document, self._minilm = document, minilm
        said = [(start, start + len(sentence), sentence) for sentence, start in sentences(document.text)]
        self._pieces: dict[str, list[Piece]] = {"said": said, "text": [(*slot.span, slot.text) for slot in slots]}
        self._ranked: dict[tuple, tuple[list[str], list[list[int]]]] = {}

    def found(self, way: str, choice: Choice) -> list[list[str]]:
        """For each question the notes that `way` of retrieving finds, in the order that the choice wants."""
        key = way, choice.source, choice.unit
        if key not in self._ranked:
            chunks, asked = self.chunks(choice), [question.text for question in self._document.questions]
            most = max(search.COUNTS)
            self._ranked[key] = chunks, baselines.retrieved(way, chunks, asked, self._minilm, most)
        chunks, ranked = self._ranked[key]
        step = -1 if choice.best_last else 1
        return [[chunks[i] for i in best[: choice.notes][::step]] for best in ranked]

    def chunks(self, choice: Choice) -> list[str]:
        """The whole document as notes of so many sentences."""
        pieces, size = self._pieces[choice.source], choice.unit
        return [self._joined(choice, pieces[start : start + size]) for start in range(0, len(pieces), size)]

    def around(self, places: Iterable[int], choice: Choice) -> list[str]:
        """What stands at these characters, in the order of the text; with its neighbours if a note has several."""
        pieces, beside, rows = self._pieces[choice.source], choice.unit // 2, set()
        starts = [start for start, _, _ in pieces]
        for place in places:
            at = max(bisect_right(starts, place) - 1, 0)
            rows.update(range(max(at - beside, 0), min(at + beside + 1, len(pieces))))
        step = count()
        runs = [list(run) for _, run in groupby(sorted(rows), key=lambda row: row - next(step))]
        return [self._joined(choice, pieces[run[0] : run[-1] + 1]) for run in runs]

    def _joined(self, choice: Choice, pieces: Sequence[Piece]) -> str:
        if choice.source == "said":
            (first, *_), (_, last, _) = pieces[0], pieces[-1]
            return " ".join(self._document.text[first:last].split())  # one line, as a note is
        return " ".join(text for _, _, text in pieces)
