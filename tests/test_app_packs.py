"""Packs in a real browser: made, built in the background, asked, mounted, looked into, deleted and handed on."""

from __future__ import annotations

import re
import threading

import pytest
from packing import Template, built, echoing, lives, written
from pages import ODD, say
from playwright.sync_api import expect
from test_app_access import FAINT, NAMELESS

from mam.packs.values import Pair

QUESTION = "Anna lives in which?"


ENGINE, pytestmark = echoing, pytest.mark.usefixtures("quick_packs")


@pytest.fixture
def towns(served, tmp_path, tiny_folder):
    """A pack of two documents in two shards, built."""
    paths = written(tmp_path / "text", a=lives("Anna"), b=lives("Berta", "Emma"))
    return built(served.space, "towns", paths, base=str(tiny_folder), shard=1, epochs=60)


def open_packs(page, name: str | None = None):
    page.get_by_role("tab", name="Packs", exact=True).click()
    if name:
        page.locator(f'#pack-list button[data-pack="{name}"]').click()
        expect(page.locator("#pack-head h2")).to_have_text(name)


def opened_row(page, find: str, answer: str):
    """The first question that is found so and has this answer, with its sentences."""
    page.locator("#pack-find textarea, #pack-find input").first.fill(find)
    row = page.locator("#pack-rows tbody tr", has_text=answer).first
    row.locator("summary").click()
    return row


def test_a_pack_is_made_of_files_and_built_while_the_page_is_loaded_anew(served, tab, tmp_path, monkeypatch):
    gate, facts = threading.Event(), Template.facts
    monkeypatch.setattr(Template, "facts", lambda self, text: gate.wait(30) and facts(self, text))
    page = tab()
    open_packs(page)
    expect(page.locator("#pack-list")).to_contain_text("There are no packs yet")
    page.locator('#pack-make [name="name"]').fill("towns")
    page.get_by_role("tab", name="Memory", exact=True).click()
    open_packs(page)
    expect(page.locator('#pack-make [name="name"]')).to_have_value("towns")  # what was typed is still there
    files = written(tmp_path / "text", a=lives("Anna"), b=lives("Berta"))
    page.locator('#pack-make [name="files"]').set_input_files(files)
    page.locator("#pack-make summary").click()
    page.locator('#pack-make [name="shard"]').fill("1")
    page.locator('#pack-make [name="epochs"]').fill("60")
    page.get_by_role("button", name="Prepare").click()
    expect(page.locator("#pack-head .state")).to_have_text("not built yet")
    expect(page.locator("#pack-head")).to_contain_text("takes about 1 min")
    page.locator("#pack-head").get_by_role("button", name="Build").click()
    expect(page.locator("#pack-work")).to_contain_text("writing questions")
    page.reload()
    expect(page.locator("#status .status:not(.loading)")).to_be_visible()
    open_packs(page, "towns")
    expect(page.locator("#pack-head .state")).to_have_text("being built")
    page.locator("#pack-work").get_by_role("button", name="Pause").click()
    gate.set()
    expect(page.locator("#pack-work")).to_contain_text("Paused; nothing is lost")
    page.locator("#pack-head").get_by_role("button", name="Build").click()
    expect(page.locator("#pack-head .state")).to_have_text("ready")
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.locator("#pack-list")).to_contain_text("2 documents · ready")
    expect(page.locator("#pack-documents tbody tr")).to_have_count(2)
    expect(page.locator("#pack-curves .plot .scatterlayer").first).to_be_visible()
    assert served.space.open_pack("towns").ready


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_of_a_pack_has_a_name_and_every_text_is_readable(served, tab, towns, scheme):
    page = tab(color_scheme=scheme, reduced_motion="reduce")
    open_packs(page, "towns")
    page.locator("#pack-make summary").click()
    page.locator("#pack-question textarea, #pack-question input").first.fill(QUESTION)
    page.locator("#pack-go").click()
    expect(page.locator("#pack-cards .card").last.locator("small")).to_be_visible()
    for summary in (page.locator("#pack-cards summary").first, page.locator("#pack-rows summary").first):
        summary.click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    assert page.evaluate(NAMELESS) == [] and page.evaluate(FAINT) == []


