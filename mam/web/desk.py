"""Who is asking, and the space they get: what all views of the page share.

Who it is comes from the request, never from the page's own state; the space checks that an id is theirs. Views call
the public API with what `space` returns, and wrap their handlers in `plainly`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path

import gradio as gr

from mam.chat import Chat
from mam.engine import forget
from mam.errors import InputError, MamError
from mam.space import Space
from mam.values import Turn

MOST_AT_ONCE = 1_000  # memories that one click may change

log = logging.getLogger(__name__)

DEMO = " (guided tour)"  # behind a user's name: whose demo space it is


@dataclass
class Desk:
    """Opens spaces. `open` gives the space of a user, with another memory model if one is named, as `mam.open` does."""

    open: Callable[[str, Path | None], Space]
    user: str = "local"  # who it is when nobody has logged in
    base: str = ""  # named while it is loading
    login: bool = False  # whether everybody has to log in
    folder: str | None = None  # of the memories, as `mam.open` takes it
    memory: Path | None = None  # the memory model in use, None: the one that `open` opens by itself
    ready: bool = False  # whether the networks are loaded
    failure: str = ""  # why the networks could not be loaded
    _spaces: dict[tuple[str, Path | None], Space] = field(default_factory=dict)
    _attempts: dict[tuple[str, str], Path] = field(default_factory=dict)  # (user, tab): these try a memory model
    _touring: set[tuple[str, str]] = field(default_factory=set)  # (user, tab): these see a demo space
    _temporary: dict[tuple[str, str], dict[str, Chat]] = field(default_factory=dict)  # of a tab, and nowhere else
    _shown: dict[tuple[str, str], str | None] = field(default_factory=dict)  # the conversation that a tab shows
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Load the networks in the background, so that the page opens at once."""
        threading.Thread(target=self._load, daemon=True, name="load").start()

    def _load(self) -> None:
        try:
            self._space_of(self.user, self.memory)
            self.ready = True
        except MamError as error:
            self.failure = str(error)
        except Exception as error:  # shown on the page instead of loading for ever
            log.exception("loading failed")
            self.failure = f"Loading failed ({error}); the terminal has the details."

    def _space_of(self, user: str, memory: Path | None) -> Space:
        with self._lock:
            if (user, memory) not in self._spaces:
                self._spaces[user, memory] = self.open(user, memory)
            return self._spaces[user, memory]

    def user_of(self, request: gr.Request) -> str:
        name = getattr(request, "username", None)
        if self.login and not name:
            raise MamError("Please log in first.")
        return name or self.user

    def space(self, request: gr.Request) -> Space:
        """The space of whoever asks. Raises MamError while the networks are loading or when they could not be."""
        if self.failure:
            raise MamError(self.failure)
        if not self.ready:
            raise MamError("The language model is still loading; try again in a moment.")
        user = self.user_of(request)
        memory = self._attempts.get(self._tab(request), self.memory)
        return self._space_of(f"{user}{DEMO}" if self.touring(request) else user, memory)

    def _tab(self, request: gr.Request) -> tuple[str, str]:
        return self.user_of(request), request.session_hash

    def attempt(self, request: gr.Request, memory: Path) -> None:
        """From now on this tab answers with another memory model."""
        self._attempts[self._tab(request)] = memory

    def adopt(self, memory: Path | None) -> None:
        """From now on everybody has this memory model, and nobody tries another one; the others leave the memory."""
        with self._lock:
            self._attempts.clear()
            self.memory = memory
            others = {used for _, used in self._spaces} - {memory}
            self._spaces = {key: space for key, space in self._spaces.items() if key[1] == memory}
        for other in others:
            forget(other)

    def touring(self, request: gr.Request) -> bool:
        """Whether this tab is on the guided tour."""
        return self._tab(request) in self._touring

    def tour(self, request: gr.Request, on: bool) -> None:
        """From now on this tab sees the demo space of its user, or their own again."""
        (self._touring.add if on else self._touring.discard)(self._tab(request))

    # -- conversations, also those that are nowhere but here ------------------------------------------------------

    def chat(self, session: str | None, request: gr.Request, temporary: bool = False) -> Chat:
        """The conversation with this id, or a new one."""
        m, own = self.space(request), self._temporary.setdefault(self._tab(request), {})
        if session in own:
            return own[session]
        if session is not None and not any(known.id == session for known in m.sessions()):
            raise InputError("This conversation is not here any more; start a new one.")
        chat = m.session(session, temporary=temporary)
        if temporary:
            own[chat.id] = chat
        return chat

    def turn(self, id: str, request: gr.Request) -> Turn:
        """The turn with this id, of a temporary conversation of this tab too. Raises InputError when there is none."""
        for chat in self._temporary.get(self._tab(request), {}).values():
            for turn in chat.turns():
                if turn.id == id:
                    return turn
        return self.space(request).turn(id)

    def show(self, session: str | None, request: gr.Request) -> None:
        """From now on this tab shows that conversation, None: one not begun."""
        self._shown[self._tab(request)] = session

    def shows(self, session: str, request: gr.Request) -> bool:
        """Whether it still shows that conversation: a reply that was begun there belongs nowhere else."""
        return self._shown.get(self._tab(request)) == session

    def leave(self, request: gr.Request, session: str | None) -> None:
        """Forget a temporary conversation; any other stays."""
        self._temporary.get(self._tab(request), {}).pop(session, None)

    def closed(self, request: gr.Request) -> None:
        """The tab is gone, and what was for it alone."""
        tab = self._tab(request)
        self._temporary.pop(tab, None)
        self._shown.pop(tab, None)
        self._attempts.pop(tab, None)
        self._touring.discard(tab)


def sent(event: gr.EventData, name: str, kind: type = str):
    """A field of an event as the page's scripts send it. Raises InputError for one that is missing or of another kind.

    Events come from a browser and can be forged: what an id in them stands for is still the space's to check.
    """
    value = getattr(event, name, None)
    if not isinstance(value, kind):
        raise InputError("The page sent something that mam does not understand; load it again.")
    return value


def sent_slots(event: gr.EventData) -> list[str]:
    """The ids of the memories that an event is about, at least one, each once."""
    ids = sent(event, "slots", list)
    if not all(isinstance(id, str) for id in ids) or not 1 <= len(ids) <= MOST_AT_ONCE:
        raise InputError(f"Choose between 1 and {MOST_AT_ONCE:,} memories.")
    return list(dict.fromkeys(ids))


def plainly(handler: Callable) -> Callable:
    """The same handler, with whatever a user can cause shown as a line on the page instead of an error."""

    @wraps(handler)
    def call(*arguments, **more):
        try:
            return handler(*arguments, **more)
        except MamError as error:
            gr.Warning(str(error))
            return gr.skip()

    @wraps(handler)
    def steps(*arguments, **more):
        try:
            yield from handler(*arguments, **more)
        except MamError as error:
            gr.Warning(str(error))
            yield gr.skip()

    return steps if isgeneratorfunction(handler) else call
