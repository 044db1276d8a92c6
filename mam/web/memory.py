"""The memory: a table of all slots, found, sorted and changed where they stand; changes count from the next word on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

import gradio as gr

from mam.errors import InputError
from mam.space import Space
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, USER, Found, Slot
from mam.web.changes import changed, undone
from mam.web.desk import Desk, plainly, sent
from mam.web.here import MEMORY, QUIET, Here, script
from mam.web.report import Report, duplicates, listed, working
from mam.web.work import followed

SHOWN = {"Remembered": ACTIVE, "Replaced": SUPERSEDED, "Put away": ARCHIVED, "Trash": DELETED, "All": None}
STATES = {ACTIVE: "remembered", SUPERSEDED: "replaced", ARCHIVED: "put away", DELETED: "in the trash"}
BY = {"containing": "text", "by meaning": "reader", "by words": "words", "by id": "id"}
ORDERS = {
    "Newest first": "newest", "Oldest first": "oldest", "Most read first": "most read",
    "Surest first": "gate score", "A to Z": "alphabetical",
}  # fmt: skip
ROWS = 50  # of the table at once
ANY = ""  # value of a filter that lets everything through
FIRST = ("Remembered", "", "text", "newest", ANY, ANY, ANY, False)  # what the table shows at first
BLANK = (FIRST, 0, None)  # nothing of it is drawn yet


class Memory:
    def __init__(self, desk: Desk):
        self.desk = desk

    # -- looking --------------------------------------------------------------------------------------------------

    def table(
        self,
        page: int,
        before: tuple,
        tab: str,
        shown: str,
        query: str,
        by: str,
        order: str,
        tag: str,
        origin: str,
        session: str,
        pinned: bool,
        request: gr.Request,
    ) -> tuple[str, int, tuple]:
        """The rows of a page of what is looked for, from its beginning when that is not what it was `before`.

        Returns (rows, page, what is drawn now: what is looked for, page and data version).
        """  # fmt: skip
        if tab != MEMORY:
            return (gr.skip(),) * 3
        if shown not in SHOWN:
            raise InputError(f"There is no list {shown!r}.")
        m, looking = self.desk.space(request), (shown, query, by, order, tag, origin, session, pinned)
        version = m.version()
        if tuple(before) == (looking, page, version):
            return (gr.skip(),) * 3
        filters = {"tag": tag or None, "session": session or None, "pinned": pinned or None}
        kind, _, name = origin.partition(":")
        if kind in ("speaker", "document"):
            filters[kind] = name
        filters = {name: value for name, value in filters.items() if value is not None}
        page = page if before[0] == looking else 0
        found = m.find(query, by, SHOWN[shown], order=order, offset=page * ROWS, limit=ROWS, **filters)
        if found.total and not found.slots:  # so much was deleted meanwhile that this page is no more
            page = (found.total - 1) // ROWS
            found = m.find(query, by, SHOWN[shown], order=order, offset=page * ROWS, limit=ROWS, **filters)
        ranked = query.strip() and by in ("reader", "words")
        note = "Best first; only what is remembered is searched." if ranked else ""
        narrowed = bool(filters or query.strip() or shown != FIRST[0])
        return slots(found, page, note, narrowed, _capacity(m)), page, (looking, page, version)

    def choices(self, tab: str, tag: str, origin: str, session: str, request: gr.Request) -> tuple:
        """What there is to choose from in the filters now; a choice that is gone is let go."""
        if tab != MEMORY:
            return (gr.skip(),) * 3
        m = self.desk.space(request)
        speakers, documents = m.origins()
        tags = [("Any tag", ANY), *((f"{name} ({count:,})", name) for name, count in m.tags().items())]
        told = [("From anyone", ANY), *((_speaker(name), f"speaker:{name}") for name in speakers)]
        told += [(f"File: {name}", f"document:{name}") for name in documents]
        talks = [("Any conversation", ANY), *((known.title, known.id) for known in m.sessions() if known.turns)]

        def update(known: list[tuple[str, str]], value: str):
            gone = {} if value in [item for _, item in known] else {"value": ANY}
            return gr.update(choices=known, **gone)  # the value is not sent back: another may be chosen meanwhile

        return update(tags, tag), update(told, origin), update(talks, session)

    # -- changing -------------------------------------------------------------------------------------------------

    def act(self, event: gr.EventData, request: gr.Request, page: int, *looking) -> tuple:
        """A button of the table; returns (data version, report, open memory, turn, and what `table` returns)."""
        m, same = self.desk.space(request), gr.skip()
        act = sent(event, "act")
        if act == "open":
            return same, same, m.slot(sent(event, "slot")).id, same, same, same, same
        if act == "page":
            return same, same, same, same, same, max(sent(event, "page", int), 0), same
        report = changed(m, event)
        looked = None if act == "purge" else same  # the turn on show may quote what was purged
        # the table goes back with the answer: waiting for the new data version to ask for it would take twice as long
        return m.version(), report or same, same, looked, *self.table(page, *looking, request)

    def add(self, text: str, request: gr.Request) -> tuple[str, int]:
        m = self.desk.space(request)
        m.add(text)
        gr.Info("Remembered. It counts from the next word on.")
        return "", m.version()

    def undo(self, request: gr.Request) -> tuple[int, str]:
        m = self.desk.space(request)
        report = undone(m)
        return m.version(), report

    def duplicates(self, request: gr.Request) -> Iterator[str]:
        """What says the same, for somebody to look at before it is merged."""
        m = self.desk.space(request)
        yield duplicates((yield from followed(lambda told: m.consolidate(preview=True, progress=told), _comparing)))

    def report(self, event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        """A button of a report: close it, undo, or merge what it lists; (data version, report)."""
        m, act = self.desk.space(request), sent(event, "act")
        if act == "close":
            yield gr.skip(), ""
        elif act == "undo":
            yield self.undo(request)
        elif act == "consolidate":
            step = yield from followed(
                lambda told: m.consolidate(progress=told), lambda bar: (gr.skip(), _comparing(bar))
            )
            note = "These stay; what said the same is kept as replaced and is not read any more."
            yield m.version(), listed("Merged", note, [merged.kept for merged in step], undo=True)
        else:
            raise InputError(f"There is no button {act!r}.")

    # -- where it all is ------------------------------------------------------------------------------------------

    def view(self, here: Here) -> None:
        self.page, self.before = gr.State(0), gr.State(BLANK)
        with gr.Row(elem_id="by-hand", equal_height=True):
            self.note = gr.Textbox(
                placeholder="Add a memory by hand …", show_label=False, container=False, max_lines=3, scale=8,
                elem_id="note", label="New memory",
            )  # fmt: skip
            self.keep = gr.Button("Add", scale=1, min_width=84, elem_id="add")
        with gr.Row(elem_id="search", equal_height=True):
            self.find = gr.Textbox(
                value="", placeholder="Search the memory …", show_label=False, container=False, max_lines=1, scale=6,
                min_width=200, elem_id="find", label="Search",
            )  # fmt: skip
            self.by = _choice(BY, "How to search", 2, 130)
            self.order = _choice(ORDERS, "Order", 2, 150)
        with gr.Row(elem_id="tools", equal_height=True):
            self.shown = gr.Radio(
                list(SHOWN), value=FIRST[0], show_label=False, container=False, scale=3, min_width=380, label="State"
            )
            self.back = gr.Button("Undo the last change", size="sm", elem_id="undo", scale=0, min_width=150)
            self.same = gr.Button("Find duplicates", size="sm", elem_id="duplicates", scale=0, min_width=120)
        with gr.Row(elem_id="filters", equal_height=True):
            self.tag = _choice({"Any tag": ANY}, "Tag", 2, 120)
            self.origin = _choice({"From anyone": ANY}, "Told by, or document", 2, 130)
            self.session = _choice({"Any conversation": ANY}, "Conversation", 3, 160)
            self.pinned = gr.Checkbox(False, label="Pinned only", container=False, scale=1, min_width=110)
            self.clear = gr.Button("Clear", size="sm", elem_id="clear", scale=0, min_width=70)
        code = script("dialog.js") + script("slots.js")
        self.rows = gr.HTML("", js_on_load=code, css_template=script("slots.css"), elem_id="slots")

    def wire(self, here: Here, report: Report) -> None:
        filters = [self.shown, self.find, self.by, self.order, self.tag, self.origin, self.session, self.pinned]
        shows = [self.rows, self.page, self.before]
        latest = QUIET | {"trigger_mode": "always_last"}  # of many letters typed quickly the last one counts
        changes = [control.change for control in (here.version, here.tab, self.page, *filters)]
        ordered = {"concurrency_id": "table", "concurrency_limit": 1}  # or an older answer could come last and stay
        for happens in changes:
            happens(plainly(self.table), [self.page, self.before, here.tab, *filters], shows, **latest, **ordered)
        for happens in (here.version.change, here.tab.change):
            own = [self.tag, self.origin, self.session]
            happens(plainly(self.choices), [here.tab, *own], own, **latest)
        # in the browser: a filter set while a server was still at it would be cleared, too
        self.clear.click(None, None, filters, js=f"() => {json.dumps(FIRST)}", **QUIET)
        self.rows.select(
            plainly(self.act),
            [self.page, self.before, here.tab, *filters],
            [here.version, report.sheet, here.slot, here.turn, *shows],
            **QUIET,
        )
        for happens in (self.note.submit, self.keep.click):
            happens(plainly(self.add), self.note, [self.note, here.version], **QUIET)
        self.back.click(plainly(self.undo), None, [here.version, report.sheet], **QUIET)
        self.same.click(plainly(self.duplicates), None, report.sheet, **QUIET)
        report.sheet.select(plainly(self.report), None, [here.version, report.sheet], **QUIET)


def _choice(known: dict[str, str], label: str, scale: int, width: int) -> gr.Dropdown:
    return gr.Dropdown(
        list(known.items()), value=next(iter(known.values())), label=label, show_label=False, container=False,
        scale=scale, min_width=width, filterable=False,
    )  # fmt: skip


def _comparing(bar: str) -> str:
    return working("Looking for duplicates")(bar)


def _capacity(m: Space) -> tuple[int, int] | None:
    """(active slots, how many there may be) where there is a bound."""
    bound = m.about().get("capacity")
    return (m.count(), int(bound)) if bound else None


def _speaker(name: str) -> str:
    return "You" if name == USER else name


# -- HTML; every text is escaped here -----------------------------------------------------------------------------

COLUMNS = ("Memory", "Told", "Read", "State", "Tags")
BULK = {
    "delete": "Delete", "restore": "Restore", "tag": "Tag …", "pin": "Pin", "merge": "Merge …", "purge": "Purge …"
}  # fmt: skip


def slots(
    found: Found, page: int = 0, note: str = "", narrowed: bool = False, capacity: tuple[int, int] | None = None
) -> str:
    """A page of a table of memories; its buttons carry the slot and the version that was shown."""
    summary = _summary(found, note, capacity)
    if not found.slots:
        return summary + _nothing(narrowed)
    chosen = "".join(f'<button data-bulk="{act}">{label}</button>' for act, label in BULK.items())
    bulk = f'<div class="bulk" role="toolbar" aria-label="Chosen memories" hidden><b></b>{chosen}'
    bulk += '<button data-bulk="none">Choose none</button></div>'
    ticks = '<th class="tick"><input type="checkbox" data-all aria-label="Choose all on this page"></th>'
    head = ticks + "".join(f'<th class="{name.lower()}" scope="col">{name}</th>' for name in COLUMNS)
    head += '<th class="actions"><span class="unseen">What to do</span></th>'
    rows = "".join(map(_row, found.slots))
    return (
        f'{summary}{bulk}<table class="slots"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"{_pager(found, page)}"
    )


def _summary(found: Found, note: str, capacity: tuple[int, int] | None) -> str:
    count = f"{found.total:,} {'memory' if found.total == 1 else 'memories'}"
    bound = ""
    if capacity:
        share = min(capacity[0] / capacity[1], 1) * 100
        bound = (
            f'<span class="capacity">{capacity[0]:,} of at most {capacity[1]:,} remembered'
            f'<span class="track"><span style="width:{share:.1f}%"></span></span></span>'
        )
    return f'<p class="summary" role="status"><b>{count}</b> {escape(note)}{bound}</p>'


def _nothing(narrowed: bool) -> str:
    if narrowed:
        return '<p class="blank"><b>Nothing matches.</b> Look for something else, or clear the filters.</p>'
    return (
        '<p class="blank"><b>Nothing is remembered yet.</b> Tell it something about you in the conversation, add a '
        "memory by hand above, or import a file below.</p>"
    )


def _pager(found: Found, page: int) -> str:
    if found.total <= ROWS:
        return ""
    first = page * ROWS + 1
    last = first + len(found.slots) - 1
    ends = (found.total - 1) // ROWS

    def button(to: int, label: str, off: bool) -> str:
        return f'<button data-page="{to}"{" disabled" if off else ""}>{label}</button>'

    return (
        '<nav class="pager" aria-label="Pages">'
        f"{button(0, 'First', page == 0)}{button(page - 1, 'Previous', page == 0)}"
        f"<span>{first:,}–{last:,} of {found.total:,}</span>"
        f"{button(page + 1, 'Next', page >= ends)}{button(ends, 'Last', page >= ends)}</nav>"
    )


def _row(slot: Slot) -> str:
    origin = [] if slot.speaker == USER else [escape(slot.speaker)]
    origin += [escape(slot.position)] if slot.position else []
    origin += [f"you said: “{escape(slot.said)}”"] if slot.said != slot.text and slot.speaker == USER else []
    origin += [f"edited {slot.version - 1}×"] if slot.version > 1 else []
    below = f"<small>{' · '.join(origin)}</small>" if origin else ""
    told = slot.told.astimezone()
    return (
        f'<tr data-slot="{escape(slot.id)}" data-version="{slot.version}" class="{slot.state}">'
        f'<td class="tick"><input type="checkbox" aria-label="Choose: {escape(slot.text[:80])}"></td>'
        f'<td class="memory"><button class="text" data-act="open">{escape(slot.text)}</button>{below}</td>'
        f'<td class="told" title="{told:%d %b %Y, %H:%M}">{told:%d %b %Y}</td>'
        f'<td class="read">{f"{slot.reads:,}×" if slot.reads else "–"}</td>'
        f'<td class="state">{STATES[slot.state]}</td><td class="tags">{chips(slot)}</td>'
        f'<td class="actions">{buttons(slot, ("edit", "delete", "restore"))}{star(slot)}</td></tr>'
    )


LABELS = {"edit": "Edit", "delete": "Delete", "restore": "Restore", "archive": "Put away", "purge": "Purge …"}


def buttons(slot: Slot, acts: Sequence[str]) -> str:
    """Of these buttons the ones that make sense for a memory in its state."""
    useless = {
        "edit": slot.state == DELETED, "delete": slot.state == DELETED, "restore": slot.state == ACTIVE,
        "archive": slot.state != ACTIVE,
    }  # fmt: skip
    return "".join(f'<button data-act="{act}">{LABELS[act]}</button>' for act in acts if not useless.get(act))


def star(slot: Slot) -> str:
    """The button that pins a memory, or unpins it."""
    label = "Pinned: never put away to make room. Unpin it" if slot.pinned else "Pin: never put it away to make room"
    return (
        f'<button class="star" data-act="{"unpin" if slot.pinned else "pin"}" aria-pressed="{str(slot.pinned).lower()}"'
        f' aria-label="{label}" title="{label}">{"★" if slot.pinned else "☆"}</button>'
    )


def chips(slot: Slot) -> str:
    """The tags of a memory, each with a button that takes it away, and one to add another."""
    found = "".join(
        f'<span class="chip">{escape(tag)}<button data-act="untag" data-tag="{escape(tag)}"'
        f' aria-label="Take away the tag {escape(tag)}">×</button></span>'
        for tag in slot.tags
    )
    return f'{found}<button class="chip add" data-act="tagging" aria-label="Add a tag" title="Add a tag">+</button>'
