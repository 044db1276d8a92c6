"""What if? The turn that is looked into, answered once more with another memory; nothing is stored.

Some slots left out, the memory weaker, stronger or off, another number of slots, another threshold: both replies side
by side, how differently each token would have been said, and what else could have come in its place.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from mam import figures
from mam.ablation import Alternative
from mam.errors import InputError
from mam.figures.style import shortened
from mam.values import Turn
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, WHAT_IF, Here, script
from mam.web.plot import drawn, plot
from mam.whatif import STRONGEST, K

EMPTY = "Ask it something that it remembers, then come back: here you see what it would have said with another memory."
LABEL = 80  # characters of a memory
FULL = 2.0  # nats at which a token has the full colour


class WhatIf:
    def __init__(self, desk: Desk):
        self.desk = desk

    def begin(self, id: str | None, tab: str, dark: bool, request: gr.Request) -> tuple:
        """A turn as it was, with the controls at rest: the slots it was given, all ticked; replies; bars; token."""
        if tab != WHAT_IF:
            return (gr.skip(),) * 9
        m = self.desk.space(request)
        last = self.desk.turn(id, request) if id else None
        given = [r.slot for r in last.reads if r.given] if last and not last.abstained else []
        choices = [(shortened(slot.text, LABEL), slot.id) for slot in given]
        limits = m.engine.memory.settings.reading
        strength = {"maximum": STRONGEST, "step": 0.05} if m.engine.integrator else {"maximum": 1, "step": 1}
        rest = (
            gr.CheckboxGroup(choices=choices, value=[id for _, id in choices], visible=bool(choices)),
            gr.Slider(value=1.0, **strength),
            False,
            K,
        )
        if last is None:
            return *rest, limits.read, f'<p class="empty">{EMPTY}</p>', "", "", 0
        try:
            same = m.what_if(last, spoken=False)
        except InputError as error:  # another base answered
            return *rest, limits.read, f'<p class="empty">{escape(str(error))}</p>', "", "", 0
        return *rest, limits.read, was(last, same, 0), now(last, None), self._bars(same, 0, dark), 0

    def change(self, spoken: bool):
        """A handler for a moved control: the other reply, tokens as they differ, and the bars."""

        def changed(id, kept, strength, anew, k, threshold, at, dark, request: gr.Request) -> tuple:
            if id is None:
                return (gr.skip(),) * 3
            last = self.desk.turn(id, request)
            given = [] if last.abstained else [r.slot.id for r in last.reads if r.given]
            how = {"k": int(k), "threshold": threshold} if anew else {"without": [i for i in given if i not in kept]}
            other = self.desk.space(request).what_if(last, strength=strength, spoken=spoken, **how)
            at = min(at, max(len(other.tokens) - 1, 0))
            return was(last, other, at), now(last, other) if spoken else gr.skip(), self._bars(other, at, dark)

        return plainly(changed)

    def token(self, event: gr.EventData) -> int:
        """The token of the reply that was clicked; the bars are about its place."""
        return int(event.at)

    @staticmethod
    def _bars(other: Alternative, at: int, dark: bool) -> str:
        return drawn(figures.next_tokens(other, at, dark)) if other.choices else ""

    def view(self, here: Here) -> None:
        self.at = gr.State(0)
        with gr.Row(equal_height=False, elem_id="whatif"):
            with gr.Column(scale=2, min_width=260, elem_id="knobs"):
                self.strength = gr.Slider(
                    0, STRONGEST, 1, step=0.05, label="Strength of the memory (1: as it was, 0: off)"
                )
                self.kept = gr.CheckboxGroup([], label="Memories it may use", elem_id="kept")
                self.anew = gr.Checkbox(False, label="Read anew, in the memory as it is now")
                self.k = gr.Slider(1, 32, K, step=1, label="At most so many memories", visible=False)
                self.threshold = gr.Slider(
                    0, 1, 0.5, step=0.01, label="Read when it is so sure that one helps", visible=False
                )
                self.reset = gr.Button("As it was", size="sm", elem_id="reset")
            with gr.Column(scale=5, min_width=320):
                with gr.Row(equal_height=False):
                    self.was = gr.HTML(f'<p class="empty">{EMPTY}</p>', js_on_load=script("whatif.js"), elem_id="was")
                    self.now = gr.HTML("", js_on_load=None, elem_id="now")
                self.bars = plot("What could have come next, then and now", elem_id="bars")

    def wire(self, here: Here) -> None:
        knobs = [self.kept, self.strength, self.anew, self.k, self.threshold]
        shows = [self.was, self.now, self.bars]
        begins = [*knobs, *shows, self.at]
        for happens in (here.turn.change, here.tab.change, self.reset.click):
            happens(plainly(self.begin), [here.turn, here.tab, here.dark], begins, **QUIET)
        moved = [here.turn, *knobs, self.at, here.dark]
        quick = {"trigger_mode": "always_last", **QUIET}
        self.strength.input(self.change(spoken=False), moved, shows, **quick).then(  # the bars follow, then the words
            self.change(spoken=True), moved, shows, **quick
        )
        for happens in (
            self.kept.input,
            self.anew.input,
            self.k.release,
            self.threshold.release,
        ):
            happens(self.change(spoken=True), moved, shows, **quick)
        self.anew.change(
            lambda on: (gr.update(visible=on), gr.update(visible=on), gr.update(interactive=not on)),
            self.anew, [self.k, self.threshold, self.kept], **QUIET,
        )  # fmt: skip
        self.was.select(plainly(self.token), None, self.at, **QUIET).then(
            self.change(spoken=False), moved, shows, **QUIET
        )


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def was(last: Turn, other: Alternative, at: int) -> str:
    """The reply as it was; the stronger a token's colour, the less it would have been said with the other memory."""

    def token(i: int, text: str, nats: float) -> str:
        here = ' aria-current="true"' if i == at else ""
        style = f"--differs:{min(nats / FULL, 1) * 100:.0f}%"
        return f'<button data-at="{i}" style="{style}" title="{nats:.2f} nats"{here}>{escape(text)}</button>'

    said = "".join(map(token, range(len(other.tokens)), other.tokens, other.divergence)) or escape(last.reply)
    return _reply("As it was", last, f'<p class="tokens">{said}</p>')


def now(last: Turn, other: Alternative | None) -> str:
    """The reply with the other memory, and the slots that it was given."""
    if other is None:
        return _reply("What if", last, '<p class="empty">Move a control to see what it would have said.</p>')
    given = [read for read in other.reads if read.given and read.weight > 0]
    slots = "".join(f"<li>{read.weight:.2f} · {escape(shortened(read.slot.text, LABEL))}</li>" for read in given)
    below = f"<ul>{slots}</ul>" if slots else '<p class="note">no memory</p>'
    same = '<p class="note">the same words</p>' if other.reply == last.reply else ""
    return _reply("What if", last, f'<p class="tokens">{escape(other.reply)}</p>{same}{below}')


def _reply(title: str, last: Turn, shown: str) -> str:
    return f'<div class="reply"><h3>{title}</h3><p class="asked">{escape(last.text)}</p>{shown}</div>'
