"""The page of a memory: what it says, where it comes from, what it has been, what read it and what is like it.

It opens over whichever view set `here.slot`, and closes when that is None again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from html import escape

import gradio as gr
import numpy as np

from mam.errors import InputError, MissingError
from mam.space import Space
from mam.values import ARCHIVED, ASSISTANT, DELETED, SUPERSEDED, USER, Read, Slot, Turn, Version
from mam.web.changes import changed
from mam.web.desk import Desk, plainly, sent
from mam.web.here import INSIDE, QUIET, Here, script
from mam.web.memory import STATES, buttons, chips, star
from mam.web.report import Report

READS = 10  # turns that are listed
ALIKE = 5  # neighbours that are listed
NEAR = 1  # turns shown before and after the one that a memory comes from
LONGEST = 280  # characters of a turn beside the sentence
BY = {
    "user": "by you", "chat": "in a conversation", "import": "with an import", "ingest": "with a document",
    "consolidation": "as a duplicate", "capacity": "to make room", "undo": "by undoing",
}  # fmt: skip


class SlotPage:
    def __init__(self, desk: Desk):
        self.desk = desk

    def page(self, id: str | None, request: gr.Request) -> str:
        """The page of the memory with this id; empty when none is open."""
        if id is None:
            return ""
        m = self.desk.space(request)
        try:
            slot = m.slot(id)
        except InputError:  # purged meanwhile, perhaps in another tab
            return GONE
        return sheet(m, slot)

    def act(self, event: gr.EventData, id: str | None, request: gr.Request) -> tuple:
        """A button of the page; returns (data version, report, open memory, turn looked into, tabs, tab)."""
        m, same, act = self.desk.space(request), gr.skip(), sent(event, "act")
        if act == "close":
            return same, same, None, same, same, same
        if act == "open":
            return same, same, m.slot(sent(event, "slot")).id, same, same, same
        if act == "turn":
            turn = self.desk.turn(sent(event, "turn"), request).id
            return same, same, None, turn, gr.Tabs(selected=INSIDE), INSIDE
        if act == "words":  # see `words`
            return (same,) * 6
        report = changed(m, event)
        gone = act == "purge"
        return m.version(), report or same, None if gone else same, None if gone else same, same, same

    def words(self, event: gr.EventData, id: str | None, request: gr.Request) -> Iterator[str]:
        """The tokens that looked at the memory in the last turns that read it: only on demand, it runs the base."""
        if sent(event, "act") != "words" or id is None:
            yield gr.skip()
            return
        yield '<p class="note" role="status">Looking back through the language model …</p>'
        try:
            yield tokens(self.desk.space(request).tokens_of(id))
        except MissingError:
            raise
        except InputError as error:  # a base that cannot be looked into
            yield f'<p class="empty" role="status">{escape(str(error))}</p>'

    def view(self, here: Here) -> None:
        with gr.Column(elem_id="slot-page"):
            self.sheet = gr.HTML("", js_on_load=script("dialog.js") + script("slots.js"))
            self.looked = gr.HTML("", js_on_load=None, elem_id="words")

    def wire(self, here: Here, tabs: gr.Tabs, report: Report) -> None:
        for happens in (here.slot.change, here.version.change):
            happens(plainly(self.page), here.slot, self.sheet, **QUIET)
        here.slot.change(lambda: "", None, self.looked, **QUIET)
        outputs = [here.version, report.sheet, here.slot, here.turn, tabs, here.tab]
        self.sheet.select(plainly(self.act), here.slot, outputs, **QUIET)
        self.sheet.select(plainly(self.words), here.slot, self.looked, **QUIET)


# -- HTML; every text is escaped here -----------------------------------------------------------------------------

CLOSE = '<button data-act="close" class="close" aria-label="Close">×</button>'
GONE = (
    f'<article class="sheet" data-slot="" aria-label="Memory"><header><h2>Memory</h2>{CLOSE}</header>'
    '<p class="empty">This memory is not here any more.</p></article>'
)


def sheet(m: Space, slot: Slot) -> str:
    """Everything that is known of a memory."""
    acts = buttons(slot, ("edit", "restore", "archive", "delete", "purge"))
    parts = (
        _source(m, slot), _relatives(m, slot), _history(m.versions(slot.id)), _reads(m.reads_of(slot.id, READS), slot),
        _alike(m.neighbours(slot.id, ALIKE)),
    )  # fmt: skip
    return (
        f'<article class="sheet" data-slot="{escape(slot.id)}" data-version="{slot.version}" aria-label="Memory">'
        f'<header><h2>Memory</h2><span class="state {slot.state}">{STATES[slot.state]}</span>'
        f"{star(slot)}{CLOSE}</header>"
        f'<p class="text whole">{escape(slot.text)}</p><div class="actions">{acts}</div>'
        f'<div class="tags">{chips(slot)}</div>{_facts(slot)}{"".join(parts)}</article>'
    )


def _facts(slot: Slot) -> str:
    facts = {"told": f"{slot.told.astimezone():%d %b %Y, %H:%M}", "by": "you" if slot.speaker == USER else slot.speaker}
    if slot.when:
        facts["speaks of"] = slot.when
    facts["gate"] = "added by hand" if slot.score is None else f"worth keeping: {slot.score * 100:.0f} %"
    if slot.document:
        facts["gate"] = "from a document: not asked"
    last = f", last {slot.last_read.astimezone():%d %b %Y, %H:%M}" if slot.last_read else ""
    facts["read"] = f"{slot.reads:,} time{'s' if slot.reads != 1 else ''}{last}"
    facts["id"] = slot.id
    lines = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{lines}</dl>'


# where it comes from


def _source(m: Space, slot: Slot) -> str:
    if slot.document:
        place = f", {slot.position}" if slot.position else ""
        body = _quoted(f"{slot.document}{place}", slot)
    elif slot.turn:
        try:
            body = _conversation(m.around(slot.turn, NEAR), slot)
        except InputError:  # taken back, or purged
            body = _quoted("The message is not here any more. It said:", slot)
    else:
        body = _quoted("Added by hand or with an import, in these words:", slot)
    return f"<section><h3>Where it comes from</h3>{body}</section>"


def _quoted(note: str, slot: Slot) -> str:
    return f'<p class="note">{escape(note)}</p><blockquote>{escape(slot.said)}</blockquote>'


def _conversation(turns: Sequence[Turn], slot: Slot) -> str:
    """The sentence in its conversation, with what was said around it."""
    return f'<div class="said">{"".join(_said(turn, slot) for turn in turns)}</div>'


def _said(turn: Turn, slot: Slot) -> str:
    own = turn.id == slot.turn
    assistant = slot.speaker == ASSISTANT
    you = _marked(turn.text, slot) if own and not assistant else escape(_short(turn.text))
    it = _marked(turn.reply, slot) if own and assistant else escape(_short(turn.reply))
    lines = f'<p class="you">{you}</p>' if turn.text else ""
    lines += f'<p class="it">{it}</p>' if turn.reply else ""
    look = f'<button data-act="turn" data-turn="{escape(turn.id)}">look inside this turn</button>' if own else ""
    when = f"<small>{turn.at.astimezone():%d %b %Y, %H:%M} {look}</small>"
    return f'<div class="turn-said{" own" if own else ""}">{lines}{when}</div>'


def _marked(text: str, slot: Slot) -> str:
    """A message with the sentence of the memory marked; where the message was changed since, wherever it stands now."""
    start, end = slot.span or (0, 0)
    if text[start:end] != slot.said:
        start = text.find(slot.said)
        end = start + len(slot.said)
    if start < 0 or start == end:
        return escape(_short(text))
    before, after = text[max(start - LONGEST, 0) : start], text[end : end + LONGEST]
    before = ("… " if start > LONGEST else "") + before
    after += " …" if end + LONGEST < len(text) else ""
    return f"{escape(before)}<mark>{escape(text[start:end])}</mark>{escape(after)}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"


def _relatives(m: Space, slot: Slot) -> str:
    older = m.slots(None, superseded_by=slot.id)
    newer = m.slots(None, ids=[slot.superseded_by]) if slot.superseded_by else []
    found = "".join(_link(other, "It replaced") for other in older)
    found += "".join(_link(other, "It was replaced by") for other in newer)
    return f'<section><h3>What it replaced</h3><ul class="lines">{found}</ul></section>' if found else ""


def _link(slot: Slot, note: str) -> str:
    return (
        f'<li><small>{escape(note)}</small><button class="link" data-act="open" data-other="{escape(slot.id)}">'
        f"{escape(slot.text)}</button></li>"
    )


# what it has been


def _history(versions: Sequence[Version]) -> str:
    lines = [_version(before, now) for before, now in zip([None, *versions], versions, strict=False)]
    return f'<section><h3>History</h3><ol class="history">{"".join(reversed(lines))}</ol></section>'


def _version(before: Version | None, now: Version) -> str:
    who = BY.get(now.by, f"by {now.by}")
    when = f"{now.at.astimezone():%d %b %Y, %H:%M}"
    what = "kept" if before is None else ", ".join(_changes(before, now)) or "written anew"
    text = ""
    if before is None:
        text = f"<p>{escape(now.text)}</p>"
    elif before.text != now.text:
        text = f"<p>{difference(before.text, now.text)}</p>"
    return f"<li><small>{when}</small> {escape(what)} {escape(who)}{text}</li>"


def _changes(before: Version, now: Version) -> list[str]:
    """What differs between two versions, in words."""
    words = {SUPERSEDED: "replaced", ARCHIVED: "put away", DELETED: "moved to the trash"}
    found = ["edited"] if before.text != now.text else []
    found += [words.get(now.state, "remembered again")] if before.state != now.state else []
    found += ["pinned" if now.pinned else "unpinned"] if before.pinned != now.pinned else []
    found += [f"tagged {', '.join(now.tags)}" if now.tags else "tags taken away"] if before.tags != now.tags else []
    return found


def difference(before: str, now: str) -> str:
    """Two texts as one, word by word: what went is struck out, what came is underlined."""
    old, new = before.split(), now.split()
    parts = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = escape(" ".join(old[a:b])), escape(" ".join(new[c:d]))
        if kind == "equal":
            parts.append(come)
        else:
            parts += [f"<del>{gone}</del>"] if gone else []
            parts += [f"<ins>{come}</ins>"] if come else []
    return " ".join(parts)


# what read it


def _reads(found: Sequence[tuple[Turn, Read]], slot: Slot) -> str:
    if not found:
        body = '<p class="empty">No reply has used it yet. Ask about it in the conversation.</p>'
        return f"<section><h3>Read in</h3>{body}</section>"
    more = f'<p class="note">The latest {len(found)} of {slot.reads:,}.</p>' if slot.reads > len(found) else ""
    button = '<p class="buttons"><button data-act="words">Show which words looked at it</button></p>'
    lines = "".join(_read(turn, read) for turn, read in found)
    return f"<section><h3>Read in</h3>{more}{lines}{button}</section>"


def _read(turn: Turn, read: Read) -> str:
    return (
        f'<div class="bar"><button class="link" data-act="turn" data-turn="{escape(turn.id)}">'
        f"{escape(_short(turn.text) or '(a message without words)')}</button>"
        f'<span class="value">{read.weight * 100:.0f} %</span>'
        f'<span class="track"><span style="width:{read.weight * 100:.1f}%"></span></span>'
        f"<small>{turn.at.astimezone():%d %b %Y, %H:%M}</small></div>"
    )


def tokens(found: Sequence[tuple[Turn, Sequence[str], np.ndarray]]) -> str:
    """Replies, each word shaded by how much it looked at the memory."""
    if not found:
        return '<p class="empty">None of the last replies can be looked back at.</p>'
    note = "The darker a word, the more of its attention was on this memory while it was said."
    replies = []
    for turn, words, shares in found:
        most = max(float(shares.max(initial=0.0)), 1e-6)
        shaded = "".join(
            f'<span style="--share:{share / most:.2f}" title="{share * 100:.1f} % of its attention">'
            f"{escape(word)}</span>"
            for word, share in zip(words, shares.tolist(), strict=True)
        )
        replies.append(f'<small>{escape(_short(turn.text))}</small><p class="shaded">{shaded}</p>')
    return f'<section><h3>Words that looked at it</h3><p class="note">{note}</p>{"".join(replies)}</section>'


def _alike(found: Sequence[tuple[Slot, float]]) -> str:
    if not found:
        return ""
    lines = "".join(
        f'<div class="bar"><button class="link" data-act="open" data-other="{escape(slot.id)}">{escape(slot.text)}'
        f'</button><span class="value">{cosine:.2f}</span><span class="track">'
        f'<span style="width:{max(min(cosine, 1), 0) * 100:.1f}%"></span></span></div>'
        for slot, cosine in found
    )
    note = "Cosine of their keys: 1 means the same, 0 nothing in common."
    return f'<section><h3>Most alike</h3><p class="note">{note}</p>{lines}</section>'
