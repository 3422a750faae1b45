"""Exercises of chapter 12: how many choices, how large a cut, and drawing in other ways."""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare


def _logits(size: int, seed: int, spread: float = 2.0) -> Tensor:
    """Draw the same logits for every reader."""
    return spread * torch.randn(size, generator=torch.Generator().manual_seed(seed))


def _effective_choices(logits: Tensor, temperature: float) -> float:
    """Count how many equally probable tokens would be as uncertain."""
    probabilities = (logits / temperature).softmax(dim=-1)
    return torch.special.entr(probabilities).sum().exp().item()


def _judge_choices(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize entropies that were left in nats or bits, and a temperature that multiplies."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, int | float | Tensor):
        return difference
    if not compare(math.log(expected), got):
        return f"that is the entropy in nats; take exp of it; {difference}"
    if not compare(math.log2(expected), got):
        return f"that is the entropy in bits; {difference}"
    logits, temperature = arguments
    if not compare(_effective_choices(logits, 1 / temperature), got):
        return f"temperature divides the logits, it does not multiply them; {difference}"
    if math.isnan(float(got)):
        return f"0 times the logarithm of 0 should count as 0; {difference}"
    return difference


def _nucleus_size(logits: Tensor, p: float) -> int:
    """Count the tokens that top-p keeps."""
    shares = logits.softmax(dim=-1).sort(descending=True).values.cumsum(dim=-1)
    return min(int((shares < p - 1e-6).sum()) + 1, len(logits))


def _judge_nucleus(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the cut that falls one short, and the one in the tokens' own order."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int):
        return difference
    logits, p = arguments
    unsorted = min(int((logits.softmax(dim=-1).cumsum(dim=-1) < p).sum()) + 1, len(logits))
    if got == expected - 1:
        return (
            f"the kept tokens must reach p: the one that crosses it belongs to them; {difference}"
        )
    if got == unsorted:
        return f"begin with the most probable token, not with token 0; {difference}"
    return difference


def _gumbel_choice(logits: Tensor, uniforms: Tensor) -> int:
    """Draw by noise: the largest of the logits with Gumbel noise added."""
    return int((logits - (-uniforms.log()).log()).argmax())


def _judge_gumbel(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the wrong sign, no noise at all, and noise added to probabilities."""
    difference = compare(expected, got)
    if difference is None:
        return None
    logits, uniforms = arguments
    noise = -(-uniforms.log()).log()
    guesses = {
        "the noise is missing, so that this is greedy": logits,
        "the noise should be added, not taken away": logits - noise,
        "the noise belongs to the logits, not to the probabilities": logits.softmax(-1) + noise,
        "this is only one of the two logarithms": logits - uniforms.log(),
    }
    for message, scores in guesses.items():
        if got == int(scores.argmax()):
            return f"{message}; {difference}"
    return difference


def _typical(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens whose surprise is nearest to the entropy, until they have probability p."""
    log_probs = logits.log_softmax(dim=-1)
    entropy = torch.special.entr(log_probs.exp()).sum()
    order = (-log_probs - entropy).abs().argsort(stable=True)
    num_kept = int((log_probs.exp()[order].cumsum(dim=-1) < p).sum()) + 1
    kept = torch.full_like(logits, -math.inf)
    kept[order[:num_kept]] = logits[order[:num_kept]]
    return kept


def _judge_typical(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say which token was kept or ruled out by mistake."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    logits, p = arguments
    kept, wanted = got > -math.inf, expected > -math.inf
    if torch.equal(kept, wanted):
        return f"the right tokens are kept, but their logits should stay as they were; {difference}"
    most_probable = logits.sort(descending=True).values
    size = _nucleus_size(logits, p)
    if torch.equal(kept, logits >= most_probable[size - 1]):
        return f"this is top-p: it begins with the most probable tokens; {difference}"
    if kept.sum() == wanted.sum() - 1:
        return f"the token that crosses p is kept, too; {difference}"
    return difference


def _speculative_step(
    wanted: Tensor, guessed_from: Tensor, guess: int, chance: float, other_chance: float
) -> int:
    """Take the draft's guess, or draw what it gives too seldom."""
    if chance * guessed_from[guess] < wanted[guess]:
        return guess
    line = (wanted - guessed_from).clamp(min=0).cumsum(dim=-1)
    return int(torch.searchsorted(line, other_chance * line[-1:], right=True).item())


def _judge_step(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize what leaves the distribution wrong."""
    difference = compare(expected, got)
    if difference is None:
        return None
    wanted, guessed_from, guess, _, other_chance = arguments
    if got == guess:
        return f"the guess should be turned down with this chance; {difference}"
    if expected == guess:
        return f"the guess should be taken with this chance; {difference}"
    for message, weights in (
        ("after a refusal draw from wanted - guessed_from, its negative parts set to 0", wanted),
        ("the difference is the wrong way round", (guessed_from - wanted).clamp(min=0)),
    ):
        line = weights.cumsum(dim=-1)
        if got == int(torch.searchsorted(line, other_chance * line[-1:], right=True).item()):
            return f"{message}; {difference}"
    return difference


def _speedup(acceptance: float, num_draft: int, cost: float) -> float:
    """Divide the tokens one round brings by what it costs, in passes of the large model."""
    num_tokens = sum(acceptance**number for number in range(num_draft + 1))
    return num_tokens / (num_draft * cost + 1)


def _judge_speedup(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a token that was forgotten, and guesses that count after a refusal."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, int | float):
        return difference
    acceptance, num_draft, cost = arguments
    passes = num_draft * cost + 1
    if not compare(expected - 1 / passes, got):
        return f"the large model adds a token of its own in every round; {difference}"
    if not compare((1 + acceptance * num_draft) / passes, got):
        return f"a guess counts only if all before it were taken; {difference}"
    if not compare(expected * passes, got):
        return f"that is the number of tokens a round; divide by its cost; {difference}"
    return difference


def _step_cases() -> list[tuple[Any, ...]]:
    """Give guesses that are taken and guesses that are not, and every way to draw instead."""
    wanted = torch.tensor([0.1, 0.2, 0.3, 0.4])
    guessed_from = torch.tensor([0.4, 0.1, 0.4, 0.1])
    return [
        (wanted, guessed_from, 1, 0.99, 0.5),
        (wanted, guessed_from, 0, 0.2, 0.9),
        (wanted, guessed_from, 0, 0.3, 0.1),
        (wanted, guessed_from, 0, 0.9, 0.3),
        (wanted, guessed_from, 2, 0.74, 0.0),
        (wanted, guessed_from, 2, 0.76, 0.0),
        (wanted, guessed_from, 2, 0.9, 0.2),
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), 0, 0.0, 0.7),
    ]


def _typical_cases() -> list[tuple[Any, ...]]:
    """Give peaked, flat and ordinary distributions."""
    peaked = torch.tensor([0.5, 0.1, 0.1, 0.08, 0.07, 0.06, 0.05, 0.04]).log()
    return [(peaked, 0.2), (peaked, 0.45), (peaked + 3.0, 0.9)] + [
        (_logits(12, seed), p) for seed in range(3) for p in (0.3, 0.8, 1e-6)
    ]


EXERCISES = {
    "effective_choices": Exercise(
        _effective_choices,
        cases=lambda: [
            (torch.zeros(8), 1.0),
            (_logits(10, 0), 1.0),
            (_logits(10, 1), 0.5),
            (_logits(10, 2), 3.0),
            (torch.tensor([0.0, 1.0, -math.inf]), 2.0),
            (torch.tensor([500.0, 0.0]), 1.0),
        ],
        judge=_judge_choices,
    ),
    "nucleus_size": Exercise(
        _nucleus_size,
        cases=lambda: [
            (torch.tensor([0.1, 0.5, 0.15, 0.25]).log(), 0.6),
            (torch.tensor([0.1, 0.5, 0.15, 0.25]).log(), 0.01),
            (_logits(20, 0), 0.9),
            (_logits(20, 1), 0.5),
            (torch.zeros(8), 0.3),
            (_logits(20, 2), 1.0),
        ],
        judge=_judge_nucleus,
    ),
    "gumbel_choice": Exercise(
        _gumbel_choice,
        cases=lambda: [
            (_logits(6, seed, 1.0), torch.rand(6, generator=torch.Generator().manual_seed(seed)))
            for seed in range(12)
        ],
        judge=_judge_gumbel,
    ),
    "typical": Exercise(_typical, cases=_typical_cases, judge=_judge_typical),
    "speculative_step": Exercise(_speculative_step, cases=_step_cases, judge=_judge_step),
    "speedup": Exercise(
        _speedup,
        cases=lambda: [(0.8, 4, 0.1), (0.5, 1, 0.0), (0.0, 3, 0.2), (1.0, 5, 0.05), (0.9, 10, 0.5)],
        judge=_judge_speedup,
    ),
}
