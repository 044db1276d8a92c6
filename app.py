"""python app.py: the web page, on this machine only. Everything it shows and does is in mam.web."""

from __future__ import annotations

import argparse
import os
import sys

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: no request leaves this machine
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import mam
from mam.errors import MamError


def main(arguments: list[str] | None = None) -> int:
    from mam.cli import Bars, add_shared

    parser = argparse.ArgumentParser(prog="python app.py", description="The web page of mam.")
    add_shared(parser)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; with --auth also for others")
    parser.add_argument("--auth", metavar="FILE", help="who may log in: see python -m mam account --help")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    options = parser.parse_args(arguments)

    from mam.accounts import Accounts
    from mam.web.desk import Desk
    from mam.web.serve import serve

    def open_space(user: str, memory=None):
        return mam.open(
            options.path, options.base, user, options.device, memory or options.memory,
            store=options.store, capacity=options.capacity, progress=Bars(),
        )  # fmt: skip

    try:
        accounts = Accounts(options.auth) if options.auth else None
        desk = Desk(open_space, options.user, options.base, folder=options.path)
        serve(desk, options.port, not options.no_browser, options.host, accounts)
    except MamError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
