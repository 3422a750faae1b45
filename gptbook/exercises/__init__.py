"""Grade the exercises: right, or what is wrong and for which input.

Each chapter's exercises stand in a module of their own, `gptbook/exercises/<chapter>.py`, in a
dictionary `EXERCISES`. An exercise is a reference solution and the inputs to try it on:

    EXERCISES = {"double": Exercise(lambda x: 2 * x, cases=lambda: [(1,), (2.5,)])}

A reader calls `check("attention.causal_mask", my_function)`.
"""

import copy
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Judge = Callable[[Any, Any, tuple[Any, ...]], str | None]


@dataclass(frozen=True)
class Report:
    """What the grader found: `right` is None for a stub that was not attempted."""

    name: str
    right: bool | None
    message: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.message}"


def compare(expected: Any, got: Any, arguments: tuple[Any, ...] = ()) -> str | None:
    """Say how an answer differs from the expected one, or None if it does not.

    Numbers may differ by rounding; kinds and shapes may not.

    >>> compare(torch.zeros(2), torch.zeros(3))
    'a tensor of shape (2,) was expected, but shape (3,) came'
    """
    if isinstance(expected, Tensor | np.ndarray):
        return _compare_arrays(torch.as_tensor(expected), got)
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        return _compare_exactly(expected, got)
    if isinstance(got, bool) or not isinstance(got, int | float | Tensor | np.number):
        return f"a number was expected, but {_show(got)} came"
    if isinstance(got, Tensor) and got.numel() != 1:
        return f"a number was expected, but a tensor of shape {tuple(got.shape)} came"
    if math.isclose(expected, float(got), rel_tol=1e-5, abs_tol=1e-7):
        return None
    return f"{_show(expected)} was expected, but {_show(got)} came"


def explain(difference: str, got: Any, mistakes: Iterable[tuple[Any, str]]) -> str:
    """Add to a difference what the mistakes are called that lead to this very answer.

    >>> explain("6 was expected, but 5 came", 5, [(5, "the product is wanted, not the sum")])
    'the product is wanted, not the sum (6 was expected, but 5 came)'
    """
    found = list(dict.fromkeys(advice for wrong, advice in mistakes if compare(wrong, got) is None))
    if not found:
        return difference
    return f"{'perhaps ' if len(found) > 1 else ''}{', or '.join(found)} ({difference})"


@dataclass(frozen=True)
class Exercise:
    """A reference solution, the inputs to try it on, and how to judge an answer.

    `cases` makes the inputs, one tuple of arguments each. `judge(expected, got, arguments)` says
    what is wrong with an answer, or None; the default compares it with the reference's. Where
    `raises` is given, the last cases, as many as it has entries, must raise those errors.
    """

    reference: Callable[..., Any]
    cases: Callable[[], Iterable[tuple[Any, ...]]]
    judge: Judge = compare
    raises: tuple[type[Exception], ...] = ()

    def grade(self, name: str, candidate: Callable[..., Any]) -> Report:
        """Try `candidate` on every case; stop at the first that is wrong."""
        cases = list(self.cases())
        num_answers = len(cases) - len(self.raises)
        for arguments in cases[:num_answers]:
            expected = self.reference(*copy.deepcopy(arguments))
            report = _try(name, candidate, arguments, expected, self.judge)
            if report is not None:
                return report
        for arguments, error in zip(cases[num_answers:], self.raises, strict=True):
            report = _try_error(name, candidate, arguments, error)
            if report is not None:
                return report
        return Report(name, True, f"right, on all {len(cases)} inputs")


def check(name: str, candidate: Callable[..., Any]) -> Report:
    """Grade a reader's function.

    Args:
        name: Chapter and exercise, such as "attention.causal_mask".
        candidate: The reader's function, with the signature that the exercise gives.

    Returns:
        A report that shows itself: right, not attempted yet, or what is wrong.

    Raises:
        ValueError: If there is no such exercise.
        TypeError: If `candidate` is not a function.
    """
    exercise = _find(name)
    if not callable(candidate):
        raise TypeError(
            f"check needs your function itself, not {_show(candidate)}; "
            f'write check("{name}", your_function) without calling it'
        )
    return exercise.grade(name, candidate)


def exercise_names() -> list[str]:
    """List every exercise of the book as "chapter.exercise"."""
    chapters = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [f"{chapter}.{name}" for chapter in chapters for name in _exercises_of(chapter)]


def _exercises_of(chapter: str) -> dict[str, Exercise]:
    """Load one chapter's exercises; only then is what they need imported."""
    return importlib.import_module(f"gptbook.exercises.{chapter}").EXERCISES


