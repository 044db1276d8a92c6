"""What a long benchmark has measured so far, conversation by conversation, so that it can be interrupted.

One JSON line per part, in a file beside the results whose name depends on what was measured with: the same run goes on
where it stopped, any other has a file of its own. Knows nothing of what the parts are; they may quote the data sets.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mam.errors import InputError, legible


class Parts:
    """The parts of a run, by name. beside=None: kept in memory only."""

    def __init__(self, beside: Path | None, measured_with: dict):
        """beside: where the results will be written. Raises InputError when the parts cannot be read or written."""
        self.found: dict[str, dict] = {}
        self.measured_with = measured_with
        self.path = beside and beside.with_name(f"{beside.stem}.{digest(measured_with)}.parts.jsonl")
        if self.path and self.path.is_file():
            self._read()

    def __call__(self, name: str, measure: Callable[[], dict]) -> dict:
        """The part of this name, measured if it is not there yet; must be JSON."""
        if name not in self.found:
            part = json.loads(json.dumps(measure()))  # the same whether it was just made or read again
            if self.path and not self.path.is_file():
                self._append({"measured_with": self.measured_with})
            if self.path:
                self._append({"name": name, "part": part})
            self.found[name] = part
        return self.found[name]

    @property
    def folder(self) -> Path | None:
        """For files that take long to make; gone when the run is over."""
        return self.path and self.path.with_suffix(".files")

    def finish(self, keep: Path | None) -> None:
        """The run is over: its parts are gone, or are the file `keep` from now on."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.path and self.path.is_file():
            if keep:
                shutil.move(self.path, keep)
            else:
                self.path.unlink()

    def _read(self) -> None:
        with legible(self.path):
            lines = self.path.read_text(encoding="utf-8").split("\n")
        for text in lines:
            try:
                line = json.loads(text)
                self.found[line["name"]] = line["part"]
            except (ValueError, KeyError):  # the header, or a line that was cut off: measured again
                continue

    def _append(self, line: dict) -> None:
        """On a line of its own, whatever stands before it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(line, default=str, ensure_ascii=False))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path} could not be written ({error.strerror}); choose another --json.") from error


def digest(*things: object) -> str:
    """A short name for what was measured, or measured with: another text or question is another part."""
    return hashlib.sha256(json.dumps(things, default=str, ensure_ascii=False).encode()).hexdigest()[:12]
