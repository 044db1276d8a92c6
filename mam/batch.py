"""Continuous batching: replies that are in the making at the same time take one step through the base together.

Knows what `decode` knows, token ids and prepared memories, and who else is speaking. A base of this size spends a step
on reading its weights; reading them once for sixteen replies costs little more than for one.

    waiting ──► prompt, alone (`decode.Pass`) ──► first token ──► joins the sheet ──► a token each step ──► leaves

The *sheet* has a row for each reply: its memory's columns, then its chat's, as in the cache of the single loop. Rows of
different length are hidden behind their end, and the adapters are on for the rows that read a memory.

A reply that nobody else speaks beside takes exactly the single loop's passes, and says the same. In a sheet the same
sums are made in another order, so where two tokens are as likely as rounding can tell, the other one may be said.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from mam import decode
from mam.base import Base
from mam.decode import Pass, Prepared

MOST = 32  # replies at once; who comes later waits until one is over
SPARE = 128  # columns that a sheet grows by
CELLS = 1 << 16  # rows x columns of a sheet: of the default base 1.5 GB; who would need more waits for others to end


class Rows(DynamicLayer):
    """One layer of a sheet: keys and values (rows, kv_heads, columns, head_dim); where they go says the sheet."""

    def __init__(self, sheet: Sheet):
        super().__init__()
        self.sheet = sheet
        self.is_initialized = True

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Put one new column into each row, (n, kv_heads, 1, head_dim); returns all that any row has."""
        n, at, end = self.sheet.count, self.sheet.at, self.sheet.end
        self.keys[torch.arange(n, device=at.device), :, at] = keys[:, :, 0]
        self.values[torch.arange(n, device=at.device), :, at] = values[:, :, 0]
        return self.keys[:n, :, :end], self.values[:n, :, :end]

    def get_seq_length(self) -> int:
        return self.sheet.end - 1


