"""Answers to the exercises of chapter 16: right ones, and wrong ones that learners give."""

import math

import torch

from tests.answers import Answers


def preference_by_tanh(first, second):
    return 0.5 * (1 + math.tanh((first - second) / 2))


def preference_turned_round(first, second):
    return preference_by_tanh(second, first)


def preference_without_doubt(first, second):
    return 0.5 if first == second else float(first > second)


def preference_of_the_first_alone(first, second):
    return preference_by_tanh(first, 0.0)


def preference_that_overflows(first, second):
    return math.exp(first) / (math.exp(first) + math.exp(second))


def preference_by_share(first, second):
    return first / (first + second) if first + second else 0.5


def policy_by_softmax(reference, rewards, beta):
    return (torch.tensor(reference).log() + torch.tensor(rewards) / beta).softmax(dim=0).tolist()


def policy_without_reference(reference, rewards, beta):
    return (torch.tensor(rewards) / beta).softmax(dim=0).tolist()


def policy_times_beta(reference, rewards, beta):
    return policy_by_softmax(reference, rewards, 1 / beta)


def policy_not_normalized(reference, rewards, beta):
    return [p * math.exp(min(r / beta, 700)) for p, r in zip(reference, rewards, strict=True)]


def policy_of_the_best_alone(reference, rewards, beta):
    best = rewards.index(max(rewards))
    return [float(i == best) for i in range(len(rewards))]


def policy_with_the_reference_added(reference, rewards, beta):
    return (torch.tensor(reference) + torch.tensor(rewards) / beta).softmax(dim=0).tolist()


def implicit_by_indexing(log_probs, reference, is_written, beta):
    return beta * (log_probs[is_written].sum() - reference[is_written].sum())


def implicit_with_the_prompt(log_probs, reference, is_written, beta):
    return beta * (log_probs - reference).sum().item()


def implicit_as_mean(log_probs, reference, is_written, beta):
    return beta * (log_probs - reference)[is_written].mean().item()


def implicit_turned_round(log_probs, reference, is_written, beta):
    return beta * (reference - log_probs)[is_written].sum().item()


def implicit_without_reference(log_probs, reference, is_written, beta):
    return beta * log_probs[is_written].sum().item()


def implicit_without_beta(log_probs, reference, is_written, beta):
    return (log_probs - reference)[is_written].sum().item()


def advantages_row_by_row(rewards):
    return torch.stack([(row - row.mean()) / (row.std() + 1e-4) for row in rewards])


def advantages_of_all_together(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def advantages_not_divided(rewards):
    return rewards - rewards.mean(dim=1, keepdim=True)


def advantages_that_divide_by_zero(rewards):
    return (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True)


def advantages_of_columns(rewards):
    return (rewards - rewards.mean(dim=0)) / (rewards.std(dim=0, correction=0) + 1e-4)


def advantages_with_the_wrong_deviation(rewards):
    deviation = rewards.std(dim=1, keepdim=True, correction=0)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (deviation + 1e-4)


def gain_by_cases(ratio, advantage, clip):
    if advantage >= 0:
        return min(ratio, 1 + clip) * advantage
    return max(ratio, 1 - clip) * advantage


def gain_without_clip(ratio, advantage, clip):
    return ratio * advantage


def gain_always_clipped(ratio, advantage, clip):
    return min(max(ratio, 1 - clip), 1 + clip) * advantage


def gain_of_the_larger(ratio, advantage, clip):
    return max(ratio * advantage, gain_always_clipped(ratio, advantage, clip))


def gain_clipped_above_only(ratio, advantage, clip):
    return min(ratio, 1 + clip) * advantage


ANSWERS = {
    "preference": Answers(
        right=[preference_by_tanh],
        wrong=[
            preference_turned_round,
            preference_without_doubt,
            preference_of_the_first_alone,
            preference_that_overflows,
            preference_by_share,
        ],
    ),
    "best_policy": Answers(
        right=[policy_by_softmax],
        wrong=[
            policy_without_reference,
            policy_times_beta,
            policy_not_normalized,
            policy_of_the_best_alone,
            policy_with_the_reference_added,
        ],
    ),
    "implicit_reward": Answers(
        right=[implicit_by_indexing],
        wrong=[
            implicit_with_the_prompt,
            implicit_as_mean,
            implicit_turned_round,
            implicit_without_reference,
            implicit_without_beta,
        ],
    ),
    "advantages": Answers(
        right=[advantages_row_by_row],
        wrong=[
            advantages_of_all_together,
            advantages_not_divided,
            advantages_that_divide_by_zero,
            advantages_of_columns,
            advantages_with_the_wrong_deviation,
        ],
    ),
    "clipped_gain": Answers(
        right=[gain_by_cases],
        wrong=[
            gain_without_clip,
            gain_always_clipped,
            gain_of_the_larger,
            gain_clipped_above_only,
        ],
    ),
}
