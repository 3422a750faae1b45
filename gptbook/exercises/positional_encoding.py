"""Exercises of chapter 4: positions in words, in turns and in dtypes."""

import math
from collections.abc import Iterator
from typing import Any

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
    yield torch.arange(6.0, dtype=torch.float64)[:, None].repeat(1, 2), 1
    yield torch.arange(12.0, dtype=torch.float64)[:, None].repeat(1, 3), 2
    yield _randn(24, 24, seed=3), 3


def _reach_cases() -> Iterator[tuple[Any, ...]]:
    for slope in (1 / 2, 1 / 4, 1 / 16, 1 / 256):
        yield slope, 0.95
    yield 2**-0.5, 0.5
    yield 3.0, 0.1


def _distance_cases() -> Iterator[tuple[Any, ...]]:
    apart = [(0, 1), (3, 0), (5, 5), (100, 117), (900, 0), (4_000, 5_000), (7, 207)]
    for seed, (p, q) in enumerate(apart):
        head_dim, theta = (16, 10_000.0) if seed % 2 else (64, 500_000.0)
        x, rotary = _randn(1, head_dim, seed=seed), RotaryPositions(head_dim, theta=theta)
        yield rotary(x, p)[0], rotary(x, q)[0], theta


def _judge_sinusoidal(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    all_sines_first = torch.cat([expected[:, 0::2], expected[:, 1::2]], dim=1)
    if compare(all_sines_first, got) is None:
        return "all sines stand before all cosines; each cosine belongs beside its sine"
    if compare(sinusoidal(torch.arange(len(got)).double(), arguments[1]), got) is None:
        return "these are positions 0, 1, 2, ..., not the positions that came in"
    return difference


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
    )
    for mistake, message in mistakes:
        if compare(mistake, got) is None:
            return message
    return difference


def _judge_reorder(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    weight, num_heads = arguments
    if difference is None or not isinstance(got, Tensor):
        return difference
    if compare(reorder(weight, 1), got) is None:
        return "channels moved from one head to another; reorder inside each head"
    order = pairing_permutation(len(weight) // num_heads).argsort()
    if compare(weight.unflatten(0, (num_heads, -1))[:, order].flatten(0, 1), got) is None:
        return "this is the way back, from halves to neighbors"
    return difference


def _judge_distance(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    difference = compare(expected, got)
    if difference is not None and expected != 0 and compare(-expected, got) is None:
        return f"the distance q - p is {expected}, but {got} came: that is p - q"
    return difference


EXERCISES = {
    "first_collision": Exercise(
        first_collision,
        cases=lambda: [(torch.bfloat16,), (torch.float16,)],  # few enough to count through
    ),
    "sinusoidal": Exercise(sinusoidal, cases=_position_cases, judge=_judge_sinusoidal),
    "rotate": Exercise(rotate, cases=_rotate_cases, judge=_judge_rotate),
    "reorder": Exercise(reorder, cases=_reorder_cases, judge=_judge_reorder),
    "reach": Exercise(reach, cases=_reach_cases),
    "distance": Exercise(distance, cases=_distance_cases, judge=_judge_distance),
}
