"""Who may log in to the page: a file of names and hashed passwords, one "name:hash" a line.

    python -m mam account FILE NAME       adds NAME, or gives it another password
    python app.py --auth FILE             asks everybody for theirs

Passwords are kept as Argon2id hashes only. The file is read anew whenever it changes.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mam.database import file_name
from mam.errors import InputError, legible

SHORTEST, LONGEST = 8, 1000  # characters of a password: hashing a longer one would cost the server


class Accounts:
    """The accounts of a file. Raises InputError where that cannot be read, has a bad line, or holds nobody."""

    def __init__(self, file: str | os.PathLike):
        self.file = Path(file)
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(os.urandom(16).hex())
        self._stamp: tuple[int, int] | None = None
        self._hashes: dict[str, str] = {}
        if not self.names():
            raise InputError(f"{self.file} holds no account; add one: python -m mam account {self.file} NAME")

    def names(self) -> list[str]:
        return list(self._read())

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of `name`; an unknown name takes as long as a wrong password."""
        known = self._read().get(name)
        try:
            right = self._hasher.verify(known or self._nobody, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return False
        return right and known is not None

    def _read(self) -> dict[str, str]:
        with legible(self.file):
            stat = self.file.stat()
            if self._stamp != (stat.st_mtime_ns, stat.st_size):
                self._hashes = parsed(self.file.read_text(encoding="utf-8-sig"), str(self.file))
                self._stamp = stat.st_mtime_ns, stat.st_size
        return self._hashes


def parsed(text: str, where: str) -> dict[str, str]:
    """Hashes by name. Raises InputError naming the first line that is not "name:hash"."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().rpartition(":")
        if not name or not hashed.startswith("$argon2"):
            raise InputError(f"Line {number} of {where} is not name:hash; write it with python -m mam account.")
        found[name] = hashed
    return found


def set_password(file: str | os.PathLike, name: str, password: str) -> None:
    """Add an account or change its password; the file is replaced as a whole and readable by its owner alone."""
    file, name = Path(file), checked_name(name)
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"A password has {SHORTEST} to {LONGEST} characters.")
    held: dict[str, str] = {}
    with legible(file):
        if file.exists():
            held = parsed(file.read_text(encoding="utf-8-sig"), str(file))
        held[name] = PasswordHasher().hash(password)
        keep(file, (f"{name}:{hashed}\n" for name, hashed in held.items()))


def checked_name(name: str) -> str:
    """A user's name without spaces around it. Raises InputError for one that cannot be used."""
    name = name.strip()
    file_name(name)
    if not name.isprintable() or "(guided tour)" in name:
        raise InputError("A user name has printable characters only, and is none of a guided tour.")
    return name


def keep(file: Path, lines: Iterable[str]) -> None:
    """Replace a file as a whole, readable by its owner alone."""
    part = file.with_name(f".{file.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file of accounts, made when there is none")
    parser.add_argument("name", metavar="NAME", help="whose password")


def run(options: argparse.Namespace) -> int:
    """Ask for the password twice, or read one line of a pipe."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {options.name}: ")
        if getpass.getpass("Once more: ") != password:
            raise InputError("The two passwords differ; nothing was changed.")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    set_password(options.file, options.name, password)
    return 0
