"""The page: which view is where. What happens in a view is in the module of its name."""

from __future__ import annotations

from html import escape

import gradio as gr

from mam.engine import AS_BLOCKS
from mam.errors import MamError
from mam.web.carry import Carrier
from mam.web.compare import Compare
from mam.web.desk import Desk, plainly
from mam.web.files import Files
from mam.web.here import COMPARE, INSIDE, MAP, MEMORY, PACKS, QUIET, TALK, TIMELINE, TRAIN, WHAT_IF, Here
from mam.web.inside import Inside
from mam.web.map import Map
from mam.web.memory import Memory
from mam.web.packs import Packs
from mam.web.report import Report
from mam.web.slot import SlotPage
from mam.web.talk import Talk
from mam.web.timeline import Timeline
from mam.web.tour import Tour
from mam.web.training import Training
from mam.web.whatif import WhatIf

TICK = 2.0  # seconds after which a change made elsewhere is seen
IS_DARK = "() => document.body.classList.contains('dark')"


def page(desk: Desk, carrier: Carrier) -> gr.Blocks:
    talk, inside, what_if, compare = Talk(desk), Inside(desk), WhatIf(desk), Compare(desk)
    memory, atlas, timeline = Memory(desk), Map(desk), Timeline(desk)
    files, slot, report = Files(desk), SlotPage(desk), Report()
    training, tour, packs = Training(desk), Tour(desk), Packs(desk, carrier)
    with gr.Blocks(title="mam", analytics_enabled=False, fill_width=True) as blocks:
        here = Here()
        with gr.Row(elem_id="top"):
            gr.HTML('<h1>mam</h1><p class="tagline">a memory beside a frozen language model</p>', elem_id="name")
            loaded = gr.HTML(status(None, f"Loading {desk.base} …"), elem_id="status")
            tour.button()
        tour.view(here)
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=2, min_width=200, elem_id="left"):
                talk.sidebar(here)
            with gr.Column(scale=9, min_width=320, elem_id="main"), gr.Tabs(elem_id="tabs") as tabs:
                with _tab("Conversation", TALK, here), gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=320, elem_id="talk"):
                        talk.view(here)
                        packs.beside(here)
                    with gr.Column(scale=3, min_width=280, elem_id="trace"):
                        inside.beside(here)
                for name, id, *views in (
                    ("Inside a turn", INSIDE, inside),
                    ("What if", WHAT_IF, what_if),
                    ("Compare", COMPARE, compare),
                    ("Memory", MEMORY, memory, files),
                    ("Packs", PACKS, packs),
                    ("Map", MAP, atlas),
                    ("Timeline", TIMELINE, timeline),
                    ("Train", TRAIN, training),
                ):
                    with _tab(name, id, here):
                        for view in views:
                            view.view(here)
        slot.view(here)  # over whichever view it was opened from
        report.view(here)
        for view in (talk, what_if, compare, atlas, training):
            view.wire(here)
        for view in (inside, timeline):  # these also open other tabs
            view.wire(here, tabs)
        for view in (memory, files, packs):
            view.wire(here, report)
        slot.wire(here, tabs, report)
        tour.wire(here, tabs, talk, compare)
        tick = gr.Timer(TICK)
        for happens in (tick.tick, blocks.load):
            happens(_seeing(desk), here.version, [loaded, here.version], **QUIET)
        blocks.load(None, None, here.dark, js=IS_DARK, **QUIET)
        for gone in (desk.closed, carrier.closed):
            blocks.unload(gone)
    return blocks


def _tab(name: str, id: str, here: Here) -> gr.Tab:
    tab = gr.Tab(name, id=id)
    tab.select(lambda: id, None, here.tab, **QUIET)
    return tab


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
        ("on", ", ".join(about[name] for name in ("device", "precision") if name in about)),
    ]
    if about["memories as"] != AS_BLOCKS:
        parts.append(("memories as", about["memories as"]))
    shown = "".join(f"<span><b>{escape(name)}</b> {escape(value)}</span>" for name, value in parts)
    return f'<p class="status" role="status">{shown}</p>'
