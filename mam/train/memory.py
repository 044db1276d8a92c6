"""Training of what a turn asks first: encoder updates, write gate and reader, together, on scenes.

Losses, all in nats:
    read    cross-entropy of the read weights against the slots that answer (uniform over several) or null
    asked   does the message ask for something only a memory could hold?
    gate    is the candidate worth keeping?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.gate import surface
from mam.model import MemoryModel
from mam.train.data import Pool, Scene, index_of, passage_scene, revoiced, scene
from mam.train.loop import Part
from mam.train.sets import passages, talk
from mam.train.talks import talk_scene
from mam.values import Candidate

Labelled = Sequence[tuple[Candidate, bool]]

LIVES_A_STEP = 3
PASSAGES_A_STEP = 1
GATED = 32  # candidates of a life that the gate learns from in a step
TALK_A_STEP = 48  # sentences of dialogues
BATCH = 96  # texts encoded at once


@dataclass(frozen=True)
class Material:
    """Public data to train on beside the lives: passages with questions, and sentences of dialogues with labels."""

    passages: Pool = Pool()
    talk: Labelled = ()

    @classmethod
    def load(cls, folder: Path | None, split: str) -> Material:
        return cls(Pool(passages(folder, split)), talk(folder, split)) if folder else cls()


def part(model: MemoryModel, material: Material, held_out: Material, count: int) -> Part:
    """What `loop.train` needs to train encoder, gate and reader of `model`; validation on `count` lives."""
    reader, encoder = model.reader, model.encoder
    strengths = [reader.meaning, reader.evidence, model.gate_head.surface.weight]
    heads = (reader.key, reader.query, reader.null, reader.asked, model.gate_head.net)
    others = [p for head in heads for p in head.parameters()]
    groups = [
        {"params": list(encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": others, "lr": 1e-3},
        {"params": strengths, "lr": 3e-2},
    ]
    val = scenes("val", count, held_out.passages)
    heard = _some(Random("talk val"), held_out.talk, 20 * count)

    def batch(step: int) -> tuple[list[Scene], Labelled]:
        made = [scene(step * LIVES_A_STEP + i) for i in range(LIVES_A_STEP)]
        if material.passages:
            made += [passage_scene(step * PASSAGES_A_STEP + i, material.passages) for i in range(PASSAGES_A_STEP)]
        made.append(talk_scene(step))
        return made, _some(Random(f"talk {step}"), material.talk, TALK_A_STEP)

    return Part(
        name="memory",
        module=model.part("memory"),
        groups=groups,
        batch=batch,
        losses=lambda made: losses(model, *made),
        validate=lambda: validate(model, val, heard),
    )


def losses(model: MemoryModel, made: list[Scene], heard: Labelled) -> dict[str, Tensor]:
    """Mean losses over a step; every text is encoded once. The gate learns from lives and dialogues alike."""
    random = Random(len(made[0].slots))
    said = [c for s in made for c in _some(random, sayings(s), GATED)]
    gated = [revoiced(random, candidate, keep) for candidate, keep in said] + list(heard)
    texts = [t for s in made for t in _texts(s)] + _heard(gated)
    hidden = _encoded(model, texts)
    read, asked = [], []
    for s in made:
        logits, targets = _reading(model, s, hidden)
        read.append(-(targets * logits.log_softmax(-1)).sum(-1))
        if s.personal:  # what a passage tells may be asked of anybody: neither personal nor ordinary
            asked.append(_entropy(_asked(model, s, hidden), [1.0] * len(s.asked) + [0.0] * len(s.idle)))
    gate = _entropy(_gate(model, gated, hidden), [float(keep) for _, keep in gated])
    return {"read": torch.cat(read).mean(), "asked": torch.cat(asked).mean(), "gate": gate.mean()}


@torch.no_grad()
def validate(model: MemoryModel, held_out: list[Scene], heard: Labelled, k: int = 8) -> dict[str, float]:
    """Shares on held-out scenes: the answering slots within the best k, right decisions; F1 of the gate."""
    hits, reads, nulls, asked = [], [], [], []
    for s in held_out:
        hidden = _encoded(model, _texts(s))
        logits, _ = _reading(model, s, hidden)
        held = 1 - logits.softmax(-1)[:, -1]
        for i, a in enumerate(s.asked):
            if a.rows:
                top = logits[i, :-1].topk(min(k, len(s.slots))).indices.tolist()
                hits.append(all(row in top for row in a.rows))
                reads.append(float(held[i]) >= 0.5)
            else:
                nulls.append(float(held[i]) < 0.5)
        nulls += [float(x) < 0.5 for x in held[len(s.asked) :]]
        if s.personal:
            asked += [x == (i < len(s.asked)) for i, x in enumerate((_asked(model, s, hidden) > 0).tolist())]
    shares = {"hit": hits, "reads": reads, "nulls": nulls, "asked": asked}
    found = {name: float(np.mean(x)) for name, x in shares.items()}
    found["gate_f1"] = _f1(model, [c for s in held_out for c in sayings(s)])
    if heard:
        found["talk_f1"] = _f1(model, heard)
    return found | {"score": sum(found.values()) / len(found)}


def sayings(s: Scene) -> list[tuple[Candidate, bool]]:
    """What a gate hears in a scene: its sentences, and the questions asked afterwards, which are not worth keeping."""
    return [*s.candidates, *((Candidate(a.text, a.text), False) for a in s.asked if s.personal)]


def _some(random: Random, labelled: Labelled, count: int) -> Labelled:
    return random.sample(labelled, min(len(labelled), count))


def _f1(model: MemoryModel, labelled: Labelled) -> float:
    said = (_gate(model, labelled, _encoded(model, _heard(labelled))) > 0).tolist()
    truth = [keep for _, keep in labelled]
    return 2 * sum(a and b for a, b in zip(said, truth, strict=True)) / max(1, sum(said) + sum(truth))


def _reading(model: MemoryModel, s: Scene, hidden: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (queries, slots + null) of asked and idle messages, and their target distributions."""
    index = index_of(s, model.dim)
    queries = [a.text for a in s.asked] + list(s.idle)
    evidence = torch.stack([index.evidence(q, s.now) for q in queries])
    keys = model.reader.keys(torch.stack([hidden[x.text] for x in s.slots]))
    scores, null = model.reader.scores(torch.stack([hidden[q] for q in queries]), keys, evidence.to(keys.device))
    targets = torch.zeros(len(queries), len(s.slots) + 1, device=keys.device)
    for i, a in enumerate(s.asked):
        if a.rows:
            targets[i, list(a.rows)] = 1 / len(a.rows)
        else:
            targets[i, -1] = 1
    targets[len(s.asked) :, -1] = 1
    return torch.cat([scores, null[:, None]], dim=1), targets


