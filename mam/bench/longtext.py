"""longbench, scrolls: questions about long texts, from the public benchmarks, scored with their own metrics.

    longbench   the English question answering of LongBench (Bai et al. 2024): F1 of six sets
    scrolls     the question answering of SCROLLS (Shaham et al. 2022), validation part: F1, QuALITY exact match

Every text is ingested into an empty memory as a file would be, its questions are asked one by one. The sets are
fetched through `datasets` at their first use, or read from `DIR/longbench/NAME.jsonl` and `DIR/scrolls/NAME.jsonl`.
They do not say which sentences answer, so the split of errors goes by the words of the answers: "not_verbatim" where no
slot holds one (an answer in other words, yes or no), "not_read" where a slot does but was not given to the base; what
was given and answered wrongly is parted as in `metrics.losses`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mam.bench import common, metrics, reading, sets
from mam.bench.gold import with_gold
from mam.bench.parts import digest
from mam.errors import InputError
from mam.values import Slot, Turn

STAGES = ("not_verbatim", "not_read", "answered")
FEW = 2  # questions of each set, times --limit, in a limited run
HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co")


@dataclass(frozen=True)
class Example:
    """A question about a text, with every answer that counts as right."""

    id: str
    text: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Subset:
    """A set of a benchmark: where it is and how it is scored."""

    name: str
    url: str  # of the archive
    member: str  # of it
    metric: Callable[[str, str], float]
    max_tokens: int  # of a reply
    examples: Callable[[Iterator[tuple[str, dict]]], list[Example]]


# ---- what the files mean ---------------------------------------------------------------------------------------------


def of_longbench(rows: Iterator[tuple[str, dict]]) -> list[Example]:
    return [
        Example(
            str(number),
            sets.field(row, "context", str, where),
            sets.field(row, "input", str, where),
            tuple(sets.strings(row, "answers", where)),
        )
        for number, (where, row) in enumerate(rows)
    ]


def of_scrolls(rows: Iterator[tuple[str, dict]], options: bool = False) -> list[Example]:
    """The query stands before the text; rows of one id are one question with several right answers.

    options: the query goes on with the four choices (QuALITY).
    """
    found: dict[str, Example] = {}
    for where, row in rows:
        id, answer = sets.field(row, "id", str, where), sets.field(row, "output", str, where)
        if id in found:
            found[id] = Example(id, found[id].text, found[id].question, (*found[id].answers, answer))
            continue
        given = sets.field(row, "input", str, where).strip()
        cut = given.find("\n\n", given.find("(D)") if options else 0)
        if cut < 0:
            raise InputError(f'{where}, field "input" has no text after its question; fetch it again.')
        found[id] = Example(id, given[cut:].strip(), given[:cut].strip(), (answer,))
    return list(found.values())


def _longbench(name: str, max_tokens: int) -> Subset:
    url = f"{HUB}/datasets/zai-org/LongBench/resolve/main/data.zip"
    return Subset(name, url, f"data/{name}.jsonl", metrics.f1, max_tokens, of_longbench)


def _scrolls(name: str, metric: Callable[[str, str], float], options: bool = False) -> Subset:
    url = f"{HUB}/datasets/tau/scrolls/resolve/main/{name}.zip"
    return Subset(name, url, f"{name}/validation.jsonl", metric, 64, partial(of_scrolls, options=options))


LONGBENCH = (
    _longbench("narrativeqa", 128),
    _longbench("qasper", 128),
    _longbench("multifieldqa_en", 64),
    _longbench("hotpotqa", 32),
    _longbench("2wikimqa", 32),
    _longbench("musique", 32),
)
SCROLLS = (
    _scrolls("qasper", metrics.f1),
    _scrolls("narrative_qa", metrics.f1),
    _scrolls("quality", metrics.exact, options=True),
)


def load(subset: Subset, benchmark: str, folder: Path | None) -> list[Example]:
    """The examples of a set, from the folder if they are there, else from the hub (then cached by `datasets`).

    Raises InputError when they cannot be reached, the file is damaged, or a field is missing.
    """
    import datasets  # here and not above: it takes a second to import, and no other benchmark needs it

    local = folder and folder / benchmark / f"{subset.name}.jsonl"
    here = bool(local and local.is_file())
    file = str(local) if here else f"zip://{subset.member}::{subset.url}"
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what is wrong is said below, in one line
    try:
        rows = datasets.load_dataset("json", data_files=file, split="train")
    except Exception as error:  # it raises whatever its file systems and parsers raise
        cause = error.__cause__ or error
        why = " ".join(str(cause).split())[:120] or type(cause).__name__
        if here:
            raise InputError(f"{file} is damaged ({why}); fetch it again.") from error
        place = folder / benchmark if folder else f"DIR/{benchmark}"
        raise InputError(
            f"The set {subset.name} of {benchmark} could not be fetched from {subset.url} ({why}); check the "
            f"connection, or unpack {subset.member} from there to {place}/{subset.name}.jsonl and give --data."
        ) from error
    return subset.examples((f"{file}, line {number}", row) for number, row in enumerate(rows, 1))


# ---- the benchmarks --------------------------------------------------------------------------------------------------


def longbench(world: common.World, settings: common.Settings) -> dict:
    return _run("longbench", LONGBENCH, world, settings)


def scrolls(world: common.World, settings: common.Settings) -> dict:
    return _run("scrolls", SCROLLS, world, settings)


def _run(benchmark: str, subsets: Sequence[Subset], world: common.World, settings: common.Settings) -> dict:
    loaded = {subset: load(subset, benchmark, settings.data) for subset in subsets}
    done, found = common.parts(benchmark, world, settings), {}
    for subset, examples in loaded.items():
        examples = sets.evenly(examples, settings.limit and FEW * settings.limit)
        texts: dict[str, list[Example]] = {}
        for example in examples:
            texts.setdefault(example.text, []).append(example)
        rows = []
        for text, asked in tqdm(texts.items(), desc=f"{benchmark}: {subset.name}", unit="text", dynamic_ncols=True):
            name = f"{subset.name} {digest(text, asked)}"
            rows += done(name, partial(read, world, subset, text, asked))["questions"]
        found[subset.name] = _summary(rows)
    scores = [one["score"] for one in found.values() if one["score"] is not None]
    return {"score": round(sum(scores) / len(scores), 2) if scores else None, **found}


def read(world: common.World, subset: Subset, text: str, asked: Sequence[Example]) -> dict:
    """Ingest a text and ask about it."""
    with world.space() as space:
        slots = reading.ingest(space, sets.Document(subset.name, text, ()))
        turns = [common.ask(space, one.question, temporary=True, max_tokens=subset.max_tokens) for one in asked]
    given = [answering(one, turn) for one, turn in zip(asked, turns, strict=True)]
    rows = [
        {
            "question": one.question,
            "answers": one.answers,
            "reply": turn.reply,
            "score": metrics.best(subset.metric, turn.reply, one.answers),
            "abstained": turn.abstained,
            "stage": stage(one, turn, slots),
        }
        for one, turn in zip(asked, turns, strict=True)
    ]

    def score(row: dict, reply: str) -> float:
        return metrics.best(subset.metric, reply, row["answers"])

    rows = with_gold(world, rows, given, score, subset.max_tokens)
    return {"questions": rows, "slots": len(slots)}


def answering(example: Example, turn: Turn) -> list[Slot]:
    """What the base was given that holds an answer word for word."""
    return [read.slot for read in turn.reads if read.given and metrics.holds(read.slot.text, example.answers)]


def stage(example: Example, turn: Turn, slots: Sequence[Slot]) -> str:
    if answering(example, turn):
        return "answered"
    return "not_read" if any(metrics.holds(slot.text, example.answers) for slot in slots) else "not_verbatim"


def _summary(rows: list[dict]) -> dict:
    return {
        "score": metrics.percent(row["score"] for row in rows),
        "abstained": metrics.percent(row["abstained"] for row in rows),
        **metrics.losses(rows, STAGES),
        "questions": len(rows),
    }
