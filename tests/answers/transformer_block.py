"""Answers to the exercises of chapter 5."""

import math

import torch

from tests.answers import Answers

# Exercise 1


def counts_up(d_ff, multiple):
    number = max(0, 2 * d_ff // (3 * multiple) - 2)
    while 3 * number * multiple < 2 * d_ff:
        number += 1
    return number * multiple


def rounds_to_the_nearest(d_ff, multiple):
    return round(2 * d_ff / 3 / multiple) * multiple


def rounds_down(d_ff, multiple):
    return 2 * d_ff // 3 // multiple * multiple


def cuts_before_it_rounds_up(d_ff, multiple):
    return -(-(2 * d_ff // 3) // multiple) * multiple


def computes_with_fractions(d_ff, multiple):
    return multiple * math.ceil(d_ff * 2 / 3 / multiple)


def keeps_the_width(d_ff, multiple):
    return -(-d_ff // multiple) * multiple


def adds_one_always(d_ff, multiple):
    return (2 * d_ff // (3 * multiple) + 1) * multiple


# Exercise 2


def counts_matrix_by_matrix(d_model, num_heads, num_kv_heads, d_ff, modern):
    d_shared = d_model // num_heads * num_kv_heads
    matrices = [(d_model, d_model), (d_model, d_shared), (d_model, d_shared), (d_model, d_model)]
    matrices += [(d_model, d_ff)] * (2 if modern else 1) + [(d_ff, d_model)]
    total = sum(rows * columns for rows, columns in matrices)
    if not modern:
        total += sum(columns for _, columns in matrices)
    return total + d_model * (2 if modern else 4)


def twelve_d_squared(d_model, num_heads, num_kv_heads, d_ff, modern):
    return 12 * d_model**2 + 13 * d_model


def forgets_that_keys_are_shared(d_model, num_heads, num_kv_heads, d_ff, modern):
    return counts_matrix_by_matrix(d_model, num_heads, num_heads, d_ff, modern)


def forgets_the_gate(d_model, num_heads, num_kv_heads, d_ff, modern):
    total = counts_matrix_by_matrix(d_model, num_heads, num_kv_heads, d_ff, modern)
    return total - (d_model * d_ff if modern else 0)


def forgets_biases(d_model, num_heads, num_kv_heads, d_ff, modern):
    d_shared = d_model // num_heads * num_kv_heads
    matrices = 2 * d_model**2 + 2 * d_model * d_shared + (3 if modern else 2) * d_model * d_ff
    return matrices + d_model * (2 if modern else 4)


def forgets_the_norms(d_model, num_heads, num_kv_heads, d_ff, modern):
    total = counts_matrix_by_matrix(d_model, num_heads, num_kv_heads, d_ff, modern)
    return total - d_model * (2 if modern else 4)


def multiplies_by_heads(d_model, num_heads, num_kv_heads, d_ff, modern):
    total = counts_matrix_by_matrix(d_model, num_heads, num_kv_heads, d_ff, modern)
    return total + (num_heads - 1) * d_model**2


# Exercise 3


def folds_by_einsum(norm_weight, norm_bias, weight, bias):
    return torch.einsum("fd,d->fd", weight, norm_weight), torch.einsum(
        "fd,d->f", weight, norm_bias
    ).add(bias)


def folds_by_a_diagonal(norm_weight, norm_bias, weight, bias):
    return weight @ torch.diag(norm_weight), (weight @ norm_bias[:, None]).squeeze(1) + bias


def scales_rows(norm_weight, norm_bias, weight, bias):
    return torch.diag(norm_weight) @ weight, bias + weight @ norm_bias


def forgets_the_norm_s_bias(norm_weight, norm_bias, weight, bias):
    return weight * norm_weight, bias


def adds_the_norm_s_bias_as_it_is(norm_weight, norm_bias, weight, bias):
    return weight * norm_weight, bias + norm_bias


def scales_the_bias_too(norm_weight, norm_bias, weight, bias):
    return weight * norm_weight, bias + (weight * norm_weight) @ norm_bias


def gives_the_weight_alone(norm_weight, norm_bias, weight, bias):
    return weight * norm_weight


# Exercise 4


def watches_a_difference(block, d_model):
    x = torch.randn(1, 1, d_model, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ratio = (block(2e5 * x) - block(1e5 * x)).norm() / (1e5 * x).norm()
    return "pre" if ratio > 0.5 else "post"


def looks_for_mean_zero(block, d_model):
    x = torch.randn(2, 3, d_model, generator=torch.Generator().manual_seed(0))
    return "post" if block(x).mean(-1).abs().max() < 1e-3 else "pre"


def looks_at_the_length_of_usual_inputs(block, d_model):
    x = torch.randn(2, 3, d_model, generator=torch.Generator().manual_seed(0))
    return "pre" if block(x).norm() > 0.5 * x.norm() else "post"


def always_pre(block, d_model):
    return "pre"


def the_other_way_round(block, d_model):
    return "post" if watches_a_difference(block, d_model) == "pre" else "pre"


def gives_a_truth_value(block, d_model):
    return watches_a_difference(block, d_model) == "pre"


# Exercise 5


def by_the_jacobian(x, gradient, eps):
    rows = []
    d_model = x.shape[-1]
    for row, upstream in zip(x, gradient, strict=True):
        centered = row - row.mean()
        scale = (centered.square().mean() + eps).rsqrt()
        normed = centered * scale
        moves = torch.eye(d_model) - 1 / d_model - torch.outer(normed, normed) / d_model
        rows.append(scale * moves @ upstream)
    return torch.stack(rows)


def _parts(x, eps, correction=0):
    centered = x - x.mean(-1, keepdim=True)
    scale = (x.var(-1, keepdim=True, correction=correction) + eps).rsqrt()
    return centered * scale, scale


def only_scales(x, gradient, eps):
    return gradient * _parts(x, eps)[1]


def forgets_the_mean(x, gradient, eps):
    normed, scale = _parts(x, eps)
    return scale * (gradient - normed * (gradient * normed).mean(-1, keepdim=True))


def forgets_the_variance(x, gradient, eps):
    return _parts(x, eps)[1] * (gradient - gradient.mean(-1, keepdim=True))


def divides_by_one_less(x, gradient, eps):
    normed, scale = _parts(x, eps, correction=1)
    along = (gradient * normed).mean(-1, keepdim=True)
    return scale * (gradient - gradient.mean(-1, keepdim=True) - normed * along)


def puts_eps_outside(x, gradient, eps):
    normed, _ = _parts(x, 0.0)
    scale = 1 / (x.std(-1, keepdim=True, correction=0) + eps)
    along = (gradient * normed).mean(-1, keepdim=True)
    return scale * (gradient - gradient.mean(-1, keepdim=True) - normed * along)


def forgets_the_scale(x, gradient, eps):
    normed, _ = _parts(x, eps)
    along = (gradient * normed).mean(-1, keepdim=True)
    return gradient - gradient.mean(-1, keepdim=True) - normed * along


def averages_over_positions(x, gradient, eps):
    normed, scale = _parts(x, eps)
    along = (gradient * normed).mean(0, keepdim=True)
    return scale * (gradient - gradient.mean(0, keepdim=True) - normed * along)


ANSWERS = {
    "gated_width": Answers(
        right=[counts_up, computes_with_fractions],
        wrong=[
            rounds_to_the_nearest,
            rounds_down,
            cuts_before_it_rounds_up,
            keeps_the_width,
            adds_one_always,
        ],
    ),
    "block_parameters": Answers(
        right=[counts_matrix_by_matrix],
        wrong=[
            twelve_d_squared,
            forgets_that_keys_are_shared,
            forgets_the_gate,
            forgets_biases,
            forgets_the_norms,
            multiplies_by_heads,
        ],
    ),
    "fold": Answers(
        right=[folds_by_einsum, folds_by_a_diagonal],
        wrong=[
            scales_rows,
            forgets_the_norm_s_bias,
            adds_the_norm_s_bias_as_it_is,
            scales_the_bias_too,
            gives_the_weight_alone,
        ],
    ),
    "order": Answers(
        right=[watches_a_difference],
        wrong=[
            looks_for_mean_zero,
            looks_at_the_length_of_usual_inputs,
            always_pre,
            the_other_way_round,
            gives_a_truth_value,
        ],
    ),
    "layer_norm_backward": Answers(
        right=[by_the_jacobian],
        wrong=[
            only_scales,
            forgets_the_mean,
            forgets_the_variance,
            divides_by_one_less,
            puts_eps_outside,
            forgets_the_scale,
            averages_over_positions,
        ],
    ),
}
