"""Thresholds from validation scenes: where the gate, the reader and the question of abstaining decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from mam.index import SlotIndex
from mam.lives import life
from mam.model import MemoryModel
from mam.reader import READ, Reading
from mam.reranker import ANSWERS, Reranker
from mam.train.data import Scene
from mam.train.memory import sayings
from mam.train.reranker import Case

GRID = np.linspace(0.05, 0.95, 37)
HARM = 0.01  # share of ordinary messages that may be taken for a question to the memory


def tune_gate(model: MemoryModel, scenes: Sequence[Scene]) -> dict:
    """The gate's threshold with the best F1."""
    gate, keep = [], []
    for s in scenes:
        said = [c for c, _ in sayings(s)]
        gate += model.gate(said, model.encode([c.text for c in said]), model.encode([c.context for c in said]))
        keep += [kept for _, kept in sayings(s)]
    gate, keep = np.array(gate), np.array(keep)
    return {"gate_threshold": _number(max(GRID, key=lambda t: _f1(gate >= t, keep)))}


def calibrate(head: Reranker, held_out: Sequence[Case]) -> None:
    """Joins the two looks by logistic regression on held-out pairs: scale, shift and the first look's share.

    On held-out ones, because the first look knows the kinds of fact that it was trained on: its scores for those it
    has never met are lower, and weights fitted on the others would be too light in use.
    """
    found = [case.found for case in held_out]
    message = [f.message for f in found for _ in f.texts]
    first = np.concatenate([f.first for f in found])
    own = head.odds(message, [text for f in found for text in f.texts], 0 * first)[:, ANSWERS]
    right = np.concatenate([case.right for case in held_out])
    known = ~np.concatenate([np.full(len(case.right), case.needs_who) for case in held_out])
    fit = LogisticRegression(C=1e6).fit(np.stack([own, first], axis=1)[known], right[known])
    scale, share = fit.coef_[0].tolist()
    with torch.no_grad():
        head.out.weight[ANSWERS] *= scale
        head.out.bias[ANSWERS] = head.out.bias[ANSWERS] * scale + float(fit.intercept_[0])
        head.first_look.fill_(share)


def tune_reading(model: MemoryModel, lives: Sequence[Scene], k: int = 8) -> dict:
    """`asked` so that ordinary messages stay ordinary; then `read` so that answering and abstaining go right alike.

    On lives alone: only where a question is personal does a refusal promise something ("You haven't told me that.").
    What a passage tells anybody may ask; where it is not read the base answers by itself, which no threshold here
    weighs against a wrong read. What the thresholds make of passages is for `read_of_passages` to say.
    """
    held, asked, answerable, personal = [], [], [], []
    for s in lives:
        queries = [(a.text, bool(a.rows), True) for a in s.asked] + [(t, False, False) for t in s.idle]
        for reading, (_, has, ask) in zip(_readings(model, s, [q for q, _, _ in queries], k), queries, strict=True):
            held.append(1 - reading.null_weight)
            asked.append(reading.asked)
            answerable.append(has)
            personal.append(ask)
    held, asked, answerable, personal = map(np.array, (held, asked, answerable, personal))
    ask = next((t for t in GRID if np.mean(asked[~personal] >= t) <= HARM), GRID[-1])
    found, missed = answerable[personal], held[personal]
    # both sides are promised alike: what was told is found, and what was not is not made up
    read = max(GRID, key=lambda t: min(np.mean(missed[found] >= t), np.mean(missed[~found] < t)))
    return {"reading": replace(model.settings.reading, read=_number(read), asked=_number(ask))}


def read_of_passages(model: MemoryModel, scenes: Sequence[Scene], k: int = 8) -> dict[str, float]:
    """Shares of the questions about held-out passages that go right at the thresholds of `model`, by name.

    Read where a passage that is held answers, not read where none does; nothing without such scenes.
    """
    went: dict[str, list[bool]] = {"passages_read": [], "passages_refused": []}
    for s in scenes:
        for asked, reading in zip(s.asked, _readings(model, s, [a.text for a in s.asked], k), strict=True):
            read = reading.decision == READ
            went["passages_read" if asked.rows else "passages_refused"].append(read == bool(asked.rows))
    return {name: float(np.mean(right)) for name, right in went.items() if right}


def _readings(model: MemoryModel, s: Scene, messages: Sequence[str], k: int) -> list[Reading]:
    """What the model reads in a scene for each message."""
    index = SlotIndex(model.dim)
    index.add(s.slots, model.keys(model.encode([x.text for x in s.slots])))
    return [
        model.read(text, hidden, index, k, s.now) for text, hidden in zip(messages, model.encode(messages), strict=True)
    ]


def tune_relation(model: MemoryModel, lives: int, near: int = 8) -> dict:
    """The threshold with the most facts of validation lives set right, each against its nearest ones told before."""
    strength, target, found = [], [], []
    for seed in range(lives):
        facts = life(seed, "val").facts
        keys = model.keys(model.encode([fact.text for fact in facts]))
        for i, fact in enumerate(facts[1:], start=1):
            gone = {f.replaces for f in facts[:i]}
            held = [j for j in range(i) if j not in gone]
            best = sorted(held, key=lambda j: -float(keys[j] @ keys[i]))[:near]
            related = 1 - model.relation.odds([facts[j].text for j in best], [fact.text] * len(best))[:, 0]
            strength.append(float(related.max()))
            found.append(best[int(related.argmax())])
            target.append(-1 if fact.replaces is None else fact.replaces)
    strength, target, found = map(np.array, (strength, target, found))
    return {
        "relation_threshold": _number(max(GRID, key=lambda t: np.mean(np.where(strength >= t, found, -1) == target)))
    }


def _number(x: float) -> float:
    return round(float(x), 3)


def _f1(said: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float((said & truth).sum()) / max(1, int(said.sum() + truth.sum()))
