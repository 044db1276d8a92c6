"""OpenAI's chat API with a memory behind it: /v1/chat/completions, streamed or whole, and /v1/models.

Clients send the whole conversation with every request. Only the last message is news: it goes through the flow of a
turn (`mam.chat`), and nothing else of what is sent is judged or kept, neither instructions nor what was said before.
What was said before, as far back as the prompt has room, and the system message are what the base is told; the memory
reaches it beside them. So with nothing read the reply is the one that the base alone gives to these messages.

Which session a request belongs to: the one named in the header X-Mam-Session or in the field `user`; where neither is
sent, the one whose last exchange the client repeats; else a new one.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from mam.chat import Chat
from mam.errors import InputError, MissingError
from mam.exchange import clean
from mam.prompt import longest, prompt_text
from mam.serve.memory import Here, bearer
from mam.serve.problems import ANY, content
from mam.space import LONGEST_TEXT, Space, cleaned
from mam.store import new_id
from mam.values import Event, Turn

TRACE = "/v1/memory/turns/{}"
DEFAULT_REPLY = 256  # tokens, where a client does not say
MOST_TOLD = 100  # exchanges before the last message; older ones are left out
ALIKE = 8  # turns in which the same was said that are looked at, the latest ones
CHARACTERS = 4  # of a token, roughly
LONGEST_STOP = 200  # characters of a stop sequence: each of its beginnings is looked for in each piece

_RUNNING: set[asyncio.Task] = set()  # replies that wait or are spoken

router = APIRouter(prefix="/v1", tags=["chat"], responses=ANY, dependencies=[Depends(bearer)])


# -- what clients send ----------------------------------------------------------------------------------------------

Stop = Annotated[str, Field(max_length=LONGEST_STOP)]


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        parts = self.content or ""
        return parts if isinstance(parts, str) else "\n".join(part.text for part in parts)


class Streaming(BaseModel):
    include_usage: bool | None = None


class Asked(BaseModel):
    """What is not named here is of no effect; what would change a reply and cannot be done is refused."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=2_000)]
    model: str = Field("", description="any name: there is one base")
    user: Annotated[str | None, Field(max_length=200, description="which conversation it is")] = None
    stream: bool | None = None
    stream_options: Streaming | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0, greedy, where none is given")] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    # refused unless they ask for nothing
    n: Annotated[int | None, Field(ge=1, le=1)] = None
    tools: Annotated[list | None, Field(max_length=0)] = None
    functions: Annotated[list | None, Field(max_length=0)] = None
    logprobs: Literal[False] | None = None
    logit_bias: Annotated[dict | None, Field(max_length=0)] = None
    frequency_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    presence_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    @property
    def most(self) -> int:
        return self.max_completion_tokens or self.max_tokens or DEFAULT_REPLY


