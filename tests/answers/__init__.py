"""Right and wrong answers to the exercises, on which the graders themselves are graded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answers:
    """For one exercise: right answers written in other ways, and mistakes that learners make."""

    right: list[Callable[..., Any]]
    wrong: list[Callable[..., Any]]
