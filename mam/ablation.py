"""The same turn with another memory: what would the base have said, and how differently at each token?

Knows a finished turn and the loaded networks; changes nothing in the memory. The prompt is taken from the trace, so
the comparison is about the slots alone, even when the session has gone on since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mam import decode
from mam.base import Base
from mam.decode import Prepared
from mam.engine import Engine
from mam.errors import InputError
from mam.prompt import prompt_text
from mam.values import Read, Turn

LONGEST = 64  # tokens of a reply to a turn in which the base itself said nothing
CHOICES = 6  # of the likeliest next tokens, with either memory


@dataclass(frozen=True)
class Choice:
    """A token that could come next: its probability in the turn as it was, and with the other memory, 0..1."""

    token: str
    then: float
    now: float


@dataclass(frozen=True)
class Alternative:
    """A turn as it would have gone with other reads; per token of the turn's own reply, teacher-forced."""

    reply: str  # greedy; empty when it was not asked for
    reads: tuple[Read, ...]
    tokens: tuple[str, ...]  # of the turn's own reply
    divergence: tuple[float, ...]  # KL(then ‖ now), nats, before each of these tokens
    choices: tuple[tuple[Choice, ...], ...]  # what could have come in each one's place, likeliest first


def alternative(engine: Engine, turn: Turn, reads: Sequence[Read], spoken: bool = True) -> Alternative:
    """The turn with `reads` instead of what it was given; without its own greedy reply unless `spoken`.

    In a turn that abstained the base said nothing, so there is nothing to compare token by token.
    """
    base = engine.base
    prompt, reply = _spoken(base, turn)
    then = [] if turn.abstained else _given(turn.reads)
    with engine.lock:
        memory, other = _prepared(engine, then), _prepared(engine, _given(reads))
        room = max(base.context - max(m.start if m else 0 for m in (memory, other)) - len(prompt), 0)
        reply = [] if turn.abstained else reply[:room]
        divergence, choices = [], []
        if reply:
            whole, part = _log_chances(engine, prompt, reply, memory), _log_chances(engine, prompt, reply, other)
            divergence, choices = _divergence(whole, part), _choices(base, whole, part)
        most = min(turn.tokens or LONGEST, room)
        ids = list(base.generate(prompt, max_tokens=most, memory=other)) if spoken and most > 0 else []
    tokens = tuple(base.decode([id]) for id in reply)
    return Alternative(base.decode(ids), tuple(reads), tokens, tuple(divergence), tuple(choices))


def without(engine: Engine, turn: Turn, slot_ids: set[str]) -> tuple[str, list[float]]:
    """The greedy reply to the turn's prompt without the slots, and KL(with ‖ without) in nats for each of its tokens.

    The other slots keep their weights: what is measured is these slots' own part. Raises InputError for a turn in
    which nothing was read or said.
    """
    if turn.abstained or not turn.reply or not _given(turn.reads):
        raise InputError("The base was given no memory in this turn, so there is nothing to leave out.")
    other = alternative(engine, turn, [read for read in turn.reads if read.slot.id not in slot_ids])
    return other.reply, list(other.divergence)


def influence(engine: Engine, turn: Turn) -> np.ndarray:
    """What each slot did to each token of the reply: (tokens, given slots) float32, KL(with ‖ without it) in nats.

    Columns are in the order of `attribution`; no columns when nothing was read. One teacher-forced pass per slot.
    """
    base = engine.base
    prompt, reply = _spoken(base, turn)
    given = [] if turn.abstained else _given(turn.reads)
    found = np.zeros((len(reply), len(given)), dtype=np.float32)
    if not given or not reply:
        return found
    with engine.lock:
        whole = engine.integrator.prepare(given)
        fits = reply[: max(base.context - whole.start - len(prompt), 0)]
        if not fits:
            return found
        chances = _log_chances(engine, prompt, fits, whole)
        for column, read in enumerate(given):
            part = _prepared(engine, [other for other in given if other is not read])
            found[: len(fits), column] = _divergence(chances, _log_chances(engine, prompt, fits, part))
    return found


def _given(reads: Sequence[Read]) -> list[Read]:
    return [read for read in reads if read.given and read.weight > 0]


def _prepared(engine: Engine, given: Sequence[Read]) -> Prepared | None:
    return engine.integrator.prepare(given) if given else None


def _spoken(base: Base, turn: Turn) -> tuple[list[int], list[int]]:
    """Token ids of what the base was asked in the turn and of what it said."""
    ids = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt_text(turn), turn.reply)]
    return ids[0], ids[1]


def _log_chances(engine: Engine, prompt: Sequence[int], reply: Sequence[int], memory: Prepared | None) -> Tensor:
    """Log-probabilities (tokens of the reply, vocabulary) float32, each before the token is seen."""
    logits = decode.forward(engine.base.model, [*prompt, *reply[:-1]], memory, last=len(reply))[0]
    return logits.float().log_softmax(-1)


def _divergence(whole: Tensor, part: Tensor) -> list[float]:
    return torch.sum(whole.exp() * (whole - part), dim=-1).clamp_min(0).tolist()


def _choices(base: Base, then: Tensor, now: Tensor) -> list[tuple[Choice, ...]]:
    """The likeliest tokens of either distribution (tokens of the reply, vocabulary), the likeliest before first."""
    out = []
    for before, after in zip(then.exp(), now.exp(), strict=True):
        ids = set(before.topk(CHOICES).indices.tolist()) | set(after.topk(CHOICES).indices.tolist())
        found = [Choice(base.decode([id]), float(before[id]), float(after[id])) for id in ids]
        out.append(tuple(sorted(found, key=lambda c: -max(c.then, c.now))[:CHOICES]))
    return out
