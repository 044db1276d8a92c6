"""The token loop: ids in, ids out, one at a time.

Knows only token ids, a causal model of transformers, a key/value cache and, optionally, a Prepared memory. Does
not know text (except to turn ids back into it), slots, readers or chats. Last step of a turn: the integrator
prepares the memory, this loop lets the frozen base speak.

Without a memory the loop gives the model exactly what `transformers.generate` gives it, so that "nothing read"
is the base alone, token for token. With one, the memory's columns stand before the chat in every layer's cache:

    cache columns   [ prefix and slot blocks: m | chat tokens: 0, 1, 2 ... ]
    added to logits [ bias (log read weight)  | 0 where not later, hidden otherwise ]   less `coverage` where a
                    column's token was said in this reply
    rotary position [ already applied         | start, start + 1, ... ]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from mam.errors import InputError, WeightsError

RELUCTANT = 3.0  # nats by which ending may be likelier than going on with a list that is not complete
COLDEST = 1e-6  # temperatures below are greedy: logits divided by them are none any more
MISFIT = "This memory was prepared for another base; attach it to this one first."


@dataclass
class Prepared:
    """A memory as the token loop sees it, for one generation."""

    keys: list[Tensor]  # per layer (1, kv_heads, m, head_dim): prefix and slot blocks, rotary already applied
    values: list[Tensor]  # per layer (1, kv_heads, m, head_dim)
    bias: Tensor  # (m,) float32: log read weight, added to every chat token's attention logits on that column
    start: int  # rotary position of the first chat token
    active: Callable[[], AbstractContextManager] = nullcontext  # switches the low-rank adapters on for one forward
    tokens: Tensor | None = None  # (m,) int64: the token of each column that coverage is for, -1 elsewhere
    coverage: float = 0.0  # nats taken from the bias of a column once the reply has said its token
    items: tuple[frozenset[int], ...] = ()  # of each slot that answers, the tokens that no other slot has
    ends: frozenset[int] = frozenset()  # tokens that end a sentence ...
    going_on: int | None = None  # ... and the one said in their place while an item is missing: " and"
    begun: int = 0  # how many of the last ids are a reply that goes on, after what it read has changed

    def asked(self, ids: Sequence[int]) -> Sequence[int]:
        """Of the ids the prompt."""
        return ids[: len(ids) - self.begun]


class Listing:
    """What a reply still has to come to before it may end: the token to say instead of `token`, given its logits.

    A base of this size ends a list after its first item, however it is trained, so the end of a sentence becomes an
    "and" as long as there is a slot of which no word was said that is its own, neither another slot's nor the prompt's:
    a hard form of the coverage penalty (Wu et al. 2016, eq. 14). At most once for each slot after the first, and only
    where the base itself would nearly have gone on: most of what is read together is no list.
    """

    def __init__(self, memory: Prepared | None, ids: Sequence[int], stop_ids: frozenset[int]):
        self.memory, self.unsaid, self.left, self.begun = memory, [], 0, False
        if memory and memory.going_on is not None and len(memory.items) > 1:
            asked = memory.asked(ids)
            self.unsaid = [own for item in memory.items if (own := item.difference(asked))]
            self.left, self.ends = len(memory.items) - 1, memory.ends | stop_ids
            for token in ids[len(asked) :]:
                self._said(token)

    def __call__(self, token: int, logits: Tensor) -> int:
        """logits: (1, vocab), from which the token was taken."""
        if not self.unsaid or not self.left:
            return token
        if token in self.ends and self.begun:
            more = self.memory.going_on
            if logits[0, more] < logits[0, token] - RELUCTANT:
                return token
            self.left -= 1
            return more
        self._said(token)
        return token

    def _said(self, token: int) -> None:
        self.unsaid = [own for own in self.unsaid if token not in own]
        self.begun = True


class Layer(DynamicLayer):
    """One layer's keys and values in buffers allocated once; a step writes its row and returns a view.

    transformers' own layer concatenates, which copies the whole cache for every token. With a sliding `window`
    the view ends at the last window - 1 tokens before the new ones, as in transformers; memory columns
    (`memory` of them, put there by `remember`) are outside the window, so then everything is returned and the
    mask hides what is too old.
    """

    def __init__(self, capacity: int, window: int | None = None):
        super().__init__()
        self.capacity, self.window = capacity, window
        self.is_sliding = window is not None
        self.filled = self.memory = 0

    def lazy_initialization(self, keys: Tensor, values: Tensor) -> None:
        self.dtype, self.device = keys.dtype, keys.device
        self.keys = keys.new_empty(*keys.shape[:-2], self.capacity, keys.shape[-1])
        self.values = values.new_empty(*values.shape[:-2], self.capacity, values.shape[-1])
        self.is_initialized = True

    def remember(self, keys: Tensor, values: Tensor) -> None:
        self.update(keys, values)
        self.memory = self.filled

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        if keys.shape[1::2] != self.keys.shape[1::2]:
            raise WeightsError(MISFIT)
        new = keys.shape[-2]
        end = self.filled + new
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        _, first = self.get_mask_sizes(new)
        self.filled = end
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def get_seq_length(self) -> int:
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        first = 0 if self.window is None or self.memory else max(self.filled - self.window + 1, 0)
        return self.filled + query_length - first, first


def new_cache(model: PreTrainedModel, capacity: int) -> DynamicCache:
    """An empty cache for `capacity` columns: preallocated where the layer is plain or sliding attention.

    Other kinds of layer (recurrent, convolutional, shared ...) keep what transformers makes for them.
    """
    cache = DynamicCache(config=model.config)
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[number] = Layer(capacity)
        elif type(layer) is DynamicSlidingWindowLayer:
            cache.layers[number] = Layer(capacity, layer.sliding_window)
    return cache


def windows(model: PreTrainedModel) -> dict[str, int | None]:
    """How many tokens back layers look, by their kind as masks go by it; None: all of them."""
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ["full_attention"]
    layers = DynamicCache(config=model.config).layers
    return {kind: getattr(layer, "sliding_window", None) for kind, layer in zip(kinds, layers, strict=False)}


class Pass:
    """Forward passes over one growing sequence: its cache and, with a memory, masks and positions.

    prompt: how many of the ids are the prompt (None: all). Those that follow are the reply, and what it has said is
    *covered*: the columns of these tokens count less from then on, so that the next item of a list is not the first
    one again (coverage: Tu et al. 2016, See et al. 2017; here a fixed amount per token, seen in training, too).
    `step(ids)` returns the logits (1, vocab) after the last id; `last=n` those after each of the last n: (1, n, vocab).
    Raises WeightsError when the memory was prepared for another base.
    """

    def __init__(
        self, model: PreTrainedModel, capacity: int, memory: Prepared | None = None, prompt: int | None = None
    ):
        self.model, self.memory, self.prompt, self.length = model, memory, prompt, 0
        columns = memory.bias.shape[0] if memory else 0
        self.cache = new_cache(model, columns + capacity)
        recurrent = "cache_params" in signature(model.forward).parameters  # Mamba's name for it
        self.passed = {"cache_params" if recurrent else "past_key_values": self.cache, "use_cache": True}
        self.device = model.get_input_embeddings().weight.device
        self.windows: dict[str, int | None] = {}
        if memory:
            self._remember(memory, columns, capacity)

    def step(self, ids: list[int], last: int | None = None) -> Tensor:
        out = self._forward(ids, logits_to_keep=1 if last is None else last)
        return out.logits[:, -1] if last is None else out.logits

    def attentions(self, ids: list[int]) -> tuple[Tensor, ...]:
        """Attention weights of each layer, (1, heads, n, columns); only the plain ("eager") kernel has them."""
        return self._forward(ids, logits_to_keep=1, output_attentions=True).attentions

    def _forward(self, ids: list[int], **options):
        new = torch.tensor([ids], device=self.device)
        with self.memory.active() if self.memory else nullcontext():
            out = self.model(input_ids=new, **self.passed, **options, **self._chat(ids))
        self.length += len(ids)
        return out

    def _remember(self, memory: Prepared, columns: int, capacity: int) -> None:
        layers = self.cache.layers
        if not all(isinstance(layer, Layer) for layer in layers):
            raise WeightsError("This base has layers without attention, which cannot read a memory; use another base.")
        if len(layers) != len(memory.keys):
            raise WeightsError(MISFIT)
        dtype = self.model.dtype
        for layer, keys, values in zip(layers, memory.keys, memory.values, strict=True):
            layer.remember(keys.to(self.device, dtype), values.to(self.device, dtype))
        self.row = torch.zeros(columns + capacity, dtype=dtype, device=self.device)
        self.row[:columns] = memory.bias
        self.said = torch.zeros(columns, dtype=torch.bool, device=self.device)
        self.windows = windows(self.model)

    def _chat(self, ids: list[int]) -> dict:
        """Positions and masks for these chat tokens; without a memory transformers makes its own."""
        if self.memory is None:
            return {}
        first = self.memory.start + self.length
        positions = torch.arange(first, first + len(ids), device=self.device)[None]
        weights = self._weights(ids)
        masks = {kind: self._mask(weights, window) for kind, window in self.windows.items()}
        # bases whose layers differ take a mask per kind of layer, all others one mask
        return {"position_ids": positions, "attention_mask": masks if len(masks) > 1 else next(iter(masks.values()))}

    def _weights(self, ids: list[int]) -> Tensor:
        """(n, columns): the memory's bias as each of the ids sees it, its own token counted among what was said."""
        row, memory = self.row[: self.memory.bias.shape[0]], self.memory
        asked = len(ids) if self.prompt is None or memory.tokens is None else max(self.prompt - self.length, 0)
        if asked >= len(ids):
            return row.expand(len(ids), -1)
        reply = torch.tensor(ids, device=self.device)[:, None] == memory.tokens
        reply[:asked] = False
        fresh = reply.cummax(0).values & ~self.said
        weights = row - (memory.coverage * fresh).to(row.dtype)
        row.copy_(weights[-1])
        self.said |= fresh[-1]
        return weights

    def _mask(self, weights: Tensor, window: int | None) -> Tensor:
        """(1, 1, n, columns + chat) added to the attention logits."""
        (new, columns), end = weights.shape, self.length + len(weights)
        if new == 1 and (window is None or end <= window):
            return self.row[None, None, None, : columns + end]
        hidden = torch.finfo(weights.dtype).min
        query = torch.arange(self.length, end, device=self.device)[:, None]
        key = torch.arange(end, device=self.device)
        unseen = (key > query) if window is None else (key > query) | (key <= query - window)
        chat = torch.zeros(new, end, dtype=weights.dtype, device=self.device).masked_fill(unseen, hidden)
        return torch.cat([weights, chat], dim=1)[None, None]


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    ids: list[int],
    *,
    context: int,
    stop_ids: frozenset[int] = frozenset(),
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: threading.Event | None = None,
    memory: Prepared | None = None,
) -> Iterator[int]:
    """Yield the tokens that follow `ids`, until one of `stop_ids` (not yielded), `max_tokens` or a full context.

    `temperature` 0 is greedy; above, samples are drawn from the smallest set of tokens that holds `top_p` of the
    probability, the same ones for the same `seed`. `stop` is looked at before every forward pass: once it is set
    nothing is computed any more. Raises InputError for an empty or too long prompt and values out of range.
    """
    first = memory.start if memory else 0
    check(ids, context - first, max_tokens, temperature, top_p)
    room = min(max_tokens, context - first - len(ids))
    sample, listing = sampler(temperature, top_p, seed), Listing(memory, ids, stop_ids)
    prompt = memory.asked(ids) if memory else ids
    forward, new = Pass(model, len(ids) + room, memory, len(prompt)), ids
    for _ in range(room):
        if stop is not None and stop.is_set():
            return
        logits = forward.step(new)
        token = listing(sample(logits), logits)
        if token in stop_ids:
            return
        yield token
        new = [token]


