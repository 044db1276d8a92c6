"""The server: chat, memory and tools behind one guard, on one port.

Knows which parts there are and how they start and end; what they do is in the module of their name.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

import mam
from mam.errors import InputError
from mam.serve import chat, mcp, memory, problems
from mam.serve.guard import HERE, Guard, Limits, Meter
from mam.serve.keys import Keys
from mam.space import Space

AT_ONCE = 64  # replies in the making; more wait for their turn
OF_ONE = 32  # of these one user's, where there are several users
HANDS = 8  # operations on one user's memory at a time; more wait without a thread, of which all users share 40
CONNECTIONS = 512


class Patient(H11Protocol):
    """Closes a connection on which no whole head of a request comes in time, or whose client takes nothing of its
    answer for as long; without this it would count for ever."""

    patience = 20.0  # seconds

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect(after=None)

    def on_response_complete(self) -> None:
        answered = self.cycle  # super may begin with the next one
        super().on_response_complete()
        self._expect(after=answered)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        self._stuck.cancel()
        super().resume_writing()

    def _expect(self, after: RequestResponseCycle | None) -> None:
        self.loop.call_later(self.patience, lambda: self.transport.close() if self.cycle is after else None)


class Spaces:
    """The space of each user, opened with the first request and kept. Opening one can take long: nobody else waits."""

    def __init__(self, open: Callable[[str], Space]):
        self._open, self._spaces, self._lock = open, {}, threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def opened(self, user: str) -> Space | None:
        """The space, if there is no need to wait for it."""
        return self._spaces.get(user)

    def of(self, user: str) -> Space:
        if space := self.opened(user):
            return space
        with self._lock:
            opening = self._opening.setdefault(user, threading.Lock())
        with opening:
            if not (space := self.opened(user)):
                space = self._open(user)
                with self._lock:
                    self._spaces[user] = space
            return space

    def close(self) -> None:
        with self._lock:
            for space in self._spaces.values():
                space.close()
            self._spaces.clear()


def application(
    open: Callable[[str], Space], *, keys: Keys | None = None, local: str = "local", limits: Limits | None = None
) -> Guard:
    """An ASGI application. open: gives the space of a user, as `mam.open` does.

    Without keys everybody is the user `local`, and has to come from this machine.
    """
    spaces, meter = Spaces(open), Meter(limits or Limits())
    hands = defaultdict(lambda: asyncio.Semaphore(HANDS))

    def user_of(context: Context) -> str:
        return context.request_context.request.state.user

    tools = mcp.tools(lambda context: spaces.of(user_of(context)), lambda context: hands[user_of(context)])
    over_http = tools.streamable_http_app(
        json_response=True,
        stateless_http=True,  # a session of the protocol would outlive the key that began it
        max_request_body_size=meter.limits.bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard looks at it
    )

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with tools.session_manager.run():
            yield
        app.state.pool.shutdown()  # replies that were stopped are saved first
        spaces.close()

    app = FastAPI(
        title="mam: Memory as a Model",
        version=mam.__version__,
        description=__doc__,
        lifespan=running,
        docs_url=None,  # that page would fetch its scripts from elsewhere
        redoc_url=None,
    )
    app.state.spaces, app.state.meter, app.state.hands = spaces, meter, hands
    app.state.pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="reply")
    app.state.turns = defaultdict(lambda: asyncio.Semaphore(OF_ONE if keys else AT_ONCE))
    app.include_router(chat.router)
    app.include_router(memory.router)
    app.router.routes.extend(over_http.routes)
    problems.handle(app, [*chat.router.routes, *memory.router.routes])
    return Guard(app, keys, local, meter)


def prepared(app: Guard, host: str, port: int) -> tuple[uvicorn.Server, socket.socket, str]:
    """A server, the socket that it is to `run` with, and its address.

    Raises InputError for an address that is taken, or open to others without keys.
    """
    if host not in HERE and app.keys is None:
        raise InputError("Other machines could read and change this memory: say with --keys FILE who may.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port} cannot be served ({error}); choose another --host or --port.") from error
    config = uvicorn.Config(
        app,
        http=Patient,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    shown = f"[{host}]" if ":" in host else host
    return uvicorn.Server(config), listening, f"http://{shown}:{listening.getsockname()[1]}"


@contextmanager
def background(app: Guard) -> Iterator[str]:
    """The server in a thread of its own, on a free port of this machine; yields its address."""
    server, listening, address = prepared(app, HERE[0], 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join()
