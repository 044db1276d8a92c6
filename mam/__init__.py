"""Memory as a Model: a separately trained memory model that remembers for a frozen language model.

    import mam

    m = mam.open()                        # a user's space with its base and memory model
    chat = m.session("Monday")            # new, or resumed by id or title
    turn = chat.send("My dog is called Rex.")
    turn.reply, turn.writes, turn.reads   # what was said, kept and read

The flow of a turn is in `mam.chat`; each of its stages has a module of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mam.errors import ConflictError, InputError, MamError, StoreError, WeightsError
from mam.values import Candidate, Event, Read, Session, Slot, Turn, Version, Write

if TYPE_CHECKING:
    from mam.space import Space

__version__ = "0.1.0"
__all__ = [
    "Candidate", "ConflictError", "Event", "InputError", "MamError", "Read", "Session", "Slot", "StoreError", "Turn",
    "Version", "WeightsError", "Write", "open",
]  # fmt: skip


def open(
    path: str | os.PathLike | None = None,
    base: str = "smollm2-135m",
    user: str = "local",
    device: str = "auto",
    memory: str | os.PathLike | None = None,
) -> Space:
    """A user's space with its base and memory model.

    path: the folder that holds the memories (default: $MAM_HOME, else the platform's place for application data).
    base: "smollm2-135m", a Hugging Face hub id, a local folder or a GGUF file. device: "auto", "cpu", "cuda", "mps".
    memory: the folder of a memory model (default: the shipped weights). Spaces of one process share their weights.

    Raises WeightsError, StoreError or InputError, each with one line that says what to do.
    """
    # torch and transformers take seconds to import: only when something is opened
    from mam.engine import engine
    from mam.space import Space
    from mam.store import Store

    return Space(Store(path, user), engine(base, device, memory))
