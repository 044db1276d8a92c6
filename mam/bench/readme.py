"""The README's tables, from the JSON files of full benchmark runs: `python -m mam.bench.readme` writes them anew.

A test fails when the two disagree, so no figure gets into the README by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "assets" / "results"  # NAME.json of each benchmark
BEGIN, END = "<!-- figures: python -m mam.bench.readme -->", "<!-- end of figures -->"

WAYS = {
    "memory": "**memory model**",
    "prompt_bm25": "BM25 + prompt",
    "prompt_minilm": "MiniLM + prompt",
    "full_context": "whole history in the prompt",
    "none": "no memory",
}
ASKED = {
    "one_fact": "one fact",
    "one_fact_in_its_words": "… sharing a word with it",
    "one_fact_in_other_words": "… in other words",
    "several_facts": "several facts",
}
FIGURES = {  # benchmark: {key: (what it says, goal)}
    "edit": {
        "edited_new": ("after an edit, the reply says the new value", "≥ 0.95"),
        "edited_old": ("… or still the old one", "0"),
        "deleted_old": ("after a delete, it still says the value", "0"),
        "deleted_abstains": ("… and says that it was not told", "≥ 0.90"),
        "update_new": ("an update told in chat replaces the old value", "≥ 0.90"),
    },
    "noharm": {
        "nothing_read": ("general prompts with 200 slots in memory: nothing is read", "≥ 0.97"),
        "identical": ("… and the reply is the base's own, token for token", "1.0"),
        "abstained": ("asked for something never told, it says so", "≥ 0.90"),
    },
    "gate": {
        "f1": ("write gate, F1 of what is kept", "≥ 0.92"),
        "locomo_auc": ("… on LoCoMo: AUC of evidence turns against the others", "–"),
    },
    "latency": {
        "ttft_ratio_10000": ("first token with 10,000 slots, against base alone", "≤ 1.3"),
        "read_100000_p95_ms": ("reading 100,000 slots exactly, ms (95th percentile)", "≤ 30"),
        "decode_ratio": ("decoding speed with memory, against without", "≥ 0.9"),
        "loop_vs_generate": ("decoding speed against `transformers.generate`", "≥ 1"),
    },
    "store": {
        "open_s": ("opening a store of 100,000 slots, s", "≤ 2"),
        "page_ms": ("listing a page, ms", "≤ 50"),
        "edit_ms": ("an edit, ms", "≤ 50"),
        "add_ms": ("adding in bulk with keys, ms a slot", "≤ 20"),
        "purge_s": ("purging one slot, s", "≤ 1"),
        "peak_mib": ("peak memory, MiB", "–"),
    },
    "page": {
        "interactive_s": ("the page takes a message, server warm, s", "≤ 3"),
        "edit_ms": ("an edit in the table is visible, ms", "≤ 300"),
        "delete_ms": ("a delete, ms", "≤ 300"),
        "inspector_ms": ("inspector of a stored turn, ms", "≤ 500"),
        "heat_map_ms": ("… with its heat map, ms", "–"),
        "map_10000_s": ("map of 10,000 slots, fitted before, s", "≤ 2"),
    },
}


def tables(folder: Path = RESULTS) -> str:
    """Markdown of the results in `folder`; a benchmark without a file is left out."""
    found = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    lines = _recall(found["recall"]) if "recall" in found else []
    rows = [
        f"| `{name}` | {says} | {_shown(found[name]['results'].get(key))} | {goal} |"
        for name, keys in FIGURES.items()
        if name in found
        for key, (says, goal) in keys.items()
    ]
    if rows:
        lines += ["", "| bench | what | measured | goal |", "|---|---|---|---|", *rows]
    return "\n".join(lines)


def _recall(content: dict) -> list[str]:
    results = content["results"]
    of = {"memory": results["memory_details"], **results["baseline_details"]}
    head = " | ".join(["`recall`: the reply holds the value", *ASKED.values()])
    lines = [f"| {head} |", "|---" * (len(ASKED) + 1) + "|"]
    for way, name in WAYS.items():
        lines.append(f"| {name} | {' | '.join(_shown(of[way][key]) for key in ASKED)} |")
    return lines


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def filled(readme: str, folder: Path = RESULTS) -> str:
    """The README's text with the figures between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(folder)}\n{END}{after}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(filled(file.read_text("utf-8")), encoding="utf-8")