def _asked(model: MemoryModel, s: Scene, hidden: dict[str, Tensor]) -> Tensor:
    """Log-odds (asked + idle messages,) that something personal is asked."""
    return model.reader.asked(torch.stack([hidden[t] for t in [*(a.text for a in s.asked), *s.idle]])).squeeze(-1)


def _gate(model: MemoryModel, candidates: Labelled, hidden: dict[str, Tensor]) -> Tensor:
    texts = torch.stack([hidden[c.text] for c, _ in candidates])
    contexts = torch.stack([hidden[c.context] * bool(c.context) for c, _ in candidates])
    return model.gate_head(texts, contexts, surface([c for c, _ in candidates]).to(texts.device))


def _entropy(logits: Tensor, truth: Sequence[float]) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.tensor(truth, device=logits.device), reduction="none")


def _texts(s: Scene) -> list[str]:
    return [x.text for x in s.slots] + [a.text for a in s.asked] + list(s.idle)


def _heard(candidates: Labelled) -> list[str]:
    return [text for c, _ in candidates for text in (c.text, c.context)]


def _encoded(model: MemoryModel, texts: Sequence[str]) -> dict[str, Tensor]:
    """The encoder's vector (width,) of each text, with gradients, in batches of similar length to save padding."""
    unique = sorted(set(texts), key=lambda text: (len(text), text))
    parts = [model.encoder(unique[start : start + BATCH]) for start in range(0, len(unique), BATCH)]
    return dict(zip(unique, torch.cat(parts), strict=True))


def scenes(split: str, count: int, pool: Pool | None = None) -> list[Scene]:
    """`count` lives of `split`, and of talks and of sets of passages a quarter as many each."""
    few = range(count // 4)
    made = [scene(i, split) for i in range(count)] + [talk_scene(i, split) for i in few]
    return made + [passage_scene(i, pool) for i in few if pool]
