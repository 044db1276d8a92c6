"""Training of an adapter on questions and answers: of a shard on its reflections, of the generator on public data.

Knows token ids and adapters; the loop itself, with its checkpoints, is `mam.train.loop`. A batch is a function of the
examples, the seed and the step alone, and so is what is learned, bit for bit on the same CPU with the same number of
threads. Only answers are learned, and only their positions go through the vocabulary, the largest matrix of a small LM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from mam.packs.weights import AdaptedLM
from mam.train.loop import Part

ROWS = 8  # examples of a step
LEAST = 100  # steps: a few examples are as hard to learn as many
POOL = 8  # batches among which examples are sorted by length, so that little is padding
LOOKED = 64  # examples of a validation, at most


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt, and of the answer with its stop token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def example(lm: AdaptedLM, prompt: Sequence[int], answer: str) -> Example:
    return Example(tuple(prompt), (*lm.ids(f" {answer}"), lm.stop))


def steps_of(examples: int, epochs: int) -> int:
    """Steps of so many epochs, or of as many more as it takes to learn anything."""
    return max(LEAST, -(-examples // ROWS) * epochs)


def part(
    lm: AdaptedLM,
    adapter: str,
    name: str,
    examples: Sequence[Example],
    seed: int,
    rate: float,
    held_out: Sequence[Example] = (),
    watch: Callable[[int], None] = lambda step: None,
) -> Part:
    """What `loop.train` needs to train a new adapter. Validated on `held_out`, or else on some of the examples.

    Nothing else may use the LM meanwhile.
    watch: is told the number of each step before it is made, and may raise to interrupt.
    """
    module = lm.new(adapter, seed)
    order = lru_cache(maxsize=2)(lambda epoch: batches([len(e) for e in examples], f"{seed} {epoch}"))
    each = len(order(0))
    looked = list(held_out or examples)
    looked = looked[:: -(-len(looked) // LOOKED)]

    def batch(step: int) -> tuple[int, list[Example]]:
        return step, [examples[i] for i in order(step // each)[step % each]]

    def losses(made: tuple[int, list[Example]]) -> dict[str, Tensor]:
        step, rows = made
        watch(step)
        with lm.using(adapter):
            found = {"answer": loss(lm, rows)}
        module.requires_grad_()  # `peft` freezes an adapter that is not active, and the way back is still to come
        return found

    return Part(name, module, [{"params": list(module.parameters()), "lr": rate}], batch, losses,
                lambda: validate(lm, adapter, looked))  # fmt: skip


def batches(lengths: Sequence[int], seed: str) -> list[list[int]]:
    """An epoch: every example once, in batches of about the same length, shuffled."""
    random = Random(seed)
    order = random.sample(range(len(lengths)), len(lengths))
    made = []
    for start in range(0, len(order), ROWS * POOL):
        near = sorted(order[start : start + ROWS * POOL], key=lambda i: lengths[i])
        made += [near[i : i + ROWS] for i in range(0, len(near), ROWS)]
    random.shuffle(made)
    return made


def answer_logits(lm: AdaptedLM, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits (answer tokens, vocabulary) with the active adapter, and the ids there, example after example."""
    rows = [[*e.prompt, *e.answer] for e in batch]
    width = max(map(len, rows)) - 1  # nothing follows the last token
    ids = torch.tensor([(row + [lm.stop] * width)[:width] for row in rows], device=lm.base.device)
    at = [(i, j) for i, e in enumerate(batch) for j in range(len(e.prompt) - 1, len(e) - 1)]
    hidden = lm.hidden(ids)[[i for i, _ in at], [j for _, j in at]]
    return lm.logits(hidden), torch.tensor([id for e in batch for id in e.answer], device=lm.base.device)


def loss(lm: AdaptedLM, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the answers' tokens, nats, scalar."""
    return F.cross_entropy(*answer_logits(lm, batch))


@torch.no_grad()
def validate(lm: AdaptedLM, adapter: str, examples: Sequence[Example]) -> dict[str, float]:
    """Teacher-forced: the share of answers with every token right, and the loss."""
    right, losses = [], []
    with lm.using(adapter):
        for start in range(0, len(examples), ROWS):
            batch = examples[start : start + ROWS]
            logits, wanted = answer_logits(lm, batch)
            losses.append(float(F.cross_entropy(logits, wanted)) * len(batch))
            sizes = [len(e.answer) for e in batch]
            right += [bool(ok.all()) for ok in (logits.argmax(-1) == wanted).split(sizes)]
    mean = sum(losses) / len(examples)
    return {"right": sum(right) / len(examples), "loss": mean, "score": -mean}
