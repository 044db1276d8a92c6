"""Every view without a mouse and without eyes: names of controls, contrast, and a walk by keyboard alone."""

from __future__ import annotations

import pytest
from pages import CAT, DOG
from playwright.sync_api import Page, expect

VIEWS = ("Conversation", "Inside a turn", "What if", "Compare", "Memory", "Packs", "Map", "Timeline", "Train")

# controls that are shown and say nothing to a screen reader
NAMELESS = """() => {
  const named = control => control.getAttribute('aria-label')?.trim() || control.title?.trim()
    || control.textContent.trim() || control.labels?.[0]?.textContent.trim()
    || (control.getAttribute('aria-labelledby') || '').split(' ')
      .some(id => document.getElementById(id)?.textContent.trim());
  return [...document.querySelectorAll('button, input, textarea, select, [role=button], [role=tab], [role=img]')]
    .filter(control => control.checkVisibility({visibilityProperty: true}) && control.type !== 'hidden')
    .filter(control => !control.closest('.modebar') && !named(control))
    .map(control => control.outerHTML.slice(0, 160));
}"""

# texts whose contrast with what lies behind them is below 4.5, or 3 where they are large (WCAG 2.2, 1.4.3)
FAINT = """() => {
  const parse = text => {
    const [r, g, b, a = 1] = (text.match(/-?[\\d.]+(e-?\\d+)?/g) || []).map(Number);
    const scale = text.startsWith('color(') ? 255 : 1;
    return [r * scale, g * scale, b * scale, a];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const light = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const stack = [];
    for (let at = element; at; at = at.parentElement) stack.push(parse(getComputedStyle(at).backgroundColor));
    return stack.reverse().reduce((below, colour) => over(colour, below), [255, 255, 255]);
  };
  const faint = [];
  for (const element of document.querySelectorAll('#desk *, #top *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element);
    if (!own || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (element.closest('svg, .unseen, [disabled], [aria-disabled=true]')) continue;
    const below = behind(element), colour = parse(style.color);
    let opacity = colour[3];
    for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const [one, other] = [light(over([...colour.slice(0, 3), opacity], below)), light(below)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const which = `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 40)}`;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${which}`);
  }
  return faint;
}"""

FOCUSED = "() => document.activeElement.id || document.activeElement.closest('[id]')?.id || ''"


@pytest.fixture
def told(served):
    """A memory in which there is something to see in every view."""
    for text in (DOG, CAT, "My sister Anna lives in Oslo."):
        served.space.add(text)
    chat = served.space.session("Monday")
    for text in ("What is my dog called?", "What is my horse called?", "My boat is called Tern."):
        chat.send(text, max_tokens=8)
    return served


def look(page: Page, view: str) -> None:
    page.get_by_role("tab", name=view, exact=True).click()
    expect(page.get_by_role("tab", name=view, exact=True)).to_have_attribute("aria-selected", "true")
    page.wait_for_timeout(700)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_is_readable(told, tab, scheme):
    page = tab(color_scheme=scheme, reduced_motion="reduce")
    page.locator("#sessions li button").first.click()
    expect(page.locator("#said .exchange")).to_have_count(3)
    nameless, faint = {}, {}
    for view in VIEWS:
        look(page, view)
        nameless[view], faint[view] = page.evaluate(NAMELESS), page.evaluate(FAINT)
    assert {view: found for view, found in nameless.items() if found} == {}
    assert {view: found for view, found in faint.items() if found} == {}


def test_a_conversation_and_a_change_without_a_mouse(told, tab):
    page = tab()

    def go(wanted: str, steps: int = 60) -> None:
        """Press Tab until this is focused; it must show that it is."""
        for _ in range(steps):
            if page.evaluate(f"() => document.activeElement.matches({wanted!r})"):
                outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                shadow = page.evaluate("() => getComputedStyle(document.activeElement).boxShadow")
                assert outline != "none" or shadow != "none", wanted
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{wanted} cannot be reached by keyboard; focus is on {page.evaluate(FOCUSED)}")

    expect(page.locator("#text textarea")).to_be_focused()
    page.keyboard.type("What is my dog called?")
    page.keyboard.press("Enter")
    expect(page.locator("#said .below").last).to_contain_text("from memory")
    go("#said .below button")
    page.keyboard.press("Enter")
    go("#whole")
    page.keyboard.press("Enter")
    expect(page.locator("#heading .you")).to_have_text("What is my dog called?")
    page.get_by_role("tab", name="Memory").focus()
    page.keyboard.press("Enter")
    expect(page.locator("tr[data-slot]").first).to_be_visible()
    go("#note textarea, #note input")
    page.keyboard.type("My hat is green.")
    page.keyboard.press("Enter")
    expect(page.locator("#slots .text").first).to_have_text("My hat is green.")
    go("tr[data-slot] button[data-act=edit]", 80)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("My hat is blue.")
    page.keyboard.press("Enter")
    expect(page.locator("#slots .text").first).to_have_text("My hat is blue.")
    go("tr[data-slot] button.text", 80)
    page.keyboard.press("Enter")
    expect(page.locator("#slot-page .sheet")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#slot-page .sheet")).to_be_hidden()
