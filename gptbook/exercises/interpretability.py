"""Exercises of chapter 18: heads with a habit, shares of a score, and patches.

Shapes: T positions, S keys, D d_model, H heads, K head_dim.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare


def induction_score(weights: Tensor, length: int) -> float:
    """Average the attention, in the second half, to what followed the same token in the first."""
    looks = [weights[place, place - length + 1] for place in range(length, 2 * length)]
    return torch.stack(looks).mean().item()


def recovered(clean: float, corrupted: float, patched: float) -> float:
    """Say which share of the way from the corrupted to the clean score a patch has gone."""
    if clean == corrupted:
        raise ValueError("clean and corrupted scores are equal, so there is no way to go")
    return (patched - corrupted) / (clean - corrupted)


def shares(parts: Tensor, weight: Tensor, direction: Tensor, eps: float) -> Tensor:
    """Split what is read after an RMSNorm of a sum into what each term of the sum gave."""
    total = parts.sum(dim=0)
    scale = (total.square().mean() + eps).rsqrt()
    return (parts * scale * weight) @ direction


def patched(mixed: Tensor, other: Tensor, output: Tensor, head: int, place: int) -> Tensor:
    """Say what a layer adds if one head says, at one place, what it said in another text."""
    new = mixed.clone()
    new[head, place] = other[head, place]
    return new.transpose(0, 1).flatten(1) @ output.T


def distance(one: Tensor, other: Tensor) -> float:
    """Say how much attention would have to be moved to make one map of the other."""
    return (one - other).abs().sum().item() / 2


def _induction_cases() -> list[tuple[Any, ...]]:
    """Perfect heads of three kinds, one that looks everywhere, and random ones."""
    generator = torch.Generator().manual_seed(0)
    length = 4
    perfect, previous, same = (torch.zeros(2 * length, 2 * length) for _ in range(3))
    for place in range(2 * length):
        perfect[place, max(0, place - length + 1)] = 1.0
        previous[place, max(0, place - 1)] = 1.0
        same[place, max(0, place - length)] = 1.0
    cases: list[tuple[Any, ...]] = [(perfect, length), (previous, length), (same, length)]
    for length in (2, 3, 5):
        size = 2 * length
        scores = torch.randn(size, size, generator=generator)
        hidden = torch.ones(size, size, dtype=torch.bool).triu(1)
        cases.append((scores.masked_fill(hidden, -math.inf).softmax(dim=-1), length))
    return cases


def _judge_induction(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the places beside the right one."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float | Tensor):
        return difference
    weights, length = arguments
    for advice, back in (
        ("that is the same token; look one after it", length),
        ("that is the token before; look one after the same token", length + 1),
    ):
        looks = [weights[i, max(0, i - back)] for i in range(length, 2 * length)]
        if compare(torch.stack(looks).mean().item(), got) is None:
            return f"{advice} ({difference})"
    return difference


def _recovered_cases() -> list[tuple[Any, ...]]:
    """Nothing, all, half, too far, the wrong way, negative scores, and no way to go."""
    return [
        (4.0, -2.0, -2.0),
        (4.0, -2.0, 4.0),
        (4.0, -2.0, 1.0),
        (4.0, -2.0, 7.0),
        (4.0, -2.0, -5.0),
        (-1.0, -3.0, -2.5),
        (0.0, 5.0, 4.0),
        (2.0, 2.0, 2.0),
    ]


def _judge_recovered(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the other end, and a cut."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    if compare(1 - expected, got) is None:
        return f"0 is the corrupted score and 1 the clean one, not the reverse ({difference})"
    if expected != min(1.0, max(0.0, expected)) == got:
        return f"a patch can go too far, or the wrong way: do not cut it ({difference})"
    return difference


def _shares_cases() -> list[tuple[Any, ...]]:
    """One part alone, several, parts that cancel in part, and an eps that matters."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    parts = draw(3, 6)
    return [
        (draw(1, 4), draw(4), draw(4), 1e-6),
        (parts, draw(6), draw(6), 1e-6),
        (torch.cat([parts, -0.9 * parts[:1]]), draw(6), draw(6), 1e-6),
        (draw(5, 8), draw(8), draw(8), 0.5),
    ]


def _judge_shares(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a norm for each part, and no norm."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    parts, weight, direction, eps = arguments
    each = (parts.square().mean(dim=1, keepdim=True) + eps).rsqrt()
    if compare((parts * each * weight) @ direction, got) is None:
        return f"the scale is that of the sum, the same for every part ({difference})"
    if compare((parts * weight) @ direction, got) is None:
        return f"the norm's scale is missing ({difference})"
    if compare(expected.sum(), got.sum()) is not None:
        return f"the shares do not add up to the score ({difference})"
    return difference


def _patched_cases() -> list[tuple[Any, ...]]:
    """One head alone, the first place and the last, and sizes that cannot be mistaken."""
    generator = torch.Generator().manual_seed(3)

    def case(num_heads: int, length: int, width: int, head: int, place: int) -> tuple[Any, ...]:
        mixed, other = torch.randn(2, num_heads, length, width, generator=generator)
        output = torch.randn(num_heads * width + 1, num_heads * width, generator=generator)
        return mixed, other, output, head, place

    return [case(1, 3, 4, 0, 1), case(2, 5, 3, 1, 0), case(4, 4, 2, 2, 3), case(3, 6, 5, 0, 4)]


def _judge_patched(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize no patch, too large a patch, the wrong way, and heads that are mixed up."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    mixed, other, output, head, place = arguments
    everywhere, every_head = mixed.clone(), mixed.clone()
    everywhere[head], every_head[:, place] = other[head], other[:, place]
    for advice, heads in (
        ("nothing is patched", mixed),
        ("only one position is patched, not all", everywhere),
        ("only one head is patched, not all", every_head),
    ):
        if compare(heads.transpose(0, 1).flatten(1) @ output.T, got) is None:
            return f"{advice} ({difference})"
    if compare(patched(other, mixed, output, head, place), got) is None:
        return f"patch what `other` says into `mixed`, not the reverse ({difference})"
    right = mixed.clone()
    right[head, place] = other[head, place]
    if compare(right.reshape(mixed.shape[1], -1) @ output.T, got) is None:
        return f"the position must come first, then the heads are laid side by side ({difference})"
    return difference


def _distance_cases() -> list[tuple[Any, ...]]:
    """Equal maps, maps without a common key, and maps in between."""
    generator = torch.Generator().manual_seed(2)
    one, other, third = torch.rand(3, 7, generator=generator).softmax(dim=1)
    return [
        (one, one),
        (torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.5, 0.5])),
        (torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])),
        (one, other),
        (other, third),
    ]


def _judge_distance(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize what is moved counted twice, and its sign forgotten."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float | Tensor):
        return difference
    if compare(2 * expected, got) is None:
        return f"what leaves one key arrives at another: it is counted twice ({difference})"
    if compare(0.0, got) is None:
        return f"what is more here is less there: forget the sign before the sum ({difference})"
    return difference


EXERCISES = {
    "induction_score": Exercise(induction_score, _induction_cases, _judge_induction),
    "shares": Exercise(shares, _shares_cases, _judge_shares),
    "recovered": Exercise(recovered, _recovered_cases, _judge_recovered, raises=(ValueError,)),
    "patched": Exercise(patched, _patched_cases, _judge_patched),
    "distance": Exercise(distance, _distance_cases, _judge_distance),
}
