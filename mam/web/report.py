"""What came of a change, shown over the page until it is closed: certificates, undone and merged memories."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape

import gradio as gr

from mam.values import Certificate, Check, Merged, Slot
from mam.web.here import Here, script

MOST = 100  # memories, files or groups that are listed one by one


class Report:
    def view(self, here: Here) -> None:
        self.sheet = gr.HTML("", js_on_load=script("report.js"), elem_id="report")


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def sheet(title: str, body: str, buttons: str = "") -> str:
    """A report; `body` and `buttons` are HTML."""
    return (
        f'<article class="sheet" aria-label="{escape(title)}"><header><h2>{escape(title)}</h2>'
        f'<button data-act="close" class="close" aria-label="Close">×</button></header>{body}'
        f'<p class="buttons">{buttons}</p></article>'
    )


def working(title: str) -> Callable[[str], str]:
    """A function that makes a report of a progress bar."""
    return lambda bar: sheet(title, bar)


def listed(
    title: str, note: str, slots: Sequence[Slot], word: Callable[[Slot], str] | None = None, undo: bool = False
) -> str:
    """Memories, each with what became of it."""

    def line(slot: Slot) -> str:
        small = f"<small>{escape(word(slot))}</small>" if word else ""
        return f'<li><span class="text">{escape(slot.text)}</span>{small}</li>'

    more = f'<p class="note">and {len(slots) - MOST:,} more</p>' if len(slots) > MOST else ""
    body = f'<p class="note">{escape(note)}</p><ul class="lines">{"".join(map(line, slots[:MOST]))}</ul>{more}'
    return sheet(title, body, '<button data-act="undo">Undo the last change</button>' if undo else "")


def duplicates(found: Sequence[Merged]) -> str:
    """What would be merged, before it is."""
    if not found:
        note = "No two memories say the same."
        return sheet("Duplicates", f'<p class="empty">{note}</p>')

    def group(merged: Merged) -> str:
        others = "".join(f"<li><s>{escape(slot.text)}</s></li>" for slot in merged.others)
        return (
            f'<section class="group"><p class="text">{escape(merged.kept.text)}</p><ul class="lines">{others}</ul>'
            f"<small>alike to {merged.similarity:.2f} of 1</small></section>"
        )

    note = f"{_count(len(found), 'group')} of memories that say the same. The first of each stays, the others are kept "
    note += "as replaced and are not read any more. Undo takes it back."
    more = f'<p class="note">and {len(found) - MOST:,} more</p>' if len(found) > MOST else ""
    body = f'<p class="note">{note}</p>{"".join(map(group, found[:MOST]))}{more}'
    return sheet("Duplicates", body, '<button data-act="consolidate" class="strong">Merge them</button>')


def imported(name: str, new: int, bad: Sequence[tuple[int, str]], unit: str) -> str:
    """What a file brought in, and which of its lines could not be read."""
    note = f"{escape(name)}: {_count(new, 'new memory', 'new memories')}."
    if not new:
        note += " What it holds is here already, or is nothing to remember."
    body = f'<p class="note">{note}</p>'
    if bad:
        lines = "".join(f"<li>{unit} {number}: {escape(why)}</li>" for number, why in bad[:MOST])
        more = f"<li>and {len(bad) - MOST:,} more</li>" if len(bad) > MOST else ""
        body += f'<h3>Left out</h3><p class="note">These could not be read.</p><ul class="lines">{lines}{more}</ul>'
    return sheet("Imported", body, '<button data-act="undo">Undo the last change</button>' if new else "")


def certificate(done: Certificate) -> str:
    """What was removed and what was checked, in words and as a file to keep."""
    removed = [
        _count(len(done.slots), "memory", "memories") + ", with any that held nothing but the same words",
        _count(done.versions, "earlier or present wording", "earlier and present wordings"),
        _count(done.keys, "vector"),
        _count(done.turns, "message that quoted it", "messages that quoted it"),
    ]
    if done.sessions:
        removed.append(_count(len(done.sessions), "conversation"))
    sure = f"Searched as {escape(', '.join(done.encodings))}. The words are in none of these:"
    files = "".join(
        f'<tr><td>{escape(place.name)}</td><td class="number">{place.size:,}</td>'
        f"<td><code title='{escape(place.sha256)}'>{escape(place.sha256[:12])}…</code></td></tr>"
        for place in done.searched[:MOST]
    )
    text = json.dumps(asdict(done), indent=2, default=str)
    name = f"purge-{done.at:%Y%m%d-%H%M%S}.json"
    body = (
        f'<p class="note">{done.at.astimezone():%d %b %Y, %H:%M:%S}. This cannot be undone.</p>'
        f'<h3>Removed for good</h3><ul class="lines">{"".join(f"<li>{part}</li>" for part in removed)}</ul>'
        f"{_checks(done)}"
        f'<h3>Files searched</h3><p class="note">{sure}</p><table class="files"><thead><tr><th>File</th>'
        f'<th class="number">Size</th><th>SHA-256</th></tr></thead><tbody>{files}</tbody></table>'
        '<p class="note">Files that you exported, and backups of your own, are out of its reach.</p>'
    )
    button = f'<button data-act="save" data-name="{escape(name)}" data-file="{escape(text)}">Download as JSON</button>'
    return sheet("Certificate of the purge", body, button)


def _checks(done: Certificate) -> str:
    if done.unasked:
        return f'<h3>Does it still know?</h3><p class="note">{escape(done.unasked)}</p>'
    if not done.checks:
        return ""
    note = (
        "The language model was asked to go on where the memory’s last words begin. The bars show how likely it found "
        "exactly these words."
    )
    return f'<h3>Does it still know?</h3><p class="note">{note}</p>{"".join(map(_check, done.checks))}'


def _check(check: Check) -> str:
    ways = (
        ("with the whole memory, before", check.full),
        ("with this one switched off", check.off),
        ("after the purge", check.deleted),
    )
    bars = "".join(
        f'<div class="bar"><span>{label}</span><span class="value">{_percent(value)}</span>'
        f'<span class="track"><span style="width:{min(value, 1) * 100:.1f}%"></span></span></div>'
        for label, value in ways
    )
    verdict = "Passed: it knows no more than without it." if check.passed else "Failed: it still says these words."
    kind = "passed" if check.passed else "failed"
    return f'<div class="check {kind}"><small>memory {escape(check.slot)}</small>{bars}<p>{verdict}</p></div>'


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %" if value >= 0.1 else f"{value * 100:.1f} %" if value >= 0.001 else "under 0.1 %"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
