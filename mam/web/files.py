"""In and out: files into the memory, the memory into a file, and what is to be gone for good.

No file passes through gradio's cache, which every user of the page could read: an upload comes inside an event of the
one who sends it and lies in a private folder only while it is read; an export goes to the one who asks as a value, and
the browser makes the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path

import gradio as gr

from mam.documents import PLAIN
from mam.errors import InputError, MamError
from mam.exchange import is_export
from mam.space import Progress, Space
from mam.values import Session
from mam.web.carry import clean_name
from mam.web.desk import Desk, plainly, sent
from mam.web.here import MEMORY, QUIET, Here, script
from mam.web.report import Report, certificate, imported, working
from mam.web.work import followed

LARGEST = 30_000_000  # bytes of an upload: it travels inside a message
DOCUMENTS = (*PLAIN, ".pdf")
MEMORIES = (".jsonl", ".json")
WORD = "EVERYTHING"  # to be typed before everything is purged


class Files:
    def __init__(self, desk: Desk):
        self.desk = desk

    def act(self, event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        """A button: a file in or out, or a purge; yields (data version, report, file to save, open memory, turn)."""
        m, act, same = self.desk.space(request), sent(event, "act"), gr.skip()
        if act == "import":
            name, content = _upload(event)
            title = f"Importing {name}"
            added, bad, unit = yield from followed(
                lambda told: _taken_in(m, name, content, told),
                lambda bar: (same, working(title)(bar), same, same, same),
            )
            yield m.version(), imported(name, added, bad, unit), same, same, same
        elif act == "export":
            yield same, same, _export(m, sent(event, "what") == "complete"), same, same
        elif act == "purge-session":
            done = m.purge_session(sent(event, "session"))
            yield m.version(), certificate(done), same, None, None
        elif act == "purge-everything":
            if sent(event, "word") != WORD:
                raise InputError(f"Type {WORD} to purge everything; nothing was purged.")
            done = m.purge_everything()
            yield m.version(), certificate(done), same, None, None
        else:
            raise InputError(f"There is no button {act!r}.")

    def bar(self, tab: str, request: gr.Request) -> str:
        if tab != MEMORY:
            return gr.skip()
        return panel([known for known in self.desk.space(request).sessions() if known.turns])

    def view(self, here: Here) -> None:
        self.panel = gr.HTML(panel([]), js_on_load=script("dialog.js") + script("files.js"), elem_id="files")
        self.out = gr.HTML("", html_template="<i></i>", js_on_load=script("download.js"), elem_id="out")

    def wire(self, here: Here, report: Report) -> None:
        for happens in (here.version.change, here.tab.change):
            happens(plainly(self.bar), here.tab, self.panel, **QUIET)
        outputs = [here.version, report.sheet, self.out, here.slot, here.turn]
        self.panel.select(plainly(self.act), None, outputs, **QUIET)


def _upload(event: gr.EventData) -> tuple[str, bytes]:
    """Name and content of a file that a browser sent."""
    name = clean_name(sent(event, "name"))
    data = sent(event, "data")
    if Path(name).suffix.lower() not in (*DOCUMENTS, *MEMORIES):
        raise InputError(
            f"{name or 'This file'} is of no kind that can be imported; {', '.join((*MEMORIES, *DOCUMENTS))} can."
        )
    if len(data) > LARGEST * 4 // 3 + 4:
        raise InputError(f"{name} is larger than {LARGEST // 1_000_000} MB; import it with the command line instead.")
    try:
        return name, base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name} did not arrive whole; choose it again.") from error


def _taken_in(m: Space, name: str, content: bytes, progress: Progress) -> tuple[int, list[tuple[int, str]], str]:
    """Import a file; returns how many memories are new, the parts that were left out with why, and what they are."""
    bad: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory(prefix="mam-import-") as folder:  # only its owner may look into it
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            if path.suffix.lower() in DOCUMENTS:
                return len(m.ingest(path, progress)), bad, "line"
            unit = "line" if is_export(path) else "message"
            new = m.import_(path, lambda number, why: bad.append((number, why)), progress)
            return len(new), bad, unit
        except MamError as error:  # people know the file by its name, not by where it lay for a moment
            raise type(error)(str(error).replace(str(path), name)) from error


def _export(m: Space, complete: bool) -> str:
    """An exported memory for the browser to save."""
    user = re.sub(r"\W+", "-", m.user)[:40]
    name = f"mam-{user}-{datetime.now():%Y-%m-%d}{'-complete' if complete else ''}.jsonl"
    made = {"name": name, "text": m.exported(complete=complete), "made": time.time_ns()}  # another one each time
    return json.dumps(made)


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def panel(sessions: list[Session]) -> str:
    """Buttons for files, and below them what cannot be undone."""
    choices = "".join(f'<option value="{escape(known.id)}">{escape(known.title)}</option>' for known in sessions)
    accept = ",".join((*MEMORIES, *DOCUMENTS))
    whole = f'<select aria-label="Conversation to purge">{choices}</select>'
    whole += '<button data-act="purge-session">Purge it …</button>'
    return (
        '<div class="files-bar"><section><h3>Bring in</h3>'
        '<p class="note">An exported memory, a chat export or LoCoMo file (.jsonl, .json), or a document '
        "(.txt, .md, .pdf), up to 30 MB. Drop it here or choose it.</p>"
        f'<label class="button">Choose a file …<input type="file" accept="{accept}" class="unseen"></label></section>'
        '<section><h3>Take out</h3><p class="note">A file of JSON lines that mam, or any other program, can read.</p>'
        '<button data-act="export">Export …</button></section>'
        '<section class="danger"><h3>Purge for good</h3><p class="note">Overwrites words and vectors everywhere in the '
        "data folder and shows a certificate. Nothing brings them back.</p>"
        f"{f'<div>{whole}</div>' if sessions else ''}"
        f'<button data-act="purge-everything" data-word="{WORD}">Purge everything …</button></section></div>'
    )
