"""The model card beside the weights: what they were trained on, how, and what they reached, from the run itself."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from mam.errors import WeightsError

TEXT = """# Memory model of mam

A small trained memory for a frozen language model: write gate, reader and relation head on a sentence encoder with
low-rank updates, and one attachment (key/value prefix and low-rank adapters) for each base in `attachments/`.
Weights are bfloat16 in safetensors; licence Apache-2.0, but an attachment was learned from its base, and the terms of
that base may ask more. Made by `python -m mam train`, by the runs below; where they are several, the parts were trained
one at a time.

Needs, fetched and not contained: all-MiniLM-L6-v2 (Apache-2.0) and the base of each attachment{bases}.

## Data

| data | licence | used for |
|---|---|---|
| generated lives (`mam.lives`, in this repository) | Apache-2.0 | all parts |
| SQuADShifts, Reddit and Amazon parts | CC BY 4.0 | reader, reranker, integrator |
| QAMR, development part | MIT | reader, reranker, integrator |
| FairytaleQA, training part | Apache-2.0 | reader, reranker, integrator |
| Synthetic-Persona-Chat, validation part | CC BY 4.0 | write gate |

{validation}
No evaluation set is trained on.

## Training runs

{runs}

## Limits

Made for first-person facts in English and short documents. Thresholds were tuned on generated lives: on other talk
the gate may keep too much or too little. It remembers what people say, true or not.
"""

# What a run has validated on, as its record says it; those before 24 November 2026 did not say.
LIVES = "lives of held-out kinds, values and phrasings"
LIVES_AND_SETS = f"""{LIVES}; of SQuADShifts and QAMR one passage in twenty, of FairytaleQA one
story in twenty, of the parts above; the last tenth of the dialogues"""
EARLIER = f"""{LIVES}; SQuADShifts Wikipedia part and FairytaleQA validation part;
the last tenth of the dialogues"""
KNOWN = {  # bases whose terms are known
    "smollm2-135m": "SmolLM2-135M-Instruct (Apache-2.0)",
    "gemma3-270m": "Gemma 3 270M (Gemma terms of use)",
}


def write_card(folder: Path, record: dict) -> None:
    """Add `record` of a run to training.json in `folder` and write the card anew from all runs that still count."""
    runs = [r for r in records(folder) if not _replaced(r, record)] + [record]
    (folder / "training.json").write_text(json.dumps(runs, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(runs), encoding="utf-8")


def card(runs: list[dict]) -> str:
    """The model card of these runs."""
    named = list(dict.fromkeys(run["base"] for run in runs if run.get("base")))
    each = [KNOWN.get(name, f"{name} (under its own terms)") for name in named]
    bases = f":\n{', '.join(each)}" if each else ""
    return TEXT.format(bases=bases, validation=_validation(runs), runs="\n\n".join(map(_run, runs)))


def records(folder: Path) -> list[dict]:
    """The runs that training.json in `folder` tells of. Raises WeightsError when it is damaged."""
    file = folder / "training.json"
    try:
        runs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        if not isinstance(runs, list):
            raise ValueError
        card(runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} is damaged; bring it back, or remove it: the model card is made of it.") from error
    return runs


def hardware(device: object) -> str:
    """What a run was made on, in words."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}"


def _replaced(old: dict, new: dict) -> bool:
    """Whether a run has trained again all that an older one did: an attachment is one base's alone."""
    return set(old["parts"]) <= set(new["parts"]) and old.get("base") in (None, new["base"])


def _validation(runs: list[dict]) -> str:
    """What chose the best steps: one sentence, or one for the parts of each kind of run."""
    parts: dict[str, list[str]] = {}
    for run in runs:
        parts.setdefault(run.get("validated on", EARLIER), []).extend(run["parts"])
    if len(parts) == 1:
        return f"Validation: {next(iter(parts))}."
    return "\n".join(f"Validation of {', '.join(dict.fromkeys(of))}: {text}." for text, of in parts.items())


def _run(record: dict) -> str:
    what = f"**{', '.join(record['parts'])}**" + (f" for {record['base']}" if record.get("base") else "")
    run = f"{what}, {record['date']}: {record['seconds']} s on {record['hardware']};"
    lines = [
        f"{run} seed {record['seed']}; data: {', '.join(record['data'])}.",
        "",
        "| part | best step of | validation |",
        "|---|---|---|",
    ]
    for part, found in record["validation"].items():
        shown = ", ".join(f"{k} {v:.3f}" for k, v in found.items() if k not in ("step", "seconds"))
        lines.append(f"| {part} | {found.get('step', 0):.0f} of {record['schedules'][part]['steps']} | {shown} |")
    if "note" in record:  # what was done by hand
        lines += ["", record["note"]]
    return "\n".join(lines)
