"""Looking at a memory without changing it: pages of slots, what is near one, and what was made of it.

The half of a space that only reads: it joins what the store knows (see `queries`) with index and networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mam import whatif
from mam.ablation import Alternative, check, influence, without
from mam.attribution import Attribution, attribution
from mam.errors import InputError
from mam.timeline import Timeline, timeline
from mam.values import ACTIVE, Found, Read, Slot, Turn, Version

if TYPE_CHECKING:
    from mam.engine import Engine
    from mam.index import SlotIndex
    from mam.store import Store

RANKED = 200  # slots that `find` goes through by words; the reader has a limit of its own


class Lookback:
    """What a space can be asked. All methods raise InputError for unknown ids, StoreError as the store does."""

    store: Store
    engine: Engine
    _index: SlotIndex
    _timelines: tuple[int, dict[str | None, Timeline]]

    # -- slots ----------------------------------------------------------------------------------------------------

    def slots(self, state: str | None = ACTIVE, **how) -> list[Slot]:
        """Slots in a state ("active", "superseded", "archived", "deleted"; None: any), in the order they were told.

        how: as_of (a time or data version: what did it know then?), limit, offset, newest_first, order, and the
        filters find, id, ids, tag, speaker, session, document, pinned, since and until; see `Store.slots` and
        `Store.count`.
        """
        return self.store.slots(state, **how)

    def count(self, state: str | None = ACTIVE, **filters) -> int:
        """How many slots there are; filters as in `slots`."""
        return self.store.count(state, **filters)

    def slot(self, id: str) -> Slot:
        return self.store.slot(id)

    def repeating(self, slot: Slot) -> list[Slot]:
        """Other active slots whose text holds this one's: they keep saying it when this one is edited or deleted."""
        said = slot.text.casefold()
        found = self.store.slots(find=slot.text)  # in their original words, too
        return [other for other in found if other.id != slot.id and said in other.text.casefold()]

    def versions(self, id: str) -> list[Version]:
        """Everything a slot has been, oldest first: who changed it, when, and to what."""
        return self.store.versions(id)

    def tags(self, state: str | None = None) -> dict[str, int]:
        """All tags of slots in a state (None: any), and how many slots have each."""
        return self.store.tags(state)

    def origins(self) -> tuple[list[str], list[str]]:
        """(everybody who told something, every document that something comes from), in alphabetical order."""
        return self.store.origins()

    def search(self, query: str, by: str = "reader", limit: int = 8) -> list[Slot]:
        """Slots for a query, best first.

        by: "reader" (what the trained reader would read), "words" (active slots that share its words, the rarest word
        counting most), "id" (in any state, whose id starts with it).
        """
        from mam.space import MOST_READ, cleaned

        if by == "reader":
            return [read.slot for read in self.read(query, min(limit, MOST_READ)).reads]
        if by == "words":
            return self._by_words(cleaned(query), limit)
        if by == "id":
            return self.store.slots(None, id=query.strip(), limit=limit)
        raise InputError(f'There is no search by {by!r}; choose "reader", "words" or "id".')

    def _by_words(self, query: str, limit: int) -> list[Slot]:
        with self.engine.lock:
            self.refresh()
            shares = self._index.evidence(query, datetime.now(UTC))[:, 0] * self._index.alive
            best = shares.topk(min(limit, len(shares)))
            return [self._index.slots[i] for s, i in zip(best.values, best.indices.tolist(), strict=True) if s > 0]

    def find(
        self,
        query: str = "",
        by: str = "text",
        state: str | None = ACTIVE,
        *,
        order: str = "newest",
        offset: int = 0,
        limit: int = 50,
        **filters,
    ) -> Found:
        """One page of the slots that match, and how many there are in all; filters as in `slots`.

        by: "text" (characters of the text), "id" (its beginning), or "reader" and "words" as in `search`: these see
        what is active and put the best first. Otherwise `order` is one of `queries.ORDERS`.
        """
        if query.strip() and by in ("reader", "words"):
            ranked = self.search(query, by, RANKED)
            there = {slot.id for slot in self.slots(state, ids=[slot.id for slot in ranked], **filters)}
            kept = [slot for slot in ranked if slot.id in there]
            return Found(tuple(kept[offset : offset + limit]), len(kept))
        filters |= {"id": query.strip()} if by == "id" else {"find": query}
        total = self.count(state, **filters)
        page = self.slots(state, order=order, limit=limit, offset=offset, **filters) if offset < total else []
        return Found(tuple(page), total)

    # -- one slot -------------------------------------------------------------------------------------------------

    def neighbours(self, id: str, n: int = 5) -> list[tuple[Slot, float]]:
        """The active slots most like this one, best first, with the cosine of their keys, -1..1."""
        slot = self.store.slot(id)
        with self.engine.lock:
            self.refresh()
            key = self.keys([slot])[0].copy()  # torch wants arrays that may be written
            near = self._index.nearest(key, n + 1)
        return [(other, cosine) for other, cosine in near if other.id != id][:n]

    def reads_of(self, id: str, limit: int | None = None) -> list[tuple[Turn, Read]]:
        """The turns in which the base was given the slot, the latest first, with what the reader weighed there."""
        return self.store.reads_of(id, limit)

    def tokens_of(self, id: str, last: int = 3) -> list[tuple[Turn, tuple[str, ...], np.ndarray]]:
        """For the last turns that read the slot: (turn, tokens of its reply, attention on the slot (tokens,) 0..1).

        Each takes the base one pass; what another base answered is left out.
        """
        found = []
        for turn, _ in self.store.reads_of(id, last):
            if turn.base not in ("", self.engine.base.name):
                continue
            looked = self.attribution(turn)
            column = next((at for at, slot in enumerate(looked.slots) if slot.id == id), None)
            if column is not None:
                found.append((turn, looked.tokens, looked.attention[:, column]))
        return found

    # -- turns ----------------------------------------------------------------------------------------------------

    def turns(self, session: str) -> list[Turn]:
        """The turns of the session with this id, oldest first."""
        return self.store.turns(session)

    def turn(self, id: str) -> Turn:
        return self.store.turn(id)

    def around(self, turn: str, near: int = 1) -> list[Turn]:
        """The turn with this id and up to `near` turns of its session before and after it, oldest first."""
        return self.store.around(turn, near)

    # -- a look inside --------------------------------------------------------------------------------------------

    def without(self, turn: Turn, slot_ids: Sequence[str]) -> tuple[str, list[float]]:
        """The same turn answered greedily without those slots.

        Returns that reply and, for each token of the turn's own reply, KL(with ‖ without) in nats; of a base on a
        server, which shows no probabilities, the reply alone.
        """
        missing = set(slot_ids) - {read.slot.id for read in turn.reads if read.given}
        if missing:
            raise InputError(f"Turn {turn.id} was not given {', '.join(sorted(missing))}; choose among its reads.")
        return without(self.engine, turn, set(slot_ids))

    def what_if(self, turn: Turn, **change) -> Alternative:
        """The turn once more: without some slots, with another strength of the memory, another `k` or threshold.

        Nothing is stored. See `mam.whatif.what_if` for what can be changed.
        """
        try:
            return whatif.what_if(self, turn, **change)
        finally:
            self.released(read.slot for read in turn.reads)

    def attribution(self, turn: Turn) -> Attribution:
        """How much each token of the reply looked at each slot: shares of attention (tokens, slots)."""
        check(self.engine, turn)
        with self.engine.lock:
            try:
                return attribution(self.engine.base, self.engine.integrator, turn)
            finally:
                self.released(read.slot for read in turn.reads)

    def influence(self, turn: Turn) -> np.ndarray:
        """How differently each token of the reply would be said without each slot: nats (tokens, slots)."""
        try:
            return influence(self.engine, turn)
        finally:
            self.released(read.slot for read in turn.reads)

    # -- all of it ------------------------------------------------------------------------------------------------

    def likeness(self, query: str) -> dict[str, float]:
        """How like the reader finds each active slot to a query in meaning: cosine, by slot id."""
        from mam.space import LONGEST_QUERY, cleaned

        query = cleaned(query)[:LONGEST_QUERY]
        with self.engine.lock:
            self.refresh()
            key = self.engine.memory.keys(self.engine.memory.encode([query]))[0]
            cosine = self._index.similarity(key).tolist()
        return {slot.id: cosine[row] for row, slot in enumerate(self._index.slots) if slot is not None}

    def timeline(self, session: str | None = None) -> Timeline:
        """All turns, and the writes, reads, edits and deletes of slots in and between them.

        session: only the turns of the session with this id, and what happened to the slots they told or read.
        """
        seen = self.version()  # read before the rows, so that what is kept is never older than it says
        if self._timelines[0] != seen:
            self._timelines = (seen, {})
        of = self._timelines[1]
        if session not in of:
            of[session] = timeline(self.store, session)
        return of[session]
