"""Exercises of chapter 7: padding, looking across, teacher forcing, smoothing, and sizes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare


def _normal(*shape: int, seed: int) -> Tensor:
    """Draw the same numbers for every reader."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _padding_bias(lengths: Sequence[int], num_keys: int) -> Tensor:
    """Write 0 where a text has a token, and minus infinity where it has none."""
    places = torch.arange(num_keys)
    hidden = places >= torch.tensor(lengths)[:, None]
    return torch.zeros(len(lengths), num_keys).masked_fill(hidden, -math.inf)[:, None, None]


def _judge_bias(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize missing axes, a mask of ones, and an edge that is off by one."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor):
        return difference
    if got.shape == expected[:, 0, 0].shape:
        return f"scores have axes for heads and queries, too: return (B, 1, 1, S); {difference}"
    if got.shape != expected.shape:
        return difference
    if got.isnan().any():
        return f"0 times infinity is nan; use masked_fill or torch.where; {difference}"
    if torch.equal(got.float(), (expected == 0).float()):
        return f"this is a mask of ones and zeros; the bias is added to the scores; {difference}"
    if torch.equal(got == 0, expected == -math.inf):
        return f"the tokens are hidden and the padding seen; {difference}"
    if got.isfinite().all():
        return f"a finite number leaves the padding some weight; use -math.inf; {difference}"
    lengths, num_keys = arguments
    for shift in (1, -1):
        if torch.equal(got, _padding_bias([length + shift for length in lengths], num_keys)):
            return f"off by one: {lengths[0]} tokens stand at 0 to {lengths[0] - 1}; {difference}"
    return difference


def _cross_attend(x: Tensor, memory: Tensor, matrices: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Let each vector of x look at the memory."""
    w_query, w_key, w_value = matrices
    scores = (x @ w_query) @ (memory @ w_key).T / math.sqrt(w_query.shape[1])
    return scores.softmax(dim=-1) @ (memory @ w_value)


def _judge_cross(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize texts that changed places, a missing root, and the softmax over the wrong axis."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor):
        return difference
    x, memory, (w_query, w_key, w_value) = arguments
    scores = (x @ w_query) @ (memory @ w_key).T
    root = math.sqrt(w_query.shape[1])
    values = memory @ w_value
    mistakes = {
        "the queries come from x, keys and values from the memory": _cross_attend(
            memory, x, (w_query, w_key, w_value)
        ),
        "the scores are divided by the root of the width of a key": scores.softmax(-1) @ values,
        "each row of weights, over the keys, sums to 1": (scores / root).softmax(0) @ values,
        "x does not look at itself here": _cross_attend(x, x, (w_query, w_key, w_value)),
        "there is no future to hide in the source": (
            (scores / root)
            .masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
            .softmax(-1)
            @ values
        ),
        "divide by the root of the width of a key, not of x": (
            (scores / math.sqrt(x.shape[1])).softmax(-1) @ values
        ),
    }
    for message, wrong in mistakes.items():
        if compare(wrong, got) is None:
            return f"{message}; {difference}"
    return difference


def _shifted(target: list[int], end: int, length: int) -> tuple[list[int], list[int]]:
    """Lay one target out for teacher forcing: what is seen, and what is predicted."""
    num_filled = length - len(target) - 1
    return [end, *target] + [-1] * num_filled, [*target, end] + [-100] * num_filled


def _judge_shifted(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a target that is not shifted, a missing mark, and fillers that changed places."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, tuple | list) or len(got) != 2:
        return difference
    if not all(isinstance(row, tuple | list) for row in got):
        return difference
    target, end, length = arguments
    sees, predicts = (list(row) for row in got)

    def filled(row: list[int], filler: int) -> list[int]:
        return row + [filler] * (length - len(row))

    framed = [end, *target, end]
    mistakes = {
        "the two lists changed places: what is seen comes first": ([*expected[1]], [*expected[0]]),
        "what is predicted is what is seen one place later; here a place predicts the token that "
        "it sees": (filled([end, *target], -1), filled([end, *target], -100)),
        "the last token has to predict the mark that ends the target": (
            filled([end, *target], -1),
            filled([*target], -100),
        ),
        "nothing is seen before the first token but the mark; put it in front": (
            filled([*target], -1),
            filled([*target[1:], end], -100),
        ),
        "the mark that ends the target is predicted, never seen": (
            filled(framed, -1)[:length],
            filled([*target, end], -100),
        ),
        "where nothing is asked stands -100, not -1": (
            filled([end, *target], -1),
            filled([*target, end], -1),
        ),
        "what fills up the tokens seen is -1, not -100": (
            filled([end, *target], -100),
            filled([*target, end], -100),
        ),
        "fill both up to the length of the batch": ([end, *target], [*target, end]),
    }
    for message, (wrong_sees, wrong_predicts) in mistakes.items():
        if sees == wrong_sees and predicts == wrong_predicts:
            return f"{message}; {difference}"
    return difference


def _best_lead(vocab_size: int, smoothing: float) -> float:
    """Say by how much the right logit leads where the smoothed loss is least."""
    share = smoothing / vocab_size
    return math.log((1 - smoothing + share) / share)


def _judge_lead(expected: float, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize odds instead of nats, and a target without the share of its own."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float | Tensor):
        return difference
    vocab_size, smoothing = arguments
    mistakes = {
        "these are the odds; the lead is their logarithm": math.exp(expected),
        "the lead is counted from the wrong side": -expected,
        "the right token has its part of the share, too": math.log(
            (1 - smoothing) * vocab_size / smoothing
        ),
        "the share is spread over all tokens, not over the others": math.log(
            (1 - smoothing) * (vocab_size - 1) / smoothing
        ),
        "take the natural logarithm": expected / math.log(2),
    }
    for message, wrong in mistakes.items():
        if compare(wrong, got) is None:
            return f"{message}; {difference}"
    return difference


def _num_parameters(d_model: int, d_ff: int, num_layers: int, vocab_size: int) -> int:
    """Count the parameters of an encoder-decoder whose one matrix embeds and scores."""
    attention = 4 * d_model**2 + 4 * d_model
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    norm = 2 * d_model
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    return vocab_size * d_model + num_layers * (encoder + decoder)


def _judge_count(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize what was forgotten or counted twice."""
    difference = compare(expected, got)
    if difference is None:
        return None
    d_model, d_ff, num_layers, vocab_size = arguments
    attention = 4 * d_model**2 + 4 * d_model
    mistakes = {
        "the cross-attention of each decoder block is missing": -num_layers * attention,
        "one matrix embeds both languages and scores; count it once": vocab_size * d_model,
        "and with three matrices it would be more; count it once": 2 * vocab_size * d_model,
        "the embedding is missing": -vocab_size * d_model,
        "each block of the decoder has three norms, not two": -num_layers * 2 * d_model,
        "the norms are missing": -num_layers * 10 * d_model,
        "the biases are missing": -num_layers * (12 * d_model + 2 * (d_ff + d_model)),
        "there is no norm at the end of either half": 4 * d_model,
    }
    for message, change in mistakes.items():
        if got == expected + change:
            return f"{message}; {difference}"
    return difference


EXERCISES = {
    "padding_bias": Exercise(
        _padding_bias,
        cases=lambda: [([2, 4], 4), ([1], 3), ([3, 3, 3], 3), ([5, 1, 2], 6)],
        judge=_judge_bias,
    ),
    "cross_attend": Exercise(
        _cross_attend,
        cases=lambda: [
            (
                _normal(num_written, 6, seed=seed),
                _normal(num_read, 6, seed=seed + 10),
                tuple(_normal(6, 3, seed=seed + 20 + i) for i in range(3)),
            )
            for seed, (num_written, num_read) in enumerate([(2, 5), (5, 2), (1, 1), (4, 4)])
        ],
        judge=_judge_cross,
    ),
    "shifted": Exercise(
        _shifted,
        cases=lambda: [([5, 6, 7], 9, 6), ([3], 0, 3), ([4, 4], 8, 3), ([], 2, 2)],
        judge=_judge_shifted,
    ),
    "best_lead": Exercise(
        _best_lead,
        cases=lambda: [(50, 0.1), (2, 0.5), (37_000, 0.1), (1_000, 0.01)],
        judge=_judge_lead,
    ),
    "num_parameters": Exercise(
        _num_parameters,
        cases=lambda: [(512, 2_048, 6, 37_000), (4, 8, 1, 10), (64, 128, 3, 1_000)],
        judge=_judge_count,
    ),
}
