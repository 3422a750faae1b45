"""Exercises of chapter 14: what a chat teaches, what a judge pays, and corrections of low rank.

Shapes: O outputs and I inputs of a linear layer, R rank.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare


def learned_tokens(turns: list[tuple[str, int, int]]) -> list[bool]:
    """Mark the tokens of a chat that the assistant says, ends of its turns included."""
    is_learned = [False]  # the end of text before the first message
    for role, num_name, num_content in turns:
        is_learned += [False] * num_name + [role == "assistant"] * (num_content + 1)
    return is_learned


def excess(exact: list[float], predicted: list[float]) -> float:
    """Say how many nats a label costs a classifier, on average, above what it has to cost."""
    total = 0.0
    for p, q in zip(exact, predicted, strict=True):
        total += sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
    return total / len(exact)


def affordable_rank(shapes: list[tuple[int, int]], budget: int) -> int:
    """Find the highest useful rank at which the corrections of all layers fit into a budget."""
    rank = budget // sum(outputs + inputs for outputs, inputs in shapes)
    return min(rank, max(min(shape) for shape in shapes))


def merge(weight: Tensor, corrections: list[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Add corrections to a matrix, each scaled by its alpha over its rank."""
    merged = weight.clone()
    for up, down, alpha in corrections:
        merged += alpha / down.shape[0] * (up @ down)
    return merged


def best_correction(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Split a change into the two narrow matrices whose product comes nearest to it."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]


def _learned_cases() -> list[tuple[Any, ...]]:
    """One turn, two, a system message, an assistant that begins, and one that speaks twice."""
    return [
        ([("user", 2, 3)],),
        ([("user", 2, 3), ("assistant", 4, 2)],),
        ([("system", 1, 2), ("user", 2, 1), ("assistant", 3, 4)],),
        ([("assistant", 7, 5)],),
        ([("user", 1, 1), ("assistant", 2, 1), ("user", 1, 4), ("assistant", 2, 2)],),
        ([],),
    ]


def _judge_learned(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize what is forgotten at either edge of an answer."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple):
        return difference
    (turns,) = arguments
    if len(got) == len(expected) - 1:
        return f"an end of text stands before the first message, too ({difference})"
    if len(got) != len(expected):
        return f"each message closes with one end of text ({difference})"
    num_names = sum(name for role, name, _ in turns if role == "assistant")
    if sum(map(bool, got)) == sum(expected) + num_names:
        return f"the name of the role is put there for the assistant: not learned ({difference})"
    if sum(map(bool, got)) < sum(expected):
        return f"the assistant has to learn to stop, so its end of text is learned ({difference})"
    return difference


def _excess_cases() -> list[tuple[Any, ...]]:
    """A perfect judge, one that shrugs, ones that are too sure, and labels that are certain."""
    return [
        ([0.3, 0.8], [0.3, 0.8]),
        ([0.3, 0.8], [0.5, 0.5]),
        ([0.6], [0.99]),
        ([0.9, 0.5, 0.2], [0.4, 0.6, 0.1]),
        ([1.0, 0.0], [0.7, 0.2]),
        ([0.0], [0.5]),
    ]


def _judge_excess(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a sum, a loss without its floor, and the other direction."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    exact, predicted = arguments
    if math.isnan(got):
        return (
            f"what never comes costs nothing: 0 times the logarithm of 0 counts as 0 ({difference})"
        )
    if len(exact) > 1 and compare(expected * len(exact), got) is None:
        return f"this is the sum over the texts, not the mean ({difference})"
    paid = [
        -p * math.log(q) - (1 - p) * math.log(1 - q) for p, q in zip(exact, predicted, strict=True)
    ]
    if compare(sum(paid) / len(paid), got) is None:
        return f"this is all that is paid; subtract what has to be paid ({difference})"
    if got < 0 <= expected:
        return f"nobody pays less than the floor on average ({difference})"
    return difference


def _rank_cases() -> list[tuple[Any, ...]]:
    """One layer and several, a budget that fits exactly, one that buys nothing, one too large."""
    return [
        ([(128, 128)], 1024),
        ([(384, 128), (128, 128), (128, 64)], 4 * 960 + 959),
        ([(384, 128), (128, 128)], 767),
        ([(16, 8)], 24 * 5),
        ([(16, 8)], 10_000),
        ([(16, 8), (4, 32)], 60 * 100),
    ]


def _judge_rank(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize ranks that buy nothing, and products counted for sums."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int):
        return difference
    shapes, budget = arguments
    if got > max(min(shape) for shape in shapes):
        return f"no matrix here has so many directions, so more would buy nothing ({difference})"
    if got * sum(map(sum, shapes)) > budget:
        return f"that costs {got * sum(map(sum, shapes))} of {budget} ({difference})"
    return difference


def _merge_cases() -> list[tuple[Any, ...]]:
    """None, one, two of different ranks, and an alpha that is not the rank."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        (draw(5, 3), []),
        (draw(5, 3), [(draw(5, 2), draw(2, 3), 2.0)]),
        (draw(5, 3), [(draw(5, 2), draw(2, 3), 8.0)]),
        (draw(4, 6), [(draw(4, 1), draw(1, 6), 1.0), (draw(4, 3), draw(3, 6), 1.5)]),
        (draw(4, 4), [(draw(4, 2), draw(2, 4), 3.0)]),
    ]


def _judge_merge(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a forgotten scale."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    weight, corrections = arguments
    for advice, power in (("divide alpha by the rank", 0), ("alpha is missing", -1)):
        wrong = weight + sum(
            (alpha if power == 0 else 1.0) * (up @ down) for up, down, alpha in corrections
        )
        if compare(wrong, got) is None:
            return f"{advice} ({difference})"
    return difference


def _best_cases() -> list[tuple[Any, ...]]:
    """Wide, tall, of full rank, of a rank lower than asked for, and one direction only."""
    generator = torch.Generator().manual_seed(1)
    tall = torch.randn(7, 4, generator=generator)
    wide = torch.randn(3, 6, generator=generator)
    return [(tall, 1), (tall, 2), (wide, 2), (wide, 3), (tall[:, :1] @ wide[:1], 2), (tall, 4)]


def _judge_best(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Judge the product, since its two factors may be chosen in many ways."""
    change, rank = arguments
    is_pair = isinstance(got, list | tuple) and len(got) == 2
    if not is_pair or not all(isinstance(row, Tensor) for row in got):
        return "two tensors were expected: up and down"
    up, down = got
    if up.shape != (change.shape[0], rank) or down.shape != (rank, change.shape[1]):
        return (
            f"up and down must be {(change.shape[0], rank)} and {(rank, change.shape[1])}, "
            f"not {tuple(up.shape)} and {tuple(down.shape)}"
        )
    nearest = expected[0] @ expected[1]
    if torch.allclose(up @ down, nearest, atol=1e-4):
        return None
    missed, least = ((change - row).norm().item() for row in (up @ down, nearest))
    return f"the product misses the change by {missed:.4f}, and {least:.4f} is possible"


EXERCISES = {
    "learned_tokens": Exercise(learned_tokens, _learned_cases, _judge_learned),
    "excess": Exercise(excess, _excess_cases, _judge_excess),
    "affordable_rank": Exercise(affordable_rank, _rank_cases, _judge_rank),
    "merge": Exercise(merge, _merge_cases, _judge_merge),
    "best_correction": Exercise(best_correction, _best_cases, _judge_best),
}
