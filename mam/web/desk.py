"""What the events of the page do: a few calls of the public API each, and what to show afterwards.

Knows spaces, panels and toasts; does not know where things are on the page (see `page`). Who is asking comes from
the request, never from the page's own state, and the space checks that an id is theirs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import wraps
from inspect import isgeneratorfunction

import gradio as gr

from mam.errors import InputError, MamError
from mam.space import Space, cleaned
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, Session, Turn
from mam.web import panels

log = logging.getLogger(__name__)

SHOWN = {"Remembered": ACTIVE, "Replaced": SUPERSEDED, "Put away": ARCHIVED, "Trash": DELETED, "All": None}


@dataclass
class Desk:
    """Opens spaces and serves the page's events. `open` gives the space of a user, as `mam.open` does."""

    open: Callable[[str], Space]
    user: str = "local"  # who it is when nobody has logged in
    base: str = ""  # named while it is loading
    _spaces: dict[str, Space] = field(default_factory=dict)
    _stops: dict[tuple[str, str], threading.Event] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failure: str = ""

    def load(self) -> None:
        """Load the networks in the background, so that the page opens at once."""
        threading.Thread(target=self._load, daemon=True, name="load").start()

    def _load(self) -> None:
        try:
            self._space_of(self.user)
        except MamError as error:
            self._failure = str(error)
        except Exception as error:  # shown on the page instead of loading for ever
            log.exception("loading failed")
            self._failure = f"Loading failed ({error}); the terminal has the details."

    def _space_of(self, user: str) -> Space:
        with self._lock:
            if user not in self._spaces:
                self._spaces[user] = self.open(user)
            return self._spaces[user]

    def space(self, request: gr.Request) -> Space:
        """The space of whoever asks. Raises MamError while the networks are loading or when they could not be."""
        user = self._user(request)
        if self._failure:
            raise MamError(self._failure)
        if self.user not in self._spaces:
            raise MamError("The language model is still loading; try again in a moment.")
        return self._space_of(user)

    def _user(self, request: gr.Request) -> str:
        return getattr(request, "username", None) or self.user

    # -- looking --------------------------------------------------------------------------------------------------

    def status(self, request: gr.Request) -> str:
        try:
            return panels.status(self.space(request).about(), "")
        except MamError as error:
            return panels.status(None, self._failure or f"Loading {self.base} …" or str(error), bool(self._failure))

    def refresh(self, seen: int, session: str | None, shown: str, find: str, request: gr.Request) -> tuple:
        """What changed since data version `seen`, in this tab, another one or another program."""
        try:
            m = self.space(request)
            version = m.version()
        except MamError:
            return self.status(request), gr.skip(), gr.skip(), gr.skip()
        if version == seen:
            return (gr.skip(),) * 4
        return self.status(request), panels.sessions(_begun(m), session), _table(m, shown, find), version

    def table(self, shown: str, find: str, request: gr.Request) -> str:
        return _table(self.space(request), shown, find)

    def pick(self, event: gr.EventData, request: gr.Request) -> tuple:
        """A conversation of the list: (session, messages, live message, last turn, list of them)."""
        m = self.space(request)
        turns = m.turns(event.session)
        if not turns:
            raise InputError("This conversation is not here any more.")
        return event.session, *_conversation(turns), panels.sessions(_begun(m), event.session)

    def new(self, request: gr.Request) -> tuple:
        """An empty conversation; it is kept once something is said in it."""
        return None, *_conversation([]), panels.sessions(_begun(self.space(request)), None)

    # -- talking --------------------------------------------------------------------------------------------------

    def send(self, text: str, session: str | None, request: gr.Request) -> Iterator[tuple]:
        """Say something; as `pick` and what is left to send, again for every piece of the reply."""
        key, same = self._key(request), gr.skip()
        stop = self._stops[key] = threading.Event()
        try:
            for shows in self._steps(self.space(request), cleaned(text), session, stop):
                yield *shows, same
        except MamError:
            yield *[same] * 5, text  # back into its box: nothing that was typed is lost
            raise
        finally:
            self._stops.pop(key, None)

    def _steps(self, m: Space, text: str, session: str | None, stop: threading.Event) -> Iterator[tuple]:
        chat = m.session(session)
        reply, same = "", gr.skip()
        with closing(chat.stream(text, stop=stop)) as events:  # closed with the tab: what was said is kept
            for event in events:
                if event.kind == "read":
                    before = panels.conversation(chat.turns()[:-1])
                    yield chat.id, before, panels.exchange(text, "…"), same, panels.sessions(_begun(m), chat.id)
                elif event.kind == "token":
                    reply += event.data
                    yield same, same, panels.exchange(text, reply), same, same
                elif event.kind == "turn":
                    yield same, *_conversation(chat.turns()), same

    def stop(self, request: gr.Request) -> None:
        if stop := self._stops.get(self._key(request)):
            stop.set()

    def _key(self, request: gr.Request) -> tuple[str, str]:
        return self._user(request), request.session_hash or ""

    # -- changing -------------------------------------------------------------------------------------------------

    def change(self, event: gr.EventData, shown: str, find: str, request: gr.Request) -> str:
        """A button of the table: edit, delete or restore; returns the table as it is then."""
        m, act, id = self.space(request), event.act, event.slot
        if act == "edit":
            m.edit(id, event.text, version=int(event.version))
            gr.Info("Changed. It counts from the next word on.")
        elif act == "delete":
            m.delete(id)
            gr.Info("In the trash. It is not read any more.")
        elif act == "restore":
            m.restore(id)
            gr.Info("Remembered again.")
        return _table(m, shown, find)

    def add(self, text: str, shown: str, find: str, request: gr.Request) -> tuple[str, str]:
        m = self.space(request)
        m.add(text)
        return "", _table(m, shown, find)


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


def _begun(m: Space) -> list[Session]:
    """Conversations in which something was said, but those that were put away."""
    return [session for session in m.sessions(archived=False) if session.turns]


def _table(m: Space, shown: str, find: str) -> str:
    found = m.slots(SHOWN[shown], find=find, newest_first=True, limit=panels.ROWS)
    return panels.slots(found, m.count(SHOWN[shown], find=find))


def _conversation(turns: list[Turn]) -> tuple[str, str, str]:
    """Messages, nothing live, and the last turn."""
    return panels.conversation(turns) or panels.WELCOME, "", panels.turn(turns[-1] if turns else None)
