"""The timeline: what happened to every memory in every turn, and a conversation once more, step by step.

At each step of the replay stand the table and the map as they were when that message had been answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import gradio as gr

from mam import figures
from mam.figures.timeline import HANDS, MARKS
from mam.space import Space
from mam.timeline import EDIT, READ, RESTORE, WRITE, Happening
from mam.timeline import Timeline as Found
from mam.values import ACTIVE, Slot
from mam.web.desk import Desk, plainly
from mam.web.here import INSIDE, QUIET, TIMELINE, Here, script
from mam.web.plot import drawn, plot

EMPTY = (
    "<b>Nothing has happened yet.</b> Say something in a conversation: every message becomes a column here, every "
    "memory a row, and each mark says what a message did to a memory."
)
HINT = "<b>Choose a mark</b> to see what happened there, or a triangle on top to look inside that message."
ALL = "All conversations"
ROWS = 40  # of the table as it was
SMALL = 320  # pixels: height of the map as it was


class Timeline:
    def __init__(self, desk: Desk):
        self.desk = desk

    def drawing(self, tab: str, which: str | None, dark: bool, step: int, request: gr.Request) -> tuple:
        """The raster, what to choose from, and how far the slider goes."""
        if tab != TIMELINE:
            return (gr.skip(),) * 4
        m = self.desk.space(request)
        titles = {session.id: session.title for session in m.sessions()}
        # a value is only sent where it has to change: whoever is quick has chosen another one meanwhile
        gone = {} if not which or which in titles else {"value": ""}
        which = which if which in titles else ""
        choices = gr.update(choices=[(ALL, ""), *((title, id) for id, title in titles.items())], **gone)
        found = m.timeline(which or None)
        last = len(found.steps)
        beyond = {} if 1 <= step <= max(last, 1) else {"value": max(last, 1)}
        slider = gr.update(maximum=max(last, 2), interactive=last > 1, **beyond)
        if not found.happenings:
            return "", f'<p class="empty">{EMPTY}</p>', choices, slider
        slots = {slot.id: slot for slot in m.slots(None)}
        return drawn(figures.raster(found, slots, titles, dark, step - 1)), "", choices, slider

    def replay(self, tab: str, which: str | None, dark: bool, step: int, request: gr.Request) -> tuple[str, str, str]:
        """What a turn did, the table, and the map as they were then."""
        if tab != TIMELINE:
            return (gr.skip(),) * 3
        m = self.desk.space(request)
        found = m.timeline(self._session(m, which))
        if not found.steps:
            return "", "", ""
        number = min(max(int(step), 1), len(found.steps)) - 1
        then = m.slots(None, as_of=found.steps[number].done)
        now = {slot.id: slot for slot in m.slots(None)}
        happened = [event for event in found.happenings if number - 1 < event.step <= number and event.slot in now]
        active = [slot for slot in then if slot.state == ACTIVE and slot.id in now]
        title = next((s.title for s in m.sessions() if s.id == found.steps[number].session), "")
        touched = {event.slot: event for event in happened}
        moved = {slot.id for slot in active if slot.version != now[slot.id].version}
        drawing = self._map(m, active, moved, touched, dark)
        texts = now | {slot.id: slot for slot in then}
        return did(found, number, title, happened, texts), table(active, touched), drawing

    def _map(self, m: Space, slots: Sequence[Slot], moved: set[str], touched: dict[str, Happening], dark: bool) -> str:
        """Slots where they were: one that was edited since stands where it was before."""
        layout = m.layout(2, wait=False)
        if not slots:
            return ""
        at = layout.coordinates.copy()
        for row, id in enumerate(layout.ids):
            if id in moved and id in layout.before:
                at[row] = layout.before[id]
        then = replace(layout, coordinates=at, before={})
        names = {slot.id: MARKS[touched[slot.id].kind][0].split(" (")[0] for slot in slots if slot.id in touched}
        shade = figures.Shade("What happened", names)
        drawing = figures.memory_map(then, slots, shade, dark, matched=names.keys(), rest="not touched", height=SMALL)
        return drawn(drawing)

    def _session(self, m: Space, which: str | None) -> str | None:
        return which if any(session.id == which for session in m.sessions()) else None

    def picked(self, event: gr.EventData, request: gr.Request) -> tuple:
        """A mark: (memory, turn, what happened there, tab to show, tab that is shown)."""
        m, same = self.desk.space(request), gr.skip()
        turn = self.desk.turn(str(event.turn), request) if event.turn else None
        if not event.pick:
            return (same, turn.id, same, gr.Tabs(selected=INSIDE), INSIDE) if turn else (same,) * 5
        slot = m.slot(str(event.pick))
        return slot.id, same, mark(slot, turn.id if turn else None, turn.text or turn.reply if turn else ""), same, same

    def look(self, event: gr.EventData, request: gr.Request) -> tuple:
        """A button that names a turn or a memory: (memory, turn, tab to show, tab that is shown)."""
        if turn := getattr(event, "turn", None):
            return gr.skip(), self.desk.turn(str(turn), request).id, gr.Tabs(selected=INSIDE), INSIDE
        return self.desk.space(request).slot(str(event.pick)).id, gr.skip(), gr.skip(), gr.skip()

    def view(self, here: Here) -> None:
        with gr.Row(elem_id="time-tools", equal_height=True):
            self.which = gr.Dropdown(
                [(ALL, "")], value="", container=False, show_label=False, label="Conversation", filterable=False,
                scale=0, min_width=280, elem_id="time-which",
            )  # fmt: skip
            self.one = gr.HTML(f'<p class="note">{HINT}</p>', elem_id="time-mark", js_on_load=script("timeline.js"))
        self.plot = plot("Timeline of all memories by messages; the replay below says it in words", elem_id="time-plot")
        self.note = gr.HTML("", elem_id="time-note", js_on_load=None)
        gr.HTML("<h3>Once more, step by step</h3>", js_on_load=None)
        with gr.Row(elem_id="time-steps", equal_height=True):
            self.back = gr.Button("←", size="sm", scale=0, min_width=48, elem_id="time-back")
            self.step = gr.Slider(
                1, 2, value=1, step=1, label="Message", show_label=False, container=False, scale=6, elem_id="time-step",
                buttons=[],
            )  # fmt: skip
            self.on = gr.Button("→", size="sm", scale=0, min_width=48, elem_id="time-on")
        with gr.Row(equal_height=False, elem_id="time-then"):
            with gr.Column(scale=4, min_width=280):
                self.did = gr.HTML("", elem_id="time-did", js_on_load=script("timeline.js"))
            with gr.Column(scale=4, min_width=280):
                self.table = gr.HTML("", elem_id="time-table", js_on_load=script("timeline.js"))
            with gr.Column(scale=5, min_width=300):
                gr.HTML('<div class="card"><h3>The map then</h3></div>', js_on_load=None)
                self.map = plot("Map of the memories that were there then", elem_id="time-map")

    def wire(self, here: Here, tabs: gr.Tabs) -> None:
        asked = [here.tab, self.which, here.dark, self.step]
        drawing, told = [self.plot, self.note, self.which, self.step], [self.did, self.table, self.map]
        gr.on(
            [here.tab.change, here.version.change], plainly(self.drawing), asked, drawing,
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        gr.on(
            [here.tab.change, here.version.change, self.step.change], plainly(self.replay), asked, told,
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        again = [here.tab, self.which, here.dark, gr.State(1)]  # another conversation begins at its first message
        self.which.input(plainly(self.drawing), again, drawing, **QUIET)
        self.which.input(plainly(self.replay), again, told, **QUIET)
        self.back.click(lambda step: max(step - 1, 1), self.step, self.step, **QUIET)
        self.on.click(plainly(self.forth), [self.which, self.step], self.step, **QUIET)
        shown = [here.slot, here.turn, self.one, tabs, here.tab]
        self.plot.select(plainly(self.picked), None, shown, **QUIET)
        for names in (self.one, self.did, self.table):
            names.select(plainly(self.look), None, [here.slot, here.turn, tabs, here.tab], **QUIET)
        self.map.select(plainly(self.look), None, [here.slot, here.turn, tabs, here.tab], **QUIET)

    def forth(self, which: str | None, step: int, request: gr.Request) -> int:
        m = self.desk.space(request)
        return min(step + 1, max(len(m.timeline(self._session(m, which)).steps), 1))


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def mark(slot: Slot, turn: str | None, text: str) -> str:
    """A mark that was clicked: which memory, and the way to its turn."""
    where = (
        f'in “{escape(text[:80])}” <button type="button" data-turn="{escape(turn)}">Look inside this turn</button>'
        if turn
        else "by hand"
    )
    return f'<p class="note"><b>{escape(slot.text)}</b> · {where}</p>'


def did(found: Found, number: int, title: str, happened: Sequence[Happening], slots: dict[str, Slot]) -> str:
    """One step in words: the message, and what happened before it by hand and in it."""
    step = found.steps[number]
    before = [event for event in happened if event.step < number]
    during = [event for event in happened if event.step >= number]
    lines = "".join(_line(event, slots[event.slot]) for event in sorted(during, key=lambda event: -event.weight))
    nothing = '<p class="empty">It read nothing and changed nothing.</p>'
    earlier = "".join(_line(event, slots[event.slot]) for event in before[-ROWS:])
    earlier = f"<h3>Just before, by hand</h3><ul>{earlier}</ul>" if earlier else ""
    return (
        f'<div class="card" data-step="{number + 1}" role="status"><h3>Message {number + 1} of {len(found.steps)}</h3>'
        f'<p class="text">{escape(step.text)}</p>'
        f'<p class="facts">{step.at.astimezone():%d %b %Y, %H:%M} · {escape(title)} '
        f'<button type="button" class="look" data-turn="{escape(step.turn)}">Look inside this turn</button></p>'
        f"{earlier}<h3>What it did</h3>{f'<ul>{lines}</ul>' if lines else nothing}</div>"
    )


def _line(event: Happening, slot: Slot) -> str:
    name = MARKS[event.kind][0].split(" (")[0]
    value = f"{event.weight:.0%}" if event.kind == READ else "" if event.turn else HANDS.get(event.by, event.by)
    track = f'<span class="track"><span style="width:{event.weight * 100:.0f}%"></span></span>'
    return (
        f'<li><button type="button" data-pick="{escape(slot.id)}" data-slot="{escape(slot.id)}">'
        f'<span class="text"><i>{name}</i> {escape(slot.text)}</span><span class="value">{escape(value)}</span>'
        f"{track if event.kind == READ else ''}</button></li>"
    )


def table(slots: Sequence[Slot], touched: dict[str, Happening]) -> str:
    """What was remembered then, the newest first; what the step touched is said."""
    words = {WRITE: "new", EDIT: "edited", RESTORE: "back", READ: "read"}
    rows = "".join(
        f'<li><button type="button" data-pick="{escape(slot.id)}" data-slot="{escape(slot.id)}">'
        f'<span class="text">{escape(slot.text)}</span>'
        f'<span class="value">{words.get(touched[slot.id].kind, "") if slot.id in touched else ""}</span></button></li>'
        for slot in list(reversed(slots))[:ROWS]
    )
    more = f'<p class="empty">… and {len(slots) - ROWS:,} more.</p>' if len(slots) > ROWS else ""
    none = '<p class="empty">Nothing was remembered yet.</p>'
    shown = f"<ul>{rows}</ul>{more}" if rows else none
    return f'<div class="card"><h3>Remembered then ({len(slots):,})</h3>{shown}</div>'
