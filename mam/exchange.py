"""Exported memories: JSON lines, one thing a line, so that they can be read, searched and cut with ordinary tools.

Knows the format; does not know the store or the networks (see `space`). The first line is a header, every other line
has a "kind":

    {"mam": "memory", "version": 2, "user": "ann"}
    {"kind": "slot", "id": "...", "text": "My dog is called Rex.", "told": "2026-11-22T12:00:00.000000+00:00", ...}
    {"kind": "session", "id": "...", "title": "Monday", "created": "...", "archived": false}
    {"kind": "turn", "id": "...", "session": "...", "text": "...", "reply": "...", "at": "...", "trace": {...}}
    {"kind": "version", "slot": "...", "version": 1, "text": "...", "state": "active", "by": "user", "at": "...", ...}

An ordinary export holds slots without the trash and without the conversations they come from; a complete one holds
everything, in this order: sessions, turns, slots, versions. Version 1 had slots only, and `{"mam": "slots"}` on top.

Version 2, field by field ("?": may be left out or null; what each means stands in `values`). Texts have no control
characters; ids are 8 to 64 letters, digits, "-" or "_"; times are ISO 8601 with a zone, from the year 1000 to 9000.

    slot       id, text, said, speaker: texts; told: time; when?: ISO date; state: "active", "superseded", "archived" or
               "deleted"; version: from 1; session?, turn?, superseded_by?: ids; span?: [start, end]; score?: number;
               tags?: texts; pinned?: true or false; document?, position?: texts; reads?: from 0; last_read?: time
    version    slot: id of one above it; version, text, state, when?, superseded_by?, tags?, pinned? as in a slot;
               by: text; at: time
    session    id; title: text; created: time; archived: true or false
    turn       id; session: id of one above it; text; reply; at: time; trace: an object
    trace      writes, rejected, reads: lists of the three kinds below; null_weight?, asked?: numbers; abstained?,
               stopped?: true or false; given?: text; tokens?: from 0; timing?: {stage: seconds}; archived?: a list;
               thresholds?: {name: number}; base?: text; ended?: text;
               calls?: a list; sent?: requests, {"messages": [{"role": text, "content": text}], and other JSON}
    of writes      slot; score: number; relation: "new", "duplicate" or "update"; superseded?: id;
                   relation_score?: number
    of rejected    text, said: texts; span; speaker?, context?, why?: texts; when?: ISO date; score?: number
    of reads       slot; weight: number; parts?: {name: number}; given?, dated?: true or false
    of archived    slot; score: number; parts?: {name: number}
    of calls       stage, to, asked, reply: texts; shard?, pruned?, pack?: texts; confidence?: number
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

from mam import rows
from mam.errors import InputError, legible
from mam.values import DELETED, LONGEST_TAG, MOST_TAGS, RELATIONS, STATES, Session, Slot, Turn, Version

VERSION = 2
PART = ".part"  # ends the name of a file that is still being written
LONGEST_LINE = 20_000_000  # characters
LONGEST = {"text": 2_000, "said": 100_000, "reply": 1_000_000, "speaker": 200, "document": 1_000, "position": 200}
LONGEST_OTHER = 2_000  # characters of any other text
LONGEST_MESSAGE = 100_000  # characters of the text of a turn
LARGEST_NUMBER = 1 << 31  # whole numbers from here on fit into no column of a server
EARLIEST, LATEST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)  # there is room for every zone
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")

Bad = Callable[[int, str], None]  # is told the number of a line that is left out, and why


@dataclass(frozen=True)
class Exported:
    """What an exported file holds."""

    slots: list[Slot] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)


def export(what: Exported, path: str | os.PathLike, user: str, *, complete: bool = False) -> int:
    """Write a memory; returns the number of slots. The file is complete or not there at all.

    Unless it is to be complete, slots of the trash and all but slots are left out.
    """
    what = what if complete else _ordinary(what)
    _write(Path(path), user, _lines(what))
    return len(what.slots)


def lines(what: Exported, user: str, *, complete: bool = False) -> Iterator[str]:
    """The same without a file: what would be written, line by line."""
    return _written(user, _lines(what if complete else _ordinary(what)))


def load(path: str | os.PathLike, bad: Bad | None = None) -> Exported:
    """What an exported file holds.

    Raises InputError that names the first line that cannot be read; with `bad`, that is told of each such line instead,
    and the others are returned.
    """
    found: Exported = Exported()
    seen: set[tuple[str, str]] = set()
    for number, line in _numbered(Path(path)):
        if number == 1:
            _checked_header(line, path)
            continue
        try:
            kind, value = _value(line)
            _check(value, type(value), kind)
            _check_place(kind, value, seen)
            getattr(found, f"{kind}s").append(value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            why = _why(error)
            if bad is None:
                message = f"Line {number} of {path} cannot be imported ({why}); nothing was imported."
                raise InputError(message) from error
            bad(number, why)
    return found


def _check_place(kind: str, value: Slot | Session | Turn | Version, seen: set[tuple[str, str]]) -> None:
    """Whether what a line speaks of is known from the lines before it."""
    if kind == "version":
        if ("slot", value.slot) not in seen:
            raise ValueError("a version of a slot that is not in the file")
        return
    if kind == "turn" and ("session", value.session) not in seen:
        raise ValueError("a turn of a session that is not in the file")
    if (kind, value.id) in seen:
        raise ValueError("the same id twice")
    seen.add((kind, value.id))


def clean(text: str, instead: str = "") -> str:
    """A text without the characters that no memory holds: what is kept can be exported and imported."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(instead, text)


