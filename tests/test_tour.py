"""The app with the real weights: the guided tour as a person takes it, restarts, several people at once.

The tour is taken in light and in dark, and each view is photographed.

The pictures lie in assets/screens, for the README and for whoever changes the page: look at them.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

import mam
from mam.web.desk import Desk
from mam.web.serve import launch
from mam.web.tour import STEPS

SCREENS = Path(__file__).parent.parent / "assets" / "screens"
WIDE, TABLET = {"width": 1280, "height": 860}, {"width": 820, "height": 1180}
GREEN, RED = "I bought a new bicycle, it is dark green.", "I bought a new bicycle, it is cherry red."
SLOW = 240_000  # ms; what trains or compiles


@pytest.fixture(scope="module")
def real_weights() -> Iterator[None]:
    """As the app runs: in the precision of this machine, with the shipped memory model."""
    before = os.environ.pop("MAM_DTYPE", None)
    yield
    if before is not None:
        os.environ["MAM_DTYPE"] = before


@contextmanager
def page_of(folder: Path, browser: Browser, scheme: str) -> Iterator[Page]:
    """The app on an empty folder; afterwards nothing may have gone elsewhere, and no script have failed."""
    desk = Desk(lambda user, memory: mam.open(folder, user=user, memory=memory), folder=str(folder))
    blocks = launch(desk, None, quiet=True)
    context = browser.new_context(viewport=WIDE, color_scheme=scheme, reduced_motion="reduce")
    page, requests, errors = context.new_page(), [], []
    page.set_default_timeout(30_000)
    page.on("request", lambda r: requests.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(blocks.local_url)
    expect(page.locator("#status .status:not(.loading)")).to_be_visible(timeout=SLOW)
    yield page
    context.close()
    blocks.close()
    assert errors == []
    assert [url for url in requests if not url.startswith((blocks.local_url, "data:", "blob:"))] == []


def photograph(page: Page, view: str, scheme: str) -> None:
    """Into assets/screens, with few colours: a page has no more."""
    page.wait_for_timeout(400)  # until what slides in has arrived
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    assert len(shot.getcolors(1 << 22)) > 50, f"{view} is blank"
    SCREENS.mkdir(exist_ok=True)
    shot.quantize(192, dither=Image.Dither.NONE).save(SCREENS / f"{view}-{scheme}.png", optimize=True)


def fits(page: Page) -> None:
    """Nothing sticks out at the side."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def show(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def step(page: Page, number: int) -> None:
    """Go on to this step, counted from one."""
    page.locator("#tour-next").click()
    expect(page.locator("#tour-words")).to_contain_text(f"{number} of {len(STEPS)}")


def send(page: Page) -> str:
    """What is ready in the box; the reply."""
    before = page.locator("#said .below").count()
    page.locator("#send").click()
    expect(page.locator("#said .below")).to_have_count(before + 1, timeout=SLOW)
    expect(page.locator("#send")).to_be_visible()
    return page.locator("#said .it").last.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tour_shows_what_it_says(tmp_path, browser, real_weights, scheme):
    with page_of(tmp_path, browser, scheme) as page:
        page.locator("#tour-start").click()
        expect(page.locator("#tour-words")).to_contain_text("1 of", timeout=SLOW)
        expect(page.locator("#sessions li")).to_have_count(4)
        send(page)
        expect(page.locator("#last .written")).to_contain_text("dark green")
        step(page, 2)
        assert "green" in send(page)
        expect(page.locator("#last .bar").first).to_contain_text("dark green")
        photograph(page, "chat", scheme)
        fits(page)
        step(page, 3)
        expect(page.locator("#heat .hm image")).to_have_count(2)
        photograph(page, "inside", scheme)
        fits(page)
        step(page, 4)
        expect(page.locator("#was .tokens button").first).to_be_visible()
        page.locator("#kept label", has_text="dark green").locator("input").uncheck()
        expect(page.locator("#now .tokens")).to_be_visible()
        expect(page.locator("#now .tokens")).not_to_contain_text("green")
        photograph(page, "whatif", scheme)
        fits(page)
        step(page, 5)
        row = page.locator("tr[data-slot]", has_text="dark green")
        expect(row).to_be_visible()
        photograph(page, "memory", scheme)
        fits(page)
        row.locator("button.text").click()
        expect(page.locator("#slot-page .sheet .whole")).to_contain_text("dark green")
        photograph(page, "slot", scheme)
        page.keyboard.press("Escape")
        expect(page.locator("#slot-page .sheet")).to_be_hidden()
        row.get_by_role("button", name="Edit").click()
        page.locator("tr[data-slot] textarea").fill(RED)
        page.get_by_role("button", name="Save").click()
        expect(page.locator("tr[data-slot]", has_text="cherry red")).to_be_visible()
        step(page, 6)
        reply = send(page)
        assert "red" in reply and "green" not in reply
        show(page, "Memory")
        row = page.locator("tr[data-slot]", has_text="cherry red")
        click(row.get_by_role("button", name="Delete"), row)
        show(page, "Conversation")
        page.locator("#text textarea").fill(STEPS[5].say)
        reply = send(page)
        assert "red" not in reply and "green" not in reply
        expect(page.locator("#said .below").last).to_contain_text("not in memory")
        step(page, 7)
        page.locator("#compare").click()
        expect(page.locator("#cards .card .cost")).to_have_count(5, timeout=SLOW)
        expect(page.locator("#cards .card.own")).to_contain_text("Ragnhild")
        photograph(page, "compare", scheme)
        fits(page)
        step(page, 8)
        expect(page.locator("#pack-list")).to_contain_text("There are no packs yet")
        expect(page.locator("#pack-make").get_by_role("button", name="Prepare")).to_be_visible()
        fits(page)
        photograph(page, "packs", scheme)
        fits(page)
        show(page, "Map")
        expect(page.locator("#map-plot .scatterlayer .points path.point").first).to_be_visible(timeout=SLOW)
        expect(page.locator("#map-note .waiting")).to_have_count(0, timeout=SLOW)
        photograph(page, "map", scheme)
        fits(page)
        show(page, "Timeline")
        expect(page.locator("#time-plot .point").first).to_be_visible()
        expect(page.locator("#time-table")).to_contain_text("Tromsø")
        photograph(page, "timeline", scheme)
        fits(page)
        show(page, "Train")
        page.locator("#train-start").click()
        expect(page.locator("#curves .scatterlayer .trace").first).to_be_visible(timeout=SLOW)
        page.locator("#train-stop").click()
        expect(page.locator("#train-keep")).to_be_visible(timeout=SLOW)
        photograph(page, "train", scheme)
        fits(page)
        page.locator("#train-discard").click()
        expect(page.locator("#train-keep")).to_be_hidden()
        for name in ("Memory", "Map", "Timeline", "Conversation"):
            page.set_viewport_size(WIDE)
            show(page, name)
            page.set_viewport_size(TABLET)
            fits(page)
        photograph(page, "tablet", scheme)
        page.set_viewport_size(WIDE)
        page.locator("#tour-leave").click()
        expect(page.locator("#tour-words h4")).to_have_count(0)
        expect(page.locator("#sessions li")).to_have_count(0)


