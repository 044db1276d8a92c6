"""What is left of purged texts in files, byte by byte: found, overwritten, searched again.

Knows bytes, the files of a data folder and the layout of SQLite's pages; does not know slots (see `erasure`).

A deleted row is overwritten by SQLite itself (`secure_delete`), but rows that were once moved to another page, by an
edit of a neighbour, may have left a copy, or a piece of one, in the unused part of the old page. Whole copies are found
by searching the file; pieces by searching those unused parts. Vectors that a slot had before are not known any more:
anything at all in the unused parts of their tables counts as one. Each of the three has the file rewritten.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from mam import exchange, schema
from mam.database import Database, Transaction
from mam.erasure import BOUND, Erased, erase_json, eraser
from mam.errors import RemainsError, StoreError
from mam.values import Searched

ENCODINGS = ("utf-8", "utf-16", "utf-32", "JSON", "HTML", "latin-1")
MARK = "-purging-"  # and something that no other purge has: ends the name of a mark beside the file
SHORTEST = 6  # bytes; shorter texts stand in any file by chance
PIECE, STRIDE = 8, 4  # bytes: any 11 bytes of a text hold one of its pieces
POINTERS = 16  # bytes; less in an unused part is only what is left of pointers to rows
MANY = 64  # byte strings; more are looked for together
ROUGH, CHUNK = 20, 1 << 23  # bits of a hash; bytes looked at together
PACKS = "packs"  # the folder of all users' packs; in it each has one of their own (see `mam.packs.store`)
INNER = 0x05
HEADS = {0x02: 12, INNER: 12, 0x0A: 8, 0x0D: 8}  # bytes before the cell pointers, by the first byte of a tree's page


def purge(database: Database, erase: Callable[[Transaction], Erased]) -> tuple[Erased, list[Searched], tuple[str, ...]]:
    """Erase in one transaction, then overwrite and search; returns what was erased, searched, and in which encodings.

    If this program dies between the two, a mark beside the file makes the next one that opens it finish the work. The
    mark is made while nobody else can write: who sees it and then rewrites the file does so after the purge.
    """
    if database.shared:
        with database.atomic() as tx:
            erased = erase(tx)
        return erased, _clear_server(database, erased), ("text",)
    mark, committed = database.file.with_name(f"{database.file.name}{MARK}{secrets.token_hex(4)}"), False
    try:
        with database.atomic() as tx:
            _make(mark)
            erased = erase(tx)
        committed = True
        searched = _clear_files(database, erased, mark)
    except Exception as error:
        if not committed:
            mark.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        what = "what was purged is overwritten when this memory is next opened" if committed else "nothing was purged"
        raise StoreError(f"The files of {database.place} cannot be used ({error.strerror}); {what}.") from error
    return erased, searched, ENCODINGS


def finish(database: Database) -> None:
    """Overwrite what a purge that was killed, or in whose way another program was, left in the file."""
    if database.shared or not (marks := _marks(database)):
        return
    try:
        database.maintain("VACUUM")
        if database.truncate_log():
            _remove(marks)
    except StoreError:
        return  # the other program is still there: tried again when it is next opened, or with the next purge


def _make(mark: Path) -> None:
    """A file that is there after a power cut, too, where the system can see to that."""
    mark.touch()
    with suppress(OSError, AttributeError):
        folder = os.open(mark.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _marks(database: Database) -> list[Path]:
    return [file for file in database.folder.iterdir() if file.name.startswith(f"{database.file.name}{MARK}")]


def _remove(marks: list[Path]) -> None:
    for mark in marks:
        mark.unlink(missing_ok=True)


def _clear_files(database: Database, erased: Erased, mark: Path) -> list[Searched]:
    """Overwrite what the files of this user still hold, then remove the mark; returns what was searched.

    Files of other users are left alone and not looked into. Raises StoreError when a copy is left, because another
    program holds it, or because it is in a file that this program did not write.
    """
    others = [file for file in own_files(database) if not file.name.startswith(database.file.name)]
    erase = eraser(erased.texts)
    exchange.scrub(others, database.user, [*erased.slots, *erased.sessions], lambda line: erase_json(line, erase))
    sure = [text for text in erased.texts - erased.living if len(text.encode("utf-8", "surrogatepass")) >= SHORTEST]
    wanted = sorted(set().union(*map(patterns, sure)) | _vectors(database, erased))
    marks, truncated = _marks(database), database.truncate_log()
    # some texts cannot be looked for, as they are short or part of others; and some purges are too large to look first
    thorough = len(sure) < len(erased.texts) or len(erased.slots) > 100 or bool(erased.sessions)
    thorough = thorough or len(marks) > 1  # an earlier purge could not be finished
    if not thorough:
        searched, found = search(database, wanted)
        thorough = database.file.name in found or _has_remnants(database, erased, wanted)
    if thorough:
        _rewrite(database)
        truncated = database.truncate_log()
        searched, found = search(database, wanted)
    ours = [name for name in found if name.startswith(database.file.name)]
    if found and not ours:
        raise RemainsError(f"The memory is purged, but {found[0]} holds a copy; delete that file.")
    if found or not truncated:
        raise RemainsError(
            f"The memory is purged, but {(ours or [database.file.name])[0]} may hold a copy while another program is "
            "reading it; close that program: the copy goes when this memory is next opened."
        )
    _remove(marks if thorough else [mark])
    return searched


def _vectors(database: Database, erased: Erased) -> set[bytes]:
    """The purged vectors that can be searched for: not those another slot has, too, nor those that say nothing."""
    found = sorted({vector for vector in erased.vectors if len(set(vector)) > PIECE})
    shared: set[bytes] = set()
    with database.reading() as connection:
        for start in range(0, len(found), BOUND):
            for column in (schema.keys.c.key, schema.places.c.coordinates, schema.places.c.before):
                same = column.in_(found[start : start + BOUND])
                shared |= set(map(bytes, connection.scalars(sa.select(column).where(same))))
    return set(found) - shared


def _rewrite(database: Database) -> None:
    try:
        database.maintain("VACUUM")
    except StoreError as error:
        raise RemainsError(
            f"The memory is purged and nothing reads it any more, but {database.file.name} could not be overwritten; "
            f"that is tried again when it is next opened. {error}"
        ) from error


def own_files(database: Database) -> list[Path]:
    """Every file under the data folder but those of other users, and but those beside the database that hold no text.

    These are the marks of purges and the index of the log, which must not be opened here (see `RawFile`). A
    link is left out, too: it may lead to either, and what it leads to is searched if it lies in the folder.
    """
    textless = tuple(f"{database.file.name}{end}" for end in (MARK, "-shm"))
    found = (file for file in sorted(database.folder.rglob("*")) if not file.name.startswith(textless))
    return [file for file in found if file.is_file() and not file.is_symlink() and _is_own(file, database)]


def _is_own(file: Path, database: Database) -> bool:
    place = file.relative_to(database.folder).parts
    if place[0] == PACKS and len(place) > 1:
        return place[1] == database.file.stem.removeprefix("memory-")
    if file.name.startswith("memory-") and ".db" in file.name:
        return file.name.startswith(database.file.name)
    return exchange.owner(file) in (None, database.user)


def _clear_server(database: Database, erased: Erased) -> list[Searched]:
    """On a server: dead rows are handed back, and every text column of this user's rows is searched."""
    database.maintain(*(f"VACUUM {name}" for name in ("sessions", "turns", "slots", "versions", "keys", "places")))
    searched = []
    with database.reading() as connection:
        for table in (schema.sessions, schema.turns, schema.slots, schema.versions):
            columns = [column for column in table.columns if isinstance(column.type, sa.Text)]
            count = connection.scalar(sa.select(sa.func.count()).select_from(table))
            for text in erased.texts - erased.living if count else ():
                holds = sa.or_(*(database.contains(column, text) for column in columns))
                if text and connection.scalar(sa.select(sa.func.count()).select_from(table).where(holds)):
                    raise RemainsError(
                        f"The memory is purged, but a copy was just written to {table.name}; purge again."
                    )
            searched.append(Searched(table.name, count, ""))
    return searched


