"""What the base is given in words: the session so far, within a budget of tokens, and the message.

Knows tokens and turns; does not know memory, which reaches the base beside the prompt and never inside it: with
nothing read, the prompt and so the reply are those of the base alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from mam.base import Base
from mam.values import Read, Turn

HISTORY_TOKENS = 1024
PROMPT_TOKENS = 4096  # a longer message is cut: reading it would take the base minutes


def compose(
    base: Base, before: Sequence[Turn], text: str, start: int, max_tokens: int, system: str = ""
) -> tuple[list[int], str]:
    """Token ids of the prompt, and a note if the message had to be cut.

    `start`: positions that the memory takes up. Of the turns `before`, the latest that fit are included. `system`: what
    a client wants the base to be told first; it is never cut.
    """
    lead = [_message("system", system)] if system else []
    reply = min(max_tokens, base.context // 4)
    room = min(base.context - start - reply, PROMPT_TOKENS)
    history: list[dict[str, str]] = []
    spent = 0
    for turn in reversed(before):
        spoken = [_message("user", turn.text), _message("assistant", turn.reply)]
        spent += sum(len(base.tokenizer(message["content"])["input_ids"]) + 8 for message in spoken)
        if spent > min(HISTORY_TOKENS, room // 2):
            break
        if turn.text and turn.reply:  # what was only observed is no conversation
            history = spoken + history
    ids = base.prompt([*lead, *history, _message("user", text)])
    while len(ids) > room and history:
        history = history[2:]
        ids = base.prompt([*lead, *history, _message("user", text)])
    kept = text
    while len(ids) > room and len(kept) > 1:
        kept = kept[-int(len(kept) * min(room / len(ids), 0.9)) or -1 :]  # the end: questions follow what is pasted
        ids = base.prompt([*lead, _message("user", kept)])
    note = "" if kept == text else f"(only the last {len(kept):,} of {len(text):,} characters fit)"
    return ids, note


def described(base: Base, given: Sequence[Read], prompt: list[int], note: str) -> str:
    """What the base was given, as text: slots with their weights, a blank line, then the prompt."""
    lines = [f"[{read.weight:.2f}] {' '.join(read.slot.text.split())}" for read in given]
    lines += [note] if note else []
    text = base.tokenizer.decode(prompt)
    return "\n".join([*lines, "", text]) if lines else text


def prompt_text(turn: Turn) -> str:
    """The prompt of a finished turn, as `described` wrote it behind the slots."""
    if turn.given.startswith(("[0.", "[1.", "(only the last")):
        return turn.given.partition("\n\n")[2]
    return turn.given


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
