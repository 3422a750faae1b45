"""Exercises of chapter 17: patches, room for words, luck, and where a word looks.

Shapes: Z pixels along a side, P along a side of a patch, N patches, T tokens.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare

Pair = tuple[str, str]


def put_together(patches: Tensor, size: int) -> Tensor:
    """Put the patches of one picture, (N, 3 P P), back where they were: (3, Z, Z)."""
    num = math.isqrt(len(patches))
    grid = patches.view(num, num, 3, size, size)
    return grid.permute(2, 0, 3, 1, 4).reshape(3, num * size, num * size)


def smallest_patch(side: int, num_tokens: int, context_length: int) -> int:
    """Find the smallest patches that fill a picture and leave room for the text."""
    for size in range(1, side + 1):
        if side % size == 0 and (side // size) ** 2 + num_tokens <= context_length:
            return size
    raise ValueError(f"not even one patch fits with {num_tokens} tokens in {context_length}")


def part_of(picture: Sequence[Pair], shown: Sequence[Sequence[Pair]]) -> str:
    """Say whether training showed this combination, or all its pairs, or not even these."""
    if picture in shown:
        return "seen"
    known = {pair for other in shown for pair in other}
    return "new" if known.issuperset(picture) else "never paired"


def blind_best(parts: Sequence[dict[str, float]]) -> float:
    """Say how often the best guesser that sees no picture has the whole caption right."""
    return math.prod((max(chances.values()) for chances in parts), start=1.0)


def share_on(looks: Tensor, covered: Tensor) -> Tensor:
    """Say what share of its attention to the picture each token pays to the covered patches.

    Args:
        looks: Attention weights, (T, N); what is missing to 1 goes to the text.
        covered: Which pixels count, (Z, Z). A patch counts if one of its pixels does.
    """
    num = math.isqrt(looks.shape[1])
    size = len(covered) // num
    counts = covered.view(num, size, num, size).any(dim=3).any(dim=1).flatten()
    return looks[:, counts].sum(dim=1) / looks.sum(dim=1)


def _rand(*shape: int, seed: int = 0) -> Tensor:
    """Draw the same numbers for every reader."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _judge_together(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize pictures that are shuffled, mirrored or whose colors lie side by side."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if torch.equal(got, expected.mT):
        return f"rows and columns are exchanged ({difference})"
    patches, size = arguments
    if torch.equal(got, patches.reshape(expected.shape)):
        return f"a mere reshape tears the patches into stripes; permute the axes ({difference})"
    num = math.isqrt(len(patches))
    by_columns = patches.view(num, num, -1).transpose(0, 1).reshape(patches.shape)
    if torch.equal(got, put_together(by_columns, size)):
        return f"the patches come row by row, not column by column ({difference})"
    return difference


