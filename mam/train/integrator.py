"""Training of an integrator: prefix and adapters of one base, through the frozen base, from the replies it should give.

The reader is trained already and weighs the slots as it does in use, so the integrator learns with the weights it
will get. It gets no lessons in abstaining: whether a slot answers is for the reader to judge, a small base that is
asked to judge as well learns to abstain from what it does not understand. Loss: mean cross-entropy of the reply's
tokens, those of the value asked for (of a list to its end) threefold, nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.base import Base
from mam.index import SlotIndex
from mam.integrator import Integrator
from mam.lives.generator import listed
from mam.model import MemoryModel
from mam.render import asks_when, render
from mam.train.batch import Example, answer_logits
from mam.train.data import Asked, Pool, Scene, passage_scene, scene
from mam.train.loop import Part
from mam.train.talks import talk_scene

LIVES, TALKS, PASSAGES = 6, 2, 2  # examples of a step
REUSED = 4  # questions asked of a scene before the next one is made
K = 8
SEVERAL = 0.4  # share of questions about a life that are drawn from those with several slots
VALUE = 3.0  # weight of a token of the value asked for in the loss
CHUNK = 4  # examples of similar length that go through the base together
HISTORY = 0.3  # share of examples with an exchange of small talk before the question


@dataclass(frozen=True)
class Trial:
    """An example and which of its answer's tokens carry the value asked for."""

    example: Example
    marked: tuple[bool, ...]
    type: str


