"""The same turn with another memory: what would the base have said, and how differently at each token?

Knows a finished turn and the loaded networks; changes nothing in the memory. The prompt is taken from the trace, so
the comparison is about the slots alone, even when the session has gone on since. A base on a server shows no
probabilities: there replies are compared, and nothing is worked out token by token.
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
from mam.prompt import prompt_text, replayed
from mam.values import Read, Turn

LONGEST = 64  # tokens of a reply to a turn in which the base itself said nothing
PIECE = 4  # at most so many tokens come from a server at once
CHOICES = 6  # of the likeliest next tokens, with either memory
NO_CHANCES = "This base is on a server and shows no probabilities; leave memories out and compare the replies instead."


@dataclass(frozen=True)
class Choice:
    """A token that could come next: its probability in the turn as it was, and with the other memory, 0..1."""

    token: str
    then: float
    now: float


@dataclass(frozen=True)
class Alternative:
    """A turn as it would have gone with other reads; per token of the turn's own reply, teacher-forced.

    Of a base on a server there is the reply alone.
    """

    reply: str  # greedy; empty when it was not asked for
    reads: tuple[Read, ...]
    tokens: tuple[str, ...]  # of the turn's own reply
    divergence: tuple[float, ...]  # KL(then ‖ now), nats, before each of these tokens
    choices: tuple[tuple[Choice, ...], ...]  # what could have come in each one's place, likeliest first


def alternative(engine: Engine, turn: Turn, reads: Sequence[Read], spoken: bool = True) -> Alternative:
    """The turn with `reads` instead of what it was given; without its own greedy reply unless `spoken`.

    In a turn that abstained the base said nothing, so there is nothing to compare token by token. Raises InputError for
    a turn that another base answered.
    """
    base, reads = engine.base, engine.within(reads)
    check(engine, turn)
    if not engine.here:
        messages = replayed(turn, engine.prepared(_given(reads))[1])
        most = max(PIECE * turn.tokens, LONGEST)
        return Alternative("".join(base.generate(messages, max_tokens=most)) if spoken else "", reads, (), (), ())
    with engine.lock:
        then, other = (_context(engine, turn, given) for given in (_given_in(turn), _given(reads)))
        room = min(context.room(base) for context in (then, other))
        reply = [] if turn.abstained else _ids(base, turn.reply)[:room]
        divergence, choices = [], []
        if reply:
            whole, part = _log_chances(engine, then, reply), _log_chances(engine, other, reply)
            divergence, choices = _divergence(whole, part), _choices(base, whole, part)
        most = min(turn.tokens or LONGEST, room)
        speaks = spoken and most > 0
        ids = list(base.generate(other.prompt, max_tokens=most, memory=other.memory)) if speaks else []
    tokens = tuple(base.decode([id]) for id in reply)
    return Alternative(base.decode(ids), reads, tokens, tuple(divergence), tuple(choices))


def without(engine: Engine, turn: Turn, slot_ids: set[str]) -> tuple[str, list[float]]:
    """The greedy reply to the turn's prompt without the slots, and KL(with ‖ without) in nats for each of its tokens.

    The other slots keep their weights: what is measured is these slots' own part. A base on a server gives no
    divergence: compare the replies. Raises InputError for a turn in which nothing was read or said.
    """
    if not turn.reply or not _given_in(turn):
        raise InputError("The base was given no memory in this turn, so there is nothing to leave out.")
    other = alternative(engine, turn, [read for read in turn.reads if read.slot.id not in slot_ids])
    return other.reply, list(other.divergence)


def influence(engine: Engine, turn: Turn) -> np.ndarray:
    """What each slot did to each token of the reply: (tokens, given slots) float32, KL(with ‖ without it) in nats.

    Columns are in the order of the given reads; no columns when nothing was read. One teacher-forced pass per slot.
    Raises InputError for a base on a server, which shows no probabilities, and a turn that another base answered.
    """
    check(engine, turn)
    if not engine.here:
        raise InputError(NO_CHANCES)
    base = engine.base
    reply, given = _ids(base, turn.reply), _given_in(turn)
    found = np.zeros((len(reply), len(given)), dtype=np.float32)
    if not given or not reply:
        return found
    with engine.lock:
        whole = _context(engine, turn, given)
        fits = reply[: whole.room(base)]
        if not fits:
            return found
        chances = _log_chances(engine, whole, fits)
        for column, read in enumerate(given):
            part = _context(engine, turn, [other for other in given if other is not read])
            found[: len(fits), column] = _divergence(chances, _log_chances(engine, part, fits))
    return found


def check(engine: Engine, turn: Turn) -> None:
    """Raises InputError unless this base answered the turn, and was given its memories the way it is now."""
    if turn.base not in ("", engine.base.name):
        raise InputError(f"This turn was answered by {turn.base}; open the memory with that base to look into it.")
    if turn.sent and engine.integrator is not None:
        raise InputError("In this turn the base was told its memories as text; ask again to look into a turn.")


def _given(reads: Sequence[Read]) -> list[Read]:
    return [read for read in reads if read.given and read.weight > 0]


def _given_in(turn: Turn) -> list[Read]:
    return [] if turn.abstained else _given(turn.reads)


@dataclass(frozen=True)
class _Context:
    """What a base on this machine is given in a turn: the prompt's token ids, and the blocks beside it."""

    prompt: list[int]
    memory: Prepared | None

    def room(self, base: Base) -> int:
        """Tokens that the base can still say."""
        return max(base.context - (self.memory.start if self.memory else 0) - len(self.prompt), 0)


def _context(engine: Engine, turn: Turn, given: Sequence[Read]) -> _Context:
    """The turn's prompt, with these reads."""
    memory, notes = engine.prepared(given)
    if engine.integrator is None:
        return _Context(engine.base.prompt(replayed(turn, notes)), None)
    return _Context(_ids(engine.base, prompt_text(turn)), memory)


def _ids(base: Base, text: str) -> list[int]:
    return base.tokenizer(text, add_special_tokens=False)["input_ids"]


def _log_chances(engine: Engine, context: _Context, reply: Sequence[int]) -> Tensor:
    """Log-probabilities (tokens of the reply, vocabulary) float32, each before the token is seen."""
    logits = decode.forward(engine.base.model, [*context.prompt, *reply[:-1]], context.memory, last=len(reply))[0]
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
