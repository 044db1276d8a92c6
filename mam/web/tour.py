"""The guided tour: five minutes with the memory of two people who do not exist, in a space of its own.

Tell, ask later, see why, what if, edit, delete, compare. Whoever takes it has a demo space that nobody else sees; their
own is not touched, and one button makes the demo new.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
import yaml

from mam.web.compare import Compare
from mam.web.desk import Desk, plainly
from mam.web.here import ASSETS, QUIET, TALK, Here
from mam.web.talk import WELCOME, Talk

STORY = ASSETS / "demo.json"


@dataclass(frozen=True)
class Step:
    """What to do and why, in a student's words; see assets/tour.yaml."""

    title: str
    text: str
    tab: str
    say: str | None = None
    ask: str | None = None
    fresh: bool = False


STEPS = [Step(**step) for step in yaml.safe_load((ASSETS / "tour.yaml").read_text("utf-8"))]


class Tour:
    def __init__(self, desk: Desk):
        self.desk = desk

    def begin(self, request: gr.Request) -> tuple:
        """Into the demo space, made new when it is empty."""
        self.desk.tour(request, True)
        try:
            m = self.desk.space(request)
            if not m.sessions():
                m.import_(STORY)
        except BaseException:
            self.desk.tour(request, False)
            raise
        return 0, *self._step(0, request)

    def leave(self, request: gr.Request) -> tuple:
        self.desk.tour(request, False)
        return None, gr.update(visible=False), "", gr.Tabs(selected=TALK), TALK, -2, *self._empty(request), "", ""

    def reset(self, request: gr.Request) -> tuple:
        """Everything in the demo space as it was at first; only there."""
        if not self.desk.touring(request):
            return (gr.skip(),) * 12
        m = self.desk.space(request)
        m.purge_everything()
        m.import_(STORY)
        return 0, *self._step(0, request)

    def go(self, step: int | None, by: int, request: gr.Request) -> tuple:
        step = min(max((step or 0) + by, 0), len(STEPS) - 1)
        return step, *self._step(step, request)

    def _step(self, number: int, request: gr.Request) -> tuple:
        step, same = STEPS[number], gr.skip()
        conversation = self._empty(request) if step.fresh else (same,) * 4
        return (
            gr.update(visible=True), words(number), gr.Tabs(selected=step.tab), step.tab, -2, *conversation,
            step.say or same, step.ask or same,
        )  # fmt: skip

    def _empty(self, request: gr.Request) -> tuple:
        self.desk.show(None, request)
        return None, WELCOME, "", None

    def button(self) -> None:
        self.start = gr.Button("Guided tour", size="sm", elem_id="tour-start", scale=0, min_width=120)

    def view(self, here: Here) -> None:
        self.step = gr.State(None)
        with gr.Row(visible=False, elem_id="tour", equal_height=True) as self.bar:
            self.words = gr.HTML("", js_on_load=None, elem_id="tour-words")
            with gr.Row(elem_id="tour-buttons"):
                self.back = gr.Button("Back", size="sm", min_width=70)
                self.next = gr.Button("Next", size="sm", variant="primary", min_width=70, elem_id="tour-next")
                self.again = gr.Button("Reset", size="sm", min_width=70, elem_id="tour-reset")
                self.out = gr.Button("Leave", size="sm", min_width=70, elem_id="tour-leave")

    def wire(self, here: Here, tabs: gr.Tabs, talk: Talk, compare: Compare) -> None:
        shows = [
            self.step, self.bar, self.words, tabs, here.tab, here.version,
            here.session, talk.before, talk.live, here.turn, talk.text, compare.question,
        ]  # fmt: skip
        self.start.click(plainly(self.begin), None, shows, api_visibility="private", show_progress="minimal")
        self.again.click(plainly(self.reset), None, shows, api_visibility="private", show_progress="minimal")
        self.out.click(plainly(self.leave), None, shows, **QUIET)
        for button, by in ((self.back, -1), (self.next, 1)):
            button.click(plainly(self._goer(by)), self.step, shows, **QUIET)

    def _goer(self, by: int):
        def go(step: int | None, request: gr.Request) -> tuple:
            return self.go(step, by, request)

        return go


def words(number: int) -> str:
    """The step as HTML; all of it is our own text."""
    step = STEPS[number]
    return f"<small>Tour, {number + 1} of {len(STEPS)}</small><h4>{step.title}</h4><p>{step.text}</p>"
