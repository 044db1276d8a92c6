"""LongBench and SCROLLS: read in the layout of the public sets, scored as published; what cannot be had is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace

import datasets
import pytest
from fakes import Generous

from mam.bench import common, longtext, metrics
from mam.errors import InputError


def rows(*items):
    return ((f"line {number}", item) for number, item in enumerate(items, 1))


def test_scrolls_rows():
    text = "First part.\n\nSecond part."
    found = longtext.of_scrolls(
        rows(
            {"id": "1_0", "input": f"Who?\n\n{text}", "output": "Ann"},
            {"id": "1_0", "input": f"Who?\n\n{text}", "output": "Ann B."},
        )
    )
    assert found == [longtext.Example("1_0", text, "Who?", ("Ann", "Ann B."))]
    choices = "Why?\n\n (A) rain\n (B) snow\n\n (C) sun\n (D) wind"
    (quality,) = longtext.of_scrolls(rows({"id": "2", "input": f"{choices}\n\n{text}", "output": "snow"}), options=True)
    assert quality.text == text and quality.question == choices
    with pytest.raises(InputError, match='line 1.*"input"'):
        longtext.of_scrolls(rows({"id": "1", "input": "Who?", "output": "Ann"}))
    with pytest.raises(InputError, match='line 1, has no field "output"'):
        longtext.of_scrolls(rows({"id": "1", "input": "Who?\n\nText."}))


def test_longbench_from_a_folder(world, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    subset = longtext.LONGBENCH[3]
    (tmp_path / "longbench").mkdir()
    row = {"input": "Who built my mill?", "context": "I saw it.\n\nMy mill was built by Edgar.", "answers": ["Edgar"]}
    (tmp_path / "longbench" / "hotpotqa.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(longtext, "LONGBENCH", (subset,))
    world.engine.memory = Generous()
    results = longtext.longbench(world, common.Settings(data=tmp_path))
    assert results["hotpotqa"]["questions"] == 1
    assert results["score"] == results["hotpotqa"]["score"] > 0
    assert results["hotpotqa"]["stages"]["answered"]["questions"] == 1
    (tmp_path / "longbench" / "hotpotqa.jsonl").write_text(json.dumps({"input": "Who?", "answers": ["Ann"]}) + "\n")
    with pytest.raises(InputError, match='hotpotqa.jsonl, line 1, has no field "context"'):
        longtext.load(subset, "longbench", tmp_path)


ALL = [*((subset, "longbench") for subset in longtext.LONGBENCH), *((subset, "scrolls") for subset in longtext.SCROLLS)]
CHOICES = "\n\n (A) Ann\n (B) Ben\n (C) Cleo\n (D) Dan"


def lines(subset, benchmark):
    """Two lines of a set, with all the fields that it is published with."""
    if benchmark == "longbench":
        row = {"input": "Who built it?", "context": "A mill.\n\nAnn built it.", "answers": ["Ann", "Ann B."],
               "length": 5, "dataset": subset.name, "language": "en", "all_classes": None, "_id": "4a"}  # fmt: skip
        rows = [row, row | {"answers": ["Ann"], "_id": "4b"}]
    else:
        asked = f"Who built it?{CHOICES if subset.name == 'quality' else ''}\n\nA mill.\n\nAnn built it."
        row = {"id": "7_1", "pid": "7_1_0", "input": asked, "output": "Ann"}
        rows = [row, row | {"pid": "7_1_1", "output": "Ann B."}]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subset, benchmark", ALL)
def test_every_set_is_read_in_the_layout_that_it_has(subset, benchmark, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    if packed:  # as the hub has it
        with zipfile.ZipFile(tmp_path / subset.url.rpartition("/")[2], "w") as archive:
            archive.writestr(subset.member, lines(subset, benchmark))
            archive.writestr(f"{subset.member.rpartition('/')[0]}/other.jsonl", "{")
        found = longtext.load(replace(subset, url=str(tmp_path / subset.url.rpartition("/")[2])), benchmark, tmp_path)
    else:  # as the README has it
        (tmp_path / benchmark).mkdir()
        (tmp_path / benchmark / f"{subset.name}.jsonl").write_text(lines(subset, benchmark))
        found = longtext.load(subset, benchmark, tmp_path)
    assert len(found) == (2 if benchmark == "longbench" else 1)
    assert found[0].answers == ("Ann", "Ann B.") and found[0].text == "A mill.\n\nAnn built it."
    assert found[0].question == f"Who built it?{CHOICES if subset.name == 'quality' else ''}"


def test_the_archives_are_those_of_the_hub():
    places = {
        benchmark: {(s.url.split("/datasets/")[1], s.member) for s, b in ALL if b == benchmark} for _, benchmark in ALL
    }
    assert places["longbench"] == {
        ("zai-org/LongBench/resolve/main/data.zip", f"data/{name}.jsonl")
        for name in ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique")
    }
    assert places["scrolls"] == {
        (f"tau/scrolls/resolve/main/{name}.zip", f"{name}/validation.jsonl")
        for name in ("qasper", "narrative_qa", "quality")
    }


def test_a_damaged_file_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "longbench").mkdir()
    file = tmp_path / "longbench" / "qasper.jsonl"
    for damaged in (b"{", b"", b"\xff", b'{"input": 3}\n{"input": "Who?"}\n{"input"'):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=re.escape(f"{file} is damaged")) as caught:
            longtext.load(longtext.LONGBENCH[1], "longbench", tmp_path)
        assert "\n" not in str(caught.value) and "connection" not in str(caught.value)
    assert not any(capfd.readouterr())


def test_a_hub_out_of_reach_is_said_in_one_line(tmp_path):
    """In a process of its own: where the hub is, is read when it begins."""
    code = "import sys; from mam.cli import main; from mam.bench import common, longtext\n"
    code += "common.World.load = lambda *_, **__: None\n"
    code += "sys.exit(main(['bench', 'scrolls']))"
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}  # where nobody listens
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert re.search(r"qasper of scrolls could not be fetched from http://127.0.0.1:9/datasets/tau/scrolls/", line)
    assert "refused" in line and "unpack qasper/validation.jsonl from there to DIR/scrolls/qasper.jsonl" in line


def test_quality_is_scored_by_exact_match():
    assert {subset.name: subset.metric for subset in longtext.SCROLLS} == {
        "qasper": metrics.f1,
        "narrative_qa": metrics.f1,
        "quality": metrics.exact,
    }
    assert {subset.metric for subset in longtext.LONGBENCH} == {metrics.f1}
