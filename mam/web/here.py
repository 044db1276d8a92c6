"""Where somebody is in one tab: ids that the views pass on to each other. Whose they are is checked by the space."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent.parent.parent / "assets"
QUIET = {"show_progress": "hidden", "api_visibility": "private"}  # how events of the page are declared
TALK, INSIDE, WHAT_IF, COMPARE = "talk", "inside", "whatif", "compare"  # ids of the tabs
MEMORY, PACKS, MAP, TIMELINE, TRAIN = "memory", "packs", "map", "timeline", "train"


def _state(value=None):
    return field(default_factory=lambda: gr.State(value))


def script(name: str) -> str:
    """JavaScript or CSS of a component, from the assets."""
    return (ASSETS / name).read_text("utf-8")


@dataclass
class Here:
    """Made inside the Blocks of a page; setting one of these makes the views that show it follow."""

    session: gr.State = _state()  # the conversation that goes on, None: one not begun
    turn: gr.State = _state()  # the turn that is looked into
    slot: gr.State = _state()  # the memory whose page is open
    pack: gr.State = _state()  # the name of the pack that is looked at
    tab: gr.State = _state(TALK)  # the tab that is shown: what only another one needs is not worked out
    version: gr.State = _state(-2)  # data version that the page has seen; grows with every change made anywhere
    dark: gr.Checkbox = field(default_factory=lambda: gr.Checkbox(visible="hidden", elem_id="dark"))
