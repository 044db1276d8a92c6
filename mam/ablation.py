"""The same turn without some of its slots: what would the base have said, and how differently at each token?

Knows a finished turn and the loaded networks; changes nothing in the memory. The prompt is taken from the trace,
so the comparison is about the slots alone, even when the session has gone on since.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mam import decode
from mam.base import Base
from mam.decode import Prepared
from mam.engine import Engine
from mam.errors import InputError
from mam.prompt import prompt_text
from mam.values import Turn


def without(engine: Engine, turn: Turn, slot_ids: set[str]) -> tuple[str, list[float]]:
    """The greedy reply to the turn's prompt without the slots, and KL(with ‖ without) in nats for each of its tokens.

    The other slots keep their weights: what is measured is these slots' own part. Raises InputError for a turn in
    which nothing was read or said.
    """
    base = engine.base
    prompt, reply = _spoken(base, turn)
    given = [read for read in turn.reads if read.given]
    if not given or not reply or turn.abstained:
        raise InputError("The base was given no memory in this turn, so there is nothing to leave out.")
    with engine.lock:
        whole = engine.integrator.prepare(given)
        left = [read for read in given if read.slot.id not in slot_ids]
        part = engine.integrator.prepare(left) if left else None
        reply = reply[: base.context - whole.start - len(prompt)]
        divergence = _divergence(_log_chances(engine, prompt, reply, whole), _log_chances(engine, prompt, reply, part))
        ids = list(base.generate(prompt, max_tokens=turn.tokens, memory=part))
    return base.decode(ids), divergence


def influence(engine: Engine, turn: Turn) -> np.ndarray:
    """What each slot did to each token of the reply: (tokens, given slots) float32, KL(with ‖ without it) in nats.

    Columns are in the order of `attribution`; no columns when nothing was read. One teacher-forced pass per slot.
    """
    base = engine.base
    prompt, reply = _spoken(base, turn)
    given = [] if turn.abstained else [read for read in turn.reads if read.given and read.weight > 0]
    found = np.zeros((len(reply), len(given)), dtype=np.float32)
    if not given or not reply:
        return found
    with engine.lock:
        whole = engine.integrator.prepare(given)
        fits = reply[: base.context - whole.start - len(prompt)]
        chances = _log_chances(engine, prompt, fits, whole)
        for column, read in enumerate(given):
            left = [other for other in given if other is not read]
            part = engine.integrator.prepare(left) if left else None
            found[: len(fits), column] = _divergence(chances, _log_chances(engine, prompt, fits, part))
    return found


def _spoken(base: Base, turn: Turn) -> tuple[list[int], list[int]]:
    """Token ids of what the base was asked in the turn and of what it said."""
    ids = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt_text(turn), turn.reply)]
    return ids[0], ids[1]


def _log_chances(engine: Engine, prompt: Sequence[int], reply: Sequence[int], memory: Prepared | None) -> Tensor:
    """Log-probabilities (tokens of the reply, vocabulary) float32, each before the token is seen."""
    logits = decode.forward(engine.base.model, [*prompt, *reply], memory)[0]
    return logits[len(prompt) - 1 : -1].float().log_softmax(-1)


def _divergence(whole: Tensor, part: Tensor) -> list[float]:
    return torch.sum(whole.exp() * (whole - part), dim=-1).clamp_min(0).tolist()
