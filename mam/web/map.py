"""The map: the whole memory as points, what is alike close together; looked at, searched, and changed in bulk.

Beside it the memory that was clicked, with its true neighbours: distance in two dimensions is not likeness. Whatever is
on the map can be reached by keyboard, too: the search lists what it finds, and a card lists its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from html import escape

import gradio as gr

from mam import figures
from mam.atlas import Layout
from mam.errors import InputError, MamError, MissingError
from mam.figures.map import COLOURS, STATES
from mam.figures.packs import PICK
from mam.packs.places import Place, places
from mam.packs.values import Reflection
from mam.space import Space
from mam.values import ACTIVE, DELETED, USER, Slot, Turn
from mam.web.desk import Desk, plainly
from mam.web.here import MAP, QUIET, Here, script
from mam.web.packs import changes
from mam.web.plot import drawn, plot

EMPTY = (
    "<b>The map is empty.</b> Tell the memory something in a conversation, add a memory by hand, or import a file: "
    "every memory becomes a point here, and memories that speak of like things come to lie together."
)
POINT = (
    "<b>Choose a point</b> to read it and its true neighbours. <b>Draw around points</b> to tag or delete them at once."
)
IN_WEIGHTS = (
    '<p class="note"><b class="packed">▲</b> what packs have learned. Their sentences have no slot: each mark is '
    "a question that a pack can answer, put beside the memories most like it as a new one would be, even where none is "
    "much like it. The region holds nine of ten questions of a pack. It moves nothing.</p>"
)
DIMENSIONS = {"Flat": 2, "In space": 3}
LISTED = 60  # memories of a list: more are counted
NEIGHBOURS = 6
SHAPES = "● remembered &ensp;◇ replaced &ensp;□ put away &ensp;✕ in the trash"


class Map:
    def __init__(self, desk: Desk):
        self.desk = desk
        self._packed: dict[tuple[str, int], tuple[tuple, list[Place]]] = {}  # (as of, places) by user and dimensions

    def drawing(
        self, tab: str, dark: bool, flat: str, by: str, find: str, turn: str | None, packed: bool, slot: str | None,
        request: gr.Request,
    ) -> tuple:  # fmt: skip
        """The map, what it is, what a search found, and whether there are packs to switch."""
        if tab != MAP:
            return (gr.skip(),) * 4
        m, find = self.desk.space(request), find.strip()
        layout, slots = m.layout(DIMENSIONS[flat], wait=False), m.slots(None)
        switch = gr.Checkbox(visible=bool(m.packs()))
        if not slots:
            return "", f'<p class="empty">{EMPTY}</p>', "", switch
        found = m.slots(None, find=find) if find else None
        likeness = m.likeness(find) if find and by == COLOURS[-1] else None
        titles = {session.id: session.title for session in m.sessions()}
        last = self._turn(turn, request)
        figure = figures.memory_map(
            layout, slots, figures.shade(by, slots, datetime.now(UTC), titles, likeness), dark,
            matched=None if found is None else {slot.id for slot in found},
            asked=figures.question(last) if last else None, chosen=slot,
        )  # fmt: skip
        note = about(layout, slots, last, by == COLOURS[-1] and not find)
        if packed and (questions := self._questions(m, layout)):
            figures.with_packs(figure, questions, dark)
            note += IN_WEIGHTS
        return drawn(figure), note, "" if found is None else findings(found, find), switch

    def _questions(self, m: Space, layout: Layout) -> list[Place]:
        """What packs have learned, on this map. Those that cannot be read are left out: their own tab says why."""
        packs = m.packs()
        if not packs:
            return []
        dimensions = layout.coordinates.shape[1]
        now = (m.version(), layout.fitted_at, *(changes(pack.store.folder) for pack in packs))
        known, found = self._packed.get((m.user, dimensions), ((), []))
        if known != now:
            try:
                found = places(m, packs, layout)
            except MamError:
                found = []
            self._packed[m.user, dimensions] = (now, found)
        return found

    def _turn(self, id: str | None, request: gr.Request) -> Turn | None:
        try:
            return self.desk.turn(id, request) if id else None
        except InputError:  # purged, or taken back, in another tab: the map goes without it
            return None

    def card(self, id: str | None, mark: tuple[str, str] | None, tab: str, request: gr.Request) -> str:
        """The memory that was clicked, with its true neighbours; or the mark of a pack, (name, id of a reflection)."""
        if tab != MAP:
            return gr.skip()
        if mark is not None:
            found = self._in_weights(*mark, request)
            return card(None) if found is None else pack_card(mark[0], found)
        if id is None:
            return card(None)
        m = self.desk.space(request)
        try:
            slot = m.slot(id)
        except InputError:
            return card(None)
        titles = {session.id: session.title for session in m.sessions()}
        return card(slot, m.neighbours(slot.id, NEIGHBOURS), titles.get(slot.session, ""))

    def picked(self, event: gr.EventData, request: gr.Request) -> tuple:
        """A click or a lasso: (the memory to show, the ids drawn around, the mark of a pack to show instead)."""
        m, same = self.desk.space(request), gr.skip()
        if (lasso := getattr(event, "lasso", None)) is not None:
            if isinstance(lasso, list):  # what is in weights is looked at here, and changed in its pack
                lasso = [id for id in lasso if not str(id).startswith(PICK)]
            return same, _known(m, lasso), same
        pick = str(event.pick)
        if not pick.startswith(PICK):
            return m.slot(pick).id, same, None
        name, _, id = pick.removeprefix(PICK).partition("/")
        if self._in_weights(name, id, request) is None:
            raise InputError("This is not in the pack any more.")
        return same, same, (name, id)

    def _in_weights(self, name: str, id: str, request: gr.Request) -> Reflection | None:
        """What a pack learned, by its id; None where that is gone."""
        try:
            pack = self.desk.space(request).open_pack(name)
        except MissingError:
            return None
        return next((reflection for reflection in pack.reflections() if reflection.id == id), None)

    def pick(self, event: gr.EventData, request: gr.Request) -> str:
        """A button of a list that names a memory."""
        return self.desk.space(request).slot(str(event.pick)).id

    def chosen(self, ids: Sequence[str], request: gr.Request) -> tuple[str, gr.Column]:
        """What was drawn around, as a list, and whether there is anything to do with it."""
        if not ids:
            return "", gr.Column(visible=False)
        wanted = set(ids)
        return chosen([slot for slot in self.desk.space(request).slots(None) if slot.id in wanted]), gr.Column(
            visible=True
        )

    def tag(self, ids: Sequence[str], tag: str, request: gr.Request) -> str:
        """Add one tag to everything that was drawn around."""
        m, wanted = self.desk.space(request), set(_known(self.desk.space(request), ids))
        if not tag.strip():
            raise InputError("Write the tag first.")
        with m.writing():
            for slot in m.slots(None):
                if slot.id in wanted:
                    m.tag(slot.id, *slot.tags, tag)
        gr.Info(f"Tagged {_memories(len(wanted))}.")
        return ""

    def delete(self, ids: Sequence[str], request: gr.Request) -> list[str]:
        """Everything that was drawn around into the trash, as one change that `undo` takes back at once."""
        m = self.desk.space(request)
        wanted = set(_known(m, ids))
        with m.writing():
            gone = [m.delete(slot.id) for slot in m.slots(None) if slot.id in wanted and slot.state != DELETED]
        gr.Info(f"{_memories(len(gone)).capitalize()} in the trash: not read any more, and to be restored from there.")
        return []

    def undo(self, request: gr.Request) -> None:
        gr.Info(f"Taken back: {_memories(len(self.desk.space(request).undo()))} as before the last change.")

    def refit(self, flat: str, request: gr.Request) -> None:
        self.desk.space(request).refit(DIMENSIONS[flat], wait=False)
        gr.Info("The map is being made anew. It shows by itself when it is ready.")

    def view(self, here: Here) -> None:
        self.ids, self.learned = gr.State([]), gr.State(None)
        with gr.Row(elem_id="map-tools", equal_height=True):
            self.find = gr.Textbox(
                value="", placeholder="Search …", show_label=False, container=False, max_lines=1, scale=3,
                min_width=180, elem_id="map-find", label="Search the map",
            )  # fmt: skip
            self.by = gr.Dropdown(
                list(COLOURS), value=COLOURS[0], container=False, scale=2, min_width=170, elem_id="map-by",
                label="Colour says", show_label=False, filterable=False,
            )  # fmt: skip
            self.flat = gr.Radio(
                list(DIMENSIONS), value="Flat", show_label=False, container=False, scale=1, min_width=170,
                elem_id="map-flat", label="Dimensions",
            )  # fmt: skip
            self.packed = gr.Checkbox(
                True, label="Packs", container=False, scale=0, min_width=80, visible=False, elem_id="map-packs"
            )
            self.back = gr.Button("Undo", size="sm", scale=0, min_width=64, elem_id="map-undo")
            self.anew = gr.Button("Make anew", size="sm", scale=0, min_width=100, elem_id="map-anew")
            self.save = gr.HTML(
                '<button type="button" data-act="save">Save as CSV</button>', elem_id="map-save",
                js_on_load=script("map.js"),
            )  # fmt: skip
        with gr.Row(equal_height=False, elem_id="map-row"):
            with gr.Column(scale=7, min_width=320):
                with gr.Column(elem_classes="zooms"):
                    self.plot = plot("Map of all memories; the search lists them as text", elem_id="map-plot")
                self.note = gr.HTML("", elem_id="map-note", js_on_load=None)
            with gr.Column(scale=3, min_width=260, elem_id="map-side"):
                self.found = gr.HTML("", elem_id="map-found", js_on_load=script("map.js"))
                with gr.Column(visible=False, elem_id="map-bulk") as self.bulk:
                    self.list = gr.HTML("", elem_id="map-chosen", js_on_load=script("map.js"))
                    with gr.Row(equal_height=True, elem_id="map-acts"):
                        self.word = gr.Textbox(
                            placeholder="Tag", show_label=False, container=False, max_lines=1, min_width=80, scale=3,
                            elem_id="map-word", label="Tag for all of these",
                        )  # fmt: skip
                        self.mark = gr.Button("Tag", size="sm", min_width=54, scale=1, elem_id="map-tag")
                        self.bin = gr.Button("Delete", size="sm", min_width=70, scale=1, elem_id="map-delete")
                self.one = gr.HTML(card(None), elem_id="map-card", js_on_load=script("map.js"))

    def wire(self, here: Here) -> None:
        asked = [here.tab, here.dark, self.flat, self.by, self.find, here.turn, self.packed, here.slot]
        changing = [here.tab, here.version, self.flat, self.by, self.find, here.turn, self.packed]
        gr.on(
            [each.change for each in changing], plainly(self.drawing), asked,
            [self.plot, self.note, self.found, self.packed], trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        gr.on(
            [self.learned.change, here.slot.change, here.tab.change, here.version.change], plainly(self.card),
            [here.slot, self.learned, here.tab], self.one, trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        self.plot.select(plainly(self.picked), None, [here.slot, self.ids, self.learned], **QUIET)
        here.slot.change(lambda: None, None, self.learned, **QUIET)
        for names in (self.one, self.found, self.list):
            names.select(plainly(self.pick), None, here.slot, **QUIET)
        for happens in (self.ids.change, here.version.change):
            happens(plainly(self.chosen), self.ids, [self.list, self.bulk], **QUIET)
        for happens in (self.mark.click, self.word.submit):
            happens(plainly(self.tag), [self.ids, self.word], self.word, **QUIET)
        self.bin.click(plainly(self.delete), self.ids, self.ids, **QUIET)
        self.back.click(plainly(self.undo), None, None, **QUIET)
        self.anew.click(plainly(self.refit), self.flat, None, **QUIET)


def _known(m: Space, ids: object) -> list[str]:
    """Ids that a browser sent, of which every one is a memory of this space. Raises InputError for any other."""
    known = set(m.layout(2, wait=False).ids)
    if not isinstance(ids, list) or not all(isinstance(id, str) and id in known for id in ids):
        raise InputError("Some of these memories are not here any more; draw around them again.")
    return list(dict.fromkeys(ids))


def _memories(count: int) -> str:
    return f"{count:,} memor{'y' if count == 1 else 'ies'}"


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def about(layout: Layout, slots: Collection[Slot], last: Turn | None, unsearched: bool = False) -> str:
    """What the map is: how it was made, with which parameters, and what it does not say."""
    settings = " · ".join(f"{escape(name)} {escape(str(value))}" for name, value in layout.parameters.items())
    when = f"{layout.fitted_at.astimezone():%d %b %Y, %H:%M}" if layout.fitted_at else ""
    later = f", {layout.placed:,} placed since" if layout.placed else ""
    lines = [f'<p class="note"><b>{escape(layout.method)}</b> of keys by cosine: {settings}, fitted {when}{later}.</p>']
    if layout.failure:
        lines.append(f'<p class="note failed" role="status">{escape(layout.failure)}</p>')
    elif layout.fitting:
        what = "This is a first sketch" if layout.method == "PCA" else "Half of the points came later"
        lines.append(
            f'<p class="note waiting" role="status">{what}; the full map is being made and shows when it is ready.</p>'
        )
    if unsearched:
        lines.append('<p class="note" role="status">Search for something: colour then says how like it each is.</p>')
    if last and not any(read.given for read in last.reads):
        lines.append('<p class="note">The last message read nothing, so it has no place here.</p>')
    elif last:
        lines.append(
            '<p class="note"><b class="asked">★</b> the last message, at the mean of the memories it read; '
            "the thicker a line, the more that one counted.</p>"
        )
    if any(slot.state != ACTIVE for slot in slots):
        lines.append(f'<p class="note">{SHAPES}</p>')
    lines.append(
        '<p class="note">Neighbours on the map are mostly alike, but distances and sizes of groups mean nothing: '
        "that is what the list of true neighbours is for. New memories are put among theirs; nothing else moves.</p>"
    )
    return "".join(lines)


def card(slot: Slot | None, near: Sequence[tuple[Slot, float]] = (), title: str = "") -> str:
    if slot is None:
        return f'<p class="empty">{POINT}</p>'
    origin = slot.document or ("" if slot.speaker == USER else f"said by {slot.speaker}")
    facts = [f"told {slot.told.astimezone():%d %b %Y, %H:%M}", STATES[slot.state]]
    facts += [f"in “{title}”"] if title else []
    facts += [origin] if origin else []
    facts += [f"edited {slot.version - 1}×"] if slot.version > 1 else []
    facts += [f"read {slot.reads}×"]
    facts += [f"gate {slot.score:.2f}"] if slot.score is not None else ["added by hand"]
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in slot.tags)
    rows = "".join(_near(other, cosine) for other, cosine in near)
    none = '<p class="empty">No other memory is active.</p>'
    return (
        f'<div class="card" data-chosen="{escape(slot.id)}"><h3>This memory</h3><p class="text">{escape(slot.text)}</p>'
        f"<p class='facts'>{escape(' · '.join(facts))}</p>{tags}"
        f"<h3>True neighbours</h3>{f'<ul>{rows}</ul>' if rows else none}</div>"
    )


def pack_card(pack: str, reflection: Reflection) -> str:
    """What a pack learned, in the place of a memory."""
    documents = ", ".join(dict.fromkeys(source.document for source in reflection.sources))
    return (
        f'<div class="card"><h3>In weights</h3><p class="text">{escape(reflection.question)}</p>'
        f'<p class="text"><b>{escape(reflection.answer)}</b></p>'
        f'<p class="facts">{escape(documents)} · pack {escape(pack)}: see the tab Packs for its sentences</p></div>'
    )


def _near(slot: Slot, cosine: float) -> str:
    return (
        f'<li><button type="button" data-pick="{escape(slot.id)}" data-slot="{escape(slot.id)}">'
        f'<span class="text">{escape(slot.text)}</span><span class="value">{cosine:.2f}</span>'
        f'<span class="track"><span style="width:{max(cosine, 0) * 100:.0f}%"></span></span></button></li>'
    )


def findings(found: Sequence[Slot], find: str) -> str:
    """What a search found, as buttons; the newest first."""
    head = f"<h3>{_memories(len(found))} with “{escape(find)}”</h3>"
    return f'<div class="card" role="status">{head}{_list(found)}</div>'


def chosen(slots: Sequence[Slot]) -> str:
    return f'<div class="card"><h3>{_memories(len(slots))} drawn around</h3>{_list(slots)}</div>'


def _list(slots: Sequence[Slot]) -> str:
    rows = "".join(
        f'<li><button type="button" data-pick="{escape(slot.id)}" data-slot="{escape(slot.id)}" class="{slot.state}">'
        f'<span class="text">{escape(slot.text)}</span></button></li>'
        for slot in list(reversed(slots))[:LISTED]
    )
    more = f'<p class="empty">… and {len(slots) - LISTED:,} more.</p>' if len(slots) > LISTED else ""
    return f"<ul>{rows}</ul>{more}"
