"""The benchmarks can be trusted: they score as a reader would, can fail, and write whole files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mam.bench import common, scoring
from mam.errors import InputError


@pytest.mark.parametrize("reply, value, right", [
    ("Your dog is called Rex.", "Rex", True),
    ("your dog is REX!", "Rex", True),
    ("Rex's bed is blue.", "Rex", True),
    ("He is called Rexford.", "Rex", False),
    ("You have 14 cats.", "4", False),
    ("She works as an architect.", "an architect", True),
    ("Architect.", "an architect", True),
    ("It is on November 27th, 2026.", "27 November 2026", True),
    ("It is on the 27th of November 2026.", "27 November 2026", True),
    ("It is on 7 November 2026.", "27 November 2026", False),
    ("It is on 27 November 2025.", "27 November 2026", False),
    ("at half\n past  six", "half past six", True),
    ("", "Rex", False),
    ("anything", "", False),
])
def test_contains(reply, value, right):
    assert scoring.contains(reply, value) is right


def test_all_values_are_needed():
    assert scoring.contains_all("chess and rowing", ("rowing", "chess"))
    assert not scoring.contains_all("chess", ("rowing", "chess"))
    assert not scoring.contains_all("chess", ())


@pytest.mark.parametrize("reply, said", [
    ("You haven't told me that.", True),
    ("I don't know your dog's name.", True),
    ("The notes do not mention a dog.", True),
    ("It was not mentioned.", True),
    ("Your dog is called Rex.", False),
    ("You told me it is blue.", False),
])
def test_untold(reply, said):
    assert scoring.untold(reply) is said


def test_nothing_measured_is_not_a_figure():
    assert scoring.share([]) is None
    assert scoring.f1(0, 0, 0) == {"precision": None, "recall": None, "f1": None}
    assert scoring.auc([], [1.0]) is None


def test_auc_counts_ties_half():
    random = np.random.default_rng(0)
    positive, negative = random.integers(0, 5, 40), random.integers(0, 4, 60)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert scoring.auc(positive, negative) == pytest.approx(np.mean(pairs), abs=1e-4)


def test_f1():
    assert scoring.f1(8, 2, 2) == {"precision": 0.8, "recall": 0.8, "f1": 0.8}


def test_json_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "results" / "recall.json"
    common.write_json(path, {"memory": 0.5})
    assert json.loads(path.read_text()) == {"memory": 0.5}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(common.os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        common.write_json(path, {"memory": 0.9})
    assert json.loads(path.read_text()) == {"memory": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["recall.json"]


def test_table_says_what_was_not_measured():
    text = common.table({"f1": 0.5, "locomo_auc": None, "part": {"x": scoring.spread([1.0, 3.0])}}, "gate")
    assert "not measured" in text and "part.x" in text and "0.5000" in text and "median" in text