def click(button: Locator, gone: Locator) -> None:
    """Click until `gone` is: what is drawn anew between press and release gets no click, from a person neither."""
    for _ in range(3):
        button.click()
        try:
            expect(gone).to_have_count(0, timeout=10_000)
            return
        except AssertionError:
            continue
    expect(gone).to_have_count(0)


@contextmanager
def app_on(folder: Path) -> Iterator[str]:
    """The app in its own process, as its command starts it; its address. Killed afterwards, as by a power cut."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = Path(__file__).parent.parent
    command = [sys.executable, "app.py", "--no-browser", "--path", str(folder), "--port", port]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as app:
        try:
            line = app.stdout.readline()
            assert f"127.0.0.1:{port}" in line, line
            yield f"http://127.0.0.1:{port}"
        finally:
            app.kill()


def test_told_asked_edited_and_deleted_across_restarts_of_the_app(tmp_path, browser, real_weights):
    page = browser.new_context(viewport=WIDE).new_page()
    page.set_default_timeout(30_000)

    def ask(text: str) -> str:
        if page.locator("#said .exchange").count():
            click(page.locator("#new"), page.locator("#said .exchange"))
        page.locator("#text textarea").fill(text)
        return send(page)

    def change(button: str) -> None:
        show(page, "Memory")
        page.locator("tr[data-slot]", has_text="parrot").get_by_role("button", name=button).click()

    with app_on(tmp_path) as url:
        page.goto(url)
        expect(page.locator("#status .status:not(.loading)")).to_be_visible(timeout=SLOW)
        ask("My parrot is called Kiwi.")
        page.reload()
        expect(page.locator("#sessions li")).to_contain_text("My parrot")
    with app_on(tmp_path) as url:
        page.goto(url)
        expect(page.locator("#status .status:not(.loading)")).to_be_visible(timeout=SLOW)
        assert "Kiwi" in ask("What is my parrot called?")
        change("Edit")
        page.locator("tr[data-slot] textarea").fill("My parrot is called Mango.")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("tr[data-slot]")).to_contain_text("Mango")
        show(page, "Conversation")
        reply = ask("What is my parrot called?")
        assert "Mango" in reply and "Kiwi" not in reply
        change("Delete")
        expect(page.locator("tr[data-slot]")).to_have_count(0)
    with app_on(tmp_path) as url:
        page.goto(url)
        expect(page.locator("#status .status:not(.loading)")).to_be_visible(timeout=SLOW)
        assert ask("What is my parrot called?").endswith("You haven't told me that.")
    page.context.close()


def test_several_people_in_browsers_of_their_own(tmp_path, browser, real_weights):
    """Each logs in, tells something, and asks; nobody gets what another one told."""
    from mam.accounts import Accounts, set_password

    file = tmp_path / "people"
    people = SimpleNamespace(ann=("Pepper", "horse"), bob=("Quince", "parrot"), cleo=("Marbles", "tortoise"))
    for name in vars(people):
        set_password(file, name, "a long password")
    desk = Desk(lambda user, memory: mam.open(tmp_path / "data", user=user), folder=str(tmp_path / "data"))
    blocks = launch(desk, None, quiet=True, accounts=Accounts(file))
    pages = {}
    for name in vars(people):
        page = pages[name] = browser.new_context(viewport=WIDE).new_page()
        page.goto(blocks.local_url)
        page.get_by_label("username").fill(name)
        page.get_by_label("password").fill("a long password")
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#status .status:not(.loading)")).to_be_visible(timeout=SLOW)
    for said in ("My {1} is called {0}.", "What is my {1} called?"):
        for name, page in pages.items():  # all send before the first has its reply
            click(page.locator("#new"), page.locator("#said .exchange"))
            page.locator("#text textarea").fill(said.format(*getattr(people, name)))
            page.locator("#send").click()
        for page in pages.values():
            expect(page.locator("#said .below").last).to_be_visible(timeout=SLOW)
    for name, page in pages.items():
        assert getattr(people, name)[0] in page.locator("#said .it").last.inner_text()
        show(page, "Memory")
        expect(page.locator("#slots .text")).to_have_count(1)
        expect(page.locator("#slots .text")).to_contain_text(getattr(people, name)[0])
        page.context.close()
    blocks.close()
