"""Text to learn from: real English that needs no download.

Chapter 1 trains its tokenizer on the English that ships with every Python. Chapter 8 adds
cleaning, packing and the language of Littletown.
"""

import ast
import inspect
import os
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

# Folders of the standard library that hold tests, other people's packages or old copies.
_SKIPPED = {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}

# A docstring is a string that stands alone where a file begins, or after a line that ends in a
# colon. Looking for just that is ten times faster than parsing every file with `ast`.
_DOCSTRING = re.compile(
    r"""
    (?: \A (?: [ \t]* (?: \#[^\n]* )? \n )*       # the beginning of a file, comments skipped
      | : [ \t]* (?: \#[^\n]* )? \n               # or the colon that ends a def or class line
        (?: [ \t]* (?: \#[^\n]* )? \n )* )
    [ \t]*
    ( [rR]? (?: \"{3} (?: [^"\\] | \\. | "(?!"") )* \"{3}
              | '{3}  (?: [^'\\] | \\. | '(?!'') )* '{3}
              | " (?! "") (?: [^"\\\n] | \\. )* "
              | ' (?! '') (?: [^'\\\n] | \\. )* ' ) )
    (?= [ \t]* (?: \#[^\n]* )? (?: \n | \Z ) )    # nothing follows it on its line
    """,
    re.VERBOSE | re.DOTALL,
)


@cache
def python_english() -> str:
    """Collect the English that ships with every Python, about 2 MB: real prose, no download.

    It is the help texts of `pydoc_data.topics` followed by the docstrings of the standard
    library, in the order of its file names. No module is imported for it. The text differs a
    little from one version of Python to the next, so nothing may depend on its exact content.

    >>> "function" in python_english()
    True
    """
    folder = Path(sysconfig.get_path("stdlib"))
    docstrings = (text for path in _sources(folder) for text in docstrings_of(path))
    return "\n\n".join([*(topics[name].strip() for name in sorted(topics)), *docstrings])


def docstrings_of(path: Path) -> list[str]:
    """Collect the docstrings of one Python file, as `inspect.cleandoc` lays them out.

    A file that is no text in the encoding it names has none: some are stored to be unreadable.
    """
    try:
        with tokenize.open(path) as file:
            source = file.read()
    except (SyntaxError, UnicodeDecodeError):
        return []
    cleaned = (inspect.cleandoc(_value(match[1])) for match in _DOCSTRING.finditer(source))
    return [text for text in cleaned if text]


def _sources(folder: Path) -> Iterator[Path]:
    """List the Python files below a folder, in an order that is the same everywhere."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (Path(here, name) for name in sorted(files) if name.endswith(".py"))


def _value(literal: str) -> str:
    """Evaluate a string literal, without the warnings that old escapes in it may cause."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ast.literal_eval(literal)
    assert isinstance(value, str)
    return value
