"""Exercises of chapter 4: positions in words, in turns and in dtypes."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gptbook.exercises import Exercise, compare
from gptbook.positional import RotaryPositions, pairing_permutation


def first_collision(dtype: torch.dtype) -> int:
    """Give the smallest whole number that equals its successor in `dtype`."""
    return round(2 / torch.finfo(dtype).eps)


def sinusoidal(positions: Float[Tensor, " T"], d_model: int) -> Float[Tensor, "T D"]:
    """Give the sinusoidal encoding of any positions."""
    pairs = torch.arange(d_model // 2, dtype=positions.dtype)
    angles = positions[:, None] * 10_000 ** (-2 * pairs / d_model)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1)


def rotate(x: Float[Tensor, " K"], position: int, theta: float) -> Float[Tensor, " K"]:
    """Turn one vector, with neighbors as pairs."""
    rotary = RotaryPositions(len(x), theta=theta, pairing="neighbors")
    return rotary(x[None], first_position=position)[0]


def reorder(weight: Float[Tensor, "HK D"], num_heads: int) -> Float[Tensor, "HK D"]:
    """Turn a projection made for neighbors into one for halves."""
    heads = weight.unflatten(0, (num_heads, -1))  # (H, K, D)
    return heads[:, pairing_permutation(heads.shape[1])].flatten(0, 1)


def reach(slope: float, share: float) -> int:
    """Count the nearest positions that get `share` of an ALiBi head's attention."""
    return math.ceil(math.log(1 - share) / -slope)


def distance(at_p: Float[Tensor, " K"], at_q: Float[Tensor, " K"], theta: float) -> int:
    """Find how far apart two turned copies of a vector stand."""
    before, after = (torch.complex(*x.chunk(2))[-1] for x in (at_p, at_q))
    slowest = theta ** (-(len(at_p) - 2) / len(at_p))
    return round((after / before).angle().item() / slowest)


def _randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def _position_cases() -> Iterator[tuple[Any, ...]]:
    yield torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 4
    yield torch.tensor([7.0, 2.5, 100.0, 0.25], dtype=torch.float64), 8
    yield torch.tensor([-3.0, 40.0], dtype=torch.float64), 64


def _rotate_cases() -> Iterator[tuple[Any, ...]]:
    yield torch.tensor([1.0, 0.0], dtype=torch.float64), 1, 10_000.0
    yield torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), 0, 10_000.0
    yield torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), 5, 10_000.0
    yield _randn(6, seed=1), 3, 100.0
    yield _randn(16, seed=2), 50, 500_000.0


def _reorder_cases() -> Iterator[tuple[Any, ...]]:
    yield torch.arange(24.0, dtype=torch.float64).unflatten(0, (6, 4)), 1
    yield torch.arange(12.0, dtype=torch.float64)[:, None].repeat(1, 3), 2
    yield _randn(24, 24, seed=3), 3


def _reach_cases() -> Iterator[tuple[Any, ...]]:
    for slope in (1 / 2, 1 / 4, 1 / 16, 1 / 256):
        yield slope, 0.95
    yield 2**-0.5, 0.5
    yield 3.0, 0.1


def _distance_cases() -> Iterator[tuple[Any, ...]]:
    apart = [(100, 117), (3, 0), (5, 5), (0, 1), (900, 0), (4_000, 5_000), (7, 207)]
    for seed, (p, q) in enumerate(apart):
        head_dim, theta = (16, 10_000.0) if seed % 2 else (64, 500_000.0)
        x, rotary = _randn(1, head_dim, seed=seed), RotaryPositions(head_dim, theta=theta)
        yield rotary(x, p)[0], rotary(x, q)[0], theta
    for p, q in ((0, 100), (100, 0)):  # here the slowest hand crosses pi
        x, rotary = _randn(1, 16, seed=7), RotaryPositions(16, theta=10_000.0)
        x[0, 7], x[0, 15] = -1.0, 0.01
        yield rotary(x, p)[0], rotary(x, q)[0], 10_000.0


def _judge_integer(expected: int, got: Any) -> str | None:
    """Compare, and insist on an integer where the number is right."""
    difference = compare(expected, got)
    if difference is None and not isinstance(got, int | np.integer):
        return f"the number is right, but an integer was asked for, not a {type(got).__name__}"
    return difference


def _number(got: Any) -> float | None:
    """Give what came as a number, if it is one."""
    return float(got) if isinstance(got, int | float | np.number) else None


def _first_match(mistakes: Iterable[tuple[Any, str]], got: Any) -> str | None:
    """Name the known mistake that leads to what came."""
    messages = (message for mistake, message in mistakes if compare(mistake, got) is None)
    return next(messages, None)


