"""A tab belongs to whoever logged in there. Gradio tells tabs apart by a number that the browser makes up, and gives
what happens in a tab to anybody who names it; with several people on one server that number alone must open nothing.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 100_000  # tabs remembered; the oldest are forgotten
_IN_PATH = re.compile(r"/(?:heartbeat|stream)/([^/]+)")


class OwnTabs:
    """ASGI middleware: a request that names another user's tab is answered as if there were no such tab (404)."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._owners: OrderedDict[str, str] = OrderedDict()  # user by tab

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope, receive)
        user = who(request)
        tabs = {request.query_params.get("session_hash"), request.headers.get("session_hash")}
        tabs |= set(_IN_PATH.findall(request.url.path))
        if request.method == "POST" and not request.headers.get("content-type", "").startswith("multipart/form-data"):
            body = await request.body()
            tabs.add(_named(body))
            receive = _again(body, receive)
        if not all(self._owns(user, tab) for tab in tabs if isinstance(tab, str) and tab):
            return await PlainTextResponse("Not found", 404)(scope, receive, send)
        await self.app(scope, receive, send)

    def _owns(self, user: str | None, tab: str) -> bool:
        if user is None:  # Gradio refuses whoever is not logged in
            return True
        owner = self._owners.setdefault(tab, user)
        while len(self._owners) > MOST:
            self._owners.popitem(last=False)
        return owner == user


def who(request: Request) -> str | None:
    """Who logged in, as Gradio finds it."""
    tokens = request.scope["app"].tokens
    names = (name for name in request.cookies if name.startswith("access-token"))
    return next((tokens[request.cookies[name]] for name in names if request.cookies[name] in tokens), None)


def _named(body: bytes) -> object:
    """The tab that a JSON body names."""
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content.get("session_hash") if isinstance(content, dict) else None


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more, and then whatever comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message
