"""Running the notebooks, and storing what they show: `make outputs`, or for some `python -m tests.outputs NAME ...`.

A notebook is edited in JupyterLab like any other. What is stored with it is made here and nowhere else: run from top to
bottom in a fresh kernel, figures as static pictures, which a code-hosting site shows and which stay small, and with a
stamp of the code that made it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import plotly
from nbclient import NotebookClient
from nbformat import NotebookNode

from mam.bench.page import ARGUMENTS, chromium

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 240  # seconds for a whole notebook; the longest trains a pack twice
FIGURE, PICTURE = "application/vnd.plotly.v1+json", "image/png"
STAMP = "outputs_of"  # in the metadata: the code that made the stored outputs
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
WIDTH, SCALE = 900, 1.5  # of a picture: pixels of the page, and of the picture for each of these
DRAW = """([figure, width, scale]) => Plotly.toImage(
  {...figure, layout: {...figure.layout, paper_bgcolor: 'white', plot_bgcolor: 'white'}},
  {format: 'png', width, height: figure.layout.height, scale})"""


def read(file: Path) -> NotebookNode:
    return nbformat.read(file, nbformat.NO_CONVERT)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def stamp(notebook: NotebookNode) -> str:
    """Of everything that runs; prose can be changed without running it again."""
    return hashlib.sha256("\n\0".join(cell.source for cell in code(notebook)).encode()).hexdigest()


def run(file: Path) -> NotebookNode:
    """The notebook with fresh outputs, figures as Plotly made them. Raises nbclient's errors where a cell fails."""
    notebook = read(file)
    with TemporaryDirectory(prefix="mam-notebook-") as folder:
        environment = {name: value for name, value in os.environ.items() if name != "MAM_DTYPE"}
        environment |= {"PYTHONPATH": str(ROOT), "PLOTLY_RENDERER": "plotly_mimetype", "TQDM_DISABLE": "1"}
        environment["PYTHONWARNINGS"] = "ignore:IProgress"  # of tqdm, which would like to draw widgets
        environment |= {"TMPDIR": folder, "MAM_HOME": f"{folder}/home"}  # nobody's own memories
        where = {"metadata": {"path": str(file.parent)}}
        NotebookClient(notebook, timeout=LONGEST, resources=where, record_timing=False).execute(env=environment)
    return notebook


def store(files: Iterable[Path]) -> None:
    """Run notebooks and store them with what they show."""
    from playwright.sync_api import sync_playwright  # takes seconds to import

    notebooks = {}
    for file in files:
        print(f"{file.stem} ...", flush=True)
        notebooks[file] = run(file)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page()
        page.add_script_tag(path=PLOTLY)
        for notebook in notebooks.values():
            for output in (output for cell in code(notebook) for output in cell.outputs):
                if FIGURE in output.get("data", ()):
                    url = page.evaluate(DRAW, [output.data[FIGURE], WIDTH, SCALE])
                    output.data = NotebookNode({PICTURE: url.partition(",")[2]})
        browser.close()
    for file, notebook in notebooks.items():
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook.metadata = NotebookNode(
            {"kernelspec": kernel, "language_info": {"name": "python"}, STAMP: stamp(notebook)}
        )
        nbformat.write(notebook, file)
        print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    store(file for file in FILES if not sys.argv[1:] or file.stem in sys.argv[1:])
