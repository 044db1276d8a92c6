"""What the buttons of a memory do, in the table and on its own page: a few calls of the public API each."""

from __future__ import annotations

import gradio as gr

from mam.errors import InputError
from mam.space import Space
from mam.values import ACTIVE, DELETED, Slot
from mam.web.desk import sent, sent_slots
from mam.web.report import certificate, listed

EACH = {  # what is done to every chosen memory: the call, and what is said afterwards of one and of several
    "delete": (Space.delete, "In the trash. It is not read any more."),
    "restore": (Space.restore, "Remembered again."),
    "archive": (Space.archive, "Put away. It is not read any more."),
    "pin": (Space.pin, "Pinned: it never has to make room for others."),
    "unpin": (lambda m, id: m.pin(id, False), "Not pinned any more."),
}


def changed(m: Space, event: gr.EventData) -> str:
    """Do what a button says; returns a report to show, or an empty text. Raises InputError for any other button."""
    act, ids = sent(event, "act"), sent_slots(event)
    if act in EACH:
        was = [m.slot(id) for id in ids] if act == "delete" else []
        change, said = EACH[act]
        with m.writing():  # one change: undone together
            for id in ids:
                change(m, id)
        gr.Info(said if len(ids) == 1 else f"{len(ids)} memories: {said[0].lower()}{said[1:]}")
        return _still_said(m, was)
    elif act == "edit":
        was = m.slot(ids[0])
        m.edit(was.id, sent(event, "text"), version=_number(sent(event, "version")))
        gr.Info("Changed. It counts from the next word on.")
        return _still_said(m, [was])
    elif act in ("tag", "untag"):
        _tag(m, ids, sent(event, "tag").strip(), act == "tag")
    elif act == "merge":
        text = sent(event, "text").strip()
        kept = m.merge(*ids, text=text if text != m.slot(ids[0]).text else None)
        return listed("Merged", f"{len(ids)} memories became one; undo brings the others back.", [kept], undo=True)
    elif act == "purge":
        return certificate(m.purge(*ids))
    else:
        raise InputError(f"There is no button {act!r}.")
    return ""


def undone(m: Space) -> str:
    """Take back the last change; returns a report of what came back."""
    back = m.undo()
    words = {ACTIVE: "is remembered", DELETED: "is in the trash"}
    note = "The last change was taken back. This is what these memories are now:"
    return listed("Undone", note, back, lambda slot: words.get(slot.state, f"is {slot.state}"), undo=True)


def _still_said(m: Space, changed: list[Slot]) -> str:
    """A report of the memories that keep saying what others said until now; empty if there are none."""
    others = {other.id: other for was in changed for other in m.repeating(was)}
    note = "These memories hold the same words and stay as they are. Change them, too, if they are not to be read:"
    return listed("Still said elsewhere", note, list(others.values())) if others else ""


def _tag(m: Space, ids: list[str], tag: str, add: bool) -> None:
    """Add a tag or take one away, to or from the tags that each memory has now: another tab may have changed them."""
    with m.writing():
        for id in ids:
            slot: Slot = m.slot(id)
            others = [other for other in slot.tags if other != tag]
            m.tag(id, *(dict.fromkeys([*slot.tags, tag]) if add else others))


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InputError("The page sent something that mam does not understand; load it again.")
    return int(text)
