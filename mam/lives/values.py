"""What a generated life is made of: plain, frozen values that know nothing of how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Sentence:
    """A piece of an utterance with its label. `text` is what is said (it may be two short sentences)."""

    text: str
    keep: bool  # worth keeping in a memory
    kind: str  # "fact", "update"; "greeting", "closing", "chatter", "question", "recall", "command", "statement",
    # "hypothetical"; from the assistant: "reaction", "reply", "question", "echo", "invention"
    fact: int | None = None  # index into Life.facts


@dataclass(frozen=True)
class Utterance:
    speaker: str  # "user" or "assistant"
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


@dataclass(frozen=True)
class LifeSession:
    started: datetime  # UTC
    utterances: tuple[Utterance, ...]  # user and assistant take turns


@dataclass(frozen=True)
class Fact:
    kind: str
    subject: str  # "user", or the relation: "sister"
    text: str  # as told, standing alone and with its date resolved, as a slot would hold it
    value: str  # found in `text` (letter case aside); "27 November 2026" for a date
    session: int  # index into Life.sessions
    told: datetime  # UTC
    replaces: int | None = None  # index of the fact that this one updates


@dataclass(frozen=True)
class Question:
    """Something asked after the last session."""

    text: str
    type: str  # "single", "list", "hop", "date", "updated" or "unknown"
    answer: str  # a natural sentence
    values: tuple[str, ...]  # all must appear in a right reply; empty for "unknown"
    evidence: tuple[int, ...]  # the facts it takes to answer; empty for "unknown"
    stale: tuple[str, ...] = ()  # values that must not appear in a right reply
    kind: str = ""  # name of the kind asked for,
    subject: str = ""  # and whom the question is about


@dataclass(frozen=True)
class Life:
    seed: int
    split: str
    sessions: tuple[LifeSession, ...]
    facts: tuple[Fact, ...]  # in the order of telling
    questions: tuple[Question, ...]
