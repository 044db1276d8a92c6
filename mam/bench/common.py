"""What all benchmarks share: settings, a world (base and memory model), lives told to a space, results as JSON.

A life reaches the memory as it would from a person: utterance by utterance through `Chat.observe`, both speakers.
No benchmark hands the memory a label, a slot or the right evidence.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from tqdm import tqdm

from mam import lives as generator
from mam.base import Base
from mam.bench.parts import Parts, digest
from mam.bench.scoring import share
from mam.engine import Engine, engine
from mam.errors import InputError
from mam.model import SHIPPED, MemoryModel
from mam.space import Space
from mam.store import Store
from mam.values import Turn

if TYPE_CHECKING:
    from mam.endpoint import Endpoint

LIVES = 200  # of a full run
MAX_TOKENS = 32  # of every reply, memory and baselines alike
K = 8  # slots or sentences retrieved, memory and baselines alike
ALL = "all"  # the name of a run of every benchmark
MAM = Path(generator.__file__).parent.parent
GENERATOR = SHIPPED.parent / "generator"  # of packs


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run; stored with its results."""

    lives: int = LIVES
    seed: int = 0  # life i has seed `seed + i`
    split: str = "test"  # held-out kinds of fact, phrasings and values
    sessions: int = 3
    facts: int = 24
    limit: int | None = None  # at most so many lives, prompts and repetitions: a quick look, not a result
    data: Path | None = None  # folder with the public data sets
    json: Path | None = None  # where the results will be written; long benchmarks keep their parts beside it

    @property
    def limited(self) -> bool:
        return self.limit is not None

    @property
    def lacks(self) -> str:
        """What of a full run this one has not, in words; "" for a full one."""
        few = [f"at most {self.limit} of everything"] if self.limited else []
        few += [f"{self.lives} lives instead of {LIVES}"] if self.lives < LIVES else []
        return ", ".join([*few, *([f"lives from seed {self.seed} on"] if self.seed else [])])

    def capped(self, count: int) -> int:
        return count if self.limit is None else min(count, self.limit)


@dataclass(frozen=True)
class World:
    """The networks, loaded once and shared by every space of a run."""

    engine: Engine

    @classmethod
    def load(
        cls, base: str = "smollm2-135m", device: str = "auto", memory: Path | None = None, *, text: bool = False
    ) -> World:
        """Raises WeightsError when something is missing, InputError, unless `text`, for a base that is told its
        memories as text."""
        loaded = engine(base, device, memory)
        if loaded.integrator is None and not text:
            raise InputError(f"The benchmarks measure slot blocks, and {base} is told its memories as text.")
        return cls(loaded)

    @property
    def base(self) -> Base:
        return self.engine.base

    @property
    def memory(self) -> MemoryModel:
        return self.engine.memory

    @contextmanager
    def open(self, folder: Path) -> Iterator[Space]:
        """The space in a folder."""
        space = Space(Store(folder), self.engine)
        try:
            yield space
        finally:
            space.close()

    @contextmanager
    def space(self) -> Iterator[Space]:
        """An empty space in a temporary folder that is gone afterwards."""
        with temporary() as folder, self.open(folder) as space:
            yield space

    @contextmanager
    def told(self, life: generator.Life) -> Iterator[Space]:
        """A space to which this life was told, session by session."""
        with self.space() as space:
            tell(space, life)
            yield space


@contextmanager
def temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mam-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tell(space: Space, life: generator.Life) -> None:
    """Every utterance of every session through the ordinary write path, a minute apart."""
    for session in life.sessions:
        chat, at = space.session(f"{session.started:%d %B %Y %H:%M}"), session.started
        for utterance in session.utterances:
            chat.observe(utterance.text, speaker=utterance.speaker, at=at)
            at += timedelta(minutes=1)


def ask(space: Space, question: str, temporary: bool = False, max_tokens: int | None = None) -> Turn:
    """The question in a fresh session, greedily: no earlier question or answer is in sight.

    temporary: and the memory stays as it is, however many questions are asked.
    """
    chat = space.session(temporary=temporary)
    return chat.send(question, max_tokens=max_tokens or MAX_TOKENS, temperature=0.0)