def _judge_patch(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize patches that leave a rest, or that do not fit, or that could be smaller."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int) or got < 1:
        return difference
    side, num_tokens, context_length = arguments
    if side % got:
        return f"patches of {got} by {got} do not fill a side of {side} pixels ({difference})"
    if (side // got) ** 2 + num_tokens > context_length:
        num = (side // got) ** 2
        return (
            f"{num} patches and {num_tokens} tokens do not fit in {context_length} ({difference})"
        )
    return f"that fits, but there are smaller ones that fit, too ({difference})"


def _judge_part(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say what was overlooked."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, str):
        return difference
    reasons = {
        "seen": "just this combination was shown",
        "new": "it was never shown as a whole, but each of its pairs was",
        "never paired": "one of its pairs was in no picture that was shown",
    }
    return f"{reasons[expected]} ({difference})"


def _judge_blind(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize sums, means, and guessing evenly."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    (parts,) = arguments
    best = [max(odds.values()) for odds in parts]
    if parts and not compare(math.fsum(best) / len(best), got):
        return f"a caption counts only if every part of it is right; multiply ({difference})"
    if not compare(math.prod(1 / len(odds) for odds in parts), got):
        return f"the best guess is the likeliest, not any of them ({difference})"
    if not compare(math.prod(sum(p * p for p in odds.values()) for odds in parts), got):
        return f"that guesser draws; one that always says the likeliest does better ({difference})"
    return difference


def _judge_share(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize weights that were not divided, and pixels counted instead of patches."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    looks, covered = arguments
    if compare(expected * looks.sum(dim=1), got) is None:
        return f"divide by all that goes to the picture ({difference})"
    num = math.isqrt(looks.shape[1])
    size = len(covered) // num
    parts = covered.float().view(num, size, num, size).mean(dim=(1, 3)).flatten()
    if compare(looks @ parts / looks.sum(dim=1), got) is None:
        return f"a patch counts whole, however little of it is covered ({difference})"
    if compare(share_on(looks, covered.mT), got) is None:
        return f"patches come row by row ({difference})"
    return difference


def _mask(side: int, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Cover a rectangle."""
    covered = torch.zeros(side, side, dtype=torch.bool)
    covered[top:bottom, left:right] = True
    return covered


def _looks(num_tokens: int, num_patches: int, seed: int) -> Tensor:
    """Draw attention weights of which a part goes to the text."""
    weights = _rand(num_tokens, num_patches + 3, seed=seed)
    return (weights / weights.sum(dim=1, keepdim=True))[:, :num_patches]


_RED, _RING, _BLUE = ("red", "ball"), ("blue", "ring"), ("blue", "ball")
_SHOWN = [[_RED], [_RED, _RING], [_BLUE, _BLUE]]

EXERCISES = {
    "put_together": Exercise(
        put_together,
        cases=lambda: [
            (_rand(4, 12), 2),
            (_rand(1, 27, seed=1), 3),
            (_rand(9, 12, seed=2), 2),
            (_rand(16, 3, seed=3), 1),
        ],
        judge=_judge_together,
    ),
    "smallest_patch": Exercise(
        smallest_patch,
        cases=lambda: [
            (48, 40, 320),
            (48, 40, 76),
            (48, 40, 75),
            (30, 10, 46),
            (7, 5, 20),
            (7, 5, 54),
            (48, 40, 40),
        ],
        judge=_judge_patch,
        raises=(ValueError,),
    ),
    "part_of": Exercise(
        part_of,
        cases=lambda: [
            ([_RED, _RING], _SHOWN),
            ([_RED, _BLUE], _SHOWN),
            ([_RING], _SHOWN),
            ([("red", "ring")], _SHOWN),
            ([_RED, ("red", "ring")], _SHOWN),
            ([_RING, _RED], _SHOWN),
            ([_RED], []),
        ],
        judge=_judge_part,
    ),
    "blind_best": Exercise(
        blind_best,
        cases=lambda: [
            ([{"red": 0.5, "blue": 0.5}],),
            ([{"red": 0.7, "blue": 0.3}, {"ring": 0.2, "ball": 0.5, "hat": 0.3}],),
            ([{"one": 1.0}, {"red": 0.25, "blue": 0.75}, {"left": 0.9, "right": 0.1}],),
            ([{"a": 0.1, "b": 0.6, "c": 0.3}] * 4,),
            ([],),
        ],
        judge=_judge_blind,
    ),
    "share_on": Exercise(
        share_on,
        cases=lambda: [
            (_looks(2, 4, seed=0), _mask(8, 0, 4, 4, 8)),
            (_looks(3, 9, seed=1), _mask(12, 3, 9, 0, 4)),
            (_looks(1, 36, seed=2), _mask(48, 7, 21, 30, 45)),
            (_looks(2, 16, seed=3), _mask(8, 0, 8, 0, 8)),
            (_looks(2, 9, seed=4), _mask(9, 0, 0, 0, 0)),
        ],
        judge=_judge_share,
    ),
}
