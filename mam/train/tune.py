"""Thresholds from validation scenes: where the gate, the reader and the question of abstaining decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mam.index import SlotIndex
from mam.model import MemoryModel
from mam.train.data import Scene

GRID = np.linspace(0.05, 0.95, 37)


def tune(model: MemoryModel, scenes: Sequence[Scene], k: int = 8) -> dict:
    """Fields of `Settings`: the gate's threshold with the best F1, the reading thresholds with the most right turns."""
    held, asked, answerable, personal, gate, keep = [], [], [], [], [], []
    for s in scenes:
        index = SlotIndex(model.dim)
        index.add(s.slots, model.keys(model.encode([x.text for x in s.slots])))
        queries = [(a.text, bool(a.rows), True) for a in s.asked] + [
            (t, False, False) for t in s.idle
        ]
        for (text, has, ask), hidden in zip(
            queries, model.encode([q for q, _, _ in queries]), strict=True
        ):
            reading = model.read(text, hidden, index, k, s.now)
            held.append(1 - reading.null_weight)
            asked.append(reading.asked)
            answerable.append(has)
            personal.append(ask)
        if s.candidates:
            candidates = [c for c, _ in s.candidates]
            gate += model.gate(
                candidates,
                model.encode([c.text for c in candidates]),
                model.encode([c.context for c in candidates]),
            )
            keep += [kept for _, kept in s.candidates]
    held, asked, answerable, personal = map(
        np.array, (held, asked, answerable, personal)
    )
    read = max(GRID, key=lambda t: np.mean((held >= t) == answerable))
    ask = max(GRID, key=lambda t: np.mean((asked >= t) == personal))
    found = {
        "reading": replace(
            model.settings.reading,
            read=round(float(read), 3),
            asked=round(float(ask), 3),
        )
    }
    if keep:
        found["gate_threshold"] = round(
            float(max(GRID, key=lambda t: _f1(np.array(gate) >= t, np.array(keep)))), 3
        )
    return found


def _f1(said: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float((said & truth).sum()) / max(1, int(said.sum() + truth.sum()))
