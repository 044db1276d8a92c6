"""What training leaves beside the weights: thresholds that decide as they should, and the model card."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from mam.lives import life
from mam.model import SHIPPED, Settings
from mam.reader import Reading, Thresholds
from mam.train.card import EARLIER, LIVES, LIVES_AND_SETS, card, write_card
from mam.train.data import Asked, Scene, slot
from mam.train.tune import read_of_passages, tune_gate, tune_reading, tune_relation
from mam.values import Candidate, Read

# ---- thresholds ------------------------------------------------------------------------------------------------------


def test_the_gate_is_tuned_to_keep_what_is_worth_it():
    """What is worth keeping has 0.8 and more; the question that is asked afterwards has 0.7."""
    odds = {"a": 0.9, "b": 0.85, "c": 0.8, "junk": 0.3, "What is it?": 0.7}
    model = SimpleNamespace(encode=lambda texts: texts, gate=lambda said, *_: [odds[c.text] for c in said])
    told = tuple((Candidate(text, text), text in "abc") for text in ("a", "b", "c", "junk"))
    s = Scene((), (Asked("What is it?", (), "", (), "unknown"),), candidates=told, personal=True)
    assert 0.7 < tune_gate(model, [s])["gate_threshold"] <= 0.8


def test_reading_is_tuned_for_both_sides_and_for_ordinary_talk():
    """Held 0.8 where it is, 0.4 where it is not; ordinary messages ask with 0.6, others with 0.9."""
    slots = (slot(0, "I live in Oslo."),)
    found, unknown = Asked("Where?", (0,), "Oslo", ("Oslo",), "plain"), Asked("Who?", (), "", (), "unknown")
    s = Scene(slots, (found, unknown), idle=("Hello!",), candidates=((Candidate("a", "a"), True),))
    held = {"Where?": (0.8, 0.9), "Who?": (0.4, 0.9), "Hello!": (0.1, 0.6)}

    class Model:
        dim, settings = 4, Settings(relation_threshold=0.9, reading=Thresholds(given=0.07))

        def encode(self, texts):
            return np.ones((len(texts), 4), np.float32)

        keys = staticmethod(lambda hidden: hidden)

        def read(self, text, hidden, index, k, now):
            share, asked = held[text]
            return Reading((Read(slots[0], share),), 1 - share, asked, "read")

    tuned = tune_reading(Model(), [s])["reading"]
    assert 0.4 < tuned.read <= 0.8 and 0.6 < tuned.asked <= 0.95
    assert tuned.given == 0.07  # what is not tuned stays


def test_what_the_thresholds_make_of_passages_is_told():
    """Of three questions that a passage answers two are read, of two that none answers one is not."""
    slots = (slot(0, "The mill was sold."), slot(1, "It burnt."))
    read = {"What was sold?": True, "What burnt?": True, "What else?": False, "Who died?": True, "Why?": False}
    asked = [Asked(text, (0,) if i < 3 else (), "", (), "passage") for i, text in enumerate(read)]

    class Model:
        dim = 4
        encode = staticmethod(lambda texts: np.ones((len(texts), 4), np.float32))
        keys = staticmethod(lambda hidden: hidden)

        def read(self, text, hidden, index, k, now):
            return Reading((), 0.5, 0.9, "read" if read[text] else "abstain")

    scenes = [Scene(slots, tuple(asked[:2])), Scene(slots, tuple(asked[2:]))]
    assert read_of_passages(Model(), scenes) == {"passages_read": 2 / 3, "passages_refused": 0.5}
    assert read_of_passages(Model(), []) == {}


def test_the_relation_is_tuned_to_set_most_facts_right():
    """Every update is surer than 0.7; two facts that only sound alike come to 0.6."""
    facts = life(0, "val").facts
    replaced = {facts[f.replaces].text: f.text for f in facts if f.replaces is not None}
    assert replaced

    class Model:
        encode = staticmethod(lambda texts: np.ones((len(texts), 2), np.float32))
        keys = staticmethod(lambda hidden: np.ones_like(hidden))  # all are near, in the order they were told
        relation = SimpleNamespace(
            odds=lambda old, new: np.array(
                [[0.2 if replaced.get(o) == n else 0.4, 0.3, 0.3] for o, n in zip(old, new, strict=True)]
            )
        )

    near = len(facts)
    found = tune_relation(Model(), 1, near)["relation_threshold"]
    assert 0.6 < found <= 0.8


# ---- the card --------------------------------------------------------------------------------------------------------


def run_of(*parts: str, base: str | None = None) -> dict:
    figures = {part: {"score": 0.5, "step": 2, "seconds": 1.0} for part in parts}
    schedules = {part: {"steps": 2} for part in parts}
    rest = {"date": "today", "seconds": 1, "seed": 0, "data": ["lives"], "hardware": "none"}
    return {"parts": list(parts), "base": base, "schedules": schedules, "validation": figures} | rest


def test_the_card_names_the_bases_and_their_terms(tmp_path):
    assert "SmolLM2" not in card([run_of("memory")])
    write_card(tmp_path, run_of("integrator", base="gemma3-270m"))
    said = (tmp_path / "README.md").read_text()
    assert "Gemma 3 270M (Gemma terms of use)" in said and "SmolLM2" not in said
    write_card(tmp_path, run_of("integrator", base="smollm2-135m"))
    write_card(tmp_path, run_of("integrator", base="org/mine"))
    said = (tmp_path / "README.md").read_text()
    assert "SmolLM2-135M-Instruct (Apache-2.0)" in said and "org/mine (under its own terms)" in said


def test_the_card_says_on_what_each_run_was_validated():
    """Runs of before did not say; what chose their best steps is what benchmarks report on."""
    old, new = run_of("memory", "reranker"), run_of("integrator", base="b") | {"validated on": LIVES_AND_SETS}
    assert f"\nValidation: {EARLIER}." in card([old]) and "Wikipedia part" in EARLIER
    said = card([new | {"parts": ["memory"], "base": None}, new])
    assert (
        f"\nValidation: {LIVES_AND_SETS}." in said and "Wikipedia" not in said and "FairytaleQA validation" not in said
    )
    both = card([old, new])
    assert f"Validation of memory, reranker: {EARLIER}." in both and f"of integrator: {LIVES_AND_SETS}." in both
    assert f"Validation: {LIVES}." in card([new | {"validated on": LIVES}])


def test_the_shipped_weights_are_small_and_their_card_is_of_their_runs():
    sizes = {file.name: file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()}
    assert max(sizes.values()) < 3e6 and sum(sizes.values()) < 10e6  # bytes
    assert (SHIPPED / "README.md").read_text() == card(json.loads((SHIPPED / "training.json").read_text()))
