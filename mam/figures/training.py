"""Figures of a training run: what it loses on what it learns from, and what it gets right on what it has never seen."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mam.figures.style import QUIET, plain, styled

HEIGHT, SMOOTH = 320, 10  # pixels; steps of the running mean
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito 2008
HIDDEN = ("score", "step", "loss")  # of a validation: not shares


def learning(curves: dict[str, list[tuple[int, float]]], dark: bool = False, *, held_out: bool = True) -> go.Figure:
    """Left: training losses, nats, with their running mean. Right: shares right on held-out examples, 0..1; or, where
    none are held out, on some of those it learns from.

    curves: (step, value) by "split figure", as `mam.train.background.curves` reads them.
    """
    right = "right on what it has never seen" if held_out else "right on questions that it learns from"
    figure = make_subplots(1, 2, subplot_titles=("loss on what it learns from", right))
    losses = {name[6:]: points for name, points in curves.items() if name.startswith("train ")}
    shares = {name[4:]: p for name, p in curves.items() if name.startswith("val ") and name[4:] not in HIDDEN}
    for (name, points), colour in zip(losses.items(), COLOURS, strict=False):
        steps, values = zip(*points, strict=True)
        mean = np.convolve(np.pad(values, (min(SMOOTH, len(values)) - 1, 0), "edge"), _window(len(values)), "valid")
        shown = {"x": steps, "legendgroup": name, "name": plain(name), "mode": "lines", "row": 1, "col": 1}
        figure.add_scatter(**shown, y=values, line={"color": colour, "width": 1}, opacity=0.3, showlegend=False)
        figure.add_scatter(**shown, y=mean, line={"color": colour, "width": 2})
    for (name, points), colour in zip(shares.items(), COLOURS[len(losses) :], strict=False):
        steps, values = zip(*points, strict=True)
        shown = {"x": steps, "name": plain(name), "mode": "lines+markers", "legend": "legend2", "row": 1, "col": 2}
        figure.add_scatter(**shown, y=values, line={"color": colour, "dash": "dot"})
    last = max((points[-1][0] for points in curves.values()), default=1)
    figure.update_xaxes(title={"text": "step", "font": {"color": QUIET[dark]}}, range=[0, last * 1.04])
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=2)
    below = {"orientation": "h", "y": -0.25}
    figure.update_layout(legend=below, legend2=below | {"x": 0.55})
    return styled(figure, HEIGHT, dark)


def _window(count: int) -> np.ndarray:
    size = min(SMOOTH, count)
    return np.full(size, 1 / size)
