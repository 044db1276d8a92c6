"""A re-entrant lock that is given to whoever has waited longest."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiter:
    thread: int = field(default_factory=threading.get_ident)
    called: threading.Event = field(default_factory=threading.Event)


class FairLock:
    """As `threading.RLock`, but first come, first served.

    A reply takes the lock anew for every token. With a plain lock the thread that has just let it go is the likeliest
    to get it again, and of many people chatting at once some would wait for whole replies of others.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> FairLock:
        me = _Waiter()
        with self._guard:
            if self._owner in (None, me.thread):  # when nobody owns it nobody waits: whoever lets go hands it over
                self._owner, self._depth = me.thread, self._depth + 1
                return self
            self._waiting.append(me)
        try:
            me.called.wait()
        except BaseException:  # interrupted (Ctrl-C): leave the queue, or pass on what was given meanwhile
            with self._guard:
                if me in self._waiting:
                    self._waiting.remove(me)
                else:
                    self._hand_over()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._owner != threading.get_ident():
                raise RuntimeError("This lock is held by another thread.")
            self._depth -= 1
            if not self._depth:
                self._hand_over()

    def _hand_over(self) -> None:
        following = self._waiting.popleft() if self._waiting else None
        self._owner, self._depth = (following.thread, 1) if following else (None, 0)
        if following:
            following.called.set()
