"""The map and the timeline in a real browser: chosen, searched, drawn around, replayed; nothing leaves the machine."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import expect

from mam import atlas
from mam.errors import InputError
from mam.space import Space
from mam.store import Store
from mam.values import ACTIVE, DELETED, Slot
from mam.web import map as maps
from mam.web import timeline as timelines
from mam.web.desk import Desk
from mam.web.here import MAP, TIMELINE
from mam.web.map import Map
from mam.web.timeline import Timeline

DOG, MAX, ASK = "My dog is called Rex.", "My dog is actually called Max.", "What is my dog called?"
TEXTS = [f"My {thing} is in {place}." for thing in ("boat", "bike", "car") for place in ("Oslo", "Rome", "Bergen")]
ODD = 'My cat is <img src="http://198.51.100.1/x.png" onerror="window.hacked=1"> <b>bold</b> ${1+1} {{value}}'


@pytest.fixture(autouse=True)
def quick_maps(monkeypatch):
    """UMAP compiles for seconds; the views do not care who puts the points where."""
    monkeypatch.setattr(atlas, "umap", lambda keys, dimensions, start, **_: np.cbrt(atlas.pca(keys, dimensions)))


def show(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def points(page):
    return page.locator("#map-plot .scatterlayer .points path.point")


def search(page, text: str) -> None:
    page.locator("#map-find textarea, #map-find input").first.fill(text)


def draw_around_all(page) -> None:
    box = page.locator("#map-plot .nsewdrag").bounding_box()
    x, y, w, h = box["x"], box["y"], box["width"], box["height"]
    page.mouse.move(x + 2, y + 2)
    page.mouse.down()
    for right, down in ((1, 0), (1, 1), (0, 1), (0, 0.02)):
        page.mouse.move(x + 2 + right * (w - 4), y + 2 + down * (h - 4), steps=8)
    page.mouse.up()


def test_an_empty_map_and_timeline_say_what_to_do_and_fill_by_themselves(served, tab):
    page = tab()
    show(page, "Map")
    expect(page.locator("#map-note")).to_contain_text("The map is empty")
    served.space.add(DOG)
    expect(points(page).first).to_be_visible()
    expect(page.locator("#map-note")).to_contain_text("PCA of keys by cosine: n 1")
    show(page, "Timeline")
    expect(page.locator("#time-plot .point").first).to_be_visible()


def test_a_point_opens_its_memory_with_true_neighbours(served, tab):
    slots = [served.space.add(text) for text in [ODD, *TEXTS]]
    page = tab()
    show(page, "Map")
    expect(page.locator("#map-card")).to_contain_text("Choose a point")
    expect(points(page).nth(len(slots) - 1)).to_be_visible()
    at = points(page).first.bounding_box()
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    shown = page.locator("#map-card .card > .text")
    expect(shown).to_be_visible()
    chosen = next(slot for slot in slots if slot.text == shown.inner_text())
    near = served.space.neighbours(chosen.id, maps.NEIGHBOURS)[0][0]
    expect(page.locator("#map-card li .text").first).to_have_text(near.text)
    page.locator("#map-card li button").first.focus()
    page.keyboard.press("Enter")  # a neighbour, by keyboard
    expect(shown).to_have_text(near.text)
    served.space.edit(near.id, "My bike is in Paris.")
    expect(shown).to_have_text("My bike is in Paris.")
    expect(page.locator("#map-plot .legend")).to_contain_text("before an edit (1)")
    sheet = page.locator("#slot-page .sheet")  # its page, beside the map
    sheet.get_by_role("button", name="Edit").click()
    sheet.locator("textarea").fill("My bike is in Rome.")
    sheet.get_by_role("button", name="Save").click()
    expect(shown).to_have_text("My bike is in Rome.")
    assert served.space.slot(near.id).text == "My bike is in Rome."
    assert page.evaluate("window.hacked") is None


def test_a_search_finds_and_hides_nothing(served, tab):
    for text in [ODD, *TEXTS]:
        served.space.add(text)
    page = tab()
    show(page, "Map")
    expect(page.locator("#map-plot .legend")).to_contain_text("added by hand (10)")
    search(page, "oslo")
    expect(page.locator("#map-plot .legend")).to_contain_text("not found (7)")
    expect(page.locator("#map-found li")).to_have_count(3)
    expect(page.locator("#map-found h3")).to_have_text(re.compile("3 memories with “oslo”", re.IGNORECASE))
    page.locator("#map-found li button").first.click()
    expect(page.locator("#map-card .card > .text")).to_have_text("My car is in Oslo.")
    search(page, "<img")
    expect(page.locator("#map-found li .text")).to_have_text([ODD])
    search(page, "boat")
    page.locator("#map-by input").click()
    page.get_by_role("option", name="Likeness to the search").click()
    expect(page.locator("#map-plot .colorbar")).to_contain_text("Cosine")
    assert page.evaluate("window.hacked") is None


def test_points_drawn_around_are_tagged_and_deleted_together(served, tab):
    slots = [served.space.add(text) for text in TEXTS]
    page = tab()
    show(page, "Map")
    expect(points(page).nth(8)).to_be_visible()
    draw_around_all(page)
    expect(page.locator("#map-chosen li")).to_have_count(9)
    page.locator("#map-word textarea, #map-word input").first.fill("things")
    page.locator("#map-tag").click()
    expect(page.locator(".toast-body")).to_contain_text("Tagged 9 memories")
    assert {slot.tags for slot in served.space.slots()} == {("things",)}
    page.locator("#map-delete").click()
    expect(page.locator("#map-bulk")).to_be_hidden()
    assert served.space.count(ACTIVE) == 0 and served.space.count(DELETED) == len(slots)
    page.locator("#map-undo").click()
    expect(page.locator(".toast-body").last).to_contain_text("9 memories as before")  # one change
    assert served.space.count(ACTIVE) == len(slots)


def test_what_the_last_message_read_is_drawn_in(served, tab):
    served.space.add(DOG)
    for text in TEXTS:
        served.space.add(text)
    page = tab()
    page.locator("#text textarea").fill(ASK)
    page.locator("#send").click()
    expect(page.locator("#said .below")).to_contain_text("from memory")
    show(page, "Map")
    expect(page.locator("#map-plot .legend")).to_contain_text("the last message")
    expect(page.locator("#map-note")).to_contain_text("at the mean of the memories it read")


def test_a_sketch_first_then_the_full_map_by_itself(served, tab, monkeypatch):
    import threading

    ready, umap = threading.Event(), atlas.umap
    monkeypatch.setattr(atlas, "umap", lambda *given, **how: ready.wait(30) and umap(*given, **how))
    for number in range(20):
        served.space.add(f"My {number} boats are in {number * 7} harbours.")
    page = tab()
    show(page, "Map")
    expect(page.locator("#map-note")).to_contain_text("first sketch")
    expect(points(page).nth(19)).to_be_visible()
    ready.set()
    expect(page.locator("#map-note")).to_contain_text("UMAP of keys by cosine: n 20 · n_neighbors 15 · min_dist 0.1")
    served.space.add(DOG)
    expect(page.locator("#map-note")).to_contain_text("1 placed since")
    fitted = served.space.layout().fitted_at
    page.locator("#map-anew").click()
    expect(page.locator("#map-note")).to_contain_text("n 21")
    assert served.space.layout().fitted_at > fitted


def test_coordinates_are_saved_by_the_browser_itself(served, tab, tmp_path):
    slots = {slot.id: slot for slot in [served.space.add(text) for text in [ODD, '=1+1 says "hi", twice', *TEXTS]]}
    page = tab()
    show(page, "Map")
    expect(points(page).nth(10)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    download.value.save_as(tmp_path / "map.csv")
    import csv

    lines = list(csv.reader((tmp_path / "map.csv").open(encoding="utf-8", newline="")))
    layout = served.space.layout()
    assert lines[0] == ["id", "x", "y", "text"] and {line[0] for line in lines[1:]} == set(layout.ids) == set(slots)
    at = {id: where for id, where in zip(layout.ids, layout.coordinates, strict=True)}
    for id, x, y, text in lines[1:]:
        assert (float(x), float(y)) == pytest.approx(tuple(at[id]), abs=1e-3)
        assert not text.startswith("=") and slots[id].text[:30].lstrip("=") in text


def test_no_figure_offers_to_be_sent_away(served, tab):
    served.space.add(DOG)
    page = tab()
    show(page, "Map")
    page.locator("#map-plot .nsewdrag").hover()
    titles = page.locator("#map-plot .modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
    assert titles and not any(re.search("share|cloud|chart studio", title, re.IGNORECASE) for title in titles)


def told(space: Space) -> None:
    chat = space.session("Monday")
    for text in (DOG, MAX):
        chat.send(text, max_tokens=2)
    space.add("A boat lies in the harbour.")
    space.session("Friday").send(ASK, max_tokens=2)


def test_a_conversation_is_replayed_step_by_step(served, tab):
    told(served.space)
    page = tab()
    show(page, "Timeline")
    expect(page.locator("#time-did h3").first).to_have_text(re.compile("message 1 of 3", re.IGNORECASE))
    expect(page.locator("#time-table li .text")).to_have_text([DOG])
    expect(page.locator("#time-plot .point").first).to_be_visible()
    page.locator("#time-on").click()
    expect(page.locator("#time-did .card > .text")).to_have_text(MAX)
    expect(page.locator("#time-table li .text")).to_have_text([MAX])
    expect(page.locator("#time-did li")).to_have_count(2)  # kept, and what it replaced
    page.locator("#time-step input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#time-did")).to_contain_text("Just before, by hand")
    expect(page.locator("#time-did")).to_contain_text(f"read {MAX}")
    expect(page.locator("#time-map .point").first).to_be_visible()
    page.locator("#time-back").click()
    expect(page.locator("#time-table li .text")).to_have_text([MAX])
    page.locator("#time-which input").click()
    page.get_by_role("option", name="Friday").click()
    expect(page.locator("#time-did h3").first).to_have_text(re.compile("message 1 of 1", re.IGNORECASE))
    page.locator("#time-did").get_by_role("button", name="Look inside").click()
    expect(page.locator("#heading .you")).to_have_text(ASK)


def test_a_mark_leads_to_its_memory_and_a_triangle_to_its_turn(served, tab):
    told(served.space)
    page = tab()
    show(page, "Timeline")
    traces = page.locator("#time-plot .scatterlayer .trace")
    expect(traces.last).to_be_visible()
    kept = page.locator("#time-plot .scatterlayer .trace", has=page.locator(".point")).first.locator(".point").first
    kept.hover(force=True)
    at = kept.bounding_box()
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    expect(page.locator("#time-mark")).to_contain_text(DOG)
    show(page, "Map")
    expect(page.locator("#map-card .card > .text")).to_have_text(DOG)
    show(page, "Timeline")
    triangle = traces.last.locator(".point").nth(1)
    at = triangle.bounding_box()
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    expect(page.locator("#heading .you")).to_have_text(MAX)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_theme(served, tab, scheme):
    told(served.space)
    page = tab(color_scheme=scheme)
    for name, plot in (("Map", "#map-plot"), ("Timeline", "#time-plot")):
        show(page, name)
        legend = page.locator(f"{plot} .legendtext").first
        expect(legend).to_be_visible()
        red = int(re.findall(r"\d+", legend.evaluate("one => getComputedStyle(one).fill"))[0])
        assert red < 60 if scheme == "light" else red > 200


def test_users_only_see_and_change_what_is_theirs(tmp_path, engine):
    desk = Desk(lambda user, memory: Space(Store(tmp_path, user), engine), "ann")
    desk._load()
    ann, bob = (SimpleNamespace(username=name, session_hash="same") for name in ("ann", "bob"))
    told(desk.space(ann))
    slot, turn = desk.space(ann).slots()[0], desk.space(ann).timeline().steps[0].turn
    view, time = Map(desk), Timeline(desk)
    asked = (MAP, False, "Flat", "Kind", "dog", turn, True, slot.id)
    assert MAX in view.drawing(*asked, ann)[0] and MAX not in "".join(view.drawing(*asked, bob)[:3])
    assert slot.text in view.card(slot.id, None, MAP, ann) and slot.text not in view.card(slot.id, None, MAP, bob)
    session = desk.space(ann).sessions()[0].id
    assert slot.text not in "".join(time.replay(TIMELINE, session, False, 1, bob))
    assert view.chosen([slot.id], bob)[0].count("<li>") == 0
    for forged in (
        lambda: view.picked(SimpleNamespace(pick=slot.id), bob),
        lambda: view.picked(SimpleNamespace(lasso=[slot.id]), bob),
        lambda: view.picked(SimpleNamespace(lasso="all"), ann),
        lambda: view.picked(SimpleNamespace(lasso=[["a", {}]]), ann),
        lambda: view.pick(SimpleNamespace(pick=slot.id), bob),
        lambda: view.tag([slot.id], "forged", bob),
        lambda: view.delete([slot.id], bob),
        lambda: time.picked(SimpleNamespace(pick=slot.id, turn=""), bob),
        lambda: time.picked(SimpleNamespace(pick="", turn=turn), bob),
        lambda: time.look(SimpleNamespace(turn=turn), bob),
        lambda: time.look(SimpleNamespace(pick=slot.id), bob),
    ):
        with pytest.raises(InputError):
            forged()
    assert desk.space(ann).slot(slot.id) == slot


def test_views_escape_whatever_they_show(m):
    from dataclasses import replace
    from datetime import UTC, datetime

    bad, now = "<script>&\"'", datetime.now(UTC)
    slot = Slot(bad, bad, bad, bad, now, version=2, tags=(bad,), document=bad)
    layout = atlas.Layout((bad,), np.zeros((1, 2)), bad, {bad: bad}, now, failure=bad)
    shown = maps.card(slot, [(replace(slot, document=None), 0.5)], bad) + maps.findings([slot], bad)
    shown += maps.chosen([slot]) + maps.about(layout, [slot], None) + timelines.mark(slot, bad, bad)
    m.session(bad).send(f"My dog {bad} is called Rex.", max_tokens=2)
    found = m.timeline()
    happened = [replace(event, by=bad, turn=None, slot=bad) for event in found.happenings]
    shown += timelines.did(found, 0, bad, happened, {bad: slot})
    shown += timelines.table([slot], {bad: happened[0]})
    assert "<script>" not in shown and "&\"'" not in shown
