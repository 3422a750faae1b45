"""Run notebooks from top to bottom and store what they print.

    python tools/run_notebooks.py              # all of them
    python tools/run_notebooks.py 02_attention # the ones named

Running a notebook again without a change leaves the file byte for byte as it was: no time, no
machine and no Python version is written down, and every cell's id follows from its source. A cell
tagged `measures-time` is run like any other, but keeps the figure that is stored until its source
changes.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT = 300  # seconds
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> bool:
    """Execute one notebook and write it back; say whether the file changed."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    stored = {cell.source: cell.outputs for cell in notebook.cells if _measures_time(cell)}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:  # a chapter may not lean on its neighbors
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for cell in notebook.cells:
        if _measures_time(cell):
            cell.outputs = stored[cell.source] or cell.outputs
    normalize(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        _write_at_once(path, after)
    return after != before


def normalize(notebook: NotebookNode) -> None:
    """Keep what the chapter says and prints; drop what only this run had."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        keep = ("tags", "mystnb")
        cell.metadata = nbformat.from_dict({
            k: cell.metadata[k] for k in keep if k in cell.metadata
        })
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(cell.outputs)
            if "remove-output" in cell.metadata.get("tags", []):
                cell.outputs = []


def _measures_time(cell: NotebookNode) -> bool:
    """Say whether a cell's outputs are of the day they were made; the stored ones are kept."""
    return "measures-time" in cell.metadata.get("tags", [])


def _merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join printed pieces that only chance cut apart."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _write_at_once(path: Path, text: str) -> None:
    """Replace the file in one step, so that an interruption cannot leave half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def main() -> int:
    """Run the notebooks named on the command line, or all."""
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs.")
    parser.add_argument("names", nargs="*", help="such as 02_attention; all by default")
    names = parser.parse_args().names
    paths = [NOTEBOOKS / f"{Path(name).stem}.ipynb" for name in names]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        parser.error(f"no notebook {', '.join(missing)} in {NOTEBOOKS}")
    os.environ["PYTHONHASHSEED"] = "0"
    for path in paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        start = time.perf_counter()
        try:
            changed = run(path)
        except CellExecutionError as error:
            print(f"{path.name}: a cell failed, the file is as it was\n{error}", file=sys.stderr)
            return 1
        seconds = time.perf_counter() - start
        print(f"{path.name}: {seconds:.1f} s, {'changed' if changed else 'unchanged'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
