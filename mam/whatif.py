"""What if? A finished turn once more with another memory: fewer slots, another strength, another reading.

Turns a question of the user's into other reads; what the base makes of them is worked out in `ablation`. Nothing here
changes what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mam.ablation import Alternative, alternative
from mam.errors import InputError
from mam.values import Read, Turn

if TYPE_CHECKING:
    from mam.space import Space

STRONGEST = 4.0  # times the read weights
K = 8


def what_if(
    space: Space,
    turn: Turn,
    *,
    without: Sequence[str] = (),
    strength: float = 1.0,
    k: int | None = None,
    threshold: float | None = None,
    spoken: bool = True,
) -> Alternative:
    """The turn without the slots whose ids are given, with all read weights times `strength` (0: the memory is off).

    With another `k`, or another `threshold` for 1 - w_null, its message is read anew, in the memory as it is now. The
    reply, which takes most of the time, is left out unless `spoken`. Raises InputError for values out of range, and for
    a strength between off and on where the base is told its memories as text.
    """
    if space.engine.integrator is None and strength not in (0, 1):
        raise InputError("This base is told its memories as text: their strength is 0 (off) or 1.")
    if not 0 <= strength <= STRONGEST:
        raise InputError(f"The strength is {strength}; choose one from 0 (memory off) to {STRONGEST}.")
    if k is None and threshold is None:
        reads = tuple(replace(read, given=read.given and not turn.abstained) for read in turn.reads)
    else:
        reads = _anew(space, turn, K if k is None else k, threshold)
    kept = (replace(r, weight=r.weight * strength, given=r.given and r.slot.id not in without) for r in reads)
    return alternative(space.engine, turn, tuple(kept), spoken)


def _anew(space: Space, turn: Turn, k: int, threshold: float | None) -> tuple[Read, ...]:
    limits = space.engine.memory.settings.reading
    threshold = limits.read if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise InputError(f"The threshold is {threshold}; choose one from 0 to 1.")
    found = space.read(turn.text, k)
    held = 1 - found.null_weight
    lightest = limits.given * held  # a share of what is read, or a low threshold would let through nothing
    return tuple(replace(read, given=held >= threshold and read.weight >= lightest) for read in found.reads)
