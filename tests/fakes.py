"""A stand-in for fast tests: a memory model of a few rules that obeys the real interface, on a tiny random base."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mam import base as bases
from mam.decode import Prepared
from mam.engine import Engine
from mam.index import SlotIndex
from mam.integrator import Integrator, IntegratorConfig
from mam.model import Settings
from mam.reader import Reading
from mam.relation import Relation
from mam.values import Candidate, Read, Slot


class RuleMemory:
    """Hashed bags of words for vectors, rules for judgements."""

    fingerprint = "rules"
    dim = 64
    settings = Settings()
    folder = None

    @property
    def gate_threshold(self) -> float:
        return self.settings.gate_threshold

    @property
    def reader(self) -> RuleMemory:
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in _words(text):
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return out

    def keys(self, hidden: np.ndarray) -> np.ndarray:
        return hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-6)

    def gate(self, candidates: Sequence[Candidate], hidden: np.ndarray, context_hidden: np.ndarray) -> list[float]:
        assert hidden.shape == context_hidden.shape == (len(candidates), self.dim)
        return [self._worth(candidate) for candidate in candidates]

    def _worth(self, candidate: Candidate) -> float:
        tells = re.search(r"\b(my|i|we|he|she)\b", candidate.text, re.IGNORECASE) and len(candidate.text.split()) > 2
        return 0.9 if tells and not candidate.said.endswith("?") else 0.1

    def relate(self, text: str, near: Sequence[Slot]) -> Relation:
        for slot in near:
            if _words(slot.text) == _words(text):
                return Relation("duplicate", slot, 0.95)
            if "actually" in text.lower() and len(set(_words(slot.text)) & set(_words(text))) >= 1:
                return Relation("update", slot, 0.9)
        return Relation("new", None, 0.8)

    def rank(self, query, hidden: np.ndarray, index: SlotIndex, k: int, now) -> list[tuple[Slot, float]]:
        return index.nearest(self.keys(hidden[None])[0], k)

    def read(self, query: str, hidden: np.ndarray, index: SlotIndex, k: int, now=None) -> Reading:
        key = self.keys(hidden[None])[0]
        near = index.nearest(key, k) if len(index) else []
        scores = np.array([12 * cosine for _, cosine in near] + [6.0])
        weights = np.exp(scores - scores.max())
        weights = weights / weights.sum()
        asked = 0.9 if "?" in query and re.search(r"\b(my|i)\b", query, re.IGNORECASE) else 0.1
        helps = bool(1 - weights[-1] >= 0.5)
        decision = "read" if helps else "abstain" if asked > 0.5 else "alone"
        reads = tuple(
            Read(slot, float(weight), {"meaning": float(score)}, bool(helps and weight > 0.05))
            for (slot, _), weight, score in zip(near, weights, scores, strict=False)
        )
        return Reading(reads, float(weights[-1]), asked, decision)


@dataclass
class Echoed(Prepared):
    echo: str = ""


class Echo:
    """Makes the base of an engine say the slots that it was given, and nothing of use without any."""

    def __init__(self, engine):
        self.base, self.prepared = engine.base, engine.integrator.prepare
        engine.base.generate, engine.integrator.prepare = self.generate, self.prepare
        engine.replies = self.replies

    def prepare(self, reads):
        return Echoed(**vars(self.prepared(reads)), echo=" ".join(read.slot.text for read in reads))

    def generate(self, ids, *, max_tokens=128, memory=None, **_):
        text = memory.echo if memory else "I see."
        yield from self.base.tokenizer(text)["input_ids"][:max_tokens]

    def replies(self, asked, max_tokens, enough):
        return [list(self.generate(ids, memory=memory, max_tokens=max_tokens)) for ids, memory in asked]


class Blind(RuleMemory):
    """Keeps everything worth keeping, finds none of it."""

    def read(self, query, hidden, index, k):
        return Reading((), 1.0, 0.1, "alone")


class Generous(RuleMemory):
    """Reads whatever is nearest."""

    def read(self, query, hidden, index, k):
        near = index.nearest(self.keys(hidden[None])[0], k)
        return Reading(tuple(Read(slot, 1 / len(near)) for slot, _ in near), 0.0, 0.9, "read")


class Mute(RuleMemory):
    """Abstains whatever is asked."""

    def read(self, query, hidden, index, k):
        return Reading((), 1.0, 0.9, "abstain")


def rule_engine(folder: Path) -> Engine:
    """An engine of the base in `folder`, the rules, and an untrained integrator."""
    base = bases.load(folder, device="cpu")  # not a shared one: the integrator puts adapters into its layers
    integrator = Integrator(base, IntegratorConfig(base=base.fingerprint, prefix=4, rank=2))
    return Engine(base, RuleMemory(), integrator.requires_grad_(False))


def _words(text: str) -> list[str]:
    stop = {"is", "a", "the", "what", "my", "i", "called", "actually", "now", "it", "s"}
    return sorted(word for word in re.findall(r"\w+", text.lower()) if word not in stop)
