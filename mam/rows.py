"""Between rows and values: slots, versions and turns as the database keeps them, and as the program uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime

from mam.errors import StoreError
from mam.values import Archived, Call, Candidate, Read, Session, Slot, Turn, Version, Write

_SLOT_FIELDS = {field.name for field in fields(Slot)}
TITLE_LENGTH = 48  # characters of a first message shown as the title of its session
_USAGE = ("reads", "last_read")  # counted by the store alone; a value only brings them along when it is new


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raises StoreError, with the name of it, for a row that something else has damaged."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(what, error) from error


def _damaged(what: str, error: Exception) -> StoreError:
    return StoreError(f"The {what} is damaged ({error}); restore it from an export or a backup.")


def to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")  # of one width: texts sort as times do


def slot_row(slot: Slot) -> dict:
    """Columns of a slot, without `seq`, `changed` and how often it was read."""
    row = {name: getattr(slot, name) for name in _SLOT_FIELDS if name not in ("span", *_USAGE)}
    row["span_start"], row["span_end"] = slot.span or (None, None)
    row["told"], row["tags"] = to_text(slot.told), tags_text(slot.tags)
    return row


def new_slot_row(slot: Slot) -> dict:
    return slot_row(slot) | {"reads": slot.reads, "last_read": slot.last_read and to_text(slot.last_read)}


def slot_value(row) -> Slot:
    """From a row of the slots table."""
    (
        _seq, id, text, said, speaker, told, when, state, version, session, turn, span_start, span_end, score,
        superseded_by, _changed, tags, pinned, document, position, reads, last_read, *_,
    ) = row  # fmt: skip
    slot = object.__new__(Slot)
    try:
        # Filled at once instead of field by field through the checks of a frozen class, and without a context: a memory
        # of 100,000 slots opens half a second sooner.
        slot.__dict__.update(
            id=id,
            text=text,
            said=said,
            speaker=speaker,
            told=datetime.fromisoformat(told),
            when=when,
            state=state,
            version=version,
            session=session,
            turn=turn,
            span=None if span_start is None else (span_start, span_end),
            score=score,
            superseded_by=superseded_by,
            tags=tags_value(tags),
            pinned=pinned,
            document=document,
            position=position,
            reads=reads,
            last_read=last_read and datetime.fromisoformat(last_read),
        )
    except (ValueError, TypeError) as error:
        raise _damaged(f"memory {id}", error) from error
    return slot


def tags_text(tags: tuple[str, ...]) -> str:
    return json.dumps(tags, ensure_ascii=False) if tags else "[]"


def tags_value(text: str) -> tuple[str, ...]:
    if text == "[]":
        return ()
    with readable(f"list of tags {text[:40]!r}"):
        return tuple(json.loads(text))


def version_row(slot: Slot) -> dict:
    """Columns of a version: what the slot is now, without who changed it and when."""
    row = {name: getattr(slot, name) for name in ("version", "text", "state", "when", "superseded_by", "pinned")}
    return row | {"slot": slot.id, "tags": tags_text(slot.tags)}


def version_value(row) -> Version:
    with readable(f"version {row.version} of the memory {row.slot}"):
        at = datetime.fromisoformat(row.at)
    return Version(
        slot=row.slot,
        version=row.version,
        text=row.text,
        state=row.state,
        by=row.by,
        at=at,
        when=row.when,
        superseded_by=row.superseded_by,
        tags=tags_value(row.tags),
        pinned=row.pinned,
    )


def session_value(row) -> Session:
    """From a row of the sessions table with `first`, its first message, and the number of its `turns`."""
    title = row.title or title_of(row.first)
    with readable(f"session {row.id}"):
        return Session(row.id, title, datetime.fromisoformat(row.created), row.turns, row.archived)


def title_of(first: str | None) -> str:
    """A session without a title is named after its first message."""
    line = " ".join((first or "New conversation").split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


# -- turns ----------------------------------------------------------------------------------------------------------


def trace_text(turn: Turn) -> str:
    """The trace of a turn as JSON; characters stay as they are, so that purging finds them."""
    trace = asdict(turn)
    for column in ("id", "session", "text", "reply", "at"):
        del trace[column]
    return json.dumps(trace, ensure_ascii=False, default=to_text)


def turn_value(row) -> Turn:
    """From a row of the turns table."""
    with readable(f"turn {row.id}"):
        at = datetime.fromisoformat(row.at)
        return turn_from(row.id, row.session, row.text, row.reply, at, json.loads(row.trace))


def turn_row(turn: Turn, shared: bool) -> dict:
    """Columns of a turn. shared: for a server, which takes no NUL (only a reply may have one)."""
    reply = turn.reply.replace("\0", "\ufffd") if shared else turn.reply
    row = {"id": turn.id, "session": turn.session, "text": turn.text, "reply": reply}
    return row | {"at": to_text(turn.at), "trace": trace_text(turn)}


def turn_from(id: str, session: str, text: str, reply: str, at: datetime, trace: dict) -> Turn:
    """A turn with its trace, parsed; traces written by an earlier mam lack what was added since."""
    values = dict(trace)
    values["writes"] = tuple(Write(**{**write, "slot": _slot(write["slot"])}) for write in trace["writes"])
    values["reads"] = tuple(Read(**{**read, "slot": _slot(read["slot"])}) for read in trace["reads"])
    values["rejected"] = tuple(Candidate(**{**item, "span": tuple(item["span"])}) for item in trace["rejected"])
    values["archived"] = tuple(Archived(**{**item, "slot": _slot(item["slot"])}) for item in trace.get("archived", ()))
    values["sent"] = tuple(map(_request, trace.get("sent", ())))
    values["calls"] = tuple(map(_call, trace.get("calls", ())))
    return Turn(id=id, session=session, text=text, reply=reply, at=at, **values)


def _request(body: dict) -> dict:
    """Raises TypeError or KeyError for what is no request."""
    if not all(isinstance(message[part], str) for message in body["messages"] for part in ("role", "content")):
        raise TypeError("a message without words")
    return body


def _call(row: dict) -> Call:
    """Raises TypeError for what is none."""
    call = Call(**row)
    texts = (call.stage, call.to, call.asked, call.reply, call.shard, call.pruned, call.pack)
    if not all(isinstance(text, str) for text in texts) or not isinstance(call.confidence, float | None):
        raise TypeError("a question to a pack without words")
    return call


def _slot(row: dict) -> Slot:
    changed = {"told": datetime.fromisoformat(row["told"]), "span": row["span"] and tuple(row["span"])}
    changed["tags"] = tuple(row.get("tags", ()))
    changed["last_read"] = row.get("last_read") and datetime.fromisoformat(row["last_read"])
    return Slot(**{**row, **changed})