def is_export(path: str | os.PathLike) -> bool:
    """Whether the file starts with the header of an exported memory. Raises InputError when it cannot be read."""
    return "mam" in _header(next((line for _, line in _numbered(Path(path))), ""))


def owner(file: Path) -> str | None:
    """Whose export a file is; None for any other file."""
    try:
        with file.open(encoding="utf-8") as opened:
            user = _header(opened.readline(10_000)).get("user")
    except (OSError, UnicodeDecodeError):
        return None
    return user if isinstance(user, str) else None


def scrub(files: Iterable[Path], user: str, ids: Collection[str], erase: Callable[[str], str]) -> None:
    """Take slots and texts out of those of the files that are exports of a user; erase: of a line of JSON."""
    gone = set(ids)
    for file in files:
        if owner(file) != user:
            continue
        try:
            if file.name.endswith(PART):  # of an export that was killed
                file.unlink()
                continue
            items = map(json.loads, filter(str.strip, file.read_text(encoding="utf-8").split("\n")[1:]))
            kept = [item for item in items if gone.isdisjoint(map(item.get, ("id", "slot", "session")))]
            _write(file, user, [json.loads(erase(json.dumps(item))) for item in kept])
        except (ValueError, AttributeError, TypeError, RecursionError, OSError, InputError):
            continue  # changed by hand, or not to be written: left as it is, and named if it holds a text


# -- writing --------------------------------------------------------------------------------------------------------


def _ordinary(what: Exported) -> Exported:
    return Exported([_alone(slot) for slot in what.slots if slot.state != DELETED])


def _alone(slot: Slot) -> Slot:
    """A slot without the conversation it was told in, which is not in the file."""
    return replace(slot, session=None, turn=None, span=slot.span if slot.document else None)


def _lines(what: Exported) -> Iterator[dict]:
    for session in what.sessions:
        line = {"id": session.id, "title": session.title, "created": session.created, "archived": session.archived}
        yield {"kind": "session", **line}
    for turn in what.turns:
        line = {"id": turn.id, "session": turn.session, "text": turn.text, "reply": turn.reply, "at": turn.at}
        yield {"kind": "turn", **line, "trace": json.loads(rows.trace_text(turn))}
    for slot in what.slots:
        yield {"kind": "slot", **asdict(slot)}
    for version in what.versions:
        yield {"kind": "version", **asdict(version)}


def _written(user: str, lines: Iterable[dict]) -> Iterator[str]:
    for line in ({"mam": "memory", "version": VERSION, "user": user}, *lines):
        yield json.dumps(line, ensure_ascii=False, default=rows.to_text) + "\n"


def _write(path: Path, user: str, lines: Iterable[dict]) -> None:
    check_name(path)
    part = path.with_name(f".{path.name}{PART}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(_written(user, lines))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error.strerror}); choose another place.") from error


def check_name(path: Path) -> None:
    """An export would replace a memory, and to open one is to unlock it (see `database.RawFile`)."""
    if re.fullmatch(r"memory-.+\.db(-\w.*)?", path.name):
        raise InputError(f"{path} is named as a memory itself is; choose another file.")


