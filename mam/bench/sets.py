"""The public data sets of the benchmarks, read and checked: conversations with questions, documents with questions.

Knows their files and fields; does not know how a memory is asked or scored. Whatever is missing or damaged is an
InputError that names the file and the field. LoCoMo is for evaluation only, nothing is ever trained or tuned on it.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from mam.conversations import spoken
from mam.errors import InputError
from mam.jsonl import UNREADABLE, damaged, field, lines, missing, texts, unexpected

LOCOMO = "locomo_dev.json.gz"
LOCOMO_TIME = "%I:%M %p on %d %B, %Y"
PASSAGES = 40  # consecutive ones of SQuADShifts that make a document: about 200 sentences, as long as a story


# ---- LoCoMo ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A turn of a conversation."""

    id: str  # "D3:7"
    speaker: str
    text: str
    at: datetime


@dataclass(frozen=True)
class Asked:
    """A question about a conversation. category: see `metrics`; evidence: ids of turns, only such that exist."""

    text: str
    answer: str
    category: int
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Talk:
    """A conversation over many sessions."""

    id: str
    sessions: tuple[tuple[Said, ...], ...]
    questions: tuple[Asked, ...]

    @property
    def turns(self) -> list[Said]:
        return [turn for session in self.sessions for turn in session]


def locomo(folder: Path | None) -> list[Talk]:
    """LoCoMo as published: a list of conversations in one gzipped JSON file."""
    path = _there(folder, LOCOMO)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            samples = json.load(file)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    if not isinstance(samples, list) or not samples:
        raise InputError(f"{path} holds no conversations; fetch it again.")
    return [_talk(sample, f"{path}, conversation {number}") for number, sample in enumerate(samples, 1)]


def _talk(sample: object, where: str) -> Talk:
    talk = field(sample, "conversation", dict, where)
    names = [name for name in talk if re.fullmatch(r"session_\d+", name)]
    if not names:
        raise InputError(f'{where}, has no field "session_1" in "conversation"; fetch it again.')
    sessions = tuple(_session(talk, name, where) for name in sorted(names, key=lambda name: int(name[8:])))
    ids = {turn.id for session in sessions for turn in session}
    questions = tuple(
        _asked(question, ids, f"{where}, question {number}")
        for number, question in enumerate(field(sample, "qa", list, where), 1)
    )
    name = field(sample, "sample_id", str, where) if "sample_id" in sample else where.rpartition(" ")[2]
    return Talk(name, sessions, questions)


def _session(talk: dict, name: str, where: str) -> tuple[Said, ...]:
    said, when = field(talk, f"{name}_date_time", str, where), field(talk, name, list, where)
    try:
        at = datetime.strptime(said.strip(), LOCOMO_TIME).astimezone()  # where it is read, as by an import
    except (ValueError, OverflowError) as error:  # the latter for the first and the last day of all calendars
        raise InputError(f'{where}, field "{name}_date_time" is no time ({said[:60]}); fetch it again.') from error
    turns = []
    for number, turn in enumerate(when, 1):
        place = f"{where}, turn {number} of {name}"
        id, speaker, text = (field(turn, key, str, place) for key in ("dia_id", "speaker", "text"))
        shown = "" if turn.get("blip_caption") in (None, "") else field(turn, "blip_caption", str, place)
        turns.append(Said(id, speaker, spoken({"text": text, "blip_caption": shown}), at))
    return tuple(turns)


def _asked(question: object, ids: set[str], where: str) -> Asked:
    """The published evidence has slips: two ids in one string are parted, what names no turn is left out."""
    category = field(question, "category", int, where)
    if not 1 <= category <= 5:
        raise InputError(f'{where}, field "category" is {category}, not 1 to 5; fetch it again.')
    answer = "" if category == 5 else field(question, "answer", str | int | float, where)
    evidence = () if question.get("evidence") in (None, []) else strings(question, "evidence", where)
    found = [id for text in evidence for id in re.split(r"[;,\s]+", text) if id in ids]
    return Asked(field(question, "question", str, where), str(answer), category, tuple(dict.fromkeys(found)))


