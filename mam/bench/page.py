"""page: how quick the page is in a real browser, headless, on the machine that serves it.

Times are taken inside the browser, from the click to the frame in which the change is there. The small space holds two
sessions and SMALL memories; the map is shown for LARGE, its layout fitted before, as when the app is opened again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mam.bench import common
from mam.bench.scoring import spread
from mam.bench.store import fill
from mam.errors import InputError
from mam.space import Space
from mam.store import Store

SMALL, LARGE = 200, 10_000  # memories
TIMES, MAPS = 12, 5  # repetitions; in fresh tabs where the first look is what counts
TOLD = ("My dog is called Biscuit.", "My sister Anna works as a nurse in Oslo.")
ASKED = ("What is my dog called?", "What does my sister do for a living?")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# resolves with the milliseconds from the click on `press` to the frame in which `there` is true
CLICK = """([press, there]) => new Promise((done, fail) => {
  const start = performance.now(), is = new Function('return ' + there);
  const look = () => is() ? done(performance.now() - start)
    : performance.now() - start > 60000 ? fail(there) : requestAnimationFrame(look);
  document.querySelector(press).click();
  look();
})"""


def run(world: common.World, settings: common.Settings) -> dict:
    """Medians on top, each with its 95th percentile under "spread"."""
    from playwright.sync_api import sync_playwright  # takes seconds to import

    large, times = settings.limit or LARGE, settings.capped(TIMES)
    with common.temporary() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        with _served(folder / "small", world) as (url, space):
            turns = _told(space)
            spreads = {
                "interactive_s": spread([_opened(browser, url) for _ in range(times)], 1e-3, 2),
                **_changes(browser, url, times),
                **_inspector(browser, url, turns, times),
            }
        with _served(folder / "large", world) as (url, space):
            fill(folder / "large", world, large)
            space.layout(2)
            with _tab(browser, url) as page:  # what is measured is a look at a map that this server has shown before
                _map(page)
            maps = []
            for _ in range(settings.capped(MAPS)):
                with _tab(browser, url) as page:
                    maps.append(_map(page))
            spreads[f"map_{large}_s"] = spread(maps, 1e-3, 2)
        browser.close()
    return {**{name: found["median"] for name, found in spreads.items()}, "spread": spreads}


def chromium() -> str:
    """Raises InputError when there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise InputError("This benchmark needs a browser: install Chromium.")


@contextmanager
def _served(folder: Path, world: common.World) -> Iterator[tuple[str, Space]]:
    """The address of a page on a memory in a folder, and that memory as another program has it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from mam.web.desk import Desk
    from mam.web.serve import launch

    desk = Desk(lambda user, memory: Space(Store(folder, user), world.engine), base=world.base.id)
    blocks = launch(desk, None, quiet=True)
    try:
        with world.open(folder) as space:
            yield blocks.local_url, space
    finally:
        blocks.close()


@contextmanager
def _tab(browser, url: str) -> Iterator:
    """A page in a profile of its own: nothing is cached but what the server keeps."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#status .status:not(.loading)")
    yield page
    context.close()


def _told(space: Space) -> list[str]:
    """A conversation in which something is told, one in which it is asked, and other memories; ids of the turns."""
    for text in TOLD:
        space.session("Monday").send(text, max_tokens=common.MAX_TOKENS)
    turns = [space.session("Tuesday").send(text, max_tokens=common.MAX_TOKENS).id for text in ASKED]
    for number in range(SMALL - space.count()):
        space.add(f"Note {number}: the book with number {number} stands on shelf {number % 17}.")
    return turns


def _opened(browser, url: str) -> float:
    """Milliseconds from the request to a page that says what is loaded and takes a message."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url, wait_until="commit")
    ready = "document.querySelector('#status .status:not(.loading)') && document.querySelector('#text textarea')"
    page.wait_for_function(f"() => {ready}?.disabled === false", polling="raf")
    taken = page.evaluate("performance.now()")  # since the navigation began
    context.close()
    return taken


def _changes(browser, url: str, times: int) -> dict:
    """Edits and deletes in the table, until the table shows them."""
    edits, deletes = [], []
    with _tab(browser, url) as page:
        page.get_by_role("tab", name="Memory").click()
        page.wait_for_selector("tr[data-slot]")
        for number in range(times):
            row = page.locator("tr[data-slot]").first
            slot = row.get_attribute("data-slot")
            row.get_by_role("button", name="Edit").click()
            row.locator("textarea").fill(f"Changed {number}.")
            row.get_by_role("button", name="Save").evaluate("button => button.id = 'save-now'")
            shown = f"document.querySelector('tr[data-slot=\"{slot}\"] .text')?.textContent.trim()"
            edits.append(page.evaluate(CLICK, ["#save-now", f"{shown} === 'Changed {number}.'"]))
            row.get_by_role("button", name="Delete").evaluate("button => button.id = 'delete-now'")
            gone = f"!document.querySelector('tr[data-slot=\"{slot}\"]')"
            deletes.append(page.evaluate(CLICK, ["#delete-now", gone]))
            page.wait_for_timeout(300)
    return {"edit_ms": spread(edits, digits=0), "delete_ms": spread(deletes, digits=0)}


def _inspector(browser, url: str, turns: list[str], times: int) -> dict:
    """From a reply's quiet line to the words beside it, and on to the figures of the inspector's own tab."""
    words, parts, heat = [], [], []
    for _ in range(times):
        with _tab(browser, url) as page:
            page.locator("#sessions li", has_text="Tuesday").locator("button").first.click()
            page.wait_for_selector("#said .exchange")
            page.wait_for_selector("#last .bar")
            page.wait_for_timeout(500)
            line = f'#said button[data-turn="{turns[0]}"]'
            shown = f"document.querySelector('#last .bar')?.textContent.includes({TOLD[0]!r})"
            words.append(page.evaluate(CLICK, [line, shown]))
            parts.append(page.evaluate(CLICK, ["#whole", _drawn("parts")]))
            heat.append(parts[-1] + page.evaluate(CLICK, ["body", _drawn("heat")]))
    return {
        "inspector_beside_ms": spread(words, digits=0),
        "inspector_ms": spread(parts, digits=0),
        "heat_map_ms": spread(heat, digits=0),
    }


def _map(page) -> float:
    page.get_by_role("tab", name="Map").evaluate("tab => tab.id = 'map-now'")
    return page.evaluate(CLICK, ["#map-now", _drawn("map-plot")])


def _drawn(place: str) -> str:
    return f"document.querySelector('#{place} .plot')?.dataset.listens"
