"""The map: every slot as a point, what is alike close together; coloured, searched, with what a turn read drawn in.

Shape says the state, so that it shows without colour, too. A search greys the others out and hides none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import plotly.graph_objects as go

from mam.atlas import Layout
from mam.figures.style import GROUPS, INK, LINE, ORANGE, QUIET, cut, plain, styled
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, USER, Slot, Turn

COLOURS = ("Conversation", "Kind", "State", "Age", "Gate score", "Times read", "Likeness to the search")
SHAPES = {ACTIVE: "circle", SUPERSEDED: "diamond-open", ARCHIVED: "square-open", DELETED: "x"}
STATES = {ACTIVE: "remembered", SUPERSEDED: "replaced", ARCHIVED: "put away", DELETED: "in the trash"}
BY_HAND = "added by hand"
AGES = {0: "today", 1: "1 day", 7: "1 week", 30: "1 month", 365: "1 year", 3650: "10 years"}
COUNTS = (0, 1, 3, 10, 30, 100, 300, 1000)
MANY = 1000  # points; from here on WebGL draws them
HEIGHT = 500  # pixels
SHOWN = 110  # characters of a slot beside the pointer
WRAP = 55  # characters in a line of that
NAMED = 26  # characters of a group's name


@dataclass(frozen=True)
class Shade:
    """What the colour of a slot says: the name of its group, or a number."""

    name: str
    groups: Mapping[str, str] = field(default_factory=dict)  # by slot id; empty when there are numbers
    numbers: Mapping[str, float] = field(default_factory=dict)  # by slot id; slots without one are grey
    ticks: Mapping[float, str] = field(default_factory=dict)  # what to write at the scale; empty: the numbers
    without: str = ""  # what it is about slots without a number


@dataclass(frozen=True)
class Question:
    """A message and the slots it read: drawn where their mean is, weighted by the read weights.

    The query's own vector would say what the message resembles in wording; the mean says what the memory made of it,
    second look included, and it is the place from which the lines to the slots are short.
    """

    text: str
    weights: Mapping[str, float]  # by id of a slot that was given to the base, 0..1


def shade(
    by: str,
    slots: Sequence[Slot],
    now: datetime,
    titles: Mapping[str, str] | None = None,
    likeness: Mapping[str, float] | None = None,
) -> Shade:
    """Colours for slots; `by` is one of COLOURS. titles: of sessions, by id; likeness: cosine with the search."""
    if by == "Conversation":
        titles = titles or {}
        return Shade(by, {slot.id: slot.document or titles.get(slot.session, BY_HAND) for slot in slots})
    if by == "State":
        return Shade(by, {slot.id: STATES[slot.state] for slot in slots})
    if by == "Age":
        ages = {slot.id: max((now - slot.told).total_seconds() / 86400, 0.0) for slot in slots}
        oldest = max(ages.values(), default=0.0)
        ticks = {math.log1p(days): name for days, name in AGES.items() if days <= oldest}
        return Shade("Told", {}, {id: math.log1p(days) for id, days in ages.items()}, ticks)
    if by == "Gate score":
        return Shade(by, {}, {slot.id: slot.score for slot in slots if slot.score is not None}, without=BY_HAND)
    if by == "Times read":
        most = max((slot.reads for slot in slots), default=0)
        ticks = {math.log1p(count): f"{count:,}×" for count in COUNTS if count <= most}
        return Shade(by, {}, {slot.id: math.log1p(slot.reads) for slot in slots}, ticks)
    if by == "Likeness to the search":
        return Shade("Cosine", {}, likeness or {}, without="not compared" if likeness else "nothing searched")
    return Shade(by, {slot.id: _kind(slot) for slot in slots})


def _kind(slot: Slot) -> str:
    """The first tag, else the document it stands in, else who said it."""
    if slot.tags:
        return f"#{slot.tags[0]}"
    return slot.document or ("said by you" if slot.speaker == USER else f"said by {slot.speaker}")


def question(turn: Turn) -> Question:
    """The message of a turn with what it read."""
    return Question(turn.text, {read.slot.id: read.weight for read in turn.reads if read.given})


def memory_map(
    layout: Layout,
    slots: Sequence[Slot],
    colours: Shade,
    dark: bool = False,
    *,
    matched: Collection[str] | None = None,
    asked: Question | None = None,
    chosen: str | None = None,
    rest: str = "not found",
    height: int = HEIGHT,
) -> go.Figure:
    """Those slots that the layout knows, at its coordinates; the customdata of a point is the id of its slot.

    matched: ids of what was searched for (None: nothing was); the others turn grey, and `rest` is what they are called.
    chosen: id of a ringed slot.
    A slot that was edited since the map was fitted leaves a dotted trail from where it was.
    """
    row = {id: number for number, id in enumerate(layout.ids)}
    points = _Points(layout.coordinates.round(4), row, len(slots), dark)
    known = [slot for slot in slots if slot.id in row]
    figure = go.Figure()
    wanted = known if matched is None else [slot for slot in known if slot.id in matched]
    if matched is not None:
        others = [slot for slot in known if slot.id not in matched]
        points.add(figure, others, f"{rest} ({len(others):,})", {"color": QUIET[dark], "opacity": 0.3})
    if colours.groups:
        _grouped(figure, points, wanted, colours)
    else:
        _numbered(figure, points, wanted, colours)
    _trails(figure, points, layout, known)
    if asked:
        _asked(figure, points, asked, {slot.id: slot for slot in known})
    ring = [row[chosen]] if chosen in row else []
    points.trace(
        figure, layout.coordinates[ring], mode="markers", name="chosen", meta="chosen", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": points.size + 9, "color": INK[dark], "line": {"width": 2}},
        showlegend=False,
    )  # fmt: skip
    return _framed(figure, layout.coordinates.shape[1], height, dark)


class _Points:
    """Traces of one kind: as SVG, in WebGL for many points, or in space."""

    def __init__(self, coordinates: np.ndarray, row: Mapping[str, int], count: int, dark: bool):
        self.coordinates, self.row, self.dark = coordinates, row, dark
        self.space = coordinates.shape[1] == 3
        self.kind = go.Scatter3d if self.space else go.Scattergl if count >= MANY else go.Scatter
        self.size = (10 if count < 200 else 8 if count < MANY else 5) - 3 * self.space

    def at(self, slots: Sequence[Slot]) -> np.ndarray:
        return self.coordinates[[self.row[slot.id] for slot in slots]]

    def trace(self, figure: go.Figure, at: np.ndarray, **more) -> None:
        """at: (points, dimensions); a row of nan ends a line."""
        values = at.astype(object)
        values[np.isnan(at)] = None
        figure.add_trace(self.kind(dict(zip("xyz", values.T.tolist(), strict=False)) | more))

    def add(self, figure: go.Figure, slots: Sequence[Slot], name: str, marker: dict, **more) -> None:
        if not slots:
            return
        slots = sorted(slots, key=lambda slot: slot.state != ACTIVE)  # the legend shows the shape of the first
        shapes = [SHAPES[slot.state] for slot in slots]
        edge = {"width": 0.6, "color": "rgba(255,255,255,0.35)" if self.dark else "rgba(0,0,0,0.3)"}
        edge = {"width": 0} if self.kind is go.Scattergl else edge  # so many would be seen as one black spot
        self.trace(
            figure, self.at(slots), mode="markers", name=name, meta="slots", hovertemplate="%{text}<extra></extra>",
            customdata=[slot.id for slot in slots], text=[_said(slot) for slot in slots],
            marker={"symbol": shapes[0] if len(set(shapes)) == 1 else shapes, "size": self.size, "line": edge} | marker,
            **({} if self.space else {"unselected": {"marker": {"opacity": 0.25}}}), **more,
        )  # fmt: skip


def _grouped(figure: go.Figure, points: _Points, slots: Sequence[Slot], colours: Shade) -> None:
    members: dict[str, list[Slot]] = {}
    palette = GROUPS[points.dark]
    common = Counter(colours.groups[slot.id] for slot in slots).most_common()
    own = {name for name, _ in common[: len(palette) if len(common) <= len(palette) else len(palette) - 1]}
    for slot in slots:
        group = colours.groups[slot.id]
        members.setdefault(group if group in own else "", []).append(slot)
    for number, name in enumerate(name for name, _ in common if name in own):
        shown = f"{cut(name, NAMED)} ({len(members[name]):,})"
        points.add(figure, members[name], shown, {"color": palette[number], "opacity": 0.9})
    others = members.get("", [])
    label = f"{len(common) - len(own)} others ({len(others):,})"
    points.add(figure, others, label, {"color": QUIET[points.dark], "opacity": 0.8})


def _numbered(figure: go.Figure, points: _Points, slots: Sequence[Slot], colours: Shade) -> None:
    bare = [slot for slot in slots if slot.id not in colours.numbers]
    points.add(figure, bare, f"{plain(colours.without)} ({len(bare):,})", {"color": QUIET[points.dark], "opacity": 0.5})
    having = [slot for slot in slots if slot.id in colours.numbers]
    bar = {"title": {"text": colours.name, "side": "top"}, "thickness": 8, "len": 0.5, "y": 0.98, "yanchor": "top"}
    bar |= {"outlinewidth": 0, "x": 1.01, "tickfont": {"size": 11, "color": QUIET[points.dark]}}
    if colours.ticks:
        bar |= {"tickvals": list(colours.ticks), "ticktext": list(colours.ticks.values())}
    values = [colours.numbers[slot.id] for slot in having]
    scale = {"color": values, "colorscale": "Viridis", "colorbar": bar, "showscale": True, "opacity": 0.95}
    if values and colours.ticks:
        scale |= {"cmin": 0, "cmax": max(max(values), max(colours.ticks), 0.1)}
    points.add(figure, having, colours.name, scale, showlegend=False)


def _trails(figure: go.Figure, points: _Points, layout: Layout, slots: Sequence[Slot]) -> None:
    moved = [slot for slot in slots if slot.id in layout.before]
    if not moved:
        return
    before = np.stack([layout.before[slot.id] for slot in moved]).round(4)
    gap = np.full_like(before, np.nan)
    line = np.stack([before, points.at(moved), gap], axis=1).reshape(-1, before.shape[1])
    quiet = QUIET[points.dark]
    points.trace(
        figure, line, mode="lines", line={"color": quiet, "width": 1.5, "dash": "dot"}, hoverinfo="skip",
        showlegend=False, name="trail",
    )  # fmt: skip
    points.trace(
        figure, before, mode="markers", name=f"before an edit ({len(moved):,})",
        marker={"symbol": "circle-open", "size": points.size, "color": quiet, "opacity": 0.6},
        text=[f"where this was before it was edited:<br>{_said(slot)}" for slot in moved],
        customdata=[slot.id for slot in moved], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _asked(figure: go.Figure, points: _Points, asked: Question, known: Mapping[str, Slot]) -> None:
    read = {id: weight for id, weight in asked.weights.items() if id in known}
    if not read or not sum(read.values()):
        return
    ends = points.at([known[id] for id in read])
    weights = np.array(list(read.values()))
    middle = weights @ ends / weights.sum()
    colour = ORANGE[points.dark]
    for end, weight in zip(ends, weights.tolist(), strict=True):
        points.trace(
            figure, np.stack([middle, end]), mode="lines", line={"color": colour, "width": 1 + 7 * weight},
            opacity=0.75, hoverinfo="skip", showlegend=False, name=f"read {weight:.2f}",
        )  # fmt: skip
    points.trace(
        figure, middle[None], mode="markers", name="the last message", text=[_wrapped(asked.text)],
        marker={"symbol": "diamond" if points.space else "star", "size": points.size + (1 if points.space else 8),
                "color": colour, "line": {"width": 1, "color": INK[points.dark]}},
        hovertemplate="the message, at the mean of what it read, by weight:<br>%{text}<extra></extra>",
    )  # fmt: skip


def _framed(figure: go.Figure, dimensions: int, height: int, dark: bool) -> go.Figure:
    styled(figure, height, dark)
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "title": {"text": ""}}
    figure.update_layout(
        margin={"l": 4, "r": 4, "t": 44, "b": 8}, showlegend=True, uirevision=f"{dimensions}-D", hovermode="closest",
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "itemsizing": "constant",
                "entrywidth": 0, "itemclick": False, "itemdoubleclick": False},
        dragmode="lasso" if dimensions == 2 else "orbit",
        newselection={"line": {"color": INK[dark], "width": 1, "dash": "dot"}},
    )  # fmt: skip
    frame = {"showline": True, "linecolor": LINE[dark], "mirror": True}
    if dimensions == 2:
        figure.update_xaxes(**bare, **frame, automargin=False)
        figure.update_yaxes(**bare, **frame, automargin=False, scaleanchor="x", scaleratio=1)
    else:
        wall = {**bare, "showgrid": True, "gridcolor": LINE[dark], "showbackground": False, "showspikes": False}
        figure.update_layout(scene={"xaxis": wall, "yaxis": wall, "zaxis": wall, "aspectmode": "data"})
    return figure


def _said(slot: Slot) -> str:
    state = "" if slot.state == ACTIVE else f" · {STATES[slot.state]}"
    return f"{_wrapped(slot.text)}<br><i>{slot.told.astimezone():%d %b %Y}{state}</i>"


def _wrapped(text: str) -> str:
    """The beginning of a text in lines that fit beside the pointer, as `plain`."""
    text = " ".join(text[: 2 * SHOWN].split())
    text = text if len(text) <= SHOWN else text[: SHOWN - 1].rstrip() + "…"
    if len(text) > WRAP and 0 < (at := text.rfind(" ", 0, WRAP)):
        return f"{plain(text[:at])}<br>{plain(text[at + 1 :])}"
    return plain(text)