@dataclass(frozen=True)
class Said:
    """A request's messages as a turn sees them: the news, the exchanges before it, and what the base is told first."""

    system: str
    before: tuple[tuple[str, str], ...]  # (what the user said, the reply)
    text: str

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Said:
        """Raises InputError unless a user has the last word. Messages of one side in a row count as one."""
        system, exchanges, asked, replied = [], [], [], []
        for message in messages:
            if message.role in ("system", "developer"):
                system.append(message.text)
            elif message.role == "assistant":
                replied.append(message.text)
            else:
                if replied:
                    exchanges.append(("\n\n".join(asked), "\n\n".join(replied)))
                    asked, replied = [], []
                asked.append(message.text)
        if replied or not asked:
            raise InputError("The last message must be the user's: there is nothing to answer.")
        first = "\n\n".join(filter(str.strip, system))
        if any(len(text) > LONGEST_TEXT for text in (first, *(text for pair in exchanges for text in pair))):
            raise InputError(f"A message has at most {LONGEST_TEXT:,} characters.")
        return cls(first, tuple(exchanges), cleaned("\n\n".join(asked)))

    def tokens(self, m: Space) -> int:
        """Roughly as many as the base will be told, without asking its tokenizer."""
        texts = (self.system, self.text, *(text for exchange in self.before[-MOST_TOLD:] for text in exchange))
        return min(sum(map(len, texts)) // CHARACTERS, longest(m.engine.base))

    def turns(self, known: Sequence[Turn], purged: bool = False) -> list[Turn]:
        """The exchanges as turns, given those that are `known`, the latest first.

        Each keeps what was written and read when it took place: a turn that tells what was edited or deleted since is
        not shown to the base again, whoever sends it. Where only the reply is another one, what all turns wrote and
        read in which the same was said counts. purged: leave out what is not known. What was purged cannot be known
        again, since not even a hash of it is kept, which would tell whoever guesses that they guess right.
        """
        spoken = [(_plain(one.text, one.reply), one) for one in known]
        found = []
        for text, reply in self.before[-MOST_TOLD:]:
            said = _plain(text, reply)
            if same := next((one for its, one in spoken if _begins(its, said)), None):
                found.append(same)
            elif not purged:
                alike = [one for its, one in spoken if its[0] == said[0]]
                writes = tuple(write for one in alike for write in one.writes)
                reads = tuple(read for one in alike for read in one.reads)
                found.append(Turn(new_id(), "", text, reply, datetime.now(UTC), writes=writes, reads=reads))
        return found


def _plain(text: str, reply: str) -> tuple[str, str]:
    """An exchange, however its white space was sent."""
    return " ".join(text.split()), " ".join(reply.split())


def _begins(whole: tuple[str, str], sent: tuple[str, str]) -> bool:
    """Whether an exchange is the one sent. Of a reply that ended at a stop sequence clients have only the beginning."""
    return whole[0] == sent[0] and whole[1].startswith(sent[1])


def told(m: Space, session: str, said: Said) -> list[Turn]:
    """The exchanges of a request as turns, known by what was said in this session, and word by word in any other."""
    texts = {clean(text).strip() for text, _ in said.before[-MOST_TOLD:]} - {""}
    known = [*m.store.turns(session, last=MOST_TOLD), *m.store.turns_saying(*texts, last=ALIKE)] if said.before else []
    return said.turns(sorted(known, key=lambda turn: turn.at, reverse=True), m.store.purged)


def conversation(m: Space, name: str | None, said: Said) -> Chat:
    """The session that is named; else, of those in which the last exchange was said, the one that knows most of what is
    sent; else a new one."""
    if name and name.strip():
        if found := m.store.named(name := cleaned(name)):
            return Chat(m, found)
        with m.store.atomic():  # two requests that name the same new session get one
            return Chat(m, m.store.named(name) or m.store.new_session(name))
    sent = [_plain(*exchange) for exchange in said.before[-MOST_TOLD:]]
    known: dict[str, int] = {}  # how much a session knows
    for turn in m.store.turns_saying(clean(said.before[-1][0]).strip(), last=ALIKE) if sent else ():
        if turn.session not in known and _begins(_plain(turn.text, turn.reply), sent[-1]):
            spoken = [_plain(one.text, one.reply) for one in m.store.around(turn.id, MOST_TOLD)]
            known[turn.session] = sum(any(_begins(its, each) for its in spoken) for each in sent)
    found = m.store.session(max(known, key=known.get)) if known else None  # the latest of those that know as much
    return Chat(m, found) if found else m.session()


# -- a reply as it is spoken ----------------------------------------------------------------------------------------


class Until:
    """Passes a text on up to the first of some stop sequences; what may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]):
        self.stops, self.over, self._held = stops, False, ""

    def push(self, piece: str) -> str:
        """What can be passed on now that `piece` has come."""
        if self.over:
            return ""
        self._held += piece
        ends = [at for stop in self.stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.over = True
            return self._held[: min(ends)]
        open_ = max((n for stop in self.stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)
        passed = self._held[: len(self._held) - open_]
        self._held = self._held[len(passed) :]
        return passed

    def rest(self) -> str:
        """What was held back, at the end."""
        return "" if self.over else self._held


@dataclass
class Answer:
    """A turn that runs in a thread of its own: neither other requests nor a slow client's network hold it up."""

    events: Callable[[threading.Event], Iterator[Event]]
    until: Until
    stop: threading.Event = field(default_factory=threading.Event)
    text: str = ""  # what was passed on
    turn: Turn | None = None  # at the end

    async def pieces(self, pool: Executor, turn: asyncio.Semaphore) -> AsyncIterator[str]:
        """The reply as it comes, once it is its `turn`. Leaving early stops it within a token; what was said until then
        is kept."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()

        def run() -> None:
            try:
                for event in self.events(self.stop):
                    loop.call_soon_threadsafe(queue.put_nowait, event)
            except BaseException as error:  # handed to whoever waits, who raises it
                loop.call_soon_threadsafe(queue.put_nowait, error)

        async def in_turn() -> None:
            async with turn:
                await loop.run_in_executor(pool, run)

        running = asyncio.create_task(in_turn())
        _RUNNING.add(running)  # the loop itself would not keep it
        running.add_done_callback(_RUNNING.discard)
        try:
            while self.turn is None:
                event = await queue.get()
                if isinstance(event, BaseException):
                    raise event
                if event.kind == "token" and (piece := self._passed(event.data)):
                    yield piece
                elif event.kind == "turn":
                    self.turn = event.data
            if rest := self.until.rest():
                self.text += rest
                yield rest
        finally:
            self.stop.set()

    def _passed(self, piece: str) -> str:
        piece = self.until.push(piece)
        self.text += piece
        if self.until.over:
            self.stop.set()
        return piece


# -- what clients get -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """Replies in OpenAI's form; `id` is the turn's."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: str, usage: dict) -> dict:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        return self._of("chat.completion") | {"choices": [choice | {"logprobs": None}], "usage": usage}

    def chunk(self, delta: dict, reason: str | None = None) -> dict:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._of("chat.completion.chunk") | {"choices": [choice]}

    def usage(self, usage: dict) -> dict:
        return self._of("chat.completion.chunk") | {"choices": [], "usage": usage}

    def _of(self, kind: str) -> dict:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model}


