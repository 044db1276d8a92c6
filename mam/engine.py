"""The loaded networks that all spaces of a process share: base, memory model and the integrator between them.

Knows what is loaded and keeps it from being used by two threads at once; does not know users, slots or turns.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from mam import base as bases
from mam.base import Base
from mam.fairlock import FairLock
from mam.integrator import Integrator
from mam.model import MemoryModel


@dataclass
class Engine:
    """Hold `lock` for every call of a network: the adapters are part of the base's layers while they are active.

    A reply takes it token by token, so that two chats take turns and an edit waits for no more than one token.
    Take it before a transaction of a store, never inside one.
    """

    base: Base
    memory: MemoryModel
    integrator: Integrator
    lock: FairLock = field(default_factory=FairLock)

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
