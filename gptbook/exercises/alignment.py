"""Exercises of chapter 16: preferences, the best policy there is, and what a text earns.

Shapes: T positions, N prompts, G endings of each prompt.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare


def preference(first: float, second: float) -> float:
    """Say how likely the first of two texts is to be preferred, given their scores."""
    difference = first - second
    if difference < 0:
        return math.exp(difference) / (1 + math.exp(difference))
    return 1 / (1 + math.exp(-difference))


def best_policy(reference: list[float], rewards: list[float], beta: float) -> list[float]:
    """Give the probabilities that earn most reward, less `beta` a nat away from the reference."""
    highest = max(rewards)
    weights = [
        p * math.exp((reward - highest) / beta)
        for p, reward in zip(reference, rewards, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]


def implicit_reward(log_probs: Tensor, reference: Tensor, is_written: Tensor, beta: float) -> float:
    """Read a policy as a judge: `beta` times how much likelier what was written has become."""
    return beta * ((log_probs - reference) * is_written).sum().item()


def advantages(rewards: Tensor) -> Tensor:
    """Say how far each ending is above those of the same prompt, in standard deviations."""
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    return centered / (rewards.std(dim=1, keepdim=True) + 1e-4)


def clipped_gain(ratio: float, advantage: float, clip: float) -> float:
    """Give what a token earns, where nothing more is earned by going further than `clip`."""
    clipped = min(max(ratio, 1 - clip), 1 + clip)
    return min(ratio * advantage, clipped * advantage)


def _preference_cases() -> list[tuple[Any, ...]]:
    """Equal scores, either one higher, shifted ones, and some that are very far apart."""
    return [
        (0.0, 0.0),
        (1.0, 0.0),
        (0.5, 2.0),
        (101.0, 100.0),
        (-3.0, -1.0),
        (900.0, 0.0),
        (-900.0, 0.0),
    ]


def _judge_preference(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the other direction, and a judge without doubt."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    if math.isnan(got):
        return f"a number too large became infinite; work with the difference ({difference})"
    if expected != 0.5 and compare(1 - expected, got) is None:
        return f"this is how likely the second is to be preferred ({difference})"
    return difference


def _policy_cases() -> list[tuple[Any, ...]]:
    """Two texts and three, an unlikely good one, a strong and a weak hold, rewards far from 0."""
    return [
        ([0.5, 0.5], [0.0, 1.0], 1.0),
        ([0.5, 0.5], [0.0, 1.0], 0.1),
        ([0.9, 0.1], [0.0, 1.0], 0.5),
        ([0.2, 0.3, 0.5], [1.0, 2.0, -1.0], 2.0),
        ([0.6, 0.4, 0.0], [0.0, 0.0, 5.0], 1.0),
        ([0.5, 0.5], [1000.0, 1001.0], 1.0),
    ]


def _judge_policy(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a forgotten reference, a beta that multiplies, and what does not sum to one."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != len(expected):
        return difference
    if not all(isinstance(row, int | float) and math.isfinite(row) for row in got):
        return f"probabilities are finite; take the highest reward away first ({difference})"
    reference, rewards, beta = arguments
    if not math.isclose(sum(got), 1, abs_tol=1e-6):
        return f"the probabilities sum to {sum(got):.4g}, not to 1 ({difference})"
    evenly = [1 / len(reference)] * len(reference)
    if compare(best_policy(evenly, rewards, beta), got) is None:
        return f"what the reference hardly writes stays hard to write ({difference})"
    if compare(best_policy(reference, rewards, 1 / beta), got) is None:
        return f"the larger beta is, the less may change ({difference})"
    return difference


def _implicit_cases() -> list[tuple[Any, ...]]:
    """Texts with and without a prompt before what was written, and a reference that is equal."""
    torch.manual_seed(0)
    rows = [-torch.rand(2, length) for length in (3, 6, 5)]
    masks = [
        torch.tensor([True, True, True]),
        torch.tensor([False, False, True, True, True, False]),
        torch.tensor([False, True, True, True, True]),
    ]
    betas = (1.0, 0.1, 0.5)
    cases = [(*row, mask, beta) for row, mask, beta in zip(rows, masks, betas, strict=True)]
    return [*cases, (rows[0][0], rows[0][0], masks[0], 0.3)]


def _judge_implicit(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a mean, a prompt that was counted, and the other sign."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float | Tensor):
        return difference
    log_probs, reference, is_written, beta = arguments
    excess = beta * (log_probs - reference)
    told = {
        "the prompt was given, not written: leave it out": excess.sum(),
        "this is a mean; a text's log-probability is a sum": excess[is_written].mean(),
        "it is the policy's log-probability less the reference's": -excess[is_written].sum(),
        "beta is missing": excess[is_written].sum() / beta,
    }
    for message, value in told.items():
        if compare(value.item(), got) is None:
            return f"{message} ({difference})"
    return difference


def _advantage_cases() -> list[tuple[Any, ...]]:
    """One prompt and several, of which one is hard, and a group in which all are alike."""
    return [
        (torch.tensor([[0.0, 1.0]]),),
        (torch.tensor([[0.0, 0.0, -3.0], [1.0, 2.0, 4.0]]),),
        (torch.tensor([[5.0, 6.0, 5.0, 6.0], [-9.0, -8.0, -8.0, -8.0]]),),
        (torch.tensor([[2.0, 2.0, 2.0], [0.0, 1.0, 0.0]]),),
    ]


def _judge_advantages(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a mean over all prompts, and what equal rewards make of a division."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    (rewards,) = arguments
    if not got.isfinite().all():
        return f"where all endings are alike the deviation is 0; add 0.0001 to it ({difference})"
    together = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    if compare(together, got) is None:
        return f"compare each ending with those of its own prompt, its row ({difference})"
    if compare(rewards - rewards.mean(dim=1, keepdim=True), got) is None:
        return f"divide by the standard deviation of the row, too ({difference})"
    return difference


def _gain_cases() -> list[tuple[Any, ...]]:
    """Good and bad texts, within the clip, beyond it, and on the wrong side."""
    return [
        (1.0, 2.0, 0.2),
        (1.1, 1.0, 0.2),
        (1.5, 1.0, 0.2),
        (0.5, 1.0, 0.2),
        (1.5, -1.0, 0.2),
        (0.5, -1.0, 0.2),
        (3.0, 0.5, 0.1),
    ]


def _judge_gain(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a gain that is always clipped, or never."""
    difference = compare(expected, got)
    if difference is None:
        return None
    ratio, advantage, clip = arguments
    if compare(ratio * advantage, got) is None:
        return f"nothing more is earned beyond the clip ({difference})"
    if compare(min(max(ratio, 1 - clip), 1 + clip) * advantage, got) is None:
        return f"whoever went the wrong way must be able to come back ({difference})"
    return difference


EXERCISES = {
    "preference": Exercise(preference, _preference_cases, _judge_preference),
    "best_policy": Exercise(best_policy, _policy_cases, _judge_policy),
    "implicit_reward": Exercise(implicit_reward, _implicit_cases, _judge_implicit),
    "advantages": Exercise(advantages, _advantage_cases, _judge_advantages),
    "clipped_gain": Exercise(clipped_gain, _gain_cases, _judge_gain),
}
