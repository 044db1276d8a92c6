"""The notebooks: they run from top to bottom with the app's weights, and what is stored with them is what they show."""

from __future__ import annotations

import ast
import base64
import re
import time
from difflib import SequenceMatcher

import pytest
from nbformat import NotebookNode
from outputs import FIGURE, FILES, LONGEST, PICTURE, ROOT, STAMP, code, read, run, stamp

MENDED = "the stored outputs are not what it shows; run `make outputs`"
ALIKE = 0.8  # share of the printed words: another processor rounds otherwise, and a reply may go another way
LARGEST = 800_000  # bytes of a notebook with its pictures
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def shown(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code(notebook) for output in cell.outputs]


def kinds(notebook: NotebookNode) -> list[set[str]]:
    """What each cell shows: text, tables, pictures."""
    names = {FIGURE: PICTURE}
    return [
        {names.get(kind, kind) for output in cell.outputs for kind in output.get("data", {"text/plain": ""})}
        for cell in code(notebook)
    ]


def printed(notebook: NotebookNode) -> list[str]:
    """The words that it prints; figures, times and bars differ from run to run."""
    texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in shown(notebook))
    return [word for text in texts for word in re.findall(r"[^\W\d_]+", text)]


@each
def test_it_runs_and_shows_what_is_stored(file):
    began = time.monotonic()
    fresh = run(file)
    assert time.monotonic() - began < LONGEST
    stored = read(file)
    assert kinds(fresh) == kinds(stored), MENDED
    assert SequenceMatcher(None, printed(fresh), printed(stored), autojunk=False).ratio() >= ALIKE, MENDED


@each
def test_the_stored_outputs_are_of_this_code(file):
    notebook = read(file)
    assert notebook.metadata.get(STAMP) == stamp(notebook), MENDED
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1)), MENDED


@each
def test_the_stored_outputs_are_small_and_static(file):
    assert file.stat().st_size < LARGEST
    for output in shown(read(file)):
        assert output.output_type in ("stream", "display_data", "execute_result") and output.get("name") != "stderr"
        assert set(output.get("data", ())) <= {PICTURE, "text/plain", "text/html"}
        if PICTURE in output.get("data", ()):
            assert base64.b64decode(output.data[PICTURE]).startswith(b"\x89PNG")
        text = output.get("text") or "".join(value for kind, value in output.data.items() if kind != PICTURE)
        assert str(ROOT) not in text and "/tmp/" not in text and "<script" not in text


@each
def test_it_is_for_reading(file):
    notebook = read(file)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith(f"# {int(file.stem[:2])}. ") and "**The question: " in prose[0]
    assert notebook.cells[-1].cell_type == "markdown" and prose[-1].count("## Exercises") == 1
    assert re.findall(r"^(\d)\. ", prose[-1].partition("## Exercises")[2], re.MULTILINE) == ["1", "2", "3"]
    assert len(" ".join(prose).split()) > sum(len(cell.source.split()) for cell in code(notebook))
    assert f"notebooks/{file.name}" in (ROOT / "README.md").read_text("utf-8")


@each
def test_it_uses_public_names_and_asserts_what_it_claims(file):
    trees = [ast.parse(cell.source) for cell in code(read(file))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    names += [part for node in nodes if isinstance(node, ast.ImportFrom) for part in node.module.split(".")]
    names += [alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    assert [name for name in names if name.startswith("_")] == []
    asserting = [tree for tree in trees if any(isinstance(node, ast.Assert) for node in ast.walk(tree))]
    assert len(asserting) >= len(trees) / 2


@each
def test_its_figures_are_the_explorers_own(file):
    """Drawn by what draws the page and the report, and by nothing else."""
    notebook = read(file)
    cells = zip(code(notebook), kinds(notebook), strict=True)
    drawing = [ast.parse(cell.source).body[-1] for cell, shows in cells if PICTURE in shows]
    assert drawing
    for last in drawing:
        names = {node.id for node in ast.walk(last) if isinstance(node, ast.Name)}
        assert isinstance(last, ast.Expr) and names & {"figures", "report"}, ast.unparse(last)
    assert not re.search(
        r"\b(plotly|matplotlib|seaborn|bokeh|altair)\b", "".join(cell.source for cell in code(notebook))
    )


def test_there_are_ten_in_order():
    assert [file.stem[:2] for file in FILES] == [f"{number:02}" for number in range(1, 11)]
