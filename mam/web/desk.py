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

import gradio as gr

from mam.chat import Chat
from mam.errors import InputError, MamError
from mam.space import Space
from mam.values import Turn

MOST_AT_ONCE = 1_000  # memories that one click may change

log = logging.getLogger(__name__)


@dataclass
class Desk:
    """Opens spaces. `open` gives the space of a user, as `mam.open` does."""

    open: Callable[[str], Space]
    user: str = "local"  # who it is when nobody has logged in
    base: str = ""  # named while it is loading
    failure: str = ""  # why the networks could not be loaded
    _spaces: dict[str, Space] = field(default_factory=dict)
    _temporary: dict[tuple[str, str], Chat] = field(default_factory=dict)  # these are nowhere else
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Load the networks in the background, so that the page opens at once."""
        threading.Thread(target=self._load, daemon=True, name="load").start()

    def _load(self) -> None:
        try:
            self._space_of(self.user)
        except MamError as error:
            self.failure = str(error)
        except Exception as error:  # shown on the page instead of loading for ever
            log.exception("loading failed")
            self.failure = f"Loading failed ({error}); the terminal has the details."

    def _space_of(self, user: str) -> Space:
        with self._lock:
            if user not in self._spaces:
                self._spaces[user] = self.open(user)
            return self._spaces[user]

    def user_of(self, request: gr.Request) -> str:
        return getattr(request, "username", None) or self.user

    def space(self, request: gr.Request) -> Space:
        """The space of whoever asks. Raises MamError while the networks are loading or when they could not be."""
        if self.failure:
            raise MamError(self.failure)
        if self.user not in self._spaces:
            raise MamError("The language model is still loading; try again in a moment.")
        return self._space_of(self.user_of(request))

    # -- conversations, also those that are nowhere but here ------------------------------------------------------

    def chat(self, session: str | None, request: gr.Request, temporary: bool = False) -> Chat:
        """The conversation with this id, or a new one."""
        user, m = self.user_of(request), self.space(request)
        if (user, session) in self._temporary:
            return self._temporary[user, session]
        if session is not None and not any(known.id == session for known in m.sessions()):
            raise InputError("This conversation is not here any more; start a new one.")
        chat = m.session(session, temporary=temporary)
        if temporary:
            self._temporary[user, chat.id] = chat
        return chat

    def turn(self, id: str, request: gr.Request) -> Turn:
        """The turn with this id, of a temporary conversation too. Raises InputError when there is none."""
        user = self.user_of(request)
        for (owner, _), chat in list(self._temporary.items()):
            if owner == user:
                for turn in chat.turns():
                    if turn.id == id:
                        return turn
        return self.space(request).turn(id)

    def leave(self, request: gr.Request, session: str | None) -> None:
        """Forget a temporary conversation; any other stays."""
        self._temporary.pop((self.user_of(request), session), None)


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