# ---- documents with questions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A question about a document.

    within: characters (start, end) of the document where its answer is; at: where exactly, if that is known.
    """

    text: str
    answers: tuple[str, ...]
    kind: str
    within: tuple[int, int]
    at: int | None = None


@dataclass(frozen=True)
class Document:
    name: str
    text: str
    questions: tuple[Question, ...]


def squad(folder: Path | None, part: str) -> list[Document]:
    """A part of SQuADShifts ("wiki", "reddit", ...): every 40 consecutive passages are a document."""
    path = _there(folder, f"qa_squadshifts_{part}.jsonl.gz")
    passages = [(text, list(rows)) for text, rows in groupby(lines(path), key=lambda row: _row(row, "context", str))]
    documents = []
    for number, start in enumerate(range(0, len(passages), PASSAGES), 1):
        text, questions = "", []
        for passage, rows in passages[start : start + PASSAGES]:
            first, text = len(text), f"{text}{passage.rstrip()}\n\n"
            questions += [_of_passage(row, passage, first) for row in rows]
        documents.append(Document(f"{part}-{number:03}", text, tuple(questions)))
    return documents


def _of_passage(row: tuple, passage: str, first: int) -> Question:
    answers = [(_part(row, a, "text", str), _part(row, a, "start", int)) for a in _row(row, "answers", list)]
    if not answers or any(start < 0 or passage[start : start + len(text)] != text for text, start in answers):
        raise InputError(f'{row[0]}, field "answers" does not say where the passage has them; fetch it again.')
    (start, _), *_ = Counter(start for _, start in answers).most_common(1)
    texts = tuple(dict.fromkeys(text for text, _ in answers))
    within = (first, first + len(passage))
    return Question(_row(row, "question", str).strip(), texts, "span", within, first + start)


def stories(folder: Path | None, part: str) -> list[Document]:
    """FairytaleQA ("train", "val"): every story is a document, its sections known by number."""
    told, asked = (_there(folder, f"{kind}_fairytale_{part}.jsonl.gz") for kind in ("stories", "qa"))
    questions: dict[str, list[tuple]] = {}
    for row in lines(asked):
        questions.setdefault(_row(row, "story", str), []).append(row)
    documents = []
    for row in lines(told):
        name, text, places = _row(row, "story", str), "", {}
        for section in _row(row, "sections", list):
            first, told_there = len(text), unwrapped(_part(row, section, "text", str))
            text += f"{told_there}\n\n"
            places[_part(row, section, "section", str)] = (first, len(text))
        mine = tuple(_of_story(row, places, told) for row in questions.get(name, ()))
        documents.append(Document(name, text, mine))
    for name in questions.keys() - {document.name for document in documents}:
        raise InputError(f'{questions[name][0][0]}, field "story" names none of {told}; fetch both again.')
    return documents


def _of_story(row: tuple, places: dict[str, tuple[int, int]], told: Path) -> Question:
    sections = _row(row, "sections", list)
    found = [places[str(section)] for section in sections if str(section) in places]
    if not found:
        raise InputError(f'{row[0]}, field "sections" names none of its story in {told}; fetch both again.')
    within = (min(start for start, _ in found), max(end for _, end in found))
    answers = tuple(dict.fromkeys(strings(row[1], "answers", row[0])))
    return Question(_row(row, "question", str).strip(), answers, _row(row, "kind", str), within)


def unwrapped(text: str) -> str:
    """Paragraphs without the line ends of print, which are no ends of sentences."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n\n".join(joined for part in paragraphs if (joined := " ".join(part.split())))


# ---- files and fields ------------------------------------------------------------------------------------------------


def _there(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise InputError(f"This benchmark needs --data DIR, the folder with {name}; the README says where to get it.")
    path = folder / name
    if not path.is_file():
        raise missing(path)
    return path


def _row(row: tuple[str, dict], name: str, kind: type) -> object:
    return field(row[1], name, kind, row[0])


def _part(row: tuple[str, dict], part: object, name: str, kind: type) -> object:
    return field(part, name, kind, row[0])


def strings(of: object, name: str, where: str) -> list[str]:
    """The field of a row that is a list of texts, at least one."""
    values = texts(of, name, where)
    if not values or not all(map(str.strip, values)):
        raise unexpected(name, where)
    return values


def evenly(items: Sequence, count: int | None) -> list:
    """At most `count` of the items, spread evenly; None: all."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
