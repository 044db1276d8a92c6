"""Memories in and out of files: slots as JSON lines, documents as text.

Knows file formats; does not know the store or the networks (see `space`). An exported file is a header line and
one slot a line, so that it can be read, searched and cut with ordinary tools:

    {"mam": "slots", "version": 1}
    {"id": "...", "text": "My dog is called Rex.", "told": "2026-11-22T12:00:00+00:00", ...}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from mam.errors import InputError
from mam.values import DELETED, STATES, Slot

HEADER = {"mam": "slots", "version": 1}
LARGEST = 5_000_000  # bytes of a document
DOCUMENTS = (".txt", ".md")
_TEXTS = ("id", "text", "said", "speaker", "told", "state")


def export(slots: Iterable[Slot], path: str | os.PathLike) -> int:
    """Write the slots that are not in the trash; the file is complete or not there at all."""
    path = Path(path)
    kept = [slot for slot in slots if slot.state != DELETED]
    lines = [HEADER, *({**asdict(slot), "told": slot.told.isoformat()} for slot in kept)]
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error.strerror}); choose another place.") from error
    return len(kept)


def load(path: str | os.PathLike) -> list[Slot]:
    """The slots of an exported file. Raises InputError that names the first line that cannot be read."""
    lines = _text(Path(path)).splitlines()
    try:
        header = json.loads(lines[0]) if lines else {}
    except ValueError:
        header = {}
    if not isinstance(header, dict) or header.get("mam") != HEADER["mam"]:
        raise InputError(f"{path} is no exported memory; its first line should be {json.dumps(HEADER)}.")
    if header.get("version") != HEADER["version"]:
        raise InputError(
            f"{path} was exported by a newer mam (version {header.get('version')}); update mam to import it."
        )
    slots = [_slot(line, number, path) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if len({slot.id for slot in slots}) < len(slots):
        raise InputError(f"{path} holds the same id twice; nothing was imported.")
    return slots


def document(path: str | os.PathLike) -> str:
    """The text of a document."""
    path = Path(path)
    if path.suffix.lower() not in DOCUMENTS:
        raise InputError(f"{path} is no text; documents end in {' or '.join(DOCUMENTS)}.")
    return _text(path)


def _slot(line: str, number: int, path: str | os.PathLike) -> Slot:
    """One line as a slot; where it was said stays behind, because that session is not in the file."""
    try:
        row = json.loads(line)
        if not all(isinstance(row[name], str) and row[name].strip() for name in _TEXTS):
            raise ValueError("an empty text")
        if row["state"] not in STATES or not 8 <= len(row["id"]) <= 64 or not int(row["version"]) >= 1:
            raise ValueError("an unknown state, id or version")
        told = datetime.fromisoformat(row["told"])
        if told.tzinfo is None:
            raise ValueError("a time without a time zone")
        known = {name: row.get(name) for name in ("when", "score", "superseded_by")}
        texts = {name: row[name] for name in _TEXTS if name != "told"}
        return Slot(**texts, **known, told=told, version=int(row["version"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Line {number} of {path} is not a slot ({error}); nothing was imported.") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 1_000_000} MB; split it.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, then repeat.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
