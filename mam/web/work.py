"""Work that takes long: done in a thread of its own, followed from a handler that shows how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from html import escape
from typing import TypeVar

from mam.space import Progress

Shown, Result = TypeVar("Shown"), TypeVar("Result")
STEP = 0.15  # seconds between two looks at how far it is


def followed(work: Callable[[Progress], Result], show: Callable[[str], Shown]) -> Generator[Shown, None, Result]:
    """Yields `show` of a progress bar (HTML) while `work` goes on; returns its result, raises what it raises.

    A tab that is closed meanwhile stops following; the work itself is finished, so that nothing is left half done.
    """
    step, results, errors = ("", 0, 0), [], []

    def told(what: str, done: int, total: int) -> None:
        nonlocal step
        step = (what, done, total)

    def run() -> None:
        try:
            results.append(work(told))
        except BaseException as error:  # raised again where somebody waits for it
            errors.append(error)

    thread, shown = threading.Thread(target=run, daemon=True, name="work"), None
    thread.start()
    while thread.is_alive():
        if step != shown:
            shown = step
            yield show(bar(*step))
        thread.join(STEP)
    if errors:
        raise errors[0]
    return results[0]


def bar(what: str, done: int, total: int) -> str:
    """How far something is, as HTML."""
    share = done / total if total else 0
    count = f"{done:,} of {total:,}" if total else "…"
    return (
        f'<p class="note" role="status">{escape(what.capitalize() or "Working")} {count}</p>'
        f'<span class="track"><span style="width:{share * 100:.1f}%"></span></span>'
    )
