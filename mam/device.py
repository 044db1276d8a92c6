"""Where to compute and in which precision.

Knows torch and the folder that remembers measurements; does not know the base, the memory model or chats.
Asked once, when the base is loaded.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import torch
from torch.nn.functional import linear

from mam import fetch
from mam.errors import InputError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
GAIN = 0.9  # bfloat16 must take less than this share of float32's time, or it is not worth its rounding
PASSES = {64: 1, 1: 16}  # rows of a pass through the layers and how many there are: what a turn does, prompt and reply
ROUNDS, ENOUGH, SECONDS = 20, 6, 3.0  # rounds of a measurement, and of one that takes longer than so many seconds


def pick(name: str = "auto") -> torch.device:
    """The device to compute on: "auto" is CUDA, else MPS, else the CPU.

    Raises InputError for a device that torch does not know or this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA answers with an AssertionError
        raise InputError(f'Device "{name}" is not available here; use "auto" or "cpu".') from error
    return device


def precision(device: torch.device) -> torch.dtype:
    """The precision for the base: MAM_DTYPE if set, else bfloat16 where it is measurably faster, else float32.

    Measured once per machine in a fraction of a second and remembered in the cache folder.
    Raises InputError for an unknown MAM_DTYPE.
    """
    wanted = os.environ.get("MAM_DTYPE")
    if wanted:
        if wanted not in DTYPES:
            raise InputError(f'MAM_DTYPE is "{wanted}"; use one of {", ".join(DTYPES)}, or unset it.')
        return DTYPES[wanted]
    path, key = fetch.cache() / "precision.json", f"{_processor(device)}, torch {torch.__version__}"
    known = _remembered(path)
    if known.get(key) not in DTYPES:
        known[key] = _measure(device)
        _remember(path, known)
    return DTYPES[known[key]]


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():  # family and model number tell apart processors that share a marketing name
        fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        model = " ".join(fields[key] for key in ("model name", "cpu family", "model") if key in fields) or model
    return f"{device.type} {model}"


def _measure(device: torch.device) -> str:
    """Both in turn, in pieces shorter than a time slice, the best of each: other programs can only make one slower."""
    dtypes = torch.bfloat16, torch.float32
    try:
        layers = [torch.randn(1536, 576, device=device) for _ in range(16)]  # too many for the inner caches
        weights = {dtype: [layer.to(dtype) for layer in layers] for dtype in dtypes}
        best = {(dtype, rows): float("inf") for dtype in dtypes for rows in PASSES}
        began = time.perf_counter()
        for done in range(ROUNDS):
            if done >= ENOUGH and time.perf_counter() - began > SECONDS:
                break
            for dtype, rows in best:
                best[dtype, rows] = min(best[dtype, rows], _seconds(weights[dtype], rows))
    except (RuntimeError, TypeError):  # a device without bfloat16
        return "float32"
    low, full = (sum(best[dtype, rows] * passes for rows, passes in PASSES.items()) for dtype in dtypes)
    return "bfloat16" if low < GAIN * full else "float32"


def _seconds(weights: list[torch.Tensor], rows: int) -> float:
    x = torch.randn(rows, weights[0].shape[1], device=weights[0].device).to(weights[0].dtype)
    start = time.perf_counter()
    for weight in weights:
        out = linear(x, weight)
    out.sum().item()  # waits for the device
    return time.perf_counter() - start


def _remembered(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):  # never measured, or the note is damaged: measure again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(path: Path, known: dict[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(known, indent=1))
        part.replace(path)
    except OSError:
        return  # an unwritable cache costs a fraction of a second at the next start, nothing else
