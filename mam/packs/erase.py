"""Exact deletion: text leaves a pack, and every weight that had learned from it goes with it.

A deletion, or an edit, takes the text out of everything that is kept of a shard and discards its adapter, so that the
shard answers nothing; then the shard is trained anew, alone and from its start, on what is there now. Because a shard
is a function of its documents, what comes out is, bit for bit, the shard that never had the text. Shards that never had
it are not touched. The certificate says so in hashes, and the three-way check of the store (see `mam.proof`) asks the
memory LM. There is one as soon as the text is gone, which says that the shard is waiting, and in its place one when it
is trained anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache

import torch

from mam.errors import MissingError, StoreError, WeightsError
from mam.lives import general_prompts, personal_questions
from mam.packs.card import CARD
from mam.packs.files import digest
from mam.packs.memo import Memo
from mam.packs.store import DELETIONS, PackStore, document_hash
from mam.packs.training import answer_logits, example
from mam.packs.values import (
    DECLINES,
    READY,
    UNKNOWN,
    Certificate,
    Document,
    Evidence,
    Reflection,
    Sentence,
    Shard,
    Source,
)
from mam.packs.weights import AdaptedLM, asking, forget
from mam.residue import SHORTEST, patterns
from mam.values import Check, Searched

MOST = 4  # reflections that the memory LM is asked about, before and afterwards


@dataclass(frozen=True)
class Struck:
    """What was taken out of a shard. `texts` are searched for afterwards and then forgotten."""

    shard: str
    document: str  # its name, with the numbers of sentences where it is a part
    hash: str  # of what was taken out
    texts: tuple[str, ...]
    reflections: tuple[Reflection, ...]  # dropped
    adapter: str  # sha256 of the one that was discarded; "" if there was none


def find(store: PackStore, document: str) -> tuple[str, Document]:
    """(shard, the document) of this name. Raises MissingError when there is none."""
    for id in store.shard_ids():
        for found in store.documents(id):
            if found.name == document:
                return id, found
    raise MissingError(f"The pack {store.name} has no document {document!r}.")


def without(document: Document, numbers: Collection[int]) -> Document:
    """A document without the sentences with these numbers. Raises MissingError for numbers that it does not have."""
    if missing := set(numbers) - {sentence.number for sentence in document.sentences}:
        raise MissingError(f"{document.name} has no sentence {min(missing)} in this pack.")
    return replace(document, sentences=tuple(s for s in document.sentences if s.number not in numbers))


def quoting(document: Document, texts: Collection[str]) -> set[int]:
    """The numbers of the sentences in which, or across which, one of the texts stands."""
    whole, spans = " ".join(sentence.text for sentence in document.sentences), []
    for sentence in document.sentences:
        start = spans[-1][1] + 1 if spans else 0
        spans.append((start, start + len(sentence.text), sentence.number))
    found = set()
    for text in filter(None, texts):
        at = whole.find(text)
        while at >= 0:
            found |= {number for start, end, number in spans if start < at + len(text) and at < end}
            at = whole.find(text, at + 1)
    return found


def strike(store: PackStore, id: str, old: Document, new: Document) -> Struck:
    """Put a document as it is to be in the place of what it was; what is not in it any more is gone, at once and for
    good. A document without sentences is none. Hold `store.changing()`.

    The documents are written last: whoever is interrupted before that still has the old one, in a shard that is to be
    trained anew, and repeats this.
    """
    shard, merged = store.shard(id), store.merged()
    left = [new if d.name == old.name else d for d in store.documents(id) if d.name != old.name or new.sentences]
    gone = _gone(old, new)
    numbers = {sentence.number for sentence in gone}
    try:
        reflections = store.reflections(id)
    except WeightsError:  # damage is no reason to keep them
        reflections = []
    dropped = [r for r in reflections if any(s.document == old.name and s.number in numbers for s in r.sources)]
    store.discard(id)
    forget(shard.adapter, *([merged["adapter"]] if merged else []))
    texts = {sentence.text for sentence in gone}
    Memo(store.shard_folder(id) / "memo.jsonl").forget(texts - {sentence.text for sentence in new.sentences})
    lost = {reflection.id for reflection in dropped}
    store.set_reflections(id, [r for r in reflections if r.id not in lost])
    (store.folder / "README.md").unlink(missing_ok=True)  # it names the documents
    if left:
        store.set_documents(id, left)
    else:
        store.remove_shard(id)
    remaining = {sentence.text for document in left for sentence in document.sentences}
    hash = document_hash(replace(old, sentences=gone))
    which = f", sentence {', '.join(map(str, sorted(numbers)))}" if new.sentences else ""
    return Struck(id, f"{old.name}{which}", hash, tuple(texts - remaining), tuple(dropped), shard.adapter)


def _gone(old: Document, new: Document) -> tuple[Sentence, ...]:
    """The sentences of a document that are not in it any more, under their number."""
    kept = {(sentence.number, sentence.text) for sentence in new.sentences}
    return tuple(sentence for sentence in old.sentences if (sentence.number, sentence.text) not in kept)


def replaced(store: PackStore, id: str, new: Document) -> None:
    """A document as it is now in the place of what it was; nothing happens if that is the same."""
    (old,) = (document for document in store.documents(id) if document.name == new.name)
    if document_hash(old) != document_hash(new):
        strike(store, id, old, new)


def followed(store: PackStore, texts: Mapping[str, str]) -> None:
    """Take up what has become of the slots that a pack was made of. texts: of those that are active, by id."""
    for id in store.shard_ids():
        for old in store.documents(id):
            now = (s if s.slot is None else replace(s, text=texts.get(s.slot, "")) for s in old.sentences)
            new = replace(old, sentences=tuple(sentence for sentence in now if sentence.text))
            if new != old:
                strike(store, id, old, new)


def certificate(store: PackStore, struck: Struck, checks: Sequence[Check] = ()) -> Certificate:
    """What there is to certify now, whether the shard is trained anew already or not. Hold `store.changing()`.

    It is kept with the pack, in the place of what the same deletion had before, with hashes instead of the names of
    documents: those may go, too. Raises StoreError when a file of the pack still holds what was taken out.
    """
    documents = store.all_documents()
    kept = [*(s.text for document in documents for s in document.sentences), *(document.name for document in documents)]
    elsewhere = "\n".join([*kept, *_own()])
    texts = [text for text in struck.texts if text not in elsewhere]
    wanted = {form for text in texts if len(text.encode()) >= SHORTEST for form in patterns(text)}
    searched = []
    for file in sorted(path for path in store.folder.rglob("*") if path.is_file() and path.name != DELETIONS):
        content, name = file.read_bytes(), file.relative_to(store.folder).as_posix()
        if any(each in content for each in wanted):
            raise StoreError(f"The text is deleted, but {file} holds a copy; delete that file, then build the pack.")
        searched.append(Searched(name, len(content), hashlib.sha256(content).hexdigest()))
    done = Certificate(
        pack=store.name,
        documents={struck.document: struck.hash},
        reflections=len(struck.reflections),
        discarded=(struck.adapter,) if struck.adapter else (),
        surviving=tuple(store.evidence()),
        searched=tuple(searched),
        checks=tuple(checks),
        at=datetime.now(UTC),
        shard=struck.shard,
        left=left_in(store, struck.shard),
        waiting=struck.shard in store.shard_ids() and store.shard(struck.shard).state != READY,
    )
    surviving = tuple(replace(one, documents=_nameless(one.documents)) for one in done.surviving)
    nameless = replace(done, documents=_nameless(done.documents), surviving=surviving)
    store.set_certificates([*(each for each in store.certificates() if not _same(each, nameless)), nameless])
    return done


@cache
def _own() -> list[str]:
    """What is in every pack, whatever its text is: words of this package, as they stand in files."""
    asked = [DECLINES, *personal_questions("train"), *general_prompts("train")]
    kinds = (Document, Sentence, Source, Reflection, Shard, Evidence, Certificate, Searched, Check)
    return [CARD, *(f'"{words}"' for words in (*asked, *(field.name for kind in kinds for field in fields(kind))))]


def _nameless(documents: Mapping[str, str]) -> dict[str, str]:
    return {f"document {hash[:16]}": hash for hash in documents.values()}


def _same(one: Certificate, other: Certificate) -> bool:
    """Whether both are of one deletion."""
    return (one.documents, one.shard, one.left) == (other.documents, other.shard, other.left)


def left_in(store: PackStore, shard: str) -> str:
    """sha256 of the documents of a shard; of none if it is gone."""
    documents = store.documents(shard) if shard in store.shard_ids() else []
    return digest([document_hash(document) for document in documents])


def certificates(store: PackStore) -> list[Certificate]:
    """Of the deletions there were, oldest first; one whose shard was waiting says what has become of it since."""
    found = []
    for one in store.certificates():
        shard = store.shard(one.shard) if one.waiting and one.shard in store.shard_ids() else None
        if one.waiting and (shard is None or shard.state == READY):
            made = shard is not None and left_in(store, one.shard) == one.left  # of nothing else than what was left
            new = (Evidence(shard.id, shard.documents, shard.training, shard.adapter),) if made else ()
            one = replace(one, waiting=False, surviving=(*one.surviving, *new))
        found.append(one)
    return found


@dataclass(frozen=True)
class Probe:
    """A reflection that is about to go, and how well it is known until then; never stored."""

    reflection: Reflection
    full: float
    off: float
    said_off: bool


def ask_before(store: PackStore, lm: AdaptedLM, id: str, old: Document, new: Document, adapter: str) -> list[Probe]:
    """adapter: that of the shard, which the LM holds."""
    numbers = {sentence.number for sentence in _gone(old, new)}
    learned = [
        r for r in store.reflections(id)
        if r.kept and r.kind != UNKNOWN and any(s.document == old.name and s.number in numbers for s in r.sources)
    ]  # fmt: skip
    some = learned[:: -(-len(learned) // MOST) or 1]
    return [Probe(r, known(lm, adapter, r)[0], *known(lm, None, r)) for r in some]


def ask_after(lm: AdaptedLM, probe: Probe, adapter: str | None) -> Check:
    deleted, said = known(lm, adapter, probe.reflection)
    return Check(probe.reflection.id, probe.full, probe.off, deleted, said and not probe.said_off)


@torch.no_grad()
def known(lm: AdaptedLM, adapter: str | None, reflection: Reflection) -> tuple[float, bool]:
    """(geometric mean of the chances of the answer's tokens, whether each was the first choice)."""
    with lm.using(adapter):
        wanted = example(lm, asking(lm, reflection.question), reflection.answer)
        logits, ids = answer_logits(lm, [wanted])
        chances = logits.log_softmax(-1).gather(1, ids[:, None])
        return float(chances.mean().exp()), bool((logits.argmax(-1) == ids).all())
