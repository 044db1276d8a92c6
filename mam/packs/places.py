"""Where the documents of packs lie on a map of slots: what was learned of them, placed as new slots would be.

A sentence in weights has no slot and no place of its own. Its questions have keys, by which the pack is asked; each is
put among its true nearest slots (see `mam.atlas.placed`), and moves nothing. Where no slot is much like it, it lies
beside the least unlike ones all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mam.atlas import Layout, placed
from mam.packs.values import Reflection

if TYPE_CHECKING:
    from mam.packs.pack import Pack
    from mam.space import Space

MOST = 400  # questions of all packs together: enough to see where a document lies


@dataclass(frozen=True)
class Place:
    """A question of a pack on a map."""

    pack: str
    document: str
    reflection: Reflection
    at: tuple[float, ...]


def places(space: Space, packs: Sequence[Pack], layout: Layout) -> list[Place]:
    """Of every document the same share of its questions, evenly taken; none where the map has no slots."""
    row = {id: number for number, id in enumerate(layout.ids)}
    slots = [slot for slot in space.slots(None) if slot.id in row]
    documents: dict[tuple[str, str], list] = {}
    for pack in packs:
        for reflection, key in (found for found in pack.questions() if found[0].sources):
            documents.setdefault((pack.name, reflection.sources[0].document), []).append((reflection, key))
    if not slots or not documents:
        return []
    anchors, held = space.keys(slots), layout.coordinates[[row[slot.id] for slot in slots]]
    share = max(MOST // len(documents), 1)
    chosen = [
        (pack, document, reflection, key)
        for (pack, document), questions in documents.items()
        for reflection, key in questions[:: -(-len(questions) // share)]
    ][:MOST]
    found = placed(layout.method, anchors, held, np.stack([key.numpy() for *_, key in chosen]))
    return [
        Place(pack, document, reflection, tuple(at))
        for (pack, document, reflection, _), at in zip(chosen, found.tolist(), strict=True)
    ]
