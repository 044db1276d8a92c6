"""Building, editing and deleting in the background: watched, paused, and gone on with, by the page or a notebook.

One builds at a time in a process, whoever asks: it takes all of a small machine. Everything that counts is on the disk
(see `build`), so a process that ends loses nothing but the job itself; another one goes on from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mam.errors import MamError

BEGUN, QUEUED, RUNNING, PAUSING = "begun", "queued", "running", "pausing"
PAUSED, FAILED, FINISHED = "paused", "failed", "finished"
LOOK = 0.2  # seconds between two looks at whether it is its turn
TELLING = 0.1  # share of the work from which its own pace says how long the rest takes

log = logging.getLogger(__name__)
_one = threading.Lock()

Progress = Callable[[str, int, int], None]


class Job:
    """`work(progress, stop)` in a thread of its own; what it returns is in `result`.

    It waits for its turn where it first tells its progress: a deletion or an edit has taken the text away by then.
    step: what is being done, how much of it is done, and of how much. message: why it failed, in a line.
    left: seconds that are left at a step, roughly. took: whether it has taken something away for good by now.
    """

    def __init__(
        self,
        pack: str,
        work: Callable[[Progress, threading.Event], object],
        left: Callable[[str, int, int], float] = lambda *step: 0.0,
        took: Callable[[], bool] = lambda: False,
    ):
        self.pack, self.took, self.state, self.message = pack, took, BEGUN, ""
        self.step: tuple[str, int, int] = ("", 0, 0)
        self.result: object = None
        self._work, self._left, self._stop = work, left, threading.Event()
        self._begun: tuple[float, float] | None = None  # when its turn came, and how many seconds there were then
        self._changing = threading.Lock()  # the state, by who pauses it and by itself
        self._thread = threading.Thread(target=self._run, daemon=True, name="pack")
        self._thread.start()

    @property
    def going(self) -> bool:
        return self.state in (BEGUN, QUEUED, RUNNING, PAUSING)

    def pause(self) -> None:
        """End at the next chance; all that is done is kept."""
        self._stop.set()
        with self._changing:
            if self.state in (BEGUN, RUNNING):
                self.state = PAUSING

    def wait(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def left(self) -> float | None:
        """Seconds, roughly; by its own pace once there is one. None while it does not run."""
        if self._begun is None or not self.going:
            return None
        began, whole = self._begun
        try:
            left = self._left(*self.step)
        except MamError:  # looked at while the files change
            return None
        worked = whole - left
        return left * (time.monotonic() - began) / worked if worked > TELLING * whole else left

    def _run(self) -> None:
        ended, said = FINISHED, ""
        try:
            self.result = self._work(self._tell, self._stop)
        except MamError as error:
            from mam.packs.build import Paused  # takes a while to import, and the page imports this

            ended, said = (PAUSED, "") if isinstance(error, Paused) else (FAILED, str(error))
        except Exception as error:  # said where it is watched, instead of building for ever
            log.exception("a pack could not be built")
            ended, said = FAILED, f"It failed ({error}); the terminal has the details."
        finally:
            with self._changing:
                self.state, self.message = ended, said
            if self._begun is not None:
                _one.release()

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._begun is None:
            self._take_turn()
        self.step = (what, done, total)

    def _take_turn(self) -> None:
        """Without it where the job is paused meanwhile: the work ends at its next look at that."""
        while not _one.acquire(timeout=LOOK):
            if self._stop.is_set():
                return
            self.state = QUEUED
        self._begun = (time.monotonic(), 0.0)
        self._begun = (self._begun[0], self._left(*self.step))
        self.state = PAUSING if self._stop.is_set() else RUNNING