def patterns(text: str) -> set[bytes]:
    """The bytes that the text may stand in a file as."""
    escaped = json.dumps(text)[1:-1]
    forms = {text, escaped, json.dumps(text, ensure_ascii=False)[1:-1], html.escape(text)}
    found = {form.encode("utf-8", "surrogatepass") for form in forms}
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        found.add(text.encode(encoding, "surrogatepass").strip(b"\0"))  # often the same in either order of bytes
    try:
        found.add(text.encode("latin-1"))
    except UnicodeEncodeError:
        pass  # has letters that this encoding lacks
    return found


def pieces(patterns: Iterable[bytes]) -> set[bytes]:
    """Short windows of the patterns, so that a remnant of one holds at least one of them."""
    return {
        pattern[start : start + PIECE]
        for pattern in patterns
        for start in range(0, max(len(pattern) - PIECE, 0) + 1, STRIDE)
    }


def search(database: Database, wanted: Sequence[bytes]) -> tuple[list[Searched], list[str]]:
    """(the user's files with their hashes, the names of those that hold one of the wanted byte strings)."""
    searched, found = [], []
    for file in own_files(database):
        try:
            content = database.raw.read() if file == database.file else file.read_bytes()
        except FileNotFoundError:  # gone since it was listed, as a log is when its database is closed
            continue
        name = file.relative_to(database.folder).as_posix()
        if _holds(content, wanted):
            found.append(name)
        searched.append(Searched(name, len(content), hashlib.sha256(content).hexdigest()))
    return searched, found


