"""Files into a memory: exported memories, conversations of other programs, documents.

Between the file formats (`exchange`, `conversations`, `documents`) and a `space`; whatever a file holds is read,
checked and encoded before the first of it is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mam import backup, conversations, documents, exchange
from mam.chat import Chat
from mam.exchange import Bad
from mam.store import new_id
from mam.values import Slot

if TYPE_CHECKING:
    from mam.space import Progress, Space

BATCH = 256  # texts encoded, or slots written, at once


def import_(space: Space, path: str | os.PathLike, bad: Bad | None, progress: Progress) -> list[Slot]:
    """See `Space.import_`."""
    if not exchange.is_export(path):
        return _hear(space, conversations.load(path, bad), progress)
    exported = exchange.load(path, bad)
    fresh = backup.new_slots(space.store, exported)
    keys = _keys(space, fresh, "importing", progress)
    with space.writing():
        backup.take_in(space.store, exported, fresh, keys, space.engine.memory.fingerprint)
        space.make_room({slot.id for slot in fresh})
    return fresh


def ingest(space: Space, path: str | os.PathLike, progress: Progress) -> list[Slot]:
    """See `Space.ingest`."""
    told, name = datetime.now().astimezone(), documents.name_of(path)
    known = {slot.said for slot in space.store.slots(None, document=name)}
    found = []
    for piece in documents.pieces(path, told):
        text, said, when = piece.candidate.text, piece.candidate.said, piece.candidate.when
        if said not in known:
            place = {"span": piece.candidate.span, "document": name, "position": piece.position}
            found.append(Slot(new_id(), text, said, name, told.astimezone(UTC), when, **place))
    keys = _keys(space, found, "ingesting", progress)
    with space.writing():
        for start in range(0, len(found), BATCH):
            part = slice(start, start + BATCH)
            space.store.add_slots(found[part], keys[part], space.engine.memory.fingerprint, "ingest")
        space.make_room({slot.id for slot in found})
    return found


def _hear(space: Space, found: list[conversations.Conversation], progress: Progress) -> list[Slot]:
    total, done, written = sum(len(conversation.messages) for conversation in found), 0, []
    for conversation in found:
        chat = Chat(space, space.store.new_session(conversation.title))
        for message in conversation.messages:
            writes, _ = chat.observe(message.text, speaker=message.speaker, at=message.at)
            written += [write.slot for write in writes if write.relation != "duplicate"]
            done += 1
            progress("listening", done, total)
    return written


def _keys(space: Space, slots: Sequence[Slot], what: str, progress: Progress) -> np.ndarray:
    """Keys (slots, dim) float32, made before anything is written: a transaction waits for no network."""
    memory = space.engine.memory
    made = [np.zeros((0, memory.dim), dtype=np.float32)]
    for start in range(0, len(slots), BATCH):
        part = [slot.text for slot in slots[start : start + BATCH]]
        hidden = space.encoded(part)
        with space.engine.lock:
            made.append(memory.keys(np.stack([hidden[text] for text in part])))
        progress(what, min(start + BATCH, len(slots)), len(slots))
    return np.concatenate(made)
