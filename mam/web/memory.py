"""The memory: a table of all slots, changed where they stand; every change counts from the next word on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from mam.space import Space
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, USER, Slot
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, Here, script

SHOWN = {"Remembered": ACTIVE, "Replaced": SUPERSEDED, "Put away": ARCHIVED, "Trash": DELETED, "All": None}
STATES = {ACTIVE: "remembered", SUPERSEDED: "replaced", ARCHIVED: "put away", DELETED: "in the trash"}
ROWS = 200  # of the table at once: a browser chokes on ten thousand


class Memory:
    def __init__(self, desk: Desk):
        self.desk = desk

    def table(self, shown: str, find: str, request: gr.Request) -> str:
        return _table(self.desk.space(request), shown, find)

    def change(self, event: gr.EventData, shown: str, find: str, request: gr.Request) -> str:
        """A button of the table: edit, delete or restore; returns the table as it is then."""
        m, act, id = self.desk.space(request), event.act, event.slot
        if act == "edit":
            m.edit(id, event.text, version=int(event.version))
            gr.Info("Changed. It counts from the next word on.")
        elif act == "delete":
            m.delete(id)
            gr.Info("In the trash. It is not read any more.")
        elif act == "restore":
            m.restore(id)
            gr.Info("Remembered again.")
        return _table(m, shown, find)

    def add(self, text: str, shown: str, find: str, request: gr.Request) -> tuple[str, str]:
        m = self.desk.space(request)
        m.add(text)
        return "", _table(m, shown, find)

    def view(self, here: Here) -> None:
        with gr.Row(elem_id="by-hand", equal_height=True):
            self.note = gr.Textbox(
                placeholder="Add a memory by hand …", show_label=False, container=False, max_lines=3, scale=8,
                elem_id="note", label="New memory",
            )  # fmt: skip
            self.keep = gr.Button("Add", scale=1, min_width=84, elem_id="add")
        with gr.Row(elem_id="tools", equal_height=True):
            self.shown = gr.Radio(
                list(SHOWN), value="Remembered", show_label=False, container=False, scale=3, min_width=380
            )
            self.find = gr.Textbox(
                value="", placeholder="Search …", show_label=False, container=False, max_lines=1, scale=1,
                min_width=200, elem_id="find", label="Search",
            )  # fmt: skip
        self.rows = gr.HTML(slots([]), js_on_load=script("slots.js"), elem_id="slots")

    def wire(self, here: Here) -> None:
        which = [self.shown, self.find]
        for happens in (self.shown.change, self.find.change, here.version.change):
            happens(plainly(self.table), which, self.rows, **QUIET)
        self.rows.select(plainly(self.change), which, self.rows, **QUIET)
        for happens in (self.note.submit, self.keep.click):
            happens(plainly(self.add), [self.note, *which], [self.note, self.rows], **QUIET)


def _table(m: Space, shown: str, find: str) -> str:
    found = m.slots(SHOWN[shown], find=find, newest_first=True, limit=ROWS)
    return slots(found, m.count(SHOWN[shown], find=find))


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


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
