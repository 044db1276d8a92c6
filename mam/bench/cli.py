"""`python -m mam bench NAME --json FILE`: arguments, a table on stdout. Measures nothing itself."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from mam.bench import (
    common,
    edit,
    gate,
    latency,
    locomo,
    longtext,
    noharm,
    packs,
    page,
    reading,
    recall,
    report,
    serve,
    sets,
    store,
    tune,
)
from mam.bench.parts import digest
from mam.errors import InputError, WeightsError

BENCHES = {
    "recall": recall.run,
    "edit": edit.run,
    "noharm": noharm.run,
    "gate": gate.run,
    "latency": latency.run,
    "store": store.run,
    "page": page.run,
    "serve": serve.run,
    "locomo": locomo.run,
    "reading": reading.run,
    "longbench": longtext.longbench,
    "scrolls": longtext.scrolls,
    "packs": packs.run,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=[*BENCHES, common.ALL], help="what to measure; all: one after the other")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the results there, those of `all` into one file, too; interrupted, the same command goes on",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write a file for each benchmark there, with a page of tables and figures of all that is there",
    )
    parser.add_argument("--base", default="smollm2-135m", metavar="ID", help="base LLM (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--memory", type=Path, metavar="DIR", help="weights of the memory model (default: the shipped)")
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"folder with {sets.LOCOMO} and the like")
    parser.add_argument(
        "--lives", type=int, default=common.LIVES, metavar="N", help="conversations (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the first life (%(default)s)")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="at most N lives, conversations, documents, prompts or repetitions: a quick look, not a result",
    )
    parser.add_argument(
        "--tune-prompts", action="store_true", help="compare the baselines' prompts on validation lives instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Raises InputError for numbers out of range; returns the exit status."""
    for option in ("lives", "limit"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise InputError(f"--{option} is {value}; give 1 or more.")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; give 0 or more.")
    text = arguments.name == "serve"  # the others measure slot blocks
    world = common.World.load(arguments.base, arguments.device, arguments.memory, text=text)
    if arguments.tune_prompts:
        settings = _settings("prompts", arguments, split="val")
        _one("prompts", world, settings, settings.json, None)
    elif arguments.name == common.ALL:
        _all(world, arguments)
    else:
        _one(arguments.name, world, _settings(arguments.name, arguments), arguments.json, arguments.report)
    return 0


def _one(name: str, world: common.World, settings: common.Settings, file: Path | None, folder: Path | None) -> None:
    content = _measured(name, world, settings)
    if file and file != (folder and folder / f"{name}.json"):
        _write(file, content)
    _finish(content, world, settings, folder)


def _all(world: common.World, arguments: argparse.Namespace) -> None:
    """One benchmark after the other, into one file. An interrupted run goes on with the one that it was at.

    Raises InputError in the end for those that could not be measured.
    """
    settings = _settings(common.ALL, arguments)
    done, contents, left_out = common.parts(common.ALL, world, settings), [], {}
    known_as = digest(settings.lives, settings.data)
    for name in BENCHES:
        try:
            content = done(f"{name} {known_as}", partial(_measured, name, world, settings))
        except (InputError, WeightsError) as error:
            print(f"{name} was left out: {error}", file=sys.stderr)
            left_out[name] = str(error)
        else:
            contents.append(content)
            _finish(content, world, settings, arguments.report)
        if arguments.json:  # after each, so that there is something to look at
            _write(arguments.json, common.report_of_all(world, settings, contents, left_out))
    done.finish(None)
    if left_out:
        raise InputError(f"Not measured: {', '.join(left_out)}; the reasons are above. All else was.")


def _settings(name: str, arguments: argparse.Namespace, **others) -> common.Settings:
    path = arguments.json or (arguments.report and arguments.report / f"{name}.json")
    return common.Settings(
        lives=arguments.lives, seed=arguments.seed, limit=arguments.limit, data=arguments.data, json=path, **others
    )


def _measured(name: str, world: common.World, settings: common.Settings) -> dict:
    """The JSON of a benchmark."""
    start = time.perf_counter()
    results = {**BENCHES, "prompts": tune.run}[name](world, settings)
    return common.report(name, world, settings, results, time.perf_counter() - start)


def _finish(content: dict, world: common.World, settings: common.Settings, folder: Path | None) -> None:
    """Show what was measured, put it into the report; its parts are not needed any more."""
    name = content["name"]
    print(common.table(content["results"], "{name}: {base}, memory {memory}, {seconds} s".format_map(content)))
    if settings.lacks:
        print(f"LIMITED ({settings.lacks}): a quick look, not a result.")
    if folder:
        _write(folder / f"{name}.json", content)
        print(f"The report is {report.write(folder)}.")
    common.parts(name, world, settings).finish(folder and folder / f"{name}.questions.jsonl")


def _write(path: Path, content: dict) -> None:
    common.write_json(path, content)
    print(f"Written to {path}.")