def _holds(content: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether one of the wanted byte strings stands in the content."""
    return any(each in content for each in (_likely(content, wanted) if len(wanted) > MANY else wanted))


def _likely(content: bytes, wanted: Sequence[bytes]) -> Iterator[bytes]:
    """Of many byte strings those whose last PIECE bytes are there, by one pass through the content instead of many."""
    ends = np.unique(np.array([_number(each) for each in wanted if len(each) >= PIECE], dtype=np.uint64))
    rough = np.zeros(1 << ROUGH, dtype=bool)  # by a hash, so that most of the content needs no closer look
    rough[_hashed(ends)] = True
    there: set[int] = set()
    for start in range(PIECE):
        for at in range(start, len(content) - PIECE + 1, CHUNK):
            count = min(CHUNK, len(content) - at) // PIECE
            numbers = np.frombuffer(content, dtype="<u8", count=count, offset=at)
            there.update(np.intersect1d(numbers[rough[_hashed(numbers)]], ends).tolist())
    return (each for each in wanted if len(each) < PIECE or _number(each) in there)


def _number(each: bytes) -> int:
    return int.from_bytes(each[-PIECE:], "little")


def _hashed(numbers: np.ndarray) -> np.ndarray:
    return (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - ROUGH)  # Knuth's multiplicative hash


def _has_remnants(database: Database, erased: Erased, wanted: Sequence[bytes]) -> bool:
    """Whether unused parts of the file hold pieces of what is wanted, or might hold a vector that was forgotten."""
    content = database.raw.read()
    if _holds(b"\0".join(_unused(content)), sorted(pieces(wanted))):
        return True
    try:
        roots = [_root(database, table) for table in erased.forgotten]
        return any(len(left) > POINTERS for root in roots for left in _unused(content, _leaves(content, root)))
    except IndexError:  # somebody wrote into the file while it was read
        return True


def _unused(content: bytes, among: Iterable[int] | None = None) -> Iterator[bytes]:
    """What stands between the cell pointers and the cells of a tree's pages, all or those `among` (numbers from 1)."""
    size = _page_size(content)
    for page in range(1, len(content) // size + 1) if among is None else among:
        start, head = _page(page, size)
        if content[head] not in HEADS:
            continue
        first = head + HEADS[content[head]] + 2 * int.from_bytes(content[head + 3 : head + 5], "big")
        last = start + (int.from_bytes(content[head + 5 : head + 7], "big") or 65536)
        if left := content[first:last].strip(b"\0"):
            yield left


def _leaves(content: bytes, root: int) -> Iterator[int]:
    """The pages of a table that hold its rows; the inner ones only point to those below them."""
    size, pages = _page_size(content), [root]
    for page in pages:
        if len(pages) > len(content) // size:
            raise IndexError
        start, head = _page(page, size)
        if content[head] == INNER:
            for at in range(head + 12, head + 12 + 2 * int.from_bytes(content[head + 3 : head + 5], "big"), 2):
                cell = start + int.from_bytes(content[at : at + 2], "big")
                pages.append(int.from_bytes(content[cell : cell + 4], "big"))
            pages.append(int.from_bytes(content[head + 8 : head + 12], "big"))
        else:
            yield page


def _root(database: Database, table: sa.Table) -> int:
    """The first page of a table."""
    with database.reading() as connection:
        return connection.scalar(sa.text("SELECT rootpage FROM sqlite_master WHERE name = :name"), {"name": table.name})


def _page(page: int, size: int) -> tuple[int, int]:
    """(where a page begins, and its header); before that of the first stands the header of the file."""
    start = (page - 1) * size
    return start, start + (100 if page == 1 else 0)


def _page_size(content: bytes) -> int:
    size = int.from_bytes(content[16:18], "big")
    return 65536 if size == 1 else size