def model_name(m: Space) -> str:
    """The base as clients know it: of a file or folder no more than its name, and not which server it is on."""
    if not m.engine.here:
        return m.engine.base.name
    id = str(m.engine.base.id)
    return Path(id).name if Path(id).exists() else id


def used(m: Space, turn: Turn) -> dict:
    base, told = m.engine.base, prompt_text(turn)
    # the special tokens are in it already
    prompt = len(base.tokenizer(told, add_special_tokens=False)["input_ids"]) if m.engine.here else base.count(told)
    return {"prompt_tokens": prompt, "completion_tokens": turn.tokens, "total_tokens": prompt + turn.tokens}


@router.post("/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
async def complete(
    request: Request,
    m: Here,
    asked: Asked,
    session: Annotated[str | None, Header(alias="X-Mam-Session", max_length=200)] = None,
) -> Response:
    """Say something to the base, which remembers. X-Mam-Trace in the answer is where the trace of the turn is."""
    state, user = request.app.state, request.state.user
    said, most = Said.of(asked.messages), min(asked.most, state.meter.limits.reply)
    aside = said.tokens(m) + most
    state.meter.reply(user, aside)
    form, usage, heard = Form(new_id(), model_name(m)), {}, []
    try:
        async with state.hands[user]:
            chat = await run_in_threadpool(conversation, m, session or asked.user, said)
    except BaseException:
        state.meter.settle(user, aside, 0)
        raise

    def events(stop: threading.Event) -> Iterator[Event]:
        try:
            for event in chat.stream(
                said.text,
                max_tokens=most,
                temperature=asked.temperature or 0.0,
                top_p=asked.top_p or 1.0,
                seed=asked.seed,
                stop=stop,
                before=told(m, chat.id, said),
                system=said.system,
                id=form.id,
            ):
                if event.kind == "token":
                    heard.append(event.data)
                elif event.kind == "turn":
                    usage.update(used(m, event.data))
                yield event
        finally:  # also when its client has left, or it broke off
            partly = aside - most + m.engine.base.count("".join(heard)) if heard else 0
            state.meter.settle(user, aside, usage.get("total_tokens", partly))

    answer = Answer(events, Until(asked.stops))

    def ended() -> str:
        return "stop" if answer.until.over else answer.turn.ended

    headers = {"X-Mam-Session": chat.id, "X-Mam-Trace": TRACE.format(form.id)}
    pieces = answer.pieces(state.pool, state.turns[user])
    leaving = asyncio.create_task(_left(request, answer))
    try:
        if not asked.stream:
            async for _ in pieces:
                continue
            return JSONResponse(form.whole(answer.text, ended(), usage), headers=headers)
        first = await anext(pieces, "")  # what cannot be answered is said with its status, before a stream begins
    finally:
        leaving.cancel()  # a stream looks for itself whether its client is still there

    async def frames() -> AsyncIterator[str]:
        async with aclosing(pieces):
            try:
                yield _frame(form.chunk({"role": "assistant", "content": first}))
                async for piece in pieces:
                    yield _frame(form.chunk({"content": piece}))
                yield _frame(form.chunk({}, ended()))
                if asked.stream_options and asked.stream_options.include_usage:
                    yield _frame(form.usage(usage))
            except Exception as error:  # the status is sent already: clients look for this instead
                yield _frame(content(error)[1])
            yield _frame("[DONE]")

    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers | {"Cache-Control": "no-cache"})


async def _left(request: Request, answer: Answer) -> None:
    """Stop a reply when its client goes away, also before there is a word of it."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    answer.stop.set()


def _frame(data: dict | str) -> str:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def described(m: Space) -> dict:
    return {"id": model_name(m), "object": "model", "created": 0, "owned_by": "mam"}


@router.get("/models")
def list_models(m: Here) -> dict:
    """The one base there is."""
    return {"object": "list", "data": [described(m)]}


@router.get("/models/{id:path}")
def get_model(m: Here, id: str) -> dict:
    if id != model_name(m):
        raise MissingError(f"There is no model of this name; there is {model_name(m)}.")
    return described(m)
