"""Bytes on the disk: written beside the target and renamed, checked against their hash before they are used.

Knows JSON and safetensors; does not know packs. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mam.errors import StoreError, WeightsError

PART = ".part"  # ends the name of a file that is being written


def digest(thing: object) -> str:
    """sha256 of anything that is JSON."""
    return hashlib.sha256(json.dumps(thing, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def used(what: str) -> Iterator[None]:
    """Whatever files and disks refuse inside raises StoreError: a full disk, a folder that may not be written."""
    try:
        yield
    except Timeout:  # somebody else has them
        raise
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        message = f"The files of {what} cannot be used ({why}); what is done is kept. Mend that, then repeat."
        raise StoreError(message) from error


def write(file: Path, content: str | bytes) -> None:
    """Raises StoreError; then the file is what it was before."""
    part = file.with_name(f"{file.name}{PART}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content.encode("utf-8") if isinstance(content, str) else content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{file} could not be written ({error.strerror}); what was there is unchanged.") from error


def write_json(file: Path, content: object) -> None:
    write(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(file: Path) -> dict:
    """Raises WeightsError for a file that is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is missing or damaged ({type(error).__name__}); remove the pack.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file} is damaged (no JSON object); remove the pack.")
    return content


def save_tensors(file: Path, tensors: dict[str, Tensor]) -> str:
    """Returns the sha256 of the file."""
    content = save(tensors)
    write(file, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(file: Path, sha256: str) -> dict[str, Tensor]:
    """Raises WeightsError for a file that is missing, or not the one with this hash."""
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise WeightsError(f"{file} is damaged: it is not what was written. Make or import it again.")
        return load(content)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{file} is missing or damaged ({type(error).__name__}). Make or import it again."
        ) from error
