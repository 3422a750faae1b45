"""Answers to the exercises of chapter 14: right ones, and wrong ones that learners give."""

import math

import torch

from tests.answers import Answers


def learned_by_loop(turns):
    marks = [False]
    for role, num_name, num_content in turns:
        for place in range(num_name + num_content + 1):
            marks.append(role == "assistant" and place >= num_name)
    return marks


def learned_without_the_end(turns):
    marks = [False]
    for role, num_name, num_content in turns:
        marks += [False] * num_name + [role == "assistant"] * num_content + [False]
    return marks


def learned_with_the_name(turns):
    marks = [False]
    for role, num_name, num_content in turns:
        marks += [role == "assistant"] * (num_name + num_content + 1)
    return marks


def learned_without_the_first_end(turns):
    return learned_by_loop(turns)[1:]


def learned_from_the_first_answer_on(turns):
    marks = learned_by_loop(turns)
    first = marks.index(True) if True in marks else len(marks)
    return [place >= first for place in range(len(marks))]


def learned_without_any_end(turns):
    marks = []
    for role, num_name, num_content in turns:
        marks += [False] * num_name + [role == "assistant"] * num_content
    return marks


def excess_by_torch(exact, predicted):
    p, q = (torch.tensor(row, dtype=torch.float64) for row in (exact, predicted))
    both = torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))
    return both.mean().item()


def excess_as_loss(exact, predicted):
    pairs = zip(exact, predicted, strict=True)
    paid = [-p * math.log(q) - (1 - p) * math.log(1 - q) for p, q in pairs]
    return sum(paid) / len(paid)


def excess_turned_round(exact, predicted):
    pairs = zip(exact, predicted, strict=True)
    return sum(
        q * math.log(q / max(p, 1e-9)) + (1 - q) * math.log((1 - q) / max(1 - p, 1e-9))
        for p, q in pairs
    ) / len(exact)


def excess_of_positive_alone(exact, predicted):
    pairs = zip(exact, predicted, strict=True)
    return sum(p * math.log(p / q) if p else 0.0 for p, q in pairs) / len(exact)


def excess_summed(exact, predicted):
    return excess_by_torch(exact, predicted) * len(exact)


def excess_that_fails_at_certainty(exact, predicted):
    p, q = (torch.tensor(row, dtype=torch.float64) for row in (exact, predicted))
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean().item()


def excess_in_bits(exact, predicted):
    return excess_by_torch(exact, predicted) / math.log(2)


def rank_by_trying(shapes, budget):
    rank = 0
    largest = max(min(outputs, inputs) for outputs, inputs in shapes)
    while rank < largest and sum((rank + 1) * (o + i) for o, i in shapes) <= budget:
        rank += 1
    return rank


def rank_without_limit(shapes, budget):
    return budget // sum(outputs + inputs for outputs, inputs in shapes)


def rank_at_least_one(shapes, budget):
    return max(1, rank_by_trying(shapes, budget))


def rank_of_products(shapes, budget):
    return min(budget // sum(o * i for o, i in shapes), max(min(shape) for shape in shapes))


def rank_rounded(shapes, budget):
    rank = round(budget / sum(outputs + inputs for outputs, inputs in shapes))
    return min(rank, max(min(shape) for shape in shapes))


def rank_of_the_narrowest(shapes, budget):
    return min(rank_without_limit(shapes, budget), min(min(shape) for shape in shapes))


def merged_in_one_sum(weight, corrections):
    return weight + sum(a / up.shape[1] * up.matmul(down) for up, down, a in corrections)


def merged_without_rank(weight, corrections):
    return weight + sum(alpha * up @ down for up, down, alpha in corrections)


def merged_without_scale(weight, corrections):
    return weight + sum(up @ down for up, down, _ in corrections)


def merged_last_only(weight, corrections):
    merged = weight.clone()
    for up, down, alpha in corrections:
        merged = weight + alpha / down.shape[0] * (up @ down)
    return merged


def merged_in_place(weight, corrections):
    for up, down, alpha in corrections:
        weight += alpha / down.shape[0] * (up @ down)
    return weight


def merged_by_width(weight, corrections):
    return weight + sum(alpha / down.shape[1] * up @ down for up, down, alpha in corrections)


def best_by_eigenvectors(change, rank):
    _, vectors = torch.linalg.eigh(change.double().T @ change.double())
    down = vectors.flip(1)[:, :rank].T.to(change.dtype)
    return change @ down.T, down


def best_without_the_values(change, rank):
    u, _, v = torch.linalg.svd(change, full_matrices=False)
    return u[:, :rank], v[:rank]


def best_untransposed(change, rank):
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:, :rank].T


def best_of_the_smallest(change, rank):
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return u[:, -rank:] * s[-rank:], v[-rank:]


def best_of_the_first_rows(change, rank):
    up = torch.eye(len(change))[:, :rank]
    return up, change[:rank]


def best_scaled_twice(change, rank):
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    return u[:, :rank] * s[:rank], s[:rank, None] * v[:rank]


ANSWERS = {
    "learned_tokens": Answers(
        right=[learned_by_loop],
        wrong=[
            learned_without_the_end,
            learned_with_the_name,
            learned_without_the_first_end,
            learned_from_the_first_answer_on,
            learned_without_any_end,
        ],
    ),
    "excess": Answers(
        right=[excess_by_torch],
        wrong=[
            excess_as_loss,
            excess_turned_round,
            excess_of_positive_alone,
            excess_summed,
            excess_that_fails_at_certainty,
            excess_in_bits,
        ],
    ),
    "affordable_rank": Answers(
        right=[rank_by_trying],
        wrong=[
            rank_without_limit,
            rank_at_least_one,
            rank_of_products,
            rank_rounded,
            rank_of_the_narrowest,
        ],
    ),
    "merge": Answers(
        right=[merged_in_one_sum],
        wrong=[
            merged_without_rank,
            merged_without_scale,
            merged_last_only,
            merged_in_place,
            merged_by_width,
        ],
    ),
    "best_correction": Answers(
        right=[best_by_eigenvectors],
        wrong=[
            best_without_the_values,
            best_untransposed,
            best_of_the_smallest,
            best_of_the_first_rows,
            best_scaled_twice,
        ],
    ),
}
