"""One training loop for every part: progress, loss curves, checkpoint and resume, early stopping on validation.

Knows optimisers and files; does not know what it trains. A batch is a function of the step alone, and with a seed so is
chance (dropout), so a run that was interrupted and resumed goes on as if nothing had happened. Files in the run's
folder, per part:

    NAME.csv            step, split, one column per loss, written as they come
    NAME.state.json     checkpoint: step, best score and what it was made of, and in
    NAME.state-STEP.*   its weights and optimiser moments (safetensors)
    NAME.best.safetensors   the weights with the best validation score so far
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from mam.errors import InputError, WeightsError
from mam.model import trained

STOP = "stop"  # a file of this name in the run's folder: validate and end after this step


@dataclass
class Part:
    """What the loop needs to know of a part. `validate` returns named figures; "score" decides, higher is better."""

    name: str
    module: nn.Module
    groups: list[dict]  # optimiser parameter groups, each with its learning rate
    batch: Callable[[int], Any]
    losses: Callable[[Any], dict[str, Tensor]]
    validate: Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Schedule:
    steps: int
    every: int = 50  # steps between validations, each with a checkpoint
    patience: int = 4  # validations without a better score before it stops
    minutes: float = float("inf")  # wall-clock limit
    enough: float = float("inf")  # a score with which it is over: there is nothing left to learn
    warmup: int = 20


def train(
    part: Part,
    schedule: Schedule,
    folder: Path,
    *,
    quiet: bool = False,
    seed: int | None = None,
    of: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Train `part`, leave its best weights in it, and return the figures of its best validation.

    quiet: without a bar and lines of its own, for who shows progress in another way.
    seed: of the chance in each step; without one torch's generator is left alone, and a part must not draw from it.
    of: what it is made of by name, as JSON has it; a checkpoint is only gone on from when all of that is the same.

    Raises InputError when a checkpoint in `folder` is of something else, WeightsError when it is damaged, and the
    OSError or SafetensorError of a disk that cannot be written: the checkpoint before is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    optimiser = torch.optim.AdamW(part.groups, weight_decay=0.01)
    rates = [group["lr"] for group in optimiser.param_groups]
    state = _resume(part, optimiser, folder, of)
    best_file = folder / f"{part.name}.best.safetensors"
    began = time.monotonic() - state["seconds"]
    bar = tqdm(
        total=schedule.steps,
        initial=state["step"],
        desc=part.name,
        unit="step",
        dynamic_ncols=True,
        **({"disable": True} if quiet else {}),  # else as the environment says
    )
    part.module.train()
    batches = _batches(part, state["step"])
    while state["step"] < schedule.steps and not state["done"]:
        step = state["step"]
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * _rate(step, time.monotonic() - began, schedule)
        if seed is not None:
            torch.manual_seed(seed_of(seed, part.name, step))
        losses = part.losses(next(batches))
        total = sum(losses.values())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_([p for g in part.groups for p in g["params"]], 1.0)
        optimiser.step()
        state["step"] += 1
        figures = {name: loss.item() for name, loss in losses.items()}
        _log(folder, part.name, state["step"], "train", figures)
        bar.update()
        bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()})
        late = time.monotonic() - began > 60 * schedule.minutes or (folder / STOP).exists()
        if state["step"] % schedule.every == 0 or state["step"] == schedule.steps or late:
            found = _validate(part)
            _log(folder, part.name, state["step"], "val", found)
            line = f"{part.name} step {state['step']}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items())
            if not quiet:
                bar.write(line)
            if found["score"] > state["best"].get("score", float("-inf")):
                state["best"], state["stale"] = found | {"step": state["step"]}, 0
                _write(trained(part.module), best_file)
            else:
                state["stale"] += 1
            state["done"] = state["stale"] >= schedule.patience or late or found["score"] >= schedule.enough
            state["seconds"] = time.monotonic() - began
            _checkpoint(part, optimiser, state, folder)
    bar.close()
    batches.close()
    with _legible(best_file):
        part.module.load_state_dict(load_file(best_file), strict=False)
    part.module.eval()
    return state["best"] | {"seconds": state["seconds"]}


def forecast(part: Part, schedule: Schedule, folder: Path) -> str:
    """How long `train` will take at most, in words, from a step and a validation that change nothing."""
    done = _state(part, folder) or {"step": 0, "seconds": 0.0, "done": False}
    left = 0 if done["done"] else schedule.steps - done["step"]
    batch = part.batch(0)
    began = time.monotonic()
    total = sum(part.losses(batch).values())
    total.backward()
    total.item()  # waits for the device
    step, began = time.monotonic() - began, time.monotonic()
    part.module.zero_grad(set_to_none=True)
    _validate(part)
    looks, look = -(-left // schedule.every), time.monotonic() - began
    seconds = min(left * step + looks * look, max(60 * schedule.minutes - done["seconds"], 0))
    return (
        f"{part.name}: {left} steps of {step:.1f} s and {looks} validations of {look:.0f} s, at most"
        f" {seconds / 60:.0f} min. Whenever it is interrupted, the same command goes on."
    )


def seed_of(*what: object) -> int:
    """A seed that is a function of these things alone."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:4], "big")


