"""Notes: what was read, as words in the conversation, for a base that cannot be given slot blocks.

The text channel. It takes the integrator's place where the base is on a server of somebody else's, or where its layers
cannot carry slot blocks. The read weights decide which slots go in while there is room, and in what order; a slot goes
in whole or not at all. The notes are an exchange of their own before the message, never a part of it, and in the user's
voice: a template may know no system role, and what was read has no more authority than whoever once told it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mam.render import render
from mam.values import ASSISTANT, USER, Read

BUDGET = 1024  # tokens of notes; of a small base at most a SHARE of its context
SHARE = 4
LEAD = "Notes of what I told you earlier, what matters most first:"
TAKEN = "I will answer from these notes where they help."

Message = dict[str, str]


def exchange(given: Sequence[Read]) -> list[Message]:
    """The messages that tell what was read, heaviest first; none when nothing was."""
    told = sorted((read for read in given if read.weight > 0), key=lambda read: -read.weight)
    if not told:
        return []
    lines = "\n".join(map(_line, told))
    return [{"role": USER, "content": f"{LEAD}\n{lines}"}, {"role": ASSISTANT, "content": TAKEN}]


def within(reads: Sequence[Read], count: Callable[[str], int], budget: int) -> tuple[Read, ...]:
    """The same reads; those that found no room in `budget` tokens, the heaviest served first, are not given."""
    kept, room = {}, budget
    for place, read in sorted(enumerate(reads), key=lambda item: -item[1].weight):
        cost = count(_line(read)) if read.given else 0
        kept[place] = read.given and cost <= room
        room -= cost if kept[place] else 0
    return tuple(read if read.given == kept[place] else replace(read, given=False) for place, read in enumerate(reads))


def put(messages: Sequence[Message], notes: Sequence[Message]) -> list[Message]:
    """A conversation with these notes, before its last message, instead of any it had."""
    *before, last = messages
    if len(before) >= 2 and before[-2]["content"].startswith(LEAD) and before[-1]["content"] == TAKEN:
        before = before[:-2]
    return [*before, *notes, last]


def _line(read: Read) -> str:
    return f"- {' '.join(render(read.slot, read.dated).split())}"
