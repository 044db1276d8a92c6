"""`python -m mam attach --base ID`: train only the integrator, for another base; all else stays."""

from __future__ import annotations

import argparse

from mam.train import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_arguments(parser, attach=True)


def run(args: argparse.Namespace) -> int:
    return cli.run(args, attach=True)
