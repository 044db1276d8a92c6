"""What the base is given in words: the session so far, within a budget of tokens, and the message.

Knows tokens and turns. Memory reaches the base beside the prompt, or, where it is told as text, as notes before the
message: with nothing read, the prompt and so the reply are those of the base alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from mam import notes as text_channel
from mam.base import Base
from mam.errors import InputError
from mam.notes import Message
from mam.render import render
from mam.values import Read, Turn

if TYPE_CHECKING:
    from mam.endpoint import Endpoint  # takes a while to import, and few need it
    from mam.integrator import Integrator

HISTORY_TOKENS = 1024
PROMPT_TOKENS = 4096  # a longer message is cut: reading it would take a base on this machine minutes


@dataclass(frozen=True)
class Asked:
    """What a base is to answer: the conversation, as the base itself takes it, and a note if the message was cut."""

    messages: list[Message]
    prompt: list  # what `prompt` of the base makes of the messages
    note: str


def compose(
    base: Base | Endpoint,
    before: Sequence[Turn],
    text: str,
    notes: Sequence[Message],
    start: int,
    max_tokens: int,
    system: str = "",
    whole: bool = False,
) -> Asked:
    """The conversation with a message at its end, as much of it as fits.

    `notes`: what was read, for a base that is told it as text; `start`: positions that the memory takes up beside the
    prompt. Of the turns `before`, the latest that fit are included: into HISTORY_TOKENS, because what matters of older
    ones is read, or with `whole` into the prompt. `system`: what a client wants the base to be told first. Neither it
    nor the message is cut then: raises InputError when there is no room for both.
    """
    lead = [_message("system", system)] if system else []
    reply = min(max_tokens, base.context // 4)
    room = min(base.context - start - reply, longest(base) + sum(base.count(note["content"]) for note in notes))
    said = base.count(text)
    most = room - base.count(system) - said if whole else min(HISTORY_TOKENS, room // 2)
    history: list[list[Message]] = []
    spent = 0
    for turn in reversed(before if said < room else ()):  # beside a message that is cut there is no room for others
        spoken = [_message("user", turn.text), _message("assistant", turn.reply)]
        spent += sum(base.count(message["content"]) + 8 for message in spoken)
        if spent > most:
            break
        if turn.reply and (turn.text or whole):  # what was only observed is no conversation; a client's greeting is
            history.insert(0, [message for message in spoken if message["content"]])
    kept = text
    while True:
        messages = [*lead, *chain.from_iterable(history), *notes, _message("user", kept)]
        prompt = base.prompt(messages)
        if (size := base.size(prompt)) <= room or not history and len(kept) <= 1:
            break
        if history:
            history = history[1:]
        elif system:
            raise InputError(f"System message and message are {size:,} tokens, and {room:,} fit; shorten one of them.")
        else:
            kept = kept[-int(len(kept) * min(room / size, 0.9)) or -1 :]  # the end: questions follow what is pasted
    note = "" if kept == text else f"(only the last {len(kept):,} of {len(text):,} characters fit)"
    return Asked(messages, prompt, note)


def longest(base: Base | Endpoint) -> int:
    """Tokens that a prompt may have."""
    return PROMPT_TOKENS if isinstance(base, Base) else base.longest


def described(base: Base | Endpoint, given: Sequence[Read], asked: Asked) -> str:
    """What the base was given, as text: slots with their weights, a blank line, then the prompt."""
    lines = [f"[{read.weight:.2f}] {' '.join(render(read.slot, read.dated).split())}" for read in given]
    lines += [asked.note] if asked.note else []
    text = base.shown(asked.prompt)
    return "\n".join([*lines, "", text]) if lines else text


def prompt_text(turn: Turn) -> str:
    """The prompt of a finished turn, as `described` wrote it behind the slots."""
    if turn.given.startswith(("[0.", "[1.", "(only the last")):
        return turn.given.partition("\n\n")[2]
    return turn.given


def replayed(turn: Turn, notes: Sequence[Message]) -> list[Message]:
    """The conversation that a base was told as text in a finished turn, with other notes."""
    told = turn.sent[0]["messages"] if turn.sent else [_message("user", turn.text)]
    return text_channel.put(told, notes)


def sizes(base: Base | Endpoint, integrator: Integrator | None, turn: Turn) -> tuple[int, int]:
    """(tokens of memory, tokens of all else) that the base was given in a finished turn. Hold the base."""
    if turn.sent:
        told = turn.sent[0]["messages"]
        whole, bare = (base.size(base.prompt(messages)) for messages in (told, text_channel.put(told, [])))
        return whole - bare, bare
    given = [] if turn.abstained else [read for read in turn.reads if read.given]
    if integrator is None:  # another base answered, or none was asked
        return sum(base.count(render(read.slot, read.dated)) for read in given), base.count(prompt_text(turn))
    prompt = base.tokenizer(prompt_text(turn), add_special_tokens=False)["input_ids"]
    return sum(map(integrator.tokens, given)), len(prompt)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
