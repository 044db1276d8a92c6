"""API keys, by which a server tells its users apart: a file of names and hashed keys, one "name:hash" a line.

    python -m mam key FILE NAME             prints a new key of NAME's, this once
    python -m mam key FILE NAME --revoke    from now on none of NAME's keys counts
    python -m mam serve --keys FILE

A key has 256 random bits, so that nobody can guess one and its SHA-256 need not be slow, as a password's hash must be.
The file is read anew whenever it changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
from pathlib import Path

from mam.accounts import checked_name, keep
from mam.errors import InputError, legible

BEGINNING = "mam-"  # so that a key which got out is recognised as one
_HASH = re.compile(r"[0-9a-f]{64}")


class Keys:
    """The keys of a file. Raises InputError where that cannot be read, has a bad line, or holds none."""

    def __init__(self, file: str | os.PathLike):
        self.file = Path(file)
        self._stamp: tuple[int, int] | None = None
        self._names: dict[str, str] = {}
        if not self._read():
            raise InputError(f"{self.file} holds no key; make one: python -m mam key {self.file} NAME")

    def user(self, key: str) -> str | None:
        """Whose key this is; None for an unknown one."""
        return self._read().get(hashed(key))

    def _read(self) -> dict[str, str]:
        """Names by hash."""
        with legible(self.file):
            stat = self.file.stat()
            if self._stamp != (stat.st_mtime_ns, stat.st_size):
                text = self.file.read_text(encoding="utf-8-sig")
                self._names = {hash: name for name, hash in parsed(text, str(self.file))}
                self._stamp = stat.st_mtime_ns, stat.st_size
        return self._names


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def parsed(text: str, where: str) -> list[tuple[str, str]]:
    """(name, hash) of every line. Raises InputError naming the first line that is not "name:hash"."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hash = line.strip().rpartition(":")
        if not name or not _HASH.fullmatch(hash):
            raise InputError(f"Line {number} of {where} is not name:hash; write it with python -m mam key.")
        found.append((name, hash))
    return found


def new_key(file: str | os.PathLike, name: str) -> str:
    """A new key for a user, who keeps those they have; the file holds no more than its hash."""
    file, name = Path(file), checked_name(name)
    key = BEGINNING + secrets.token_urlsafe(32)
    _write(file, [*_held(file), (name, hashed(key))])
    return key


def revoke(file: str | os.PathLike, name: str) -> int:
    """Take all keys of a user away; returns how many there were."""
    file, name = Path(file), checked_name(name)
    held = _held(file)
    kept = [(other, hash) for other, hash in held if other != name]
    if len(kept) == len(held):
        raise InputError(f"{file} holds no key of {name}.")
    _write(file, kept)
    return len(held) - len(kept)


def _held(file: Path) -> list[tuple[str, str]]:
    with legible(file):
        return parsed(file.read_text(encoding="utf-8-sig"), str(file)) if file.exists() else []


def _write(file: Path, lines: list[tuple[str, str]]) -> None:
    with legible(file):
        keep(file, (f"{name}:{hash}\n" for name, hash in lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file of keys, made when there is none")
    parser.add_argument("name", metavar="NAME", help="whose key")
    parser.add_argument("--revoke", action="store_true", help="take all keys of NAME away")


def run(options: argparse.Namespace) -> int:
    if options.revoke:
        print(f"{revoke(options.file, options.name)} keys of {options.name} do not count any more.")
    else:
        print(new_key(options.file, options.name))
    return 0
