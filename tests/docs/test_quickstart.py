"""The notebook runs from its first cell to its last."""

import nbformat
from nbclient import NotebookClient

from helpers.tiny import REPOSITORY

TINY = """
options = {{
    "model": {{"checkpoint": {checkpoint!r}}},
    "logger": "csv",
    "trainer": {{"accelerator": "cpu", "precision": "32-true"}},
}}
"""


def executed(cells, tmp_path, monkeypatch):
    """A notebook of these cells after it ran in an empty directory."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 300, "resources": {"metadata": {"path": str(tmp_path)}}}
    return NotebookClient(notebook, **options).execute()


def output_of(cell):
    return "".join(str(o.get("data", o.get("text", ""))) for o in cell["outputs"])


def test_the_notebook_runs(tiny_bert, tmp_path, monkeypatch):
    notebook = nbformat.read(REPOSITORY / "docs" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if "options" in cell["metadata"].get("tags", ()):
            cell["source"] = TINY.format(checkpoint=str(tiny_bert))
        source = cell["source"].replace(', trainer={"max_epochs": 2}', "")  # it has a trainer
        cell["source"] = source.replace('"topic"}', '"topic", "max_tokens": 64}')
    done = executed(notebook.cells, tmp_path, monkeypatch)
    code = [cell for cell in done.cells if cell["cell_type"] == "code"]
    assert "test/f1" in output_of(code[2]), "the run is shown as a table"
    assert "<table>" in output_of(code[2])
    assert "the report is" in output_of(code[3])
    assert all(cell["outputs"] for cell in code[2:])
    assert len(list((tmp_path / "outputs").glob("*/*/metrics.json"))) == 4
