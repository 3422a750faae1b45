"""Programs about Littletown: a few lines of Python that say who has what, with a test at the end.

Whoever completes such a program has to keep track of its variables. What is right is found by
running it: the last line is an `assert`. Only assignments of names and strings are understood, so
that nothing a model writes is ever executed by Python.
"""

import ast
from collections.abc import Callable
from typing import NamedTuple

from gptbook.littletown.words import NAMES, THINGS

NUM_VARIABLES = (2, 3)
NUM_CHANGES = (1, 2, 3)
"""How many variables a program has, and how many lines change one."""

_NAMES = tuple(name.english for name in NAMES)
_NOUNS = tuple(noun.english for noun in THINGS[0])


class Program(NamedTuple):
    """A program.

    Attributes:
        prompt: All but its last word: it ends after `assert kite == `.
        answer: The last word, in quotation marks.
    """

    prompt: str
    answer: str


def draw_program(draw: Callable[[], float]) -> Program:
    """Draw a program, with numbers drawn uniformly from 0 to 1."""
    nouns, names = list(_NOUNS), list(_NAMES)
    values: dict[str, str] = {}
    for _ in range(_pick(NUM_VARIABLES, draw)):
        values[_take(nouns, draw)] = _take(names, draw)
    lines = [f'{noun} = "{name}"' for noun, name in values.items()]
    for _ in range(_pick(NUM_CHANGES, draw)):
        others = list(values)
        target, source = _take(others, draw), _take(others, draw)
        kind = int(draw() * 3)
        if kind == 0:
            values[target] = _take(names, draw)
            lines.append(f'{target} = "{values[target]}"')
        elif kind == 1:
            values[target] = values[source]
            lines.append(f"{target} = {source}")
        else:
            values[target], values[source] = values[source], values[target]
            lines.append(f"{target}, {source} = {source}, {target}")
    asked = list(values)[int(draw() * len(values))]
    return Program("\n".join([*lines, f"assert {asked} == "]), f'"{values[asked]}"')


def holds(text: str) -> bool:
    r"""Run a program as Python would, and say whether all that it asserts is so.

    Raises:
        ValueError: If it holds anything but assignments of names and strings, and assertions.

    >>> holds('kite = "Mia"\nball = kite\nassert ball == "Mia"')
    True
    """
    values: dict[str, str] = {}
    try:
        lines = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(
            f"{text!r} is no program: {error.msg}; write one as Python has it"
        ) from error
    for line in lines:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value, values)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=elements)) if (
                len(targets) == len(elements) and all(isinstance(row, ast.Name) for row in targets)
            ):
                found = [_value(element, values) for element in elements]
                values |= {row.id: new for row, new in zip(targets, found, strict=True)}  # type: ignore[attr-defined]
            case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
                if _value(left, values) != _value(right, values):
                    return False
            case _:
                raise _not_understood(line)
    return True


def _value(node: ast.expr, values: dict[str, str]) -> str:
    """Say what an expression is worth."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    raise _not_understood(node)


def _not_understood(node: ast.AST) -> ValueError:
    """Name what is no part of such programs."""
    return ValueError(
        f"{ast.unparse(node)!r} cannot stand here; a program of Littletown assigns names and "
        "strings to names that it has given a value, and asserts that two are equal"
    )


def _pick(pool: tuple[int, ...], draw: Callable[[], float]) -> int:
    """Draw a number, each as likely as the others."""
    return pool[int(draw() * len(pool))]


def _take(pool: list[str], draw: Callable[[], float]) -> str:
    """Draw an entry and take it out."""
    return pool.pop(int(draw() * len(pool)))