@torch.inference_mode()
def forward(model: PreTrainedModel, ids: list[int], memory: Prepared | None = None, last: int | None = None) -> Tensor:
    """Teacher-forced: logits (1, n, vocab) after each of the `ids`, with the memory if there is one.

    last: only after the last n, of which all but the first are a reply to what stands before them. With a large
    vocabulary logits are the dear part of a pass: ask for no more than are looked at.
    """
    if not ids:
        raise InputError("There is nothing to run: give at least one token.")
    forward = Pass(model, len(ids), memory, len(ids) - last + 1 if last else None)
    return forward.step(list(ids), last=last or len(ids))


def check(ids: list[int], context: int, max_tokens: int, temperature: float, top_p: float) -> None:
    """Raise InputError, with what to do, for values that the loop cannot work with."""
    if not ids:
        raise InputError("The prompt is empty; write something first.")
    if len(ids) >= context:
        raise InputError(f"The prompt has {len(ids)} tokens, the base reads fewer than {context}; shorten it.")
    if max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens}; it must be at least 1.")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"temperature is {temperature}; it must be 0 (greedy) or above.")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p is {top_p}; it must be above 0 and at most 1.")


def sampler(temperature: float, top_p: float, seed: int | None) -> Callable[[Tensor], int]:
    """Draws a token id from logits (1, vocab); the same ones for the same `seed`. For the values see `generate`."""
    if temperature < COLDEST:
        return lambda logits: int(logits.argmax(-1))
    random = torch.Generator()  # on the CPU, so that a seed means the same on every device
    random.manual_seed(seed) if seed is not None else random.seed()

    def sample(logits: Tensor) -> int:
        chances, order = (logits[0].float().cpu() / temperature).softmax(-1).sort(descending=True, stable=True)
        before = chances.cumsum(0) - chances  # the likeliest token always stays
        chances = chances.masked_fill(before >= top_p, 0)
        return int(order[torch.multinomial(chances, 1, generator=random)])

    return sample


def text_stream(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> Iterator[str]:
    """The text of `ids` as it comes, in pieces that join to the whole; a character split over tokens comes whole.

    Only the tokens since the last break are decoded again, and always together with those of the piece before,
    because some tokenizers drop the space of the first token.
    """
    done: list[int] = []  # tokens of the piece before, whose text is out already
    fresh: list[int] = []
    for token in ids:
        fresh.append(token)
        piece = _after(tokenizer, done, fresh)
        if piece and not piece.endswith("\ufffd"):
            yield piece
            done, fresh = fresh, []
    if fresh and (piece := _after(tokenizer, done, fresh)):
        yield piece


def _after(tokenizer: PreTrainedTokenizerBase, done: list[int], fresh: list[int]) -> str:
    before = tokenizer.decode(done, skip_special_tokens=True)
    return tokenizer.decode(done + fresh, skip_special_tokens=True)[len(before) :]
