"""The loaded networks that all spaces of a process share: base, memory model and the integrator between them.

Knows what is loaded and keeps it from being used by two threads at once; does not know users, slots or turns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mam import base as bases
from mam.base import Base
from mam.batch import Batch
from mam.fairlock import FairLock
from mam.integrator import Integrator
from mam.model import MemoryModel


@dataclass
class Engine:
    """Hold `lock` for every call of a network: the adapters are part of the base's layers while they are active.

    A reply takes it token by token (see `tokens`), so that two chats take turns and an edit waits for no more than one
    token. Take it before a transaction of a store, never inside one.
    """

    base: Base
    memory: MemoryModel
    integrator: Integrator
    lock: FairLock = field(default_factory=FairLock)
    batch: Batch | None = (
        None  # a server's: replies that are in the making at the same time go through the base at once
    )

    def tokens(self, ids: list[int], **manner) -> Iterator[int]:
        """The token ids of a reply, as `Base.generate` gives them; to be called without the lock."""
        if self.batch:
            yield from self.batch.generate(ids, **manner)
            return
        with self.lock:
            tokens = self.base.generate(ids, **manner)
        while True:
            with self.lock:  # for one token only: others take turns
                token = next(tokens, None)
            if token is None:
                return
            yield token

    def about(self) -> dict[str, str]:
        """What is loaded, for people."""
        return {
            "base": str(self.base.id),
            "base fingerprint": self.base.fingerprint,
            "memory": self.memory.fingerprint,
            "device": str(self.base.device),
            "precision": str(self.base.dtype).removeprefix("torch."),
        }


_loaded: dict[tuple[str, str, str], Engine] = {}
_loading = threading.Lock()


def engine(base: str = "smollm2-135m", device: str = "auto", memory: str | os.PathLike | None = None) -> Engine:
    """Load base and memory model, once per process. Raises WeightsError (also when none was trained for the base)."""
    name = (str(base), device, _place(memory))
    with _loading:
        if name not in _loaded:
            frozen = bases.load(str(base), device)
            model = MemoryModel.load(memory, device=frozen.device)
            _loaded[name] = Engine(frozen, model, model.attach(frozen))
        return _loaded[name]


def forget(memory: str | os.PathLike | None) -> None:
    """Drop the engines with this memory model; spaces that use one keep it until they are gone."""
    with _loading:
        for name in [name for name in _loaded if name[2] == _place(memory)]:
            del _loaded[name]


def _place(memory: str | os.PathLike | None) -> str:
    return str(Path(memory).resolve()) if memory else ""
