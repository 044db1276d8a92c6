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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from mam import exchange, schema
from mam.database import Database
from mam.erasure import Erased, eraser
from mam.errors import StoreError
from mam.values import Searched

ENCODINGS = ("utf-8", "utf-16", "utf-32", "JSON", "HTML", "latin-1")
UNFINISHED = "unfinished purge"  # in the table of settings, from a purge's commit until its overwriting is done
SHORTEST = 6  # bytes; shorter texts stand in any file by chance
PIECE, STRIDE = 8, 4  # bytes: any 11 bytes of a text hold one of its pieces
TABLE_LEAF = 0x0D  # first byte of a page that holds rows


def clear(database: Database, erased: Erased) -> tuple[list[Searched], tuple[str, ...]]:
    """Overwrite what the files of this user still hold; (where was searched, in which encodings).

    Files of other users are left alone and not looked into. Raises StoreError when a copy is left, because another
    program holds it, or because it is in a file that this program did not write.
    """
    if database.shared:
        return _clear_server(database, erased), ("text",)
    exchange.scrub(database.folder, database.user, [*erased.slots, *erased.sessions], eraser(erased.texts))
    sure = [text for text in erased.texts - erased.living if len(text.encode("utf-8", "surrogatepass")) >= SHORTEST]
    wanted = sorted(set().union(*map(patterns, sure)) | set(erased.vectors))
    truncated = database.truncate_log()
    thorough = len(sure) < len(erased.texts) or len(erased.slots) > 100  # not to be found, or too many to look for
    if thorough or _is_dirty(database, wanted):
        database.maintain("VACUUM")
    truncated = truncated and _finished(database)
    searched, found = search(own_files(database), database.folder, wanted)
    if found or not truncated:
        with database.atomic() as tx:
            tx.note(UNFINISHED, "1")
        ours = [name for name in found if name.startswith(database.file.name)]
        if found and not ours:
            raise StoreError(f"The memory is purged, but {found[0]} holds a copy; delete that file.")
        raise StoreError(
            f"The memory is purged, but {(ours or [database.file.name])[0]} still holds a copy while another program "
            "has it open; close that program: the copy goes when this memory is next opened."
        )
    return searched, ENCODINGS


def finish(database: Database) -> None:
    """Overwrite what a purge that was killed, or in whose way another program was, left in the file."""
    if database.shared:
        return
    with database.reading() as connection:
        if connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == UNFINISHED)) != "1":
            return
    try:
        database.maintain("VACUUM")
        _finished(database)
    except StoreError:
        return  # the other program is still there: tried again when it is next opened, or with the next purge


def _finished(database: Database) -> bool:
    if not database.truncate_log():
        return False
    with database.atomic() as tx:
        tx.note(UNFINISHED, "")
    return database.truncate_log()


def own_files(database: Database) -> list[Path]:
    """Every file under the data folder but those of other users."""
    return [file for file in sorted(database.folder.rglob("*")) if file.is_file() and _is_own(file, database)]


def _is_own(file: Path, database: Database) -> bool:
    if file.name.startswith("memory-") and ".db" in file.name:
        return file.name.startswith(database.file.name)
    return exchange.owner(file) in (None, database.user)


def _is_dirty(database: Database, wanted: Sequence[bytes]) -> bool:
    return bool(search([database.file], database.folder, wanted)[1]) or has_remnants(database.file, wanted)


def _clear_server(database: Database, erased: Erased) -> list[Searched]:
    """On a server: dead rows are handed back, and every text column of this user's rows is searched."""
    database.maintain(*(f"VACUUM {name}" for name in ("sessions", "turns", "slots", "versions", "keys")))
    searched = []
    with database.reading() as connection:
        for table in (schema.sessions, schema.turns, schema.slots, schema.versions):
            columns = [column for column in table.columns if isinstance(column.type, sa.Text)]
            count = connection.scalar(sa.select(sa.func.count()).select_from(table))
            for text in erased.texts - erased.living:
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


def search(files: Iterable[Path], folder: Path, wanted: Sequence[bytes]) -> tuple[list[Searched], list[str]]:
    """(the files with their hashes, the names of those that hold one of the wanted byte strings)."""
    searched, found = [], []
    for file in files:
        try:
            content = file.read_bytes()
        except FileNotFoundError:  # gone since it was listed, as a log is when its database is closed
            continue
        name = file.relative_to(folder).as_posix()
        if _holds(content, wanted):
            found.append(name)
        searched.append(Searched(name, len(content), hashlib.sha256(content).hexdigest()))
    return searched, found


def _holds(content: bytes, wanted: Sequence[bytes]) -> bool:
    if len(wanted) > 1000 and len(content) < 4_000_000:  # everything was purged: a look at each start is quicker
        starts = {content[at : at + SHORTEST] for at in range(len(content) - SHORTEST + 1)}
        wanted = [each for each in wanted if each[:SHORTEST] in starts]
    return any(each in content for each in wanted)


def has_remnants(database: Path, wanted: Sequence[bytes]) -> bool:
    """Whether an unused part of a SQLite file holds pieces of the wanted byte strings."""
    unused = b"\0".join(_unused(database.read_bytes()))
    return any(piece in unused for piece in pieces(wanted))


def _unused(content: bytes) -> Iterator[bytes]:
    """What stands between the cell pointers and the cells of the pages that hold rows."""
    size = int.from_bytes(content[16:18], "big")
    size = 65536 if size == 1 else size
    for start in range(0, len(content) - size + 1, size or 65536):
        head = start + (100 if start == 0 else 0)
        if content[head] != TABLE_LEAF:
            continue
        first = head + 8 + 2 * int.from_bytes(content[head + 3 : head + 5], "big")
        last = start + (int.from_bytes(content[head + 5 : head + 7], "big") or 65536)
        if left := content[first:last].strip(b"\0"):
            yield left
