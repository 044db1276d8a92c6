"""The values of packs: plain, frozen dataclasses that know nothing of torch, files or prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mam.values import Call, Check, Searched

DIRECT, INDIRECT, CONSOLIDATED, ENTITY, CROSS, UNKNOWN = (
    "direct", "indirect", "consolidated", "entity", "cross-document", "unanswerable"
)  # fmt: skip
KINDS = (DIRECT, INDIRECT, CONSOLIDATED, ENTITY, CROSS, UNKNOWN)
DECLINES = "I do not know."  # what the memory LM learns to answer where its documents do not
READY, WAITING, DAMAGED = "ready", "waiting", "damaged"  # states of a shard; only a ready one answers


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document. `number` stays what it is when others are deleted."""

    number: int
    text: str
    position: str = ""  # "line 12", "page 3"
    slot: str | None = None  # id of the slot that it is, in a document made of slots


@dataclass(frozen=True)
class Document:
    name: str
    sentences: tuple[Sentence, ...]

    @property
    def words(self) -> int:
        return sum(len(sentence.text.split()) for sentence in self.sentences)


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Source:
    """A sentence that a reflection comes from."""

    document: str
    number: int


@dataclass(frozen=True)
class Reflection:
    """A question and its answer, with the sentences they come from."""

    id: str
    kind: str  # one of KINDS
    question: str
    answer: str
    sources: tuple[Source, ...]
    reply: str = ""  # what the memory model said, reading the sources as slots
    kept: bool = True  # False: not trained on,
    why: str = ""  # for this reason


@dataclass(frozen=True)
class Shard:
    """Some documents of a pack with the adapter that was trained on them."""

    id: str  # "000"
    state: str
    documents: dict[str, str]  # name: sha256 of its sentences
    training: str = ""  # sha256 of the training set
    adapter: str = ""  # sha256 of the adapter's file
    reflections: int = 0  # that it was trained on
    figures: dict[str, float] = field(default_factory=dict)  # of its evaluation
    seconds: dict[str, float] = field(default_factory=dict)  # by stage of building


@dataclass(frozen=True)
class Answer:
    """What a pack answered, with everything that was asked on the way."""

    question: str
    text: str
    known: bool  # False: the pack does not know, and the text says so
    calls: tuple[Call, ...]
    seconds: float
    shard: str = ""  # that answered, if it was one
    confidence: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """What the weights of a shard are made of: hashes that anybody can compute from its documents."""

    shard: str
    documents: dict[str, str]  # name: sha256
    training: str  # sha256 of the training set
    adapter: str  # sha256


@dataclass(frozen=True)
class Certificate:
    """What a deletion took out of a pack, and that it took part in no surviving weight."""

    pack: str
    documents: dict[str, str]  # removed: name (of a part of one: with its sentences), and sha256
    reflections: int  # dropped
    discarded: tuple[str, ...]  # sha256 of the adapters that had learned from it
    surviving: tuple[Evidence, ...]  # all shards there are, the one that was trained anew among them
    searched: tuple[Searched, ...]  # files of the pack that were searched for the removed text: it is in none
    checks: tuple[Check, ...]  # of the memory LM: with the shard, without an adapter, with the shard trained anew
    at: datetime
    shard: str = ""  # that had learned from it
    left: str = ""  # sha256 of what is left in that shard
    waiting: bool = False  # whether that is not trained anew yet

    @property
    def says(self) -> str:
        """What has become of the shard, in words."""
        if self.waiting:
            return f"Shard {self.shard} answers nothing until it is trained anew without it; build the pack for that."
        if any(one.shard == self.shard for one in self.surviving):
            return f"Shard {self.shard} answered nothing until it was trained anew without it; now it answers again."
        return f"Nothing is left of what shard {self.shard} had learned."
