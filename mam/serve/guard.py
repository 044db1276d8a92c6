"""The guard: every request passes it before anything else looks at it, whatever it is for.

It knows who is asking (the key), how large a request may be and how often somebody may ask, and writes the user into
the request's state; what is behind it asks nobody else who is asking. It does not know what a request is about.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mam.errors import MamError
from mam.serve.keys import Keys
from mam.serve.problems import Refused, problem

HERE = ("127.0.0.1", "localhost", "::1")
LONGEST_KEY = 1_000  # characters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one user may ask for."""

    bytes: int = 4_000_000  # of a request
    rate: int = 600  # requests a minute
    tokens: int = 100_000  # of prompts and replies a minute
    reply: int = 1_024  # tokens of one reply; who asks for more gets these


class Bucket:
    """Holds a minute's worth of something and refills evenly. Safe to share between threads."""

    def __init__(self, size: float, clock: Callable[[], float] = time.monotonic):
        self.size, self._clock = size, clock
        self._level, self._at = size, clock()
        self._lock = threading.Lock()

    def wait(self, amount: float) -> float:
        """Take `amount` and return 0.0; or take nothing, and return the seconds until there will be that much.

        What is more than a minute's worth is taken from a full one: whoever takes more than there is waits the longer.
        """
        with self._lock:
            self._refill()
            lacking = min(amount, self.size) - self._level
            if lacking > 0:
                return lacking * 60 / self.size
            self._level -= amount
            return 0.0

    def give_back(self, amount: float) -> None:
        """What was taken and not used; less than nothing where more was used."""
        with self._lock:
            self._refill()
            self._level = min(self.size, self._level + amount)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._at) * self.size / 60)
        self._at = now


class Meter:
    """What each user has asked for lately."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._buckets: dict[str, tuple[Bucket, Bucket]] = {}  # of as many users as there are keys: few
        self._lock = threading.Lock()

    def _of(self, user: str) -> tuple[Bucket, Bucket]:
        with self._lock:
            if user not in self._buckets:
                self._buckets[user] = Bucket(self.limits.rate), Bucket(self.limits.tokens)
            return self._buckets[user]

    def request(self, user: str) -> None:
        """Count a request. Raises Refused (429) for one too many."""
        if wait := self._of(user)[0].wait(1):
            raise _too_much(f"More than {self.limits.rate:,} requests a minute", wait)

    def reply(self, user: str, tokens: int) -> None:
        """Set as many tokens aside as a reply may take. Raises Refused (429) when the minute has not as many left."""
        if wait := self._of(user)[1].wait(tokens):
            raise _too_much(f"More than {self.limits.tokens:,} tokens a minute", wait)

    def settle(self, user: str, tokens: int, used: int) -> None:
        """A reply is over for which `tokens` were set aside."""
        self._of(user)[1].give_back(tokens - used)


def _too_much(what: str, wait: float) -> Refused:
    seconds = math.ceil(wait)
    return Refused(429, f"{what}; try again in {seconds} s.", {"Retry-After": str(seconds)})


class Guard:
    """ASGI middleware. keys: whose requests pass (None: everybody's, as the user `local`, from this machine only)."""

    patience = 60.0  # seconds that a request may take to arrive

    def __init__(self, app: ASGIApp, keys: Keys | None, local: str, meter: Meter):
        self.app, self.keys, self.local, self.meter = app, keys, local, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server's own start and end; there are no web sockets
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            user = self._user(headers)
            self.meter.request(user)
            whole = await self._whole(headers, receive)
        except MamError as error:
            await problem(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["user"] = user
        await self.app(scope, whole, send)

    def _user(self, headers: Headers) -> str:
        if self.keys is None:
            # A page in a browser here may have its name point to this machine; its requests still carry that name.
            if _host(headers.get("host", "")) not in HERE:
                raise Refused(421, "Without keys this server answers to localhost only.")
            # Nor may a page from elsewhere have its reader's browser send something here, even unseen.
            if (origin := headers.get("origin")) and _host(origin.partition("://")[2]) not in HERE:
                raise Refused(403, "Without keys this server takes nothing from pages of other sites.")
            return self.local
        scheme, _, key = headers.get("authorization", "").partition(" ")
        try:
            user = self.keys.user(key.strip()) if scheme.lower() == "bearer" and len(key) <= LONGEST_KEY else None
        except MamError as error:  # the file was changed for the worse while the server ran
            log.error("%s", error)
            raise Refused(503, "The keys cannot be looked up just now.") from error
        if user is None:
            raise Refused(401, "Send a valid API key: Authorization: Bearer KEY.", {"WWW-Authenticate": "Bearer"})
        return user

    async def _whole(self, headers: Headers, receive: Receive) -> Receive:
        """The request's body, read up to the limit, then whatever else there is to receive."""
        most = self.meter.limits.bytes
        refused = Refused(413, f"A request has at most {most:,} bytes; send less at once.")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise refused
        size, messages = 0, deque[Message]()
        try:
            async with asyncio.timeout(self.patience):
                while not messages or messages[-1].get("more_body"):
                    messages.append(message := await receive())
                    size += len(message.get("body", b""))
                    if size > most:
                        raise refused
        except TimeoutError as error:
            raise Refused(408, "The request did not arrive in time; send it again.") from error

        async def replay() -> Message:
            return messages.popleft() if messages else await receive()

        return replay


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
