"""The flow of a turn: a message goes through every stage of the memory, the base replies, the trace is kept.

    text ─► split ─► encode ─┬─► read ──► prepare ─► first token ─► ... reply ─► turn saved with its trace
                             └─► gate, relate, store ─────────────┘

Reading comes before writing, so that a message never finds itself; writing comes right after the first token, so that
nobody waits for it. This module knows the order of the stages and
what the base is given; what happens inside a stage is in the module of its name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mam import draft
from mam.candidates import split
from mam.errors import InputError
from mam.packs.shelf import joined
from mam.prompt import compose, described
from mam.reader import ABSTAIN, ABSTAINS, looked_at
from mam.store import new_id
from mam.values import ASSISTANT, USER, Archived, Candidate, Event, Read, Session, Slot, Turn, Write

if TYPE_CHECKING:
    from mam.space import Space

TURNS_BACK = 24  # at most so many turns of the session are looked at


@dataclass(frozen=True)
class Manner:
    """How a reply is spoken: see `mam.decode.generate`."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    system: str = ""  # what the base is told first
    whole: bool = False  # it is told as many earlier turns as fit

    def after(self, said: int) -> dict:
        """Arguments for what comes after so many tokens."""
        left = self.max_tokens - said
        return {"max_tokens": left, "temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}


class Chat:
    """One session of a space."""

    def __init__(self, space: Space, session: Session):
        self.space, self.id, self.temporary = space, session.id, session.temporary
        self._title, self._said = session.title, []  # of a temporary session, which is nowhere else
        self._mounted: dict[str, bool] = {}  # likewise

    @property
    def title(self) -> str:
        if self.temporary:
            return self._title
        session = self.space.store.session(self.id)
        if session is None:
            raise InputError("This conversation was purged meanwhile; start a new one.")
        return session.title

    def rename(self, title: str) -> None:
        if self.temporary:
            raise InputError("A temporary conversation is not kept, so it needs no name.")
        self.space.store.rename_session(self.id, title)

    def turns(self) -> list[Turn]:
        return list(self._said) if self.temporary else self.space.turns(self.id)

    @property
    def mounted(self) -> dict[str, bool]:
        """The packs that are asked with every message (see `mam.packs`), and whether in stages."""
        return self.space.there(self._mounted) if self.temporary else self.space.mounted(self.id)

    def mount(self, pack: str, in_stages: bool = False) -> None:
        """Ask a pack of this user with every message from now on. Raises MissingError when there is none such.

        in_stages: the base finds what has to be asked, instead of asking the message itself. For one that is larger
        than the default: it takes several calls of it.
        """
        name = self.space.open_pack(pack).name
        if self.temporary:
            self._mounted[name] = in_stages
        else:
            self.space.mount(self.id, name, in_stages=in_stages)

    def unmount(self, pack: str) -> None:
        self._mounted.pop(pack, None)
        if not self.temporary:
            self.space.mount(self.id, pack, on=False)

    def take_back(self) -> Turn:
        """Unsay the last message, as `Space.take_back`; returns its turn. Raises InputError when there is none."""
        said = self.turns()
        if not said:
            raise InputError("Nothing was said in this conversation yet.")
        if self.temporary:
            return self._said.pop()
        self.space.take_back(said[-1])
        return said[-1]

    def send(self, text: str, **options) -> Turn:
        """Say something and wait for the whole turn; options as in `stream`."""
        *_, last = self.stream(text, **options)
        return last.data

    def stream(
        self,
        text: str,
        *,
        k: int = 8,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: threading.Event | None = None,
        before: Sequence[Turn] | None = None,
        system: str = "",
        id: str | None = None,
    ) -> Iterator[Event]:
        """Say something; yields "read", a "token" for each piece of the reply, after the first "write", and the "turn".

        At most `k` slots are read. Setting `stop`, or closing the iterator, ends the reply within one token; what
        was said until then is kept. Raises InputError for an empty or too long text and values out of range.

        For clients that keep a conversation themselves: `before` are the turns that they hold it to consist of, instead
        of the last few of this session, `system` is what they tell the base first, `id` what the turn shall be called.
        """
        from mam.space import checked_k, cleaned

        manner = Manner(max_tokens, temperature, top_p, seed, system, whole=before is not None)
        return self._stream(cleaned(text), checked_k(k), manner, stop or threading.Event(), before, id or new_id())

    def observe(
        self, text: str, speaker: str = USER, at: datetime | None = None
    ) -> tuple[tuple[Write, ...], tuple[Candidate, ...]]:
        """Only remember: no reading, no reply. For imports, with who said it and when; (writes, rejected)."""
        from mam.space import cleaned, named

        text, speaker, at = cleaned(text), named(speaker), (at or datetime.now()).astimezone()
        said = {"text": "", "reply": text} if speaker == ASSISTANT else {"text": text, "reply": ""}
        turn = Turn(new_id(), self.id, at=at.astimezone(UTC), thresholds=self._thresholds(), **said)
        began = self.space.version()
        candidates = self._candidates(text, speaker, at, self._before())
        hidden = self.space.encoded(_texts(candidates))
        writes, rejected, archived = self._write(turn, candidates, hidden, began)
        turn = replace(turn, writes=writes, rejected=rejected, archived=archived)
        self._save(turn, began=began, seen=[write.slot for write in writes])
        return writes, rejected

    def _candidates(self, text: str, speaker: str, now: datetime, before: Sequence[Turn]) -> list[Candidate]:
        context = next((said for turn in reversed(before) for said in (turn.reply, turn.text) if said), "")
        own = [turn for turn in before[-3:] if turn.text] if speaker == USER else []
        earlier = [(self.space.as_now(turn), turn.at.astimezone(now.tzinfo)) for turn in own]
        return split(text, speaker=speaker, now=now, context=context, earlier=earlier)

    def _write(
        self, turn: Turn, candidates: Sequence[Candidate], hidden: dict, began: int, seen: Sequence[Slot] = ()
    ) -> tuple[tuple, tuple, tuple]:
        """(writes, rejected, archived), as `draft.write`; a temporary session only judges."""
        if self.temporary:
            return (), draft.judged(self.space, candidates, hidden, "this conversation is temporary"), ()
        return draft.write(self.space, turn, candidates, hidden, began, seen)

    def _save(self, turn: Turn, **how) -> None:
        if self.temporary:
            self._said.append(turn)
        else:
            self.space.store.save_turn(turn, **how)

    def _stream(
        self, text: str, k: int, manner: Manner, stop: threading.Event, before: Sequence[Turn] | None, id: str
    ) -> Iterator[Event]:
        space, engine, watch = self.space, self.space.engine, Stopwatch()
        now = datetime.now().astimezone()
        turn = Turn(id, self.id, text, "", now.astimezone(UTC), thresholds=self._thresholds())
        began = space.version()
        recalled, calls = space.consult(self.mounted, text, stop)
        if calls:
            turn = replace(turn, calls=calls)
            watch.lap("packs")
        before = self._before() if before is None else before
        candidates = self._candidates(text, USER, now, before)
        watch.lap("split")
        hidden = space.encoded([*looked_at(text), *_texts(candidates)])
        watch.lap("encode")
        with engine.lock:
            space.refresh()
            reading = joined(space.reading(text, hidden, k), recalled, engine.memory.settings.reading.given)
            reads = engine.within(reading.reads)
            turn = replace(turn, reads=reads, null_weight=reading.null_weight, asked=reading.asked)
            turn = replace(turn, abstained=reading.decision == ABSTAINS, base=engine.base.name)
            watch.lap("read")
        reply = Reply(space, text, before, turn, manner, stop, watch)
        pieces = reply.abstention() if turn.abstained else reply.pieces()
        try:
            try:
                yield Event("read", turn.reads)
                if first := next(pieces, ""):  # nobody waits for gate and disk before the first word
                    yield Event("token", first)
            finally:  # what was said is remembered, also when nobody listens to the reply any more
                reply.writes, reply.rejected, reply.archived = self._write(turn, candidates, hidden, began, reply.seen)
                reply.seen += [write.slot for write in reply.writes]
                watch.lap("write")
            try:
                yield Event("write", reply.writes)
                for piece in pieces:
                    yield Event("token", piece)
            finally:
                turn = reply.finished()
                self._save(turn, finished=True, began=began, seen=reply.seen)
        finally:
            space.released(reply.seen)
        yield Event("turn", turn)

    def _thresholds(self) -> dict[str, float]:
        return self.space.engine.memory.settings.thresholds

    def _before(self) -> list[Turn]:
        if self.temporary:
            return self._said[-TURNS_BACK:]
        return self.space.store.turns(self.id, last=TURNS_BACK)


class Reply:
    """A reply as it is spoken. `reads` follows edits and deletes that happen meanwhile, from token to token."""

    def __init__(
        self,
        space: Space,
        text: str,
        before: Sequence[Turn],
        turn: Turn,
        manner: Manner,
        stop: threading.Event,
        watch: Stopwatch,
    ):
        self.space, self.turn, self.manner, self.stop, self.watch = space, turn, manner, stop, watch
        self.before, self.message = before, text
        self.reads = turn.reads
        self.seen = [read.slot for read in turn.reads]  # every text of a slot that this turn has met
        self.writes: tuple[Write, ...] = ()
        self.rejected: tuple[Candidate, ...] = ()
        self.archived: tuple[Archived, ...] = ()
        self.said: list = []  # tokens, as the base counts them
        self.prompts: list = []  # as the base takes them, one for each time that it was prepared
        self.requests: list[tuple] = []  # each time the base was asked: messages, what was said already, manner
        self.text = ""
        self.complete = False
        self._ask()
        self.given = described(space.engine.base, self._given(), self.asked)
        watch.lap("prepare")

    def abstention(self) -> Iterator[str]:
        for number, word in enumerate(ABSTAIN.split(" ")):
            piece = f" {word}" if number else word
            self.text += piece
            self._first()
            yield piece
        self.complete = True

    def pieces(self) -> Iterator[str]:
        for piece in self.space.engine.base.speech(self._tokens()):
            self.text += piece
            yield piece
        self.complete = not self.stop.is_set()

    def finished(self) -> Turn:
        """The turn with everything known at its end."""
        self.watch.lap("reply")
        return replace(
            self.turn,
            reply=self.text,
            reads=self.reads,
            writes=self.writes,
            rejected=self.rejected,
            archived=self.archived,
            abstained=self.turn.abstained or bool(self._given()) and self.text.startswith(ABSTAIN),
            stopped=not self.complete,
            given=self.given,
            sent=self._sent(),
            tokens=self._count(),
            ended=self._ended(),
            timing=self.watch.laps | {"total": self.watch.total()},
        )

    def _tokens(self) -> Iterator:
        """Tokens; when a slot that is being read changes, the base goes on from there with what is true now."""
        while len(self.said) < self.manner.max_tokens:
            for token in self._generate():
                self.said.append(token)
                self._first()
                yield token
                if self._changed():
                    self._ask()
                    break
            else:
                return

    def _ask(self) -> None:
        """Prepare what the base is given, with what is true now."""
        space, engine = self.space, self.space.engine
        with engine.lock:
            self.memory, notes = engine.prepared(self._given())
            before = [earlier for earlier in self.before if _still_true(space, earlier)]
            start, manner = self.memory.start if self.memory else 0, self.manner
            self.asked = compose(
                engine.base, before, self.message, notes, start, manner.max_tokens, manner.system, manner.whole
            )
            self.prompts.append(self.asked.prompt)

    def _generate(self) -> Iterator:
        engine, manner = self.space.engine, self.manner.after(len(self.said))
        self.requests.append((self.asked.messages, list(self.said), manner))
        prompt = engine.base.going_on(self.asked.prompt, self.said)
        memory = self.memory and replace(self.memory, begun=len(self.said))
        return engine.tokens(prompt, **manner, stop=self.stop, memory=memory)

    def _sent(self) -> tuple[dict, ...]:
        """What the base was told in words, where its memories are among them."""
        if self.space.engine.integrator is not None:
            return ()
        base = self.space.engine.base
        if not self.space.engine.here:  # as it was sent, and not as it would be sent now
            return tuple(body for prompt in self.prompts for body in prompt.record.bodies)
        return tuple(base.request(messages, said, **manner) for messages, said, manner in self.requests)

    def _count(self) -> int:
        """Tokens of the reply. A server's pieces are none: they are of any length."""
        if self.space.engine.here or self.turn.abstained:
            return len(self.said)
        counts = [prompt.record.tokens for prompt in self.prompts]  # a request that was broken off has none
        return sum(counts) if all(counts) else self.space.engine.base.count(self.text)

    def _ended(self) -> str:
        base, prompt = self.space.engine.base, self.asked.prompt
        if not self.space.engine.here:
            return prompt.record.ended
        room = base.context - base.size(prompt) - (self.memory.start if self.memory else 0)
        return "length" if len(self.said) >= min(self.manner.max_tokens, room) else "stop"

    def _given(self) -> tuple[Read, ...]:
        """What the base is given: nothing when the reader abstained or left it alone."""
        return () if self.turn.abstained else tuple(read for read in self.reads if read.given)

    def _changed(self) -> bool:
        """Look whether somebody edited or deleted what is being read; True if the memory must be prepared anew."""
        if not self._given():
            return False
        with self.space.engine.lock:
            reads = self.space.engine.within(self.space.current(self.reads))
        changed, self.reads = reads != self.reads, reads
        self.seen += [read.slot for read in reads] if changed else []
        return changed

    def _first(self) -> None:
        if "first_token" not in self.watch.laps:
            self.watch.lap("first_token")


class Stopwatch:
    """Seconds by stage."""

    def __init__(self):
        self.laps: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._last = now - self._last, now

    def total(self) -> float:
        return time.perf_counter() - self._start


def _texts(candidates: Sequence[Candidate]) -> list[str]:
    return [text for candidate in candidates for text in (candidate.text, candidate.context)]


def _still_true(space: Space, turn: Turn) -> bool:
    """Whether an earlier turn may be shown to the base: not if it tells something edited or deleted since.

    Otherwise the old words would live on in the session where they were said. Abstentions are left out, too: they
    are not the base's own words, and it would imitate them.
    """
    slots = [write.slot for write in turn.writes] + [read.slot for read in turn.reads if read.given]
    told = {call.pack for call in turn.calls if call.to == "pack" and not call.pruned}
    lost = told - {read.slot.document for read in turn.reads}  # gone while the reply was spoken
    return not turn.abstained and not lost and all(space.holds(slot) for slot in slots)
