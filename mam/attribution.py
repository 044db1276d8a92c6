"""Attribution: which slots does each token of a reply look at? A look back at a finished turn.

One teacher-forced pass over prompt and reply with the memory the turn had; for each token of the reply, the share of
the attention of the position that predicted it which falls on each slot's block, averaged over layers and heads.
Attention says what was *looked at*; what *mattered* is the question of `Space.without`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel

from mam.base import Base
from mam.decode import Pass
from mam.errors import InputError
from mam.integrator import Integrator
from mam.prompt import prompt_text
from mam.values import Slot, Turn

if TYPE_CHECKING:
    from mam.endpoint import Endpoint


@dataclass(frozen=True)
class Attribution:
    """`attention`: (tokens, slots) float32, shares of each token's attention, 0..1; `slots`: those that were given."""

    tokens: tuple[str, ...]
    slots: tuple[Slot, ...]
    attention: np.ndarray


NO_BLOCKS = (
    "This base is told its memories as text, so there is no attention on slots to look at; leave one out instead."
)


def attribution(base: Base | Endpoint, integrator: Integrator | None, turn: Turn) -> Attribution:
    """Attention of the turn's reply on the slots it was given; no columns when nothing was read.

    The caller holds the base: adapters are active and the attention kernel is another one meanwhile. Raises InputError
    for a base that is told its memories as text.
    """
    if integrator is None:
        raise InputError(NO_BLOCKS)
    reply = base.tokenizer(turn.reply, add_special_tokens=False)["input_ids"]
    tokens = tuple(base.decode([i]) for i in reply)
    given = [] if turn.abstained else [r for r in turn.reads if r.given and r.weight > 0]
    if not given or not reply:
        return Attribution(tokens, (), np.zeros((len(reply), 0), dtype=np.float32))
    prompt = base.tokenizer(prompt_text(turn), add_special_tokens=False)["input_ids"]
    memory = integrator.prepare(given)
    forward = Pass(base.model, len(prompt) + len(reply), memory, len(prompt))
    with torch.inference_mode(), _attention_weights(base.model):
        layers = forward.attentions([*prompt, *reply])
    asking = slice(len(prompt) - 1, len(prompt) + len(reply) - 1)  # the positions that predict the reply's tokens
    shares = torch.stack([layer[0, :, asking].float().mean(0) for layer in layers]).mean(0)
    ends = np.cumsum([integrator.config.prefix, *(integrator.tokens(r) for r in given)])
    columns = [shares[:, a:b].sum(-1) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    return Attribution(tokens, tuple(r.slot for r in given), torch.stack(columns, dim=1).cpu().numpy())


@contextmanager
def _attention_weights(model: PreTrainedModel) -> Iterator[None]:
    """Fused attention kernels keep their weights to themselves; the plain one returns them."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
