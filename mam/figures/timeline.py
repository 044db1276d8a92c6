"""The timeline: slots by turns, every write, read, edit and delete a mark. Shape says what happened, size how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import plotly.graph_objects as go

from mam.figures.style import BLUE, GREEN, INK, LINE, ORANGE, PURPLE, QUIET, cut, plain, styled
from mam.timeline import ARCHIVE, DELETE, EDIT, READ, REPLACE, RESTORE, WRITE, Step, Timeline
from mam.values import Slot

MARKS = {
    WRITE: ("kept", "square", GREEN),
    READ: ("read (larger: counted more)", "circle", BLUE),
    EDIT: ("edited", "diamond", ORANGE),
    REPLACE: ("replaced by a newer one", "triangle-right", PURPLE),
    ARCHIVE: ("put away", "square-open", QUIET),
    DELETE: ("deleted", "x", INK),
    RESTORE: ("brought back", "triangle-up", GREEN),
}
HANDS = {"user": "by hand", "import": "by an import", "ingest": "from a document", "undo": "by an undo"}
ENDS = (REPLACE, ARCHIVE, DELETE)
MANY = 3000  # marks; from here on WebGL draws them
LEGIBLE = 40  # rows that have room for a name; of more, the hover says which they are
BANDS = 14  # conversations that have room for a name
ROW, LEAST, MOST = 19, 240, 430  # pixels
LABEL = 38  # characters of a slot beside its row
HEAD = -1.2  # row of the turns themselves


def raster(
    found: Timeline, slots: Mapping[str, Slot], titles: Mapping[str, str], dark: bool = False, step: int | None = None
) -> go.Figure:
    """One row for every slot that something happened to, one column for every turn.

    The customdata of a mark is [slot id, turn id]; of the turns on top ["", turn id]; where nothing is known "".
    slots: by id; titles: of sessions, by id; step: number of the turn at which a cursor stands, the last shape.
    """
    ids = list(dict.fromkeys(event.slot for event in found.happenings if event.slot in slots))
    row = {id: number for number, id in enumerate(ids)}
    marks = [event for event in found.happenings if event.slot in row]
    kind = go.Scattergl if len(marks) >= MANY else go.Scatter
    figure = go.Figure()
    _lives(figure, kind, marks, row, len(found.steps), dark)
    for what, (name, symbol, colour) in MARKS.items():
        these = [event for event in marks if event.kind == what]
        if not these:
            continue
        figure.add_trace(
            kind(
                x=[event.step + 1 for event in these], y=[row[event.slot] for event in these],
                mode="markers", name=name,
                customdata=[[event.slot, event.turn or ""] for event in these],
                text=[_told(event, slots[event.slot], found.steps) for event in these],
                hovertemplate="%{text}<extra></extra>",
                marker={"symbol": symbol, "color": colour[dark], "opacity": 0.85 if what == READ else 1,
                        "size": [5 + 12 * event.weight**0.5 for event in these] if what == READ else 9},
            )
        )  # fmt: skip
    _turns(figure, kind, found.steps, dark)
    _conversations(figure, found.steps, titles, dark)
    at = (step if step is not None else len(found.steps) - 1) + 1
    figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": ORANGE[dark], "width": 1.5})
    styled(figure, min(max(ROW * len(ids) + 120, LEAST), MOST), dark)
    named = len(ids) <= LEGIBLE
    figure.update_yaxes(
        range=[len(ids) - 0.4, HEAD - 0.8], tickvals=list(range(len(ids))) if named else [], showgrid=False,
        ticktext=[cut(slots[id].text, LABEL) for id in ids] if named else [],
        title=None if named else f"{len(ids):,} memories, the first on top",
    )  # fmt: skip
    figure.update_xaxes(
        title="message", range=[-0.2, max(len(found.steps), 3) + 0.8], showgrid=False, tickformat=",d",
        tickvals=list(range(1, len(found.steps) + 1)) if len(found.steps) <= LEGIBLE else None,
    )  # fmt: skip
    figure.update_layout(
        margin={"t": 74, "b": 40}, hovermode="closest", dragmode="pan", uirevision="timeline",
        legend={"orientation": "h", "y": 0.995, "yanchor": "top", "yref": "container", "x": 0,
                "itemsizing": "constant", "entrywidth": 0, "itemclick": False, "itemdoubleclick": False},
    )  # fmt: skip
    return figure


def _lives(figure: go.Figure, kind: type, marks: Sequence, row: Mapping[str, int], end: int, dark: bool) -> None:
    """A faint line for as long as a slot was there to be read."""
    x: list[float | None] = []
    y: list[float | None] = []
    began: dict[str, float] = {}
    for event in marks:
        if event.kind in (WRITE, RESTORE):
            began.setdefault(event.slot, event.step)
        elif event.kind in ENDS and event.slot in began:
            x += [began.pop(event.slot) + 1, event.step + 1, None]
            y += [row[event.slot]] * 2 + [None]
    for id, start in began.items():
        x += [start + 1, max(end, start + 1) + 0.5, None]
        y += [row[id]] * 2 + [None]
    line = {"color": LINE[dark], "width": 4 if len(row) <= LEGIBLE else 1}
    figure.add_trace(kind(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="there to be read"))


def _turns(figure: go.Figure, kind: type, steps: Sequence[Step], dark: bool) -> None:
    figure.add_trace(
        kind(
            x=list(range(1, len(steps) + 1)), y=[HEAD] * len(steps), mode="markers", showlegend=False, name="message",
            marker={"symbol": "triangle-down", "size": 9, "color": QUIET[dark]},
            customdata=[["", step.turn] for step in steps],
            text=[f"message {number}: {_message(step)}" for number, step in enumerate(steps, 1)],
            hovertemplate="%{text}<br><i>click to look inside</i><extra></extra>",
        )
    )  # fmt: skip


def _conversations(figure: go.Figure, steps: Sequence[Step], titles: Mapping[str, str], dark: bool) -> None:
    """A band behind the turns of every second conversation, and their names where there is room."""
    runs = [(id, [number for number, _ in run]) for id, run in groupby(enumerate(steps, 1), lambda one: one[1].session)]
    shade = "rgba(255,255,255,0.035)" if dark else "rgba(0,0,0,0.03)"
    for number, (id, numbers) in enumerate(runs):
        if number % 2:
            figure.add_shape(
                type="rect", x0=numbers[0] - 0.5, x1=numbers[-1] + 0.5, y0=0, y1=1, yref="paper", layer="below",
                fillcolor=shade, line={"width": 0},
            )  # fmt: skip
        room = int(len(numbers) / max(len(steps), 1) * 110)  # characters
        if len(runs) <= BANDS and room >= 6:
            figure.add_annotation(
                x=numbers[0] - 0.45, y=1, yref="paper", yanchor="bottom", xanchor="left", showarrow=False,
                text=cut(titles.get(id, ""), min(room, 40)),
            )  # fmt: skip


def _told(event, slot: Slot, steps: Sequence[Step]) -> str:
    """What a mark says beside the pointer."""
    name = MARKS[event.kind][0].split(" (")[0]
    weight = f", weight {event.weight:.2f}" if event.kind == READ else ""
    where = f"message {int(event.step) + 1}: {_message(steps[int(event.step)])}" if event.turn else _hand(event)
    return f"<b>{name}{weight}</b><br>{cut(slot.text, 80)}<br><i>{where}</i>"


def _hand(event) -> str:
    return f"{plain(HANDS.get(event.by, event.by))}, {event.at.astimezone():%d %b %Y, %H:%M}"


def _message(step: Step) -> str:
    return f"“{cut(step.text, 60)}”"
