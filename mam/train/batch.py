"""One training batch through the frozen base with memory attached: the integrator's layout, vectorised.

Same columns, positions and biases as `mam.integrator` builds for one turn, for many examples at once; slot blocks
are padded to one length and gathered into each example's memory columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from mam import decode
from mam.integrator import BLOCK_TOKENS, Integrator, sink


@dataclass(frozen=True)
class Example:
    """What the base should say, given these slots at these log-weights.

    `prompt` and `answer` are token ids; the answer ends with the stop token.
    """

    slots: tuple[str, ...]
    log_weights: tuple[float, ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def slot_blocks(integrator: Integrator, texts: Sequence[str]) -> tuple[list[Tensor], list[Tensor], list[list[int]]]:
    """Keys and values of many slot texts: per layer (texts, kv_heads, longest, head_dim), and their token ids."""
    base, config = integrator.base, integrator.config
    lead = sink(base)
    ids = [base.tokenizer(t, add_special_tokens=False)["input_ids"][:BLOCK_TOKENS] for t in texts]
    longest = max(map(len, ids)) + len(lead)
    tokens = torch.tensor([lead + row + [0] * (longest - len(lead) - len(row)) for row in ids], device=base.device)
    positions = torch.arange(longest, device=base.device)[None] + config.prefix - len(lead)
    cache = DynamicCache()
    learning = config.adapt_slots and torch.is_grad_enabled()
    # Padding is on the right and attention causal, so padded columns disturb nothing and are never gathered.
    with torch.inference_mode(not learning), integrator.adapters.active() if config.adapt_slots else nullcontext():
        base.model.base_model(
            input_ids=tokens,
            position_ids=positions.clamp_min(0).expand(len(ids), -1),
            past_key_values=cache,
            use_cache=True,
        )
    skip = len(lead)
    return [x.keys[:, :, skip:] for x in cache.layers], [x.values[:, :, skip:] for x in cache.layers], ids


def answer_logits(integrator: Integrator, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits (answer tokens, vocab), float32, and the token ids there (answer tokens,), example after example."""
    base, prefix = integrator.base, integrator.config.prefix
    device, dtype = base.device, base.dtype
    texts = list(dict.fromkeys(t for e in batch for t in e.slots))
    row = {t: i for i, t in enumerate(texts)}
    width = max((len(e.slots) for e in batch), default=0)
    n = len(batch)

    cache = DynamicCache()
    bias = torch.zeros(n, prefix, device=device)
    words = torch.full((n, prefix), -1, device=device)
    starts = torch.full((n,), prefix, device=device)
    memory = [(p[:1].expand(n, -1, -1, -1), p[1:].expand(n, -1, -1, -1)) for p in integrator.prefix.to(dtype)]
    if width:
        keys, values, ids = slot_blocks(integrator, texts)
        longest, lengths = keys[0].shape[2], [len(tokens) for tokens in ids]
        columns = [
            [
                (row[t] * longest + j, w)
                for t, w in zip(e.slots, e.log_weights, strict=True)
                for j in range(lengths[row[t]])
            ]
            for e in batch
        ]
        m = max(map(len, columns))
        index = torch.tensor([[c for c, _ in cs] + [0] * (m - len(cs)) for cs in columns], device=device)
        weights = torch.tensor(
            [[w for _, w in cs] + [float("-inf")] * (m - len(cs)) for cs in columns],
            device=device,
        )
        bias = torch.cat([bias, weights], dim=1)
        covered = [[i for t in e.slots for i in integrator.covered(ids[row[t]])] for e in batch]
        words = torch.tensor([[-1] * prefix + c + [-1] * (m - len(c)) for c in covered], device=device)
        starts = starts + torch.tensor(
            [max((lengths[row[t]] for t in e.slots), default=0) for e in batch],
            device=device,
        )
        memory = [
            (
                torch.cat([pk, _gather(k, index)], dim=2),
                torch.cat([pv, _gather(v, index)], dim=2),
            )
            for (pk, pv), k, v in zip(memory, keys, values, strict=True)
        ]
    for layer, (k, v) in enumerate(memory):
        cache.update(k, v, layer)

    # Chats are padded on the left, so that all answers end in the last column.
    chats = [list(e.prompt) + list(e.answer) for e in batch]
    q = max(map(len, chats))
    pads = torch.tensor([q - len(c) for c in chats], device=device)
    tokens = torch.tensor([[0] * (q - len(c)) + c for c in chats], device=device)
    at = torch.arange(q, device=device)
    seen = (at[None, :, None] >= at[None, None, :]) & (at[None, None, :] >= pads[:, None, None])
    replies = torch.tensor([[-2] * (q - len(e.answer)) + list(e.answer) for e in batch], device=device)
    said = (replies[:, :, None] == words[:, None, :]).cummax(1).values
    weights = bias[:, None, :] - integrator.config.coverage * said

    def mask(window: int | None) -> Tensor:
        near = seen if window is None else seen & (at[None, None, :] > at[None, :, None] - window)
        chat = torch.zeros(n, q, q, device=device).masked_fill(~near, float("-inf"))
        return torch.cat([weights, chat], dim=2)[:, None].clamp_min(torch.finfo(dtype).min).to(dtype)

    masks = {kind: mask(window) for kind, window in decode.windows(base.model).items()}
    positions = (starts[:, None] + at[None] - pads[:, None]).clamp_min(0)
    # The vocabulary is the largest matrix of a small base: only what predicts an answer goes through it, as rows of
    # their own (through a slice it is copied for every example).
    answers = torch.tensor([len(e.answer) for e in batch], device=device)
    kept = at[q - 1 - int(answers.max()) : q - 1]
    with integrator.adapters.active():
        logits = base.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=kept,
        ).logits
    logits = logits[kept[None] >= q - 1 - answers[:, None]]
    return logits.float(), torch.tensor([i for e in batch for i in e.answer], device=device)


def loss(integrator: Integrator, batch: Sequence[Example]) -> Tensor:
    """Mean cross-entropy of the answer tokens, nats, scalar."""
    logits, targets = answer_logits(integrator, batch)
    return F.cross_entropy(logits, targets)


def _gather(block: Tensor, index: Tensor) -> Tensor:
    """(slots, heads, longest, dim), (examples, columns) → (examples, heads, columns, dim)."""
    slots, heads, longest, dim = block.shape
    flat = block.transpose(1, 2).reshape(slots * longest, heads, dim)
    return flat[index].transpose(1, 2)
