"""Read the committed notebooks: what the tests of the book ask about them."""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]


@functools.cache
def read(name: str) -> NotebookNode:
    """Read one notebook by its name without suffix."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def code_cells(name: str) -> list[NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def markdown_cells(name: str) -> list[NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "markdown"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def slug(heading: str) -> str:
    """The anchor that the book gives to a heading, as GitHub and MyST make it."""
    text = re.sub(r"[`*_]|\[([^]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def headings(markdown: str) -> list[str]:
    """The headings of a Markdown cell, without those that stand inside fenced code."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """A call of a function of the book in a code cell, and the heading above it."""

    notebook: str
    heading: str
    first_argument: str | None
    cell: NotebookNode


def calls(function: str, name: str) -> list[Call]:
    """Find every call of `function` in a notebook."""
    found, heading = [], ""
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            heading = [heading, *headings(cell.source)][-1]
            continue
        source = re.sub(r"^(\s*)%.*$", r"\1pass", cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id == function:
                first = node.args[0] if node.args else None
                value = first.value if isinstance(first, ast.Constant) else None
                found.append(Call(name, slug(heading), value, cell))
    return found


def repository_url() -> str:
    """The address of the repository, from its one home."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return config["repository"]["url"]
