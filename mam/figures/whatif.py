"""Figures of a turn with another memory: what could have come next, then and now."""

from __future__ import annotations

import plotly.graph_objects as go

from mam.ablation import Alternative
from mam.figures.style import BLUE, QUIET, plain, styled

ROW, AROUND = 34, 110  # pixels


def next_tokens(other: Alternative, at: int, dark: bool = False) -> go.Figure:
    """The likeliest tokens in the place of token `at` of the reply: probabilities as it was and with other memory."""
    choices = list(reversed(other.choices[at]))
    names = [f"“{plain(choice.token)}”" for choice in choices]
    figure = go.Figure()
    bars = (("what if", [c.now for c in choices], BLUE[dark]), ("as it was", [c.then for c in choices], QUIET[dark]))
    for name, chances, colour in bars:
        figure.add_bar(
            x=chances, y=list(range(len(names))), orientation="h", name=name, marker_color=colour, text=names,
            textposition="none", hovertemplate="%{text}: %{x:.1%} " + name + "<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names)
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    before = "".join(other.tokens[max(0, at - 6) : at])
    title = f"What could have come after “… {plain(before.strip())}”" if before.strip() else "How it could have begun"
    figure.update_layout(barmode="group", title={"text": title, "font": {"size": 13}})
    figure.update_layout(legend={"orientation": "h", "traceorder": "reversed", "x": 1, "xanchor": "right", "y": 1.15})
    return styled(figure, len(names) * ROW + AROUND, dark)
