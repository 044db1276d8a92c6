"""What is left of purged texts in files, byte by byte: found, overwritten, searched again.

Knows bytes, the files of a data folder and the layout of SQLite's pages; does not know slots (see `erasure`).

A deleted row is overwritten by SQLite itself (`secure_delete`), but rows that were once moved to another page, by an
edit of a neighbour, may have left a copy, or a piece of one, in the unused part of the old page. Whole copies are found
by searching the file; pieces by searching those unused parts. Either makes the caller rewrite the file.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from mam import exchange, schema
from mam.database import Database
from mam.erasure import BOUND, Erased, erase_json, eraser
from mam.errors import StoreError
from mam.values import Searched

ENCODINGS = ("utf-8", "utf-16", "utf-32", "JSON", "HTML", "latin-1")
SHORTEST = 6  # bytes; shorter texts stand in any file by chance
PIECE, STRIDE = 8, 4  # bytes: any 11 bytes of a text hold one of its pieces
HEADS = {0x02: 12, 0x05: 12, 0x0A: 8, 0x0D: 8}  # bytes before the cell pointers, by the first byte of a tree's page


@contextmanager
def clearing(database: Database) -> Iterator[Callable[[Erased], tuple[list[Searched], tuple[str, ...]]]]:
    """Around a purge; the yielded function overwrites and searches once its transaction is committed.

    If this program dies between the two, a mark beside the file makes the next one that opens it finish the work.
    """
    if database.shared:
        yield lambda erased: (_clear_server(database, erased), ("text",))
        return
    mark = _mark(database)
    existed = mark.exists()
    committed = False

    def clear(erased: Erased) -> tuple[list[Searched], tuple[str, ...]]:
        nonlocal committed
        committed = True
        searched = _clear_files(database, erased)
        mark.unlink(missing_ok=True)
        return searched, ENCODINGS

    try:
        mark.touch()
        yield clear
    except OSError as error:
        what = "what was purged is overwritten when this memory is next opened" if committed else "nothing was purged"
        raise StoreError(f"The files of {database.place} cannot be used ({error.strerror}); {what}.") from error
    finally:
        if not (committed or existed):  # nothing was purged
            mark.unlink(missing_ok=True)


def finish(database: Database) -> None:
    """Overwrite what a purge that was killed, or in whose way another program was, left in the file."""
    if database.shared or not _mark(database).exists():
        return
    try:
        database.maintain("VACUUM")
        if database.truncate_log():
            _mark(database).unlink(missing_ok=True)
    except StoreError:
        return  # the other program is still there: tried again when it is next opened, or with the next purge


def _mark(database: Database) -> Path:
    return database.file.with_name(f"{database.file.name}-purging")


def _clear_files(database: Database, erased: Erased) -> list[Searched]:
    """Overwrite what the files of this user still hold; returns what was searched.

    Files of other users are left alone and not looked into. Raises StoreError when a copy is left, because another
    program holds it, or because it is in a file that this program did not write.
    """
    others = [file for file in own_files(database) if not file.name.startswith(database.file.name)]
    erase = eraser(erased.texts)
    exchange.scrub(others, database.user, [*erased.slots, *erased.sessions], lambda line: erase_json(line, erase))
    sure = [text for text in erased.texts - erased.living if len(text.encode("utf-8", "surrogatepass")) >= SHORTEST]
    wanted = sorted(set().union(*map(patterns, sure)) | _vectors(database, erased))
    truncated = database.truncate_log()
    # some texts cannot be looked for, as they are short or part of others; and some purges are too large to look first
    thorough = len(sure) < len(erased.texts) or len(erased.slots) > 100 or bool(erased.sessions)
    thorough = thorough or bool(erased.places)  # every fit moves them, and where they were before is not known any more
    if not thorough:
        searched, found = search(database, wanted)
        thorough = database.file.name in found or has_remnants(database.raw.read(), wanted)
    if thorough:
        _rewrite(database)
        truncated = database.truncate_log()
        searched, found = search(database, wanted)
    ours = [name for name in found if name.startswith(database.file.name)]
    if found and not ours:
        raise StoreError(f"The memory is purged, but {found[0]} holds a copy; delete that file.")
    if found or not truncated:
        raise StoreError(
            f"The memory is purged, but {(ours or [database.file.name])[0]} may hold a copy while another program is "
            "reading it; close that program: the copy goes when this memory is next opened."
        )
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
        raise StoreError(
            f"The memory is purged and nothing reads it any more, but {database.file.name} could not be overwritten; "
            f"that is tried again when it is next opened. {error}"
        ) from error


def own_files(database: Database) -> list[Path]:
    """Every file under the data folder but those of other users, and but those beside the database that hold no text.

    These are the mark of the purge itself and the index of the log, which must not be opened here (see `RawFile`). A
    link is left out, too: it may lead to either, and what it leads to is searched if it lies in the folder.
    """
    textless = (_mark(database), database.file.with_name(f"{database.file.name}-shm"))
    found = [file for file in sorted(database.folder.rglob("*")) if file not in textless and not file.is_symlink()]
    return [file for file in found if file.is_file() and _is_own(file, database)]


def _is_own(file: Path, database: Database) -> bool:
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
                    raise StoreError(f"The memory is purged, but a copy was just written to {table.name}; purge again.")
            searched.append(Searched(table.name, count, ""))
    return searched


def patterns(text: str) -> set[bytes]:
    """The bytes that the text may stand in a file as."""
    escaped = json.dumps(text)[1:-1]
    forms = {text, escaped, json.dumps(text, ensure_ascii=False)[1:-1], html.escape(text)}
    found = {form.encode("utf-8", "surrogatepass") for form in forms}
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        found.add(text.encode(encoding, "surrogatepass"))
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
    if len(wanted) > 1000 and len(content) < 4_000_000:  # everything was purged: a look at each start is quicker
        starts = {content[at : at + SHORTEST] for at in range(len(content) - SHORTEST + 1)}
        wanted = [each for each in wanted if each[:SHORTEST] in starts]
    return any(each in content for each in wanted)


def has_remnants(content: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether an unused part of a SQLite file holds pieces of the wanted byte strings."""
    unused = b"\0".join(_unused(content))
    return any(piece in unused for piece in pieces(wanted))


def _unused(content: bytes) -> Iterator[bytes]:
    """What stands between the cell pointers and the cells of a tree's pages; a page may have been of another tree."""
    size = int.from_bytes(content[16:18], "big")
    size = 65536 if size == 1 else size
    for start in range(0, len(content) - size + 1, size or 65536):
        head = start + (100 if start == 0 else 0)
        if content[head] not in HEADS:
            continue
        first = head + HEADS[content[head]] + 2 * int.from_bytes(content[head + 3 : head + 5], "big")
        last = start + (int.from_bytes(content[head + 5 : head + 7], "big") or 65536)
        if left := content[first:last].strip(b"\0"):
            yield left
