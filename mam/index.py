"""The index: every active slot of a space as arrays, so that the reader can score all of them exactly.

Three kinds of evidence per slot, side by side: its key vector, its words, its circumstances (when told, by whom).
Built from the store, changed with it in the same call; holds nothing that the store does not. It scores nothing by
itself: what the evidence is worth is the reader's to know.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import numpy as np
import Stemmer
import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from mam.values import USER, Slot

EVIDENCE = ("words", "recency", "speaker")  # columns of SlotIndex.evidence
FIRST_PERSON = {"i", "me", "my", "mine", "we", "us", "our", "myself"}
KEPT_STOP_WORDS = {
    "cry",
    "fire",
    "bill",
    "mine",
    "name",
    "system",
    "side",
    "top",
    "bottom",
    "front",
    "full",
    "empty",
    "found",
    "call",
}

_stemmer = Stemmer.Stemmer("english")
_stop_words = (ENGLISH_STOP_WORDS - KEPT_STOP_WORDS) | {"s", "t", "ll", "ve", "m", "d"}


_words = re.compile(r"[^\W_]+")


def words(text: str) -> set[str]:
    """The stems of the words that carry meaning."""
    found = _words.findall(text.lower())
    return {stem for word in found if (stem := word if word.isdigit() else _stem(word))}


@lru_cache(maxsize=1 << 16)  # opening a large memory sees the same words again and again
def _stem(word: str) -> str:
    return "" if word in _stop_words else _stemmer.stemWord(word)


class SlotIndex:
    """Rows of active slots; a removed row stays until a quarter of them are dead, then all are repacked."""

    def __init__(self, dim: int):
        self.dim = dim
        self._clear()

    def _clear(self) -> None:
        self.slots: list[Slot | None] = []
        self._row: dict[str, int] = {}
        self._keys = torch.zeros(0, self.dim)
        self._told = np.zeros(0, dtype=np.float64)
        self._alive = np.zeros(0, dtype=bool)
        self._postings: dict[str, array] = {}
        self._worded = 0  # rows whose words are in the postings; the others follow when words are first asked for
        self._speakers: dict[str, array] = {}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, id: str) -> bool:
        return id in self._row

    def get(self, id: str) -> Slot | None:
        row = self._row.get(id)
        return None if row is None else self.slots[row]

    def add(self, slots: Sequence[Slot], keys: np.ndarray) -> None:
        """Append slots with their keys (slots, dim) float32; one that is already there is replaced."""
        for slot in slots:
            self.remove(slot.id)
        first = len(self.slots)
        self._reserve(first + len(slots))
        self._keys.numpy()[first : first + len(slots)] = np.asarray(keys, dtype=np.float32).reshape(-1, self.dim)
        for row, slot in enumerate(slots, start=first):
            self.slots.append(slot)
            self._row[slot.id] = row
            self._told[row] = slot.told.timestamp()
            self._alive[row] = True
            self._speakers.setdefault(slot.speaker.lower(), array("l")).append(row)

    def _read_words(self) -> None:
        """The words of rows added since the last time; a large memory opens sooner if that waits for a query."""
        for row in range(self._worded, len(self.slots)):
            slot = self.slots[row]
            for word in words(slot.text) if slot else ():
                if (hits := self._postings.get(word)) is None:
                    hits = self._postings[word] = array("l")
                hits.append(row)
        self._worded = len(self.slots)

    def remove(self, id: str) -> None:
        """Forget a slot; one that is not there is no error."""
        row = self._row.pop(id, None)
        if row is None:
            return
        self.slots[row] = None
        self._alive[row] = False
        self._keys[row] = 0
        if len(self.slots) - len(self._row) > max(64, len(self.slots) // 4):
            self._repack()

    def similarity(self, key: np.ndarray) -> torch.Tensor:
        """Cosine of `key` (dim,) with every row: (rows,) float32. Dead rows give 0."""
        return self._keys[: len(self.slots)] @ torch.from_numpy(np.asarray(key, dtype=np.float32))

    def similarities(self, ids: Sequence[str]) -> np.ndarray:
        """Cosine of slots with every row: (ids, rows) float32; -1 with themselves and with dead rows."""
        at = torch.tensor([self._row[id] for id in ids], dtype=torch.long)
        rows = self._keys[: len(self.slots)]
        similar = (rows[at] @ rows.T).numpy()
        similar[:, ~self._alive[: len(self.slots)]] = -1
        similar[np.arange(len(ids)), at.numpy()] = -1
        return similar

    @property
    def alive(self) -> torch.Tensor:
        """(rows,) bool."""
        return torch.from_numpy(self._alive[: len(self.slots)])

    def evidence(self, query: str, now: datetime) -> torch.Tensor:
        """(rows, 3) float32, in the order of EVIDENCE.

        words: share of the query's information that the slot's words cover, 0..1; a word counts by its inverse
        document frequency among the active slots, so that what every slot says tells nothing. A share, unlike a
        BM25 score, means the same in a space of ten slots and of a million.
        recency: minus the logarithm of one plus the days since it was told.
        speaker: 1 when the query speaks of whoever said it.
        """
        rows, n = len(self.slots), max(len(self), 1)
        self._read_words()
        out = np.zeros((len(EVIDENCE), rows), dtype=np.float32)
        total = 0.0
        for word in words(query):
            hits = self._postings.get(word)
            information = np.log1p(n / (1 + (len(hits) if hits else 0)))
            total += information
            if hits:
                out[0][np.frombuffer(hits, dtype=np.int_)] += information
        if total:
            out[0] /= total
        out[1] = -np.log1p(np.maximum(now.timestamp() - self._told[:rows], 0) / 86400)
        said = set(re.findall(r"[^\W_]+", query.lower()))
        for speaker, spoken in self._speakers.items():
            if said & FIRST_PERSON if speaker == USER else said & set(speaker.split()):
                out[2][np.frombuffer(spoken, dtype=np.int_)] = 1
        return torch.from_numpy(out).T

    def nearest(self, key: np.ndarray, k: int, speaker: str | None = None) -> list[tuple[Slot, float]]:
        """The `k` slots whose keys are most like `key`, with their cosine, best first; only what `speaker` said."""
        among = self.alive
        if speaker is not None:
            spoken = np.zeros(len(self.slots), dtype=bool)
            if rows := self._speakers.get(speaker.lower()):
                spoken[np.frombuffer(rows, dtype=np.int_)] = True
            among = among & torch.from_numpy(spoken)
        best = self.similarity(key).masked_fill(~among, -2).topk(min(k, int(among.sum())))
        return [(self.slots[i], float(s)) for s, i in zip(best.values, best.indices.tolist(), strict=True)]

    def _reserve(self, rows: int) -> None:
        room = self._keys.shape[0]
        if rows <= room:
            return
        more = max(rows, 2 * room, 256) - room
        self._keys = torch.cat([self._keys, torch.zeros(more, self.dim)])
        self._told = np.concatenate([self._told, np.zeros(more)])
        self._alive = np.concatenate([self._alive, np.zeros(more, dtype=bool)])

    def _repack(self) -> None:
        alive = np.flatnonzero(self._alive)
        slots, keys = [self.slots[i] for i in alive], self._keys[alive].numpy().copy()
        self._clear()
        self.add(slots, keys)
