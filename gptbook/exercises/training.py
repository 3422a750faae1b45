"""Exercises of chapter 9: labels, a schedule, two rules of the step, and a sum that must be right.

Shapes: T positions of a row of tokens.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare

IGNORED = -100


def packed_targets(token_ids: Tensor, end: int) -> Tensor:
    """Shift the row by one, and grade no guess that reaches over the end of a document."""
    nothing = torch.tensor([IGNORED])
    targets = torch.cat([token_ids[1:], nothing])
    return torch.where(token_ids == end, IGNORED, targets)


def trapezoid(step: int, peak: float, num_steps: int, warmup: int, cooldown: int) -> float:
    """Rise along a line, stay, and fall along a line that would reach zero after the last step."""
    rising = (step + 1) / warmup if warmup else 1.0
    falling = (num_steps - step) / cooldown if cooldown else 1.0
    return peak * min(1.0, rising, falling)


def clip(gradients: list[Tensor], limit: float) -> list[Tensor]:
    """Shorten all gradients by one factor if together they are longer than the limit."""
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
    factor = min(1.0, limit / norm) if norm > 0 else 1.0
    return [gradient * factor for gradient in gradients]


def adamw_step(
    parameter: Tensor, gradient: Tensor, m: Tensor, v: Tensor, t: int, rate: float, decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Take AdamW's step number t, with betas 0.9 and 0.95 and an eps of 1e-8."""
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.square()
    direction = (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
    return parameter - rate * (direction + decay * parameter), m, v


def shares(num_targets: list[int]) -> list[float]:
    """Say by what each batch's mean loss is multiplied, so that the sum is the mean of all."""
    total = sum(num_targets)
    if total == 0:
        raise ValueError("no batch has a target")
    return [count / total for count in num_targets]


def _packed_cases() -> list[tuple[Any, ...]]:
    """Documents of several lengths, an end at either edge, and another end token."""
    return [
        (torch.tensor([5, 6, 7, 8]), 0),
        (torch.tensor([5, 6, 0, 7, 8]), 0),
        (torch.tensor([5, 6, 0, 7, 0]), 0),
        (torch.tensor([0, 3, 0, 0, 4]), 0),
        (torch.tensor([9, 1, 9, 2, 0, 3]), 9),
        (torch.tensor([4]), 0),
    ]


def _judge_packed(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the usual slips by where they show."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    token_ids, end = arguments
    if got[-1] != IGNORED:
        return f"after the last token nothing is known: its target must be {IGNORED} ({difference})"
    if torch.equal(got[:-1], token_ids[1:]) and (token_ids[:-1] == end).any():
        return f"the end of one document should not have to guess the next one ({difference})"
    if len(got) > 1 and torch.equal(got[:-1], token_ids[:-1]):
        return f"these are the tokens themselves, not the ones that follow ({difference})"
    if ((token_ids[1:] == end) & (got[:-1] == IGNORED)).any():
        return f"that a document ends is to be learned, so its end is a target ({difference})"
    return difference


def _trapezoid_cases() -> list[tuple[Any, ...]]:
    """Every part of the way, with and without each slope, and slopes that meet."""
    return [
        *((step, 0.4, 20, 4, 5) for step in (0, 1, 3, 4, 10, 14, 15, 16, 19)),
        *((step, 1.0, 10, 0, 5) for step in (0, 5, 9)),
        *((step, 1.0, 10, 5, 0) for step in (0, 4, 9)),
        *((step, 2.0, 6, 4, 4) for step in range(6)),
    ]


def _judge_trapezoid(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a first or last step that is wasted."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    step, _, num_steps, warmup, _ = arguments
    if got == 0 and step in (0, num_steps - 1):
        return f"a step with learning rate 0 changes nothing and is wasted ({difference})"
    if step < warmup and got > expected:
        return f"step {step} is still in the warm-up ({difference})"
    return difference


def _clip_cases() -> list[tuple[Any, ...]]:
    """Long ones, short ones, one at the limit, zeros, and one part much longer than another."""
    return [
        ([torch.tensor([3.0, 4.0])], 1.0),
        ([torch.tensor([0.3, 0.4])], 1.0),
        ([torch.tensor([3.0, 4.0])], 5.0),
        ([torch.tensor([6.0]), torch.tensor([[0.0, 8.0]])], 5.0),
        ([torch.tensor([0.01]), torch.tensor([30.0, 40.0])], 10.0),
        ([torch.zeros(2), torch.zeros(3)], 1.0),
        ([torch.tensor([-3.0, 4.0]), torch.tensor([12.0])], 1.3),
    ]


def _judge_clip(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize scaling of short gradients, and parts clipped one by one."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple):
        return difference
    if not all(isinstance(part, Tensor) and part.isfinite().all() for part in got):
        return f"a gradient of zeros has no length to divide by ({difference})"
    gradients, limit = arguments
    if compare(gradients, expected) is None:
        return f"gradients within the limit stay as they are ({difference})"
    one_by_one = [clip([gradient], limit)[0] for gradient in gradients]
    if compare(one_by_one, got) is None:
        return f"the length is that of all gradients together, not of each ({difference})"
    return difference


def _adamw_cases() -> list[tuple[Any, ...]]:
    """The first step, later ones, tiny gradients where eps counts, and strong decay."""
    parameter, gradient = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, -3.0, 0.0])
    zeros, later = torch.zeros(3), torch.tensor([0.2, -1.0, 0.3])
    return [
        (parameter, gradient, zeros, zeros, 1, 0.01, 0.0),
        (parameter, gradient, zeros, zeros, 1, 0.01, 0.1),
        (parameter, gradient, later, later.square(), 7, 0.1, 0.0),
        (parameter, gradient, later, later.square(), 7, 0.1, 0.5),
        (parameter, 1e-7 * torch.ones(3), zeros, zeros, 1, 1.0, 0.0),
        (parameter, gradient, later, later.square(), 900, 0.1, 0.2),
    ]


def _judge_adamw(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the three classical mistakes by computing them."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 3:
        return difference
    parameter, _, _, _, t, rate, decay = arguments
    _, m, v = expected
    mean, square = m / (1 - 0.9**t), v / (1 - 0.95**t)
    mistakes = {
        "eps belongs outside the root": mean / (square + 1e-8).sqrt(),
        "the means began at zero: divide them by 1 - beta**t": m / (v.sqrt() + 1e-8),
    }
    for advice, direction in mistakes.items():
        wrong = parameter - rate * (direction + decay * parameter)
        if compare(wrong, got[0]) is None and compare(wrong, expected[0]) is not None:
            return f"{advice} ({difference})"
    if decay and compare(m, got[1]) is not None:
        return f"decay is no part of the gradient in AdamW: keep it out of m and v ({difference})"
    return difference


def _shares_cases() -> list[tuple[Any, ...]]:
    """Even, uneven, with empty batches, a single one, and nothing at all."""
    return [([4, 4],), ([1, 3],), ([0, 5, 15],), ([7],), ([2, 0, 0],), ([0, 0],)]


def _judge_shares(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the mean of means."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple):
        return difference
    (counts,) = arguments
    if compare([1 / len(counts)] * len(counts), got) is None:
        return f"in a mean of means, batches with few targets weigh too much ({difference})"
    return difference


EXERCISES = {
    "packed_targets": Exercise(packed_targets, _packed_cases, _judge_packed),
    "shares": Exercise(shares, _shares_cases, _judge_shares, raises=(ValueError,)),
    "trapezoid": Exercise(trapezoid, _trapezoid_cases, _judge_trapezoid),
    "clip": Exercise(clip, _clip_cases, _judge_clip),
    "adamw_step": Exercise(adamw_step, _adamw_cases, _judge_adamw),
}
