"""Conversations from elsewhere: files of other programs as messages with speaker and time.

Knows two shapes of JSON; does not know the memory (see `space`, which tells it each message in turn).

Chat exports: a list of messages, or objects with "messages" (and a "title"), or one message a line:

    [{"role": "user", "content": "My dog is called Rex.", "time": "2026-11-22T12:00:00+00:00"}, ...]

"content" may be "text", or a list of parts with "text"; the time may be called "timestamp", "created_at",
"create_time", "date" or "at", and be an ISO time or seconds since 1970; "name" says which user. Messages of a system or
a tool are left out: they tell nothing about anybody.

LoCoMo: objects (alone, in a list, or under "conversation") with "session_1": [{"speaker": ..., "text": ...}, ...] and
"session_1_date_time": "1:56 pm on 8 May, 2023"; a picture that was shown stands in the message as its "blip_caption".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dateparser

from mam.errors import InputError, legible
from mam.exchange import LONGEST, LONGEST_MESSAGE, check_time, clean
from mam.values import ASSISTANT, LONGEST_TITLE, USER

LARGEST = 200_000_000  # bytes of a file
_TIMES = ("time", "timestamp", "created_at", "create_time", "date", "at")
_ROLES = {"user": USER, "human": USER, "assistant": ASSISTANT, "ai": ASSISTANT, "model": ASSISTANT, "bot": ASSISTANT}
_SILENT = ("system", "tool", "function", "developer")
_SESSION = re.compile(r"session_([0-9]{1,9})")


@dataclass(frozen=True)
class Message:
    text: str
    speaker: str  # "user", "assistant" or a name
    at: datetime | None  # None: not said in the file


@dataclass(frozen=True)
class Conversation:
    title: str | None
    messages: tuple[Message, ...]


def load(path: str | os.PathLike, bad: Callable[[int, str], None] | None = None) -> list[Conversation]:
    """The conversations of a file.

    Raises InputError for a file of another kind, and one that names the first message (counted through the file from
    1) that cannot be read; with `bad`, that is told of each such message instead, and the others are returned.
    """
    path = Path(path)
    count = 0

    def messages(items: list, default: object = None) -> Iterator[Message]:
        nonlocal count
        for item in items:
            count += 1
            try:
                message = _message(item, default)
            except (ValueError, TypeError, OverflowError) as error:
                why = " ".join(str(error).split())[:200]
                if bad is None:
                    raise InputError(
                        f"Message {count} of {path} cannot be imported ({why}); nothing was imported."
                    ) from error
                bad(count, why)
                continue
            if message is not None:
                yield message

    found = []
    for item in _conversations(_parsed(path), path):
        if isinstance(item, list):
            found.append(Conversation(None, tuple(messages(item))))
        elif isinstance(item.get("messages"), list):
            found.append(Conversation(_title(item.get("title")), tuple(messages(item["messages"]))))
        else:
            for name in sorted(filter(_SESSION.fullmatch, item), key=lambda name: int(name[8:])):
                if isinstance(item[name], list):
                    told = tuple(messages(item[name], item.get(f"{name}_date_time")))
                    found.append(Conversation(name.replace("_", " "), told))
    return [conversation for conversation in found if conversation.messages]


def _parsed(path: Path) -> object:
    with legible(path):
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 1_000_000} MB; split it.")
        text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply to be a conversation; nothing was imported.") from error
    except ValueError:
        return [_line(line) for line in text.splitlines() if line.strip()]


def _line(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # counted and named as a message that cannot be read


def _conversations(data: object, path: Path) -> list:
    """Each a list of messages, an object with "messages", or one with "session_1", ..."""
    if isinstance(data, dict):
        data = [data]
    data = data if isinstance(data, list) else []
    inner = [item["conversation"] if _holds(item, "conversation") else item for item in data]
    shaped = [item for item in inner if _holds(item, "messages") or isinstance(item, dict) and _holds_sessions(item)]
    if shaped and len(shaped) == len(inner):
        return shaped
    if any(isinstance(item, dict) and ("role" in item or "speaker" in item) for item in data):
        return [data]
    raise InputError(f"{path} is neither an exported memory nor a conversation; the README shows what they look like.")


def _holds(item: object, name: str) -> bool:
    return isinstance(item, dict) and isinstance(item.get(name), list | dict)


def _holds_sessions(item: dict) -> bool:
    return any(_SESSION.fullmatch(name) for name in item)


def _title(title: object) -> str | None:
    return clean(title).strip()[:LONGEST_TITLE] or None if isinstance(title, str) else None


def _message(item: object, default: object) -> Message | None:
    """A message, said at `default` unless it knows better; None for one that nobody said. Raises ValueError else."""
    if not isinstance(item, dict):
        raise ValueError("not a message")
    role = _name(item.get("role", item.get("speaker")))
    if not role:
        raise ValueError("no role")
    if role.lower() in _SILENT:
        return None
    text = clean(spoken(item)).strip()
    if not text:
        return None  # a picture, or a reply that was stopped at once
    if len(text) > LONGEST_MESSAGE:
        raise ValueError(f"longer than {LONGEST_MESSAGE:,} characters")
    speaker = _ROLES.get(role.lower(), role)
    if speaker == USER:
        speaker = _name(item.get("name")) or USER
    at = next((item[key] for key in _TIMES if item.get(key) is not None), default)
    return Message(text, speaker, _time(at))


def _name(value: object) -> str:
    """A role or a name as it can be kept; empty for what is none."""
    name = clean(value).strip() if isinstance(value, str) else ""
    return name if len(name) <= LONGEST["speaker"] else ""


def spoken(item: dict) -> str:
    """What a message says, and what it shows. Raises ValueError for content that is not a text."""
    text, caption = _content(item.get("content", item.get("text"))), item.get("blip_caption")
    if isinstance(caption, str) and caption.strip():
        text = f"{text} I am showing {caption.strip().rstrip('.')}."
    return text.strip()


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "\n".join(text for text in texts if isinstance(text, str))
    if content is None:
        return ""
    raise ValueError("content that is not a text")


def _time(value: object) -> datetime | None:
    """A time of any common way of writing. Raises ValueError for what is none."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if value > 1e11 else value
        try:
            found = datetime.fromtimestamp(seconds, UTC)
        except OSError as error:
            raise ValueError("a time that cannot be") from error
    elif isinstance(value, str) and len(value) <= 100:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = dateparser.parse(value, languages=["en"])
    else:
        found = None
    if found is None:
        raise ValueError("a time that cannot be read")
    found = found.astimezone()
    check_time(found)
    return found
