"""Starts the page's server and keeps it running until it is interrupted."""

from __future__ import annotations

import gradio as gr
from starlette.middleware import Middleware

from mam.accounts import Accounts
from mam.errors import InputError
from mam.web.carry import Carrier
from mam.web.desk import Desk
from mam.web.guard import OwnTabs
from mam.web.here import ASSETS, script
from mam.web.page import page
from mam.web.plot import AHEAD
from mam.web.theme import theme

HERE = "127.0.0.1"
WHO = "Everybody has a memory of their own, which nobody else can see."


def launch(
    desk: Desk,
    port: int | None,
    browser: bool = False,
    quiet: bool = False,
    host: str = HERE,
    accounts: Accounts | None = None,
) -> gr.Blocks:
    """Start serving and return at once; the networks load in the background.

    With `accounts`, everybody logs in and has a space of their own; only then may `host` be reached from elsewhere.
    """
    if host not in (HERE, "localhost", "::1") and accounts is None:
        raise InputError("Other machines could read and change this memory: say with --auth FILE who may log in.")
    desk.login = accounts is not None
    carrier = Carrier(desk)
    blocks = page(desk, carrier).queue(default_concurrency_limit=16)
    desk.load()
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            run_history=False,  # would keep what is typed in the browser, out of reach of a purge
            share=False,
            quiet=quiet,
            footer_links=[],
            auth=accounts.check if accounts else None,
            auth_message=WHO if accounts else None,
            app_kwargs={"routes": [carrier.route]} | ({"middleware": [Middleware(OwnTabs)]} if accounts else {}),
            theme=theme(),
            css_paths=[ASSETS / "style.css", ASSETS / "packs.css"],
            head=f"{AHEAD}<script>{script('press.js')}</script>",
        )
    except OSError as error:
        raise InputError(f"Port {port} is taken; choose another one with --port.") from error
    return blocks


def serve(desk: Desk, port: int, browser: bool, host: str = HERE, accounts: Accounts | None = None) -> None:
    blocks = launch(desk, port, browser, quiet=True, host=host, accounts=accounts)
    print(f"mam is at {blocks.local_url} (stop it with Ctrl-C)", flush=True)
    blocks.block_thread()
