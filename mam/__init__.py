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
from collections.abc import Callable
from typing import TYPE_CHECKING

from mam.errors import ConflictError, EndpointError, InputError, MamError, StoreError, WeightsError
from mam.values import (
    Archived,
    Candidate,
    Certificate,
    Event,
    Merged,
    Read,
    Session,
    Slot,
    Turn,
    Version,
    Write,
)

if TYPE_CHECKING:
    from mam.space import Space

__version__ = "0.1.0"
__all__ = [
    "Archived", "Candidate", "Certificate", "ConflictError", "EndpointError", "Event", "InputError", "MamError",
    "Merged", "Read", "Session", "Slot", "StoreError", "Turn", "Version", "WeightsError", "Write", "open",
]  # fmt: skip


def open(
    path: str | os.PathLike | None = None,
    base: str = "smollm2-135m",
    user: str = "local",
    device: str = "auto",
    memory: str | os.PathLike | None = None,
    *,
    store: str | None = None,
    capacity: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Space:
    """A user's space with its base and memory model.

    path: the folder that holds the memories (default: $MAM_HOME, else the platform's place for application data).
    base: "smollm2-135m", "gemma3-270m", a Hugging Face hub id, a local folder, a GGUF file, or "openai:MODEL@URL" for a
    server that speaks OpenAI's chat protocol (key: $MAM_API_KEY). device: "auto", "cpu", "cuda", "mps".
    memory: the folder of a memory model (default: the shipped weights). Spaces of one process share their weights.
    store: a PostgreSQL server instead of a folder, "postgresql+psycopg://USER@HOST/DATABASE".
    capacity: from now on keep at most so many active slots (0: any number); None leaves it as it is.
    progress: is told what takes long, how much of it is done, and of how much.

    Raises WeightsError, StoreError or InputError, each with one line that says what to do.
    """
    # torch and transformers take seconds to import: only when something is opened
    from mam.engine import engine
    from mam.space import Space
    from mam.store import Store

    space = Space(Store(store or path, user), engine(base, device, memory), progress)
    if capacity is not None:
        space.set_capacity(capacity or None)
    return space
