"""The values that travel through a turn: plain, frozen dataclasses that know nothing of torch, SQL or the web.

    Candidate ─► (gate) ─► (relation) ─► Write ─► Slot        Read ◄─ (reader)        Turn holds them all

Times are timezone-aware `datetime`s in UTC. Identity (`id`) is given by the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

ACTIVE, SUPERSEDED, ARCHIVED, DELETED = "active", "superseded", "archived", "deleted"
STATES = (ACTIVE, SUPERSEDED, ARCHIVED, DELETED)

USER, ASSISTANT = "user", "assistant"  # speakers; any other string is the name of a person (imports)


@dataclass(frozen=True)
class Candidate:
    """A piece of an utterance that the write gate judges.

    `text` stands alone: it carries the context it needs ("My brother is Tom. He lives in Oslo.") and its
    relative dates are resolved ("tomorrow (23 November 2026)"). `said` are the original words, found at
    `span` (start, end in characters) of the utterance.
    """

    text: str
    said: str
    span: tuple[int, int] = (0, 0)
    speaker: str = USER
    context: str = ""  # what was said just before, as the gate sees it
    when: str | None = None  # ISO date the text speaks of, if it names one
    score: float | None = None  # the gate's probability that this is worth keeping, 0..1
    why: str = ""  # for a rejected candidate: the reason, in plain words


@dataclass(frozen=True)
class Slot:
    """One addressable memory."""

    id: str
    text: str
    said: str  # the original words
    speaker: str
    told: datetime  # when it was said
    when: str | None = None  # ISO date it speaks of
    state: str = ACTIVE
    version: int = 1  # grows with every edit
    session: str | None = None  # where it was said: session id,
    turn: str | None = None  # turn id,
    span: tuple[int, int] | None = None  # and characters of the user's text
    score: float | None = None  # the gate's probability at the time of writing; None: added by hand
    superseded_by: str | None = None  # slot id


@dataclass(frozen=True)
class Version:
    """One text a slot has had."""

    slot: str
    version: int
    text: str
    state: str
    by: str  # "user", "chat", "import", ...
    at: datetime


@dataclass(frozen=True)
class Write:
    """A slot that this turn wrote, and why."""

    slot: Slot
    score: float  # the gate's probability, 0..1
    relation: str  # "new", "duplicate" (then `slot` is the one already there) or "update"
    superseded: str | None = None  # id of the slot that the update replaced
    relation_score: float | None = None  # probability of that relation, 0..1


@dataclass(frozen=True)
class Read:
    """A slot that the reader weighed for this turn."""

    slot: Slot
    weight: float  # 0..1; the weights of a reading and its null weight sum to one
    parts: dict[str, float] = field(default_factory=dict)  # the addends of its score, log-odds
    given: bool = True  # False: a runner-up, weighed but not handed to the base


@dataclass(frozen=True)
class Turn:
    """One exchange, with everything that happened in it (the trace)."""

    id: str
    session: str
    text: str
    reply: str
    at: datetime
    writes: tuple[Write, ...] = ()
    rejected: tuple[Candidate, ...] = ()
    reads: tuple[Read, ...] = ()  # heaviest first, the runners-up last
    null_weight: float = 1.0  # "nothing here helps"
    asked: float = 0.0  # probability that the message asks for something only a memory could hold
    abstained: bool = False
    stopped: bool = False  # the reader of the reply pressed stop
    given: str = ""  # exactly what the base was given, slots marked
    tokens: int = 0  # tokens of the reply
    timing: dict[str, float] = field(default_factory=dict)  # seconds by stage


@dataclass(frozen=True)
class Session:
    """One conversation."""

    id: str
    title: str
    created: datetime
    turns: int = 0


@dataclass(frozen=True)
class Event:
    """One step of a streamed turn.

    `kind`: "read" (data: tuple of Read), "token" (data: str, the new text), "write" (data: tuple of Write; after the
    first token), "turn" (data: the finished Turn, always last).
    """

    kind: str
    data: object
