"""`python -m mam train` and `python -m mam attach`: from data to shipped weights, resumable, with a model card."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from mam import base as bases
from mam import device as devices
from mam.base import Base
from mam.engine import cannot_carry
from mam.errors import InputError, WeightsError
from mam.integrator import Integrator, IntegratorConfig
from mam.model import SHIPPED, MemoryModel, Settings
from mam.train import integrator, memory, relation, reranker
from mam.train.card import hardware, write_card
from mam.train.loop import Schedule, forecast, train
from mam.train.memory import Material
from mam.train.tune import calibrate, tune_gate, tune_reading, tune_relation

SEED = 0
PARTS = {
    "memory": Schedule(steps=400, every=50, minutes=20),
    "reranker": Schedule(steps=3000, every=300, patience=5, minutes=40),
    "relation": Schedule(steps=600, every=150, minutes=8),
    "integrator": Schedule(steps=960, every=120, minutes=40),
}
SMOKE = {name: Schedule(steps=2, every=2) for name in PARTS}
VALIDATION = 48  # lives
TRIALS = 3  # of the integrator's validation, for each of these


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where the files go."""

    parts: list[str]
    schedules: dict[str, Schedule]
    base: str
    device: torch.device
    data: Path | None
    run: Path  # checkpoints and loss curves
    out: Path  # the memory model
    validation: int = VALIDATION


def add_arguments(parser: argparse.ArgumentParser, attach: bool = False) -> None:
    """Options of `train`, or with `attach` those of `attach`."""
    add, run = parser.add_argument, "runs/attach" if attach else "runs/train"
    named = f"{', '.join(bases.FETCHED)}, a hub id, a folder or a GGUF file"
    add("--base", default=bases.DEFAULT, metavar="ID", help=named)
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--data", metavar="DIR", help="folder with the public data sets (see README); without it, lives only")
    add("--out", metavar="DIR", default=str(SHIPPED), help="folder of the memory model (default: the shipped one's)")
    add("--run", metavar="DIR", default=run, help="checkpoints and loss curves; naming the same folder resumes")
    add("--steps", type=int, metavar="N", help="steps of each part that is trained")
    add("--validation", type=int, default=VALIDATION, metavar="N", help="lives to validate on")
    add("--smoke", action="store_true", help="a few steps of everything: does it run?")
    if not attach:
        add("--parts", default=",".join(PARTS), help="which parts to train; the others are taken from --out")


def run(args: argparse.Namespace, attach: bool = False) -> int:
    """Train what was asked for; the options are those of `add_arguments`. Raises InputError."""
    parts = ["integrator"] if attach else [p.strip() for p in args.parts.split(",") if p.strip()]
    if unknown := set(parts) - set(PARTS):
        raise InputError(f"There is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}.")
    schedules = dict(SMOKE if args.smoke else PARTS)
    for name in ("steps", "validation"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise InputError(f"--{name} is {number}; it must be at least 1.")
    if args.steps is not None:
        few = max(1, args.steps // 4)
        schedules = {name: replace(s, steps=args.steps, every=min(s.every, few)) for name, s in schedules.items()}
    data, lives = Path(args.data) if args.data else None, 3 if args.smoke else args.validation
    folder = Path(args.run)
    if attach:  # what was begun for one base is nothing to go on from for another
        folder /= re.sub(r"\W+", "-", args.base).strip("-")
    job = Job(parts, schedules, args.base, devices.pick(args.device), data, folder, Path(args.out), lives)
    figures = train_all(job)
    print(json.dumps(figures, indent=2))
    return 0


def train_all(job: Job) -> dict[str, dict[str, float]]:
    """Train the parts in order, saving after each; returns the figures of each part's best validation."""
    figures = {}
    base = _carrier(job) if "integrator" in job.parts else None
    torch.manual_seed(SEED)
    material, held_out = Material.load(job.data, "train"), Material.load(job.data, "val")
    if "memory" in job.parts:
        model = MemoryModel(Settings(), job.device, devices.precision(job.device))
        part = memory.part(model, material, held_out, job.validation)
        figures["memory"] = train(part, job.schedules["memory"], job.run)
        model.encoder.fold()
        _keep(job, model, "memory", tune_gate(model, memory.scenes("val", job.validation)))
    if "reranker" in job.parts:
        model = MemoryModel.load(job.out, job.device, ["memory"])
        val = memory.scenes("val", job.validation, held_out.passages)
        figures["reranker"] = train(reranker.part(model, material.passages, val), job.schedules["reranker"], job.run)
        model.reranker.encoder.fold()
        lives = [s for s in val if s.personal]
        calibrate(model.reranker, [case for s in lives for case in reranker.cases(model, s)])
        _keep(job, model, "reranker", tune_reading(model, lives))
    if "relation" in job.parts:
        model = MemoryModel.load(job.out, job.device, ["memory"])
        figures["relation"] = train(relation.part(model), job.schedules["relation"], job.run)
        model.relation.encoder.fold()
        _keep(job, model, "relation", tune_relation(model, job.validation))
    if "integrator" in job.parts:
        model = MemoryModel.load(job.out, job.device)
        module = Integrator(base, IntegratorConfig(base=base.fingerprint))
        part = integrator.part(model, module, material.passages, held_out.passages, TRIALS * job.validation)
        print(forecast(part, job.schedules["integrator"], job.run), flush=True)
        figures["integrator"] = train(part, job.schedules["integrator"], job.run)
        model.save_attachment(module, Path(base.id).resolve().name.removesuffix(".gguf"), job.out)
    write_card(job.out, _record(job, figures))
    return figures


def _carrier(job: Job) -> Base:
    """The base that an integrator is wanted for. Raises WeightsError when no integrator can reach it."""
    base = bases.load(job.base, str(job.device))  # first of all: hours later would be a bad time to learn of it
    if why := cannot_carry(base):
        raise WeightsError(f"No integrator can be trained for {base.id}: {why}. Without one it gets memories as text.")
    return base


def _keep(job: Job, model: MemoryModel, part: str, tuned: dict) -> None:
    """Save a part that was trained and the settings tuned with it; the other files stay."""
    model.settings = replace(model.settings, **tuned)
    model.save(job.out, [part])


def _record(job: Job, figures: dict[str, dict[str, float]]) -> dict:
    """What the model card says of this run."""
    return {
        "parts": job.parts,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(sum(found["seconds"] for found in figures.values())),  # interruptions apart
        "schedules": {name: asdict(job.schedules[name]) for name in job.parts},
        "validation": figures,
        "data": ["lives", *(["SQuADShifts", "QAMR", "FairytaleQA", "Synthetic-Persona-Chat"] if job.data else [])],
        "base": job.base if "integrator" in job.parts else None,
        "seed": SEED,
        "hardware": hardware(job.device),
    }
