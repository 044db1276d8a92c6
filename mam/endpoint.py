"""A base on a server: any that speaks OpenAI's chat protocol, "openai:MODEL@URL".

Knows the protocol, keys and what goes wrong on a network; does not know memory: what was read comes as notes among the
messages (see `notes`). Nothing is sent but the requests that replies need, and only to this URL. The key is
$MAM_API_KEY; $OPENAI_API_KEY goes to OpenAI alone.

All requests of a process live in one event loop, in a thread of its own, so that a reply can be stopped at once,
whether it waits for a word, for a busy server or for the next attempt.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

import openai

from mam import decode
from mam.base import ON_SERVER
from mam.errors import EndpointError, InputError

FORM = "openai:MODEL@URL, for example openai:llama3.2@http://127.0.0.1:11434/v1"
OPENAI = "api.openai.com"
CONTEXT = 8192  # tokens, where $MAM_CONTEXT does not say; then a prompt uses half: a server does not say what it takes
SHORTEST = 512  # tokens of a context with room for a message and a reply
BYTES = 4  # of a token, roughly: a server does not lend its tokenizer either
AROUND = 8  # tokens around a message
TIMEOUT, CONNECT = 120.0, 10.0  # seconds without a word, and until somebody answers at all
RETRIES = 3  # with growing pauses, or after as long as the server asks for; never once it has begun to speak
POLL = 0.05  # seconds until a stop is seen
MOST_UNFIT = 1_000  # values that are remembered as refused
LONGEST = 200  # characters of what a server says about an error
REASONS = ("length", "content_filter")  # other than "stop" for which a reply ends
NO_REPLY = "sent something that is no reply, or no streamed one; is it a server for chats?"
GO_ON = "Something that I told you has changed meanwhile. Go on from where you broke off, without repeating it."

Message = dict[str, str]


@dataclass
class Record:
    """What became of a prompt."""

    bodies: list[dict] = field(default_factory=list)  # of every request, as it was sent
    ended: str = "stop"  # the last reply, by the server's own word if that is one of REASONS
    tokens: int = 0  # of all replies, if the server says so; else 0


class Prompt(list):
    """Messages to send, {"role", "content"}; one that is made of another shares its record."""

    def __init__(self, messages: Iterable[Message]):
        super().__init__(messages)
        self.record: Record = getattr(messages, "record", None) or Record()


class Endpoint:
    """A chat model on a server; the tokens of its replies are the pieces of text in which they come.

    `context`, `longest` (of a prompt) and sizes are in tokens, estimated. Raises InputError for an `id` that is not
    openai:MODEL@URL.
    """

    def __init__(self, id: str, timeout: float | None = None, retries: int = RETRIES):
        self.id = id
        self.context, self.longest = _context()
        self.name, url = _parsed(id)  # the name that the server knows the model by
        self._host = urlsplit(url).hostname or ""
        self._timeout = _timeout() if timeout is None else timeout
        self._loop = _loop()
        self._refused: set[str] = set()  # parameters that the model does not take
        self._unfit: set[tuple[str, float]] = set()  # and values that it does not take, of those that it does
        self._key = _key(self._host)
        elsewhere = {} if self._host == OPENAI else {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=self._key or "none",
            default_headers=elsewhere,  # of the environment, too
            timeout=openai.Timeout(self._timeout, connect=min(CONNECT, self._timeout)),
            max_retries=retries,
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=not _is_here(self._host),  # no proxy between this machine and itself
                follow_redirects=False,  # what is told here is for this server
            ),
        )

    def about(self) -> dict[str, str]:
        """What it is and where it runs, for people."""
        return {"base": self.id, "device": self._host}

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """The messages to send. Raises InputError for none."""
        if not messages:
            raise InputError("There is nothing to answer: the chat is empty.")
        return Prompt(messages)

    def going_on(self, prompt: Sequence[Message], said: Sequence[str]) -> Prompt:
        """The prompt of a reply that has begun with `said`.

        It asks in words: most servers would begin another reply instead of continuing the assistant's message.
        """
        going_on = Prompt(prompt)
        if said:
            going_on += [{"role": "assistant", "content": "".join(said)}, {"role": "user", "content": GO_ON}]
        return going_on

    def request(
        self,
        messages: Sequence[Message],
        said: Sequence[str] = (),
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> dict:
        """The body of the request, without what the model is known to refuse."""
        limit = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        body = {"model": self.name, "messages": list(self.going_on(messages, said)), "stream": True, limit: max_tokens}
        wanted = {"temperature": temperature, "top_p": top_p if top_p != 1 else None, "seed": seed}
        taken = {n: value for n, value in wanted.items() if value is not None and (n, value) not in self._unfit}
        return body | {n: value for n, value in taken.items() if n not in self._refused}

    def generate(
        self,
        prompt: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: threading.Event | None = None,
        memory: None = None,
    ) -> Iterator[str]:
        """Yield the reply in pieces. Setting `stop` or closing the iterator ends the request at once.

        Raises InputError for values out of range or refused, EndpointError for whatever goes wrong on the way.
        """
        decode.check(range(self.size(prompt)), self.context, max_tokens, temperature, top_p)
        manner = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        prompt = Prompt(prompt)
        heard: SimpleQueue[str | None] = SimpleQueue()
        task = asyncio.run_coroutine_threadsafe(self._listen(prompt, manner, heard.put), self._loop)
        try:
            for _ in range(max_tokens * BYTES):  # more letters than that are no reply: the server ignores the limit
                piece = _next(heard, stop)
                if piece is None:
                    break
                yield piece
            else:
                prompt.record.ended = "length"
            if piece is None and not (stop and stop.is_set()):
                task.result()
        finally:
            task.cancel()

    def count(self, text: str) -> int:
        return -(-len(text.encode("utf-8", "replace")) // BYTES)

    def size(self, prompt: Sequence[Message]) -> int:
        return sum(self.count(message["content"]) + AROUND for message in prompt)

    def shown(self, prompt: Sequence[Message]) -> str:
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)

    def speech(self, pieces: Iterable[str]) -> Iterator[str]:
        return iter(pieces)

    # -- the request --------------------------------------------------------------------------------------------------

    async def _listen(self, prompt: Prompt, manner: dict, hear: Callable[[str | None], None]) -> None:
        """Say the pieces of a reply to `hear`, and None at the end. Raises EndpointError, InputError."""
        try:
            async for piece in self._reply(prompt, manner):
                hear(piece)
        except openai.OpenAIError as error:
            raise self._explained(error) from None  # the chain would carry the request, with its key
        except InputError:  # a ValueError, too
            raise
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):  # parsing it, looking into it
            raise EndpointError(f"{self.id} {NO_REPLY}") from None
        finally:
            hear(None)

    async def _reply(self, prompt: Prompt, manner: dict) -> AsyncIterator[str]:
        begun = finished = False
        record, before = prompt.record, prompt.record.tokens
        async with await self._asked(prompt, manner) as stream:
            chunks, end = aiter(stream), object()
            try:
                # signs of life without a word, which some servers send for ever, do not count
                while (chunk := await asyncio.wait_for(anext(chunks, end), self._timeout)) is not end:
                    begun = True
                    for choice in (chunk.choices or ())[:1]:
                        if choice.delta.content:
                            yield choice.delta.content.encode("utf-8", "replace").decode()  # half a character: "?"
                        finished = finished or bool(choice.finish_reason)
                        if choice.finish_reason:
                            record.ended = choice.finish_reason if choice.finish_reason in REASONS else "stop"
                    if isinstance(used := getattr(chunk.usage, "completion_tokens", None), int):
                        record.tokens = before + max(used, 0)
            except (openai.APITimeoutError, TimeoutError):
                raise EndpointError(f"{self.id} {self._silent()}.") from None
            except openai.APIConnectionError:
                begun, finished = True, False
        if not begun:
            raise EndpointError(f"{self.id} {NO_REPLY}")
        if not finished:
            raise EndpointError(f"{self.id} broke off in mid-reply; what it said until then is kept. Ask again.")

    async def _asked(self, prompt: Prompt, manner: dict) -> openai.AsyncStream:
        while True:
            body = self.request(prompt, **manner)
            prompt.record.bodies.append(body)
            try:
                return await self._client.chat.completions.create(**body)
            except openai.BadRequestError as error:  # newer models of OpenAI's take no temperature and no max_tokens
                name = error.param
                if name not in manner or name not in body:
                    raise
                # noted for all; another request may have found out the same meanwhile
                if error.code == "unsupported_parameter":
                    self._refused.add(name)
                elif error.code == "unsupported_value" and name != "max_tokens" and len(self._unfit) < MOST_UNFIT:
                    self._unfit.add((name, body[name]))
                else:  # no fault of the model, and nobody else's concern
                    raise InputError(f"The base does not take {name}={body[name]}; give another value.") from None

    def _explained(self, error: openai.OpenAIError) -> EndpointError:
        said = self._quoted(error)
        status = getattr(error, "status_code", None)
        if isinstance(error, openai.APITimeoutError):
            why = self._silent()
        elif isinstance(error, openai.APIConnectionError):
            why = "cannot be reached, or broke off; see that it runs and that the URL is right"
        elif status in (401, 403):
            why = f"refuses the key{said}; set MAM_API_KEY to one that it takes"
        elif status == 404:
            why = f"has no such model, or no chat at this URL{said}"
        elif status == 429:
            why = f"is too busy{said}; try again later"
        else:
            why = f"failed{f' with status {status}' if status else ''}{said}"
        return EndpointError(f"{self.id} {why}.")

    def _silent(self) -> str:
        return f"said nothing for {self._timeout:g} s; try again, or give it longer with MAM_TIMEOUT"

    def _quoted(self, error: openai.OpenAIError) -> str:
        """What the server says about it, in a line, without the key."""
        body = getattr(error, "body", None)
        said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        line = " ".join(str(said or "").split()).rstrip(".")
        line = line.replace(self._key, "…") if self._key else line
        return f" ({line[:LONGEST]})" if line else ""


def _next(heard: SimpleQueue[str | None], stop: threading.Event | None) -> str | None:
    while stop is None or not stop.is_set():
        try:
            return heard.get(timeout=POLL)
        except Empty:
            continue
    return None


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="endpoints").start()
    return loop


def _parsed(id: str) -> tuple[str, str]:
    """(model, URL) of an id; the model's own name may contain an @."""
    found = re.fullmatch(rf"{ON_SERVER}(.+?)@(https?://[!-~]+)", id)
    try:
        parts = urlsplit(found[2] if found else "")
        usable = parts.hostname and parts.port != 0
    except ValueError:  # of a port or an IPv6 address
        usable = False
    if not usable:  # not quoted: who knows what is in it
        raise InputError(f"A base on a server is written {FORM}.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(f"Leave all but host and path out of the URL at {parts.hostname}; MAM_API_KEY is for keys.")
    return found[1], found[2].rstrip("/")


def _key(host: str) -> str:
    """Taken from the environment; that of OpenAI is for no other server."""
    key = os.environ.get("MAM_API_KEY") or (os.environ.get("OPENAI_API_KEY", "") if host == OPENAI else "")
    return key.strip()


def _timeout() -> float:
    text = os.environ.get("MAM_TIMEOUT") or TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise InputError(f"MAM_TIMEOUT is {text!r}; it must be a number of seconds, such as 120.")
    return seconds


def _context() -> tuple[int, int]:
    """(tokens that the model takes, those of them that a prompt may use)."""
    if not (text := os.environ.get("MAM_CONTEXT")):
        return CONTEXT, CONTEXT // 2
    if not text.isdecimal() or int(text) < SHORTEST:
        raise InputError(f"MAM_CONTEXT is {text!r}; it must be a number of tokens, {SHORTEST} or more, such as 128000.")
    return int(text), int(text)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
