"""Figures of what a memory did in a turn: heat map of the reply, parts of the scores, times of the stages."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mam.attribution import Attribution
from mam.figures.style import BLUE, BOTTOM, INK, ORANGE, QUIET, SHEET, TOP, cut, plain, styled
from mam.values import SAYS_WHO, Read, Turn

PARTS = {"meaning": "#0072b2", "words": "#e69f00", "recency": "#009e73", "speaker": "#cc79a7"}
LEGIBLE = 48  # tokens that have room for a name; of more, the hover says which they are
LABEL = 46  # characters of a slot beside its row
ROW = 26  # pixels


def heat_map(turn: Turn, looked: Attribution, mattered: np.ndarray, dark: bool = False) -> go.Figure:
    """What of the memory was retrieved, what was given, and what influenced each token of the reply.

    One row for every slot that was weighed. Bars: read weights, filled where the slot was given to the base. Left map:
    share of each token's attention on the slot, 0..1. Right map: how differently the token would have been said
    without the slot, KL divergence in nats; `mattered` is (tokens, given slots), as `Space.influence` returns it.
    """
    given = {slot.id: column for column, slot in enumerate(looked.slots)}
    reads = list(reversed(turn.reads))  # Plotly counts rows from below
    labels = [row_label(read) for read in reads]
    ids = [read.slot.id for read in reads]
    tokens = [plain(token.replace("\n", "⏎")) or "∅" for token in looked.tokens]

    def rows(values: np.ndarray) -> np.ndarray:
        blank = np.full(len(tokens), np.nan)
        return np.stack([values[:, given[id]] if id in given else blank for id in ids]) if ids else np.zeros((0, 0))

    titles = ("retrieved: read weight", "given: share of attention", "influenced: nats without it")
    figure = make_subplots(1, 3, shared_yaxes=True, column_widths=[0.16, 0.42, 0.42], subplot_titles=titles)
    blue, orange = BLUE[dark], ORANGE[dark]
    fills = [blue if read.slot.id in given else "rgba(0,0,0,0)" for read in reads]
    figure.add_bar(
        x=[read.weight for read in reads], y=labels, orientation="h", customdata=ids, row=1, col=1,
        marker={"color": fills, "line": {"color": blue, "width": 1.2}}, showlegend=False,
        hovertemplate="%{y}<br>read weight %{x:.3f}<extra></extra>",
    )  # fmt: skip
    legible = len(tokens) <= LEGIBLE
    maps = ((2, looked.attention, blue, "attention %{z:.3f}"), (3, mattered, orange, "%{z:.2f} nats"))
    for column, values, colour, says in maps:
        figure.add_heatmap(
            z=rows(values), x=list(range(len(tokens))), y=labels, customdata=[[id] * len(tokens) for id in ids],
            text=[tokens] * len(ids), colorscale=[[0, SHEET[dark]], [1, colour]], zmin=0, showscale=False,
            xgap=int(legible), ygap=1, row=1, col=column,
            hovertemplate="%{y}<br>“%{text}”<br>" + says + "<extra></extra>",
        )  # fmt: skip
        shown = list(range(len(tokens))) if legible else []
        figure.update_xaxes(tickvals=shown, ticktext=[tokens[i] for i in shown], tickangle=-60, row=1, col=column)
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], row=1, col=1)
    return styled(figure, max(len(reads), 2) * ROW + TOP + BOTTOM + 40, dark)


def score_parts(turn: Turn, dark: bool = False) -> go.Figure:
    """Why a slot was read: the addends of the first look's score, log-odds, and what the second look made of them."""
    reads = list(reversed(turn.reads))
    labels = [row_label(read) for read in reads]
    figure = go.Figure()
    for name, colour in PARTS.items():
        figure.add_bar(
            x=[read.parts.get(name, 0.0) for read in reads], y=labels, orientation="h", name=name, marker_color=colour,
            customdata=[read.slot.id for read in reads], hovertemplate=f"{name} %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    second = [read.parts.get("second look", read.parts.get(SAYS_WHO)) for read in reads]
    figure.add_scatter(
        x=second, y=labels, mode="markers", name="second look", customdata=[read.slot.id for read in reads],
        marker={"symbol": "diamond", "size": 10, "color": INK[dark]},
        hovertemplate="second look: log-odds %{x:.2f} that it helps to answer<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": QUIET[dark], "width": 1, "dash": "dot"})
    figure.update_layout(barmode="relative", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    figure.update_xaxes(title="log-odds")
    return styled(figure, max(len(reads), 2) * ROW + TOP + BOTTOM + 24, dark)


def stages(turn: Turn, dark: bool = False) -> go.Figure:
    """Where the turn's time went: milliseconds of every stage, in the order in which they ran."""
    laps = [(name, 1000 * seconds) for name, seconds in turn.timing.items() if name != "total"]
    names, spent = [plain(name) for name, _ in laps], [ms for _, ms in laps]
    figure = go.Figure()
    figure.add_bar(
        x=spent, y=names, base=[sum(spent[:i]) for i in range(len(spent))], orientation="h", marker_color=BLUE[dark],
        text=[f"{ms:,.0f} ms" for ms in spent], textposition="outside", cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f} ms<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="milliseconds since the message was sent", range=[0, 1.15 * sum(spent) or 1])
    return styled(figure, max(len(laps), 2) * ROW + TOP + BOTTOM, dark)


def row_label(read: Read) -> str:
    """A slot as the name of its row; the end of its id keeps slots of equal text apart, unseen."""
    return f'{cut(read.slot.text, LABEL)}<span style="font-size:0">{plain(read.slot.id)}</span>'