def _find(name: str) -> Exercise:
    """Look an exercise up, or say which there are."""
    chapter, _, exercise = name.partition(".")
    chapters = {module.name for module in pkgutil.iter_modules(__path__)}
    if chapter not in chapters:
        raise ValueError(f"no exercises for chapter {chapter!r}; there are for {sorted(chapters)}")
    exercises = _exercises_of(chapter)
    if exercise not in exercises:
        choices = ", ".join(f"{chapter}.{other}" for other in exercises)
        raise ValueError(f"no exercise {name!r}; chapter {chapter} has {choices}")
    return exercises[exercise]


def _try(
    name: str,
    candidate: Callable[..., Any],
    arguments: tuple[Any, ...],
    expected: Any,
    judge: Judge,
) -> Report | None:
    """Run one case; None if the answer is right."""
    handed_over = copy.deepcopy(arguments)
    try:
        got = candidate(*handed_over)
    except NotImplementedError:
        return _not_attempted(name)
    except Exception as error:  # a reader's code may raise anything, and all of it is reported
        return _wrong(name, f"it raised {type(error).__name__}: {error}", arguments)
    if got is None and expected is not None:
        if _is_stub(candidate):
            return _not_attempted(name)
        return _wrong(name, "it returned None; is the return missing?", arguments)
    difference = judge(expected, got, arguments)
    if difference is not None:
        return _wrong(name, difference, arguments)
    if any(compare(before, after) for before, after in zip(arguments, handed_over, strict=True)):
        return _wrong(name, "it changed its own input", arguments)
    return None


def _try_error(
    name: str, candidate: Callable[..., Any], arguments: tuple[Any, ...], error: type[Exception]
) -> Report | None:
    """Run one case that must be refused; None if it is."""
    try:
        got = candidate(*copy.deepcopy(arguments))
    except error:
        return None
    except Exception as other:  # a reader's code may raise anything, and all of it is reported
        problem = f"{type(other).__name__} came"
    else:
        if got is None and _is_stub(candidate):
            return _not_attempted(name)
        problem = f"{_show(got)} came"
    return _wrong(name, f"it should raise {error.__name__}, but {problem}", arguments)


def _wrong(name: str, problem: str, arguments: tuple[Any, ...]) -> Report:
    """Say what is wrong, then for which input."""
    return Report(name, False, f"wrong: {problem}\n  for the input {_call(arguments)}")


def _not_attempted(name: str) -> Report:
    """Say that there is nothing to grade yet."""
    return Report(name, None, "not attempted yet")


def _is_stub(candidate: Callable[..., Any]) -> bool:
    """Recognize a function without a body, as the chapter prints it."""
    code = getattr(candidate, "__code__", None)
    return code is not None and code.co_code == (lambda: None).__code__.co_code


def _compare_arrays(expected: Tensor, got: Any) -> str | None:
    """Compare kind, shape and values, and show the first value that differs."""
    if not isinstance(got, Tensor | np.ndarray):
        return f"a tensor was expected, but {_show(got)} came"
    got = torch.as_tensor(got).detach()
    if got.shape != expected.shape:
        return (
            f"a tensor of shape {tuple(expected.shape)} was expected, "
            f"but shape {tuple(got.shape)} came"
        )
    if (expected.dtype == torch.bool) != (got.dtype == torch.bool):
        return f"values of {expected.dtype} were expected, but {got.dtype} came"
    numbers = expected.to(torch.float64), got.to(torch.float64)
    wrong = ~torch.isclose(*numbers, rtol=1e-4, atol=1e-5, equal_nan=True)
    if not wrong.any():
        return None
    place = tuple(wrong.nonzero()[0].tolist())
    return (
        f"{_show(expected[place].item())} was expected at index {place}, "
        f"but {_show(got[place].item())} came"
    )


def _compare_exactly(expected: Any, got: Any) -> str | None:
    """Compare text, bytes, truth values and collections, element by element."""
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        if len(expected) != len(got):
            return (
                f"{len(expected)} elements were expected, {_show(expected)}, "
                f"but {len(got)} came, {_show(got)}"
            )
        differences = (compare(wanted, came) for wanted, came in zip(expected, got, strict=True))
        for index, difference in enumerate(differences):
            if difference is not None:
                return f"at index {index}, {difference}"
        return None
    if type(expected) is type(got) and expected == got:
        return None
    return f"{_show(expected)} was expected, but {_show(got)} came"


def _call(arguments: tuple[Any, ...]) -> str:
    """Show the arguments of a call as a reader would write them."""
    return "(" + ", ".join(_show(argument) for argument in arguments) + ")"


def _show(value: Any) -> str:
    """Show a value in a few words."""
    if isinstance(value, Tensor):
        if value.numel() <= 6:
            return f"tensor({_show(value.detach().tolist())})"
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        inside = ", ".join(_show(element) for element in value)
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
    else:
        text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
