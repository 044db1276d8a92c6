"""A training run in a process of its own: started, watched, stopped, kept or thrown away.

For the page and for notebooks, which must stay usable meanwhile. The run works on a copy of the memory model, so that
what is in use changes only when somebody keeps the result.
"""

from __future__ import annotations

import atexit
import csv
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mam.errors import InputError
from mam.model import SHIPPED
from mam.train.loop import STOP

PARTS = {  # part: what it does, seconds a step on two cores, roughly
    "integrator": ("hands what was read to the base", 3.0),
    "reranker": ("the reader's second look", 0.7),
    "relation": ("new, known already, or an update", 0.5),
    "memory": ("write gate and the reader's first look", 1.1),
}
MOST = 2000  # steps


@dataclass(frozen=True)
class Progress:
    """How far a run is. `curves`: (step, value) by "split figure", as the run has written them."""

    state: str  # "running", "stopping", "finished" or "failed"
    curves: dict[str, list[tuple[int, float]]]
    message: str = ""  # the last line that the run has printed


class Run:
    """One run of `python -m mam train`, in `folder`, for one part."""

    def __init__(self, folder: Path, part: str, steps: int, base: str, memory: Path | None = None):
        if part not in PARTS:
            raise InputError(f"There is no part {part!r}; choose one of {', '.join(PARTS)}.")
        if not 1 <= steps <= MOST:
            raise InputError(f"A run has 1 to {MOST:,} steps, not {steps}; longer ones: python -m mam train.")
        self.part, self.folder, self.out = part, folder, folder / "model"
        folder.mkdir(parents=True)
        shutil.copytree(memory or SHIPPED, self.out)
        self._log = folder / "log.txt"
        command = [sys.executable, "-m", "mam", "train", "--parts", part, "--steps", str(steps), "--base", base]
        command += ["--run", str(folder), "--out", str(self.out), "--validation", "12"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        atexit.register(self._end)  # a page that is closed leaves no run behind that nobody watches

    def progress(self) -> Progress:
        code = self._process.poll()
        state = "finished" if code == 0 else "failed"
        if code is None:
            state = "stopping" if (self.folder / STOP).exists() else "running"
        return Progress(state, curves(self.folder / f"{self.part}.csv"), self._last_line())

    def stop(self) -> None:
        """End it after this step and a last validation; the best weights until then are its result."""
        (self.folder / STOP).touch()

    def discard(self) -> None:
        """End it at once and throw its result away."""
        self._end()
        atexit.unregister(self._end)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_line(self) -> str:
        text = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        return lines[-1] if lines else ""


def curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of a run's CSV file, by "split figure"; nothing while there is none."""
    found: dict[str, list[tuple[int, float]]] = {}
    if file.exists():
        with file.open(newline="") as rows:
            for row in csv.DictReader(rows):
                if row["value"]:  # a line that is being written lacks it
                    points = found.setdefault(f"{row['split']} {row['figure']}", [])
                    points.append((int(row["step"]), float(row["value"])))
    return found
