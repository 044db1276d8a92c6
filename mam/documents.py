"""Documents as pieces that can become slots: `.txt`, `.md` and `.pdf`, each piece with the place it stands at.

Knows files and their pages and lines; does not know the store or the networks (see `space`).
"""

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError

from mam.candidates import split
from mam.errors import InputError, legible
from mam.values import Candidate

LARGEST = 50_000_000  # bytes
MOST_PAGES = 5_000
PLAIN = (".txt", ".md")
_WRAPPED = re.compile(r"(?<![.!?:\n])[ \t]*\n(?![\n\s•*-])")  # a line of a page that ends inside a sentence
_HYPHEN = re.compile(r"(?<=[a-z])-\n(?=[a-z])")

logging.getLogger("pypdf").setLevel(logging.ERROR)  # its warnings about odd files are of no use to a reader


@dataclass(frozen=True)
class Piece:
    candidate: Candidate  # its span counts the characters of the text, or of its page
    position: str  # "line 12" or "page 3"


def pieces(path: str | os.PathLike, told: datetime) -> Iterator[Piece]:
    """The pieces of a document, in order. Raises InputError for a file that cannot be read."""
    path = Path(path)
    if path.suffix.lower() == ".pdf":
        for number, text in enumerate(_pages(path), 1):
            for candidate in split(text, speaker=path.name, now=told):
                yield Piece(candidate, f"page {number}")
    elif path.suffix.lower() in PLAIN:
        text = _text(path)
        ends = [match.start() for match in re.finditer("\n", text)]
        for candidate in split(text, speaker=path.name, now=told):
            yield Piece(candidate, f"line {bisect_right(ends, candidate.span[0] - 1) + 1}")
    else:
        raise InputError(f"{path} is no text; documents end in {', '.join(PLAIN)} or .pdf.")


def _pages(path: Path) -> Iterator[str]:
    _check_size(path)
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError(f"{path} is locked with a password; save it without one, then repeat.")
        if len(reader.pages) > MOST_PAGES:
            raise InputError(f"{path} has more than {MOST_PAGES:,} pages; split it.")
        for page in reader.pages:
            yield _unwrapped(page.extract_text())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error
    except DependencyError as error:  # a cipher that only matters with a password
        raise InputError(f"{path} is locked with a password; save it without one, then repeat.") from error
    except Exception as error:  # whatever a damaged or hostile file makes the parser stumble over
        kind = type(error).__name__
        raise InputError(f"{path} is no PDF that can be read ({kind}); print it to a new one.") from error


def _unwrapped(page: str) -> str:
    page = page.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return _WRAPPED.sub(" ", _HYPHEN.sub("", page))


def _text(path: Path) -> str:
    _check_size(path)
    with legible(path):
        return path.read_text(encoding="utf-8-sig")


def _check_size(path: Path) -> None:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 1_000_000} MB; split it.")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
