"""The memory view in a real browser: finding, changing, purging, files in and out, and the page of one memory."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gradio.utils import get_upload_folder
from pages import ANN, BOB, CAT, DOG, ODD, a_slot, left_of, open_memory, opened, row, say, sent
from playwright.sync_api import Page, expect

from mam.errors import InputError
from mam.space import Space
from mam.store import Store
from mam.values import Certificate, Check, Found, Merged, Read, Searched, Session, Slot, Turn, Version
from mam.web import changes, files, memory, report, slot
from mam.web.desk import Desk
from mam.web.files import Files
from mam.web.here import MEMORY
from mam.web.memory import BLANK, FIRST, ROWS, Memory
from mam.web.slot import SlotPage


def looking(**changes) -> list:
    """What the table looks for."""
    names = ("shown", "query", "by", "order", "tag", "origin", "session", "pinned")
    return list((dict(zip(names, FIRST, strict=True)) | changes).values())


def pressed(table: Memory, event, who) -> tuple:
    """What a button of the table returns."""
    return table.act(event, who, 0, BLANK, MEMORY, *looking())


def choose(page: Page, label: str, choice: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=re.compile(choice)).click()


# -- the table -----------------------------------------------------------------------------------------------------


def test_edit_delete_restore_act_at_once_and_in_every_tab(served, tab):
    slot = served.space.add(DOG)
    here, there = tab(), tab()
    open_memory(here)
    open_memory(there)
    row = here.locator("tr[data-slot]")
    row.get_by_role("button", name="Edit").click()
    row.locator("textarea").fill("My dog is called Max.")
    row.get_by_role("button", name="Save").click()
    expect(here.locator("#slots .text")).to_have_text("My dog is called Max.")
    expect(there.locator("#slots .text")).to_have_text("My dog is called Max.")
    assert served.space.slot(slot.id).text == "My dog is called Max."
    there.get_by_role("button", name="Delete").click()
    for page in (there, here):
        expect(page.locator("tr[data-slot]")).to_have_count(0)
    here.locator("#tools label", has_text="Trash").click()
    here.get_by_role("button", name="Restore").click()
    expect(there.locator("#slots .text")).to_have_text("My dog is called Max.")


def test_what_is_pressed_on_one_memory_is_not_released_on_another_that_moved_there(served, tab):
    kept, gone = served.space.add(DOG), served.space.add(CAT)
    page = tab()
    open_memory(page)
    first = page.locator("tr[data-slot]").first
    expect(first).to_contain_text(CAT)
    first.get_by_role("button", name="Delete").hover()
    page.mouse.down()
    served.space.delete(gone.id)  # elsewhere: now the other one stands under the pointer
    expect(first).to_contain_text(DOG)
    page.mouse.up()
    served.space.restore(gone.id)
    expect(first).to_contain_text(CAT)
    assert served.space.slot(kept.id).state == "active"
    first.get_by_role("button", name="Delete").click()
    expect(first).to_contain_text(DOG)
    assert served.space.slot(gone.id).state == "deleted"


def test_a_memory_drawn_anew_between_press_and_release_keeps_the_click(served, tab):
    slot = served.space.add(DOG)
    page = tab()
    open_memory(page)
    row = page.locator("tr[data-slot]")
    row.get_by_role("button", name="Delete").hover()
    page.mouse.down()
    served.space.tag(slot.id, "pet")  # elsewhere: the row is drawn anew
    expect(row).to_contain_text("pet")
    page.evaluate("document.querySelector('td.actions').innerHTML += ''")  # and with buttons of its own
    page.mouse.up()
    expect(row).to_have_count(0)
    assert served.space.slot(slot.id).state == "deleted"


def test_search_narrows_the_table(served, tab):
    for text in (DOG, "My cat is called Tom."):
        served.space.add(text)
    page = tab()
    open_memory(page)
    expect(page.locator("tr[data-slot]")).to_have_count(2)
    page.locator("#find input, #find textarea").fill("CAT")
    expect(page.locator("#slots .text")).to_have_text(["My cat is called Tom."])


def test_a_draft_survives_changes_elsewhere_and_a_conflict_is_told(served, tab):
    slot = served.space.add(DOG)
    page = tab()
    open_memory(page)
    page.get_by_role("button", name="Edit").click()
    page.locator("#slots textarea").fill("A draft.")
    served.space.edit(slot.id, "Changed by another program.")
    served.space.add("My cat is called Tom.")
    expect(page.locator("tr[data-slot]")).to_have_count(2)
    expect(page.locator("#slots textarea")).to_have_value("A draft.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast-body")).to_contain_text("changed elsewhere")
    assert served.space.slot(slot.id).text == "Changed by another program."
    expect(page.locator("#slots .text").last).to_have_text("Changed by another program.")  # beside the draft
    expect(page.locator("#slots textarea")).to_have_value("A draft.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#slots textarea")).to_have_count(0)
    assert served.space.slot(slot.id).text == "A draft."


def test_filters_order_and_clear(served, tab):
    m = served.space
    for text in (DOG, CAT, "Ada is my aunt."):
        m.add(text)
    m.tag(m.find("cat").slots[0].id, "pets")
    m.pin(m.find("cat").slots[0].id)
    m.add("Ida likes tea.", speaker="Ida")
    page = tab()
    open_memory(page)
    choose(page, "Order", "A to Z")
    expect(page.locator("#slots .text")).to_have_text(["Ada is my aunt.", "Ida likes tea.", CAT, DOG])
    choose(page, "Tag", "pets")
    expect(page.locator("#slots .text")).to_have_text([CAT])
    page.locator("#clear").click()
    expect(page.locator("#slots .text")).to_have_count(4)
    choose(page, "Told by, or document", "Ida")
    expect(page.locator("#slots .text")).to_have_text(["Ida likes tea."])
    page.locator("#clear").click()
    page.get_by_label("Pinned only").check()
    expect(page.locator("#slots .text")).to_have_text([CAT])
    page.get_by_label("Pinned only").uncheck()
    choose(page, "How to search", "by meaning")
    page.locator("#find input, #find textarea").fill("What is my dog called?")
    expect(page.locator("#slots .text").first).to_have_text(DOG)
    expect(page.locator("#slots .summary")).to_contain_text("Best first")
    page.locator("#find input, #find textarea").fill("")
    choose(page, "How to search", "by words")
    page.locator("#find input, #find textarea").fill("horse")
    expect(page.locator("#slots .blank")).to_contain_text("Nothing matches")


def test_a_filter_by_conversation_and_by_id(desk):
    m, view = desk.space(ANN), Memory(desk)
    turn = m.session("Monday").send(DOG, max_tokens=2)
    m.add(CAT)
    shown, *_ = view.table(0, BLANK, MEMORY, *looking(session=turn.session), ANN)
    assert DOG in shown and CAT not in shown
    id = m.find("cat").slots[0].id
    shown, *_ = view.table(0, BLANK, MEMORY, *looking(query=id[:6], by="id"), ANN)
    assert CAT in shown and DOG not in shown
    assert view.table(0, BLANK, "talk", *looking(), ANN)[0] == {"__type__": "update"}  # nobody looks: nothing is done
    for wrong in (looking(shown="x"), looking(order="x")):
        with pytest.raises(InputError):
            view.table(0, BLANK, MEMORY, *wrong, ANN)


def test_pages_of_many(served, tab):
    m = served.space
    with m.writing():
        m.store.add_slots([a_slot(f"Number {n}.") for n in range(2 * ROWS + 3)], np.zeros((2 * ROWS + 3, 64)), "rules")
    page = tab()
    open_memory(page)
    expect(page.locator("tr[data-slot]")).to_have_count(ROWS)
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.locator(".pager")).to_contain_text("51–100 of 103")
    page.get_by_role("button", name="Last", exact=True).click()
    expect(page.locator("tr[data-slot]")).to_have_count(3)
    m.delete(m.find(order="oldest", limit=1).slots[0].id)
    for found in m.find(order="oldest", limit=2).slots:
        m.delete(found.id)  # the last page is no more: the one before it is shown
    expect(page.locator(".pager")).to_contain_text("51–100 of 100")
    page.locator("#find input, #find textarea").fill("Number 7")
    expect(page.locator("#slots .summary")).to_contain_text("11 memories")
    expect(row(page, "Number 7.")).to_have_count(1)


def test_empty_tables_say_what_to_do_and_bounds_are_shown(served, tab):
    served.space.set_capacity(10)
    page = tab()
    open_memory(page)
    expect(page.locator("#slots .blank")).to_contain_text("Nothing is remembered yet")
    page.locator("#note textarea").fill(DOG)
    page.locator("#add").click()
    expect(page.locator("#slots .capacity")).to_contain_text("1 of at most 10")
    page.locator("#note textarea").fill("word " * 1000)
    page.locator("#add").click()
    expect(page.locator(".toast-body").last).to_contain_text("at most 2,000 characters")


# -- changing -------------------------------------------------------------------------------------------------------


def test_tags_and_pins_are_changed_in_place(served, tab):
    slot = served.space.add(DOG)
    page = tab()
    open_memory(page)
    row(page, DOG).get_by_role("button", name="Add a tag").click()
    page.locator("input.tagging").fill("pets")
    page.locator("input.tagging").press("Enter")
    expect(row(page, DOG).locator(".chip").first).to_contain_text("pets")
    row(page, DOG).get_by_role("button", name="Add a tag").click()
    page.locator("input.tagging").fill("old")
    served.space.tag(slot.id, "pets", "home")  # another tab's comes while one is typed: neither is lost
    expect(row(page, DOG).locator("span.chip")).to_have_count(2)
    expect(page.locator("input.tagging")).to_have_value("old")
    page.locator("input.tagging").press("Enter")
    expect(row(page, DOG).locator("span.chip")).to_have_count(3)
    row(page, DOG).get_by_role("button", name="Take away the tag pets").click()
    expect(row(page, DOG).locator("span.chip")).to_have_count(2)
    row(page, DOG).locator(".star").click()
    expect(row(page, DOG).locator(".star")).to_have_attribute("aria-pressed", "true")
    now = served.space.slot(slot.id)
    assert now.tags == ("home", "old") and now.pinned


def test_several_at_once_are_changed_merged_and_undone_together(served, tab):
    m = served.space
    for text in (DOG, "My dog Rex barks.", CAT):
        m.add(text)
    page = tab()
    open_memory(page)
    for text in (DOG, CAT):
        row(page, text).locator(".tick input").check()
    expect(page.locator(".bulk b")).to_have_text("2 chosen")
    page.locator('[data-bulk="delete"]').click()
    expect(page.locator("tr[data-slot]")).to_have_count(1)
    expect(page.locator(".bulk")).to_be_hidden()
    page.locator("#undo").click()
    expect(page.locator("#report .lines li")).to_have_count(2)
    expect(page.locator("#report")).to_contain_text("is remembered")
    expect(page.locator("tr[data-slot]")).to_have_count(3)
    page.keyboard.press("Escape")
    expect(page.locator("#report .sheet")).to_have_count(0)
    for text in (DOG, "My dog Rex barks."):
        row(page, text).locator(".tick input").check()
    page.locator('[data-bulk="merge"]').click()
    page.locator("dialog textarea").fill("My dog is called Rex and barks.")
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.locator("#slots .text")).to_have_text([CAT, "My dog is called Rex and barks."])
    page.locator("#report").get_by_role("button", name="Undo").click()
    expect(page.locator("tr[data-slot]")).to_have_count(3)
    page.locator("#report .close").click()
    page.locator("[data-all]").check()
    page.locator('[data-bulk="tag"]').click()
    page.locator("dialog input").fill("all")
    page.locator("dialog input").press("Enter")
    expect(page.locator("span.chip")).to_have_count(3)
    assert m.tags() == {"all": 3}


def test_duplicates_are_shown_before_they_are_merged(served, tab):
    for text in (DOG, CAT, "My dog is called: Rex."):
        served.space.add(text)
    page = tab()
    open_memory(page)
    page.locator("#duplicates").click()
    expect(page.locator("#report .group")).to_have_count(1)
    assert served.space.count() == 3
    page.locator("#report").get_by_role("button", name="Merge them").click()
    expect(page.locator("#report h2")).to_have_text("Merged")
    expect(page.locator("tr[data-slot]")).to_have_count(2)
    page.locator("#report .close").click()
    page.locator("#duplicates").click()
    expect(page.locator("#report")).to_contain_text("No two memories say the same")


def test_a_purge_is_confirmed_and_shows_its_certificate(served, tab, tmp_path):
    m = served.space
    page, other = tab(), tab()
    say(page, f"{DOG} I was born in Zanzibar.")
    other.locator("#sessions li button").first.click()
    expect(other.locator("#said .you")).to_contain_text("Zanzibar")
    m.export(tmp_path / "data" / "mine.jsonl", complete=True)
    open_memory(page)
    sheet = opened(page, "I was born in Zanzibar.")
    sheet.get_by_role("button", name="Purge").click()
    expect(page.locator("dialog")).to_contain_text("cannot be undone")
    page.get_by_role("button", name="Cancel").click()
    assert m.count() == 2
    sheet.get_by_role("button", name="Purge").click()
    page.get_by_role("button", name="Purge for good").click()
    expect(page.locator("#report h2")).to_have_text("Certificate of the purge")
    expect(page.locator("#report .check")).to_contain_text("Passed")
    expect(page.locator("#report .files")).to_contain_text("memory-ann.db")
    expect(page.locator("#slot-page .sheet")).to_have_count(0)
    expect(row(page, "Zanzibar")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as JSON").click()
    certificate = json.loads(Path(download.value.path()).read_text())
    assert certificate["slots"] and certificate["searched"][0]["sha256"] and len(certificate["checks"]) == 1
    assert left_of("Zanzibar", tmp_path, Path(get_upload_folder())) == []
    for each in (page, other):  # nor on any page
        expect(each.locator("#said .you")).to_contain_text("[purged]")
    assert "Zanzibar" not in page.content()


def test_a_conversation_and_everything_can_be_purged(served, tab, tmp_path):
    m = served.space
    m.session("Monday").send("I was born in Zanzibar.", max_tokens=2)
    m.session("Tuesday").send(DOG, max_tokens=2)
    page = tab()
    open_memory(page)
    page.locator("#files select").select_option(label="Monday")
    page.get_by_role("button", name="Purge it").click()
    page.get_by_role("button", name="Purge for good").click()
    expect(page.locator("#report")).to_contain_text("1 conversation")
    expect(page.locator("#slots .text")).to_have_text([DOG])
    assert [session.title for session in m.sessions()] == ["Tuesday"] and left_of("Zanzibar", tmp_path) == []
    page.locator("#report .close").click()
    page.get_by_role("button", name="Purge everything").click()
    sure = page.locator("dialog button.danger")
    expect(sure).to_be_disabled()
    page.locator("dialog input").fill("everything")
    expect(sure).to_be_disabled()
    page.locator("dialog input").fill("EVERYTHING")
    sure.click()
    expect(page.locator("#slots .blank")).to_be_visible()
    assert m.count(None) == 0 and m.sessions() == [] and left_of("Rex", tmp_path) == []


# -- what can be forged, and what could be markup --------------------------------------------------------------------


def test_what_other_memories_keep_saying_is_shown(m, monkeypatch):
    monkeypatch.setattr("mam.web.changes.gr.Info", lambda said: None)  # there is no page to show it on
    brother, lives = m.add("My brother is Tom."), m.add("My brother is Tom. He lives in <Oslo>.")
    act = {"version": "1", "text": "My brother is Tim."}
    shown = changes.changed(m, sent("edit", brother.id, **act))
    assert "He lives in &lt;Oslo&gt;." in shown and "Tim" not in shown
    assert changes.changed(m, sent("delete", brother.id)) == ""  # nobody else says Tim
    m.restore(brother.id)
    m.edit(brother.id, "My brother is Tom.")
    assert "He lives in" in changes.changed(m, sent("delete", brother.id))
    m.restore(brother.id)
    assert changes.changed(m, sent("delete", brother.id, lives.id)) == ""  # both are gone


def test_no_handler_reaches_what_is_another_users(desk):
    m = desk.space(ANN)
    slot, other = m.add(DOG), m.add(CAT)
    turn = m.session("Monday").send("What is my dog called?", max_tokens=2)
    table, page, inout = Memory(desk), SlotPage(desk), Files(desk)
    assert DOG in table.table(0, BLANK, MEMORY, *looking(), ANN)[0]
    everything = looking(shown="All", session=turn.session)
    assert "Nothing" in table.table(0, BLANK, MEMORY, *everything, BOB)[0]
    assert DOG in page.page(slot.id, ANN) and "not here any more" in page.page(slot.id, BOB)
    assert DOG not in page.page(slot.id, BOB)
    forged = {"text": "forged", "version": "1", "tag": "forged"}
    for act in ("edit", "delete", "restore", "archive", "pin", "unpin", "tag", "untag", "merge", "purge", "sell"):
        for handler in (lambda event: pressed(table, event, BOB), lambda event: page.act(event, slot.id, BOB)):
            with pytest.raises(InputError):
                handler(sent(act, slot.id, other.id, **forged))
    for refused in (
        lambda: pressed(table, sent("open", slot=slot.id), BOB),
        lambda: page.act(sent("open", slot=slot.id), None, BOB),
        lambda: page.act(sent("turn", turn=turn.id), None, BOB),
        lambda: list(page.words(sent("words"), slot.id, BOB)),
        lambda: list(inout.act(sent("purge-session", session=turn.session), BOB)),
        lambda: list(inout.act(sent("purge-everything", word="yes"), ANN)),
        lambda: list(inout.act(sent("sell"), ANN)),
        lambda: list(table.report(sent("sell"), ANN)),
        lambda: list(table.report(sent("undo"), BOB)),
        lambda: table.undo(BOB),
        lambda: pressed(table, sent("delete"), ANN),
        lambda: pressed(table, sent("delete", *map(str, range(2000))), ANN),
        lambda: pressed(table, SimpleNamespace(act="delete", slots=[["x"]]), ANN),
        lambda: pressed(table, SimpleNamespace(act="delete", slots=slot.id), ANN),
        lambda: pressed(table, SimpleNamespace(), ANN),
        lambda: pressed(table, sent("page", page="1"), ANN),
        lambda: pressed(table, sent("edit", slot.id, text="x", version="one"), ANN),
    ):
        with pytest.raises(InputError):
            refused()
    assert DOG not in list(inout.act(sent("export", what="complete"), BOB))[-1][2]
    list(inout.act(sent("purge-everything", word="EVERYTHING"), BOB))
    assert [list(table.duplicates(BOB))[-1].count('class="group"'), m.count(), len(m.sessions())] == [0, 2, 1]
    assert m.slot(slot.id) == slot and m.turn(turn.id).text == turn.text


def test_what_people_say_is_shown_as_it_is(served, tab):
    slot = served.space.add(ODD)
    served.space.tag(slot.id, "<b>&'\"", "${1+1}")
    served.space.edit(slot.id, ODD + " <script>window.hacked=1</script>")
    page = tab()
    open_memory(page)
    text = served.space.slot(slot.id).text
    expect(page.locator("#slots .text")).to_have_text(text)
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#slots textarea")).to_have_value(text)
    page.get_by_role("button", name="Cancel").click()
    sheet = opened(page, text)
    expect(sheet.locator("blockquote")).to_have_text(ODD)
    row(page, "My cat").locator(".tick input").check()
    page.locator('[data-bulk="purge"]').click()
    expect(page.locator("dialog li")).to_have_text(text)
    page.get_by_role("button", name="Cancel").click()
    page.locator("#undo").click()
    expect(page.locator("#report .text")).to_have_text(ODD)
    assert page.locator("#desk img, #slot-page img, #report img, dialog img").count() == 0
    assert page.evaluate("window.hacked") is None


def test_views_escape_whatever_they_show(m):
    bad, now = "<script>&\"'", datetime.now(UTC)
    this = Slot(
        bad, bad, bad + "x", bad, now, version=2, tags=(bad,), document=None, position=bad, when=bad, session=bad,
        turn=bad, span=(0, 3), superseded_by=bad, score=0.5,
    )  # fmt: skip
    turn = Turn(bad, bad, f"{bad}x {bad}", bad, now, reads=(Read(this, 0.5),))
    version = Version(bad, 1, bad, "active", bad, now)
    later = replace(version, text=bad + " y", tags=(bad,), state="deleted")
    certificate = Certificate(
        (bad,), 1, 1, 1, (bad,), (Searched(bad, 3, bad),), (bad,), now, (Check(bad, 0.5, 0.1, 0.0, False),)
    )
    shown = [
        memory.slots(Found((this,), 200), 1, bad, True, (1, 2)), report.certificate(certificate),
        report.listed(bad, bad, [this], lambda slot: bad), report.duplicates([Merged(this, (this,), 0.9)]),
        report.imported(bad, 1, [(1, bad)], "line"), files.panel([Session(bad, bad, now, 1)]),
        slot._conversation([turn, replace(turn, id="other")], this), slot._history([version, later]),
        slot._reads([(turn, turn.reads[0])], this), slot._alike([(this, 0.5)]), slot._link(this, bad),
        slot._facts(this), slot.tokens([(turn, [bad], np.array([0.5], dtype=np.float32))]),
        slot._quoted(bad, this), next(iter(report.working(bad)(part) for part in [""])),
    ]  # fmt: skip
    for number, html in enumerate(shown):
        assert "<script>" not in html and "&\"'" not in html, number


# -- a large memory --------------------------------------------------------------------------------------------------


def test_the_table_of_a_hundred_thousand_answers_in_time(tmp_path, engine):
    """Every look at it, without the browser: 300 ms are the limit of an action with everything."""
    store, draw = Store(tmp_path, "ann"), np.random.default_rng(0)
    words = np.array("moved works flew lives reads writes Oslo Rome Lima Cairo dog cat boat tea coffee".split())
    for part in range(10):
        new = []
        for number in range(10_000):
            text = f"Person {part}-{number} {' '.join(draw.choice(words, 6))}."
            tags = ("home",) if number % 10 == 0 else ()
            new.append(a_slot(text, tags=tags, reads=number % 50, pinned=number % 1000 == 0, score=number / 10_000))
        keys = draw.standard_normal((10_000, 64)).astype("f4")
        store.add_slots(new, keys / np.linalg.norm(keys, axis=1, keepdims=True), "rules")
    store.close()
    desk = Desk(lambda user, memory: Space(Store(tmp_path, user), engine), "ann")
    desk._load()
    view, page = Memory(desk), SlotPage(desk)
    m = desk.space(ANN)
    m.search("tea", "words")  # the words of a memory are read once, at the first search
    some = m.find(limit=1).slots[0]
    calls = {
        "filters": lambda: view.choices(MEMORY, "", "", "", ANN),
        "page of a memory": lambda: page.page(some.id, ANN),
        "delete and undo": lambda: (pressed(view, sent("delete", some.id), ANN), view.undo(ANN)),
    }
    for name, how in {
        "newest": {}, "oldest": {"order": "oldest"}, "most read": {"order": "most read"},
        "gate score": {"order": "gate score"}, "alphabetical": {"order": "alphabetical"}, "all": {"shown": "All"},
        "containing": {"query": "cairo"}, "rare": {"query": "person 7-4242"}, "words": {"query": "tea", "by": "words"},
        "meaning": {"query": "Who drinks tea?", "by": "reader"}, "id": {"query": some.id[:5], "by": "id"},
        "tag": {"tag": "home"}, "pinned": {"pinned": True}, "speaker": {"origin": "speaker:user"},
    }.items():  # fmt: skip
        calls[name] = lambda how=how: view.table(0, BLANK, MEMORY, *looking(**how), ANN)
    calls["last page"] = lambda: view.table(1999, BLANK, MEMORY, *looking(), ANN)
    calls["late page, A to Z"] = lambda: view.table(
        1500, tuple(looking(order="alphabetical")), MEMORY, *looking(order="alphabetical"), ANN
    )
    taken = {}
    for name, call in calls.items():
        times = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        taken[name] = round(1000 * sorted(times)[1])
    print(taken)
    assert {name: ms for name, ms in taken.items() if ms > 300} == {}, taken
