"""The values that travel through a turn: plain, frozen dataclasses that know nothing of torch, SQL or the web.

    Candidate ─► (gate) ─► (relation) ─► Write ─► Slot        Read ◄─ (reader)        Turn holds them all

Times are timezone-aware `datetime`s in UTC. Identity (`id`) is given by the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

ACTIVE, SUPERSEDED, ARCHIVED, DELETED = "active", "superseded", "archived", "deleted"
STATES = (ACTIVE, SUPERSEDED, ARCHIVED, DELETED)
RELATIONS = ("new", "duplicate", "update")  # of what is written to what was there

MOST_TAGS, LONGEST_TAG = 32, 64  # of a slot; characters
LONGEST_TITLE = 200  # characters of a session's

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
    tags: tuple[str, ...] = ()
    pinned: bool = False  # never archived for want of room
    document: str | None = None  # name of the document it comes from (then `span` are characters of that),
    position: str | None = None  # and where in it: "page 3", "line 12"
    # How often it was given to the base: what happens to a slot, not what it is, so equal slots may differ here.
    reads: int = field(default=0, compare=False)
    last_read: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Found:
    """Some of the slots that were looked for: one page of them, and how many there are in all."""

    slots: tuple[Slot, ...]
    total: int


@dataclass(frozen=True)
class Version:
    """What a slot was, from one change to the next."""

    slot: str
    version: int
    text: str
    state: str
    by: str  # "user", "chat", "import", "ingest", "consolidation", "capacity" or "undo"
    at: datetime
    when: str | None = None
    superseded_by: str | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True)
class Write:
    """A slot that this turn wrote, and why."""

    slot: Slot
    score: float  # the gate's probability, 0..1
    relation: str  # one of RELATIONS; of a duplicate, `slot` is the one already there
    superseded: str | None = None  # id of the slot that the update replaced
    relation_score: float | None = None  # probability of that relation, 0..1


SAYS_WHO = "says who is meant"  # the part of a read's score that marks a slot which only says whom the message is about


@dataclass(frozen=True)
class Read:
    """A slot that the reader weighed for this turn."""

    slot: Slot
    weight: float  # 0..1; the weights of a reading and its null weight sum to one
    parts: dict[str, float] = field(default_factory=dict)  # the addends of its score, log-odds
    given: bool = True  # False: a runner-up, weighed but not handed to the base
    dated: bool = False  # the message asks when, so it is read with the day it was told on (see `mam.render`)


@dataclass(frozen=True)
class Call:
    """One question of an exchange with a pack (see `mam.packs`), to the executive or to the memory LM, in a stage."""

    stage: str  # "grounding", "entities", "answer", "synthesis"
    to: str  # "executive" or "pack"
    asked: str
    reply: str
    shard: str = ""
    confidence: float | None = None  # of the memory LM: geometric mean of its tokens' chances, 0..1
    pruned: str = ""  # why it is not followed
    pack: str = ""  # name of the pack, where several may be asked


@dataclass(frozen=True)
class Archived:
    """A slot that had to make room because the space is bounded: the one with the lowest score."""

    slot: Slot
    score: float  # how useful it is; the sum of its parts
    parts: dict[str, float] = field(default_factory=dict)  # "use", "age", "redundancy"


@dataclass(frozen=True)
class Merged:
    """Near-duplicates that become one: `kept` stays, the others are superseded by it."""

    kept: Slot
    others: tuple[Slot, ...]
    similarity: float  # of the least similar pair, cosine of their keys


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
    base: str = ""  # name of the base that answered
    sent: tuple[dict, ...] = ()  # to a base that is told its memories as text: every request, word by word
    tokens: int = 0  # tokens of the reply
    ended: str = "stop"  # "length": it came to the limit of tokens or of the context; or another reason of a server's
    timing: dict[str, float] = field(default_factory=dict)  # seconds by stage
    archived: tuple[Archived, ...] = ()  # what made room for the writes
    thresholds: dict[str, float] = field(default_factory=dict)  # what decided, by name, 0..1
    calls: tuple[Call, ...] = ()  # what the packs that were mounted were asked, and what they said


@dataclass(frozen=True)
class Session:
    """One conversation."""

    id: str
    title: str
    created: datetime
    turns: int = 0
    archived: bool = False
    temporary: bool = False  # nothing of it is ever written


@dataclass(frozen=True)
class Event:
    """One step of a streamed turn.

    `kind`: "read" (data: tuple of Read), "token" (data: str, the new text), "write" (data: tuple of Write; after the
    first token), "turn" (data: the finished Turn, always last).
    """

    kind: str
    data: object


@dataclass(frozen=True)
class Searched:
    """A place that was searched after a purge: a file under the data folder, or a table on a server."""

    name: str
    size: int  # bytes of a file, rows of a table
    sha256: str  # of a file's content when it was searched; empty for a table


@dataclass(frozen=True)
class Check:
    """Does the base still know a purged memory? The chance that, asked, it goes on with the words of the memory.

    Each is the geometric mean over the tokens of the memory's last words, 0..1.
    """

    slot: str
    full: float  # with the whole memory, before the purge
    off: float  # with this slot left out, before the purge
    deleted: float  # with what the memory reads after the purge
    said: bool  # whether, after the purge, these words are the base's first choice though they were not without it

    @property
    def passed(self) -> bool:
        """After the purge the base knows no more than it did without the slot."""
        return not self.said


@dataclass(frozen=True)
class Certificate:
    """What a purge removed and what was checked afterwards; without the texts themselves."""

    slots: tuple[str, ...]  # ids, with those that held nothing but a purged text
    versions: int
    keys: int  # vectors
    turns: int  # removed, or whose text, reply or trace quoted a purged text
    sessions: tuple[str, ...]  # ids
    searched: tuple[Searched, ...]  # where the texts and vectors were searched afterwards: they are in none of these
    encodings: tuple[str, ...]  # in which they were searched
    at: datetime
    checks: tuple[Check, ...] = ()  # of the base
    places: int = 0  # coordinates on maps
    unasked: str = ""  # why the base was not asked
