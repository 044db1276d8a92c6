"""OpenAI's chat API with a memory behind it: /v1/chat/completions, streamed or whole, and /v1/models.

Clients send the whole conversation with every request. Only the last message is news: it goes through the flow of a
turn (`mam.chat`), and nothing else of what is sent is judged or kept, neither instructions nor what was said before.
What was said before, and the system message, are what the base is told; the memory reaches it beside them. So with
nothing read the reply is the one that the base alone gives to these messages.

Which session a request belongs to: the one named in the header X-Mam-Session or in the field `user`; where neither is
sent, the one whose last reply the client repeats; else a new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from mam.chat import TURNS_BACK, Chat
from mam.errors import InputError, MissingError
from mam.prompt import prompt_text
from mam.serve.memory import Mine, bearer
from mam.serve.problems import ANY, content
from mam.space import LONGEST_TEXT, Space, cleaned
from mam.store import new_id
from mam.values import Event, Turn

TRACE = "/v1/memory/turns/{}"
DEFAULT_REPLY = 256  # tokens, where a client does not say
MOST_REMEMBERED = 10_000  # conversations that go on without being named

router = APIRouter(prefix="/v1", tags=["chat"], responses=ANY, dependencies=[Depends(bearer)])


# -- what clients send ----------------------------------------------------------------------------------------------


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
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
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

    def turns(self, known: Sequence[Turn]) -> list[Turn]:
        """The exchanges as turns. Those that the memory knows keep what they wrote and read: a turn that tells what was
        edited or deleted since is not shown to the base again, whoever sends it."""

        def turn(text: str, reply: str) -> Turn:
            for one in known:  # of a reply that ended at a stop sequence, clients have only the beginning
                if _same(one.text) == _same(text) and _same(one.reply).startswith(_same(reply)):
                    return one
            return Turn(new_id(), "", text, reply, datetime.now(UTC))

        return [turn(text, reply) for text, reply in self.before[-TURNS_BACK:]]


def _same(text: str) -> str:
    return " ".join(text.split())


class Conversations:
    """Which session a conversation goes on in when its client does not name one. Lost, harmlessly, with the server."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, str] = OrderedDict()  # by user and all that was said
        self._lock = threading.Lock()

    def chat(self, m: Space, name: str | None, said: Said) -> Chat:
        with self._lock:  # two requests that name the same new session get one
            if name and name.strip():
                return m.session(cleaned(name))
            known = self._sessions.get(_mark(m.user, said.before)) if said.before else None
            session = m.store.session(known) if known else None  # it may have been purged since
            return Chat(m, session) if session else m.session()

    def spoken(self, m: Space, said: Said, reply: str, session: str) -> None:
        with self._lock:
            self._sessions[_mark(m.user, (*said.before, (said.text, reply)))] = session
            while len(self._sessions) > MOST_REMEMBERED:
                self._sessions.popitem(last=False)


def _mark(user: str, exchanges: Sequence[tuple[str, str]]) -> str:
    told = json.dumps([user, [[_same(text), _same(reply)] for text, reply in exchanges]])
    return hashlib.sha256(told.encode()).hexdigest()


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

    async def pieces(self, pool: Executor) -> AsyncIterator[str]:
        """The reply as it comes. Leaving early stops it within a token; what was said until then is kept."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()

        def run() -> None:
            try:
                for event in self.events(self.stop):
                    loop.call_soon_threadsafe(queue.put_nowait, event)
            except BaseException as error:  # handed to whoever waits, who raises it
                loop.call_soon_threadsafe(queue.put_nowait, error)

        pool.submit(run)
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
    prompt = m.engine.base.count(prompt_text(turn))
    return {"prompt_tokens": prompt, "completion_tokens": turn.tokens, "total_tokens": prompt + turn.tokens}


@router.post("/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
async def complete(
    request: Request,
    m: Mine,
    asked: Asked,
    session: Annotated[str | None, Header(alias="X-Mam-Session", max_length=200)] = None,
) -> Response:
    """Say something to the base, which remembers. X-Mam-Trace in the answer is where the trace of the turn is."""
    state, user = request.app.state, request.state.user
    state.meter.reply(user)
    said = Said.of(asked.messages)
    chat = await asyncio.to_thread(state.conversations.chat, m, session or asked.user, said)
    most, form = min(asked.most, state.meter.limits.reply), Form(new_id(), model_name(m))
    usage = {}

    def events(stop: threading.Event) -> Iterator[Event]:
        known = m.store.turns(chat.id, last=TURNS_BACK)
        for event in chat.stream(
            said.text,
            max_tokens=most,
            temperature=asked.temperature or 0.0,
            top_p=asked.top_p or 1.0,
            seed=asked.seed,
            stop=stop,
            before=said.turns(known),
            system=said.system,
            id=form.id,
        ):
            if event.kind == "turn":  # also when its client has left
                usage.update(used(m, event.data))
                state.meter.spent(user, usage["total_tokens"])
            yield event

    answer = Answer(events, Until(asked.stops))

    def finished() -> str:
        """Why the reply ended; the conversation can go on from here."""
        state.conversations.spoken(m, said, answer.text, chat.id)
        return "length" if answer.turn.tokens >= most and not answer.until.over else "stop"

    headers = {"X-Mam-Session": chat.id, "X-Mam-Trace": TRACE.format(form.id)}
    pieces = answer.pieces(state.pool)
    if not asked.stream:
        async with aclosing(pieces):
            async for _ in pieces:
                if await request.is_disconnected():
                    return Response(status_code=499)
        return JSONResponse(form.whole(answer.text, finished(), usage), headers=headers)
    first = await anext(pieces, "")  # what cannot be answered at all is said with its status, before a stream begins

    async def frames() -> AsyncIterator[str]:
        async with aclosing(pieces):
            try:
                yield _frame(form.chunk({"role": "assistant", "content": first}))
                async for piece in pieces:
                    yield _frame(form.chunk({"content": piece}))
                yield _frame(form.chunk({}, finished()))
                if asked.stream_options and asked.stream_options.include_usage:
                    yield _frame(form.usage(usage))
            except Exception as error:  # the status is sent already: clients look for this instead
                yield _frame(content(error)[1])
            yield _frame("[DONE]")

    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers | {"Cache-Control": "no-cache"})


def _frame(data: dict | str) -> str:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def described(m: Space) -> dict:
    return {"id": model_name(m), "object": "model", "created": 0, "owned_by": "mam"}


@router.get("/models")
def list_models(m: Mine) -> dict:
    """The one base there is."""
    return {"object": "list", "data": [described(m)]}


@router.get("/models/{id:path}")
def get_model(m: Mine, id: str) -> dict:
    if id != model_name(m):
        raise MissingError(f"There is no model of this name; there is {model_name(m)}.")
    return described(m)
