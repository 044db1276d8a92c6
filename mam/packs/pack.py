"""A pack as it is used: asked, looked at, changed, merged and handed on. What `m.packs()` gives.

It joins the files of a pack with a memory LM and the engine of a space. All methods raise InputError for what is not
there, WeightsError for what is damaged or made for other weights, ConflictError while somebody else changes the pack.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import torch

from mam.engine import Engine
from mam.errors import ConflictError, InputError, StoreError, WeightsError
from mam.packs import build, erase, exchange, protocol, text
from mam.packs.build import TRAINED_ON, Builder, Progress, declines
from mam.packs.files import digest
from mam.packs.generators import Generator
from mam.packs.protocol import Recalled
from mam.packs.shelf import PACK_SLOT
from mam.packs.store import PackStore, Settings
from mam.packs.values import DECLINES, READY, Answer, Certificate, Document, Reflection, Shard
from mam.packs.verify import spoken
from mam.packs.weights import AdaptedLM, adapter_name, answer, forget, load
from mam.train.background import curves
from mam.values import Call, Read, Slot

Slots = Callable[[], Mapping[str, str]]  # the texts of the active slots of a space, by id

MERGED = "merged"
SPOKEN = 64  # tokens of what the executive says
UNLIKE = (
    0.65  # cosine; of a training story people's own questions have 0.74 or more, 95 % of questions on all sorts less
)
NOTHING = Recalled("", False, "", 0.0)
LOSES = "Merged weights cannot be taken apart: a deletion discards them, and they have to be merged again."


class Pack:
    """One pack of a user. Safe to share between threads.

    slots: those of its user's space. A shard that has learned from one that is not so any more answers nothing.
    removed: is told the name when the pack is removed.
    """

    def __init__(
        self, store: PackStore, engine: Engine, slots: Slots | None = None, removed: Callable[[str], None] | None = None
    ):
        self.store, self._engine, self._slots, self._removed = store.wanted(), engine, slots, removed
        self._keys: dict[str, tuple[tuple, torch.Tensor]] = {}  # shard: (mark, keys), as last looked at

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def settings(self) -> Settings:
        return self.store.settings()

    @property
    def ready(self) -> bool:
        """Whether every shard answers."""
        return all(shard.state == READY and self._true(shard.id) for shard in self.shards())

    def shards(self) -> list[Shard]:
        return self.store.shards()

    def documents(self) -> list[Document]:
        return self.store.all_documents()

    def reflections(
        self, find: str = "", kind: str | None = None, kept: bool | None = None, document: str | None = None
    ) -> list[Reflection]:
        """Those of all shards; only with these words in question or answer, of this kind, kept or not, and with a
        sentence of this document as a source."""
        found = [r for id in self.store.shard_ids() for r in self.store.reflections(id)]
        words = find.lower()
        return [
            r for r in found
            if words in f"{r.question}\n{r.answer}".lower() and kind in (None, r.kind) and kept in (None, r.kept)
            and document in (None, *(source.document for source in r.sources))
        ]  # fmt: skip

    def questions(self) -> list[tuple[Reflection, torch.Tensor]]:
        """What ready shards can answer, each with its key (dim,) float32: what questions are routed by."""
        found = []
        for id in self.store.shard_ids():
            if (keys := self._shard_keys(id)) is not None:
                found += zip(build.answerable(self.store.reflections(id)), keys, strict=True)
        return found

    def curves(self, shard: str) -> dict[str, list[tuple[int, float]]]:
        """How the adapter of a shard learned, or is learning: (step, value) by "split figure"."""
        return curves(self.store.curves(shard))

    # ---- building ------------------------------------------------------------------------------------------------

    def build(
        self,
        documents: Sequence[Document] = (),
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        generator: Generator | None = None,
    ) -> list[Shard]:
        """Build what is not ready, with these documents added or in place of what they were, and slots as they are now.

        Raises `build.Paused`.
        """
        with self.store.changing():
            self._follow()
            if documents:
                build.plan(self.store, documents)
            return Builder(self.store, self._engine, progress, stop, generator).build()

    def estimate(self) -> float:
        """Seconds that is going to take, roughly."""
        return build.estimate(self.store)

    def delete(
        self,
        document: str,
        numbers: Collection[int] = (),
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        generator: Generator | None = None,
    ) -> Certificate:
        """Take a document, or the sentences of it with these numbers, out of the pack and out of its weights.

        At once the text is gone and its shard answers nothing; then that shard is trained anew without it, and what it
        took part in is certified. If that is interrupted, `build` goes on, and the text is gone all the same: the last
        of `certificates` says so.
        """
        with self.store.changing():
            self._follow()
            id, old = erase.find(self.store, document)
            new = erase.without(old, numbers) if numbers else replace(old, sentences=())
            return self._changed(id, old, new, Builder(self.store, self._engine, progress, stop, generator))

    def edit(
        self,
        document: str,
        number: int,
        words: str,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        generator: Generator | None = None,
    ) -> Certificate:
        """Put these words in the place of the sentence of a document with this number, in the text and in the weights.

        What it said before goes as with `delete`, and is certified; its shard is trained anew with what it says now.
        Raises InputError for words that no pack can be made of, and for a sentence that is a slot: edit that.
        """
        with self.store.changing():
            self._follow()
            id, old, new = self.reworded(document, number, words)
            return self._changed(id, old, new, Builder(self.store, self._engine, progress, stop, generator))

    def reworded(self, document: str, number: int, words: str) -> tuple[str, Document, Document]:
        """(shard, a document, what `edit` would make of it); raises what that would."""
        id, old = erase.find(self.store, document)
        new = text.reworded(old, number, words)
        build.check(self.store, [new])
        if new == old:
            raise InputError("This is what the sentence says already.")
        return id, old, new

    def certificates(self) -> list[Certificate]:
        """Of the deletions and edits there were, oldest first. What was taken out is called by its hash: its name is
        gone, too."""
        return erase.certificates(self.store)

    def _follow(self) -> None:
        """Take up what has become of the slots that it was made of: nothing learns from what is not so any more."""
        if self._slots is not None:
            erase.followed(self.store, self._slots())

    def _changed(self, id: str, old: Document, new: Document, builder: Builder) -> Certificate:
        """A document of a shard as it is to be, the shard trained anew, and what that is certified by."""
        probes = self._probes(id, old, new)
        struck = erase.strike(self.store, id, old, new)
        erase.certificate(self.store, struck)  # for whoever is interrupted from here on
        builder.build(only=id)
        checks = []
        for probe in probes:
            shard = self.route(probe.reflection.question)  # that would be asked now
            with self._lm.lock:
                checks.append(erase.ask_after(self._lm, probe, shard and self._held(shard)))
        return erase.certificate(self.store, struck, checks)

    def _probes(self, id: str, old: Document, new: Document) -> list[erase.Probe]:
        """What the memory LM knows of what is to go. Nothing of a shard that is not ready, or whose weights cannot be
        used: these go all the same."""
        if self.store.shard(id).state != READY:
            return []
        try:
            with self._lm.lock:
                return erase.ask_before(self.store, self._lm, id, old, new, self._held(id))
        except WeightsError:
            return []

    # ---- answering -----------------------------------------------------------------------------------------------

    def ask(
        self, question: str, *, in_stages: bool = False, budget: int = protocol.BUDGET, phrased: bool = True,
        merged: bool = False, max_tokens: int = SPOKEN,
    ) -> Answer:  # fmt: skip
        """Answer from the weights alone. in_stages: by the protocol of the paper, within a budget of calls; else in a
        single step. phrased=False: in the memory LM's own words. merged: by the merged adapter instead of a shard.
        max_tokens: of each thing that the executive says.
        """
        question = asked(question)

        def recall(words: str) -> Recalled:
            return self.recall(words, merged)

        def executive(words: str, notes: Sequence[str]) -> str:
            return self._executive(words, notes, max_tokens)

        if in_stages:
            return protocol.staged(question, executive, recall, budget)
        return protocol.single(question, executive if phrased else None, recall)

    def recall(self, question: str, merged: bool = False) -> Recalled:
        """What the memory LM says to a question, closed book. To one unlike all that it learned it is not asked."""
        like, shard = self._nearest(question)
        if shard is None or (merged and not all(map(self._true, self.store.shard_ids()))):
            return NOTHING
        if like < UNLIKE:
            return Recalled(DECLINES, False, shard, 0.0)
        shard = MERGED if merged else shard
        lm = self._lm
        with lm.lock:
            try:
                adapter = self._carried(shard)
            except WeightsError:
                if merged or self.store.mark(shard):
                    raise
                return NOTHING  # discarded since it was routed to
            with lm.using(adapter_name(adapter)):
                said = answer(lm, question, build.LONGEST)
        return Recalled(said.text, not declines(said.text), shard, said.confidence, adapter)

    def route(self, question: str) -> str | None:
        """The ready shard that has a reflection nearest to the question; None where none is ready."""
        return self._nearest(question)[1]

    def _nearest(self, question: str) -> tuple[float, str | None]:
        """(cosine of the keys of the question and of the reflection nearest to it, the shard of that)"""
        memory, best = self._engine.memory, (-1.0, None)
        with self._engine.lock:
            key = torch.from_numpy(memory.keys(memory.encode([question])).copy()).float()[0]
        for id in self.store.shard_ids():
            keys = self._shard_keys(id)
            if keys is not None and self._true(id):
                best = max(best, (float((keys @ key).max()), id), key=lambda found: found[0])
        return best

    def consult(
        self, message: str, in_stages: bool = False, stop: threading.Event | None = None
    ) -> tuple[list[Read], tuple[Call, ...]]:
        """What it knows of a message: reads of slots that are nowhere stored, and all that was asked, dead ends too.

        In a single step the memory LM is asked the message itself; in_stages, what the executive finds has to be asked.
        The weight of a read is the confidence.
        """
        said: dict[str, Recalled] = {}

        def recall(question: str) -> Recalled:
            said[question] = self.recall(question)
            return said[question]

        if in_stages:
            calls = protocol.explored(message, self._executive, recall, stop=stop).calls
        else:
            calls = protocol.single(message, None, recall).calls
        followed = [call for call in calls if call.to == protocol.PACK and not call.pruned]
        reads = [
            Read(self.slot(call.asked, said[call.asked]), call.confidence,
                 {"confidence": call.confidence, "unsure below": protocol.UNSURE})
            for call in followed
        ]  # fmt: skip
        return reads, tuple(replace(call, pack=self.name) for call in calls)

    def slot(self, question: str, said: Recalled) -> Slot:
        """What the memory LM said as a slot that is nowhere stored: what a turn is given of a pack."""
        return Slot(
            id=f"{_made_by(self.name, said.shard, said.adapter)}-{digest(question)[:8]}",
            text=f"{question} {said.text}", said=said.text, speaker=self.name, told=datetime.now(UTC),
            document=self.name, position=f"shard {said.shard}",
        )  # fmt: skip

    def _executive(self, question: str, notes: Sequence[str], max_tokens: int = SPOKEN) -> str:
        """The executive's reply, with notes as the slots that it is given. It stays what it is: see `mam.base`."""
        told = datetime.now(UTC)
        reads = [Read(Slot(str(i), note, note, self.name, told), 1 / len(notes)) for i, note in enumerate(notes)]
        return spoken(self._engine, question, reads, max_tokens)

    @property
    def _lm(self) -> AdaptedLM:
        return answering(self._engine, self.settings.base)

    def _shard_keys(self, id: str) -> torch.Tensor | None:
        """(questions, dim); looked up on the disk only where that may have changed. None unless the shard is ready."""
        mark = self.store.mark(id)
        if id in self._keys and mark == self._keys[id][0]:
            return self._keys[id][1]
        self._keys.pop(id, None)
        memory = self._engine.memory
        try:
            if mark is None or self.store.shard(id).state != READY:
                return None
            stored, made_by = self.store.keys(id)
            if made_by != memory.fingerprint or stored["keys"].shape[1] != memory.dim:  # another one now: its keys
                stored = build.question_keys(self._engine, self.store.reflections(id))
                mark = self._keep_keys(id, stored, mark)
        except WeightsError:
            if self.store.mark(id) == mark:
                raise
            return None  # it was discarded meanwhile
        self._keys[id] = (mark, stored["keys"])
        return stored["keys"]

    def _keep_keys(self, id: str, keys: dict[str, torch.Tensor], mark: tuple) -> tuple | None:
        """Write new keys, unless the shard was changed since it had this mark; returns the mark that it has then."""
        try:
            with self.store.changing():
                if self.store.mark(id) == mark:
                    self.store.set_keys(id, keys, self._engine.memory.fingerprint)
                    mark = self.store.mark(id)
        except (ConflictError, StoreError):  # they are made again the next time
            pass
        return mark

    def _held(self, shard: str) -> str:
        """The name of an adapter in the memory LM, which carries it from now on."""
        return adapter_name(self._carried(shard))

    def _carried(self, shard: str) -> str:
        """sha256 of a shard's adapter, or of the merged one, which the memory LM carries from now on."""
        lm = self._lm
        self._check_lm(lm)
        if shard == MERGED:
            merged = self.store.merged()
            if merged is None:
                raise InputError(f"The pack {self.name} is not merged as it is now; merge it first.")
            sha256 = merged["adapter"]
        else:
            sha256 = self.store.shard(shard).adapter
        if not lm.holds(adapter_name(sha256)):
            tensors = self.store.merged_adapter() if shard == MERGED else self.store.adapter(shard)
            lm.load(adapter_name(sha256), tensors)
        return sha256

    def _true(self, shard: str) -> bool:
        return self._slots is None or is_true(self.store, shard, self._slots)

    def _refuse_stale(self) -> None:
        """Nothing is handed on that has learned from slots which are not so any more."""
        if stale := [id for id in self.store.shard_ids() if not self._true(id)]:
            raise InputError(
                f"Shard {stale[0]} of {self.name} has learned from memories that changed since; build the pack first."
            )

    def _check_lm(self, lm: AdaptedLM) -> None:
        if lm.fingerprint != self.settings.fingerprint:
            raise WeightsError(
                f"The pack {self.name} was made for another {self.settings.base} than is here; unmount or remove it."
            )

    # ---- merging, and the rest -----------------------------------------------------------------------------------

    def merge(self, method: str = "linear") -> str:
        """One adapter of all shards, by "linear", "ties" or "dare" of `peft`; returns what that loses, in words.

        The shards stay, and answer unless the merged adapter is asked for.
        """
        with self.store.changing():
            self._refuse_stale()
            ready = [shard for shard in self.shards() if shard.state == READY]
            if len(ready) < 2:
                raise InputError(f"The pack {self.name} has {len(ready)} shards that are ready; two can be merged.")
            lm = AdaptedLM(self.settings.base, TRAINED_ON)  # for all adapters at once
            self._check_lm(lm)
            for shard in ready:
                lm.load(shard.id, self.store.adapter(shard.id), evict=False)
            adapter = lm.merged([shard.id for shard in ready], method, self.settings.seed)
            self.store.set_merged(adapter, method, ready)
        return LOSES

    def export(self, path: str | os.PathLike) -> None:
        """Write the pack to one file, for `import_pack` elsewhere."""
        with self.store.changing():
            self._refuse_stale()
            exchange.export(self.store, path)

    def remove(self) -> None:
        """Delete the pack with all its files. Needs nothing of it to be whole."""
        with self.store.changing():
            hashes = self.store.hashes()
            self.store.remove()
        forget(*hashes)
        if self._removed:
            self._removed(self.name)


