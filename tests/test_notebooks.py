"""The notebooks of docs/ run, and print what they show, but for their numbers."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"
LARGEST_BYTES = 300_000
NUMBERS = re.compile(r"[-+]?[\d.,]+(?:e[-+]?\d+)?| +|-{2,}")
"""Another version of a library draws other random numbers."""


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return the words that each cell prints; a picture or an error is told as such."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[NUMBERS.sub("", output.get("text", output.output_type)) for output in cell.outputs] for cell in cells]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_prints_what_it_shows(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    shown = outputs(notebook)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert outputs(notebook) == shown, f"{path.name} prints something else now: look at it, run it again and save it"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_small_and_holds_text_only(path: Path) -> None:
    assert path.stat().st_size <= LARGEST_BYTES
    kinds = {
        output.output_type for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])
    }
    assert kinds == {"stream"}
