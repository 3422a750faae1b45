"""Right and wrong answers to the exercises of chapter 7."""

import math

import torch
import torch.nn.functional as F

from tests.answers import Answers


def bias_by_loop(lengths, num_keys):
    bias = torch.zeros(len(lengths), 1, 1, num_keys)
    for row, length in enumerate(lengths):
        bias[row, ..., length:] = -math.inf
    return bias


def bias_without_axes(lengths, num_keys):
    return bias_by_loop(lengths, num_keys)[:, 0, 0]


def bias_of_ones(lengths, num_keys):
    return (bias_by_loop(lengths, num_keys) == 0).float()


def bias_upside_down(lengths, num_keys):
    return torch.where(bias_by_loop(lengths, num_keys) == 0, -math.inf, 0.0)


def bias_finite(lengths, num_keys):
    return bias_by_loop(lengths, num_keys).clamp(min=-10.0)


def bias_one_more(lengths, num_keys):
    return bias_by_loop([length + 1 for length in lengths], num_keys)


def bias_by_product(lengths, num_keys):
    hidden = (bias_by_loop(lengths, num_keys) != 0).float()
    return hidden * -math.inf


def cross_by_loops(x, memory, matrices):
    w_query, w_key, w_value = matrices
    rows = []
    for vector in x:
        query = vector @ w_query
        scores = torch.stack([query @ (other @ w_key) for other in memory])
        weights = (scores / w_key.shape[1] ** 0.5).exp()
        mixed = sum(w * (other @ w_value) for w, other in zip(weights, memory, strict=True))
        rows.append(mixed / weights.sum())
    return torch.stack(rows)


def cross_by_torch(x, memory, matrices):
    w_query, w_key, w_value = matrices
    query, key, value = x @ w_query, memory @ w_key, memory @ w_value
    return F.scaled_dot_product_attention(query[None], key[None], value[None])[0]


def cross_swapped(x, memory, matrices):
    return cross_by_loops(memory, x, matrices)


def cross_of_itself(x, memory, matrices):
    return cross_by_loops(x, x, matrices)


def cross_without_root(x, memory, matrices):
    w_query, w_key, w_value = matrices
    return ((x @ w_query) @ (memory @ w_key).T).softmax(-1) @ (memory @ w_value)


def cross_over_queries(x, memory, matrices):
    w_query, w_key, w_value = matrices
    scores = (x @ w_query) @ (memory @ w_key).T / math.sqrt(w_key.shape[1])
    return scores.softmax(0) @ (memory @ w_value)


def cross_with_root_of_x(x, memory, matrices):
    w_query, w_key, w_value = matrices
    scores = (x @ w_query) @ (memory @ w_key).T / math.sqrt(x.shape[1])
    return scores.softmax(-1) @ (memory @ w_value)


def cross_masked(x, memory, matrices):
    w_query, w_key, w_value = matrices
    scores = (x @ w_query) @ (memory @ w_key).T / math.sqrt(w_key.shape[1])
    future = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(future, -math.inf).softmax(-1) @ (memory @ w_value)


def shifted_by_slices(target, end, length):
    framed = [end, *target, end]
    sees, predicts = [-1] * length, [-100] * length
    sees[: len(framed) - 1] = framed[:-1]
    predicts[: len(framed) - 1] = framed[1:]
    return [sees, predicts]


def filled(row, filler, length):
    return (row + [filler] * length)[:length]


def shifted_swapped(target, end, length):
    sees, predicts = shifted_by_slices(target, end, length)
    return predicts, sees


def shifted_not(target, end, length):
    sees, _ = shifted_by_slices(target, end, length)
    return sees, [-100 if i == -1 else i for i in sees]


def shifted_without_end(target, end, length):
    return filled([end, *target], -1, length), filled(target, -100, length)


def shifted_without_begin(target, end, length):
    return filled(target, -1, length), filled([*target[1:], end], -100, length)


def shifted_seeing_the_end(target, end, length):
    return filled([end, *target, end], -1, length), filled([*target, end], -100, length)


