"""The HTML of packs: the shelf, one pack with its documents, what is being done to it. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mam.packs.background import FAILED, FINISHED, PAUSED, PAUSING, QUEUED, Job
from mam.packs.values import DAMAGED, READY, Document, Shard
from mam.web.carry import PATH
from mam.web.work import bar

WHAT = (
    "A pack is text that a small language model has learned by heart: it answers with the book closed. Slots say what "
    "they were told and where; a pack may be wrong without any sign of it. Use slots for what changes or must be exact."
)
STAGES = {
    "reflecting": "writing questions with answers, and checking each against its source",
    "training": "learning the answers",
    "evaluating": "asking it with the book closed",
}
WRITERS = {"trained": "The generator of mam (English)", "here": "The language model of this page"}
CHOOSE = '<p class="empty">Choose a pack, or make one: everything about it shows here.</p>'


@dataclass(frozen=True)
class Sight:
    """A pack as it is looked at: read once, so that the page says one thing."""

    name: str
    documents: Sequence[Document] = ()
    shards: Sequence[Shard] = ()
    about: str = ""  # what it was made with
    left: float = 0.0  # seconds that building what is not ready takes from its beginning, roughly
    begun: bool = False  # whether some of that was done before
    damage: str = ""  # why it cannot be read
    stale: bool = False  # whether memories that it was made of are others now
    mounted: bool = False  # in the conversation that goes on
    in_stages: bool = False  # asked there so
    job: Job | None = None  # of this pack

    @property
    def state(self) -> tuple[str, str]:
        """(kind, words)"""
        if self.job and self.job.going:
            words = {QUEUED: "waiting for its turn", PAUSING: "pausing"}
            return "busy", words.get(self.job.state, "being built")
        if self.damage or any(shard.state == DAMAGED for shard in self.shards):
            return "damaged", "damaged"
        if not self.shards:
            return "empty", "empty"
        ready = sum(shard.state == READY for shard in self.shards)
        if self.stale:
            return "waiting", "memories changed since"
        if ready == len(self.shards):
            return "ready", "ready"
        return "waiting", f"{ready} of {len(self.shards)} shards ready" if ready else "not built yet"


def shelf(packs: Sequence[Sight], chosen: str | None) -> str:
    """The packs of a user."""
    if not packs:
        return f'<p class="note">{WHAT}</p><p class="empty">There are no packs yet. Make one below.</p>'

    def line(pack: Sight) -> str:
        kind, words = pack.state
        here = ' aria-current="true"' if pack.name == chosen else ""
        about = f"{count(len(pack.documents), 'document')} · {words}"
        mounted = " · asked in this conversation" if pack.mounted else ""
        return (
            f'<li><button data-act="open" data-pack="{escape(pack.name)}"{here}><span>{escape(pack.name)}</span>'
            f'<small class="{kind}">{about}{mounted}</small></button></li>'
        )

    return f'<p class="note">{WHAT}</p><ul class="shelf">{"".join(map(line, packs))}</ul>'


def form(ticket: str) -> str:
    """What makes a pack, or brings one in. Its files go up by the ticket."""
    writers = "".join(f'<option value="{id}">{words}</option>' for id, words in WRITERS.items())
    return (
        f'<form class="pack-form" data-to="{PATH}/{escape(ticket)}"><h3>Make a pack</h3>'
        '<label>Name<input name="name" maxlength="64" autocomplete="off"></label>'
        '<fieldset><legend class="unseen">Of what</legend>'
        '<label class="choice"><input type="radio" name="source" value="files" checked> of files</label>'
        '<label class="choice"><input type="radio" name="source" value="slots"> of what is remembered</label>'
        "</fieldset>"
        '<label class="files">Files (.txt, .md, .pdf)<input type="file" name="files" multiple accept=".txt,.md,.pdf">'
        "</label><details><summary>More</summary>"
        f'<label>Who writes the questions<select name="writer">{writers}</select></label>'
        "<label>Documents that learn, and are deleted, together"
        '<input type="number" name="shard" value="4" min="1" max="1000"></label>'
        "<label>Times it goes through the questions, at most"
        '<input type="number" name="epochs" value="12" min="1" max="1000"></label>'
        '<p class="note">These count for a new pack. The name of one that is there adds documents to it; a document '
        "with the same name takes the place of the old one.</p></details>"
        '<p class="buttons"><button type="submit" class="strong">Prepare</button>'
        '<label class="button">Bring in a pack …'
        '<input type="file" class="unseen" name="pack" accept=".pack"></label></p>'
        '<p class="note" role="status" data-said></p></form>'
    )


def head(pack: Sight | None) -> str:
    """A pack: what it is, and what can be done."""
    if pack is None:
        return CHOOSE
    kind, words = pack.state
    top = (
        f'<article class="pack" data-of="{escape(pack.name)}"><header><h2>{escape(pack.name)}</h2>'
        f'<span class="state {kind}">{words}</span></header>'
    )
    if pack.damage:
        return (
            f'{top}<p class="note failed">{escape(pack.damage)}</p><p class="buttons">{_button("remove")}</p></article>'
        )
    words = sum(document.words for document in pack.documents)
    learned = sum(shard.reflections for shard in pack.shards if shard.state == READY)
    facts = (
        f"{count(len(pack.documents), 'document')}, {count(words, 'word')}; {count(learned, 'question')} learned, in "
        f"{count(len(pack.shards), 'shard')}. {escape(pack.about)}"
    )
    return f'{top}<p class="note">{facts}</p>{_actions(pack)}</article>'


def _actions(pack: Sight) -> str:
    kind, _ = pack.state
    busy = kind == "busy"
    acts = (["unmount"] if pack.mounted else ["mount", "stages"]) if pack.shards else []
    if kind in ("waiting", "damaged"):
        acts.insert(0, "build")
    if kind == "ready":
        acts.append("export")
    labels = {"build": "Go on building"} if pack.begun else {}
    buttons = "".join(_button(act, act == "build", labels.get(act)) for act in acts)
    buttons += "" if busy else _button("remove")
    note = ""
    if pack.stale:
        note = "Memories that it was made of were edited or deleted since. What had learned from them answers nothing "
        note += "until the pack is built again."
    elif kind in ("waiting", "damaged"):
        whole = " from its beginning; some of that is done" if pack.begun else ""
        note = f"Building what is not ready takes {minutes(pack.left)} on two cores{whole}. You can go on chatting; it "
        note += "will be slower. Whatever stops it, even the end of mam, it goes on from where it was."
    elif kind == "empty":
        note = "All of it was deleted. Add documents under its name, or remove it."
    elif pack.mounted:
        note = "It is asked with every message of the conversation that goes on, and says what it knows."
        if pack.in_stages:
            note = "With every message of the conversation that goes on, the language model finds what to ask it, in "
            note += "stages. All that was asked is under Inside."
    return f'<p class="buttons">{buttons}</p>' + (f'<p class="note">{note}</p>' if note else "")


LABELS = {
    "build": "Build", "mount": "Ask it in this conversation", "stages": "Ask it in stages",
    "unmount": "Ask it no more here", "export": "Export", "remove": "Remove …", "pause": "Pause",
    "certificate": "Show the certificate",
}  # fmt: skip


def _button(act: str, strong: bool = False, label: str | None = None) -> str:
    kind = ' class="strong"' if strong else ' class="danger"' if act == "remove" else ""
    return f'<button type="button" data-act="{act}"{kind}>{label or LABELS[act]}</button>'


def documents(pack: Sight | None) -> str:
    """The documents of a pack, each with the shard that learned it, and what that knows."""
    if pack is None or not pack.documents:
        return ""
    home = {name: shard for shard in pack.shards for name in shard.documents}
    busy = pack.state[0] == "busy"

    def row(document: Document) -> str:
        shard = home[document.name]
        figures = shard.figures if shard.state == READY else {}
        right, declined = (percent(figures[name]) if name in figures else "–" for name in ("right", "declined"))
        others = ", ".join(name for name in shard.documents if name != document.name)
        seconds = sum(shard.seconds.values())
        delete = (
            f'<button type="button" data-act="delete" aria-label="Delete {escape(document.name)} …"'
            f' data-document="{escape(document.name)}" data-others="{escape(others)}"'
            f' data-time="{minutes(seconds) if seconds else ""}">Delete …</button>'
        )
        return (
            f'<tr><td>{escape(document.name)}</td><td class="number">{document.words:,}</td>'
            f'<td class="number">{len(document.sentences):,}</td><td>{escape(shard.id)}, {shard.state}</td>'
            f'<td class="number">{right}</td><td class="number">{declined}</td>'
            f'<td class="actions">{"" if busy else delete}</td></tr>'
        )

    note = (
        "Documents of one shard learn together: deleting one, or a sentence, throws the shard’s weights away and "
        "trains it anew without it. <b>Right</b> and <b>declined</b> are of the whole shard, asked with the book "
        "closed: questions that it learned, and questions without an answer in it."
    )
    head = "".join(f'<th class="number">{name}</th>' for name in ("Words", "Sentences"))
    ends = "".join(f'<th class="number">{name}</th>' for name in ("Right", "Declined"))
    rows = "".join(map(row, pack.documents))
    return (
        f'<div data-of="{escape(pack.name)}"><h3>Documents</h3><p class="note">{note}</p>'
        f'<table class="files docs"><thead><tr><th>Document</th>{head}<th>Shard</th>{ends}'
        f'<th><span class="unseen">What to do</span></th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def work(job: Job | None) -> str:
    """How far what is being done to a pack is, or how it ended."""
    if job is None:
        return ""
    what, done, total = job.step
    stage, _, shard = what.partition(" ")
    if job.going:
        said = f"shard {shard}: {STAGES.get(stage, stage)}" if shard else "beginning"
        left = job.left()
        more = f'<p class="note">{minutes(left).capitalize()} left.</p>' if left and job.state != PAUSING else ""
        if job.state == QUEUED:
            gone = " What was to go is gone already; its weights, too." if job.took() else ""
            waits = f"Another pack is being built; this one follows.{gone}"
            return f'<p class="note" role="status">{waits}</p>{_pausing(job)}'
        return bar(said, done, total) + more + _pausing(job)
    gone = " What was to go is gone already; its shard answers nothing until it is built." if job.took() else ""
    shows = f'<p class="buttons">{_button("certificate")}</p>' if job.took() else ""
    if job.state == FAILED:
        return f'<p class="note failed" role="status">{escape(job.message)}{gone}</p>{shows}'
    if job.state == PAUSED:
        return f'<p class="note" role="status">Paused; nothing is lost. Build goes on from here.{gone}</p>{shows}'
    if job.state == FINISHED and job.result:
        done = "What was to go is gone, out of the text and out of the weights."
        return f'<p class="note" role="status">{done}</p><p class="buttons">{_button("certificate")}</p>'
    return '<p class="note" role="status">Built.</p>'


def _pausing(job: Job) -> str:
    if job.state == PAUSING:
        return '<p class="note">It pauses as soon as this step is done.</p>'
    return f'<p class="buttons">{_button("pause")}</p>'


def asked_here(mounted: Mapping[str, bool]) -> str:
    """The quiet line of a conversation in which packs are mounted."""
    if not mounted:
        return ""
    packs = "".join(
        f'<span>{escape(name)}{" in stages" if in_stages else ""} <button type="button" data-act="unmount"'
        f' data-pack="{escape(name)}" aria-label="Ask {escape(name)} no more">×</button></span>'
        for name, in_stages in mounted.items()
    )
    return f'<p class="mounted">Also asked here: {packs}</p>'


def minutes(seconds: float) -> str:
    """A time that is only roughly known."""
    whole = round(seconds / 60)
    if whole < 1:
        return "less than a minute"
    return f"about {whole} min" if whole < 120 else f"about {whole // 60} h {whole % 60} min"


def count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"