def _judge_first_collision(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = _judge_integer(expected, got)
    first_step = expected // 2
    mistakes = (
        (
            first_step,
            f"from {first_step} on the steps have size 1, so {first_step} and {first_step + 1} "
            "still differ; find where the steps reach 2",
        ),
        (expected + 1, f"{expected + 1} is p + 1, the second of the equal two; give the first"),
    )
    return difference and (_first_match(mistakes, got) or difference)


def _judge_reach(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = _judge_integer(expected, got)
    number = _number(got)
    if difference is None or number is None:
        return difference
    if number == expected - 1:
        return f"{number:.0f} is one too few: count the position itself, and round up"
    if expected - 1 < number < expected:
        return f"a number of positions is an integer, but {number:.6g} came; round it up"
    return difference


def _judge_sinusoidal(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if difference is None and got.dtype != torch.float64:
        return f"float64 positions came in, so float64 should come out, not {str(got.dtype)[6:]}"
    positions, d_model = arguments
    i = torch.arange(d_model, dtype=torch.float64)
    angles = positions[:, None] * 10_000 ** (-2 * i / d_model)
    sines, cosines = expected[:, 0::2], expected[:, 1::2]
    mistakes = (
        (
            torch.cat([sines, cosines], dim=1),
            "all sines stand before all cosines; each cosine belongs beside its sine",
        ),
        (
            torch.stack([cosines, sines], dim=-1).flatten(start_dim=1),
            "cosines stand in even channels; the sine comes first",
        ),
        (sines.repeat_interleave(2, dim=1), "sines stand in the odd channels, too"),
        (
            torch.where(i % 2 == 0, angles.sin(), angles.cos()),
            "i counts channels here; it should count pairs, from 0 to d_model / 2 - 1, and a "
            "sine and its cosine have the same angle",
        ),
        (
            sinusoidal(torch.arange(len(got), dtype=torch.float64), d_model),
            "these are positions 0, 1, 2, ..., not the positions that came in",
        ),
    )
    return difference and (_first_match(mistakes, got) or difference)


def _judge_rotate(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor):
        return difference
    x, position, theta = arguments
    halves = RotaryPositions(len(x), theta=theta)(x[None], position)[0]
    backward = rotate(torch.stack([x[0::2], -x[1::2]], -1).flatten(), position, theta)
    backward = torch.stack([backward[0::2], -backward[1::2]], -1).flatten()
    mistakes = (
        (x, "the vector came back as it was, whatever its position"),
        (backward, "the pairs turned the wrong way; look at the sign of the sines"),
        (halves, "the pairs are halves, channel i with i + K / 2, not neighbors"),
        (
            torch.cat([expected[0::2], expected[1::2]]),
            "neighbors were turned, but put back as halves; put each pair back side by side, "
            "with stack and flatten instead of cat",
        ),
        (rotate(x, position, 10_000.0), "theta is 10,000 here, whatever came in"),
    )
    return _first_match(mistakes, got) or difference


def _judge_reorder(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    weight, num_heads = arguments
    if difference is None or not isinstance(got, Tensor):
        return difference
    back = pairing_permutation(len(weight) // num_heads).argsort()
    mistakes = [
        (weight, "the weight came back as it was"),
        (reorder(weight, 1), "channels moved from one head to another; reorder inside each head"),
        (
            weight.unflatten(0, (num_heads, -1))[:, back].flatten(0, 1),
            "this is the way back, from halves to neighbors",
        ),
    ]
    columns = "columns moved, but a channel of the queries is a row of the weight"
    for heads in {1, num_heads}:
        if weight.shape[1] % (2 * heads) == 0:
            mistakes.append((reorder(weight.T, heads).T, columns))
    return _first_match(mistakes, got) or difference


def _judge_distance(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = _judge_integer(expected, got)
    number = _number(got)
    if difference is None or number is None:
        return difference
    if 0 < abs(number - expected) < 0.5:
        return f"q - p is an integer, but {number!r} came; round it"
    at_p, at_q, theta = arguments
    slowest = theta ** (-(len(at_p) - 2) / len(at_p))
    if expected != 0 and round(number) == -expected:
        return f"the distance q - p is {expected}, but {number:.6g} came: that is p - q"
    if abs(abs(number - expected) - 2 * math.pi / slowest) < 1:
        return (
            "this is off by one full turn of the slowest pair: the difference of two angles "
            "can leave the range from -pi to pi, so wrap it back"
        )
    before, after = (torch.complex(*x.chunk(2)) for x in (at_p, at_q))
    if abs(number - (after / before)[0].angle().item()) < 0.51:
        return "this is what the first pair says, but it turns once around in six positions"
    before, after = (torch.complex(*x[-2:]) for x in (at_p, at_q))
    one_angle, two_angles = (after / before).angle(), after.angle() - before.angle()
    if min(abs(number - angle.item() / slowest) for angle in (one_angle, two_angles)) < 0.51:
        return (
            "this is what the last two channels say, but the pairs are halves: the slowest is "
            "channel K / 2 - 1 with channel K - 1"
        )
    return difference


EXERCISES = {
    "first_collision": Exercise(
        first_collision,
        cases=lambda: [(torch.bfloat16,), (torch.float16,)],  # few enough to count through
        judge=_judge_first_collision,
    ),
    "sinusoidal": Exercise(sinusoidal, cases=_position_cases, judge=_judge_sinusoidal),
    "rotate": Exercise(rotate, cases=_rotate_cases, judge=_judge_rotate),
    "reorder": Exercise(reorder, cases=_reorder_cases, judge=_judge_reorder),
    "reach": Exercise(reach, cases=_reach_cases, judge=_judge_reach),
    "distance": Exercise(distance, cases=_distance_cases, judge=_judge_distance),
}
