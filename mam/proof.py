"""Does the base still know a memory that was purged? Three ways of asking the same: the check in a certificate.

With the whole memory, with this slot left out, and, after the purge, with what the memory reads then: each time the
base is asked to go on where the memory's last words begin. Knows networks and values, and a space only
to read in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from mam import decode
from mam.engine import Engine
from mam.index import words
from mam.reader import READ, looked_at
from mam.values import Certificate, Check, Read, Slot

if TYPE_CHECKING:
    from mam.space import Space

MOST = 4  # slots of a purge that the base is asked about: each takes it a good part of a second
ASK = "Repeat what I once told you that begins with: {}"
LONGEST = 160  # characters of the memory that are looked at, its last ones
UNASKED = (
    "The base is on a server and was not asked, because that would send it the memory once more. What earlier replies"
    " told it is out of reach."
)


@dataclass(frozen=True)
class Probe:
    """A memory that is about to be purged, and what the base makes of it until then; never stored."""

    slot: str
    text: str
    full: float
    off: float
    said_off: bool


def purged(space: Space, erase: Callable[[], Certificate], ids: Sequence[str]) -> Certificate:
    """Erase, and ask the base before and afterwards about the first of the slots; the certificate with the answers."""

    def given(text: str) -> list[Read]:
        reading = space.reading(text, space.encoded(looked_at(text)), 8)
        return [read for read in reading.reads if read.given] if reading.decision == READ else []

    with space.engine.lock:
        space.refresh()
        slots = [space.store.slot(id) for id in ids[:MOST]] if space.engine.here else []
        probes = [ask_before(space.engine, slot, given(slot.text)) for slot in slots]
        try:
            done = erase()
        finally:
            space.refresh()
        checks = [ask_after(space.engine, probe, given(probe.text)) for probe in probes]
        for probe in probes:  # asking made a block of each, also of those that were in the trash
            space.engine.drop(probe.text)
    return replace(done, checks=tuple(checks), unasked="" if space.engine.here else UNASKED)


def ask_before(engine: Engine, slot: Slot, reads: Sequence[Read]) -> Probe:
    """`reads`: what the memory gives the base for the slot's own text; the slot is put among them if it is not."""
    others = [read for read in reads if read.slot.id != slot.id]
    own = next((read for read in reads if read.slot.id == slot.id), Read(slot, 1.0))
    full, _ = _known(engine, slot.text, [own, *others])
    off, said_off = _known(engine, slot.text, others)
    return Probe(slot.id, slot.text, full, off, said_off)


def ask_after(engine: Engine, probe: Probe, reads: Sequence[Read]) -> Check:
    """`reads`: what the memory gives the base for the same text now."""
    deleted, said = _known(engine, probe.text, reads)
    return Check(probe.slot, probe.full, probe.off, deleted, said and not probe.said_off)


@torch.inference_mode()
def _known(engine: Engine, text: str, reads: Sequence[Read]) -> tuple[float, bool]:
    """(geometric mean of the chances of the last words' tokens, whether each was the base's first choice)."""
    base = engine.base
    start, value = _parted(text[-LONGEST:])
    question = {"role": "user", "content": ASK.format(start or "…")}
    wanted = base.tokenizer(value, add_special_tokens=False)["input_ids"]
    with engine.lock:
        memory, notes = engine.prepared(reads)
        prompt = base.prompt([*notes, question]) + base.tokenizer(start, add_special_tokens=False)["input_ids"]
        logits = decode.forward(base.model, [*prompt, *wanted[:-1]], memory, last=len(wanted))[0].float()
    ids = torch.tensor(wanted, device=logits.device)
    chances = logits.log_softmax(-1).gather(1, ids[:, None])
    return float(chances.mean().exp()), bool((logits.argmax(-1) == ids).all())


def _parted(text: str) -> tuple[str, str]:
    """A text before and from its last word that carries meaning: where a memory's value usually stands."""
    for match in reversed(list(re.finditer(r"\s*[^\W_]+", text))):
        if words(match.group()):
            return text[: match.start()], text[match.start() : match.end()]
    return "", text
