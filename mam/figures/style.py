"""What all figures share: colours that tell apart for all kinds of colour vision, and the look of the page.

Stored text is untrusted, and Plotly takes markup: every string of a figure goes through `plain`.
"""

from __future__ import annotations

import html

import plotly.graph_objects as go

# (light, dark); blue, orange and green keep apart for all kinds of colour vision (Okabe and Ito 2008)
INK, QUIET = ("#1d1e20", "#e9e7e2"), ("#6b675f", "#9c988f")
SHEET, LINE = ("#ffffff", "#1e2022"), ("#e4e0d8", "#33363a")
BLUE, ORANGE = ("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00")
GREEN, PURPLE = ("#009e73", "#2fc79c"), ("#aa4f84", "#cc79a7")
GROUPS = (
    ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
    ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"),
)  # as many groups as colours keep apart; all others share a grey
TOP, BOTTOM = 40, 44  # pixels around the axes


def plain(text: str) -> str:
    """Text that Plotly shows as it is: no markup, no control characters."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return html.escape(text, quote=False)


def shortened(text: str, length: int) -> str:
    """The beginning of a text as one line, at most `length` characters; not escaped."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def cut(text: str, length: int) -> str:
    """The same, as `plain`."""
    return plain(shortened(text, length))


def styled(figure: go.Figure, height: int, dark: bool) -> go.Figure:
    """The page's look: its own background shows through, quiet axes, no furniture."""
    figure.update_layout(
        height=height, margin={"l": 8, "r": 12, "t": TOP, "b": BOTTOM}, bargap=0.35,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hoverlabel={"bgcolor": SHEET[dark]},
        font={"family": "ui-sans-serif, system-ui, sans-serif", "size": 12, "color": INK[dark]},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": QUIET[dark], "activecolor": INK[dark]},
    )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": QUIET[dark]})
    figure.update_xaxes(gridcolor=LINE[dark], zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor="rgba(0,0,0,0)", zeroline=False, automargin=True)
    return figure
