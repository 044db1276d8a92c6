"""Builds a pack, shard after shard: documents to reflections, reflections to an adapter, and a look at what it knows.

Whenever it is interrupted, by `stop`, Ctrl-C or a power cut, the same call goes on: what was written and verified is in
the memo of the shard, training has its checkpoints, a finished shard is left alone. Knows every other part of packs but
not how a pack is asked.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from mam.engine import Engine
from mam.errors import InputError, MamError, WeightsError
from mam.packs import card, erase, text
from mam.packs.files import digest
from mam.packs.generators import TRAINED, Generator, open_generator
from mam.packs.memo import Memo
from mam.packs.reflect import Reflector, training_set
from mam.packs.store import PackStore, document_hash
from mam.packs.training import example, part, steps_of
from mam.packs.values import DECLINES, READY, UNKNOWN, Document, Reflection, Shard
from mam.packs.verify import Asked, answered, same
from mam.packs.weights import AdaptedLM, answer, asking
from mam.train.loop import Schedule, train

ADAPTER = "learning"  # name of the adapter that is being trained
CHECKPOINT = 50  # steps between two, at most
TRAINED_ON = "cpu"  # whose kernels come to the same bits again; those of a GPU do not, and deletion would not be exact
BY_HEART = -0.01  # score, nats a token: there is nothing left to learn
PATIENCE = 3  # of these without a better loss, and it has learned what it can
EVALUATED, DECLINED = 24, 8  # questions with and without an answer that a finished shard is asked
LONGEST = 32  # tokens of an answer
SECONDS = {"reflecting": 4.7, "training": 0.33}  # on two cores, of a sentence; and of one in each epoch

Progress = Callable[[str, int, int], None]


class Paused(MamError):
    """A build was asked to stop; what is done is kept."""


def plan(store: PackStore, documents: Sequence[Document]) -> None:
    """Put documents into shards. Those that are there already stay where they are, changed ones take their place.

    Raises InputError for documents that no pack can be made of.
    """
    check(store, documents)
    settings = store.settings()
    place = {document.name: id for id in store.shard_ids() for document in store.documents(id)}
    for document in documents:
        if document.name in place:
            erase.replaced(store, place[document.name], document)
    new = [document for document in documents if document.name not in place]
    following = 1 + max(map(int, store.shard_ids()), default=-1)
    for number, start in enumerate(range(0, len(new), settings.shard), following):
        store.set_documents(f"{number:03}", new[start : start + settings.shard])


def check(store: PackStore, documents: Sequence[Document]) -> None:
    """Raises InputError for documents that this pack cannot be made of."""
    text.check(list({document.name: document for document in (*store.all_documents(), *documents)}.values()))
    text.check(documents)
    if store.settings().generator == TRAINED:
        text.check_english(documents)


def estimate(store: PackStore) -> float:
    """Seconds that building takes on two cores from its beginning, roughly."""
    settings = store.settings()
    left = [store.documents(shard.id) for shard in store.shards() if shard.state != READY]
    sentences = sum(len(document.sentences) for documents in left for document in documents)
    return sentences * (SECONDS["reflecting"] + settings.epochs * SECONDS["training"])


def remaining(store: PackStore, what: str = "", done: int = 0, total: int = 0) -> float:
    """The same from where a build is now: what its progress was told last."""
    stage, _, id = what.partition(" ")
    seconds = estimate(store)
    if id in store.shard_ids() and store.shard(id).state != READY:
        sentences = sum(len(document.sentences) for document in store.documents(id))
        reflecting, training = (sentences * SECONDS[stage] for stage in ("reflecting", "training"))
        training, share = training * store.settings().epochs, done / max(total, 1)
        seconds -= {"reflecting": reflecting * share, "training": reflecting + training * share}.get(
            stage, reflecting + training
        )
    return seconds


class Builder:
    """Builds what is not ready of a pack, with networks of its own beside the engine. Hold `store.changing()`."""

    def __init__(
        self,
        store: PackStore,
        engine: Engine,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        generator: Generator | None = None,
    ):
        self._store, self._engine, self._stop = store, engine, stop or threading.Event()
        self._progress = progress or (lambda what, done, total: None)
        self._settings, self._generator = store.settings(), generator
        self._lm: AdaptedLM | None = None  # nobody else may use an LM that learns

    def build(self, only: str | None = None) -> list[Shard]:
        """Build every shard that is not ready, or only that one.

        Raises Paused, and whatever keeps it from going on; then the same call goes on later. InputError for documents
        that nothing can be learned of is raised when the others are built.
        """
        failed = None
        for id in self._store.shard_ids():
            if only in (None, id) and not self._whole(id):
                try:
                    self.shard(id)
                except InputError as error:
                    failed = failed or error
        card.write_card(self._store)
        if failed:
            raise failed
        return self._store.shards()

    def shard(self, id: str) -> Shard:
        """Build one shard from its documents, whatever it was before."""
        documents, seconds = self._store.documents(id), {}
        with _timed(seconds, "reflecting"):
            reflections = self._reflections(id, documents)
        pairs = training_set(reflections)
        if not answerable(reflections):
            raise InputError(
                f"No question about {documents[0].name} could be verified, so there is nothing to learn;"
                " try another generator, or take the document out of the pack."
            )
        with _timed(seconds, "training"):
            self._train(id, pairs)
        with _timed(seconds, "evaluating"):
            figures = self._evaluated(id, reflections)
        shard = Shard(
            id,
            READY,
            {document.name: document_hash(document) for document in documents},
            training=digest(pairs),
            reflections=len(pairs),
            figures=figures,
            seconds={stage: round(value, 1) for stage, value in seconds.items()},
        )
        memory = self._engine.memory
        finished = self._store.finish(
            id, shard, self._lm.tensors(ADAPTER), question_keys(self._engine, reflections), memory.fingerprint
        )
        self._lm.drop(ADAPTER)
        self._clear_checkpoints(id)
        return finished

    # ---- stages --------------------------------------------------------------------------------------------------

    def _reflections(self, id: str, documents: Sequence[Document]) -> list[Reflection]:
        memo = Memo(self._store.shard_folder(id) / "memo.jsonl")

        def verify(asked: Sequence[Asked], name: str) -> list[str]:
            self._check_stop()
            return answered(self._engine, asked, name)

        def progress(done: int, total: int) -> None:
            self._check_stop()
            self._progress(f"reflecting {id}", done, total)

        reflector = Reflector(self._opened, verify, memo)
        found = reflector.of_shard(documents, progress)
        memo.prune()
        self._store.set_reflections(id, found)
        return found

    def _train(self, id: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Leaves the trained adapter in the LM."""
        settings, lm = self._settings, self._load()
        examples = [example(lm, asking(lm, question), right) for question, right in pairs]
        steps = steps_of(len(examples), settings.epochs)

        def watch(step: int) -> None:
            self._check_stop()
            self._progress(f"training {id}", step, steps)

        made = part(lm, ADAPTER, "adapter", examples, settings.seed, settings.rate, watch=watch)
        schedule = Schedule(steps, max(1, min(CHECKPOINT, steps // 6)), PATIENCE, enough=BY_HEART)
        # a checkpoint of another training set, or made with other settings, is nothing to go on from
        begun = self._checkpoints(id) / digest([pairs, asdict(settings)])[:16]
        for other in self._checkpoints(id).glob("*/"):
            if other != begun:
                shutil.rmtree(other)
        train(made, schedule, begun, quiet=True)
        self._progress(f"training {id}", steps, steps)

    @torch.inference_mode()
    def _evaluated(self, id: str, reflections: Sequence[Reflection]) -> dict[str, float]:
        """Closed book: shares of questions that it was trained on that come back right, and of others declined."""
        learned = answerable(reflections)
        unknown = [r for r in reflections if r.kind == UNKNOWN]
        asked = learned[:: -(-len(learned) // EVALUATED)] + unknown[:: -(-len(unknown) // DECLINED) or 1]
        right, declined, began = [], [], time.perf_counter()
        with self._lm.using(ADAPTER):
            for done, r in enumerate(asked):
                self._check_stop()
                self._progress(f"evaluating {id}", done, len(asked))
                said = answer(self._lm, r.question, LONGEST)
                (declined if r.kind == UNKNOWN else right).append(same(said.text, r.answer))
        self._progress(f"evaluating {id}", len(asked), len(asked))
        each = (time.perf_counter() - began) / len(asked)
        figures = {"right": sum(right) / len(right), "seconds": each}
        return figures | ({"declined": sum(declined) / len(declined)} if declined else {})

    # ---- the rest ------------------------------------------------------------------------------------------------

    def _load(self) -> AdaptedLM:
        """The LM, when it is needed. Raises WeightsError where the pack was made for another."""
        if self._lm is None:
            self._lm = AdaptedLM(self._settings.base, TRAINED_ON)
            if self._lm.fingerprint != self._settings.fingerprint:
                raise WeightsError(
                    f"The pack {self._store.name} was made for another {self._settings.base} than is here;"
                    " bring that back, or build the pack under another name."
                )
        return self._lm

    def _opened(self) -> Generator:
        """The generator, when it is needed."""
        self._generator = self._generator or open_generator(self._settings.generator, self._load())
        return self._generator

    def _whole(self, id: str) -> bool:
        """Whether a shard is ready, with files that are what was written; what is not is thrown away."""
        shard = self._store.shard(id)
        if shard.state == READY:
            try:
                self._store.adapter(id), self._store.keys(id)
                if digest(training_set(self._store.reflections(id))) == shard.training:
                    return True
            except WeightsError:
                pass
        self._store.discard(id, keep_checkpoints=True)
        return False

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Paused(f"Paused. To go on: python -m mam pack build --name {self._store.name!r}")

    def _checkpoints(self, id: str) -> Path:
        return self._store.shard_folder(id) / "training"

    def _clear_checkpoints(self, id: str) -> None:
        """Of a finished run its curves are kept, and nothing else."""
        for curves in self._checkpoints(id).glob("*/adapter.csv"):
            curves.replace(self._store.shard_folder(id) / "training.csv")
        shutil.rmtree(self._checkpoints(id), ignore_errors=True)


def answerable(reflections: Sequence[Reflection]) -> list[Reflection]:
    """What a shard learned an answer to."""
    return [r for r in reflections if r.kept and r.kind != UNKNOWN]


def question_keys(engine: Engine, reflections: Sequence[Reflection]) -> dict[str, torch.Tensor]:
    """What questions are routed by: keys (questions, dim) of what the shard can answer."""
    asked = [r.question for r in answerable(reflections)]
    with engine.lock:
        return {"keys": torch.from_numpy(engine.memory.keys(engine.memory.encode(asked)).copy()).float()}


def declines(said: str) -> bool:
    """Whether the memory LM says that it does not know."""
    return not said or said.lower().startswith(DECLINES.lower().rstrip("."))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
