"""What a pack was taught: its reflections as a table, with their sources and what became of them, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import gradio as gr

from mam import figures
from mam.errors import InputError, MissingError
from mam.packs.values import KINDS, UNKNOWN, Reflection, Sentence
from mam.web.desk import Desk, plainly, sent
from mam.web.here import PACKS, QUIET, Here, script
from mam.web.plot import drawn, plot

ROWS = 30  # of the table at once
ANY = ""  # value of a filter that lets everything through
STEPS = {
    "direct": "Fact", "indirect": "Why and how", "consolidated": "Two facts joined", "entity": "Leading to a name",
    "cross-document": "Across documents", "unanswerable": "Without an answer",
}  # fmt: skip
KEPT = {"All": ANY, "Learned": "yes", "Not learned": "no"}


class Reflections:
    def __init__(self, desk: Desk):
        self.desk = desk

    def table(
        self, page: int, before: tuple, name: str | None, mark: tuple, find: str, document: str, step: str, kept: str,
        request: gr.Request,
    ) -> tuple[str, int, tuple]:  # fmt: skip
        """A page of what is looked for; from its beginning when that is not what it was `before`."""
        looking = (name, find, document, step, kept)
        if name is None or (looking, page, mark) == tuple(before):
            return (gr.skip(),) * 3
        if step not in (ANY, *KINDS) or kept not in KEPT.values():
            raise InputError("There is no such filter.")
        if (pack := self._pack(name, request)) is None:
            return "", 0, (looking, 0, mark)
        how = {"kind": step or None, "document": document or None}
        found = pack.reflections(find.strip(), kept={"yes": True, "no": False}.get(kept), **how)
        page = min(page if before and before[0] == looking else 0, max(len(found) - 1, 0) // ROWS)
        sources = {(d.name, s.number): s for d in pack.documents() for s in d.sentences}
        shown = found[page * ROWS : (page + 1) * ROWS]
        return rows(name, shown, len(found), page, sources, any(looking[1:])), page, (looking, page, mark)

    def choices(self, name: str | None, mark: tuple, document: str, shard: str | None, request: gr.Request) -> tuple:
        """Documents and shards to choose from now; a choice that is gone is let go."""
        if name is None or (pack := self._pack(name, request)) is None:
            return (gr.skip(),) * 2
        known = [document.name for document in pack.documents()]
        documents = [("Any document", ANY), *((each, each) for each in known)]
        gone = {} if document in (ANY, *known) else {"value": ANY}
        ids = pack.store.shard_ids()
        named = [(f"Shard {shard.id}: {', '.join(shard.documents)}"[:80], shard.id) for shard in pack.shards()]
        return gr.update(choices=documents, **gone), gr.update(
            choices=named, value=shard if shard in ids else next(iter(ids), None)
        )

    def curves(self, tab: str, name: str | None, shard: str | None, dark: bool, before: tuple, request: gr.Request):
        """(curves of a shard, what is drawn now); again while it learns."""
        if tab != PACKS or name is None or (pack := self._pack(name, request)) is None:
            return (gr.skip(),) * 2
        found = pack.curves(shard) if shard in pack.store.shard_ids() else {}
        now = (name, shard, dark, max((points[-1][0] for points in found.values()), default=-1))
        if now == tuple(before):
            return (gr.skip(),) * 2
        return drawn(figures.learning(found, dark, held_out=False)) if found else "", now

    def _pack(self, name: str, request: gr.Request):
        """None for one that was removed meanwhile, perhaps in another tab."""
        try:
            return self.desk.space(request).open_pack(name)
        except MissingError:
            return None

    def turned(self, event: gr.EventData) -> int:
        """A button of the pager."""
        return max(sent(event, "page", int), 0) if getattr(event, "act", "") == "page" else gr.skip()

    def view(self, here: Here) -> None:
        self.page, self.before, self.plotted = gr.State(0), gr.State(()), gr.State(())
        self.chosen = gr.State(None)  # shard: the choice itself is refused by gradio once it is none of the choices
        gr.HTML("<h3>What it was taught</h3>", js_on_load=None)
        with gr.Row(elem_id="pack-filters", equal_height=True):
            self.find = gr.Textbox(
                value="", placeholder="Search …", show_label=False, container=False, max_lines=1, scale=3,
                min_width=130, elem_id="pack-find", label="Search the questions",
            )  # fmt: skip
            self.document = _choice({"Any document": ANY}, "Document")
            self.step = _choice({"Any step": ANY} | {STEPS[kind]: kind for kind in KINDS}, "Step")
            self.kept = _choice(KEPT, "Learned or not")
        self.rows = gr.HTML(  # its buttons edit and delete, too: see `packs`
            "", js_on_load=script("dialog.js") + script("packs.js"), elem_id="pack-rows"
        )
        with gr.Row(elem_id="pack-curves-head", equal_height=True):
            gr.HTML("<h3>How it learned</h3>", js_on_load=None)
            self.shard = gr.Dropdown(
                [], label="Shard", show_label=False, container=False, filterable=False, scale=2, min_width=160,
                elem_id="pack-shard",
            )  # fmt: skip
        self.plot = plot("Losses and shares of right answers by step", elem_id="pack-curves")

    def wire(self, here: Here, mark: gr.State, tick: gr.Timer) -> None:
        filters = [self.find, self.document, self.step, self.kept]
        latest = QUIET | {"trigger_mode": "always_last"}
        ordered = {"concurrency_id": "reflections", "concurrency_limit": 1}
        chosen = [here.pack, mark, self.document, self.chosen]
        chooses = mark.change(plainly(self.choices), chosen, [self.document, self.shard], **QUIET)
        for happens in (chooses.then, self.page.change, *(each.change for each in filters)):
            happens(
                plainly(self.table), [self.page, self.before, here.pack, mark, *filters],
                [self.rows, self.page, self.before], **latest, **ordered,
            )  # fmt: skip
        self.shard.change(lambda shard: shard, self.shard, self.chosen, **QUIET)
        self.rows.select(plainly(self.turned), None, self.page, **QUIET)
        for happens in (tick.tick, mark.change, self.chosen.change, here.tab.change):
            happens(
                plainly(self.curves), [here.tab, here.pack, self.chosen, here.dark, self.plotted],
                [self.plot, self.plotted], **QUIET,
            )  # fmt: skip


def _choice(known: dict[str, str], label: str) -> gr.Dropdown:
    return gr.Dropdown(
        list(known.items()), value=ANY, label=label, show_label=False, container=False, scale=2, min_width=120,
        filterable=False,
    )  # fmt: skip


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def rows(
    pack: str, found: Sequence[Reflection], total: int, page: int, sources: Mapping[tuple[str, int], Sentence],
    narrowed: bool,
) -> str:  # fmt: skip
    """A page of reflections."""
    counted = f"{total:,} question{'' if total == 1 else 's'}"
    summary = f'<p class="summary" role="status"><b>{counted}</b></p>'
    if not found:
        none = "Nothing matches." if narrowed else "Nothing was written yet: build the pack."
        return f'{summary}<p class="empty">{none}</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Question and answer", "Step", "From", "Verified"))
    lines = "".join(_row(reflection, sources) for reflection in found)
    return (
        f'{summary}<table class="files reflections" data-of="{escape(pack)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table>{_pager(total, page)}"
    )


def _row(r: Reflection, sources: Mapping[tuple[str, int], Sentence]) -> str:
    by_document: dict[str, list[Sentence]] = {}
    for source in r.sources:
        if sentence := sources.get((source.document, source.number)):
            by_document.setdefault(source.document, []).append(sentence)
    places = "".join(_source(name, sentences) for name, sentences in by_document.items())
    if r.kind == UNKNOWN:
        verified = "taught to say so"
    elif r.kept:
        verified = f"✓ read again, it says “{escape(r.reply)}”"
    else:
        said = f": “{escape(r.reply)}”" if r.reply else ""
        verified = f"✕ {escape(r.why)}{said}"
    kind = "" if r.kept else ' class="dropped"'
    return (
        f"<tr{kind}><td><p>{escape(r.question)}</p><b>{escape(r.answer)}</b></td>"
        f"<td>{STEPS.get(r.kind, escape(r.kind))}</td>"
        f"<td>{places or '–'}</td><td>{verified}</td></tr>"
    )


def _source(document: str, sentences: Sequence[Sentence]) -> str:
    lines = "".join(f"<p>{escape(sentence.text)}</p>{_edit(document, sentence)}" for sentence in sentences)
    where = ", ".join(escape(sentence.position or f"sentence {sentence.number}") for sentence in sentences)
    numbers = ",".join(str(sentence.number) for sentence in sentences)
    texts = escape("\n".join(sentence.text for sentence in sentences))
    many = "these sentences" if len(sentences) > 1 else "this sentence"
    return (
        f'<details><summary>{escape(document)}, {where}</summary>{lines}<button type="button" data-act="delete"'
        f' data-document="{escape(document)}" data-sentences="{numbers}" data-texts="{texts}">Delete {many} …</button>'
        "</details>"
    )


def _edit(document: str, sentence: Sentence) -> str:
    if sentence.slot is not None:  # a memory: it is edited where it is
        return ""
    text = escape(sentence.text)
    return (
        f'<button type="button" class="quiet" data-act="edit" data-document="{escape(document)}"'
        f' data-sentences="{sentence.number}" data-texts="{text}" aria-label="Edit … {text}">Edit …</button>'
    )


def _pager(total: int, page: int) -> str:
    if total <= ROWS:
        return ""
    ends, first = (total - 1) // ROWS, page * ROWS + 1
    last = min(first + ROWS - 1, total)

    def button(to: int, label: str, off: bool) -> str:
        return f'<button type="button" data-page="{to}"{" disabled" if off else ""}>{label}</button>'

    return (
        '<nav class="pager" aria-label="Pages of questions">'
        f"{button(page - 1, 'Previous', page == 0)}<span>{first:,}–{last:,} of {total:,}</span>"
        f"{button(page + 1, 'Next', page >= ends)}</nav>"
    )
