"""The page: what is where, and which event calls what. What happens is in `desk`, how it looks in assets/style.css."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from mam.web import panels
from mam.web.desk import SHOWN, Desk, plainly

ASSETS = Path(__file__).parent.parent.parent / "assets"
TICK = 2.0  # seconds after which a change made elsewhere is seen
PICK_SESSION = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-session]');
  if (button) trigger('select', {session: button.dataset.session});
});"""


def page(desk: Desk) -> gr.Blocks:
    with gr.Blocks(title="mam", analytics_enabled=False, fill_width=True) as blocks:
        session, seen = gr.State(None), gr.State(-2)
        with gr.Row(elem_id="top"):
            gr.HTML('<h1>mam</h1><p class="tagline">a memory beside a frozen language model</p>', elem_id="name")
            status = gr.HTML(panels.status(None, f"Loading {desk.base} …"), elem_id="status")
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(scale=2, min_width=200, elem_id="left"):
                new = gr.Button("New conversation", size="md", elem_id="new")
                sessions = gr.HTML(panels.sessions([], None), js_on_load=PICK_SESSION, elem_id="sessions")
            with gr.Column(scale=9, min_width=320, elem_id="main"), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Conversation", id="talk"), gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=320, elem_id="talk"):
                        with gr.Column(elem_id="log"), gr.Column(elem_id="said"):
                            messages = gr.HTML(panels.WELCOME, js_on_load=None)
                            live = gr.HTML("", js_on_load=None)
                        with gr.Row(elem_id="say", equal_height=True):
                            text = gr.Textbox(
                                placeholder="Tell it something, or ask …", show_label=False, container=False,
                                max_lines=6, scale=8, autofocus=True, elem_id="text", label="Message",
                            )  # fmt: skip
                            send = gr.Button("Send", variant="primary", scale=1, min_width=84, elem_id="send")
                            stop = gr.Button("Stop", scale=1, min_width=84, visible=False, elem_id="stop")
                    with gr.Column(scale=3, min_width=280, elem_id="trace"):
                        last = gr.HTML(panels.turn(None), elem_id="last", js_on_load=None)
                with gr.Tab("Memory", id="memory"):
                    with gr.Row(elem_id="by-hand", equal_height=True):
                        note = gr.Textbox(
                            placeholder="Add a memory by hand …", show_label=False, container=False, max_lines=3,
                            scale=8, elem_id="note", label="New memory",
                        )  # fmt: skip
                        add = gr.Button("Add", scale=1, min_width=84, elem_id="add")
                    with gr.Row(elem_id="tools", equal_height=True):
                        shown = gr.Radio(
                            list(SHOWN), value="Remembered", show_label=False, container=False, scale=3, min_width=380
                        )
                        find = gr.Textbox(
                            value="", placeholder="Search …", show_label=False, container=False, max_lines=1, scale=1,
                            min_width=200, elem_id="find", label="Search",
                        )  # fmt: skip
                    table = gr.HTML(
                        panels.slots([]), js_on_load=(ASSETS / "slots.js").read_text("utf-8"), elem_id="slots"
                    )
        shows = [session, messages, live, last, sessions]
        _wire_talk(desk, shows, text, send, stop, new)
        _wire_memory(desk, table, shown, find, note, add)
        tick = gr.Timer(TICK)
        for happens in (tick.tick, blocks.load):
            happens(
                plainly(desk.refresh),
                [seen, session, shown, find],
                [status, sessions, table, seen],
                show_progress="hidden",
                api_visibility="private",
            )
    return blocks


def _wire_talk(desk, shows, text, send, stop, new) -> None:
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    talking = gr.State("")  # the message on its way, so that the box can be emptied at once
    for happens in (text.submit, send.click):
        happens(
            lambda said: ("", said, gr.update(visible=False), gr.update(visible=True)),
            text,
            [text, talking, send, stop],
            **quiet,
        ).then(
            plainly(desk.send),
            [talking, shows[0]],
            [*shows, text],
            concurrency_limit=None,
            **quiet,
        ).then(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [send, stop], **quiet)
    stop.click(plainly(desk.stop), None, None, queue=False, **quiet)
    new.click(plainly(desk.new), None, shows, **quiet)
    shows[-1].select(plainly(desk.pick), None, shows, **quiet)


def _wire_memory(desk, table, shown, find, note, add) -> None:
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    for happens in (shown.change, find.change):
        happens(plainly(desk.table), [shown, find], table, **quiet)
    table.select(plainly(desk.change), [shown, find], table, **quiet)
    for happens in (note.submit, add.click):
        happens(plainly(desk.add), [note, shown, find], [note, table], **quiet)
