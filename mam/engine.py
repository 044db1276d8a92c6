"""The loaded networks that all spaces of a process share: base, memory model and what joins the two.

Knows what is loaded, how what was read reaches the base, and keeps networks from being used by two threads at once;
does not know users, sessions or turns.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mam import base as bases
from mam import decode, notes
from mam import device as devices
from mam.base import Base
from mam.batch import Batch, replies
from mam.decode import Prepared
from mam.errors import UnattachedError, WeightsError
from mam.fairlock import FairLock
from mam.integrator import Integrator, IntegratorConfig
from mam.model import MemoryModel
from mam.values import USER, Read, Slot

if TYPE_CHECKING:
    from mam.endpoint import Endpoint

log = logging.getLogger(__name__)

AS_BLOCKS, AS_TEXT = "slot blocks", "text"


@dataclass
class Engine:
    """Hold `lock` for every call of a network: the adapters are part of the base's layers while they are active.

    A reply takes it token by token (see `tokens`), so that two chats take turns and an edit waits for no more than one
    token. Take it before a transaction of a store, never inside one.

    Without an integrator the base is told its memories as text (see `notes`); `why` says why that is so.
    """

    base: Base | Endpoint
    memory: MemoryModel
    integrator: Integrator | None
    lock: FairLock = field(default_factory=FairLock)
    why: str = ""
    batch: Batch | None = None  # a server's: replies in the making at the same time go through the base at once

    @property
    def here(self) -> bool:
        """Whether the base is on this machine, so that its probabilities can be looked at."""
        return isinstance(self.base, Base)

    def tokens(self, prompt: list, **manner) -> Iterator:
        """The tokens of a reply, as `generate` of the base gives them; to be called without the lock."""
        if self.batch or not self.here:  # a server has a queue of its own, and takes its time
            yield from (self.batch or self.base).generate(prompt, **manner)
            return
        with self.lock:
            tokens = self.base.generate(prompt, **manner)
        while True:
            with self.lock:  # for one token only: others take turns
                token = next(tokens, None)
            if token is None:
                return
            yield token

    def replies(
        self,
        asked: Sequence[tuple[list[int], Prepared | None]],
        max_tokens: int,
        enough: Callable[[int, list[int]], bool],
    ) -> list[list[int]]:
        """The tokens of several replies that read memories, side by side; see `mam.batch.replies`. To be called without
        the lock."""
        return replies(self.base, self.lock, asked, max_tokens, enough)

    def about(self) -> dict[str, str]:
        """What is loaded, for people."""
        way = AS_BLOCKS if self.integrator is not None else f"{AS_TEXT}, {self.why}" if self.why else AS_TEXT
        return self.base.about() | {"memory": self.memory.fingerprint, "memories as": way}

    # -- from reads to the base -----------------------------------------------------------------------------------

    def within(self, reads: Sequence[Read]) -> tuple[Read, ...]:
        """The same reads; those that the base has no room for are not given."""
        if self.integrator is not None:
            return tuple(reads)
        return notes.within(reads, self.base.count, min(notes.BUDGET, self.base.context // notes.SHARE))

    def prepared(self, given: Sequence[Read]) -> tuple[Prepared | None, list[notes.Message]]:
        """What was read as the base takes it: blocks beside the prompt, or messages in it. Hold the lock."""
        if not given:
            return None, []
        if self.integrator is None:
            return None, notes.exchange(given)
        return self.integrator.prepare(given), []

    def drop(self, text: str) -> None:
        """Forget what was made of the text of a slot that was edited, deleted or purged."""
        if self.integrator is not None:
            self.integrator.forget(text)


_loaded: dict[tuple[str, str, str], Engine] = {}
_loading = threading.Lock()


def engine(base: str = "smollm2-135m", device: str = "auto", memory: str | os.PathLike | None = None) -> Engine:
    """Load base and memory model, once per process.

    A base on a server, or with layers that cannot carry slot blocks, is told its memories as text.
    Raises WeightsError (also when none was trained for the base).
    """
    name = (str(base), device, _place(memory))
    with _loading:
        if name not in _loaded:
            _loaded[name] = _load(str(base), device, memory)
        return _loaded[name]


def _load(base: str, device: str, memory: str | os.PathLike | None) -> Engine:
    if base.startswith(bases.ON_SERVER):
        from mam.endpoint import Endpoint  # here and not above: it takes a while to import, and few need it

        there = Endpoint(base)
        return Engine(there, MemoryModel.load(memory, device=devices.pick(device)), None)
    frozen = bases.load(base, device)
    model = MemoryModel.load(memory, device=frozen.device)
    try:
        return Engine(frozen, model, model.attach(frozen))
    except UnattachedError:
        why = cannot_carry(frozen)
        if not why:
            raise
    log.warning("%s is told its memories as text: %s.", base, why)
    return Engine(frozen, model, None, why=why)


def forget(memory: str | os.PathLike | None) -> None:
    """Drop the engines with this memory model; spaces that use one keep it until they are gone."""
    with _loading:
        for name in [name for name in _loaded if name[2] == _place(memory)]:
            del _loaded[name]


def cannot_carry(base: Base) -> str:
    """Why slot blocks cannot reach this base, in a few words; empty when they can.

    Found out by giving it one, with a read weight and with next to none: the reply has to differ. Raises WeightsError
    for a base that has no key/value cache and no recurrent state of the usual kind: it could not even speak alone.
    """
    ids = base.prompt([{"role": USER, "content": "Yes"}])
    try:
        remembers = _remembers(base, ids)
    except Exception as error:  # an architecture can fail at any step of this and of what follows, in any way
        log.debug("no steps for %s", base.id, exc_info=error)
        remembers = False
    if not remembers:
        raise WeightsError(f"The base {base.id} keeps what it has read in a way that mam does not know; use another.")
    slot = Slot("", "Yes, indeed.", "", USER, datetime.now(UTC))
    try:
        trial = Integrator(base, IntegratorConfig(base.fingerprint, prefix=1, rank=1))
        given, hidden = (
            decode.forward(base.model, ids, trial.prepare([Read(slot, weight)]), last=1) for weight in (1.0, 1e-30)
        )
    except Exception as error:
        log.debug("no slot blocks for %s", base.id, exc_info=error)
        return "its architecture cannot carry slot blocks"
    return "its layers do not look at slot blocks" if torch.equal(given, hidden) else ""


def _remembers(base: Base, ids: list[int]) -> bool:
    """Whether it is the same to run a prompt at once and in two steps."""
    steps = decode.Pass(base.model, len(ids))
    with torch.inference_mode():
        steps.step(ids[:-1])
        stepped, whole = steps.step(ids[-1:]), decode.forward(base.model, ids, last=1)[:, 0]
    return bool((stepped - whole).norm() < 0.1 * whole.norm())


def _place(memory: str | os.PathLike | None) -> str:
    return str(Path(memory).resolve()) if memory else ""
