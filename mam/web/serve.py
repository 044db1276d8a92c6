"""Starts the page's server on this machine and keeps it running until it is interrupted."""

from __future__ import annotations

import gradio as gr

from mam.errors import InputError
from mam.web.desk import Desk
from mam.web.here import ASSETS
from mam.web.page import page
from mam.web.plot import AHEAD
from mam.web.theme import theme


def launch(desk: Desk, port: int | None, browser: bool = False, quiet: bool = False) -> gr.Blocks:
    """Start serving and return at once; the networks load in the background."""
    blocks = page(desk).queue(default_concurrency_limit=16)
    desk.load()
    try:
        blocks.launch(
            server_name="127.0.0.1",
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            run_history=False,  # would keep what is typed in the browser, out of reach of a purge
            share=False,
            quiet=quiet,
            footer_links=[],
            theme=theme(),
            css_paths=[ASSETS / "style.css"],
            head=AHEAD,
        )
    except OSError as error:
        raise InputError(f"Port {port} is taken; choose another one with --port.") from error
    return blocks


def serve(desk: Desk, port: int, browser: bool) -> None:
    blocks = launch(desk, port, browser, quiet=True)
    print(f"mam is at {blocks.local_url} (stop it with Ctrl-C)", flush=True)
    blocks.block_thread()
