"""Answers to the exercises of chapter 2."""

import math

import torch

from tests.answers import Answers


def softmax_by_logs(scores, dim):
    return (scores - scores.logsumexp(dim, keepdim=True)).exp()


def softmax_of_numpy_style(scores, dim):
    moved = scores.movedim(dim, -1)
    powers = (moved - moved.max(-1, keepdim=True).values).exp()
    return (powers / powers.sum(-1, keepdim=True)).movedim(-1, dim)


def softmax_that_overflows(scores, dim):
    return scores.exp() / scores.exp().sum(dim, keepdim=True)


def softmax_that_ignores_dim(scores, dim):
    return scores.softmax(-1)


def softmax_minus_global_maximum(scores, dim):
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(dim, keepdim=True)


def softmax_over_everything(scores, dim):
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum()


def softmax_that_forgets_keepdim(scores, dim):
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim)


def softmax_clamped(scores, dim):
    powers = scores.clamp(max=80).exp()
    return powers / powers.sum(dim, keepdim=True)


def softmax_with_epsilon(scores, dim):
    powers = (scores - scores.max()).exp()
    return powers / (powers.sum(dim, keepdim=True) + 1e-9)


def mask_by_triangles(num_queries, num_keys, window):
    offset = num_keys - num_queries
    ones = torch.ones(num_queries, num_keys, dtype=torch.bool)
    return ones.tril(offset) & ones.triu(offset - window + 1)


def mask_by_loops(num_queries, num_keys, window):
    mask = torch.zeros(num_queries, num_keys, dtype=torch.bool)
    for row in range(num_queries):
        last = num_keys - num_queries + row
        for column in range(max(0, last - window + 1), last + 1):
            mask[row, column] = True
    return mask


def mask_without_window(num_queries, num_keys, window):
    ones = torch.ones(num_queries, num_keys, dtype=torch.bool)
    return ones.tril(num_keys - num_queries)


def mask_with_queries_first(num_queries, num_keys, window):
    ones = torch.ones(num_queries, num_keys, dtype=torch.bool)
    return ones.tril() & ones.triu(1 - window)


def mask_one_too_wide(num_queries, num_keys, window):
    return mask_by_triangles(num_queries, num_keys, window + 1)


def mask_of_the_hidden(num_queries, num_keys, window):
    return ~mask_by_triangles(num_queries, num_keys, window)


def mask_of_numbers(num_queries, num_keys, window):
    return mask_by_triangles(num_queries, num_keys, window).float()


def mask_without_itself(num_queries, num_keys, window):
    offset = num_keys - num_queries
    ones = torch.ones(num_queries, num_keys, dtype=torch.bool)
    return ones.tril(offset - 1) & ones.triu(offset - window)


def padded_by_cutting(query, key, value, num_padding):
    rest = slice(num_padding, None)
    output = torch.zeros(query.shape[0], value.shape[1])
    output[rest] = torch.nn.functional.scaled_dot_product_attention(
        query[rest], key[rest], value[rest], is_causal=True
    )
    return output


def padded_by_loops(query, key, value, num_padding):
    output = torch.zeros(query.shape[0], value.shape[1])
    for row in range(num_padding, query.shape[0]):
        scores = key[num_padding : row + 1] @ query[row] / query.shape[1] ** 0.5
        output[row] = scores.softmax(0) @ value[num_padding : row + 1]
    return output


def _padded_scores(query, key, scale):
    future = torch.ones(len(query), len(key), dtype=torch.bool).triu(1)
    return (query @ key.mT / scale).masked_fill(future, -math.inf)


def padded_with_undefined_rows(query, key, value, num_padding):
    scores = _padded_scores(query, key, math.sqrt(query.shape[1]))
    scores[:, :num_padding] = -math.inf
    return scores.softmax(-1) @ value


def padded_forgotten(query, key, value, num_padding):
    return _padded_scores(query, key, math.sqrt(query.shape[1])).softmax(-1) @ value


