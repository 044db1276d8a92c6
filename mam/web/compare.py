"""Compare: one question answered five ways by the same base, side by side, with what each had to read and how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import gradio as gr

from mam.compare import WAYS, Answer, compare
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, Here

NAMES = {
    "none": ("No memory", "The base alone."),
    "full_context": ("Whole history", "Everything that was ever said stands in the prompt."),
    "prompt_bm25": ("BM25 + prompt", "The sentences that share most words with the question stand in the prompt."),
    "prompt_minilm": ("MiniLM + prompt", "The sentences nearest in meaning stand in the prompt."),
    "memory": ("Memory model", "The memories that it read, fed into the frozen base."),
}


class Compare:
    def __init__(self, desk: Desk):
        self.desk = desk

    def run(self, question: str, request: gr.Request) -> Iterator[str]:
        """The cards, again for every answer that comes in."""
        answers: list[Answer] = []
        yield cards(answers, WAYS[0])
        for answer in compare(self.desk.space(request), question):
            answers.append(answer)
            yield cards(answers, next((way for way in WAYS[len(answers) :]), None))

    def view(self, here: Here) -> None:
        with gr.Row(elem_id="ask", equal_height=True):
            self.question = gr.Textbox(
                placeholder="Ask something that it was told …", show_label=False, container=False, max_lines=3, scale=8,
                elem_id="question", label="Question",
            )  # fmt: skip
            self.go = gr.Button("Compare", variant="primary", scale=1, min_width=110, elem_id="compare")
        self.cards = gr.HTML(cards([], None), js_on_load=None, elem_id="cards")

    def wire(self, here: Here) -> None:
        for happens in (self.question.submit, self.go.click):
            happens(plainly(self.run), self.question, self.cards, concurrency_limit=None, **QUIET)


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def cards(answers: Sequence[Answer], running: str | None) -> str:
    """A card for each way: the reply, the tokens of context as a bar of memory and prompt, and the seconds."""
    done = {answer.way: answer for answer in answers}
    most = max([answer.context for answer in answers], default=0) or 1

    def card(way: str) -> str:
        name, note = NAMES[way]
        own = " own" if way == "memory" else ""
        head = f'<h4>{name}</h4><p class="note">{note}</p>'
        if way not in done:
            wait = '<p class="reply waiting">…</p>' if way == running else '<p class="reply"></p>'
            return f'<article class="card{own}">{head}{wait}</article>'
        answer = done[way]
        slots, prompt = answer.memory / most * 100, (answer.context - answer.memory) / most * 100
        track = f'<span class="track"><i style="width:{slots:.1f}%"></i><b style="width:{prompt:.1f}%"></b></span>'
        of_memory = f", {answer.memory} of them memory" if answer.memory else ""
        figures = f"{answer.context:,} tokens of context{of_memory} · {answer.seconds:.1f} s"
        return (
            f'<article class="card{own}">{head}<p class="reply">{escape(answer.reply)}</p>'
            f'<div class="cost">{track}<small>{figures}</small></div></article>'
        )

    return f'<div class="cards" aria-live="polite">{"".join(map(card, WAYS))}</div>'