def test_its_reflections_are_found_by_document_step_and_words(served, tab, towns):
    page = tab()
    open_packs(page, "towns")
    rows = page.locator("#pack-rows tbody tr")
    everything = len(towns.reflections())
    expect(page.locator("#pack-rows .summary")).to_have_text(f"{everything} questions")
    page.locator("#pack-find textarea, #pack-find input").first.fill("Anna lives")
    expect(rows.first).to_contain_text("Oslo")
    expect(rows.first).to_contain_text("read again, it says")
    rows.first.locator("summary").click()
    expect(rows.first.locator("details")).to_contain_text("Anna lives in Oslo.")
    page.locator("#pack-find textarea, #pack-find input").first.fill("")
    page.get_by_label("Document", exact=True).click()
    page.get_by_role("option", name="b.txt").click()
    expect(page.locator("#pack-rows .summary")).to_have_text(f"{len(towns.reflections(document='b.txt'))} questions")
    page.get_by_label("Step", exact=True).click()
    page.get_by_role("option", name="Without an answer").click()
    expect(rows.first).to_contain_text("taught to say so")


def test_it_is_asked_beside_the_slots(served, tab, towns):
    served.space.add("My dog is called Rex.")
    page = tab()
    open_packs(page, "towns")
    page.locator("#pack-question textarea, #pack-question input").first.fill(QUESTION)
    page.locator("#pack-go").click()
    cards = page.locator("#pack-cards .card")
    expect(cards.first).to_contain_text("Oslo")
    expect(cards.first).to_contain_text("shard 000 · 2 calls")
    expect(cards.last).to_contain_text("nothing read")
    cards.first.locator("summary").click()
    expect(cards.first.locator(".call")).to_have_count(2)
    expect(cards.first.locator(".calls")).to_contain_text("1 to the pack, 1 to the language model; 0 dead ends")
    page.locator("#pack-stages input").check()
    page.locator("#pack-go").click()
    cards.first.locator("summary").click()
    expect(cards.first.locator("h4").nth(1)).to_have_text("Taking the question apart")
    expect(cards.first.locator(".calls > .note")).to_contain_text("of at most 12")


def test_mounted_it_speaks_in_the_conversation_and_its_exchange_is_in_the_inspector(served, tab, towns):
    page = tab()
    say(page, "My dog is called Rex.")
    open_packs(page, "towns")
    page.get_by_role("button", name="Ask it in this conversation").click()
    expect(page.locator("#pack-list")).to_contain_text("asked in this conversation")
    page.get_by_role("tab", name="Conversation").click()
    expect(page.locator("#mounted")).to_contain_text("Also asked here: towns")
    say(page, QUESTION)
    expect(page.locator("#said .exchange").last.locator(".it")).to_contain_text("Oslo")
    expect(page.locator("#said .below").last).to_contain_text("from memory: 1 pack")
    expect(page.locator("#last")).to_contain_text("said by the pack towns")
    page.locator("#whole").click()
    asked = page.locator("#asked")
    expect(asked.locator(".call")).to_contain_text("shard 000")
    expect(asked.locator(".asked")).to_have_text(QUESTION)
    expect(asked).to_contain_text("Handed to the language model")
    page.get_by_role("tab", name="Conversation").click()
    page.get_by_role("button", name="Ask towns no more").click()
    expect(page.locator("#mounted .mounted")).to_have_count(0)
    say(page, QUESTION)
    expect(page.locator("#last")).not_to_contain_text("towns")
    page.locator("#said .below button").first.click()  # a turn before it was mounted
    expect(asked).to_be_hidden()