def _batches(part: Part, step: int) -> Iterator[Any]:
    """The batches from `step` on; while one is learned from, the next is made."""
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(part.batch, step)
        while True:
            batch, step = following.result(), step + 1
            following = ahead.submit(part.batch, step)
            yield batch


def _rate(step: int, seconds: float, schedule: Schedule) -> float:
    """Linear warm-up, then linear decay to a twentieth, by the steps or by the time, whichever will end it."""
    over = max(step / schedule.steps, seconds / (60 * schedule.minutes))
    return min(1.0, (step + 1) / schedule.warmup) * max(0.05, 1 - over)


def _validate(part: Part) -> dict[str, float]:
    part.module.eval()
    with torch.no_grad():
        found = part.validate()
    part.module.train()
    return found


def _log(folder: Path, name: str, step: int, split: str, figures: dict[str, float]) -> None:
    with (folder / f"{name}.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        for key, value in figures.items():
            writer.writerow([step, split, key, f"{value:.5f}"])


def _checkpoint(part: Part, optimiser: torch.optim.Optimizer, state: dict, folder: Path) -> None:
    moments = {f"{i}.{k}": v for i, s in optimiser.state_dict()["state"].items() for k, v in s.items()}
    files = _state_files(part, state, folder)  # beside those of the last one, which counts until this one is whole
    _write(trained(part.module), files[0])
    _write(moments, files[1])
    temporary = folder / f"{part.name}.state.part"
    temporary.write_text(json.dumps(state))
    _to_disk(temporary)
    temporary.replace(folder / f"{part.name}.state.json")  # last: without it the checkpoint does not exist
    for old in {*folder.glob(f"{part.name}.state-*"), *_state_files(part, None, folder)} - set(files):
        old.unlink(missing_ok=True)


def _state_files(part: Part, state: dict | None, folder: Path) -> tuple[Path, Path]:
    """Where weights and moments of a checkpoint are; None: of one by an earlier version of this module."""
    begin = f"{part.name}.state" if state is None else f"{part.name}.state-{state['step']}"
    return folder / f"{begin}.weights.safetensors", folder / f"{begin}.moments.safetensors"


def _resume(part: Part, optimiser: torch.optim.Optimizer, folder: Path, of: Mapping[str, Any] | None) -> dict:
    state = _state(part, folder)
    if state is None:
        (folder / f"{part.name}.csv").write_text("step,split,figure,value\n")
        made = {} if of is None else {"of": dict(of)}
        return {"step": 0, "best": {}, "stale": 0, "done": False, "seconds": 0.0, **made}
    if of is not None and "of" not in state:
        raise InputError(
            f"The run of {part.name} in {folder} was begun by an earlier mam, which did not note what it is made of;"
            " name another folder (--run) to begin anew, or remove that one."
        )
    if of is not None and (other := _differing(state["of"], of)):
        raise InputError(
            f"The run of {part.name} in {folder} was begun with another {' and another '.join(other)};"
            " name another folder (--run) to begin anew, or remove that one."
        )
    weights, moments = _state_files(part, state, folder)
    if not weights.exists():
        weights, moments = _state_files(part, None, folder)
    with _legible(weights):
        part.module.load_state_dict(load_file(weights), strict=False)
    with _legible(moments):
        stored = optimiser.state_dict()
        for key, value in load_file(moments).items():
            i, name = key.split(".", 1)
            stored["state"].setdefault(int(i), {})[name] = value
        optimiser.load_state_dict(stored)
    with _legible(folder / f"{part.name}.csv"):
        _forget_after(state["step"], folder / f"{part.name}.csv")
    return state


def _state(part: Part, folder: Path) -> dict | None:
    """What the checkpoint says, if there is one. Raises WeightsError."""
    file = folder / f"{part.name}.state.json"
    if not file.exists():
        return None
    with _legible(file):
        state = json.loads(file.read_text())
        if not {"step", "best", "stale", "done", "seconds"} <= state.keys():
            raise ValueError
    return state


def _differing(begun: Mapping[str, Any], of: Mapping[str, Any]) -> list[str]:
    """The names of what is not the same."""
    return [name for name, value in of.items() if begun.get(name) != value]


@contextmanager
def _legible(file: Path) -> Iterator[None]:
    """Whatever is wrong with a file of a checkpoint raises WeightsError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file} is damaged, or of another version; remove {file.parent} to begin anew, or bring the file back."
        ) from error


def _forget_after(step: int, log: Path) -> None:
    """Steps after the checkpoint are made, and logged, again."""
    head, *rows = log.read_text().splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.partition(",")[0]) <= step]
    log.write_text("".join([head, *kept]))


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    temporary = file.with_suffix(".part")
    save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
        temporary,
    )
    _to_disk(temporary)
    temporary.replace(file)


def _to_disk(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