@contextmanager
def gate(world: World, on: bool) -> Iterator[None]:
    """With the write gate as it is, or open: then every candidate is kept."""
    before = world.memory.settings
    world.memory.settings = before if on else replace(before, gate_threshold=0.0)
    try:
        yield
    finally:
        world.memory.settings = before


def parts(name: str, world: World, settings: Settings) -> Parts:
    """What an interrupted run of this benchmark with this code, these settings and weights has left, and a place for
    more."""
    folders = [world.memory.folder or SHIPPED, *([GENERATOR] if name in ("packs", ALL) else [])]
    base = world.base.fingerprint if isinstance(world.base, Base) else world.base.id
    made = {
        "bench": name,
        "code": _code(),
        "base": base,
        "weights": weights(world.base.id, *folders),
        **_rounding(world.base),
    }
    return Parts(settings.json, {**made, "seed": settings.seed, "limit": settings.limit})


def _rounding(base: Base | Endpoint) -> dict[str, str]:
    """What replies may depend on beside code and weights."""
    known = machine(base)
    return {key: known[key] for key in ("torch", "device", "dtype") if key in known}


def weights(base: str, *folders: Path) -> dict[str, str]:
    """sha256 of the files that trained parts are made of, by name; of attachments only of that to this base."""
    names = ("*.safetensors", "memory.json", "generator.json", "attachments/*.json")
    files = [file for folder in folders for name in names for file in sorted(folder.rglob(name))]
    own = Path(base).name.removesuffix(".gguf")
    return {file.name: _sha256(file) for file in files if file.parent.name != "attachments" or file.stem == own}


