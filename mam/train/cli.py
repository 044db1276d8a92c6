"""`python -m mam train` and `python -m mam attach`: from data to shipped weights, resumable, with a model card."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mam import base as bases
from mam import device as devices
from mam.base import Base
from mam.engine import cannot_carry
from mam.errors import InputError, WeightsError
from mam.integrator import Integrator, IntegratorConfig
from mam.model import PARTS as SAVED
from mam.model import SHIPPED, MemoryModel, Settings, settings_of
from mam.packs.files import used
from mam.train import integrator, memory, relation, reranker, sets
from mam.train.card import LIVES, LIVES_AND_SETS, hardware, records, write_card
from mam.train.data import Scene
from mam.train.loop import Part, Schedule, forecast, seed_of, train
from mam.train.memory import Material
from mam.train.tune import calibrate, read_of_passages, tune_gate, tune_reading, tune_relation

SEED = 0
PARTS = {
    "memory": Schedule(steps=340, every=50, minutes=10),
    "reranker": Schedule(steps=1800, every=300, patience=5, minutes=33),
    "relation": Schedule(steps=900, every=150, minutes=7),
    "integrator": Schedule(steps=720, every=120, minutes=38),
}
SMOKE = {name: Schedule(steps=2, every=2) for name in PARTS}
SMOKE_RUN = "runs/smoke"
SETTINGS, WEIGHTS = "memory.json", {part: f"{part}.safetensors" for part in SAVED}  # files of a memory model
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
    start: Path  # the memory model whose other parts and thresholds stay
    out: Path  # the memory model with what was trained
    validation: int = VALIDATION

    @property
    def made(self) -> Path:
        """The memory model in the making: `out` has the old one until all parts are trained."""
        return self.run / "made"

    def of(self, part: str, **more: Any) -> dict[str, Any]:
        """What a run of this part depends on; a checkpoint of another one is nothing to go on from."""
        return {"seed": SEED, "schedule": asdict(self.schedules[part]), "number of lives": self.validation, **more}


def add_arguments(parser: argparse.ArgumentParser, attach: bool = False) -> None:
    """Options of `train`, or with `attach` those of `attach`."""
    add, run = parser.add_argument, "runs/attach" if attach else "runs/train"
    named = f"{', '.join(bases.FETCHED)}, a hub id, a folder or a GGUF file"
    add("--base", default=bases.DEFAULT, metavar="ID", help=named)
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--data", metavar="DIR", help="folder with the public data sets (see README); without it, lives only")
    add("--out", metavar="DIR", help="folder of the memory model (default: the shipped one's)")
    resumes = "checkpoints and loss curves; naming the same folder resumes"
    add("--run", metavar="DIR", help=f"{resumes} (default: {run})")
    add("--steps", type=int, metavar="N", help="steps of each part that is trained")
    add("--validation", type=int, default=VALIDATION, metavar="N", help="lives to validate on")
    smoke = f"a few steps of everything: does it run? Without --run and --out all of it goes to {SMOKE_RUN}, anew"
    add("--smoke", action="store_true", help=smoke)
    if not attach:
        add("--parts", default=",".join(PARTS), help="which parts to train; the others are taken from --out")
    parser.set_defaults(default_run=run)


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
    material, lives = Path(args.data) if args.data else None, 3 if args.smoke else args.validation
    if args.smoke and args.out and Path(args.out).resolve() == SHIPPED.resolve():
        raise InputError("A smoke run's weights are of no use and never replace the shipped ones; leave out --out.")
    device = devices.pick(args.device)
    # first of all: hours later would be a bad time to learn that the base cannot be had
    base = _carrier(args.base, device) if "integrator" in parts else None
    folder = Path(args.run or (SMOKE_RUN if args.smoke else args.default_run))
    if args.smoke and not args.run:  # what an earlier one has reached says nothing
        shutil.rmtree(folder, ignore_errors=True)
    if attach:  # what was begun for one base is nothing to go on from for another, and names may be alike
        folder /= re.sub(r"\W+", "-", f"{args.base}-{base.fingerprint}").strip("-")
    out = Path(args.out or (folder / "model" if args.smoke else SHIPPED))
    start = out if args.out else SHIPPED
    job = Job(parts, schedules, args.base, device, material, folder, start, out, lives)
    with used(f"the run in {folder}"):
        figures = train_all(job, base)
    print(json.dumps(figures, indent=2))
    return 0


def train_all(job: Job, base: Base | None) -> dict[str, dict[str, float]]:
    """Train the parts in order, `base` being the integrator's; returns the figures of each part's best validation, and
    with those of the reader what its thresholds make of held-out passages.

    The memory model of the job is what it was until all of them are trained.
    """
    figures = {}
    _begin(job)
    material, held_out = Material.load(job.data, "train"), Material.load(job.data, "val")
    learned = {"set of data": sets.fingerprint(job.data)}
    if "memory" in job.parts:
        _seed("memory")
        anew = set(SAVED) <= set(job.parts) or not (job.made / SETTINGS).exists()
        settings = Settings() if anew else settings_of(job.made)
        model = MemoryModel(settings, job.device, devices.precision(job.device))
        part = memory.part(model, material, held_out, job.validation)
        figures["memory"] = _train(job, part, **learned)
        model.encoder.fold()
        _keep(job, model, ["memory"], tune_gate(model, memory.scenes("val", job.validation)))
        if "reranker" not in job.parts and (job.made / "reranker.safetensors").exists():
            # it stays, but the first look is another one, and the thresholds are for both looks together
            model = MemoryModel.load(job.made, job.device, ["memory", "reranker"])
            figures["memory"] |= _keep_reading(job, model, [], memory.scenes("val", job.validation, held_out.passages))
    if "reranker" in job.parts:
        _seed("reranker")
        model = MemoryModel.load(job.made, job.device, ["memory"])
        val = memory.scenes("val", job.validation, held_out.passages)
        part = reranker.part(model, material.passages, val)
        figures["reranker"] = _train(job, part, **learned, **{"memory model": model.fingerprint})
        model.reranker.encoder.fold()
        calibrate(model.reranker, [case for s in val if s.personal for case in reranker.cases(model, s)])
        figures["reranker"] |= _keep_reading(job, model, ["reranker"], val)
    if "relation" in job.parts:
        _seed("relation")
        model = MemoryModel.load(job.made, job.device, ["memory"])
        figures["relation"] = _train(job, relation.part(model))
        model.relation.encoder.fold()
        _keep(job, model, ["relation"], tune_relation(model, job.validation))
    module = None
    if "integrator" in job.parts:
        _seed("integrator")
        model = MemoryModel.load(job.made, job.device)
        module = Integrator(base, IntegratorConfig(base=base.fingerprint))
        part = integrator.part(model, module, material.passages, held_out.passages, TRIALS * job.validation)
        print(forecast(part, job.schedules["integrator"], job.run), flush=True)
        learned |= {"base": base.fingerprint, "memory model": _reads(job)}
        figures["integrator"] = _train(job, part, **learned)
    _finish(job, model, module)
    write_card(job.out, _record(job, figures))
    return figures


def _carrier(id: str, device: torch.device) -> Base:
    """The base that an integrator is wanted for. Raises WeightsError when no integrator can be trained for it."""
    base = bases.load(id, str(device))
    if why := cannot_carry(base):
        raise WeightsError(f"No integrator can be trained for {base.id}: {why}. Without one it gets memories as text.")
    if why := integrator.unteachable(base):
        raise WeightsError(f"No integrator can be trained for {base.id}: {why}; use another base.")
    return base


def _begin(job: Job) -> None:
    """A copy of the memory model to work on. Raises what would otherwise be found out hours later."""
    shutil.rmtree(job.made, ignore_errors=True)
    job.made.mkdir(parents=True)
    for name in (SETTINGS, *WEIGHTS.values()):
        if (job.start / name).exists():
            shutil.copyfile(job.start / name, job.made / name)
    job.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=job.out):
        records(job.out)


def _seed(part: str) -> None:
    """Each part begins at weights of its own, whatever was trained before it in this run."""
    torch.manual_seed(seed_of(SEED, part))


def _train(job: Job, part: Part, **of: Any) -> dict[str, float]:
    name = part.name
    return train(part, job.schedules[name], job.run, seed=SEED, of=job.of(name, **of))


def _keep(job: Job, model: MemoryModel, parts: list[str], tuned: dict) -> None:
    """Save what was trained and the settings tuned with it; the other files stay."""
    model.settings = replace(model.settings, **tuned)
    model.save(job.made, parts)


def _keep_reading(job: Job, model: MemoryModel, parts: list[str], val: list[Scene]) -> dict[str, float]:
    """The same with the thresholds of both looks together; returns what these make of passages."""
    _keep(job, model, parts, tune_reading(model, [s for s in val if s.personal]))
    return read_of_passages(model, [s for s in val if not s.personal])


def _reads(job: Job) -> str:
    """Fingerprint of what reads: an integrator learns with it. Of what was trained, not of what was fitted to that
    afterwards, which a machine may round in another way each time that the run is gone on with."""
    digest = hashlib.sha256()
    for file in sorted(job.made.glob("*.safetensors")):
        tensors = load_file(file) if file.name != WEIGHTS["relation"] else {}
        for name in sorted(name for name in tensors if "low_rank" in name):
            digest.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _finish(job: Job, model: MemoryModel, module: Integrator | None) -> None:
    """Put what was trained in place, and what is not there at all; settings last."""
    tuned = [SETTINGS] if set(job.parts) & set(SAVED) else []
    trained = [WEIGHTS[part] for part in job.parts if part in SAVED] + tuned
    for name in (*WEIGHTS.values(), SETTINGS):
        if (job.made / name).exists() and (name in trained or not (job.out / name).exists()):
            shutil.copyfile(job.made / name, job.out / f"{name}.part")
            (job.out / f"{name}.part").replace(job.out / name)
    if module is not None:
        model.save_attachment(module, Path(job.base).resolve().name.removesuffix(".gguf"), job.out)
    shutil.rmtree(job.made)


def _bounds(schedule: Schedule) -> dict:
    """What bounds a run; JSON knows no infinity."""
    return {name: value for name, value in asdict(schedule).items() if abs(value) < float("inf")}


def _record(job: Job, figures: dict[str, dict[str, float]]) -> dict:
    """What the model card says of this run."""
    return {
        "parts": job.parts,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(sum(found["seconds"] for found in figures.values())),  # interruptions apart
        "schedules": {name: _bounds(job.schedules[name]) for name in job.parts},
        "validation": figures,
        "data": ["lives", *(["SQuADShifts", "QAMR", "FairytaleQA", "Synthetic-Persona-Chat"] if job.data else [])],
        "validated on": LIVES_AND_SETS if job.data else LIVES,
        "base": job.base if "integrator" in job.parts else None,
        "seed": SEED,
        "hardware": hardware(job.device),
    }
