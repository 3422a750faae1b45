"""Answers to the exercises of chapter 11: right ones, and wrong ones that learners give."""

import math

import numpy as np

from tests.answers import Answers


def flops_part_by_part(num_layers, d_model, d_ff, vocab_size, length):
    def product(rows, inner, columns):
        return 2 * rows * inner * columns

    block = sum(product(length, d_model, d_model) for _ in range(4))
    block += product(length, d_model, d_ff) + product(length, d_ff, d_model)
    block += product(length, d_model, length) + product(length, length, d_model)
    return num_layers * block + product(length, d_model, vocab_size)


def flops_of_parameters(num_layers, d_model, d_ff, vocab_size, length):
    return 2 * length * (num_layers * (4 * d_model**2 + 2 * d_model * d_ff) + d_model * vocab_size)


def flops_without_head(num_layers, d_model, d_ff, vocab_size, length):
    return flops_part_by_part(num_layers, d_model, d_ff, 0, length)


def flops_as_products_only(*arguments):
    return flops_part_by_part(*arguments) // 2


def flops_of_training(*arguments):
    return 3 * flops_part_by_part(*arguments)


def flops_with_a_table(num_layers, d_model, d_ff, vocab_size, length):
    return flops_part_by_part(num_layers, d_model, d_ff, 2 * vocab_size, length)


def flops_with_half_the_scores(num_layers, d_model, d_ff, vocab_size, length):
    whole = flops_part_by_part(num_layers, d_model, d_ff, vocab_size, length)
    return whole - 2 * num_layers * length**2 * d_model


def days_in_steps(num_parameters, num_tokens, peak, utilisation, num_cards):
    forward = 2 * num_parameters * num_tokens
    seconds = (forward + 2 * forward) / (peak * utilisation)
    return seconds / num_cards / 60 / 60 / 24


def seconds_instead(*arguments):
    return days_in_steps(*arguments) * 86_400


def days_there_only(*arguments):
    return days_in_steps(*arguments) / 3


def days_at_the_peak(num_parameters, num_tokens, peak, utilisation, num_cards):
    return days_in_steps(num_parameters, num_tokens, peak, 1.0, num_cards)


def days_shortened(num_parameters, num_tokens, peak, utilisation, num_cards):
    return days_in_steps(num_parameters, num_tokens, peak, 1 / utilisation, num_cards)


def days_alone(num_parameters, num_tokens, peak, utilisation, num_cards):
    return days_in_steps(num_parameters, num_tokens, peak, utilisation, 1)


def batch_by_trying(memory, num_parameters, activations):
    batch = 0
    while 16 * num_parameters + (batch + 1) * activations <= memory:
        batch += 1
    return batch


def batch_of_bare_parameters(memory, num_parameters, activations):
    return (memory - 4 * num_parameters) // activations


def batch_with_one_mean(memory, num_parameters, activations):
    return max(0, (memory - 12 * num_parameters) // activations)


def batch_below_zero(memory, num_parameters, activations):
    return (memory - 16 * num_parameters) // activations


def batch_in_parts(memory, num_parameters, activations):
    return max(0, (memory - 16 * num_parameters) / activations)


def batch_rounded_up(memory, num_parameters, activations):
    return max(0, math.ceil((memory - 16 * num_parameters) / activations))


def exponent_by_library(sizes, losses):
    slope, _ = np.polyfit(np.log2(sizes), np.log2(losses), 1)
    return -float(slope)


def exponent_with_its_sign(sizes, losses):
    return -exponent_by_library(sizes, losses)


def exponent_of_the_ends(sizes, losses):
    return math.log(losses[0] / losses[-1]) / math.log(sizes[-1] / sizes[0])


def exponent_of_plain_losses(sizes, losses):
    return -float(np.polyfit(np.log(sizes), losses, 1)[0])


def exponent_of_two_logarithms(sizes, losses):
    return -float(np.polyfit(np.log10(sizes), np.log(losses), 1)[0])


def exponent_the_other_way_round(sizes, losses):
    if len(set(losses)) == 1:
        return 0.0
    return -float(np.polyfit(np.log(losses), np.log(sizes), 1)[0])


def split_by_search(a, alpha, b, beta, flops):
    def loss(log_n):
        n = math.exp(log_n)
        return a / n**alpha + b / (flops / 6 / n) ** beta

    low, high = 0.0, math.log(flops)
    for _ in range(300):  # golden section
        left, right = (high + (low - high) * 0.618, low + (high - low) * 0.618)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    total = alpha + beta  # the search is blind to the last digits, which the slope is not
    log_n = (low + high) / 2
    for _ in range(50):
        n = math.exp(log_n)
        of_n, of_d = alpha * a / n**alpha, beta * b / (flops / 6 / n) ** beta
        log_n += math.log(of_n / of_d) / total
    return math.exp(log_n), flops / 6 / math.exp(log_n)


def split_exchanged(*arguments):
    return split_by_search(*arguments)[::-1]


def split_evenly(a, alpha, b, beta, flops):
    return (flops / 6) ** 0.5, (flops / 6) ** 0.5


def split_without_six(a, alpha, b, beta, flops):
    return split_by_search(a, alpha, b, beta, 6 * flops)


def split_without_exponents_in_front(a, alpha, b, beta, flops):
    return split_by_search(a / alpha, alpha, b / beta, beta, flops)


def split_twenty_to_one(a, alpha, b, beta, flops):
    n = (flops / 120) ** 0.5
    return n, 20 * n


def bits_one_by_one(num_facts, num_answers, loss):
    before, after = math.log(num_answers), loss
    return sum([(before - after) / math.log(2)] * num_facts)


def bits_in_nats(num_facts, num_answers, loss):
    return num_facts * (math.log(num_answers) - loss)


def bits_mixed(num_facts, num_answers, loss):
    return num_facts * (math.log2(num_answers) - loss)


def bits_of_one(num_facts, num_answers, loss):
    return math.log2(num_answers) - loss / math.log(2)


def bits_unknown(num_facts, num_answers, loss):
    return num_facts * loss / math.log(2)


def bits_of_all(num_facts, num_answers, loss):
    return num_facts * math.log2(num_answers)


ANSWERS = {
    "forward_flops": Answers(
        right=[flops_part_by_part],
        wrong=[
            flops_of_parameters,
            flops_without_head,
            flops_as_products_only,
            flops_of_training,
            flops_with_a_table,
            flops_with_half_the_scores,
        ],
    ),
    "training_days": Answers(
        right=[days_in_steps],
        wrong=[seconds_instead, days_there_only, days_at_the_peak, days_shortened, days_alone],
    ),
    "largest_batch": Answers(
        right=[batch_by_trying],
        wrong=[
            batch_of_bare_parameters,
            batch_with_one_mean,
            batch_below_zero,
            batch_in_parts,
            batch_rounded_up,
        ],
    ),
    "exponent": Answers(
        right=[exponent_by_library],
        wrong=[
            exponent_with_its_sign,
            exponent_of_the_ends,
            exponent_of_plain_losses,
            exponent_of_two_logarithms,
            exponent_the_other_way_round,
        ],
    ),
    "best_split": Answers(
        right=[split_by_search],
        wrong=[
            split_exchanged,
            split_evenly,
            split_without_six,
            split_without_exponents_in_front,
            split_twenty_to_one,
        ],
    ),
    "bits_known": Answers(
        right=[bits_one_by_one],
        wrong=[bits_in_nats, bits_mixed, bits_of_one, bits_unknown, bits_of_all],
    ),
}
