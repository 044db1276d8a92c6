"""Documents as pieces that can become slots: `.txt`, `.md` and `.pdf`, each piece with the place it stands at.

Knows files and their pages and lines; does not know the store or the networks (see `space`).
"""

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError

from mam.candidates import split
from mam.errors import InputError, legible
from mam.exchange import LONGEST, clean
from mam.values import Candidate

LARGEST = 50_000_000  # bytes
MOST_PAGES = 5_000
PLAIN = (".txt", ".md")
_WRAPPED = re.compile(r"(?<![.!?:\n])[ \t]*\n(?![\n\s•*-])")  # a line of a page that ends inside a sentence
_HYPHEN = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_PART = re.compile(rf"\S.{{0,{LONGEST['text'] - 1}}}(?!\S)|\S.{{0,{LONGEST['text'] - 1}}}", re.DOTALL)

logging.getLogger("pypdf").setLevel(logging.ERROR)  # its warnings about odd files are of no use to a reader


@dataclass(frozen=True)
class Piece:
    candidate: Candidate  # its span counts the characters of the text, or of its page
    position: str  # "line 12" or "page 3"


def pieces(path: str | os.PathLike, told: datetime) -> Iterator[Piece]:
    """The pieces of a document, in order. Raises InputError for a file that cannot be read."""
    path = Path(path)
    for text, place in texts(path):
        for candidate in _candidates(text, path, told):
            yield Piece(candidate, place(candidate.span[0]))


def texts(path: Path) -> Iterator[tuple[str, Callable[[int], str]]]:
    """(text, what names the place of a character in it): of each page of a PDF, of the whole of another document.

    Raises InputError for a file that cannot be read.
    """
    if path.suffix.lower() == ".pdf":
        for number, text in enumerate(_pages(path), 1):
            yield text, lambda at, number=number: f"page {number}"
    elif path.suffix.lower() in PLAIN:
        text = _text(path)
        ends = [match.start() for match in re.finditer("\n", text)]
        yield text, lambda at: f"line {bisect_right(ends, at - 1) + 1}"
    else:
        raise InputError(f"{path} is no text; documents end in {', '.join(PLAIN)} or .pdf.")


def name_of(path: str | os.PathLike) -> str:
    """What a document is called in a memory: the name of its file, as far as that can be written."""
    return clean(Path(path).name).strip()[: LONGEST["speaker"]] or "document"


def _candidates(text: str, path: Path, told: datetime) -> Iterator[Candidate]:
    """Sentences; one too long for a memory comes in parts, as a table or a text without full stops does."""
    for candidate in split(text, speaker=name_of(path), now=told):
        if len(candidate.text) <= LONGEST["text"]:
            yield candidate
            continue
        for match in _PART.finditer(candidate.said):
            part, start = match.group().rstrip(), candidate.span[0] + match.start()
            yield replace(candidate, text=part, said=part, span=(start, start + len(part)))


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
    return _WRAPPED.sub(" ", _HYPHEN.sub("", clean(page)))


def _text(path: Path) -> str:
    _check_size(path)
    with legible(path):
        return clean(path.read_text(encoding="utf-8-sig"), " ")  # a blank for each, so that places stay right


def _check_size(path: Path) -> None:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 1_000_000} MB; split it.")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
