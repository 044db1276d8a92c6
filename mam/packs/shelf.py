"""The packs of a user: made, listed, imported, and mounted in sessions, where they are asked with every message.

The half of a space that knows packs. A mounted pack that knows an answer gives it to the turn as one more read, a slot
that is nowhere stored: seen in the trace, weighed against the others, and gone at the next token when the weights that
said it are. `peft` and the memory LM are only loaded when a pack is used.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mam import base as bases
from mam.erasure import SHORT
from mam.errors import MissingError, WeightsError
from mam.reader import READ, Reading
from mam.residue import SHORTEST
from mam.values import Call, Certificate, Read, Slot

if TYPE_CHECKING:
    from mam.engine import Engine
    from mam.packs.pack import Pack
    from mam.packs.store import PackStore
    from mam.store import Store

MOUNTS = ".mounted.json"  # {session: {name: whether it is asked in stages}}; no pack is called so
PACK_SLOT = "pack-"  # what ids of slots that come from a pack begin with


class Shelf:
    """What a space does with packs. All methods raise InputError and WeightsError as `Pack` does."""

    store: Store
    engine: Engine
    refresh: Callable[[], None]
    _held: dict[str, str]
    _opened: dict[str, Pack]

    def pack(self, name: str, *paths: str | os.PathLike, base: str = bases.DEFAULT, generator: str = "trained",
             seed: int = 0, shard: int = 4, epochs: int = 12, progress=None, stop: threading.Event | None = None,
             build: bool = True) -> Pack:  # fmt: skip
        """Make a pack of documents (.txt, .md, .pdf, or folders of them), or without any of the active slots.

        The same name again goes on with what was interrupted, and adds documents or takes changed ones anew, with the
        settings that the pack has; so are slots that were edited or deleted since it learned from them.
        base: whose weights the memory LM has; generator: "trained", or a base or endpoint that writes the questions;
        shard: at most so many documents learn and are deleted together; seed, epochs: of training.
        progress: is told what is being done, how much of it is done, and of how much. Setting `stop` pauses: Paused is
        raised, nothing is lost. build=False: only plan it, for `Pack.estimate` and `Pack.build`.
        """
        from mam.packs import erase, text
        from mam.packs.build import plan
        from mam.packs.pack import answering
        from mam.packs.store import PackStore, Settings, scratch

        store = PackStore(self._packs_home, name)
        with store.changing():
            if store.exists:
                erase.followed(store, self._active())
                plan(store, text.read(paths) if paths else store.all_documents())
            else:
                documents = text.read(paths) if paths else text.of_slots(self.store.slots())
                settings = Settings(base, "", generator, seed, shard, epochs)
                settings = replace(settings, fingerprint=answering(self.engine, base).fingerprint)
                with scratch(self._packs_home) as folder:  # nothing is left of what cannot begin
                    begun = PackStore(folder, name)
                    begun.set_settings(settings)
                    plan(begun, documents)
                    begun.folder.replace(store.folder)
        made = self._pack(store)
        if build:
            made.build((), progress or self.progress, stop)
        return made

    def packs(self) -> list[Pack]:
        """The packs of this user, by name."""
        found = []
        for name in self._pack_names():
            with suppress(MissingError):  # removed meanwhile
                found.append(self.open_pack(name))
        return found

    def open_pack(self, name: str) -> Pack:
        """Raises MissingError when there is none of this name."""
        from mam.packs.store import PackStore  # takes a while to import, and many have no packs

        return self._pack(PackStore(self._packs_home, name))

    def import_pack(self, path: str | os.PathLike, name: str | None = None, base: str = bases.DEFAULT) -> Pack:
        """Add a pack that was exported, checked before any of it is used; it must be made for the weights of `base`."""
        from mam.packs import exchange
        from mam.packs.pack import answering

        return self._pack(exchange.import_(self._packs_home, path, answering(self.engine, base), name))

    def _pack(self, store: PackStore) -> Pack:
        """The same one each time: it knows what questions are routed by, which takes longer the more there is of it."""
        from mam.packs.pack import Pack

        if store.wanted().name not in self._opened:
            self._opened[store.name] = Pack(store, self.engine, self._active, self._unmounted)
        return self._opened[store.name]

    def _active(self) -> dict[str, str]:
        """The texts of the active slots, by id."""
        with self.engine.lock:
            self.refresh()
            return self._held

    # ---- in sessions ---------------------------------------------------------------------------------------------

    def mounted(self, session: str) -> dict[str, bool]:
        """The packs that are mounted in a session and still there, and whether they are asked in stages."""
        return self.there(self._mounts().get(session, {}))

    def there(self, mounted: Mapping[str, bool]) -> dict[str, bool]:
        """Those of them that are still there, by name."""
        return {name: mounted[name] for name in self._pack_names() if name in mounted}

    def mount(self, session: str, name: str, on: bool = True, in_stages: bool = False) -> None:
        """Ask a pack with every message of a session from now on, or no more. in_stages: see `Pack.consult`."""
        name = self.open_pack(name).name if on else name
        with FileLock(self._packs_home / ".lock"):  # no pack has this one
            mounts = self._mounts()
            kept = {other: how for other, how in mounts.get(session, {}).items() if other != name}
            kept |= {name: in_stages} if on else {}
            self._set_mounts({**mounts, session: kept} if kept else {s: n for s, n in mounts.items() if s != session})

    def consult(
        self, mounted: Mapping[str, bool], message: str, stop: threading.Event | None = None
    ) -> tuple[list[Read], tuple[Call, ...]]:
        """What these packs, those that are still there, know of a message, and all that was asked: see `Pack.consult`.

        Not to be called while the engine is held: it takes as long as a short reply, in stages as long as several.
        """
        found, calls, message = [], (), message[-LONGEST_MESSAGE:]
        for name, in_stages in mounted.items():
            try:
                reads, asked = self.open_pack(name).consult(message, in_stages, stop)
            except MissingError:  # removed since it was mounted
                continue
            except WeightsError as error:  # no reason to answer nothing
                reads, asked = [], (Call("answer", "pack", message, "", pruned=str(error), pack=name),)
            found, calls = found + reads, calls + asked
        return found, calls

    def still_said(self, slot: Slot) -> bool:
        """Whether a slot came from a pack whose weights, those that said it, are still there to answer."""
        if not slot.id.startswith(PACK_SLOT) or slot.document not in self._pack_names():
            return False
        from mam.packs.pack import is_true, still_says
        from mam.packs.store import PackStore

        store, shard = PackStore(self._packs_home, slot.document), (slot.position or "").removeprefix("shard ")
        return still_says(store, slot) and is_true(store, shard, self._active)

    def released(self, slots: Iterable[Slot]) -> None:
        """Forget what was made of the words of packs for the base: nobody notices when the weights behind them go."""
        for slot in slots:
            if slot.id.startswith(PACK_SLOT):
                self.engine.drop(slot.text)

    # ---- gone for good -------------------------------------------------------------------------------------------

    def struck(self, ids: Collection[str], purge: Callable[[], Certificate]) -> Certificate:
        """Take slots that are to be purged, and whatever quotes them, out of every pack; then purge.

        In this order, because a purge searches the files of packs, too. The shards that had learned from them answer
        nothing until they are built again.
        """
        if not (packs := self.packs()):
            return purge()
        from mam.packs import erase
        from mam.packs.store import scratch

        ids, texts = set(ids), set()
        for id in ids:
            texts |= {version.text for version in self.store.versions(id)}
            said = self.store.slot(id).said
            texts |= {said} if len(said.split()) > SHORT else set()
        texts = {text for each in texts for text in (each, " ".join(each.split())) if len(text.encode()) >= SHORTEST}

        def left(document):
            own = {s.number for s in document.sentences if s.slot in ids}
            return erase.without(document, own | erase.quoting(document, texts))

        with scratch(self._packs_home):  # nothing is left there, either
            pass
        with ExitStack() as stack:  # all of them before any is changed
            concerned = [pack.store for pack in packs if any(left(each) != each for each in pack.documents())]
            for store in concerned:
                stack.enter_context(store.changing())
            for store in concerned:
                for id in store.shard_ids():
                    for document in store.documents(id):
                        if left(document) != document:
                            erase.strike(store, id, document, left(document))
        return purge()

    def _remove_packs(self) -> None:
        """Everything that there is of packs."""
        from mam.packs.store import scratch

        for pack in self.packs():
            pack.remove()
        if self._packs_home.is_dir():
            with scratch(self._packs_home):
                (self._packs_home / MOUNTS).unlink(missing_ok=True)

    def _unmounted(self, name: str) -> None:
        """A pack is gone; another one of its name is not asked where this one was."""
        with FileLock(self._packs_home / ".lock"):
            left = {s: {n: how for n, how in kept.items() if n != name} for s, kept in self._mounts().items()}
            self._set_mounts({session: kept for session, kept in left.items() if kept})

    def _unmount_all(self, session: str) -> None:
        if session in self._mounts():
            with FileLock(self._packs_home / ".lock"):
                self._set_mounts({id: kept for id, kept in self._mounts().items() if id != session})

    @property
    def _packs_home(self) -> Path:
        from mam.packs.files import digest
        from mam.packs.store import home

        database = self.store.database
        found = home(database.folder, self.store.user)
        # memories on servers have theirs on this machine, each server others: the slots that they know are others, too
        return found.with_name(f"{found.name}-{digest(database.place)[:16]}") if database.shared else found

    def _pack_names(self) -> list[str]:
        from mam.packs.store import names

        return names(self._packs_home)

    def _mounts(self) -> dict[str, dict[str, bool]]:
        try:
            found = json.loads((self._packs_home / MOUNTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet; or damaged, and then nothing is mounted
            return {}
        whole = isinstance(found, dict) and all(isinstance(kept, dict) for kept in found.values())
        return found if whole else {}

    def _set_mounts(self, mounts: dict[str, dict[str, bool]]) -> None:
        from mam.packs.files import write_json

        write_json(self._packs_home / MOUNTS, mounts)


LONGEST_MESSAGE = 1_000  # characters of a message that packs are asked, its last ones: questions follow what is pasted


def joined(reading: Reading, said: Sequence[Read], lightest: float) -> Reading:
    """A reading with what packs said: each takes its confidence as a share of what slots leave, the null weight.

    So a slot that surely helps outweighs any pack: it can be edited, and says where it comes from. What weighs less
    than `lightest` is not given, as among slots.
    """
    for read in said:
        weight = read.weight * reading.null_weight
        read = replace(read, weight=weight, given=weight >= lightest)
        reads = tuple(sorted((read, *reading.reads), key=lambda each: -each.weight))
        decision = READ if read.given else reading.decision
        reading = replace(reading, reads=reads, null_weight=reading.null_weight - weight, decision=decision)
    return reading
