"""`python -m mam bench NAME --json FILE`: arguments, a table on stdout. Measures nothing itself."""

from __future__ import annotations

import argparse
import sys
import time
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
    parser.add_argument("name", choices=[*BENCHES, "all"], help="what to measure")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results there; interrupted runs on real text resume"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="and there, with a page of tables and figures of all"
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
        _finish("prompts", tune.run, world, _settings("prompts", arguments, split="val"), None)
        return 0
    failed = []
    for name in BENCHES if arguments.name == "all" else [arguments.name]:
        try:
            _finish(name, BENCHES[name], world, _settings(name, arguments), arguments.report)
        except (InputError, WeightsError) as error:
            if arguments.name != "all":
                raise
            print(f"{name} was left out: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise InputError(f"Not measured: {', '.join(failed)}; the reasons are above. All else was.")
    return 0


def _settings(name: str, arguments: argparse.Namespace, **others) -> common.Settings:
    path = arguments.json
    if path and arguments.name == "all":
        path = path.with_name(f"{path.stem}-{name}{path.suffix or '.json'}")
    elif not path and arguments.report:
        path = arguments.report / f"{name}.json"
    return common.Settings(
        lives=arguments.lives, seed=arguments.seed, limit=arguments.limit, data=arguments.data, json=path, **others
    )


def _finish(name: str, bench, world: common.World, settings: common.Settings, folder: Path | None) -> None:
    start = time.perf_counter()
    results = bench(world, settings)
    content = common.report(name, world, settings, results, time.perf_counter() - start)
    print(common.table(results, f"{name}: {content['base']}, memory {content['memory']}, {content['seconds']} s"))
    if settings.lacks:
        print(f"LIMITED ({settings.lacks}): a quick look, not a result.")
    for path in {settings.json, folder and folder / f"{name}.json"} - {None}:
        common.write_json(path, content)
        print(f"Written to {path}.")
    if folder:
        print(f"The report is {report.write(folder)}.")
    common.parts(name, world, settings).finish(folder and folder / f"{name}.questions.jsonl")
