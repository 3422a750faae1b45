"""Exercises of chapter 2: six small machines that stand around every attention kernel.

Shapes: T query positions, S key positions, K head_dim, K2 width of the values.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare

Chunk = tuple[float, float, Tensor]


def softmax(scores: Tensor, dim: int) -> Tensor:
    """Turn scores into weights along one axis, however large the scores are."""
    powers = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return powers / powers.sum(dim=dim, keepdim=True)


def causal_mask(num_queries: int, num_keys: int, window: int) -> Tensor:
    """Mark the last `window` keys up to each query, which are the last of the keys."""
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    distance = query - torch.arange(num_keys)
    return (distance >= 0) & (distance < window)


def padded_attention(query: Tensor, key: Tensor, value: Tensor, num_padding: int) -> Tensor:
    """Attend causally, as if the padding in front were not there."""
    num_tokens = query.shape[0]
    position = torch.arange(num_tokens)
    hidden = (position > position[:, None]) | (position < num_padding)
    scores = query @ key.mT / math.sqrt(query.shape[1])
    output = scores.masked_fill(hidden, -math.inf).softmax(dim=-1) @ value
    return output.masked_fill((position < num_padding)[:, None], 0.0)


def softmax_gradient(weights: Tensor, upstream: Tensor) -> Tensor:
    """Turn a loss's gradient by the weights into its gradient by the scores."""
    mean = (weights * upstream).sum(dim=-1, keepdim=True)
    return weights * (upstream - mean)


def effective_tokens(weights: Tensor) -> Tensor:
    """Count the keys that a row attends to: the exponential of its entropy."""
    return torch.special.entr(weights).sum(dim=-1).exp()


def merge_chunks(first: Chunk, second: Chunk) -> Chunk:
    """Combine attention over two sets of keys into attention over both."""
    maximum = max(first[0], second[0])
    totals = [total * math.exp(largest - maximum) for largest, total, _ in (first, second)]
    mixture = (totals[0] * first[2] + totals[1] * second[2]) / sum(totals)
    return maximum, sum(totals), mixture


