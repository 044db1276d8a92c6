"""The turn inspector: what the memory did with a message, and why; for the last turn and for any past one.

Beside the chat the short version; in its own tab everything: a token × slot heat map that keeps apart what was
retrieved, given and influential, the parts of every score, what exactly the base was given, and the time of each stage.
"""

from __future__ import annotations

import json
from html import escape

import gradio as gr

from mam import figures
from mam.errors import InputError
from mam.packs.shelf import PACK_SLOT
from mam.prompt import sizes
from mam.values import Archived, Call, Candidate, Read, Turn, Write
from mam.web.asking import asked_in
from mam.web.desk import Desk, plainly
from mam.web.here import INSIDE, QUIET, Here
from mam.web.plot import drawn, plot

RELATIONS = {"new": "new", "duplicate": "known already", "update": "update"}
EMPTY = "Here you see what the memory does with each message: what it reads, what it keeps and what it lets go."


class Inside:
    def __init__(self, desk: Desk):
        self.desk = desk

    def look(self, id: str | None, request: gr.Request) -> tuple[str, str, str, str]:
        """A turn in words: beside the chat, at the head of its own tab, what the base was given, and packs asked."""
        if id is None:
            return panel(None), heading(None), "", ""
        last = self.desk.turn(id, request)
        return panel(last), heading(last), given(last, *self._tokens(last, request)), asked_in(last)

    def follow(self, id: str | None, request: gr.Request) -> tuple[str, str, str, str]:
        """The same after a change anywhere: a purge in another tab takes words out of a turn, or all of it away."""
        return self.look(id if self._turn(id, request) else None, request)

    def _turn(self, id: str | None, request: gr.Request) -> Turn | None:
        """The turn as it is now; None for none, and for one that is not there any more."""
        try:
            return None if id is None else self.desk.turn(id, request)
        except InputError:
            return None

    def _tokens(self, last: Turn, request: gr.Request) -> tuple[int, int]:
        """Tokens of the context: those of the slots, and those of the prompt."""
        engine = self.desk.space(request).engine
        with engine.lock:
            return sizes(engine.base, engine.integrator, last)

    def plots(self, id: str | None, tab: str, dark: bool, drawn_now: tuple, request: gr.Request) -> tuple:
        """(parts of the scores, stages, what is drawn now); nothing new when that is drawn already."""
        last = self._turn(id, request)
        if tab != INSIDE or drawn_now == (last, dark):
            return (gr.skip(),) * 3
        parts = drawn(figures.score_parts(last, dark)) if last and last.reads else ""
        stages = drawn(figures.stages(last, dark)) if last and last.timing else ""
        return parts, stages, (last, dark)

    def heat_map(self, id: str | None, tab: str, dark: bool, drawn_now: tuple, request: gr.Request) -> tuple:
        """(tokens of the reply by memory, or why there are none, what is drawn now); one look back for every memory."""
        last = self._turn(id, request)
        if tab != INSIDE or drawn_now == (last, dark):
            return (gr.skip(),) * 3
        if not last or not last.reply or last.abstained or not any(read.given for read in last.reads):
            return "", "", (last, dark)
        m = self.desk.space(request)
        try:
            return drawn(figures.heat_map(last, m.attribution(last), m.influence(last), dark)), "", (last, dark)
        except InputError as error:  # a base that cannot be looked into, or another one than answered
            return "", f'<p class="note" role="status">{escape(str(error))}</p>', (last, dark)

    def open(self, id: str | None, dark: bool, drawn_now: tuple, request: gr.Request) -> tuple:
        """Its own tab, with what can be drawn at once: waiting for the tab to ask for it would take twice as long."""
        return gr.Tabs(selected=INSIDE), INSIDE, *self.plots(id, INSIDE, dark, drawn_now, request)

    def beside(self, here: Here) -> None:
        """The short version, beside the chat."""
        self.short = gr.HTML(panel(None), elem_id="last", js_on_load=None)
        self.whole = gr.Button("Look inside this turn", size="sm", elem_id="whole")

    def view(self, here: Here) -> None:
        self.plotted, self.mapped = gr.State(()), gr.State(())  # what the figures show
        self.head = gr.HTML(heading(None), elem_id="heading", js_on_load=None)
        with gr.Column(elem_classes="linked"):
            self.heat = plot("Heat map: tokens of the reply by memory", elem_id="heat")
            self.unseen = gr.HTML("", js_on_load=None, elem_id="unseen")
        gr.HTML("<h3>Why these memories</h3>", js_on_load=None)
        self.parts = plot("Parts of the score of each memory", elem_id="parts")
        self.asked = gr.HTML("", elem_id="asked", js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                gr.HTML("<h3>What the base was given</h3>", js_on_load=None)
                self.given = gr.HTML("", elem_id="given", js_on_load=None)
            with gr.Column(scale=1, min_width=320):
                gr.HTML("<h3>Where the time went</h3>", js_on_load=None)
                self.stages = plot("Milliseconds of each stage", elem_id="stages")

    def wire(self, here: Here, tabs: gr.Tabs) -> None:
        words = [self.short, self.head, self.given, self.asked]
        here.turn.change(plainly(self.look), here.turn, words, **QUIET)
        here.version.change(plainly(self.follow), here.turn, words, **QUIET)
        figures_of, shows = [here.turn, here.tab, here.dark], [self.parts, self.stages, self.plotted]
        for happens in (here.turn.change, here.tab.change, here.version.change):
            happens(plainly(self.plots), [*figures_of, self.plotted], shows, **QUIET)
            happens(plainly(self.heat_map), [*figures_of, self.mapped], [self.heat, self.unseen, self.mapped], **QUIET)
        self.whole.click(plainly(self.open), [here.turn, here.dark, self.plotted], [tabs, here.tab, *shows], **QUIET)
        for drawing in (self.heat, self.parts):
            drawing.select(plainly(self.picked), None, here.slot, **QUIET)

    def picked(self, event: gr.EventData, request: gr.Request) -> str:
        """The memory of a row that was clicked; its page opens. What a pack said has none."""
        if str(event.pick).startswith(PACK_SLOT):
            raise InputError("A pack said this: it stands in weights, and has no page. See what the packs were asked.")
        return self.desk.space(request).slot(event.pick).id


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def panel(last: Turn | None) -> str:
    """What was read for a reply, what was kept of the message and what not."""
    if last is None:
        return f'<div class="turn"><p class="empty">{EMPTY}</p></div>'
    parts = (_read, _packs, _kept, _archived, _rejected, _decided, _timing)
    return f'<div class="turn">{"".join(part(last) for part in parts)}</div>'


def heading(last: Turn | None) -> str:
    """Message and reply at the head of the inspector's own tab."""
    if last is None:
        return f'<p class="empty">{EMPTY} Say something in the conversation, or choose a reply there.</p>'
    told = f"{last.at.astimezone():%d %b %Y, %H:%M} · {last.tokens} tokens"
    told += f" · {escape(last.base)}" if last.base else ""
    return (
        f'<div class="heading"><small>{told}</small><p class="you">{escape(last.text)}</p>'
        f'<p class="it">{escape(last.reply)}</p></div>'
    )


def given(last: Turn, memory: int, prompt: int) -> str:
    """The context of the base: its tokens of memory and of prompt, and the words themselves."""
    share = memory / max(memory + prompt, 1)
    note = f"{memory} tokens of memory and {prompt} of prompt: {share:.0%} is memory." if memory else "No memory."
    if last.abstained:
        note = "Nothing: the memory does not hold the answer, so the base was not asked."
    track = f'<span class="track"><span style="width:{share * 100:.1f}%"></span></span>'
    more = "".join(f"<pre>{escape(json.dumps(body, ensure_ascii=False, indent=2))}</pre>" for body in last.sent)
    if more:
        more = f"<details><summary>The request{'s' * (len(last.sent) > 1)}, word by word</summary>{more}</details>"
    return f'<p class="note">{note}</p>{track}<pre>{escape(last.given)}</pre>{more}'


def _read(last: Turn) -> str:
    given = [read for read in last.reads if read.given]
    others = [read for read in last.reads if not read.given]
    if last.abstained:
        note = "You asked for something it was never told, so it says so instead of guessing."
    elif given:
        note = "These memories were handed to the language model. The longer the bar, the more they count."
    else:
        note = "Nothing in the memory helps with this message: the language model answers alone."
    bars = [_line(read) for read in given]
    bars.append(_bar(last.null_weight, "<i>none of the memories</i>", "", "null"))
    more = ""
    if others:
        lines = "".join(_line(read, "other") for read in others)
        more = f"<details><summary>{len(others)} more it considered</summary>{lines}</details>"
    return f'<section><h3>Read</h3><p class="note">{note}</p>{"".join(bars)}{more}</section>'


def _line(read: Read, kind: str = "") -> str:
    packed = read.slot.id.startswith(PACK_SLOT)
    text = escape(read.slot.text) + (f"<small>said by the pack {escape(read.slot.speaker)}</small>" if packed else "")
    return _bar(read.weight, text, _parts(read), kind, read.slot.id)


def _packs(last: Turn) -> str:
    """What the mounted packs said, those that did not know among them."""
    if not last.calls:
        return ""

    def line(call: Call) -> str:
        said = escape(call.reply) if call.reply and not call.pruned else f"<i>{escape(call.pruned)}</i>"
        value = f"{call.confidence * 100:.0f} %" if call.confidence and not call.pruned else ""
        return f'<div class="bar"><span class="text">{escape(call.pack)}: {said}</span><span>{value}</span></div>'

    note = "Asked with the book closed; how sure each was."
    lines = "".join(line(call) for call in last.calls if call.to == "pack")
    return f'<section><h3>Packs</h3><p class="note">{note}</p>{lines}</section>'


def _bar(weight: float, text: str, hint: str, kind: str = "", slot: str = "") -> str:
    track = f'<span class="track"><span style="width:{weight * 100:.1f}%"></span></span>'
    linked = f' data-slot="{escape(slot)}"' if slot else ""
    return (
        f'<div class="bar {kind}"{linked} title="{escape(hint)}"><span class="text">{text}</span>'
        f'<span class="value">{weight * 100:.0f} %</span>{track}</div>'
    )


def _parts(read: Read) -> str:
    return ", ".join(f"{name} {value:+.1f}" for name, value in read.parts.items())


def _kept(last: Turn) -> str:
    if not last.writes:
        return '<section><h3>Kept</h3><p class="empty">Nothing new from this message.</p></section>'

    def line(write: Write) -> str:
        label = RELATIONS[write.relation] + (", replaces an older memory" if write.superseded else "")
        label += "" if write.relation_score is None else f" ({write.relation_score * 100:.0f} %)"
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


def _decided(last: Turn) -> str:
    """The thresholds of that turn, with what it had to set against them."""
    held = 1 - last.null_weight
    rules = {
        "gate": "worth keeping: from {limit} on",
        "relation": "known already, or an update: from {limit} on",
        "read": f"memories together: {held * 100:.0f} %; read from {{limit}} on",
        "given": "one memory: handed on from {limit} on",
        "asked": f"asks for what was only told: {last.asked * 100:.0f} %; then, unless it is read, from {{limit}} on"
        " it says that it was not told",
    }
    lines = "".join(
        f"<li>{rule.format(limit=f'{last.thresholds[name] * 100:.0f} %')}</li>"
        for name, rule in rules.items()
        if name in last.thresholds
    )
    return f'<details><summary>What decided</summary><ul class="decided">{lines}</ul></details>' if lines else ""


def _timing(last: Turn) -> str:
    timing = last.timing
    if "first_token" not in timing:
        return ""
    first = sum(timing.get(stage, 0) for stage in ("packs", "split", "encode", "read", "prepare", "first_token"))
    words = [f"first word after {first:.2f} s"]
    if last.tokens > 1 and timing.get("reply"):
        words.append(f"{(last.tokens - 1) / timing['reply']:.0f} tokens/s")
    stages = ", ".join(f"{stage.replace('_', ' ')} {seconds * 1000:.0f} ms" for stage, seconds in timing.items())
    stopped = " · stopped by you" if last.stopped else ""
    return f'<p class="timing" title="{escape(stages)}">{" · ".join(words)}{stopped}</p>'
