"""The documents of packs on a map: a region with marks of their own, apart from slots by shape and by colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from scipy.spatial import ConvexHull, QhullError

from mam.figures.style import PURPLE, cut, plain
from mam.packs.places import Place

SHAPES = ("triangle-up", "triangle-down", "triangle-left", "triangle-right", "hexagon", "pentagon")
NAMED, SHOWN = 24, 90  # characters of a name, and of a question
INSIDE = 0.9  # share of a pack's questions that its region is drawn around: some always lie far off
PICK = "pack/"  # what the customdata of such a mark begins with: "pack/NAME/REFLECTION"


def with_packs(figure: go.Figure, places: Sequence[Place], dark: bool = False) -> go.Figure:
    """The same figure with a mark for each question, above a region for each pack.

    The shape of a mark says of which document it is, the last one of all others.
    """
    documents: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        documents.setdefault((place.pack, place.document), []).append(place)
    named = list(documents.items())[: len(SHAPES) if len(documents) <= len(SHAPES) else len(SHAPES) - 1]
    rest = [place for key, own in list(documents.items())[len(named) :] for place in own]
    groups = [(f"{cut(document, NAMED)} in {cut(pack, NAMED)}", own) for (pack, document), own in named]
    groups += [(f"{len(documents) - len(named)} other documents", rest)] if rest else []
    for shape, (name, own) in zip(SHAPES, groups, strict=False):
        space = len(own[0].at) == 3
        kind = go.Scatter3d if space else go.Scatter
        figure.add_trace(
            kind(
                **dict(zip("xyz", zip(*(place.at for place in own), strict=True), strict=False)),
                mode="markers", name=f"{name} ({len(own):,})", meta="questions",
                marker={"symbol": "cross" if space else shape, "size": 4 if space else 8, "color": PURPLE[dark],
                        "opacity": 0.75},
                customdata=[f"{PICK}{place.pack}/{place.reflection.id}" for place in own],
                text=[_said(place) for place in own], hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    above = len(figure.data)
    for pack in dict.fromkeys(place.pack for place in places):
        if region := _region(pack, [place.at for place in places if place.pack == pack], dark):
            figure.add_trace(region)
    figure.data = (*figure.data[above:], *figure.data[:above])  # a region is behind what lies in it
    return figure


def _region(pack: str, at: Sequence[tuple[float, ...]], dark: bool) -> go.Scatter | go.Mesh3d | None:
    """The convex hull of most of a pack's questions; None where they are too few, or lie in a line."""
    found = np.array(at)
    off = np.linalg.norm(found - np.median(found, axis=0), axis=1)
    found = found[np.argsort(off, kind="stable")[: round(INSIDE * len(found))]]
    try:
        hull = ConvexHull(found)
    except (QhullError, ValueError):
        return None
    how = {"name": f"{INSIDE:.0%} of {cut(pack, NAMED)}", "meta": "region", "hoverinfo": "skip", "showlegend": True}
    if found.shape[1] == 3:
        corners = dict(zip("xyzijk", (*found.T, *hull.simplices.T), strict=True))
        return go.Mesh3d(**corners, color=PURPLE[dark], opacity=0.1, **how)
    ring = found[[*hull.vertices, hull.vertices[0]]]
    return go.Scatter(
        x=ring[:, 0], y=ring[:, 1], mode="lines", line={"color": PURPLE[dark], "width": 1, "dash": "dot"},
        fill="toself", fillcolor=f"rgba{(*hex_to_rgb(PURPLE[dark]), 0.08)}", **how,
    )  # fmt: skip


def _said(place: Place) -> str:
    asked, answer = cut(place.reflection.question, SHOWN), cut(place.reflection.answer, SHOWN)
    return f"{asked}<br><b>{answer}</b><br><i>in weights: {plain(place.document)}, pack {plain(place.pack)}</i>"
