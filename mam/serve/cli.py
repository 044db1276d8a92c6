"""`python -m mam serve`: its arguments, and what is opened for them."""

from __future__ import annotations

import argparse

from mam import cli
from mam.batch import Batch
from mam.engine import engine
from mam.errors import InputError
from mam.serve.app import application, prepared
from mam.serve.guard import Limits
from mam.serve.keys import Keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_shared(parser)
    most = Limits()
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; with --keys also for others")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--keys", metavar="FILE", help="who may come: see python -m mam key --help")
    parser.add_argument("--rate", type=int, default=most.rate, help="requests a minute of each user (%(default)s)")
    parser.add_argument("--tokens", type=int, default=most.tokens, help="tokens a minute of each user (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=most.reply, help="tokens of one reply (%(default)s)")
    parser.add_argument("--max-bytes", type=int, default=most.bytes, help="bytes of a request (%(default)s)")


def run(options: argparse.Namespace) -> int:
    for name in ("rate", "tokens", "max_tokens", "max_bytes"):
        if (value := getattr(options, name)) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}; give 1 or more.")
    limits = Limits(options.max_bytes, options.rate, options.tokens, options.max_tokens)
    keys = Keys(options.keys) if options.keys else None
    app = application(lambda user: cli.open_space(options, user), keys=keys, local=options.user, limits=limits)
    server, listening, address = prepared(app, options.host, options.port)
    loaded = engine(options.base, options.device, options.memory)  # the first request need not wait for it
    if Batch.fits(loaded.base):
        loaded.batch = Batch(loaded.base, loaded.lock)
    print(f"mam is at {address}/v1 (stop it with Ctrl-C)", flush=True)
    try:
        server.run(sockets=[listening])
    finally:
        if loaded.batch:
            loaded.batch.close()
            loaded.batch = None
    return 0