class Examples:
    """Makes trials: a scene, one of its questions, what the reader makes of it, and the reply."""

    def __init__(
        self,
        memory: MemoryModel,
        integrator: Integrator,
        pool: Pool,
        split: str,
    ):
        self.memory, self.base, self.pool, self.split = (
            memory,
            integrator.base,
            pool,
            split,
        )
        self.life = lru_cache(maxsize=8)(lambda seed: self._indexed(scene(seed, split)))
        self.talks = lru_cache(maxsize=8)(lambda seed: self._indexed(talk_scene(seed, split)))
        self.passages = lru_cache(maxsize=8)(lambda seed: self._indexed(passage_scene(seed, pool)))

    def batch(self, step: int) -> list[Trial]:
        random = Random(f"integrator {self.split} {step}")
        trials = [self._from(random, *self.life((step * LIVES + i) // REUSED)) for i in range(LIVES)]
        trials += [self._from(random, *self.talks((step * TALKS + i) // REUSED)) for i in range(TALKS)]
        if self.pool:
            seeds = [(step * PASSAGES + i) // REUSED for i in range(PASSAGES)]
            trials += [self._from(random, *self.passages(seed)) for seed in seeds]
        return trials

    def _indexed(self, s: Scene) -> tuple[Scene, SlotIndex, np.ndarray]:
        index = SlotIndex(self.memory.dim)
        index.add(s.slots, self.memory.keys(self.memory.encode([x.text for x in s.slots])))
        return s, index, self.memory.encode([a.text for a in s.asked])

    def _from(self, random: Random, s: Scene, index: SlotIndex, hidden: np.ndarray) -> Trial:
        """One question of the scene that something answers, weighed by the reader."""
        answered = [j for j, a in enumerate(s.asked) if a.rows]
        several = [j for j in answered if len(s.asked[j].rows) > 1]
        i = random.choice(several if several and random.random() < SEVERAL else answered)
        reading = self.memory.read(s.asked[i].text, hidden[i], index, K, s.now)
        lightest = self.memory.settings.reading.given
        weights = {int(r.slot.id): r.weight for r in reading.reads if r.weight >= lightest}
        for row in s.asked[i].rows:  # a slot that the reader missed cannot teach the integrator to use it
            if row not in weights:
                weights[row] = random.uniform(0.1, 0.6)
        rows = list(weights)
        random.shuffle(rows)  # the order of the blocks tells nothing
        return self._trial(random, s, s.asked[i], rows, weights)

    def _trial(
        self,
        random: Random,
        s: Scene,
        asked: Asked,
        rows: list[int],
        weights: dict[int, float],
    ) -> Trial:
        messages = [{"role": "user", "content": asked.text}]
        talk = [c.said for c, keep in s.candidates if not keep and c.speaker == "user"]
        if talk and random.random() < HISTORY:
            said = [c.said for c, keep in s.candidates if not keep and c.speaker == "assistant"] or ["I see."]
            messages = [
                {"role": "user", "content": random.choice(talk)},
                {"role": "assistant", "content": random.choice(said)},
            ] + messages
        ids, marked = self._answer(_heaviest_first(asked, weights), asked.values, asked.type == "list")
        slots = tuple(render(s.slots[row], asks_when(asked.text)) for row in rows)
        logs = tuple(float(torch.log(torch.tensor(weights[row]))) for row in rows)
        return Trial(
            Example(slots, logs, tuple(self.base.prompt(messages)), ids),
            marked,
            asked.type,
        )

    def _answer(self, answer: str, values: Sequence[str], several: bool) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Token ids of the reply with its stop token, and which of them carry a value.

        Of a list, everything from its first item to the stop: the "and" after an item is what brings the next one.
        """
        tokens = self.base.tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
        spans = [(at, at + len(v)) for v in values if (at := answer.lower().find(v.lower())) >= 0]
        if several and spans:
            spans = [(min(start for start, _ in spans), len(answer))]
        marked = [any(a < end and b > start for start, end in spans) for a, b in tokens["offset_mapping"]]
        return (*tokens["input_ids"], stop_of(self.base)), (*marked, several)


def unteachable(base: Base) -> str:
    """Why no integrator can be trained for a base that could carry one, in a few words; empty when it can."""
    if not base.tokenizer.is_fast:
        return "its tokenizer does not say which token stands for which letters (it has no fast one)"
    if stop_of(base) is None:
        return "neither its tokenizer nor its settings name a token that ends a reply"
    return ""


def stop_of(base: Base) -> int | None:
    """The token that ends a reply: the tokenizer's own, or else one of those that the base stops at."""
    own = base.tokenizer.eos_token_id
    return min(base.stop_ids, default=None) if own is None else own


def part(
    memory: MemoryModel,
    integrator: Integrator,
    pool: Pool,
    val_pool: Pool,
    trials: int = 160,
) -> Part:
    """What `loop.train` needs to train `integrator`; validation on about `trials` held-out questions."""
    examples = Examples(memory, integrator, pool, "train")
    held_out = Examples(memory, integrator, val_pool, "val")
    val = [t for step in range(max(1, trials // (LIVES + TALKS + PASSAGES))) for t in held_out.batch(step)]
    groups = [
        {"params": [integrator.prefix], "lr": 5e-3},
        {"params": list(integrator.adapters.parameters()), "lr": 1e-3},
    ]
    return Part(
        name="integrator",
        module=integrator,
        groups=groups,
        batch=examples.batch,
        losses=lambda batch: {"reply": _loss(integrator, batch)},
        validate=lambda: validate(integrator, val),
    )


def _heaviest_first(asked: Asked, weights: dict[int, float]) -> str:
    """The answer; the items of a list in the order of their weights, the only order that a base can know."""
    if asked.type != "list" or len(asked.values) != len(asked.rows):
        return asked.answer
    items = zip(asked.values, asked.rows, strict=True)
    ordered = [value for value, row in sorted(items, key=lambda item: -weights[item[1]])]
    return asked.answer.replace(listed(asked.values), listed(ordered))


def _loss(integrator: Integrator, batch: Sequence[Trial]) -> Tensor:
    """Weighted mean over the reply tokens of the batch, nats, scalar."""
    ordered = sorted(batch, key=lambda t: (t.type == "passage", len(t.example.prompt)))  # so that little is padding
    chunks = [[t.example for t in ordered[i : i + CHUNK]] for i in range(0, len(ordered), CHUNK)]
    logits, targets = zip(*(answer_logits(integrator, chunk) for chunk in chunks), strict=True)
    return _entropy(torch.cat(logits), torch.cat(targets), ordered)


def _entropy(logits: Tensor, targets: Tensor, trials: Sequence[Trial]) -> Tensor:
    """Cross-entropy in which tokens of a value count more: what is said matters, and how it is said hardly."""
    weights = torch.tensor([VALUE if m else 1.0 for t in trials for m in t.marked], device=logits.device)
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


@torch.no_grad()
def validate(integrator: Integrator, trials: Sequence[Trial], size: int = 16) -> dict[str, float]:
    """Teacher-forced shares of replies with all value tokens right, for lives and passages; and the loss."""
    lives, passages, losses = [], [], []
    ordered = sorted(trials, key=lambda t: len(t.example.slots))
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        logits, targets = answer_logits(integrator, [t.example for t in batch])
        right = (logits.argmax(-1) == targets).split([len(t.marked) for t in batch])
        losses.append(float(_entropy(logits, targets, batch)) * len(batch))
        for trial, ok in zip(batch, right, strict=True):
            said = all(o for o, m in zip(ok.tolist(), trial.marked, strict=True) if m)
            (passages if trial.type == "passage" else lives).append(said)
    out = {name: sum(xs) / max(1, len(xs)) for name, xs in (("lives", lives), ("passages", passages))}
    out["loss"] = sum(losses) / len(trials)
    return out | {"score": -out["loss"]}  # shares of a few dozen questions jump; the loss does not