# -- reading --------------------------------------------------------------------------------------------------------


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers; the first one always, even if it is."""
    check_name(path)
    with legible(path):
        # bytes that are no UTF-8 are found, and named with their line, as half characters
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise InputError(f"Line {number} of {path} is longer than {LONGEST_LINE:,} characters; split it.")
                if line.strip() or number == 1:
                    yield number, line


def _header(line: str) -> dict:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _checked_header(line: str, path: str | os.PathLike) -> None:
    version = _header(line).get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise InputError(f"{path} was exported by a newer mam (version {version}); update mam to import it.")


def _value(line: str) -> tuple[str, Slot | Session | Turn | Version]:
    """The kind of a line and its value. Raises ValueError, KeyError or TypeError for whatever is wrong with it."""
    row = json.loads(line, parse_constant=_no_number)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    kind = row.pop("kind", "slot")
    make = {"slot": _slot, "session": _session, "turn": _turn, "version": _version}.get(kind)
    if make is None:
        raise ValueError(f"an unknown kind {str(kind)[:40]!r}")
    _check_texts(row, LONGEST | {"text": LONGEST_MESSAGE} if kind == "turn" else LONGEST)
    return kind, make(row)


def _check_texts(row: dict, longest: dict[str, int]) -> None:
    for name, value in row.items():
        if isinstance(value, str):
            if len(value) > longest.get(name, LONGEST_OTHER):
                raise ValueError(f"{name} is longer than {longest.get(name, LONGEST_OTHER):,} characters")
            if name != "reply" and _CONTROL.search(value):  # a base may say anything
                raise ValueError(f"a control character in {name}")


def _check(value: object, kind: object, name: str) -> None:
    """Whether a value, and whatever is in it, is of the kind that its dataclass says. Raises ValueError if not."""
    of, parts = get_origin(kind), get_args(kind)
    if of in (Union, UnionType):
        if value is not None:  # the only unions are those with None
            _check(value, parts[0], name)
    elif of is tuple and isinstance(value, tuple):
        kinds = parts[:1] * len(value) if parts[-1] is ... else parts
        if len(value) != len(kinds):
            raise ValueError(f"{name} that is not {len(kinds)} values")
        for part, its in zip(value, kinds, strict=True):
            _check(part, its, name)
    elif of is dict and isinstance(value, dict):
        for key, part in value.items():
            _check(key, str, name)
            _check(part, parts[1], name)
    elif kind is dict and isinstance(value, dict):  # JSON of no particular form
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    elif is_dataclass(kind) and isinstance(value, kind):
        for each, its in _kinds(kind).items():
            _check(getattr(value, each), its, each)
    elif kind is float and type(value) in (int, float):
        if not -1e300 < value < 1e300:
            raise ValueError(f"{name} is an impossible number")
    elif of or type(value) is not kind:
        raise ValueError(f"{name} is not of the right kind")
    elif kind is str:
        value.encode("utf-8")  # half a character cannot be kept
        if len(value) > max(LONGEST.values()):
            raise ValueError(f"{name} is longer than {max(LONGEST.values()):,} characters")
    elif kind is int and abs(value) >= LARGEST_NUMBER:
        raise ValueError(f"{name} is an impossible number")
    elif kind is datetime:
        check_time(value)


@lru_cache
def _kinds(of: type) -> dict[str, object]:
    hints = get_type_hints(of)
    return {field.name: hints[field.name] for field in fields(of)}


def _slot(row: dict) -> Slot:
    span, score, reads = row.get("span"), row.get("score"), row.get("reads", 0)
    if type(reads) is int and reads < 0:
        raise ValueError("reads that are not counted")
    return Slot(
        id=_id(row["id"]),
        said=_text(row, "said"),
        speaker=_text(row, "speaker"),
        told=_time(row["told"]),
        session=row.get("session"),
        turn=row.get("turn"),
        span=None if span is None else tuple(span),
        score=score,
        document=row.get("document"),
        position=row.get("position"),
        reads=reads,
        last_read=None if row.get("last_read") is None else _time(row["last_read"]),
        **_stated(row),
    )


def _version(row: dict) -> Version:
    return Version(slot=_id(row["slot"]), by=_text(row, "by"), at=_time(row["at"]), **_stated(row))


def _stated(row: dict) -> dict:
    """What slots and versions have in common."""
    version, tags, pinned = row["version"], row.get("tags", []), row.get("pinned", False)
    if row["state"] not in STATES:
        raise ValueError("an unknown state")
    if type(version) is not int or not 1 <= version < 1 << 31:
        raise ValueError("an impossible version")
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ValueError("tags that are not a list of texts")
    if len(tags) > MOST_TAGS or not all(1 <= len(tag) <= LONGEST_TAG and tag.isprintable() for tag in tags):
        raise ValueError("tags that cannot be")
    return {
        "text": _text(row, "text"),
        "state": row["state"],
        "version": version,
        "when": row.get("when"),
        "superseded_by": row.get("superseded_by"),
        "tags": tuple(tags),
        "pinned": pinned,
    }


def _session(row: dict) -> Session:
    return Session(_id(row["id"]), _text(row, "title"), _time(row["created"]), archived=row["archived"])


def _turn(row: dict) -> Turn:
    turn = rows.turn_from(_id(row["id"]), row["session"], row["text"], row["reply"], _time(row["at"]), row["trace"])
    if any(write.relation not in RELATIONS for write in turn.writes):
        raise ValueError("an unknown relation")
    if any(each.slot.state not in STATES for each in (*turn.writes, *turn.reads, *turn.archived)):
        raise ValueError("an unknown state")
    return turn


def _id(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", value):
        raise ValueError("an impossible id")
    return value


def _text(row: dict, name: str) -> str:
    if not isinstance(row[name], str) or not row[name].strip():
        raise ValueError(f"an empty {name}")
    return row[name]


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time that is not a text")
    moment = datetime.fromisoformat(value)
    check_time(moment)
    return moment.astimezone(UTC)


def check_time(moment: datetime) -> None:
    """Raises ValueError for a time that some programs, or some time zones, cannot show."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    if not EARLIEST <= moment <= LATEST:
        raise ValueError("a time that cannot be")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return " ".join(str(error).split())[:200]
