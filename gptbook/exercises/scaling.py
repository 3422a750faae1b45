"""Exercises of chapter 11: FLOPs of a text, days, the largest batch, an exponent, a budget, bits.

Shapes: T tokens of one text.
"""

import math
from collections.abc import Sequence
from typing import Any

from gptbook.exercises import Exercise, compare, explain

_DAY = 86_400  # seconds


def forward_flops(num_layers: int, d_model: int, d_ff: int, vocab_size: int, length: int) -> int:
    """Count what it takes to read one text and score every next token."""
    per_block = 4 * d_model**2 + 2 * d_model * d_ff
    matrices = 2 * length * (num_layers * per_block + d_model * vocab_size)
    return matrices + 4 * num_layers * length**2 * d_model


def training_days(
    num_parameters: float, num_tokens: float, peak: float, utilisation: float, num_cards: int
) -> float:
    """Say how many days a training takes, by the rule of thumb."""
    return 6 * num_parameters * num_tokens / (peak * utilisation * num_cards) / _DAY


def largest_batch(memory: int, num_parameters: int, activations: int) -> int:
    """Say how many texts fit beside parameters, gradients and AdamW's means."""
    return max(0, (memory - 16 * num_parameters) // activations)


def exponent(sizes: Sequence[float], losses: Sequence[float]) -> float:
    """Fit a line to logarithms; say how steeply it falls."""
    x = [math.log(size) for size in sizes]
    y = [math.log(loss) for loss in losses]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return -above / sum((a - mean_x) ** 2 for a in x)


def best_split(a: float, alpha: float, b: float, beta: float, flops: float) -> tuple[float, float]:
    """Split compute into parameters and tokens so that the loss is lowest."""
    balance = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    parameters = balance * (flops / 6) ** (beta / (alpha + beta))
    return parameters, flops / 6 / parameters


def bits_known(num_facts: int, num_answers: int, loss: float) -> float:
    """Say how many bits of the answers a model knows."""
    return num_facts * (math.log2(num_answers) - loss / math.log(2))


def _flops_cases() -> list[tuple[Any, ...]]:
    """Single parts, a small model, and GPT-2."""
    return [(1, 3, 5, 7, 1), (2, 4, 16, 10, 3), (1, 2, 8, 5, 100), (12, 768, 3_072, 50_257, 1_024)]


def _judge_flops(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize parts left out, and a product counted as one operation."""
    difference = compare(expected, got)
    if difference is None:
        return None
    num_layers, d_model, _, vocab_size, length = arguments
    scores = 4 * num_layers * length**2 * d_model
    head = 2 * length * d_model * vocab_size
    mistakes = (
        (expected // 2, "a product and a sum are two operations"),
        (expected - scores, "the scores and the mixtures of attention are missing"),
        (expected - scores // 2, "scores and mixtures take the same each; one of them is missing"),
        (expected - head, "the head is a product with a matrix, too"),
        (3 * expected, "only the way there was asked for"),
        (expected / length, "the whole text was asked for, not one token"),
        (expected + 2 * length * d_model * vocab_size, "looking up a vector multiplies nothing"),
    )
    return explain(difference, got, mistakes)


def _days_cases() -> list[tuple[Any, ...]]:
    """One slow card, halves, many cards, and GPT-3."""
    return [
        (1e6, 1e6, 1e9, 1.0, 1),
        (1e9, 2e10, 1e14, 0.5, 1),
        (1e9, 2e10, 1e14, 0.4, 8),
        (174.6e9, 300e9, 989.4e12, 0.4, 1_024),
    ]


def _judge_days(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize seconds and hours, a lost way back, and utilisation on the wrong side."""
    difference = compare(expected, got)
    if difference is None:
        return None
    utilisation, num_cards = arguments[3:]
    mistakes = (
        (expected * _DAY, "these are seconds"),
        (expected * 24, "these are hours"),
        (expected / 3, "the way back takes twice as much as the way there"),
        (expected * utilisation, "the utilisation is missing"),
        (expected * utilisation**2, "a card that is half used takes longer, not shorter"),
        (expected * num_cards, "the cards share the work"),
    )
    return explain(difference, got, mistakes)


def _batch_cases() -> list[tuple[Any, ...]]:
    """An even fit, a rest, nothing left, not even the model, and a real card."""
    return [
        (1_000, 10, 84),
        (1_000, 10, 100),
        (160, 10, 7),
        (100, 10, 7),
        (24_000_000_000, 124_439_808, 761_000_000),
    ]


def _judge_batch(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize forgotten states, rounding, and batches below zero."""
    difference = compare(expected, got)
    if difference is None:
        return None
    memory, num_parameters, activations = arguments
    free = memory - 16 * num_parameters
    mistakes = (
        (free // activations, "where the model alone does not fit, no text does: 0"),
        (free / activations, "a text fits whole or not at all"),
        (math.ceil(free / activations), "the last text does not fit any more"),
        ((memory - 4 * num_parameters) // activations, "gradients and means need room, too"),
        ((memory - 12 * num_parameters) // activations, "AdamW keeps two means"),
        ((memory - 8 * num_parameters) // activations, "AdamW's two means need room, too"),
        (memory // activations, "the model needs room, too"),
    )
    return explain(difference, got, mistakes)


def _exponent_cases() -> list[tuple[Any, ...]]:
    """Exact laws, one that does not fall, and runs that scatter."""
    return [
        ([1.0, 10.0, 100.0], [8.0, 4.0, 2.0]),
        ([2.0, 4.0, 8.0, 32.0], [3.0 / x for x in (2, 4, 8, 32)]),
        ([1e3, 1e4, 1e5], [5.0, 5.0, 5.0]),
        ([1e4, 1e5, 1e6, 1e7], [0.9, 0.42, 0.27, 0.09]),
    ]


def _judge_exponent(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a lost sign, an exchange of the axes, lines that are not of logarithms."""
    difference = compare(expected, got)
    if difference is None:
        return None
    x, y = ([math.log(number) for number in row] for row in arguments)
    ends = -(y[-1] - y[0]) / (x[-1] - x[0])
    mistakes = [
        (-expected, "a loss that falls has a positive exponent"),
        (expected * math.log(10), "take the same logarithm of both"),
        (expected / math.log(10), "take the same logarithm of both"),
        (ends, "all runs count, not only the first and the last"),
    ]
    if expected:
        mistakes.append((1 / expected, "sizes lie across and losses up, not the other way round"))
    return explain(difference, got, mistakes)


def _split_cases() -> list[tuple[Any, ...]]:
    """Equal terms, unequal ones, and the law of Hoffmann et al."""
    return [
        (1.0, 0.5, 1.0, 0.5, 6e6),
        (10.0, 0.5, 1.0, 0.5, 6e6),
        (50.0, 0.4, 80.0, 0.3, 1e15),
        (406.4, 0.34, 410.7, 0.28, 5.76e23),
    ]


def _judge_split(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize an exchange, a lost factor of six, and a budget that is not spent."""
    difference = compare(expected, got)
    if difference is None:
        return None
    flops = arguments[-1]
    if isinstance(got, tuple | list) and len(got) == 2:
        spent = 6 * got[0] * got[1]
        if compare((expected[1], expected[0]), tuple(got)) is None:
            return f"parameters come first, then tokens ({difference})"
        if not math.isclose(spent, flops, rel_tol=1e-6):
            return f"this split costs {spent:.3g} FLOPs, not the budget of {flops:.3g}"
        return f"this split costs the budget, but another one has a lower loss ({difference})"
    return difference


def _bits_cases() -> list[tuple[Any, ...]]:
    """Nothing known, all known, half a bit each, and a real one."""
    return [(100, 64, math.log(64)), (100, 64, 0.0), (8, 2, 0.5 * math.log(2)), (4_096, 64, 3.0)]


def _judge_bits(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize nats, one fact for all, and what is not known."""
    difference = compare(expected, got)
    if difference is None:
        return None
    num_facts, num_answers, loss = arguments
    mistakes = (
        (expected * math.log(2), "these are nats; a bit is ln 2 of them"),
        (num_facts * (math.log2(num_answers) - loss), "the loss is in nats, not in bits"),
        (expected / num_facts, "this is one fact; all were asked for"),
        (num_facts * loss / math.log(2), "this is what the model does not know"),
        (num_facts * math.log2(num_answers), "what the model does not know must go off"),
    )
    return explain(difference, got, mistakes)


EXERCISES = {
    "forward_flops": Exercise(forward_flops, _flops_cases, _judge_flops),
    "training_days": Exercise(training_days, _days_cases, _judge_days),
    "largest_batch": Exercise(largest_batch, _batch_cases, _judge_batch),
    "exponent": Exercise(exponent, _exponent_cases, _judge_exponent),
    "best_split": Exercise(best_split, _split_cases, _judge_split),
    "bits_known": Exercise(bits_known, _bits_cases, _judge_bits),
}
