"""A pack is asked, with the book closed, beside the slots; and every exchange with a pack, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from html import escape

import gradio as gr

from mam.errors import MamError
from mam.packs.shelf import PACK_SLOT
from mam.packs.values import Answer
from mam.space import cleaned
from mam.values import Call, Turn
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, Here

STAGES = {
    "grounding": "Taking the question apart",
    "entities": "Who or what is it about?",
    "answer": "Looking for the answer",
    "synthesis": "Putting it into words",
}
BUDGET = 12  # calls, as in `mam.packs.protocol`
LONGEST = 64  # tokens of the slots' answer


class Asking:
    def __init__(self, desk: Desk):
        self.desk = desk

    def run(self, question: str, stages: bool, name: str | None, request: gr.Request) -> Iterator[str]:
        """The two answers, again as soon as one is there."""
        m, question = self.desk.space(request), cleaned(question)
        yield answers("…", "")
        try:
            pack = m.open_pack(name or "")
            asked = told(pack.ask(question, in_stages=stages, budget=BUDGET))
            yield answers(asked, "…")
            began = time.perf_counter()
            turn = m.session(temporary=True).send(question, max_tokens=LONGEST)
        except MamError:
            yield ""
            raise
        yield answers(asked, remembered(turn, time.perf_counter() - began))

    def view(self, here: Here) -> None:
        gr.HTML("<h3>Ask it</h3>", js_on_load=None)
        with gr.Row(elem_id="pack-ask", equal_height=True):
            self.question = gr.Textbox(
                placeholder="Ask about its documents …", show_label=False, container=False, max_lines=3, scale=8,
                elem_id="pack-question", label="Question to the pack",
            )  # fmt: skip
            self.stages = gr.Checkbox(
                False, label="In stages", container=False, scale=0, min_width=130, elem_id="pack-stages"
            )
            self.go = gr.Button("Ask", variant="primary", scale=1, min_width=84, elem_id="pack-go")
        self.cards = gr.HTML("", js_on_load=None, elem_id="pack-cards")

    def wire(self, here: Here) -> None:
        asked = [self.question, self.stages, here.pack]
        runs = [
            happens(plainly(self.run), asked, self.cards, concurrency_limit=None, **QUIET)
            for happens in (self.question.submit, self.go.click)
        ]
        here.pack.change(lambda: "", None, self.cards, cancels=runs, **QUIET)


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def answers(pack: str, slots: str) -> str:
    """Two cards; `pack` and `slots` are HTML."""

    def card(name: str, note: str, body: str) -> str:
        body = '<p class="reply waiting">…</p>' if body == "…" else body
        return f'<article class="card"><h4>{name}</h4><p class="note">{note}</p>{body}</article>'

    closed = "From its weights alone: nothing of the text is before it."
    return (
        f'<div class="cards two" aria-live="polite">{card("The pack", closed, pack)}'
        f"{card('The slots', 'What the memory reads for this question, without any pack.', slots)}</div>"
    )


def told(answer: Answer) -> str:
    sure = f"{answer.confidence * 100:.0f} % sure · shard {escape(answer.shard)} · " if answer.known else ""
    calls = f"{len(answer.calls)} call{'s' if len(answer.calls) != 1 else ''}"
    return (
        f'<p class="reply">{escape(answer.text)}</p><small>{sure}{calls} · {answer.seconds:.1f} s</small>'
        f"<details><summary>What was asked on the way</summary>{exchange(answer.calls, BUDGET)}</details>"
    )


def remembered(turn: Turn, seconds: float) -> str:
    given = [read.slot for read in turn.reads if read.given and not turn.abstained]
    read = f"{len(given)} slot{'s' if len(given) != 1 else ''} read" if given else "nothing read"
    lines = "".join(f"<li>{escape(slot.text)}</li>" for slot in given)
    more = f'<details><summary>What was read</summary><ul class="lines">{lines}</ul></details>' if lines else ""
    return f'<p class="reply">{escape(turn.reply)}</p><small>{read} · {seconds:.1f} s</small>{more}'


def exchange(calls: Sequence[Call], budget: int | None = None) -> str:
    """Calls under their stages, in order: who was asked what, what came back, how sure it was, and the dead ends."""
    if not calls:
        return ""
    to_pack = [call for call in calls if call.to == "pack"]
    dead = sum(bool(call.pruned) for call in calls)
    most = f" of at most {budget}" if budget else ""
    to_base = f", {len(calls) - len(to_pack)} to the language model" if len(to_pack) < len(calls) else ""
    used = f"{len(calls)} call{'s' if len(calls) != 1 else ''}{most}: {len(to_pack)} to the pack{to_base}; "
    used += f"{dead} dead end{'s' if dead != 1 else ''}."
    parts, last = [], ""
    for call in calls:
        parts += [f"<h4>{STAGES.get(call.stage, escape(call.stage))}</h4>"] if call.stage != last else []
        parts.append(_call(call))
        last = call.stage
    return f'<div class="calls"><p class="note">{used}</p>{"".join(parts)}</div>'


def _call(call: Call) -> str:
    who = (f"The pack {escape(call.pack)}" if call.pack else "The pack") if call.to == "pack" else "The language model"
    sure = ""
    if call.confidence is not None and call.shard:
        sure = (
            f'<span class="value">{call.confidence * 100:.0f} % sure, shard {escape(call.shard)}</span>'
            f'<span class="track"><span style="width:{min(max(call.confidence, 0), 1) * 100:.1f}%"></span></span>'
        )
    end = f'<small class="dead">Dead end: {escape(call.pruned)}.</small>' if call.pruned else ""
    said = escape(call.reply) or "<i>nothing</i>"
    return (
        f'<div class="call{" pruned" if call.pruned else ""}"><small>{who} was asked</small>'
        f'<p class="asked">{escape(call.asked)}</p><div class="bar"><span class="text">{said}</span>{sure}</div>'
        f"{end}</div>"
    )


def asked_in(turn: Turn) -> str:
    """In the inspector: what the mounted packs were asked in a turn, and what became of what they said."""
    if not turn.calls:
        return ""
    parts = []
    for pack in dict.fromkeys(call.pack for call in turn.calls):
        reads = [read for read in turn.reads if read.slot.id.startswith(PACK_SLOT) and read.slot.document == pack]
        given = [] if turn.abstained else [read for read in reads if read.given]
        weight = f"{sum(read.weight for read in given or reads) * 100:.0f} %"
        if given:
            became = f"Handed to the language model, with a weight of {weight}, beside what slots said."
        elif reads:
            became = f"Not handed on: the slots left it a weight of {weight} only."
        else:
            became = "Nothing of it went into the reply."
        calls = [call for call in turn.calls if call.pack == pack]
        parts.append(f'{exchange(calls)}<p class="note">{became}</p>')
    note = "Packs that are mounted in a conversation are asked with every message, with the book closed."
    return f'<h3>What the packs were asked</h3><p class="note">{note}</p>{"".join(parts)}'
