"""`python -m mam train` and `python -m mam attach`: from data to shipped weights, resumable, with a model card."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from mam import base as bases
from mam import device as devices
from mam.base import Base
from mam.errors import InputError
from mam.integrator import Integrator, IntegratorConfig
from mam.model import SHIPPED, MemoryModel, Settings
from mam.train import integrator, memory, relation
from mam.train.card import write_card
from mam.train.data import passages
from mam.train.loop import Schedule, train
from mam.train.tune import tune, tune_relation

SEED = 0
FULL = {
    "memory": Schedule(steps=400, every=50, minutes=20),
    "relation": Schedule(steps=1500, every=150, minutes=15),
    "integrator": Schedule(steps=600, every=100, minutes=50),
}
SMOKE = {name: Schedule(steps=2, every=2) for name in FULL}


def add_arguments(parser: argparse.ArgumentParser, attach: bool = False) -> None:
    """Options of `train`, or with `attach` those of `attach`."""
    parser.add_argument(
        "--base",
        default=bases.DEFAULT,
        metavar="ID",
        help="smollm2-135m, a hub id, a folder or a GGUF file",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder with the public question-answer sets (see README); without it, lives only",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=str(SHIPPED),
        help="where the memory model is written (default: the shipped one's folder)",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        default="runs/attach" if attach else "runs/train",
        help="checkpoints and loss curves; the same folder resumes",
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything: does it run?")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the integrator")
    if not attach:
        parser.add_argument(
            "--parts",
            default="memory,relation,integrator",
            help="which parts to train; the others are taken from --out",
        )


def run(args: argparse.Namespace, attach: bool = False) -> int:
    """Train what was asked for; the options are those of `add_arguments`."""
    parts = ["integrator"] if attach else [p.strip() for p in args.parts.split(",") if p.strip()]
    if unknown := set(parts) - set(FULL):
        raise InputError(f"There is no part {', '.join(sorted(unknown))}; the parts are {', '.join(FULL)}.")
    schedules = dict(SMOKE if args.smoke else FULL)
    if args.steps:
        schedules["integrator"] = replace(schedules["integrator"], steps=args.steps)
    folder, out = Path(args.run), Path(args.out)
    data = Path(args.data) if args.data else None
    train_all(
        parts,
        schedules,
        folder,
        out,
        data,
        args.base,
        args.device,
        validation=8 if args.smoke else 48,
    )
    return 0


def train_all(
    parts: list[str],
    schedules: dict[str, Schedule],
    folder: Path,
    out: Path,
    data: Path | None,
    base: str,
    device: str,
    validation: int = 48,
) -> None:
    """Train `parts` in order, saving into `out` after each, so that an interruption loses at most one checkpoint."""
    began = time.time()
    torch.manual_seed(SEED)
    pool, val_pool = (passages(data, "train"), passages(data, "val")) if data else ([], [])
    where = devices.pick(device)
    model = (
        MemoryModel(Settings(), where, devices.precision(where)) if "memory" in parts else MemoryModel.load(out, where)
    )
    figures: dict[str, dict[str, float]] = {}
    if "memory" in parts:
        val = memory.scenes("val", validation, val_pool)
        figures["memory"] = train(memory.part(model, pool, val), schedules["memory"], folder)
        model.encoder.fold()
        model.settings = replace(model.settings, **tune(model, val))
        model.save(out)
    if "relation" in parts:
        figures["relation"] = train(relation.part(model), schedules["relation"], folder)
        model.settings = replace(model.settings, **tune_relation(model, relation.pairs("val")))
        model.save(out)
    if "integrator" in parts:
        figures["integrator"] = _attach(
            MemoryModel.load(out, where),
            bases.load(base, str(where)),
            schedules["integrator"],
            folder,
            out,
            pool,
            val_pool,
        )
    record = {
        "parts": parts,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.time() - began),
        "schedules": {name: asdict(schedules[name]) for name in parts},
        "validation": figures,
        "data": sorted({"lives", *(["squadshifts", "qamr", "fairytaleqa"] if data else [])}),
        "seed": SEED,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {where}, torch {torch.__version__}",
    }
    write_card(out, record)
    print(json.dumps(figures, indent=2))


def _attach(
    model: MemoryModel,
    base: Base,
    schedule: Schedule,
    folder: Path,
    out: Path,
    pool,
    val_pool,
) -> dict[str, float]:
    module = Integrator(base, IntegratorConfig(base=base.fingerprint))
    found = train(integrator.part(model, module, pool, val_pool), schedule, folder)
    model.save_attachment(module, Path(str(base.id)).stem, out)
    return found
