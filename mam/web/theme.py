"""Colours and type of the page, for light and dark. Rules of its own are in assets/style.css.

System fonts only: a web font would be a request to somebody else's machine.
"""

from __future__ import annotations

import gradio as gr

SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]

# (light, dark)
PAPER = ("#fbfaf7", "#17181a")
SHEET = ("#ffffff", "#1e2022")
WASH = ("#f3f1ec", "#26282b")
LINE = ("#e4e0d8", "#33363a")
INK = ("#1d1e20", "#e9e7e2")
QUIET = ("#5f5b54", "#aaa69d")
ACCENT = ("#0f6b66", "#5fc4ba")
ON_ACCENT = ("#ffffff", "#10201f")


def theme() -> gr.themes.Base:
    colours = {
        "body_background_fill": PAPER,
        "background_fill_primary": SHEET,
        "background_fill_secondary": WASH,
        "block_background_fill": SHEET,
        "block_border_color": LINE,
        "border_color_primary": LINE,
        "border_color_accent": ACCENT,
        "color_accent_soft": WASH,
        "body_text_color": INK,
        "body_text_color_subdued": QUIET,
        "block_label_text_color": QUIET,
        "block_title_text_color": QUIET,
        "input_background_fill": SHEET,
        "input_border_color": LINE,
        "input_border_color_focus": ACCENT,
        "input_placeholder_color": QUIET,
        "button_primary_background_fill": ACCENT,
        "button_primary_background_fill_hover": ACCENT,
        "button_primary_text_color": ON_ACCENT,
        "button_secondary_background_fill": SHEET,
        "button_secondary_background_fill_hover": WASH,
        "button_secondary_border_color": LINE,
        "button_secondary_text_color": INK,
    }
    sizes = {"block_shadow": "none", "input_shadow": "none", "button_primary_shadow": "none", "block_radius": "10px"}
    base = gr.themes.Base(font=SANS, font_mono=MONO, radius_size="md", text_size="md", spacing_size="md")
    base = base.set(color_accent=ACCENT[0], link_text_color=ACCENT[0], link_text_color_dark=ACCENT[1], **sizes)
    return base.set(
        **{name: light for name, (light, _) in colours.items()},
        **{f"{name}_dark": dark for name, (_, dark) in colours.items()},
    )