def shifted_with_one_filler(target, end, length):
    return filled([end, *target], -1, length), filled([*target, end], -1, length)


def shifted_with_other_filler(target, end, length):
    return filled([end, *target], -100, length), filled([*target, end], -100, length)


def shifted_unfilled(target, end, length):
    return [end, *target], [*target, end]


def lead_by_difference(vocab_size, smoothing):
    target = torch.full((vocab_size,), smoothing / vocab_size, dtype=torch.float64)
    target[0] += 1 - smoothing
    return (target[0].log() - target[1].log()).item()


def lead_as_odds(vocab_size, smoothing):
    return math.exp(lead_by_difference(vocab_size, smoothing))


def lead_negative(vocab_size, smoothing):
    return -lead_by_difference(vocab_size, smoothing)


def lead_without_own_share(vocab_size, smoothing):
    return math.log((1 - smoothing) / (smoothing / vocab_size))


def lead_over_others(vocab_size, smoothing):
    return math.log((1 - smoothing) / (smoothing / (vocab_size - 1)))


def lead_in_bits(vocab_size, smoothing):
    return lead_by_difference(vocab_size, smoothing) / math.log(2)


def count_by_building(d_model, d_ff, num_layers, vocab_size):
    from gptbook.seq2seq import EncoderDecoder, EncoderDecoderConfig

    sizes = {"d_model": d_model, "d_ff": d_ff, "num_layers": num_layers, "num_heads": 1}
    with torch.device("meta"):
        model = EncoderDecoder(EncoderDecoderConfig(vocab_size=vocab_size, **sizes))
    return model.num_parameters()


def count_without_cross(d_model, d_ff, num_layers, vocab_size):
    attention = 4 * (d_model**2 + d_model)
    return count_by_building(d_model, d_ff, num_layers, vocab_size) - num_layers * attention


def count_head_twice(d_model, d_ff, num_layers, vocab_size):
    return count_by_building(d_model, d_ff, num_layers, vocab_size) + vocab_size * d_model


def count_three_tables(d_model, d_ff, num_layers, vocab_size):
    return count_by_building(d_model, d_ff, num_layers, vocab_size) + 2 * vocab_size * d_model


def count_without_biases(d_model, d_ff, num_layers, vocab_size):
    weights = 3 * 4 * d_model**2 + 2 * 2 * d_model * d_ff
    return vocab_size * d_model + num_layers * (weights + 10 * d_model)


def count_two_norms(d_model, d_ff, num_layers, vocab_size):
    return count_by_building(d_model, d_ff, num_layers, vocab_size) - num_layers * 2 * d_model


ANSWERS = {
    "padding_bias": Answers(
        right=[bias_by_loop],
        wrong=[
            bias_without_axes,
            bias_of_ones,
            bias_upside_down,
            bias_finite,
            bias_one_more,
            bias_by_product,
        ],
    ),
    "cross_attend": Answers(
        right=[cross_by_loops, cross_by_torch],
        wrong=[
            cross_swapped,
            cross_of_itself,
            cross_without_root,
            cross_over_queries,
            cross_with_root_of_x,
            cross_masked,
        ],
    ),
    "shifted": Answers(
        right=[shifted_by_slices],
        wrong=[
            shifted_swapped,
            shifted_not,
            shifted_without_end,
            shifted_without_begin,
            shifted_seeing_the_end,
            shifted_with_one_filler,
            shifted_with_other_filler,
            shifted_unfilled,
        ],
    ),
    "best_lead": Answers(
        right=[lead_by_difference],
        wrong=[
            lead_as_odds,
            lead_negative,
            lead_without_own_share,
            lead_over_others,
            lead_in_bits,
        ],
    ),
    "num_parameters": Answers(
        right=[count_by_building],
        wrong=[
            count_without_cross,
            count_head_twice,
            count_three_tables,
            count_without_biases,
            count_two_norms,
        ],
    ),
}
