"""Sphinx extension: show the package's docstrings as they are meant, while they stay plain text.

Before napoleon reads a docstring, three things that plain text leaves open are settled: an indented
block after a colon is code, each reference is an entry of its own, and what a function returns or
a property holds is told in a sentence, in which words before a colon are no type.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Raises|Returns|Yields|References|Attributes):$")


def clarify(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Rewrite a docstring's lines in place."""
    lines[:] = _list_references(_mark_code(lines))
    for number, line in enumerate(lines):
        returns = number > 0 and lines[number - 1].strip() in ("Returns:", "Yields:")
        if returns or (what == "property" and number == 0):
            lines[number] = f"{' ' * _indent(line)}: {line.lstrip()}"  # an empty type


def name_functions(
    _app: Sphinx,
    _what: str,
    _name: str,
    _obj: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write a default that is a function by its name, without its place in memory."""
    if signature is not None:
        signature = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", signature)
    return signature, returns


def skip_tuple_fields(
    _app: Sphinx, _what: str, _name: str, obj: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out fields of a named tuple that say no more than the signature above them."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def _mark_code(lines: list[str]) -> list[str]:
    """Turn the colon before a blank line and an indented block into reStructuredText's `::`."""
    marked = list(lines)
    for number, line in enumerate(lines[:-2]):
        opens = line.endswith(":") and not line.endswith("::") and not _SECTION.match(line.strip())
        if opens and not lines[number + 1].strip() and _indent(lines[number + 2]) > _indent(line):
            marked[number] = line + ":"
    return marked


def _list_references(lines: list[str]) -> list[str]:
    """Make a list of the references: an entry ends with the line that ends with its address."""
    listed, inside, first = [], False, True
    for line in lines:
        if line.strip() == "References:":
            inside, first = True, True
        elif inside and line.strip() and _indent(line) == 0:
            inside = False
        elif inside and line.strip():
            text = line.strip()
            line = f"    {'- ' if first else '  '}{text}"
            first = re.search(r"https?://\S+$", text) is not None
        listed.append(line)
    return listed


def _indent(line: str) -> int:
    """Count the spaces in front of a line."""
    return len(line) - len(line.lstrip())


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc, ahead of napoleon."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", clarify, priority=400)
    app.connect("autodoc-process-signature", name_functions)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    return {"parallel_read_safe": True}