def _random(seed: int, *shape: int) -> Tensor:
    """Draw the same numbers each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _softmax_cases() -> list[tuple[Any, ...]]:
    """Both axes, more axes, numbers past overflow, and rows far apart."""
    return [
        (torch.tensor([1.0, 2.0, 3.0]), 0),
        (_random(0, 3, 4), 1),
        (_random(1, 3, 4), 0),
        (_random(2, 2, 3, 4), 1),
        (_random(3, 2, 3, 4), -2),
        (torch.tensor([1000.0, 1001.0]), 0),
        (torch.tensor([[0.0, 1.0], [1000.0, 1001.0]]), 1),
        (torch.tensor([[0.0, 1000.0], [1.0, 1001.0]]), 0),
        (torch.tensor([[0.0, -math.inf], [-900.0, -902.0]]), -1),
    ]


def _judge_softmax(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the wrong axis, and numbers that overflow or vanish."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    scores, dim = arguments
    if not got.isfinite().all():
        return (
            "exp of a large score overflows, and a row whose every exp is 0 cannot be divided by "
            f"its sum; subtract each row's own maximum first ({difference})"
        )
    others = [other for other in range(scores.ndim) if other != dim % scores.ndim]
    if any(compare(softmax(scores, other), got) is None for other in others):
        return f"this is the softmax along another axis than dim={dim} ({difference})"
    return difference


def _mask_cases() -> list[tuple[Any, ...]]:
    """Square and oblong, windows of one, of some and of more than all."""
    return [(5, 5, 2), (4, 4, 1), (4, 4, 9), (2, 5, 2), (1, 6, 3), (3, 4, 3), (3, 3, 3)]


def _judge_mask(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a mask that marks what is hidden, and queries put at the start."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if got.dtype != torch.bool:
        return difference
    if torch.equal(got, ~expected):
        return f"True should mark the keys that are seen; here it marks the rest ({difference})"
    num_queries, num_keys, window = arguments
    if torch.equal(got, causal_mask(num_queries, num_keys, window + 1)):
        return f"a window of {window} counts the query's own position too ({difference})"
    from_the_start = causal_mask(num_keys, num_keys, window)[:num_queries]
    if torch.equal(got, from_the_start):
        return f"the queries are the last positions, not the first ({difference})"
    return difference


def _padded_cases() -> list[tuple[Any, ...]]:
    """No padding, some, all but one; values of another width; loud padding."""
    cases: list[tuple[Any, ...]] = []
    for seed, num_tokens, width, num_padding in [(0, 3, 4, 0), (1, 5, 4, 2), (2, 6, 9, 1)]:
        query, key = _random(seed, 2, num_tokens, width)
        cases.append((query, key, _random(seed + 10, num_tokens, 3), num_padding))
    query, key = _random(3, 2, 4, 2)
    key[:3], query[:3] = 50.0, 50.0
    value = _random(13, 4, 5)
    value[:3] = 1e4
    return [*cases, (query, key, value, 3)]


def _judge_padded(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize rows of the padding that were left undefined, and a wrong scale."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    query, key, value, num_padding = arguments
    if not got[:num_padding].isfinite().all():
        return f"a row with no key in sight is 0 / 0; make it 0 after the softmax ({difference})"
    if compare(expected[num_padding:], got[num_padding:]) is None:
        return f"the output at a padding row must be 0 ({difference})"
    unscaled = padded_attention(query * math.sqrt(query.shape[1]), key, value, num_padding)
    if compare(unscaled, got) is None:
        return f"the scores are not divided by the root of head_dim ({difference})"
    padding_seen = padded_attention(query, key, value, 0)
    if compare(padding_seen[num_padding:], got[num_padding:]) is None:
        return f"later queries still see the padding ({difference})"
    return difference


def _weights_cases() -> list[tuple[Any, ...]]:
    """One row, one-hot, uniform, and rows in a batch."""
    return [
        (torch.tensor([0.7, 0.2, 0.1]),),
        (torch.tensor([1.0, 0.0, 0.0, 0.0]),),
        (torch.full((8,), 0.125),),
        (_random(0, 3, 4).softmax(dim=-1),),
        (_random(1, 2, 3, 5).mul(3).softmax(dim=-1),),
        (torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]),),
    ]


def _gradient_cases() -> list[tuple[Any, ...]]:
    """The same rows, each with a gradient from above; one that is equal for all weights."""
    cases = [
        (weights, _random(seed, *weights.shape))
        for seed, (weights,) in enumerate(_weights_cases(), start=30)
    ]
    return [*cases, (torch.tensor([0.7, 0.2, 0.1]), torch.full((3,), 2.0))]


def _judge_gradient(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a gradient that forgets that weights share one sum."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    weights, upstream = arguments
    diagonal_only = (weights * (1 - weights) * upstream, weights * upstream)
    if any(compare(alone, got) is None for alone in diagonal_only):
        return (
            "raising one score lowers all other weights, so the matrix of derivatives is not "
            f"diagonal ({difference})"
        )
    if compare(upstream, got) is None:
        return f"this is the gradient by the weights, not by the scores ({difference})"
    return difference


def _judge_effective(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize 0 log 0, the entropy itself, and the other effective number."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if got.isnan().any():
        return f"a weight of 0 adds nothing, although 0 * log(0) computes to nan ({difference})"
    if compare(expected.log(), got) is None:
        return f"this is the entropy; its exponential counts tokens ({difference})"
    if compare(1 / arguments[0].square().sum(dim=-1), got) is None:
        return f"1 / (sum of squares) is another effective number; use the entropy ({difference})"
    return difference


def _chunk(scores: list[float], values: Tensor) -> Chunk:
    """Attend to one chunk alone."""
    if not scores:
        return -math.inf, 0.0, torch.zeros(values.shape[1])
    maximum = max(scores)
    powers = torch.tensor([math.exp(score - maximum) for score in scores])
    return maximum, powers.sum().item(), powers / powers.sum() @ values


def _chunk_cases() -> list[tuple[Any, ...]]:
    """Chunks of equal and unequal size, a late maximum, large scores, and an empty chunk."""
    pairs = [
        ([1.0, 2.0], [0.5, 1.5]),
        ([0.0], [3.0, 3.0, 1.0]),
        ([4.0, 1.0, 0.0], [2.0]),
        ([1000.0, 999.0], [1001.0]),
        ([-1000.0], [-1001.0, -999.0]),
        ([], [2.0, 0.0]),
        ([1.0, 3.0], []),
    ]
    return [
        (_chunk(a, _random(i, len(a), 3)), _chunk(b, _random(i + 20, len(b), 3)))
        for i, (a, b) in enumerate(pairs)
    ]


def _judge_merge(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Allow for rounding at large scores, and recognize chunks that were not rescaled."""
    if not isinstance(got, list | tuple) or len(got) != 3:
        return compare(expected, got)
    names = ("the maximum", "the total", "the mixture")
    for name, wanted, came in zip(names, expected, got, strict=True):
        difference = compare(wanted, came)
        if difference is None or _nearly(wanted, came):
            continue
        if name == "the mixture" and _nearly(wanted * expected[1], came):
            return f"the mixture is a sum; divide it by the total ({difference})"
        hint = {
            "the maximum": "keep the larger of the two",
            "the total": "bring both totals to the common maximum",
            "the mixture": "weigh the mixtures by the totals at the common maximum",
        }[name]
        return f"{name}: {difference}; {hint}"
    return None


def _nearly(wanted: Any, came: Any) -> bool:
    """Compare numbers as coarsely as single precision near 1,000 demands."""
    wanted, came = torch.as_tensor(wanted), torch.as_tensor(came)
    return wanted.shape == came.shape and torch.allclose(
        came.to(torch.float64), wanted.to(torch.float64), rtol=1e-3, atol=1e-3
    )


EXERCISES = {
    "softmax": Exercise(softmax, _softmax_cases, judge=_judge_softmax),
    "causal_mask": Exercise(causal_mask, _mask_cases, judge=_judge_mask),
    "effective_tokens": Exercise(effective_tokens, _weights_cases, judge=_judge_effective),
    "softmax_gradient": Exercise(softmax_gradient, _gradient_cases, judge=_judge_gradient),
    "padded_attention": Exercise(padded_attention, _padded_cases, judge=_judge_padded),
    "merge_chunks": Exercise(merge_chunks, _chunk_cases, judge=_judge_merge),
}