def padded_after_the_softmax(query, key, value, num_padding):
    weights = _padded_scores(query, key, math.sqrt(query.shape[1])).softmax(-1)
    weights[:, :num_padding] = 0
    output = weights @ value
    output[:num_padding] = 0
    return output


def padded_scaled_by_values(query, key, value, num_padding):
    scores = _padded_scores(query, key, math.sqrt(value.shape[1]))
    scores[:, :num_padding] = -math.inf
    return (scores.softmax(-1) @ value).nan_to_num()


def padded_without_scale(query, key, value, num_padding):
    scores = _padded_scores(query, key, 1.0)
    scores[:, :num_padding] = -math.inf
    return (scores.softmax(-1) @ value).nan_to_num()


def padded_without_causality(query, key, value, num_padding):
    scores = query @ key.mT / math.sqrt(query.shape[1])
    scores[:, :num_padding] = -math.inf
    output = scores.softmax(-1) @ value
    output[:num_padding] = 0
    return output


def padded_at_the_end(query, key, value, num_padding):
    scores = _padded_scores(query, key, math.sqrt(query.shape[1]))
    scores[:, len(key) - num_padding :] = -math.inf
    return (scores.softmax(-1) @ value).nan_to_num()


def gradient_by_matrix(weights, upstream):
    jacobian = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    return (jacobian @ upstream[..., None])[..., 0]


def gradient_by_einsum(weights, upstream):
    both = weights * upstream
    return both - torch.einsum("...r,...s->...r", weights, both)


def gradient_of_a_sigmoid(weights, upstream):
    return weights * (1 - weights) * upstream


def gradient_by_the_weights(weights, upstream):
    return upstream


def gradient_without_the_mean(weights, upstream):
    return weights * upstream


def gradient_with_plain_mean(weights, upstream):
    return weights * (upstream - upstream.mean(-1, keepdim=True))


def gradient_with_plus(weights, upstream):
    return weights * (upstream + (weights * upstream).sum(-1, keepdim=True))


def gradient_that_forgets_keepdim(weights, upstream):
    return weights * (upstream - (weights * upstream).sum(-1))


def gradient_over_all_rows(weights, upstream):
    return weights * (upstream - (weights * upstream).sum())


def padded_with_a_large_number(query, key, value, num_padding):
    future = torch.ones(len(query), len(key), dtype=torch.bool).triu(1)
    scores = (query @ key.mT / math.sqrt(query.shape[1])).masked_fill(future, -1e9)
    scores[:, :num_padding] = -1e9
    return scores.softmax(-1) @ value


def padded_seen_but_zeroed(query, key, value, num_padding):
    output = _padded_scores(query, key, math.sqrt(query.shape[1])).softmax(-1) @ value
    output[:num_padding] = 0
    return output


def effective_by_where(weights):
    logs = torch.where(weights > 0, weights, torch.ones_like(weights)).log()
    return torch.exp(-(weights * logs).sum(-1))


def effective_by_product(weights):
    return 1 / weights.pow(weights).prod(-1)


def effective_with_nan(weights):
    return torch.exp(-(weights * weights.log()).sum(-1))


def effective_as_entropy(weights):
    return torch.special.entr(weights).sum(-1)


def effective_by_squares(weights):
    return 1 / weights.square().sum(-1)


def effective_in_bits(weights):
    return torch.exp(torch.special.entr(weights).sum(-1) / math.log(2))


def effective_over_the_first_axis(weights):
    return torch.special.entr(weights).sum(0).exp()


def effective_of_the_whole_batch(weights):
    return torch.special.entr(weights).sum().exp()


def merge_by_logs(first, second):
    maximum = max(first[0], second[0])
    shares = torch.tensor([
        chunk[0] + math.log(chunk[1]) if chunk[1] else -math.inf for chunk in (first, second)
    ])
    total = math.exp(shares.logsumexp(0).item() - maximum)
    share = shares.softmax(0)
    return [maximum, total, share[0] * first[2] + share[1] * second[2]]


