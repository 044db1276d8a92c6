"""The page of one memory, and files in and out, in a real browser."""

from __future__ import annotations

import base64
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from pages import ANN, CAT, DOG, left_of, open_memory, opened, row, say, sent
from playwright.sync_api import expect

from mam import exchange
from mam.errors import ConflictError, InputError
from mam.values import Slot, Turn
from mam.web import slot
from mam.web.files import Files
from mam.web.here import INSIDE
from mam.web.slot import SlotPage
from mam.web.work import followed

# -- the page of a memory --------------------------------------------------------------------------------------------


def test_the_page_of_a_memory_tells_where_it_comes_from_and_what_became_of_it(served, tab):
    m = served.space
    page = tab()
    say(page, f"Hello! {DOG}")
    say(page, "What is my dog called?")
    say(page, "Actually my dog is called Max.")
    new = m.find("Max").slots[0]
    m.edit(new.id, "Actually my dog is called Maximilian.")
    open_memory(page)
    sheet = opened(page, "Actually my dog is called Maximilian.")
    expect(sheet.locator("mark")).to_have_text("Actually my dog is called Max.")
    expect(sheet.locator(".turn-said")).to_have_count(2)
    expect(sheet.locator(".history del")).to_have_text("Max.")
    expect(sheet.locator(".history ins")).to_have_text("Maximilian.")
    sheet.get_by_role("button", name=DOG, exact=True).first.click()  # what it replaced
    expect(sheet.locator(".whole")).to_have_text(DOG)
    expect(sheet.locator("header .state")).to_have_text("replaced")
    expect(sheet).to_contain_text("It was replaced by")
    expect(sheet.locator("section", has_text="Read in")).to_contain_text("What is my dog called?")
    sheet.get_by_role("button", name="Show which words").click()
    expect(page.locator("#words .shaded").first).to_be_visible()
    sheet.get_by_role("button", name="look inside this turn").click()
    expect(page.get_by_role("tab", name="Inside a turn")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#heading .you")).to_have_text(f"Hello! {DOG}")
    expect(page.locator("#slot-page .sheet")).to_have_count(0)


def test_the_page_of_a_memory_follows_changes_in_every_tab(served, tab):
    slot = served.space.add(DOG)
    here, there = tab(), tab()
    for page in (here, there):
        open_memory(page)
        opened(page, DOG)
    sheet = here.locator("#slot-page .sheet")
    sheet.get_by_role("button", name="Edit").click()
    sheet.locator("textarea").fill("My dog is called Max.")
    sheet.get_by_role("button", name="Save").click()
    for page in (here, there):
        expect(page.locator("#slot-page .whole")).to_have_text("My dog is called Max.")
        expect(page.locator("#slots .text")).to_have_text("My dog is called Max.")
    here.locator("#slot-page").get_by_role("button", name="Put away").click()
    expect(there.locator("#slot-page header .state")).to_have_text("put away")
    expect(there.locator("tr[data-slot]")).to_have_count(0)
    served.space.purge(slot.id)
    expect(there.locator("#slot-page")).to_contain_text("not here any more")
    there.keyboard.press("Escape")
    expect(there.locator("#slot-page .sheet")).to_have_count(0)


def test_a_draft_on_the_page_of_a_memory_survives(served, tab):
    slot = served.space.add(DOG)
    page = tab()
    open_memory(page)
    sheet = opened(page, DOG)
    sheet.get_by_role("button", name="Edit").click()
    sheet.locator("textarea").fill("A draft.")
    served.space.edit(slot.id, "Changed by another program.")
    expect(page.locator("#slots .text")).to_have_text("Changed by another program.")
    expect(sheet.locator("textarea")).to_have_value("A draft.")
    sheet.get_by_role("button", name="Save").click()
    expect(page.locator(".toast-body")).to_contain_text("changed elsewhere")


def test_where_a_sentence_stands_is_found_when_its_message_was_changed(m):
    slot = Slot("i", DOG, DOG, "user", datetime.now(UTC), span=(7, 7 + len(DOG)), turn="t")
    turn = Turn("t", "s", f"Hello! {DOG} Bye.", "", datetime.now(UTC))
    assert f"Hello! <mark>{DOG}</mark> Bye." in memory_source(turn, slot)
    assert f"[purged] <mark>{DOG}</mark>" in memory_source(replace(turn, text=f"[purged] {DOG}"), slot)
    assert "<mark>" not in memory_source(replace(turn, text="[purged]"), slot)


def memory_source(turn: Turn, of: Slot) -> str:
    return slot._conversation([turn], of)


def test_differences_are_word_by_word():
    assert slot.difference("a b c", "a x c d") == "a <del>b</del> <ins>x</ins> c <ins>d</ins>"
    assert slot.difference("<b>", "<i>") == "<del>&lt;b&gt;</del> <ins>&lt;i&gt;</ins>"


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_come_in_and_nothing_of_them_is_left(served, tab, tmp_path):
    def leftovers() -> list[Path]:
        places = [Path(get_upload_folder()), *Path(tempfile.gettempdir()).glob("mam-import-*")]
        return left_of("Zanzibar", *places, tmp_path / "data" / "uploads")

    (tmp_path / "trip.txt").write_text("I flew to Zanzibar in May.", encoding="utf-8")
    lines = ['{"role": "user", "content": "My dog is called Rex."}', "not a message"]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = tab()
    open_memory(page)
    page.locator('#files input[type="file"]').set_input_files(tmp_path / "trip.txt")
    expect(page.locator("#report")).to_contain_text("trip.txt: 1 new memory")
    page.locator("#report .close").click()
    sheet = opened(page, "I flew to Zanzibar in May.")
    expect(sheet).to_contain_text("trip.txt, line 1")
    page.keyboard.press("Escape")
    page.locator('#files input[type="file"]').set_input_files(tmp_path / "chat.jsonl")
    expect(page.locator("#report")).to_contain_text("message 2: not a message")
    expect(row(page, DOG)).to_have_count(1)
    page.locator("#report .close").click()
    (tmp_path / "photo.png").write_bytes(b"x")
    page.locator('#files input[type="file"]').set_input_files(tmp_path / "photo.png")
    expect(page.locator(".toast-body").last).to_contain_text("of no kind that can be imported")
    assert leftovers() == [] and list(Path(tempfile.gettempdir()).glob("mam-import-*")) == []
    served.space.purge(served.space.find("Zanzibar").slots[0].id)
    assert left_of("Zanzibar", tmp_path / "data") == leftovers() == []


def test_an_export_goes_to_whoever_asks_and_into_no_cache(served, tab, tmp_path, open_space):
    served.space.add(DOG)
    served.space.session("Monday").send(CAT, max_tokens=2)
    page = tab()
    open_memory(page)
    for what, number in (("ordinary", 2), ("complete", 2)):
        page.get_by_role("button", name="Export").click()
        page.locator("dialog select").select_option(what)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the file").click()
        assert download.value.suggested_filename.startswith("mam-ann-")
        download.value.save_as(tmp_path / f"{what}.jsonl")
        assert len(exchange.load(tmp_path / f"{what}.jsonl").slots) == number
    assert len(open_space("bob").import_(tmp_path / "complete.jsonl")) == 2
    assert left_of("Rex", Path(get_upload_folder())) == []


def test_an_upload_is_checked(desk, tmp_path):
    view = Files(desk)

    def upload(name: str, content: bytes | str):
        data = content if isinstance(content, str) else base64.b64encode(content).decode()
        return list(view.act(sent("import", name=name, data=data), ANN))[-1][1]

    assert "zoo.txt: 1 new memory" in upload("../../../zoo.txt", b"The zoo opens at nine.")
    assert desk.space(ANN).slots()[0].document == "zoo.txt"
    for name, content, said in (
        ("x.exe", b"x", "no kind"), ("", b"x", "no kind"), ("x.txt", "%%%", "did not arrive whole"),
        ("x.txt", b"\xff\xfe\x00", "x.txt is not UTF-8"), ("x.json", b"{}", "x.json is neither"),
        ("x.pdf", b"%PDF-", "x.pdf is no PDF"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said) as error:
            upload(name, content)
        assert "mam-import-" not in str(error.value)
    assert list(Path(tempfile.gettempdir()).glob("mam-import-*")) == []


def test_work_is_followed_and_its_errors_are_raised():
    def work(told):
        told("counting", 1, 2)
        time.sleep(0.4)
        return 7

    def fails(told):
        raise ConflictError("changed elsewhere")

    steps, result = [], []

    def run(work):
        result.append((yield from followed(work, lambda bar: bar)))

    steps = list(run(work))
    assert result == [7] and "Counting 1 of 2" in steps[-1] and "width:50.0%" in steps[-1]
    with pytest.raises(ConflictError):
        list(run(fails))


def test_a_turn_is_opened_in_the_inspector(desk):
    m = desk.space(ANN)
    turn = m.session("Monday").send(DOG, max_tokens=2)
    *_, opened, looked, tabs, now = SlotPage(desk).act(sent("turn", turn=turn.id), m.slots()[0].id, ANN)
    assert opened is None and looked == turn.id and tabs.selected == now == INSIDE
