"""The integrator: feeds the slots that were read into the frozen base. Last stage of a turn before the reply.

How the base sees a memory (the layout of its key/value cache):

    columns   │ learned prefix │ slot 1 │ slot 2 │ ... │ chat so far ...
    positions │ 0 .. P-1       │ P ..   │ P ..   │     │ P + longest slot, ...
    bias      │ 0              │ log w₁ │ log w₂ │     │ 0 (causal)

- A *slot block* is the key/value block of one slot, encoded by the frozen base alone: it depends on nothing but
  the slot's text, so it is computed once and cached, and an edit or a delete concerns that one block.
- The *read weight* w of a slot enters every attention of every chat token on its block as + log w, so it is
  causal for the reply: at w = 0 the slot is not there.
- What the reply has said is *covered*: the columns of these words weigh less from then on (see `decode.Pass`). A small
  base does not keep count by itself: of "dark chocolate" and "red wine" it would name the heavier one twice. Nor does
  it know when it is done, so it goes on until each slot that answers has been come to (see `decode.Listing`).
- The *prefix* (P key/value vectors per layer) and *low-rank adapters* on the attention projections are trained
  per base and active only while something is read: together they are the attachment. The base's weights never
  change.

It does not know where weights come from (reader) or how tokens are drawn (decode).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mam.base import Base
from mam.decode import Prepared
from mam.lowrank import LowRank
from mam.render import render
from mam.values import SAYS_WHO, Read

BLOCK_CACHE_BYTES = 1 << 30
SHORTEST_WORD = 3  # letters of a token that coverage is for
LIGHTEST_ITEM = 0.06  # share of what is read from which a slot is one of several answers
BLOCK_TOKENS = 256  # a longer slot is cut: it would push the chat away from the prefix
PREFIX_TEXT = (
    "Notes about the user, remembered from earlier conversations. Answer from these notes and from nothing else;"
    " when they do not hold the answer, say so. The notes:"
)


@dataclass(frozen=True)
class IntegratorConfig:
    base: str  # fingerprint of the base it was trained for
    prefix: int = 16  # P, key/value vectors per layer
    rank: int = 16
    targets: str = r"(q_proj|v_proj|c_attn|query_key_value|qkv_proj|Wqkv)$"
    adapt_slots: bool = False  # adapters also on while slot blocks are encoded
    coverage: float = 4.0  # nats taken from the log-weight of what was said already; 0: none


class Integrator(nn.Module):
    """One attachment: `config`, the prefix (layers, 2, kv_heads, P, head_dim; keys and values) and the adapters."""

    def __init__(self, base: Base, config: IntegratorConfig):
        super().__init__()
        self.base, self.config = base, config
        # The prefix begins as the base's own reading of an instruction, begin-of-text column included: without that
        # column the chat's attention has nothing to rest on, as no other token is ever first.
        start = self._encode(base.tokenizer(PREFIX_TEXT)["input_ids"], position=0, keep_sink=True)
        self.prefix = nn.Parameter(start[..., : config.prefix, :].float().clone())
        self.adapters = LowRank(base.model, config.targets, config.rank)
        self.to(base.device)
        self._blocks: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0
        self._words: dict[int, bool] = {}  # which tokens are words
        self._ends = frozenset(base.tokenizer(mark, add_special_tokens=False)["input_ids"][-1] for mark in ".!?")
        self._and = _one_token(base, "and")
        self._lock = threading.Lock()

    @property
    def settings(self) -> dict:
        return asdict(self.config)

    # ---- slot blocks ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _encode(self, ids: Sequence[int], position: int, keep_sink: bool = False) -> Tensor:
        """Keys and values (layers, 2, kv_heads, ids, head_dim) of `ids` read alone, rotary positions from `position`.

        A begin-of-text column comes first while encoding, so that the attention sink falls on it instead of on the
        slot's first word; it is dropped afterwards unless `keep_sink`, and then stands at `position` itself.
        """
        cache = DynamicCache()  # of plain layers: a block may be longer than a sliding window
        lead = sink(self.base)
        tokens = torch.tensor([lead + list(ids)], device=self.base.device)
        first = position if keep_sink else position - len(lead)
        positions = torch.arange(tokens.shape[1], device=self.base.device)[None] + first
        self.base.model.base_model(
            input_ids=tokens, position_ids=positions.clamp_min(0), past_key_values=cache, use_cache=True
        )
        block = torch.stack([torch.stack([x.keys[0], x.values[0]]) for x in cache.layers])
        return block if keep_sink else block[..., len(lead) :, :]

    def block(self, text: str) -> Tensor:
        """The block of a slot text, (layers, 2, kv_heads, tokens, head_dim); cached by the text alone.

        Always encoded one by one: in a padded batch the same text would come out a rounding error different, and a
        restart could change a reply.
        """
        with self._lock:
            if text in self._blocks:
                self._blocks.move_to_end(text)
                return self._blocks[text]
        ids = self._ids(text)
        with self.adapters.active() if self.config.adapt_slots else nullcontext():
            block = self._encode(ids, position=self.config.prefix)
        with self._lock:
            self._blocks[text] = block
            self._bytes += block.nbytes
            while self._bytes > BLOCK_CACHE_BYTES and len(self._blocks) > 1:
                self._bytes -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def tokens(self, read: Read) -> int:
        """Columns of the block of a slot as it was read."""
        return len(self._ids(render(read.slot, read.dated)))

    def forget(self, text: str) -> None:
        """Drop the cached block of a slot that was edited, deleted or purged (any of its rendered forms)."""
        with self._lock:
            for known in [t for t in self._blocks if text in t]:
                self._bytes -= self._blocks.pop(known).nbytes

    # ---- what the token loop gets --------------------------------------------------------------------------------

    @torch.inference_mode()
    def prepare(self, reads: Sequence[Read]) -> Prepared:
        """The memory of one turn: prefix and the blocks of the given reads, with log-weights as attention bias."""
        given = [r for r in reads if r.given and r.weight > 0]
        texts = [render(r.slot, r.dated) for r in given]
        blocks = [self.block(text) for text in texts]
        memory = torch.cat([self.prefix.to(self.base.dtype), *blocks], dim=3)
        lengths, words = [b.shape[3] for b in blocks], [self.covered(self._ids(text)) for text in texts]
        logs = [0.0] * self.config.prefix
        for read, length in zip(given, lengths, strict=True):
            logs += [math.log(read.weight)] * length
        return Prepared(
            keys=[layer[:1] for layer in memory],
            values=[layer[1:] for layer in memory],
            bias=torch.tensor(logs, device=self.base.device),
            start=self.config.prefix + max(lengths, default=0),
            active=self.adapters.active,
            tokens=torch.tensor([-1] * self.config.prefix + sum(words, []), device=self.base.device),
            coverage=self.config.coverage,
            items=_items(given, words),
            ends=self._ends,
            going_on=self._and,
        )

    def _ids(self, text: str) -> list[int]:
        return self.base.tokenizer(text, add_special_tokens=False)["input_ids"][:BLOCK_TOKENS]

    def covered(self, ids: Sequence[int]) -> list[int]:
        """The ids that coverage is for, -1 for the others: digits and signs come again for reasons of their own."""
        return [i if self._is_word(i) else -1 for i in ids]

    def _is_word(self, id: int) -> bool:
        if id not in self._words:
            text = self.base.tokenizer.decode([id]).strip()
            self._words[id] = len(text) >= SHORTEST_WORD and text.isalpha()
        return self._words[id]


def _items(given: Sequence[Read], words: Sequence[Sequence[int]]) -> tuple[frozenset[int], ...]:
    """Of each read that answers, the words that none of the others has; who is meant by a name answers nothing."""
    whole, found = sum(read.weight for read in given), []
    for n, read in enumerate(given):
        if read.weight >= LIGHTEST_ITEM * whole and SAYS_WHO not in read.parts:
            others = {word for k, own in enumerate(words) if k != n for word in own}
            found.append(frozenset(word for word in words[n] if word >= 0) - others)
    return tuple(found)


def _one_token(base: Base, word: str) -> int | None:
    """The token of a word that follows another one, if the tokenizer has one for it."""
    before = base.tokenizer("a", add_special_tokens=False)["input_ids"]
    for text in (f" {word}", word):
        ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and base.tokenizer.decode(before + ids).endswith(f" {word}"):
            return ids[0]
    return None


def sink(base: Base) -> list[int]:
    """The begin-of-text token, if the base has one: what a text's attention rests on when it has nowhere to look."""
    begin = base.tokenizer.bos_token_id
    return [] if begin is None else [begin]
