"""The report: one HTML page with tables and figures of all results in a folder, without anything from a network.

It is made anew from the JSON files beside it, so benchmarks may be run one by one into the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mam.bench import common
from mam.errors import InputError, legible
from mam.figures.style import BLUE, GREEN, GROUPS, ORANGE, PURPLE, QUIET, plain, styled

HEIGHT = 340  # pixels
OPTIONS = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": "",
           "modeBarButtonsToRemove": ["sendChartToCloud"]}  # fmt: skip
COLOURS = (BLUE[0], ORANGE[0], GREEN[0], PURPLE[0], *GROUPS[0][1:2], QUIET[0])
ABOUT = ("base", "memory", "date", "seconds")
STYLE = """
body { font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; color: #1d1e20; background: #fff; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 3rem; border-top: 1px solid #e4e0d8; padding-top: 1rem }
table { border-collapse: collapse; font-size: .85rem }
td { border-bottom: 1px solid #e4e0d8; padding: .15rem .8rem .15rem 0 }
td + td { font-variant-numeric: tabular-nums; text-align: right } .note { color: #6b675f } summary { cursor: pointer }
.limited { background: #fff1dc; border-left: 4px solid #e69f00; padding: .3rem .7rem }
"""


def write(folder: Path) -> Path:
    """Write index.html for the results in a folder. Raises InputError when that, or reading one of them, fails."""
    found = [_loaded(path) for path in sorted(folder.glob("*.json"))]
    page = html(list(common.by_name(content for content in found if content).values()))
    path = folder / "index.html"
    part = folder / ".index.html.part"
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written ({error.strerror}); choose another --report.") from error
    return path


def _loaded(path: Path) -> dict | None:
    """The results in a file; None for a file that is something else."""
    with legible(path):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); delete it or measure again.") from error
    return content if isinstance(content, dict) and {"name", "results"} <= content.keys() else None


def html(contents: list[dict]) -> str:
    sections = "".join(map(_section, contents))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mam: benchmarks</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>mam: benchmarks</h1>{sections}</body></html>\n"
    )


def _section(content: dict) -> str:
    name, settings = escape(str(content["name"])), content.get("settings", {})
    about = ", ".join(f"{key} {escape(str(content[key]))}" for key in ABOUT if key in content)
    machine = ", ".join(f"{key} {escape(str(value))}" for key, value in content.get("machine", {}).items())
    limited = '<p class="limited">Not a full run: a quick look, not a result.</p>'
    drawn = "".join(_drawn(figure) for figure in figures(content))
    return (
        f'<section id="{name}"><h2>{name}</h2>{limited if settings.get("limited") else ""}'
        f'<p class="note">{about}<br>{machine}</p>{_table(content["results"])}{drawn}</section>'
    )


def _drawn(figure: go.Figure) -> str:
    figure.update_layout(showlegend=len(figure.data) > 1)
    return styled(figure, HEIGHT, dark=False).to_html(full_html=False, include_plotlyjs=False, config=OPTIONS)


def _table(results: dict) -> str:
    """The figures that stand on top; all others behind a click."""
    rows = [(name, common.shown(value)) for name, value in common.flat(results)]
    top = [row for row in rows if "." not in row[0]]
    rest = [row for row in rows if "." in row[0]]
    more = f"<details><summary>{len(rest)} more figures</summary>{_rows(rest)}</details>" if rest else ""
    return _rows(top) + more


def _rows(rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{body}</table>"


# ---- figures ---------------------------------------------------------------------------------------------------------


def figures(content: dict) -> Iterator[go.Figure]:
    """What can be drawn of a benchmark's results; nothing where it measured nothing."""
    results = content["results"]
    yield from FIGURES.get(content["name"], lambda _: ())(results)
    if splits := {name or "all": part for name, part in _splits(results)}:
        yield _lost(splits)


def _splits(results: dict, before: str = "") -> Iterator[tuple[str, dict]]:
    if "lost" in results:
        yield before, results["lost"]
    for name, part in results.items():
        if isinstance(part, dict) and name != "lost":
            yield from _splits(part, f"{before} {name}".strip())


def _lost(splits: dict[str, dict]) -> go.Figure:
    figure = go.Figure()
    stages = list(dict.fromkeys(stage for lost in splits.values() for stage in lost))
    reached = {name: 100 - sum(lost.values()) for name, lost in splits.items()}
    shares = {"score": reached} | {s: {name: lost.get(s, 0) for name, lost in splits.items()} for s in stages}
    colours = (GREEN[0], QUIET[0], ORANGE[0], PURPLE[0], BLUE[0])
    for (stage, values), colour in zip(shares.items(), colours, strict=False):
        figure.add_bar(
            y=[plain(name) for name in splits], x=[round(values[name], 2) for name in splits], orientation="h",
            name=plain(stage.replace("_", " ")), marker_color=colour,
        )  # fmt: skip
    figure.update_layout(barmode="stack", title_text="Reached, and where the rest was lost", legend_traceorder="normal")
    return figure


def _bars(title: str, groups: dict[str, dict[str, float | None]]) -> go.Figure:
    """Bars by name, a colour for each group."""
    figure = go.Figure(layout_title_text=title)
    for (group, values), colour in zip(groups.items(), COLOURS, strict=False):
        figure.add_bar(x=list(map(plain, values)), y=list(values.values()), name=plain(group), marker_color=colour)
    return figure


def _lines(title: str, across: str, lines: dict[str, list[tuple[float, float]]]) -> go.Figure:
    """A line by name, through points (x, y); what is across grows by factors."""
    figure = go.Figure(layout_title_text=title)
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        x, y = zip(*points, strict=True) if points else ((), ())
        figure.add_scatter(x=x, y=y, name=plain(name), mode="lines+markers", line_color=colour)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    figure.update_xaxes(title_text=across, type="log", tickvals=ticks, ticktext=[f"{x:,}" for x in ticks])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _locomo(results: dict) -> Iterator[go.Figure]:
    gates = {"gate on": results["gate_on"], "gate off": results["gate_off"]}
    ranked = {f"reader, {name}": gate["recall"] for name, gate in gates.items()} | results["recall_without_memory"]
    ranked["reader, 64 looked at twice"] = results["recall_deep"]
    curves = {name: [(int(k[3:]), v) for k, v in at.items() if v is not None] for name, at in ranked.items()}
    yield _lines("Evidence turns among the best k, %", "k", curves)
    f1 = {name: {f"category {c}": value for c, value in gate["f1"].items()} for name, gate in gates.items()}
    yield _bars("F1 by category, %", f1)
    keys = {"abstained_5": "of what was never said", "false_abstained_1_4": "of what was said"}
    abstained = {name: {says: gate[key] for key, says in keys.items()} for name, gate in gates.items()}
    yield _bars("Share of questions it abstains from", abstained)


def _reading(results: dict) -> Iterator[go.Figure]:
    named = {name: part for name, part in results.items() if isinstance(part, dict) and "f1" in part}
    for metric, title in (("f1", "F1, %"), ("exact", "Exact match, %")):
        yield _bars(title, {name: part[metric] for name, part in named.items()})


def _longtext(results: dict) -> Iterator[go.Figure]:
    yield _bars("Score, %", {"memory": {n: p["score"] for n, p in results.items() if isinstance(p, dict)}})


def _latency(results: dict) -> Iterator[go.Figure]:
    context = {int(size): ways for size, ways in results.get("context", {}).items()}
    ways = list(next(iter(context.values()), {}))

    def by_context(value: Callable[[dict], float | None]) -> dict[str, list[tuple[float, float]]]:
        return {way: [(n, v) for n, at in context.items() if (v := value(at[way])) is not None] for way in ways}

    across = "tokens of history"
    first, rate, tokens = "seconds_to_first_token", "tokens_per_second", "context_tokens"
    yield _lines("Seconds to the first token", across, by_context(lambda way: _median(way, first)))
    yield _lines("Tokens per second", across, by_context(lambda way: _median(way, rate)))
    yield _lines("Tokens before the reply", across, by_context(lambda way: _median(way, tokens)))
    yield _lines("Memory of a reply, MiB", across, by_context(lambda way: way["memory_mib"]))

    def by_slots(value: Callable[[dict], float | None]) -> dict[str, list[tuple[float, float]]]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, condition in results["conditions"].items():
            size, _, kind = name.removeprefix("memory_").partition("_")
            if size.isdigit() and int(size) and (y := value(condition)) is not None:
                lines.setdefault(kind.replace("_", " "), []).append((int(size), y))
        return {name: sorted(points) for name, points in lines.items()}

    yield _lines("Seconds to the first token", "slots", by_slots(lambda way: _median(way, first)))
    yield _lines("Memory of a reply, MiB", "slots", by_slots(lambda way: way.get("memory_mib")))
    grown = [(int(size), mib) for size, mib in results.get("memory_mib", {}).items() if int(size)]
    yield _lines("Memory of the slots, MiB", "slots", {"opened and read": grown})


def _median(condition: dict, name: str) -> float | None:
    return condition[name] and condition[name]["median"]


FIGURES: dict[str, Callable[[dict], Iterator[go.Figure]]] = {
    "locomo": _locomo,
    "reading": _reading,
    "longbench": _longtext,
    "scrolls": _longtext,
    "latency": _latency,
}