def answering(engine: Engine, base: str) -> AdaptedLM:
    """The LM that answers from adapters for this base, on the device of the executive."""
    return load(base, str(engine.base.device) if engine.here else "auto")


def asked(question: str) -> str:
    """Raises InputError for an empty question."""
    question = " ".join(question.split())
    if not question:
        raise InputError("There is nothing in this question; write something first.")
    return question


def still_says(store: PackStore, slot: Slot) -> bool:
    """Whether a slot that came from a pack would still come from it: the weights that said it are there to answer."""
    shard = (slot.position or "").removeprefix("shard ")
    mark = store.mark(shard) if shard in store.shard_ids() else None
    return mark is not None and _ready_as(store.folder, store.name, shard, slot.id, mark)


@lru_cache(maxsize=256)
def _ready_as(folder: Path, name: str, shard: str, id: str, mark: tuple) -> bool:
    """Asked at every token of a reply that reads from a pack; `mark` changes with the files."""
    store = PackStore(folder.parent, name)
    try:
        found = store.shard(shard)
        return found.state == READY and _made_by(name, shard, found.adapter) == id.rpartition("-")[0]
    except WeightsError:  # damaged
        return False


def _made_by(name: str, shard: str, adapter: str) -> str:
    """How the ids of all slots begin that these weights say; otherwise as soon as the shard is trained anew."""
    return f"{PACK_SLOT}{digest([name, shard, adapter])[:24]}"


def is_true(store: PackStore, shard: str, slots: Slots) -> bool:
    """Whether every slot that a shard has learned from is active with the text that it had then."""
    mark = store.mark(shard)
    learned = _learned(store.folder, shard, mark) if mark else ()
    texts = slots() if learned else {}
    return all(digest(texts.get(id)) == text for id, text in learned)


@lru_cache(maxsize=256)
def _learned(folder: Path, shard: str, mark: tuple) -> tuple[tuple[str, str], ...]:
    """(id, digest of the text) of the slots that a shard was made of. No texts: what is kept here is not erased."""
    try:
        documents = PackStore(folder.parent, folder.name).documents(shard)
    except WeightsError:
        return ()
    return tuple((s.slot, digest(s.text)) for document in documents for s in document.sentences if s.slot)
