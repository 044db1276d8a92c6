"""A real server of chats on loopback, small: it speaks the protocol, streams, and misbehaves in every way when told to.

Its model is one rule: it answers with the first of the notes that it was given, or else repeats the message.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "parrot"


class Server:
    """`trouble`: what to do with the next requests instead of answering, one after the other; see `_Handler`."""

    def __init__(self):
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.trouble: list[Callable[[_Handler], bool | None]] = []
        self.pause = 0.0  # seconds between pieces
        self.left = threading.Event()  # somebody went away in the middle of a reply
        self.http = _Http(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.base = f"openai:{MODEL}@{self.url}"

    @property
    def messages(self) -> list[dict[str, str]]:
        """Of the last request."""
        return self.bodies[-1]["messages"]


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no trouble of the server
            super().handle_error(request, address)


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Server

    def do_POST(self) -> None:
        server = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.body = body
        server.bodies.append(body)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        server.times.append(time.monotonic())
        if server.trouble and server.trouble.pop(0)(self) is not False:
            return
        if self.path != "/v1/chat/completions" or body["model"] != MODEL:
            self.error(404, "no such model")
            return
        try:
            self.answer(reply(body["messages"])[: body.get("max_tokens", body.get("max_completion_tokens"))])
        except (BrokenPipeError, ConnectionResetError):
            server.left.set()

    def answer(self, words: list[str], end: bool = True) -> None:
        self.begin()
        self.chunk({"role": "assistant", "content": ""})
        for word in words:
            self.chunk({"content": word})
            time.sleep(self.server_of.pause)
        if end:
            self.chunk({}, "stop")
            self.write(b"data: [DONE]\n\n")
            self.write(b"")

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, delta: dict, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]})

    def event(self, data: object) -> None:
        self.write(f"data: {json.dumps(data)}\n\n".encode())

    def write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def error(self, status: int, message: str, headers: dict[str, str] | None = None, **more) -> None:
        body = json.dumps({"error": {"message": message, **more}}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def die(self) -> None:
        """Reset the connection, as a process that is killed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_) -> None:
        return


def reply(messages: list[dict[str, str]]) -> list[str]:
    """Pieces of what the model says."""
    notes = [line[2:] for message in messages for line in message["content"].split("\n") if line.startswith("- ")]
    text = f"You told me: {notes[0]}" if notes else f"You say: {messages[-1]['content']}"
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


# -- trouble; each takes the handler of a request ------------------------------------------------------------------


def dies(after: int):
    def trouble(handler: _Handler) -> None:
        handler.answer(reply(handler.server_of.messages)[:after], end=False)
        time.sleep(0.1)  # a reset takes back what has not arrived
        handler.die()

    return trouble


def ends_early(handler: _Handler) -> None:
    """The stream ends in order, but the reply does not."""
    handler.answer(["Well,"], end=False)
    handler.write(b"")


def busy(after: str = "0.2"):
    return lambda handler: handler.error(429, "slow down", {"Retry-After": after})


def refuses(status: int, message: str, **more):
    return lambda handler: handler.error(status, message, **more)


def sends(*data: object):
    """These events in the middle of a reply."""

    def trouble(handler: _Handler) -> None:
        handler.begin()
        handler.chunk({"content": "Well,"})
        for item in data:
            handler.write(item) if isinstance(item, bytes) else handler.event(item)
        handler.chunk({}, "stop")
        handler.write(b"")

    return trouble


def murmurs(handler: _Handler) -> None:
    """Shows for five seconds that the connection lives, and says nothing."""
    handler.begin()
    for _ in range(50):
        try:
            handler.write(b": still here\n\n")
        except OSError:
            handler.server_of.left.set()
            break
        time.sleep(0.1)
    handler.close_connection = True


def hangs(seconds: float, words: tuple[str, ...] = ()):
    """Says some words, if any, then nothing for so long."""

    def trouble(handler: _Handler) -> None:
        if words:
            handler.begin()
            for word in words:
                handler.chunk({"content": word})
        handler.connection.settimeout(seconds)
        try:
            if not handler.connection.recv(1):
                handler.server_of.left.set()
        except TimeoutError:
            pass
        handler.close_connection = True

    return trouble
