"""The space: a user's memory as a whole, with the base and the memory model that read and write it.

It joins store, index and networks and holds the rule that they agree: every change goes to the store first, and
`refresh` carries what happened there, in this process or another, into the index and the integrator's cache. The
flow of a turn is in `chat`; this module knows its two halves, reading and writing, and all that can be done to slots.
What only looks at them is in `lookback`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from mam import backup, exchange, intake, proof, upkeep
from mam.atlas import Atlas, Layout
from mam.chat import Chat
from mam.dates import resolve
from mam.engine import Engine
from mam.erasure import PURGED
from mam.errors import InputError, MissingError, StoreError
from mam.index import SlotIndex
from mam.lookback import Lookback
from mam.packs.shelf import Shelf
from mam.reader import Reading, best, looked_at
from mam.store import Store, new_id
from mam.timeline import Timeline
from mam.values import (
    ACTIVE,
    ARCHIVED,
    DELETED,
    SUPERSEDED,
    USER,
    Archived,
    Certificate,
    Merged,
    Read,
    Session,
    Slot,
    Turn,
)

LONGEST_TEXT = exchange.LONGEST_MESSAGE
LONGEST_SLOT = exchange.LONGEST["text"]  # characters of a memory
LONGEST_QUERY = 4_000  # characters of what is looked for in the memory
MOST_READ = 64  # slots
BATCH = 256  # keys made and kept at once when a memory is opened with another memory model
PIECE = 64  # texts encoded before others get a turn with the networks; fewer where they are long:
PIECE_CHARACTERS = 4_096  # so many characters in all, the longest counted for each
ENCODED = 512  # characters of a text at most that the encoder looks at: it counts tokens

Progress = Callable[[str, int, int], None]  # is told what is being done, how much of it is done, and of how much


class Space(Lookback, Shelf):
    """A user's memory. Safe to share between threads; other processes may change the same memory meanwhile.

    All methods raise InputError for unknown ids and unusable input, StoreError when the file cannot be used.
    """

    def __init__(self, store: Store, engine: Engine, progress: Progress | None = None):
        self.store, self.engine = store, engine
        self.progress = progress or (lambda what, done, total: None)
        self._index = SlotIndex(engine.memory.dim)
        self._held: dict[str, str] = {}  # id -> text of what the index holds
        self._seen = -1  # data version of the store that the index is at
        self._opened = {}  # packs, by name
        self._atlas = Atlas(self)
        self._timelines: tuple[int, dict[str | None, Timeline]] = (-1, {})  # as of a data version, by session
        self._load()

    @property
    def user(self) -> str:
        return self.store.user

    def about(self) -> dict[str, str]:
        """What is loaded and where the memories are, for people."""
        bounds = {"capacity": str(self.store.capacity)} if self.store.capacity else {}
        return self.engine.about() | {"user": self.user, "file": self.store.place} | bounds

    def close(self) -> None:
        self._atlas.close()
        self.store.close()

    def set_capacity(self, capacity: int | None) -> tuple[Archived, ...]:
        """Keep at most so many active slots from now on (None: any number); returns what had to be archived for it."""
        if capacity == self.store.capacity:
            return ()
        with self.writing():
            self.store.set_capacity(capacity)
            return self.make_room(set())

    # -- sessions -------------------------------------------------------------------------------------------------

    def session(self, which: str | None = None, *, temporary: bool = False) -> Chat:
        """A session to chat in: resumed if `which` is the id or title of one, else new, with `which` as its title.

        A temporary one reads the memory and writes nothing at all, neither what is said nor that it took place.
        """
        if which is not None and not which.strip():
            raise InputError("A session needs a title; leave it out for one named after its first message.")
        if temporary:
            title = cleaned(which) if which else "Temporary conversation"
            return Chat(self, Session(new_id(), title, datetime.now(UTC), temporary=True))
        found = self.store.session(which) if which else None
        return Chat(self, found or self.store.new_session(which and cleaned(which)))

    def sessions(self, archived: bool | None = None) -> list[Session]:
        """The sessions, or only those archived or not archived; the one last used first."""
        return self.store.sessions(archived)

    def rename_session(self, id: str, title: str) -> None:
        self.store.rename_session(id, cleaned(title))

    def archive_session(self, id: str, archived: bool = True) -> None:
        """Put a session out of sight, or back; what was told in it stays remembered."""
        self.store.archive_session(id, archived)

    def take_back(self, turn: Turn) -> None:
        """Unsay a turn: it leaves its session, what it wrote goes to the trash, what that had replaced counts again."""
        with self.writing():
            held = {slot.id: slot for slot in self.store.slots(None, turn=turn.id)}
            for write in turn.writes:
                if write.slot.id in held and held[write.slot.id].state != DELETED:
                    self.store.delete_slot(write.slot.id, "chat")
                    for old in self.store.slots(SUPERSEDED, superseded_by=write.slot.id):
                        self.store.restore_slot(old.id, "chat")
            self.store.remove_turn(turn.id)
            self.make_room(set())

    def version(self) -> int:
        """The data version: differs as soon as anything in the memory differs."""
        return self.store.version()

    # -- slots ----------------------------------------------------------------------------------------------------

    def add(self, text: str, *, speaker: str = USER) -> Slot:
        """Keep a text as it is, without asking the write gate."""
        told = datetime.now().astimezone()
        text, when, key = self._prepared(text, told)
        with self.writing():
            slot = Slot(new_id(), text, text, named(speaker), told.astimezone(UTC), when)
            self.store.add_slot(slot, key, self.engine.memory.fingerprint)
            self.make_room({slot.id})
        return slot

    def edit(self, id: str, text: str, *, version: int | None = None) -> Slot:
        """Give a slot a new text; it is read from the next token on.

        Raises ConflictError if `version` (of the slot that was looked at) is no longer the current one.
        """
        text, when, key = self._prepared(text, datetime.now().astimezone())
        with self.writing():
            return self.store.edit_slot(
                id, text, version=version, when=when, key=key, fingerprint=self.engine.memory.fingerprint
            )

    def delete(self, id: str, *, version: int | None = None) -> Slot:
        """Into the trash: not read from the next token on. `restore` brings it back."""
        with self.writing():
            return self.store.delete_slot(id, version=version)

    def restore(self, id: str) -> Slot:
        """Make a deleted, superseded or archived slot active again."""
        with self.writing():
            slot = self.store.restore_slot(id)
            self.make_room({id})
        return slot

    def archive(self, id: str) -> Slot:
        """Put a slot away: kept, but not read. `restore` brings it back."""
        with self.writing():
            return self.store.archive_slot(id)

    def pin(self, id: str, pinned: bool = True) -> Slot:
        """A pinned slot is never archived to make room for others."""
        return self.store.pin_slot(id, pinned)

    def tag(self, id: str, *tags: str) -> Slot:
        """Give a slot these tags instead of those it had."""
        return self.store.tag_slot(id, tags)

    def merge(self, *ids: str, text: str | None = None) -> Slot:
        """Make one slot of several: the first stays, with the new text if one is given, and supersedes the others."""
        if len(set(ids)) < 2:
            raise InputError("Give at least two different memories to merge.")
        prepared = self._prepared(text, datetime.now().astimezone()) if text is not None else None
        with self.writing():
            if prepared:
                text, when, key = prepared
                self.store.edit_slot(ids[0], text, when=when, key=key, fingerprint=self.engine.memory.fingerprint)
            for id in dict.fromkeys(ids[1:]):
                self.store.supersede_slot(id, ids[0], "user")
            return self.store.slot(ids[0])

    def undo(self) -> list[Slot]:
        """Take back the last change of slots, whether by hand or in a chat; again for the one before.

        Returns the slots as they are now; one that had been added is in the trash. A purge cannot be undone.
        """
        with self.writing():
            before = len(self._index)
            undone = self.store.undo()
            self.refresh()
            if before < len(self._index) > (self.store.capacity or len(self._index)):
                raise InputError("This would bring back more than the memory may hold; raise its capacity, then undo.")
            return undone

    def consolidate(self, *, preview: bool = False, progress: Progress | None = None) -> list[Merged]:
        """Merge slots that say the same; `undo` takes all of it back. preview: only say what would be merged."""
        return upkeep.consolidate(self, preview, progress or self.progress)

    # -- gone for good ----------------------------------------------------------------------------------------------

    def purge(self, *ids: str) -> Certificate:
        """Overwrite slots for good, everywhere under the data folder; returns what was removed and checked.

        Of the first few the base is asked, before and afterwards, whether it knows them.
        """
        if not ids:
            raise InputError("Say which memories to purge.")
        return proof.purged(self, lambda: self.struck(ids, lambda: self.store.purge_slots(ids)), ids)

    def purge_session(self, id: str) -> Certificate:
        """The same for a session: its turns, and every slot that was told in it."""
        told = [slot.id for slot in self.store.slots(None, session=id)]
        done = proof.purged(self, lambda: self.struck(told, lambda: self.store.purge_session(id)), told)
        self._unmount_all(id)
        return done

    def purge_everything(self) -> Certificate:
        """The same for all there is of this user, packs too."""
        some = [slot.id for slot in self.store.slots(limit=proof.MOST)]

        def erase() -> Certificate:
            self._remove_packs()
            return self.store.purge_everything()

        return proof.purged(self, erase, some)

    def read(self, query: str, k: int = 8) -> Reading:
        """Read without chatting: at most `k` slots with their weights, the null weight and what it leads to."""
        query, k = cleaned(query), checked_k(k)
        hidden = self.encoded(looked_at(query))
        with self.engine.lock:
            self.refresh()
            return self.reading(query, hidden, k)

    # -- a look at all of it ----------------------------------------------------------------------------------------

    def layout(self, dimensions: int = 2, *, wait: bool = True) -> Layout:
        """The map: coordinates (slots, dimensions) of every slot in any state. Fitted once, then it stays; see `atlas`.

        wait=False: at once with what there is, at first a sketch by PCA; a fit that is due is made in the background,
        and the data version grows when it is done. Raises InputError unless `dimensions` is 2 or 3.
        """
        return self._atlas.layout(dimensions, wait)

    def refit(self, dimensions: int = 2, *, wait: bool = True, **parameters) -> Layout:
        """Fit the map anew, aligned to the old one; parameters: n_neighbors, min_dist, seed (else as the last time).

        wait=False: in the background, as `layout`; with the parameters of the last time.
        """
        if wait:
            return self._atlas.refit(dimensions, **parameters)
        if parameters:
            raise InputError("A map with other parameters is waited for; leave wait=False out.")
        self._atlas.refit_later(dimensions)
        return self._atlas.layout(dimensions, False)

    def keys(self, slots: Sequence[Slot]) -> np.ndarray:
        """Keys (slots, dim) float32 of slots in any state; those that are missing are made."""
        with self.engine.lock:
            return self._keys(list(slots))

    # -- in and out -----------------------------------------------------------------------------------------------

    def export(self, path: str | os.PathLike, *, complete: bool = False) -> int:
        """Write all slots but the trash to a file of JSON lines; returns their number.

        complete: everything, with sessions, turns, versions and the trash, for an exact copy elsewhere.
        """
        return exchange.export(self._exported(complete), path, self.user, complete=complete)

    def exported(self, *, complete: bool = False) -> str:
        """What `export` writes, without a file: for a page that hands it over itself."""
        return "".join(self.exported_lines(complete=complete))

    def exported_lines(self, *, complete: bool = False) -> Iterator[str]:
        """The same line by line, as of now: for those who hand over much."""
        return exchange.lines(self._exported(complete), self.user, complete=complete)

    def _exported(self, complete: bool) -> exchange.Exported:
        return backup.everything(self.store) if complete else exchange.Exported(self.store.slots(None))

    def import_(
        self, path: str | os.PathLike, bad: intake.Bad | None = None, progress: Progress | None = None
    ) -> list[Slot]:
        """Add what an exported file holds, or what is worth keeping of conversations; returns the new slots.

        What is already here stays as it is. A line (or message) that cannot be read is named in an InputError and
        nothing is imported; with `bad`, that is told its number and the reason instead, and the others are imported.
        Conversations go through the write gate, message by message; each is kept as soon as it was read.
        """
        return intake.import_(self, path, bad, progress or self.progress)

    def ingest(self, path: str | os.PathLike, progress: Progress | None = None) -> list[Slot]:
        """Turn a document (.txt, .md, .pdf) into slots, sentence by sentence; their speaker is the file's name.

        Sentences that were ingested from a document of this name before are left out.
        """
        return intake.ingest(self, path, progress or self.progress)

    # -- for turns (see `chat` and `draft`) ---------------------------------------------------------------------------

    def make_room(self, fresh: set[str]) -> tuple[Archived, ...]:
        """Inside `writing`: archive what is beyond the capacity; see `upkeep.make_room`."""
        return upkeep.make_room(self, fresh)

    @property
    def index(self) -> SlotIndex:
        """What the reader sees: every active slot, as of the last refresh."""
        return self._index

    def reading(self, message: str, hidden: Mapping[str, np.ndarray], k: int) -> Reading:
        """The reader's weights for a message; `hidden` has the encoder output (hidden,) of what is `looked_at`."""
        return best([self.engine.memory.read(part, hidden[part], self._index, k) for part in looked_at(message)])

    def encoded(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Encoder output (hidden,) float32 of each different text; others take turns with the networks meanwhile."""
        found: dict[str, np.ndarray] = {}
        for part in _pieces(dict.fromkeys(texts)):
            with self.engine.lock:
                found |= zip(part, self.engine.memory.encode(part), strict=True)
        return found

    # -- store, index and caches agree ------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction of the store, carried into index and caches; if it fails, those are as before, too."""
        with self.engine.lock:
            begun = self._seen
            try:
                with self.store.atomic():
                    self.refresh()
                    begun = self._seen
                    yield
                self.refresh()
            except BaseException:
                if self._seen != begun:  # holds what was not kept: read everything anew before the next use
                    self._index = SlotIndex(self.engine.memory.dim)
                    self._held, self._seen = {}, -1
                raise

    def refresh(self) -> int:
        """Carry what happened in the store, here or in another process, into the index and the block cache; returns
        the data version that they are at."""
        with self.engine.lock:
            seen, changed, gone = self.store.changes(self._seen)
            for id in [*(slot.id for slot in changed), *gone]:
                if id in self._held:
                    self._index.remove(id)
                    self.engine.drop(self._held.pop(id))
            active = [slot for slot in changed if slot.state == ACTIVE]
            if active:
                self._index.add(active, self._keys(active))
                self._held |= {slot.id: slot.text for slot in active}
            self._seen = seen
            return seen

    def _load(self) -> None:
        """The first refresh. Without the garbage collector, which would walk through all slots again and again."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._keys(self.store.without_key(self.engine.memory.fingerprint))  # may take minutes: not in one go
            self.refresh()
        finally:
            if collecting:
                gc.enable()

    def holds(self, slot: Slot) -> bool:
        """Whether the slot is active with the text it has here, as of the last refresh; or a pack still says it."""
        return self._held.get(slot.id) == slot.text or self.still_said(slot)

    def as_now(self, turn: Turn) -> str:
        """What was said in a turn, with what is remembered now in place of what was edited, replaced or deleted since.

        What is said next may lean on it, and would carry the old words into a new slot.
        """
        self.refresh()
        text = turn.text.replace(PURGED, "")
        for slot in (write.slot for write in turn.writes if not self.holds(write.slot)):
            if not slot.said or slot.said not in text:
                return ""  # told again in other words, and nobody knows in which
            text = text.replace(slot.said, f"\n{self._follower(slot.id)}\n", 1)
        return text

    def _follower(self, id: str) -> str:
        """What a slot says, or the one that replaced it in the end; "" where that is deleted or purged."""
        with suppress(MissingError):
            met = set()  # an imported file may go round in circles
            while (slot := self.store.slot(id)).state == SUPERSEDED and slot.superseded_by and id not in met:
                met.add(id)
                id = slot.superseded_by
            return slot.text if slot.state in (ACTIVE, ARCHIVED) else ""
        return ""

    def current(self, reads: tuple[Read, ...]) -> tuple[Read, ...]:
        """The same reads with edited slots as they are now, and without those that are no longer active."""
        if self.store.version() != self._seen:
            self.refresh()
        if all(self.holds(read.slot) for read in reads):
            return reads
        held = [read if self.holds(read.slot) else self._edited(read) for read in reads]
        return tuple(read for read in held if read)

    def _edited(self, read: Read) -> Read | None:
        """A read with its slot as it is now; None if that is not active any more."""
        return replace(read, slot=self.store.slot(read.slot.id)) if read.slot.id in self._held else None

    def _keys(self, slots: list[Slot]) -> np.ndarray:
        """Keys (len(slots), dim) float32: stored ones, and new ones for slots written under another memory model.

        New ones are stored batch by batch, so that whoever interrupts this goes on there the next time.
        """
        memory = self.engine.memory
        stored = self.store.keys([slot.id for slot in slots], memory.fingerprint)
        known = {id: key for id, key in stored.items() if len(key) == 4 * memory.dim}  # a damaged one is made anew
        missing = [slot for slot in slots if slot.id not in known]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            with self.engine.lock:  # for one part only: others take turns where the caller does not hold it
                made = memory.keys(memory.encode([slot.text for slot in part]))
            known |= {slot.id: key.astype("<f4").tobytes() for slot, key in zip(part, made, strict=True)}
            self._keep_keys(part, made)
            self.progress("encoding anew", min(start + BATCH, len(missing)), len(missing))
        return np.frombuffer(b"".join(known[slot.id] for slot in slots), dtype="<f4").reshape(-1, memory.dim)

    def _keep_keys(self, slots: list[Slot], made: np.ndarray) -> None:
        try:
            self.store.set_keys(slots, made, self.engine.memory.fingerprint)
        except StoreError:  # a full or read-only disk must not stop reading: the keys are made again next time
            return

    def _prepared(self, text: str, told: datetime) -> tuple[str, str | None, np.ndarray]:
        """A text ready to be kept: cleaned and dated, with the ISO date it speaks of and its key (dim,)."""
        text, when = resolve(cleaned(text), told)
        if len(text) > LONGEST_SLOT:
            raise InputError(
                f"A memory has at most {LONGEST_SLOT:,} characters; split this one, or ingest it as a file."
            )
        with self.engine.lock:
            key = self.engine.memory.keys(self.engine.memory.encode([text]))[0]
        return text, when, key


def _pieces(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in parts that keep the networks for a moment, those of like length together, as the encoder does it."""
    part: list[str] = []
    for text in sorted(texts, key=len):
        if len(part) == PIECE or (len(part) + 1) * min(len(text), ENCODED) > PIECE_CHARACTERS:
            yield part
            part = []
        part.append(text)
    if part:
        yield part


def cleaned(text: str) -> str:
    """A message without control characters. Raises InputError if it is empty or too long."""
    text = exchange.clean(text).strip()
    if not text:
        raise InputError("There is nothing in this message; write something first.")
    if len(text) > LONGEST_TEXT:
        raise InputError(
            f"A message has at most {LONGEST_TEXT:,} characters, this one {len(text):,}; ingest it as a file instead."
        )
    return text


def named(name: str) -> str:
    """Who speaks. Raises InputError for a name that is empty or too long."""
    name = cleaned(name)
    if len(name) > exchange.LONGEST["speaker"]:
        raise InputError(f"A speaker's name has at most {exchange.LONGEST['speaker']} characters.")
    return name


def checked_k(k: int) -> int:
    if not isinstance(k, int) or not 1 <= k <= MOST_READ:
        raise InputError(f"k is {k}; between 1 and {MOST_READ} slots can be read at once.")
    return k
