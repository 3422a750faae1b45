"""Answers to the exercises of chapter 18: right ones, and wrong ones that learners give."""

import torch

from tests.answers import Answers


def induction_by_diagonal(weights, length):
    return weights.diagonal(1 - length)[1 : length + 1].mean().item()


def induction_at_the_same_token(weights, length):
    return weights.diagonal(-length)[:length].mean().item()


def induction_one_too_early(weights, length):
    looks = [weights[i, max(0, i - length - 1)] for i in range(length, 2 * length)]
    return sum(looks).item() / length


def induction_of_both_halves(weights, length):
    return weights.diagonal(1 - length).mean().item()


def induction_transposed(weights, length):
    return weights.diagonal(length - 1)[1:].mean().item()


def induction_summed(weights, length):
    return weights.diagonal(1 - length)[1:].sum().item()


def recovered_by_halves(clean, corrupted, patched):
    if clean - corrupted == 0:
        raise ValueError
    return 1 - (clean - patched) / (clean - corrupted)


def recovered_reversed(clean, corrupted, patched):
    if clean == corrupted:
        raise ValueError
    return (clean - patched) / (clean - corrupted)


def recovered_of_clean(clean, corrupted, patched):
    if clean == corrupted:
        raise ValueError
    return patched / clean if clean else 0.0


def recovered_cut(clean, corrupted, patched):
    return min(1.0, max(0.0, recovered_by_halves(clean, corrupted, patched)))


def recovered_without_refusal(clean, corrupted, patched):
    return (patched - corrupted) / (clean - corrupted or 1.0)


def recovered_without_sign(clean, corrupted, patched):
    if clean == corrupted:
        raise ValueError
    return abs(patched - corrupted) / abs(clean - corrupted)


def shares_by_loop(parts, weight, direction, eps):
    total = sum(parts)
    root = torch.sqrt((total**2).mean() + eps)
    return torch.stack([(part / root * weight * direction).sum() for part in parts])


def shares_with_a_norm_each(parts, weight, direction, eps):
    scale = (parts.square().mean(dim=1, keepdim=True) + eps).rsqrt()
    return (parts * scale * weight) @ direction


def shares_without_the_norm(parts, weight, direction, eps):
    return (parts * weight) @ direction


def shares_without_the_weight(parts, weight, direction, eps):
    return parts @ direction * (parts.sum(dim=0).square().mean() + eps).rsqrt()


def shares_by_length(parts, weight, direction, eps):
    return (parts / (parts.sum(dim=0).norm() + eps) * weight) @ direction


def shares_of_the_average(parts, weight, direction, eps):
    scale = (parts.mean(dim=0).square().mean() + eps).rsqrt()
    return (parts * scale * weight) @ direction


def patched_by_heads(mixed, other, output, head, place):
    num_heads, length, width = mixed.shape
    added = torch.zeros(length, len(output))
    for number in range(num_heads):
        said = mixed[number]
        if number == head:
            here = torch.arange(length)[:, None] == place
            said = torch.where(here, other[number], said)
        added += said @ output[:, number * width : (number + 1) * width].T
    return added


def patched_by_einsum(mixed, other, output, head, place):
    new = mixed.clone()
    new[head, place] = other[head, place]
    return torch.einsum("htk,dhk->td", new, output.unflatten(1, (len(new), -1)))


def patched_in_place(mixed, other, output, head, place):
    mixed[head, place] = other[head, place]
    return mixed.transpose(0, 1).flatten(1) @ output.T


def patched_nowhere(mixed, other, output, head, place):
    return mixed.transpose(0, 1).flatten(1) @ output.T


def patched_at_every_place(mixed, other, output, head, place):
    new = mixed.clone()
    new[head] = other[head]
    return new.transpose(0, 1).flatten(1) @ output.T


def patched_in_every_head(mixed, other, output, head, place):
    new = mixed.clone()
    new[:, place] = other[:, place]
    return new.transpose(0, 1).flatten(1) @ output.T


def patched_the_wrong_way(mixed, other, output, head, place):
    return patched_by_einsum(other, mixed, output, head, place)


def patched_with_heads_mixed_up(mixed, other, output, head, place):
    new = mixed.clone()
    new[head, place] = other[head, place]
    return new.reshape(mixed.shape[1], -1) @ output.T


def patched_with_axes_exchanged(mixed, other, output, head, place):
    new = mixed.clone()
    new[head % len(mixed), min(head, mixed.shape[1] - 1)] = other[head, place]
    return new.transpose(0, 1).flatten(1) @ output.T


def patched_by_silence(mixed, other, output, head, place):
    new = mixed.clone()
    new[head, place] = 0.0
    return new.transpose(0, 1).flatten(1) @ output.T


def patched_before_the_output(mixed, other, output, head, place):
    new = mixed.clone()
    new[head, place] = other[head, place]
    return new.transpose(0, 1).flatten(1)


def distance_by_what_is_more(one, other):
    return (one - other).clamp(min=0).sum().item()


def distance_counted_twice(one, other):
    return (one - other).abs().sum().item()


def distance_with_its_sign(one, other):
    return (one - other).sum().item() / 2


def distance_as_length(one, other):
    return (one - other).norm().item()


def distance_of_the_largest(one, other):
    return (one - other).abs().max().item()


def distance_of_the_mean(one, other):
    return (one - other).abs().mean().item()


ANSWERS = {
    "induction_score": Answers(
        right=[induction_by_diagonal],
        wrong=[
            induction_at_the_same_token,
            induction_one_too_early,
            induction_of_both_halves,
            induction_transposed,
            induction_summed,
        ],
    ),
    "recovered": Answers(
        right=[recovered_by_halves],
        wrong=[
            recovered_reversed,
            recovered_of_clean,
            recovered_cut,
            recovered_without_refusal,
            recovered_without_sign,
        ],
    ),
    "shares": Answers(
        right=[shares_by_loop],
        wrong=[
            shares_with_a_norm_each,
            shares_without_the_norm,
            shares_without_the_weight,
            shares_by_length,
            shares_of_the_average,
        ],
    ),
    "patched": Answers(
        right=[patched_by_heads, patched_by_einsum],
        wrong=[
            patched_in_place,
            patched_nowhere,
            patched_at_every_place,
            patched_in_every_head,
            patched_the_wrong_way,
            patched_with_heads_mixed_up,
            patched_with_axes_exchanged,
            patched_by_silence,
            patched_before_the_output,
        ],
    ),
    "distance": Answers(
        right=[distance_by_what_is_more],
        wrong=[
            distance_counted_twice,
            distance_with_its_sign,
            distance_as_length,
            distance_of_the_largest,
            distance_of_the_mean,
        ],
    ),
}
