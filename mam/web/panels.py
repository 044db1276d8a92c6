"""Values to HTML for the page: the sessions, the last turn, the table of memories. Every text is escaped here.

Pure functions; they know neither gradio nor the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mam.values import (
    ACTIVE,
    ARCHIVED,
    DELETED,
    SUPERSEDED,
    USER,
    Archived,
    Candidate,
    Read,
    Session,
    Slot,
    Turn,
    Write,
)

STATES = {ACTIVE: "remembered", SUPERSEDED: "replaced", ARCHIVED: "put away", DELETED: "in the trash"}
ROWS = 200  # of the table at once: a browser chokes on ten thousand
WELCOME = '<p class="empty">Tell it something about you, then ask about it later, even in another conversation.</p>'
RELATIONS = {"new": "new", "duplicate": "known already", "update": "update"}


def status(about: dict[str, str] | None, message: str, failed: bool = False) -> str:
    """What is loaded, or why nothing is yet."""
    if about is None:
        return f'<p class="status {"failed" if failed else "loading"}" role="status">{escape(message)}</p>'
    parts = [
        ("base", about["base"]),
        ("memory", about["memory"][:8]),
        ("on", f"{about['device']}, {about['precision']}"),
    ]
    shown = "".join(f"<span><b>{escape(name)}</b> {escape(value)}</span>" for name, value in parts)
    return f'<p class="status" role="status">{shown}</p>'


def sessions(all_sessions: Sequence[Session], current: str | None) -> str:
    if not all_sessions:
        return '<p class="empty">No conversations yet.</p>'

    def line(session: Session) -> str:
        here = ' aria-current="true"' if session.id == current else ""
        turns = f"{session.turns} message{'s' if session.turns != 1 else ''}"
        return (
            f'<li><button data-session="{escape(session.id)}"{here}><span>{escape(session.title)}</span>'
            f"<small>{session.created.astimezone():%d %b} · {turns}</small></button></li>"
        )

    return f'<ul class="sessions">{"".join(map(line, all_sessions))}</ul>'


def exchange(text: str, reply: str, note: str = "") -> str:
    """One message and its reply, as plain text: markdown or HTML in it could load a picture from another machine."""
    said = f'<p class="you"><span class="unseen">You: </span>{escape(text)}</p>' if text else ""
    answer = f'<p class="it"><span class="unseen">Reply: </span>{escape(reply)}</p>' if reply else ""
    below = f'<p class="below">{escape(note)}</p>' if note else ""
    return f'<div class="exchange">{said}{answer}{below}</div>'


def conversation(turns: Sequence[Turn]) -> str:
    if not turns:
        return (
            '<p class="empty">Tell it something about you, then ask about it later, even in another conversation.</p>'
        )
    return "".join(exchange(turn.text, turn.reply, "stopped" if turn.stopped else "") for turn in turns)


# -- the last turn ------------------------------------------------------------------------------------------------


def turn(last: Turn | None) -> str:
    """What was read for the last reply, what was kept of the message and what not."""
    if last is None:
        return (
            '<div class="turn"><p class="empty">Here you see what the memory does with each message: '
            "what it reads, what it keeps and what it lets go.</p></div>"
        )
    return f'<div class="turn">{_read(last)}{_kept(last)}{_archived(last)}{_rejected(last)}{_timing(last)}</div>'


def _read(last: Turn) -> str:
    given = [read for read in last.reads if read.given]
    others = [read for read in last.reads if not read.given]
    if last.abstained:
        note = "You asked for something it was never told, so it says so instead of guessing."
    elif given:
        note = "These memories were handed to the language model. The longer the bar, the more they count."
    else:
        note = "Nothing in the memory helps with this message: the language model answers alone."
    bars = [_bar(read.weight, escape(read.slot.text), _parts(read)) for read in given]
    bars.append(_bar(last.null_weight, "<i>none of the memories</i>", "", "null"))
    more = ""
    if others:
        lines = "".join(_bar(read.weight, escape(read.slot.text), _parts(read), "other") for read in others)
        more = f"<details><summary>{len(others)} more it considered</summary>{lines}</details>"
    return f'<section><h3>Read</h3><p class="note">{note}</p>{"".join(bars)}{more}</section>'


def _bar(weight: float, text: str, hint: str, kind: str = "") -> str:
    track = f'<span class="track"><span style="width:{weight * 100:.1f}%"></span></span>'
    return (
        f'<div class="bar {kind}" title="{escape(hint)}"><span class="text">{text}</span>'
        f'<span class="value">{weight * 100:.0f} %</span>{track}</div>'
    )


def _parts(read: Read) -> str:
    return ", ".join(f"{name} {value:+.1f}" for name, value in read.parts.items())


def _kept(last: Turn) -> str:
    if not last.writes:
        return '<section><h3>Kept</h3><p class="empty">Nothing new from this message.</p></section>'

    def line(write: Write) -> str:
        label = RELATIONS[write.relation] + (", replaces an older memory" if write.superseded else "")
        return (
            f'<li><span class="text">{escape(write.slot.text)}</span><small>{label} · {_sure(write.score)}</small></li>'
        )

    return f'<section><h3>Kept</h3><ul class="written">{"".join(map(line, last.writes))}</ul></section>'


def _archived(last: Turn) -> str:
    if not last.archived:
        return ""

    def line(item: Archived) -> str:
        parts = ", ".join(f"{name} {value:+.1f}" for name, value in item.parts.items())
        return f'<li><span class="text">{escape(item.slot.text)}</span><small>{escape(parts)}</small></li>'

    note = "The memory is full: these were the least useful ones and made room."
    lines = "".join(map(line, last.archived))
    return f'<section><h3>Put away</h3><p class="note">{note}</p><ul class="rejected">{lines}</ul></section>'


def _rejected(last: Turn) -> str:
    if not last.rejected:
        return ""

    def line(candidate: Candidate) -> str:
        why = f"{escape(candidate.why)} · {_sure(candidate.score or 0)}"
        return f'<li><span class="text">{escape(candidate.said)}</span><small>{why}</small></li>'

    return f'<section><h3>Not kept</h3><ul class="rejected">{"".join(map(line, last.rejected))}</ul></section>'


def _sure(score: float) -> str:
    return f"worth keeping: {score * 100:.0f} %"


def _timing(last: Turn) -> str:
    timing = last.timing
    if "first_token" not in timing:
        return ""
    first = sum(timing.get(stage, 0) for stage in ("split", "encode", "read", "prepare", "first_token"))
    words = [f"first word after {first:.2f} s"]
    if last.tokens > 1 and timing.get("reply"):
        words.append(f"{(last.tokens - 1) / timing['reply']:.0f} tokens/s")
    stages = ", ".join(f"{stage.replace('_', ' ')} {seconds * 1000:.0f} ms" for stage, seconds in timing.items())
    stopped = " · stopped by you" if last.stopped else ""
    return f'<p class="timing" title="{escape(stages)}">{" · ".join(words)}{stopped}</p>'


# -- all memories -------------------------------------------------------------------------------------------------


def slots(found: Sequence[Slot], total: int = 0) -> str:
    """A table of memories, the first of `total`; its buttons carry the slot and the version that was shown."""
    rows = "".join(map(_row, found))
    if not rows:
        return '<p class="empty">There is nothing here.</p>'
    left = total > len(found)
    more = f'<p class="empty">The latest {len(found)} of {total:,}; search for the others.</p>' if left else ""
    head = "<tr><th>Memory</th><th>Told</th><th>State</th><th><span class='unseen'>What to do</span></th></tr>"
    return f'<table class="slots"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}'


def _row(slot: Slot) -> str:
    origin = [] if slot.speaker == USER else [escape(slot.speaker)]
    origin += [f"you said: “{escape(slot.said)}”"] if slot.said != slot.text and slot.speaker == USER else []
    origin += [f"edited {slot.version - 1}×"] if slot.version > 1 else []
    below = f"<small>{' · '.join(origin)}</small>" if origin else ""
    actions = {"edit": "Edit", "delete": "Delete"} if slot.state == ACTIVE else {"restore": "Restore"}
    actions |= {"delete": "Delete"} if slot.state in (SUPERSEDED, ARCHIVED) else {}
    buttons = "".join(f'<button data-act="{act}">{label}</button>' for act, label in actions.items())
    return (
        f'<tr data-slot="{escape(slot.id)}" data-version="{slot.version}" class="{slot.state}">'
        f'<td><span class="text">{escape(slot.text)}</span>{below}</td>'
        f"<td>{slot.told.astimezone():%d %b %Y, %H:%M}</td><td>{STATES[slot.state]}</td>"
        f'<td class="actions">{buttons}</td></tr>'
    )
