"""What came of a change, shown over the page until it is closed: certificates, undone and merged memories."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape

import gradio as gr

from mam.packs import values as packs
from mam.values import Certificate, Check, Merged, Searched, Slot
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
    body = (
        f'<p class="note">{done.at.astimezone():%d %b %Y, %H:%M:%S}. This cannot be undone.</p>'
        f'<h3>Removed for good</h3><ul class="lines">{"".join(f"<li>{part}</li>" for part in removed)}</ul>'
        f"{_checks(done)}"
        f'<h3>Files searched</h3><p class="note">{sure}</p>{_searched(done.searched)}'
        '<p class="note">Files that you exported, and backups of your own, are out of its reach.</p>'
    )
    return sheet("Certificate of the purge", body, _saved("purge", done))


def deletion(done: packs.Certificate) -> str:
    """What was taken out of a pack and its weights, and what the weights that are left were made of."""
    removed = [escape(name) for name in done.documents]
    removed.append(_count(done.reflections, "question that was made of it", "questions that were made of it"))
    removed.append(_count(len(done.discarded), "adapter that had learned from it", "adapters that had learned from it"))
    rows = "".join(
        f"<tr><td>{escape(one.shard)}</td><td>{escape(', '.join(one.documents))}</td>"
        f"<td>{_hash(one.training)}</td><td>{_hash(one.adapter)}</td></tr>"
        for one in done.surviving[:MOST]
    )
    left = '<p class="note">No weights are left.</p>'
    if rows:
        left = (
            '<p class="note">All weights that are left, each with the hash of the training set it was made of: the '
            'text is in none of these, so it took part in none of them.</p><table class="files"><thead><tr>'
            "<th>Shard</th>"
            f"<th>Documents</th><th>Training set</th><th>Adapter</th></tr></thead><tbody>{rows}</tbody></table>"
        )
    asked = (
        "The memory LM was asked questions that it had learned from this. The bars show how likely it found exactly "
    )
    asked += "these answers."
    ways = ("with the shard as it was", "with no adapter at all", "with the shard trained anew")
    verdicts = (
        "Passed: it knows no more than without it.",
        "It still says this: what the pack is made of now holds the same.",
    )
    checks = "".join(_check(check, "question", ways, verdicts) for check in done.checks)
    checks = f'<h3>Does it still know?</h3><p class="note">{asked}</p>{checks}' if checks else ""
    when = f"{done.at.astimezone():%d %b %Y, %H:%M:%S}"
    body = (
        f'<p class="note">Pack {escape(done.pack)}, {when}. This cannot be undone.</p>'
        f'<h3>Taken out</h3><ul class="lines">{"".join(f"<li>{part}</li>" for part in removed)}</ul>'
        f'<h3>Weights that are left</h3><p class="note">{escape(done.says)}</p>{left}{checks}'
        f'<h3>Files searched</h3><p class="note">The text is in none of these files of the pack:</p>'
        f"{_searched(done.searched)}"
        '<p class="note">Replies that quoted the pack, packs that you exported, and backups are out of its reach.</p>'
    )
    return sheet("Certificate of what was taken out", body, _saved("pack-certificate", done))


def _searched(places: Sequence[Searched]) -> str:
    files = "".join(
        f'<tr><td>{escape(place.name)}</td><td class="number">{place.size:,}</td><td>{_hash(place.sha256)}</td></tr>'
        for place in places[:MOST]
    )
    return (
        '<table class="files"><thead><tr><th>File</th><th class="number">Size</th><th>SHA-256</th></tr></thead>'
        f"<tbody>{files}</tbody></table>"
    )


def _hash(sha256: str) -> str:
    return f"<code title='{escape(sha256)}'>{escape(sha256[:12])}…</code>"


def _saved(kind: str, done: Certificate | packs.Certificate) -> str:
    """The button that makes a file of a certificate."""
    text, name = json.dumps(asdict(done), indent=2, default=str), f"{kind}-{done.at:%Y%m%d-%H%M%S}.json"
    return f'<button data-act="save" data-name="{escape(name)}" data-file="{escape(text)}">Download as JSON</button>'


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


WAYS = ("with the whole memory, before", "with this one switched off", "after the purge")
VERDICTS = ("Passed: it knows no more than without it.", "Failed: it still says these words.")


def _check(check: Check, what: str = "memory", ways: Sequence[str] = WAYS, verdicts: tuple[str, str] = VERDICTS) -> str:
    """ways: what the three numbers of a check are; verdicts: when it is passed, and when not."""
    bars = "".join(
        f'<div class="bar"><span>{label}</span><span class="value">{_percent(value)}</span>'
        f'<span class="track"><span style="width:{min(value, 1) * 100:.1f}%"></span></span></div>'
        for label, value in zip(ways, (check.full, check.off, check.deleted), strict=True)
    )
    kind, verdict = ("passed", verdicts[0]) if check.passed else ("failed", verdicts[1])
    return f'<div class="check {kind}"><small>{what} {escape(check.slot)}</small>{bars}<p>{verdict}</p></div>'


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %" if value >= 0.1 else f"{value * 100:.1f} %" if value >= 0.001 else "under 0.1 %"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
