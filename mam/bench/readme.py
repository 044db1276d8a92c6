"""The README's tables, from the JSON files of full benchmark runs: `python -m mam.bench.readme` writes them anew.

A test fails when the two disagree, so no figure gets into the README by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from mam.base import DEFAULT
from mam.bench.common import by_name, weights
from mam.bench.parts import digest
from mam.errors import InputError
from mam.model import SHIPPED

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "assets" / "results"  # NAME.json of each benchmark, or of all; in folders beside those of other bases
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
OLDER = r"\*"  # behind the name of a benchmark that was run with other weights than are shipped
GOALS = {"one_fact": "≥ 0.95, twice the best prompt", "several_facts": "≥ 0.80"}  # of the memory model
FIGURES = {  # benchmark: {key, or keys inside each other: (what it says, goal)}
    "edit": {
        "edited_new": ("after an edit, the reply says the new value", "≥ 0.95"),
        "edited_old": ("… or still the old one", "0"),
        "deleted_old": ("after a delete, it still says the value", "0"),
        "deleted_abstains": ("… and says that it was not told", "≥ 0.90"),
        "update_new": ("after an update told in chat, the reply says the new value", "≥ 0.90"),
        "update_old": ("… or still the old one", "–"),
    },
    "noharm": {
        "nothing_read": ("general prompts with 200 slots in memory: nothing is read", "≥ 0.97"),
        "identical": ("… and the reply is the base's own, token for token", "1.0"),
        "abstained": ("asked for something never told, it says so", "≥ 0.90"),
        "false_abstained": ("… the same where it was told", "–"),
    },
    "gate": {
        "f1": ("write gate, F1 of what is kept", "≥ 0.92"),
        "locomo_auc": ("… on LoCoMo: AUC of evidence turns against the others", "–"),
    },
    "locomo": {
        "f1_1_4": ("LoCoMo, first five conversations: F1 of categories 1–4", "> 24"),
        "abstained_5": ("… asked for what was not said (category 5), it says so", "≥ 0.80"),
        "false_abstained_1_4": ("… the same where it was said", "< 0.15"),
        "recall_at_10": ("… evidence turns among the ten best, as a turn ranks them, %", "≥ 75"),
        "recall_at_50": ("… among the fifty best, %", "≥ 90"),
        "recall_deep.at_10": ("… among the ten best if it looked at 64 twice, %", "–"),
    },
    "reading": {
        "f1_memory": ("documents (SQuADShifts wiki, FairytaleQA): F1 with memory", "–"),
        "ratio_to_prompt": ("… against the best of three retrieval prompts", "≥ 1.5"),
        "ratio_to_gold": ("… against the slots that answer, given by hand", "≥ 0.85"),
    },
    "packs": {
        "pack": ("FairytaleQA stories in weights, people’s questions, closed book: F1", "–"),
        "pack_over_base": ("… against the base alone, times", "≥ 2"),
        "base": ("… the base alone, closed book", "–"),
        "slots": ("… the same stories as slots", "–"),
        "pack_plus_slots": ("… slots with the pack mounted", "–"),
        "prompt_bm25": ("… sentences found by BM25 in the prompt", "–"),
        "gold": ("… the sections with the answer in the prompt", "–"),
        "merging.shards": ("… in the memory LM’s own words, on some of the questions", "–"),
        "merging.linear": ("… the same, all shards merged into one adapter (linear)", "–"),
        "merging.ties": ("… merged by TIES", "–"),
        "merging.dare": ("… merged by DARE", "–"),
        "deleted_f1": ("a pack after a story was deleted: F1 on its questions", "as below"),
        "never_f1": ("… a pack that never had it", "–"),
        "seconds.1.answer.median": ("an answer of a pack of one story, s", "–"),
        "seconds.5.answer.median": ("… of 5 stories", "as of one"),
        "seconds.20.answer.median": ("… of 20 stories", "as of one"),
        "building.minutes_for_2000_words.median": ("building a pack, minutes for 2,000 words", "≤ 15"),
    },
    "longbench": {"score": ("LongBench, English question answering: F1", "–")},
    "scrolls": {"score": ("SCROLLS, question answering: F1 and exact match", "–")},
    "latency": {
        "ttft_ratio_10000": ("first token with 10,000 slots, those read in the cache, against base alone", "≤ 1.3"),
        "ttft_ratio_10000_cold": ("… those read for the first time", "–"),
        "ttft_4000_ratio": ("first token after 4,000 tokens of talk, against all of it in the prompt", "≤ 0.1"),
        "read_100000_p95_ms": ("reading 100,000 slots exactly, ms (95th percentile)", "≤ 30"),
        "read_100000_with_encoding_p95_ms": ("… with the encoding of the question", "–"),
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
    "serve": {
        "batching_gain": ("16 clients at once: tokens a second, against one client", "≥ 3"),
        "identical": ("… share of replies that are the same token for token", "–"),
    },
}


def tables(folder: Path = RESULTS) -> str:
    """Markdown of the results in `folder`; a benchmark without a file is left out.

    A folder in it holds results of another base, which stand beside those of the first. Raises InputError for results
    of a limited run.
    """
    found = [one for one in map(_read, [folder, *sorted(folder.glob("*/"))]) if one]
    older = {name for one in found for name, content in one.items() if _older(content)}

    def marked(name: str) -> str:
        return f"`{name}`{OLDER * (name in older)}"

    bases = ["measured"] if len(found) == 1 else [next(iter(one.values()))["base"] for one in found]
    lines = [
        line for one in found if "recall" in one for line in _recall(marked("recall"), one["recall"], len(found) > 1)
    ]
    rows = [
        f"| {marked(name)} | {says} | {' | '.join(_shown(_value(one, name, key)) for one in found)} | {goal} |"
        for name, keys in FIGURES.items()
        if any(name in one for one in found)
        for key, (says, goal) in keys.items()
    ]
    if rows:
        lines += ["", f"| bench | what | {' | '.join(bases)} | goal |", "|---" * (len(found) + 3) + "|", *rows]
    return "\n".join([*lines, *(["", f"{OLDER} Measured with earlier weights of the memory model."] if older else [])])


def _read(folder: Path) -> dict[str, dict]:
    found = {file: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    if limited := [str(file) for file, content in found.items() if content.get("settings", {}).get("limited")]:
        raise InputError(f"{limited[0]} is of a limited run, a quick look and not a result; measure it in full.")
    return by_name({"name": file.stem} | content for file, content in found.items())


def _older(content: dict) -> bool:
    return content.get("weights") != digest(weights(content.get("base", DEFAULT), SHIPPED))


def _value(found: dict[str, dict], name: str, key: str) -> float | None:
    value = found[name]["results"] if name in found else {}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _recall(name: str, content: dict, named: bool) -> list[str]:
    """A table of one base, which it names if there are several."""
    results = content["results"]
    of = {"memory": results["memory_details"], **results["baseline_details"]}
    what = f"{name}{', ' + content['base'] if named else ''}: the reply holds the value"
    lines = [f"| {' | '.join([what, *ASKED.values()])} |", "|---" * (len(ASKED) + 1) + "|"]
    for way, name in WAYS.items():
        lines.append(f"| {name} | {' | '.join(_shown(of[way][key]) for key in ASKED)} |")
    lines.append(f"| goal | {' | '.join(GOALS.get(key, '–') for key in ASKED)} |")
    return ["", *lines] if named else lines


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
