"""Files that are too large for an event: up to the server and down from it, each by a ticket of one user's.

Like smaller ones (see `files`) they never lie in gradio's cache. A ticket is a random name that only the page of that
user was told; behind it is a private folder, which goes when what came up was used, and with the tab or the next file
where something goes down: a browser may ask for that more than once.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mam.web.desk import Desk
from mam.web.guard import who

LARGEST = 2 << 30  # bytes behind a ticket
MOST = 200  # files
PATH = "packs/file"


class Carrier:
    def __init__(self, desk: Desk):
        self.desk = desk
        self._lock = threading.Lock()
        self._tickets: dict[str, tuple[str, Path]] = {}  # ticket: (user, folder of what is on its way)
        self._inboxes: dict[tuple[str, str], str] = {}  # (user, tab): its ticket for what goes up,
        self._outboxes: dict[tuple[str, str], str] = {}  # and for what goes down
        self._root = tempfile.TemporaryDirectory(prefix="mam-files-")  # only its owner may look into it

    @property
    def route(self) -> Route:
        return Route(f"/{PATH}/{{ticket}}", self.carry, methods=["GET", "PUT"])

    def inbox(self, request: gr.Request) -> str:
        """The ticket by which a tab sends files up; the same each time."""
        tab = self._tab(request)
        with self._lock:
            if tab not in self._inboxes:
                self._inboxes[tab] = self._new(tab[0])
            return self._inboxes[tab]

    @contextmanager
    def received(self, request: gr.Request) -> Iterator[list[Path]]:
        """What a tab has sent up, by name; gone afterwards."""
        folder = self._tickets[self.inbox(request)][1]
        try:
            yield sorted(path for path in folder.glob("*") if path.is_file()) if folder.exists() else []
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def sending(self, name: str, request: gr.Request) -> Iterator[tuple[Path, str]]:
        """(a file to write, the ticket by which its user fetches it). What this tab was sent before goes."""
        tab = self._tab(request)
        with self._lock:
            self._drop(self._outboxes.get(tab, ""))
            ticket = self._outboxes[tab] = self._new(tab[0])
        folder = self._tickets[ticket][1]
        folder.mkdir()
        try:
            yield folder / name, ticket
        except BaseException:
            self._drop(ticket)
            raise

    def closed(self, request: gr.Request) -> None:
        """The tab is gone, and what was on its way with it."""
        for box in (self._inboxes, self._outboxes):
            self._drop(box.pop(self._tab(request), ""))

    async def carry(self, request: Request) -> Response:
        """GET and PUT of the route; whatever is not this user's looks as if it were not there."""
        ticket = request.path_params["ticket"]
        user, folder = self._tickets.get(ticket, ("", None))
        if folder is None or user != (who(request) if self.desk.login else self.desk.user):
            return _no("Not found", 404)
        if (ticket in self._inboxes.values()) != (request.method == "PUT"):
            return _no("Not found", 404)
        if request.method == "PUT":
            return await self._take(request, folder)
        file = next(iter(folder.glob("*")), None)
        return FileResponse(file, filename=file.name) if file else _no("Not found", 404)

    async def _take(self, request: Request, folder: Path) -> Response:
        """One file into the folder of a ticket; all of it, or nothing."""
        name = clean_name(request.query_params.get("name", ""))
        if not name:
            return _no("This file has no name.", 400)
        if request.query_params.get("first"):  # what a try before left behind is not meant
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        others = list(folder.glob("*"))
        if folder / name in others:
            return _no(f"Two files are called {name}.", 409)
        room = LARGEST - sum(path.stat().st_size for path in others)
        part = Path(self._root.name) / f"{secrets.token_hex(8)}.part"
        try:
            with part.open("wb") as file:
                async for chunk in request.stream():
                    room -= len(chunk)
                    if room < 0 or len(others) >= MOST:
                        return _no("That is more than the page takes; use the command line instead.", 413)
                    file.write(chunk)
            part.replace(folder / name)
        except ClientDisconnect:
            return _no("It broke off.", 400)
        except OSError as error:
            return _no(f"There is no room for this file ({error.strerror}).", 507)
        finally:
            part.unlink(missing_ok=True)
        return PlainTextResponse("")

    def _tab(self, request: gr.Request) -> tuple[str, str]:
        return self.desk.user_of(request), request.session_hash or ""

    def _new(self, user: str) -> str:
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = (user, Path(self._root.name) / secrets.token_hex(16))
        return ticket

    def _drop(self, ticket: str) -> None:
        _, folder = self._tickets.pop(ticket, ("", None))
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def clean_name(name: str) -> str:
    """A file's name as a browser sends it, without what a path could be made of."""
    return re.sub(r"[^\w .()-]", "_", name.replace("\\", "/").rpartition("/")[2]).strip(" .")[-120:]


def _no(why: str, status: int) -> Response:
    return PlainTextResponse(why, status)
