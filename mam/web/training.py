"""Train: a short run of one part of the memory model, watched live; its result is tried, then kept or thrown away."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from html import escape

import gradio as gr

from mam import figures
from mam.database import data_folder
from mam.errors import InputError
from mam.train.background import MOST, PARTS, Run
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, TRAIN, Here
from mam.web.plot import drawn, plot

STATES = {
    "running": "Training. You can go on chatting; it will be slower.",
    "stopping": "Stopping after a last look at held-out examples.",
    "finished": "Done. Try it in a conversation, then keep it or throw it away.",
    "failed": "It failed: {message}",
}
IDLE = "A run works on a copy: the memory model in use stays as it is until you keep the result."


@dataclass
class Training:
    """One run at a time for the whole page: it takes all of a small machine."""

    desk: Desk
    run: Run | None = None
    trying: bool = False

    def start(self, part: str, steps: float, request: gr.Request) -> tuple:
        m = self._allowed(request)
        if part == "integrator" and m.engine.integrator is None:
            raise InputError("This base is told its memories as text: it has no integrator to train.")
        if self.run is not None and self.run.progress().state in ("running", "stopping"):
            raise InputError("A run is going on; stop it first.")
        self._forget()
        folder = data_folder(self.desk.folder) / "training" / f"{datetime.now():%Y%m%d-%H%M%S}-{part}"
        self.run = Run(folder, part, int(steps), m.engine.base.id, self.desk.memory)
        return self._shows(False)

    def stop(self, request: gr.Request) -> tuple:
        self._allowed(request)
        if self.run is not None:
            self.run.stop()
        return self._shows(False)

    def attempt(self, request: gr.Request) -> tuple:
        """This tab answers with the new memory model from now on, until it is kept or thrown away."""
        self._allowed(request)
        self.desk.attempt(request, self._done().out)
        self.trying = True
        return self._shows(False)

    def keep(self, request: gr.Request) -> tuple:
        """The new memory model for everybody on this page, and in a folder where it stays."""
        self._allowed(request)
        run = self._done()
        kept = data_folder(self.desk.folder) / "models" / run.folder.name
        shutil.copytree(run.out, kept)
        self.desk.adopt(kept)
        self._forget()
        gr.Info(f"Kept. To start with it the next time: --memory {kept}", duration=None)
        return self._shows(False)

    def discard(self, request: gr.Request) -> tuple:
        self._allowed(request)
        self._forget()
        return self._shows(False)

    def follow(self, tab: str, dark: bool) -> tuple:
        """How far it is; only worked out while the tab is shown."""
        return self._shows(dark) if tab == TRAIN else (gr.skip(),) * 6

    def _allowed(self, request: gr.Request):
        """The space of whoever asks. Raises InputError where others log in and this is not the page's own user."""
        m = self.desk.space(request)
        if self.desk.login and self.desk.user_of(request) != self.desk.user:
            raise InputError(f"Training takes the whole machine: only {self.desk.user} may start it here.")
        return m

    def _done(self) -> Run:
        if self.run is None or self.run.progress().state != "finished":
            raise InputError("There is no finished run; start one, or wait for it.")
        return self.run

    def _forget(self) -> None:
        if self.run is not None:
            self.desk.adopt(self.desk.memory)
            self.run.discard()
        self.run, self.trying = None, False

    def _shows(self, dark: bool) -> tuple:
        """(words, curves, start, stop, try, keep and discard)"""
        found = self.run.progress() if self.run else None
        busy = found is not None and found.state in ("running", "stopping")
        done = found is not None and found.state == "finished"
        words = IDLE if found is None else STATES[found.state].format(message=found.message)
        if self.trying:
            words = "This tab answers with the new memory model. Keep it, or throw it away."
        steps = max((points[-1][0] for points in found.curves.values()), default=0) if found else 0
        count = f" · {steps} steps" if steps else ""
        return (
            f'<p class="note" role="status">{escape(words)}{count}</p>',
            drawn(figures.learning(found.curves, dark)) if found and found.curves else "",
            gr.update(interactive=not busy),
            gr.update(interactive=busy),
            gr.update(interactive=done and not self.trying),
            gr.update(visible=done),
        )

    def view(self, here: Here) -> None:
        with gr.Row(elem_id="train", equal_height=True):
            choices = [(f"{name}: {about}", name) for name, (about, _) in PARTS.items()]
            self.part = gr.Dropdown(choices, value="relation", label="What to train", scale=3)
            self.steps = gr.Slider(20, MOST, 100, step=20, label="Steps", scale=2)
            self.guess = gr.HTML(estimate("relation", 100), js_on_load=None, elem_id="guess")
        with gr.Row(elem_id="train-buttons"):
            small = {"size": "sm", "min_width": 110, "scale": 0}
            self.go = gr.Button("Start", variant="primary", elem_id="train-start", **small)
            self.halt = gr.Button("Stop", interactive=False, elem_id="train-stop", **small)
            self.test = gr.Button("Try it in chat", interactive=False, elem_id="train-try", **small)
            with gr.Row(visible=False, elem_id="train-end") as self.ends:
                self.take = gr.Button("Keep", elem_id="train-keep", **small)
                self.drop = gr.Button("Throw away", elem_id="train-discard", **small)
        self.words = gr.HTML(f'<p class="note">{IDLE}</p>', js_on_load=None, elem_id="train-words")
        self.curves = plot("Losses and held-out shares by step", elem_id="curves")

    def wire(self, here: Here) -> None:
        shows = [self.words, self.curves, self.go, self.halt, self.test, self.ends]
        for happens in (self.part.change, self.steps.change):
            happens(estimate, [self.part, self.steps], self.guess, **QUIET)
        self.go.click(plainly(self.start), [self.part, self.steps], shows, **QUIET)
        for button, handler in (
            (self.halt, self.stop), (self.test, self.attempt), (self.take, self.keep), (self.drop, self.discard),
        ):  # fmt: skip
            button.click(plainly(handler), None, shows, **QUIET)
        for happens in (gr.Timer(2.0).tick, here.tab.change):
            happens(plainly(self.follow), [here.tab, here.dark], shows, **QUIET)


def estimate(part: str, steps: float) -> str:
    """How long it will take, said before it starts."""
    minutes = PARTS[part][1] * steps / 60 + 1
    return f'<p class="note">about {minutes:.0f} min on two cores</p>'
