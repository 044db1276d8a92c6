"""The page: which view is where. What happens in a view is in the module of its name."""

from __future__ import annotations

from html import escape

import gradio as gr

from mam.errors import MamError
from mam.web.desk import Desk, plainly
from mam.web.files import Files
from mam.web.here import INSIDE, MEMORY, QUIET, TALK, Here
from mam.web.inside import Inside
from mam.web.memory import Memory
from mam.web.report import Report
from mam.web.slot import SlotPage
from mam.web.talk import Talk

TICK = 2.0  # seconds after which a change made elsewhere is seen
IS_DARK = "() => document.body.classList.contains('dark')"


def page(desk: Desk) -> gr.Blocks:
    talk, inside, memory = Talk(desk), Inside(desk), Memory(desk)
    files, slot, report = Files(desk), SlotPage(desk), Report()
    with gr.Blocks(title="mam", analytics_enabled=False, fill_width=True) as blocks:
        here = Here()
        with gr.Row(elem_id="top"):
            gr.HTML('<h1>mam</h1><p class="tagline">a memory beside a frozen language model</p>', elem_id="name")
            loaded = gr.HTML(status(None, f"Loading {desk.base} …"), elem_id="status")
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=2, min_width=200, elem_id="left"):
                talk.sidebar(here)
            with gr.Column(scale=9, min_width=320, elem_id="main"), gr.Tabs(elem_id="tabs") as tabs:
                with gr.Tab("Conversation", id=TALK) as first, gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=320, elem_id="talk"):
                        talk.view(here)
                    with gr.Column(scale=3, min_width=280, elem_id="trace"):
                        inside.beside(here)
                with gr.Tab("Inside a turn", id=INSIDE) as second:
                    inside.view(here)
                with gr.Tab("Memory", id=MEMORY) as third:
                    memory.view(here)
                    files.view(here)
        slot.view(here)  # over whichever view it was opened from
        report.view(here)
        talk.wire(here)
        inside.wire(here, tabs)
        memory.wire(here, report)
        files.wire(here, report)
        slot.wire(here, tabs, report)
        for tab in (first, second, third):
            tab.select(lambda id=tab.id: id, None, here.tab, **QUIET)
        tick = gr.Timer(TICK)
        for happens in (tick.tick, blocks.load):
            happens(_seeing(desk), here.version, [loaded, here.version], **QUIET)
        blocks.load(None, None, here.dark, js=IS_DARK, **QUIET)
    return blocks


def _seeing(desk: Desk):
    def see(version: int, request: gr.Request) -> tuple:
        """What is loaded, and the data version now: views follow when it is another one than before."""
        try:
            m = desk.space(request)
            now = m.version()
        except MamError as error:
            return status(None, desk.failure or f"Loading {desk.base} …" or str(error), bool(desk.failure)), gr.skip()
        return (gr.skip(), gr.skip()) if now == version else (status(m.about(), ""), now)

    return plainly(see)


def status(about: dict[str, str] | None, message: str, failed: bool = False) -> str:
    """What is loaded, or why nothing is yet; HTML, escaped here."""
    if about is None:
        return f'<p class="status {"failed" if failed else "loading"}" role="status">{escape(message)}</p>'
    parts = [
        ("base", about["base"]),
        ("memory", about["memory"][:8]),
        ("on", f"{about['device']}, {about['precision']}"),
    ]
    shown = "".join(f"<span><b>{escape(name)}</b> {escape(value)}</span>" for name, value in parts)
    return f'<p class="status" role="status">{shown}</p>'
