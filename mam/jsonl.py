"""Gzipped JSON lines of public data sets, read and checked, for training and for benchmarks.

Knows files and fields, not what they mean. Whatever is missing or damaged is an InputError of one line that names the
file, the line and the field.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mam.errors import InputError

UNREADABLE = (OSError, EOFError, ValueError, RecursionError, zlib.error)  # what a damaged gzipped JSON file may raise


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, row) of every line of a file. Raises InputError."""
    number = 0
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except UNREADABLE as error:
            raise damaged(f"{where},", error) from error
        yield where, row
    if not number:
        raise InputError(f"{path} holds nothing; fetch it again.")


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from file
    except FileNotFoundError as error:
        raise missing(path) from error
    except UNREADABLE as error:
        raise damaged(path, error) from error


def field(of: object, name: str, kind: type, where: str) -> Any:
    """The field of a row, checked. Raises InputError that says where the row stands and what is wrong."""
    value = of.get(name) if isinstance(of, dict) else None
    if value is None:
        raise InputError(f'{where}, has no field "{name}"; fetch it again.')
    if not isinstance(value, kind) or isinstance(value, bool) or isinstance(value, str) and not value.strip():
        raise unexpected(name, where)
    return value


def texts(of: object, name: str, where: str) -> list[str]:
    """The field of a row that is a list of texts, checked like `field`."""
    values = field(of, name, list, where)
    if not all(isinstance(value, str) for value in values):
        raise unexpected(name, where)
    return values


def unexpected(name: str, where: str) -> InputError:
    return InputError(f'{where}, has something else than expected in the field "{name}"; fetch it again.')


def missing(path: Path) -> InputError:
    return InputError(f"{path} is missing; --data must name the folder with the public data sets.")


def damaged(where: Path | str, error: Exception) -> InputError:
    return InputError(f"{where} is damaged ({' '.join(str(error).split())[:100]}); fetch it again.")