def merge_by_rescaling(first, second):
    if second[0] > first[0]:
        first, second = second, first
    shrink = math.exp(second[0] - first[0])
    total = first[1] + shrink * second[1]
    kept = first[1] / total
    return first[0], total, first[2] * kept + second[2] * (1 - kept)


def merge_by_halves(first, second):
    maximum = max(first[0], second[0])
    total = sum(chunk[1] * math.exp(chunk[0] - maximum) for chunk in (first, second))
    return maximum, total, (first[2] + second[2]) / 2


def merge_without_rescaling(first, second):
    total = first[1] + second[1]
    mixture = (first[1] * first[2] + second[1] * second[2]) / total
    return max(first[0], second[0]), total, mixture


def merge_that_overflows(first, second):
    a, b = first[1] * math.exp(first[0]), second[1] * math.exp(second[0])
    maximum = max(first[0], second[0])
    return maximum, (a + b) / math.exp(maximum), (a * first[2] + b * second[2]) / (a + b)


def merge_onto_the_first(first, second):
    grow = math.exp(second[0] - first[0]) if first[1] else 1.0
    total = first[1] + second[1] * grow
    mixture = (first[1] * first[2] + second[1] * grow * second[2]) / total
    return first[0], total, mixture


def merge_without_dividing(first, second):
    maximum = max(first[0], second[0])
    a, b = (chunk[1] * math.exp(chunk[0] - maximum) for chunk in (first, second))
    return maximum, a + b, a * first[2] + b * second[2]


def merge_by_averages_of_logs(first, second):
    maximum = max(first[0], second[0])
    a, b = (math.exp(chunk[0] - maximum) for chunk in (first, second))
    total = first[1] * a + second[1] * b
    return maximum, total, (a * first[2] + b * second[2]) / (a + b)


ANSWERS = {
    "softmax": Answers(
        right=[softmax_by_logs, softmax_of_numpy_style],
        wrong=[
            softmax_that_overflows,
            softmax_that_ignores_dim,
            softmax_minus_global_maximum,
            softmax_over_everything,
            softmax_that_forgets_keepdim,
            softmax_clamped,
            softmax_with_epsilon,
        ],
    ),
    "causal_mask": Answers(
        right=[mask_by_triangles, mask_by_loops],
        wrong=[
            mask_without_window,
            mask_with_queries_first,
            mask_one_too_wide,
            mask_of_the_hidden,
            mask_of_numbers,
            mask_without_itself,
        ],
    ),
    "padded_attention": Answers(
        right=[padded_by_cutting, padded_by_loops],
        wrong=[
            padded_with_undefined_rows,
            padded_forgotten,
            padded_after_the_softmax,
            padded_scaled_by_values,
            padded_without_scale,
            padded_without_causality,
            padded_at_the_end,
            padded_with_a_large_number,
            padded_seen_but_zeroed,
        ],
    ),
    "softmax_gradient": Answers(
        right=[gradient_by_matrix, gradient_by_einsum],
        wrong=[
            gradient_of_a_sigmoid,
            gradient_by_the_weights,
            gradient_without_the_mean,
            gradient_with_plain_mean,
            gradient_with_plus,
            gradient_that_forgets_keepdim,
            gradient_over_all_rows,
        ],
    ),
    "effective_tokens": Answers(
        right=[effective_by_where, effective_by_product],
        wrong=[
            effective_with_nan,
            effective_as_entropy,
            effective_by_squares,
            effective_in_bits,
            effective_over_the_first_axis,
            effective_of_the_whole_batch,
        ],
    ),
    "merge_chunks": Answers(
        right=[merge_by_logs, merge_by_rescaling],
        wrong=[
            merge_by_halves,
            merge_without_rescaling,
            merge_that_overflows,
            merge_onto_the_first,
            merge_without_dividing,
            merge_by_averages_of_logs,
        ],
    ),
}