@cache
def _code() -> dict[str, str]:
    """sha256 of the sources, as they were when this was first asked: one may be edited while they run."""
    files = sorted(file for where in ("", "bench/", "lives/", "packs/", "train/") for file in MAM.glob(f"{where}*.py"))
    return {file.relative_to(MAM).as_posix(): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def peak_memory(device: torch.device | None = None) -> Iterator[dict[str, int]]:
    """MiB this process holds at most meanwhile, looked at every 10 ms: "peak", and "grown" since the beginning.

    With a CUDA device also "device": what torch had allocated there at most, networks included, as it counts itself.
    """
    there = device if device is not None and device.type == "cuda" else None
    process, done, found = psutil.Process(), threading.Event(), {}
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # what was freed before goes back to the system, or it would hide what comes
    before = most = process.memory_info().rss
    if there is not None:
        torch.cuda.reset_peak_memory_stats(there)

    def look() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
        most = max(most, process.memory_info().rss)
        found |= {"peak": round(most / 2**20), "grown": round((most - before) / 2**20)}
        if there is not None:
            found["device"] = round(torch.cuda.max_memory_allocated(there) / 2**20)


def mib(memory: dict[str, int]) -> dict[str, int]:
    """Of what `peak_memory` found, what a reply took: host memory of its own, and all of a CUDA device's."""
    named = {"grown": "memory_mib", "device": "device_mib"}
    return {name: memory[key] for key, name in named.items() if key in memory}


def lives(settings: Settings, what: str = "lives") -> Iterator[generator.Life]:
    """The lives of a run, with a progress bar."""
    for number in tqdm(range(settings.capped(settings.lives)), desc=what, unit="life", dynamic_ncols=True):
        yield life(settings, settings.seed + number)


def life(settings: Settings, seed: int) -> generator.Life:
    return generator.life(seed, settings.split, sessions=settings.sessions, facts=settings.facts)


def chosen_questions(life: generator.Life) -> list[generator.Question]:
    """Six questions of a life: three about one fact, one over several, one updated, one unknown.

    Fewer where the life has none of a kind; dates come up as often as they do among the life's questions.
    """
    draw = random.Random(life.seed)

    def some(count: int, *types: str) -> list[generator.Question]:
        pool = [question for question in life.questions if question.type in types]
        return draw.sample(pool, min(count, len(pool)))

    return [*some(3, "single", "date"), *some(1, "list", "hop"), *some(1, "updated"), *some(1, "unknown")]


def machine(base: Base | Endpoint) -> dict:
    """What the figures were measured on."""
    if isinstance(base, Base):
        where = {
            "device": torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else base.device.type,
            "dtype": str(base.dtype).removeprefix("torch."),
        }
    else:
        where = {"device": base.about()["device"], "dtype": None}
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **where,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def report(name: str, world: World, settings: Settings, results: dict, seconds: float) -> dict:
    """The JSON of a run."""
    how = {name: value for name, value in asdict(settings).items() if name != "json"}
    return {
        "name": name,
        "base": world.base.id,
        "memory": world.memory.fingerprint,
        "weights": digest(weights(world.base.id, world.memory.folder or SHIPPED)),
        "results": results,
        "machine": machine(world.base),
        "seconds": round(seconds, 1),
        "settings": {**how, "data": settings.data and settings.data.name, "limited": bool(settings.lacks)},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def report_of_all(world: World, settings: Settings, contents: Sequence[dict], left_out: dict[str, str]) -> dict:
    """The JSON of a run of all benchmarks, from those of each; left_out: why the others were not measured, by name."""
    results = {content["name"]: content["results"] for content in contents}
    each = {content["name"]: {key: content[key] for key in ("seconds", "machine", "date")} for content in contents}
    seconds = sum(content["seconds"] for content in contents)
    return {**report(ALL, world, settings, results, seconds), "each": each, "left_out": left_out}


def by_name(contents: Iterable[dict]) -> dict[str, dict]:
    """The JSON of each benchmark, those in a run of all taken apart; one that was run by itself counts before that."""
    found = {}
    for content in sorted(contents, key=lambda content: content["name"] != ALL):
        if content["name"] != ALL:
            found[content["name"]] = content
            continue
        about = {key: value for key, value in content.items() if key not in ("results", "each", "left_out")}
        for name, results in content["results"].items():
            found[name] = {**about, **content["each"][name], "name": name, "results": results}
    return dict(sorted(found.items()))


def write_json(path: Path, content: dict) -> None:
    """Beside the target first, then renamed: a reader never sees half a file, an old result survives a full disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"The results could not be written to {path} ({error.strerror}); choose another file with --json."
        ) from error


def table(results: dict, title: str = "") -> str:
    """Nested results as aligned lines, "a.b.c   0.97"."""
    rows = list(flat(results))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:<{width}}  {shown(value)}" for name, value in rows]
    return "\n".join([title, "-" * max(len(title), width), *lines] if title else lines)


def flat(results: dict, before: str = "") -> Iterator[tuple[str, object]]:
    """Nested results as ("a.b.c", value); a spread of measurements is one value."""
    for name, value in results.items():
        if isinstance(value, dict) and not {"median", "p95"} <= value.keys():
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def shown(value: object) -> str:
    """A value of `flat`, for people."""
    if isinstance(value, dict):
        return f"{value['median']:>10} median  {value['p95']:>10} p95  ({value['n']} times)"
    if isinstance(value, float):
        return f"{value:.4f}"
    return "not measured" if value is None else str(value)


class Clock:
    """Seconds by part of a benchmark, so that its cost can be planned."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({part: time.perf_counter() - start})

    def add(self, seconds: dict[str, float]) -> None:
        """What was measured elsewhere, or in an earlier run."""
        for part, more in seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + more

    def rounded(self) -> dict[str, float]:
        return {part: round(seconds, 1) for part, seconds in self.seconds.items()}


def by_type(outcomes: Sequence[tuple[str, bool]]) -> dict[str, float | None]:
    """Share right by type of question, in the order of first appearance."""
    return {
        kind: share(right for other, right in outcomes if other == kind)
        for kind in dict.fromkeys(kind for kind, _ in outcomes)
    }
