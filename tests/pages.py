"""What tests of the page in a real browser share; its fixtures are in conftest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["NO_PROXY"] = "127.0.0.1,localhost"

from playwright.sync_api import Browser, Page, expect, sync_playwright

from mam.bench.page import ARGUMENTS, chromium
from mam.engine import Engine
from mam.space import Space
from mam.store import Store, new_id
from mam.values import Slot
from mam.web.desk import Desk
from mam.web.serve import launch

expect.set_options(timeout=20_000)  # a machine with two cores that does something else, too
ANN, BOB = (SimpleNamespace(username=name, session_hash="one") for name in ("ann", "bob"))  # requests
DOG = "My dog is called Rex."
CAT = "My cat is called Tom."
ODD = 'My cat is <img src="http://198.51.100.1/x.png" onerror="window.hacked=1"> ${1+1} {{value}} `tick` ![p](http://198.51.100.1/y)'


def started() -> Iterator[Browser]:
    with sync_playwright() as playwright:  # fails where there is no browser: these tests are never skipped
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


def running(folder: Path, engine: Engine) -> Iterator[SimpleNamespace]:
    """A running page of Ann's; its `space` is the same memory from outside, as another program has it."""
    desk = Desk(lambda user, memory: Space(Store(folder, user), engine), "ann", "tiny-base")
    blocks = launch(desk, None, quiet=True)
    space = Space(Store(folder, "ann"), engine)
    yield SimpleNamespace(url=blocks.local_url, space=space, desk=desk)
    blocks.close()
    space.close()


def tabs(served: SimpleNamespace, browser: Browser, name: str) -> Iterator:
    """A function that opens the page; afterwards no request may have gone elsewhere, and no script have failed."""
    opened, requests, errors = [], [], []

    def open_tab(**how) -> Page:
        page = browser.new_page(**how)
        page.set_default_timeout(20_000)
        page.on("request", lambda r: requests.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(served.url)
        expect(page.locator("#status .status:not(.loading)")).to_be_visible()
        opened.append(page)
        return page

    yield open_tab
    folder = os.environ.get("MAM_SCREENSHOTS")
    for number, page in enumerate(opened):
        if folder:
            page.screenshot(path=Path(folder) / f"{name}-{number}.png")
        page.close()
    assert errors == []
    assert [url for url in requests if not url.startswith((served.url, "data:", "blob:"))] == []


def say(page: Page, text: str) -> None:
    page.locator("#text textarea").fill(text)
    page.locator("#send").click()
    expect(page.locator("#said .exchange").last.locator(".you")).to_contain_text(text[:20])
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#send")).to_be_visible()


def open_memory(page: Page) -> None:
    page.get_by_role("tab", name="Memory").click()


def row(page: Page, text: str):
    return page.locator("tr[data-slot]", has_text=text)


def opened(page: Page, text: str):
    """The page of a memory."""
    row(page, text).locator("button.text").click()
    sheet = page.locator("#slot-page .sheet")
    expect(sheet.locator(".whole")).to_have_text(text)
    return sheet


def sent(act: str, *slots: str, **fields) -> SimpleNamespace:
    """An event as the page's scripts send it."""
    return SimpleNamespace(act=act, slots=list(slots), **fields)


def a_slot(text: str, **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": datetime.now(UTC)} | fields)


def left_of(text: str, *folders: Path) -> list[Path]:
    """Files that hold the text."""
    found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in found if text.encode() in file.read_bytes()]