class Sheet:
    """Replies side by side, a row each: what `decode.Pass` is for one sequence, after its prompt.

    bias (rows, columns): added to the attention logits of a row's next token; hides what is not the row's.
    """

    def __init__(self, model: PreTrainedModel):
        self.model, self.device, self.dtype = model, model.device, model.dtype
        self.hidden = torch.finfo(self.dtype).min
        self.count = self.end = 0
        self.columns: list[int] = []  # of each row's memory
        self.lengths: list[int] = []  # of each row's chat so far
        self.active: Callable[..., AbstractContextManager] | None = None  # switches the adapters on for some rows
        self.cache = DynamicCache(config=model.config)
        self.windows = decode.windows(model)
        self.cache.layers = [Rows(self) for _ in self.cache.layers]
        self._planes: dict[str, Tensor] = {}

    def join(self, one: Pass) -> None:
        """Take over what a reply's own pass has in its cache, as the last row."""
        columns = one.memory.bias.shape[0] if one.memory else 0
        row, filled = self.count, columns + one.length
        self._room(row + 1, filled + 1, one)
        for mine, own in zip(self.cache.layers, one.cache.layers, strict=True):
            mine.keys[row, :, :filled] = own.keys[0, :, :filled]
            mine.values[row, :, :filled] = own.values[0, :, :filled]
        planes = self._planes
        planes["bias"][row] = self.hidden
        planes["bias"][row, columns:filled] = 0
        planes["tokens"][row] = -1
        planes["said"][row] = False
        planes["coverage"][row] = 0.0
        if one.memory:
            self.active = one.memory.active
            planes["bias"][row, :columns] = one.row[:columns]
            planes["said"][row, :columns] = one.said
            planes["coverage"][row] = one.memory.coverage
            if one.memory.tokens is not None:
                planes["tokens"][row, :columns] = one.memory.tokens
        planes["start"][row] = one.memory.start if one.memory else 0
        self.columns.append(columns)
        self.lengths.append(one.length)
        self.count += 1

    def leave(self, row: int) -> None:
        """Drop a row; the last one takes its place."""
        self.count -= 1
        last = self.count
        if row != last:
            for plane in self._every():
                plane[row] = plane[last].clone()
        for values in (self.columns, self.lengths):
            values[row] = values[last]
            values.pop()

    def step(self, ids: list[int]) -> Tensor:
        """Logits (rows, vocab) after one more token in each row."""
        n, planes = self.count, self._planes
        filled = [columns + length for columns, length in zip(self.columns, self.lengths, strict=True)]
        self.end = max(filled) + 1
        self._room(n, self.end)
        self.at = torch.tensor(filled, device=self.device)
        lengths = torch.tensor(self.lengths, device=self.device)
        new = torch.tensor(ids, device=self.device)[:, None]
        planes["bias"][torch.arange(n, device=self.device), self.at] = 0
        self._cover(new)
        masks = {kind: self._mask(lengths, window) for kind, window in self.windows.items()}
        with self._adapted():
            out = self.model(
                input_ids=new,
                position_ids=(planes["start"][:n] + lengths)[:, None],
                attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
                past_key_values=self.cache,
                use_cache=True,
            )
        self.lengths = [length + 1 for length in self.lengths]
        return out.logits[:, -1]

    def _adapted(self) -> AbstractContextManager:
        """The adapters, on for the rows that read a memory; a memory has at least one column."""
        reading = [columns > 0 for columns in self.columns]
        if not any(reading):
            return nullcontext()
        if all(reading):
            return self.active()
        return self.active(torch.tensor(reading, device=self.device)[:, None, None])

    def _cover(self, new: Tensor) -> None:
        """What the replies say now counts less from here on; see `decode.Pass`."""
        n, most, planes = self.count, max(self.columns), self._planes
        if most:
            bias, said = planes["bias"][:n, :most], planes["said"][:n, :most]
            fresh = (planes["tokens"][:n, :most] == new) & ~said
            bias -= (planes["coverage"][:n, None] * fresh).to(self.dtype)
            said |= fresh

    def _mask(self, lengths: Tensor, window: int | None) -> Tensor:
        """(rows, 1, 1, end) added to the attention logits."""
        mask = self._planes["bias"][: self.count, : self.end]
        if window is not None and int(lengths.max()) >= window:
            first = torch.tensor(self.columns, device=self.device)[:, None]
            chat = torch.arange(self.end, device=self.device)[None] - first  # the memory is outside the window
            mask = mask.masked_fill((chat >= 0) & (chat <= lengths[:, None] - window), self.hidden)
        return mask[:, None, None]

    def _every(self) -> Iterator[Tensor]:
        yield from self._planes.values()
        for layer in self.cache.layers:
            yield from (layer.keys, layer.values)

    def _room(self, rows: int, columns: int, one: Pass | None = None) -> None:
        """Have at least so many rows and columns; `one` shows the shape of keys and values when there are none yet."""
        had = self._planes["bias"].shape if self._planes else (0, 0)
        if rows <= had[0] and columns <= had[1]:
            return
        height = had[0] if rows <= had[0] else max(2 * had[0], rows)
        width = had[1] if columns <= had[1] else columns + SPARE
        if height * width > CELLS:  # no rows in reserve, and no columns of a long reply that is over
            filled = (own + length + 1 for own, length in zip(self.columns, self.lengths, strict=True))
            width = max([columns, *filled]) + SPARE
            height = max(rows, self.count, min(height, CELLS // width))

        def resized(old: Tensor, *shape: int) -> Tensor:
            new, kept = old.new_zeros(shape), tuple(map(slice, map(min, shape, old.shape)))
            new[kept] = old[kept]
            return new

        if not self._planes:
            where = {"device": self.device}
            self._planes = {
                "bias": torch.empty(0, 0, dtype=self.dtype, **where),
                "tokens": torch.empty(0, 0, dtype=torch.int64, **where),
                "said": torch.empty(0, 0, dtype=torch.bool, **where),
                "coverage": torch.empty(0, **where),
                "start": torch.empty(0, dtype=torch.int64, **where),
            }
            for mine, own in zip(self.cache.layers, one.cache.layers, strict=True):
                mine.keys = own.keys.new_empty(0, own.keys.shape[1], 0, own.keys.shape[3])
                mine.values = own.values.new_empty(0, own.values.shape[1], 0, own.values.shape[3])
        for name, plane in self._planes.items():
            self._planes[name] = resized(plane, height, *([width] if plane.ndim == 2 else []))
        self._planes["bias"][:, had[1] :] = self.hidden
        for layer in self.cache.layers:
            heads, size, wide = layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]
            layer.keys = resized(layer.keys, height, heads, width, size)
            layer.values = resized(layer.values, height, heads, width, wide)


@torch.inference_mode()
def replies(
    base: Base,
    lock: AbstractContextManager,
    asked: Sequence[tuple[list[int], Prepared | None]],
    max_tokens: int,
    enough: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """The tokens of several replies, greedily, in one sheet: for the same prompts and memories always the same.

    lock: held for each pass. enough: whether the reply of this number, of which so much was said, may end.
    """
    sheet, said, rows = Sheet(base.model), [[] for _ in asked], []
    listings = [decode.Listing(memory, ids, base.stop_ids) for ids, memory in asked]

    def goes_on(number: int, logits: Tensor, token: int) -> bool:
        token = listings[number](token, logits)
        if token in base.stop_ids:
            return False
        said[number].append(token)
        return len(said[number]) < max_tokens and not enough(number, said[number])

    for number, (ids, memory) in enumerate(asked):
        with lock:
            own = Pass(base.model, len(ids) + max_tokens, memory, len(ids))
            logits = own.step(ids)
            if goes_on(number, logits, int(logits.argmax())):
                sheet.join(own)
                rows.append(number)
    while rows:
        with lock:
            logits = sheet.step([said[number][-1] for number in rows])
            best = logits.argmax(-1).tolist()
            for row in reversed(range(len(rows))):
                if not goes_on(rows[row], logits[row : row + 1], best[row]):
                    sheet.leave(row)
                    rows[row] = rows[-1]
                    rows.pop()
    return said


@dataclass(eq=False)
class Spoken:
    """A reply in the making."""

    ids: list[int]
    most: int  # tokens
    greedy: bool
    sample: Callable[[Tensor], int]
    stop: threading.Event | None
    memory: Prepared | None
    listing: decode.Listing
    out: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)  # tokens, then None or an exception
    gone: bool = False  # nobody listens any more
    own: Pass | None = None  # until it joins a sheet
    last: int = -1  # the token that is to be fed next
    said: int = 0

    @property
    def columns(self) -> int:
        """At most so many, with the memory's."""
        return (self.memory.bias.shape[0] if self.memory else 0) + len(self.ids) + self.most

    @property
    def over(self) -> bool:
        return self.gone or self.said >= self.most or self.stop is not None and self.stop.is_set()


class Batch:
    """Speaks all replies of one base. `lock` is held for each pass, as for every other call of a network.

    Its worker begins with the first reply and ends when `close` is called, or with the program.
    """

    def __init__(self, base: Base, lock: AbstractContextManager):
        self.base, self._lock = base, lock
        self._changed = threading.Condition()
        self._waiting: deque[Spoken] = deque()
        self._sheet, self._speaking = Sheet(base.model), []  # the rows of the sheet, then who has not joined it yet
        self._worker: threading.Thread | None = None
        self._closed = False

    @staticmethod
    def fits(base: Base) -> bool:
        """Whether the base has attention alone, plain or sliding: what else its layers remember has no rows here."""
        layers = decode.new_cache(base.model, 1).layers if isinstance(base, Base) else [None]
        return all(isinstance(layer, decode.Layer) for layer in layers)

    def generate(
        self,
        ids: list[int],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: threading.Event | None = None,
        memory: Prepared | None = None,
    ) -> Iterator[int]:
        """As `Base.generate`; to be called without the lock."""
        context = self.base.context - (memory.start if memory else 0)
        decode.check(ids, context, max_tokens, temperature, top_p)
        sample = decode.sampler(temperature, top_p, seed)
        listing = decode.Listing(memory, ids, self.base.stop_ids)
        most = min(max_tokens, context - len(ids))
        spoken = Spoken(list(ids), most, temperature == 0, sample, stop, memory, listing)
        with self._changed:
            if self._closed:
                raise RuntimeError("this batch is closed")
            self._waiting.append(spoken)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="batch", daemon=True)
                self._worker.start()
            self._changed.notify()
        try:
            while (token := spoken.out.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                yield token
        finally:
            spoken.gone = True

    def close(self) -> None:
        """Break off what is being said."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._worker:
            self._worker.join()

    # -- the worker -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._speaking)
                if self._closed:
                    break
            self._dismiss()
            self._begin()  # one at a time: those who speak already wait for one prompt, not for all
            try:
                with self._lock:
                    self._step()
            except Exception as error:  # theirs, not the worker's: those who come later may be served
                for spoken in self._speaking:
                    spoken.out.put(error)
                self._speaking.clear()
            if not self._speaking:
                self._sheet = Sheet(self.base.model)  # gives the memory of the old one back
        for spoken in (*self._waiting, *self._speaking):
            spoken.out.put(None)

    def _dismiss(self) -> None:
        """Let go of those who wait and do not listen any more: with all rows taken their turn would be late."""
        with self._changed:
            over = [spoken for spoken in self._waiting if spoken.over]
            self._waiting = deque(spoken for spoken in self._waiting if spoken not in over)
        for spoken in over:
            spoken.out.put(None)

    def _fits(self, spoken: Spoken) -> bool:
        """Whether there is a row for one more: each is as wide as the longest. Who is alone always fits."""
        rows, widest = len(self._speaking) + 1, max(one.columns for one in (spoken, *self._speaking))
        return rows == 1 or rows <= MOST and rows * widest <= CELLS

    @torch.inference_mode()
    def _begin(self) -> None:
        """Read the prompt of whoever has waited longest, and say its first token."""
        if not self._waiting or not self._fits(self._waiting[0]):
            return
        spoken = self._waiting.popleft()
        try:
            if not spoken.over:
                with self._lock:
                    ids, memory = spoken.ids, spoken.memory
                    prompt = memory.asked(ids) if memory else ids
                    own = Pass(self.base.model, len(ids) + spoken.most, memory, len(prompt))
                    self._try(spoken, own.step(spoken.ids))
                spoken.own = own
        except Exception as error:
            spoken.out.put(error)
            return
        if spoken.over:
            spoken.out.put(None)
            return
        self._speaking.append(spoken)

    @torch.inference_mode()
    def _step(self) -> None:
        """One token for everybody, and out with those who are done."""
        self._part()
        sheet, speaking = self._sheet, self._speaking
        if len(speaking) == 1 and (own := speaking[0].own):
            self._try(speaking[0], own.step([speaking[0].last]))
        elif speaking:
            for spoken in speaking:
                if spoken.own:
                    sheet.join(spoken.own)
                    spoken.own = None
            logits = sheet.step([spoken.last for spoken in speaking])
            best = logits.argmax(-1).tolist()
            for row, spoken in enumerate(speaking):
                self._try(spoken, logits[row : row + 1], best[row] if spoken.greedy else None)
        self._part()

    def _try(self, spoken: Spoken, logits: Tensor, token: int | None = None) -> None:
        """Say the next token; what goes wrong there, such as logits that are no numbers, ends this reply alone."""
        try:
            self._say(spoken, logits, token)
        except Exception as error:
            spoken.out.put(error)
            spoken.gone = True

    def _say(self, spoken: Spoken, logits: Tensor, token: int | None = None) -> None:
        """logits: (1, vocab); token: the best one, if that is known."""
        token = spoken.listing(spoken.sample(logits) if token is None else token, logits)
        if token in self.base.stop_ids:
            spoken.most = spoken.said
        else:
            spoken.last = token
            spoken.said += 1
            spoken.out.put(token)

    def _part(self) -> None:
        """Take out who is done. Rows of the sheet and places in the list are the same; who has a pass of its own comes
        after them, because newcomers are put last."""
        sheet, speaking = self._sheet, self._speaking
        for row in reversed(range(len(speaking))):
            if (spoken := speaking[row]).over:
                spoken.out.put(None)
                if spoken.own is None:
                    sheet.leave(row)
                    speaking[row] = speaking[sheet.count]
                    del speaking[sheet.count]
                else:
                    del speaking[row]