def test_a_document_and_a_sentence_are_deleted_with_certificates(served, tab, towns):
    before = {shard.id: shard.adapter for shard in towns.shards()}
    page = tab()
    open_packs(page, "towns")
    row = opened_row(page, "Emma lives", "Cairo")
    row.get_by_role("button", name="Delete this sentence").click()
    expect(page.locator("dialog")).to_contain_text("Emma lives in Cairo.")
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Show the certificate").click()
    expect(page.locator("#report")).to_contain_text("b.txt")
    expect(page.locator("#report")).to_contain_text(before["000"][:12])
    expect(page.locator("#report .check.passed").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as JSON").click()
    assert before["001"] in download.value.path().read_text()
    page.locator("#report .close").click()
    expect(page.locator("#pack-rows .summary")).to_have_text("0 questions")
    page.locator("#pack-documents tr", has_text="a.txt").get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#pack-documents tbody tr")).to_have_count(1)
    expect(page.locator("#pack-work")).to_contain_text("What was to go is gone")
    assert [[s.text for s in d.sentences] for d in towns.documents()] == [["Berta lives in Paris."]] and towns.ready


def test_a_sentence_is_edited_in_weights(served, tab, towns):
    page = tab()
    open_packs(page, "towns")
    row = opened_row(page, "Emma lives", "Cairo")
    row.get_by_role("button", name="Edit …").click()
    expect(page.locator("dialog textarea")).to_have_value("Emma lives in Cairo.")
    page.locator("dialog textarea").fill("Emma lives in <b>Lima</b>.")
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    row.get_by_role("button", name="Edit …").click()
    page.locator("dialog textarea").fill("Emma lives in Lima.")
    page.locator("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Show the certificate").click()
    expect(page.locator("#report")).to_contain_text("b.txt")
    page.locator("#report .close").click()
    expect(page.locator("#pack-rows tbody tr").first).to_contain_text("Lima")
    assert towns.recall("Emma lives in which?").text == "Lima"


def test_a_pack_goes_out_and_comes_in_again(served, tab, towns, tmp_path):
    page = tab()
    open_packs(page, "towns")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "towns.pack"
    download.value.save_as(tmp_path / "towns.pack")
    page.locator('#pack-make [name="pack"]').set_input_files(tmp_path / "towns.pack")
    page.locator('dialog [name="name"]').fill("again")
    page.get_by_role("button", name="Bring it in").click()
    expect(page.locator("#pack-head h2")).to_have_text("again")
    expect(page.locator("#pack-head .state")).to_have_text("ready")
    assert [s.adapter for s in served.space.open_pack("again").shards()] == [s.adapter for s in towns.shards()]
    page.get_by_role("button", name="Remove").click()
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#pack-list li")).to_have_count(1)
    (tmp_path / "bad.pack").write_bytes(b"no pack")
    page.locator('#pack-make [name="pack"]').set_input_files(tmp_path / "bad.pack")
    page.get_by_role("button", name="Bring it in").click()
    expect(page.locator(".toast-body").last).to_contain_text("bad.pack is no pack")
    expect(page.locator("#report .sheet")).to_have_count(0)


def test_on_the_map_what_is_in_weights_lies_apart(served, tab, towns):
    for text in ("My sister Anna lives in Oslo.", "My dog is called Rex.", "My boat is in Rome."):
        served.space.add(text)
    page = tab()
    page.get_by_role("tab", name="Map", exact=True).click()
    legend = page.locator("#map-plot .legend")
    expect(legend).to_contain_text("a.txt in towns")
    expect(page.locator("#map-note")).to_contain_text("what packs have learned")
    mark = (
        page.locator("#map-plot .scatterlayer .trace", has=page.locator("path.point")).last.locator("path.point").first
    )
    page.wait_for_timeout(500)  # it is drawn once more when the places are kept
    at = mark.bounding_box()
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    expect(page.locator("#map-card")).to_contain_text(re.compile("in weights", re.IGNORECASE))
    page.locator("#map-packs input").uncheck()
    expect(legend).not_to_contain_text("towns")


def test_nothing_of_a_document_is_taken_for_markup(served, tab, tmp_path, tiny_folder, monkeypatch):
    facts = Template.facts
    monkeypatch.setattr(Template, "facts", lambda self, text: [*facts(self, text), Pair(f"What is {ODD}?", ODD)])
    odd = tmp_path / "<b onclick=x>odd.txt"
    odd.write_text(f"Anna lives in Oslo.\n{ODD}\n", encoding="utf-8")
    served.space.pack("odd", odd, base=str(tiny_folder), epochs=3)
    served.space.add("My dog is called Rex.")
    page = tab()
    open_packs(page, "odd")
    expect(page.locator("#pack-rows tbody tr").first).to_be_visible()
    expect(page.locator("#pack-rows")).to_contain_text("What is My cat is <img")
    page.locator("#pack-question textarea, #pack-question input").first.fill(ODD)
    page.locator("#pack-go").click()
    expect(page.locator("#pack-cards .card").last.locator("small")).to_be_visible()
    page.get_by_role("button", name="Ask it in this conversation").click()
    page.get_by_role("tab", name="Conversation").click()
    say(page, ODD)
    page.locator("#whole").click()
    expect(page.locator("#asked .asked")).to_have_text(ODD)
    page.get_by_role("tab", name="Map", exact=True).click()
    expect(page.locator("#map-plot .legend")).to_contain_text("<b onclick=x>odd.txt")
    assert page.evaluate("window.hacked") is None
