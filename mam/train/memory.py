"""Training of what a turn asks first: encoder updates, write gate and reader, together, on scenes.

Losses, all in nats:
    read    cross-entropy of the read weights against the slots that answer (uniform over several) or null
    asked   does the message ask for something only a memory could hold?
    gate    is the candidate worth keeping?
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam.gate import surface
from mam.model import MemoryModel
from mam.train.data import Passage, Scene, index_of, passage_scene, scene
from mam.train.loop import Part
from mam.values import Candidate

Labelled = Sequence[tuple[Candidate, bool]]

LIVES_A_STEP = 3
PASSAGES_A_STEP = 1
GATED = 24  # candidates of a life that the gate learns from in a step


def part(model: MemoryModel, pool: list[Passage], val: list[Scene]) -> Part:
    """What `loop.train` needs to train encoder, gate and reader of `model`."""
    reader, encoder = model.reader, model.encoder
    strengths = [reader.meaning, reader.evidence]
    others = [p for m in (reader.key, reader.query, reader.null, reader.asked, model.gate_head) for p in m.parameters()]
    groups = [
        {"params": list(encoder.low_rank.parameters()), "lr": 1e-3},
        {"params": others, "lr": 1e-3},
        {"params": strengths, "lr": 3e-2},
    ]

    def batch(step: int) -> list[Scene]:
        scenes = [scene(step * LIVES_A_STEP + i) for i in range(LIVES_A_STEP)]
        return scenes + [passage_scene(step * PASSAGES_A_STEP + i, pool) for i in range(PASSAGES_A_STEP) if pool]

    return Part(
        "memory",
        model._memory(),
        groups,
        batch,
        lambda scenes: losses(model, scenes),
        lambda: validate(model, val),
    )


def losses(model: MemoryModel, scenes: list[Scene]) -> dict[str, Tensor]:
    """Mean losses over the scenes of a step; every text is encoded once."""
    random = Random(len(scenes[0].slots))
    gated = [random.sample(s.candidates, min(GATED, len(s.candidates))) for s in scenes]
    texts = list(dict.fromkeys(t for s, g in zip(scenes, gated, strict=True) for t in _texts(s, g)))
    hidden = dict(zip(texts, _encode(model, texts), strict=True))
    read, asked, gate = [], [], []
    for s, g in zip(scenes, gated, strict=True):
        logits, targets = _reading(model, s, hidden)
        read.append(-(targets * logits.log_softmax(-1)).sum(-1))
        if not s.personal:  # what a passage tells may be asked of anybody: neither personal nor ordinary
            continue
        truth = torch.tensor([1.0] * len(s.asked) + [0.0] * len(s.idle))
        asked.append(_entropy(_asked(model, s, hidden), truth))
        gate.append(_entropy(_gate(model, g, hidden), torch.tensor([float(keep) for _, keep in g])))
    return {"read": torch.cat(read).mean(), "asked": torch.cat(asked).mean(), "gate": torch.cat(gate).mean()}


@torch.no_grad()
def validate(model: MemoryModel, scenes: list[Scene], k: int = 8) -> dict[str, float]:
    """Shares on held-out scenes: the answering slots within the best k, right decisions, F1 of the gate."""
    hits, reads, nulls, asked, truth, said = [], [], [], [], [], []
    for s in scenes:
        texts = list(dict.fromkeys(_texts(s, s.candidates)))
        hidden = dict(zip(texts, torch.from_numpy(model.encoder.encode(texts)), strict=True))
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
            said += (_gate(model, s.candidates, hidden) > 0).tolist()
            truth += [keep for _, keep in s.candidates]
    f1 = 2 * sum(a and b for a, b in zip(said, truth, strict=True)) / max(1, sum(said) + sum(truth))
    found = {
        name: float(np.mean(x)) for name, x in {"hit": hits, "reads": reads, "nulls": nulls, "asked": asked}.items()
    }
    found["gate_f1"] = f1
    return found | {"score": sum(found.values()) / len(found)}


def _reading(model: MemoryModel, s: Scene, hidden: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (queries, slots + null) of asked and idle messages, and their target distributions."""
    index = index_of(s, model.dim)
    queries = [a.text for a in s.asked] + list(s.idle)
    evidence = torch.stack([index.evidence(q, s.now) for q in queries])
    keys = model.reader.keys(torch.stack([hidden[x.text] for x in s.slots]))
    scores, null = model.reader.scores(torch.stack([hidden[q] for q in queries]), keys, evidence)
    targets = torch.zeros(len(queries), len(s.slots) + 1)
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
    return model.gate_head(texts, contexts, surface([c for c, _ in candidates]))


def _entropy(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def _texts(s: Scene, candidates: Labelled) -> list[str]:
    heard = [text for c, _ in candidates for text in (c.text, c.context)]
    return [x.text for x in s.slots] + [a.text for a in s.asked] + list(s.idle) + heard


def _encode(model: MemoryModel, texts: list[str]) -> Tensor:
    """(texts, width) with gradients, in batches of similar length to save padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = [model.encoder([texts[i] for i in order[a : a + 96]]) for a in range(0, len(order), 96)]
    back = torch.empty(len(texts), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(texts))
    return torch.cat(parts)[back]


def scenes(split: str, count: int, pool: list[Passage], first: int = 0) -> list[Scene]:
    """Held-out scenes: lives of `split`, and a quarter as many of passages."""
    lives = [scene(first + i, split) for i in range(count)]
    return lives + [passage_scene(first + i, pool) for i in range(count // 4) if pool]
