"""For tests of the page in a real browser: a running page, and tabs in which nothing may go wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["NO_PROXY"] = "127.0.0.1,localhost"

from playwright.sync_api import Browser, Page, expect, sync_playwright

from mam.engine import Engine
from mam.space import Space
from mam.store import Store
from mam.web.desk import Desk
from mam.web.serve import launch

expect.set_options(timeout=20_000)  # a machine with two cores that does something else, too
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def serving(folder: Path, engine: Engine) -> Iterator[SimpleNamespace]:
    """A running page; `space` is the same memory from outside, as another program has it."""
    desk = Desk(lambda user, memory: Space(Store(folder, user), engine), "ann", "tiny-base")
    blocks = launch(desk, None, quiet=True)
    space = Space(Store(folder, "ann"), engine)
    yield SimpleNamespace(url=blocks.local_url, space=space, desk=desk)
    blocks.close()
    space.close()


@contextmanager
def browsing() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("these tests drive a real browser: install Chromium (apt-get install chromium) and run them again")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def tabs(browser: Browser, url: str, name: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a tab; afterwards no request may have gone anywhere else, and no script may have failed."""
    opened, requests, errors = [], [], []

    def open_tab(**how) -> Page:
        page = browser.new_page(**how)
        page.set_default_timeout(20_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
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
    assert [each for each in requests if not each.startswith((url, "data:", "blob:"))] == []
