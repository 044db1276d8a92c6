"""What the parts learn from: generated lives, and the public question–answer sets when their folder is given.

Everything is a function of (seed, split), so that a resumed run sees what the interrupted one would have seen.
Lives of "train" share no kind of fact, value or lead-in with those of "val" and "test"; see `mam.lives.kinds`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np

from mam.errors import InputError
from mam.index import SlotIndex, words
from mam.lives import (
    Life,
    Question,
    commands,
    general_prompts,
    life,
    personal_questions,
)
from mam.lives.days import undated, written
from mam.lives.plan import NAME
from mam.render import asks_when
from mam.values import ASSISTANT, USER, Candidate, Slot

UNDATED = 0.4  # share of what happened on a day that is told without the day
LED = 0.15  # share of training questions with something else said first
RECALL = "recall"  # the kind of sentence that asks for what was told: it does ask something of the memory
REVOICED, OTHERS = 0.15, 0.10  # shares of a user's facts put into the assistant's mouth, and into somebody else's
NOW = datetime(2027, 3, 1, tzinfo=UTC)
SETS = {
    "train": (
        "qa_squadshifts_reddit",
        "qa_squadshifts_amazon",
        "qa_qamr_dev",
        "qa_fairytale_train",
    ),
    "val": ("qa_squadshifts_wiki", "qa_fairytale_val"),
}


@dataclass(frozen=True)
class Asked:
    """A question to a space: the rows of its slots that answer it (none: nothing does), and what to say."""

    text: str
    rows: tuple[int, ...]
    answer: str
    values: tuple[str, ...]
    type: str
    who: int | None = None  # row of the slot that gives the name of whom the question is about


@dataclass(frozen=True)
class Scene:
    """A memory and what happens around it: the unit that all parts train on."""

    slots: tuple[Slot, ...]
    asked: tuple[Asked, ...]
    idle: tuple[str, ...] = ()  # messages that ask nothing of a memory
    candidates: tuple[tuple[Candidate, bool], ...] = ()  # with the label: worth keeping
    now: datetime = NOW
    personal: bool = False  # lives, not passages: what is asked here only those who lived them can have told


def slot(row: int, text: str, told: datetime = NOW, speaker: str = USER) -> Slot:
    return Slot(id=str(row), text=text, said=text, speaker=speaker, told=told)


def scene(seed: int, split: str = "train") -> Scene:
    """One life as a scene; sizes vary from a dozen slots to several dozen."""
    random = Random(f"scene {split} {seed}")
    one = life(
        seed,
        split,
        sessions=random.choice((2, 3, 3, 4)),
        facts=random.choice((10, 16, 24, 24, 36, 50)),
    )
    replaced = {f.replaces for f in one.facts if f.replaces is not None}
    rows = {i: row for row, i in enumerate(i for i in range(len(one.facts)) if i not in replaced)}
    dated = {q.evidence[0] for q in one.questions if q.type == "date" and asks_when(q.text)}
    bare = {i: text for i in rows if i in dated and random.random() < UNDATED
            if (text := undated(one.facts[i].text, one.facts[i].value))}  # fmt: skip
    slots = [slot(row, bare.get(i, one.facts[i].text), one.facts[i].told) for i, row in rows.items()]
    candidates = _candidates(one)
    # A gate lets some chatter through; the reader has to live with it.
    junk = [c for c, keep in candidates if not keep and c.speaker == USER and not c.said.endswith("?")]
    for c in random.sample(junk, min(len(junk), random.choice((0, 0, 1, 3)))):
        slots.append(slot(len(slots), c.text, one.facts[0].told))
    names = {one.facts[i].subject: row for i, row in rows.items() if one.facts[i].kind == NAME}
    # Other splits have lead-ins of their own; two dozen in training are too few to teach that they do not matter.
    led = LED if split == "train" and junk else 0.0
    asked = [
        Asked(
            f"{random.choice(junk).said} {q.text}" if random.random() < led else q.text,
            tuple(rows[i] for i in q.evidence),
            *_reply(q, {i: written(one.facts[i].told.date()) for i in bare}),
            q.type,
            names.get(q.subject) if q.kind != NAME else None,
        )
        for q in one.questions
        if all(i in rows for i in q.evidence)
    ]
    idle = random.sample(general_prompts(split), min(6, len(general_prompts(split))))
    idle += random.sample(commands(split), min(2, len(commands(split))))
    idle += random.sample(personal_questions(split), min(2, len(personal_questions(split))))
    said = [x.text for session in one.sessions for u in session.utterances if u.speaker == USER for x in u.sentences
            if x.kind != RECALL]  # fmt: skip
    idle += random.sample(said, min(6, len(said)))
    now = max(f.told for f in one.facts) + timedelta(days=random.uniform(0.1, 60))
    return Scene(tuple(slots), tuple(asked), tuple(idle), tuple(candidates), now, personal=True)


def _reply(question: Question, told: dict[int, str]) -> tuple[str, tuple[str, ...]]:
    """The answer and its values; of what happened on a day that nobody told, the day that it was told on."""
    day = next((told[i] for i in question.evidence if i in told), None)
    return (question.answer, question.values) if day is None else (f"You told me that on {day}.", (day,))


def _candidates(one: Life) -> list[tuple[Candidate, bool]]:
    """Every labelled sentence as the gate meets it: with the words before it as context."""
    out = []
    for session in one.sessions:
        before = ""
        for utterance in session.utterances:
            for s in utterance.sentences:
                text = one.facts[s.fact].text if s.fact is not None and s.text in one.facts[s.fact].text else s.text
                out.append(
                    (
                        Candidate(text, s.text, speaker=utterance.speaker, context=before),
                        s.keep,
                    )
                )
                before = s.text
    return out


def revoiced(random: Random, candidate: Candidate, keep: bool) -> tuple[Candidate, bool]:
    """Now and then, a fact of the user's as somebody else says it.

    From the assistant it is an invention and not worth keeping; from another person it is a fact all the same. Lives
    have no such pairs, and without them a gate has no need to look at who speaks.
    """
    if not keep or candidate.speaker != USER or (roll := random.random()) >= REVOICED + OTHERS:
        return candidate, keep
    if roll < REVOICED:
        return replace(candidate, speaker=ASSISTANT), False
    return replace(candidate, speaker=random.choice(("Ana", "Ben", "Mum"))), True


# ---- public question–answer sets ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passage:
    """Sentences of a passage, and questions with the sentence that answers each."""

    sentences: tuple[str, ...]
    questions: tuple[tuple[str, int, str], ...]  # question, sentence, answer


def passages(folder: Path, split: str) -> list[Passage]:
    """All passages of the sets of `split` found in `folder`. Raises InputError when a file is missing or damaged."""
    out: list[Passage] = []
    for name in SETS[split]:
        by_text: dict[str, list[tuple[str, str]]] = {}
        for row in _rows(folder / f"{name}.jsonl.gz"):
            text, answer = row.get("context") or row.get("sentence"), _answer(row)
            if text and answer and len(answer) <= 80:
                by_text.setdefault(text if isinstance(text, str) else " ".join(text), []).append(
                    (row["question"].strip(), answer)
                )
        for text, pairs in by_text.items():
            sentences = sentences_of(text)
            found = [(q, i, a) for q, a in pairs if (i := _holds(sentences, a)) is not None]
            if found:
                out.append(Passage(tuple(sentences), tuple(found)))
    return out


def passage_scene(seed: int, pool: list[Passage]) -> Scene:
    """A few passages as one memory, told by nobody in particular; questions about two more that are not in it."""
    random = Random(f"passages {seed}")
    held, absent = random.sample(pool, 5), random.sample(pool, 2)
    slots, asked = [], []
    for passage in held:
        first = len(slots)
        slots += [slot(first + i, s, NOW - timedelta(days=1), "document") for i, s in enumerate(passage.sentences[:30])]
        for question, i, answer in random.sample(passage.questions, min(4, len(passage.questions))):
            if i < 30:
                asked.append(Asked(question, (first + i,), answer, (answer,), "passage"))
    for passage in absent:
        if passage not in held:
            asked.append(Asked(random.choice(passage.questions)[0], (), "", (), "unknown"))
    return Scene(tuple(slots), tuple(asked))


def sentences_of(text: str) -> list[str]:
    """Sentences of edited prose."""
    return [s.strip() for s in re.split(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])", text) if s.strip()]


def fingerprint(folder: Path | None) -> str:
    """Of the files in `folder` that are learned from or validated on; of none where lives are all there is.

    Raises InputError when one is missing.
    """
    if folder is None:
        return "lives"
    digest = hashlib.sha256()
    for name in (*SETS["train"], *SETS["val"], DIALOGUES):
        file = folder / f"{name}.jsonl.gz"
        try:
            digest.update(name.encode() + hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise _missing(file) from error
    return digest.hexdigest()[:16]


def _missing(file: Path) -> InputError:
    return InputError(f"{file} is missing; --data must name the folder with the public data sets.")


def _answer(row: dict) -> str:
    answers = row.get("answers") or row.get("answer") or ""
    first = answers[0] if isinstance(answers, list) and answers else answers
    return (first.get("text", "") if isinstance(first, dict) else str(first)).strip()


def _holds(sentences: list[str], answer: str) -> int | None:
    return next((i for i, s in enumerate(sentences) if answer.lower() in s.lower()), None)


def _rows(file: Path) -> list[dict]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise _missing(file) from error
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{file} is damaged ({error}); fetch it again.") from error


# ---- real dialogues, for the gate -----------------------------------------------------------------------------------

DIALOGUES = "dialogue_synthetic_persona_chat"
_SELF = {"i", "my", "we", "our", "me", "mine"}


def talk(folder: Path, split: str) -> list[tuple[Candidate, bool]]:
    """Sentences of Synthetic-Persona-Chat with weak labels, its last tenth for validation.

    Worth keeping: the lines of a persona, and what repeats most of such a line in a dialogue. Not worth keeping:
    questions, and what does not speak of oneself at all. Everything in between is left out.
    Raises InputError when the file is missing or damaged.
    """
    rows = _rows(folder / f"{DIALOGUES}.jsonl.gz")
    cut = len(rows) * 9 // 10
    out = []
    for row in rows[:cut] if split == "train" else rows[cut:]:
        before = ""
        lines = row["persona_1"] + row["persona_2"]
        out += [(Candidate(line, line, context=""), True) for line in lines]
        for said in row["dialogue"]:
            for sentence in sentences_of(said.partition(": ")[2]):
                label = _weak_label(sentence, lines)
                if label is not None:
                    out.append((Candidate(sentence, sentence, context=before), label))
                before = sentence
    return out


def _weak_label(sentence: str, persona: list[str]) -> bool | None:
    if sentence.endswith("?") or not _SELF & set(re.findall(r"[a-z]+", sentence.lower())):
        return False
    said = words(sentence)
    told = [words(line) for line in persona]
    return True if any(len(said & line) >= max(2, 0.6 * len(line)) for line in told) else None


def index_of(scene: Scene, dim: int) -> SlotIndex:
    """An index of the scene's slots without their keys: its words, times and speakers."""
    index = SlotIndex(dim)
    index.add(scene.slots, np.zeros((len(scene.slots), dim), dtype=np.float32))
    return index
