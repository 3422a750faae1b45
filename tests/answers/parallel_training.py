"""Answers to the exercises of chapter 10: right ones, and wrong ones that learners give."""

import math

import torch

from tests.answers import Answers


def share_by_library(num_rows, rank, world_size):
    sizes = [len(part) for part in torch.arange(num_rows).tensor_split(world_size)]
    return sum(sizes[:rank]), sum(sizes[: rank + 1])


def share_by_dealing(num_rows, rank, world_size):
    sizes = [0] * world_size
    for row in range(num_rows):
        sizes[row % world_size] += 1
    first = sum(sizes[:rank])
    return [first, first + sizes[rank]]


def share_with_the_end_in(num_rows, rank, world_size):
    first, end = share_by_library(num_rows, rank, world_size)
    return first, end - 1


def share_with_a_length(num_rows, rank, world_size):
    first, end = share_by_library(num_rows, rank, world_size)
    return first, end - first


def share_without_the_rest(num_rows, rank, world_size):
    size = num_rows // world_size
    return rank * size, (rank + 1) * size


def share_with_the_rest_at_the_end(num_rows, rank, world_size):
    size = num_rows // world_size
    return rank * size, num_rows if rank == world_size - 1 else (rank + 1) * size


def share_with_later_ones_larger(num_rows, rank, world_size):
    size, extra = divmod(num_rows, world_size)
    first = rank * size + max(0, rank - (world_size - extra))
    return first, first + size + (rank >= world_size - extra)


def share_cut_evenly(num_rows, rank, world_size):
    return rank * num_rows // world_size, (rank + 1) * num_rows // world_size


def share_rounded_up(num_rows, rank, world_size):
    size = math.ceil(num_rows / world_size)
    return min(num_rows, rank * size), min(num_rows, (rank + 1) * size)


def share_beyond_the_end(num_rows, rank, world_size):
    size = math.ceil(num_rows / world_size)
    return rank * size, (rank + 1) * size


def share_without_moving_on(num_rows, rank, world_size):
    size, extra = divmod(num_rows, world_size)
    return rank * size, (rank + 1) * size + (rank < extra)


def share_from_rank_one(num_rows, rank, world_size):
    size, extra = divmod(num_rows, world_size)
    first = (rank - 1) * size + min(rank - 1, extra)
    return first, first + size + (rank - 1 < extra)


def share_in_fractions(num_rows, rank, world_size):
    return rank * num_rows / world_size, (rank + 1) * num_rows / world_size


def share_empty_at_zero(num_rows, rank, world_size):
    first, end = share_by_library(num_rows, rank, world_size)
    return (0, 0) if first == end else (first, end)


def gradient_by_loop(gradients, counts):
    total = torch.zeros_like(gradients[0])
    for gradient, count in zip(gradients, counts, strict=True):
        if count:
            total += count * gradient
    return total / sum(counts)


def gradient_by_where(gradients, counts):
    table, weights = torch.stack(gradients), torch.tensor(counts, dtype=torch.float32)
    weights = weights.view(-1, *[1] * gradients[0].dim())
    return torch.where(weights > 0, weights * table, 0.0).sum(0) / weights.sum()


def gradient_plain_mean(gradients, counts):
    return sum(gradients) / len(gradients)


def gradient_mean_of_those_with_targets(gradients, counts):
    kept = [gradient for gradient, count in zip(gradients, counts, strict=True) if count]
    return sum(kept) / len(kept)


def gradient_spoiled_by_nan(gradients, counts):
    pairs = zip(gradients, counts, strict=True)
    return sum(count * gradient for gradient, count in pairs) / sum(counts)


def gradient_undivided(gradients, counts):
    return gradient_by_loop(gradients, counts) * sum(counts)


def gradient_over_processes(gradients, counts):
    return gradient_by_loop(gradients, counts) * sum(counts) / len(counts)


def gradient_summed(gradients, counts):
    return sum(gradients)


def gradient_as_for_ddp(gradients, counts):
    return gradient_by_loop(gradients, counts) * len(counts)


def gradient_divided_twice(gradients, counts):
    return gradient_by_loop(gradients, counts) / len(counts)


def gradient_in_place(gradients, counts):
    for gradient, count in zip(gradients, counts, strict=True):
        gradient *= count / sum(counts)
    kept = [gradient for gradient, count in zip(gradients, counts, strict=True) if count]
    return sum(kept)


def ring_backward(chunks):
    """Let each process ask for what comes, and see the same numbers."""
    num = len(chunks)
    table = [row[:] for row in chunks]
    for step in range(num - 1):
        for rank in range(num):
            part = (rank - 1 - step) % num
            table[rank][part] = table[rank][part] + table[rank - 1][part]
    return table


def ring_in_one_formula(chunks):
    num = len(chunks)
    return [
        [
            sum(chunks[(part + k) % num][part] for k in range((rank - part) % num + 1))
            for part in range(num)
        ]
        for rank in range(num)
    ]


def _ring(chunks, num_steps=None, way=1, turn=-1, keep=1):
    num = len(chunks)
    table = [row[:] for row in chunks]
    for step in range(num - 1 if num_steps is None else num_steps):
        sent = [table[rank][(rank + turn * step) % num] for rank in range(num)]
        for rank in range(num):
            to, part = (rank + way) % num, (rank + turn * step) % num
            table[to][part] = keep * table[to][part] + sent[rank]
    return table


def ring_that_replaces(chunks):
    return _ring(chunks, keep=0)


def ring_one_step_more(chunks):
    return _ring(chunks, len(chunks))


def ring_one_step_less(chunks):
    return _ring(chunks, len(chunks) - 2)


def ring_to_the_left(chunks):
    return _ring(chunks, way=-1)


def ring_with_later_parts(chunks):
    return _ring(chunks, turn=1)


def ring_the_other_way(chunks):
    return _ring(chunks, way=-1, turn=1)


def ring_of_one_part(chunks):
    return _ring(chunks, turn=0)


def ring_to_the_end(chunks):
    return [[sum(column) for column in zip(*chunks, strict=True)] for _ in chunks]


def ring_of_first_numbers(chunks):
    num = len(chunks)
    table = [row[:] for row in chunks]
    for step in range(num - 1):
        for rank in range(num):
            part = (rank - step) % num
            table[(rank + 1) % num][part] += chunks[rank][part]
    return table


def ring_one_after_another(chunks):
    num = len(chunks)
    table = [row[:] for row in chunks]
    for rank in range(num):
        for step in range(num - 1):
            part = (rank - step) % num
            table[(rank + 1) % num][part] += table[rank][part]
    return table


def ring_of_sums_only(chunks):
    num = len(chunks)
    table = [[0] * num for _ in chunks]
    for rank in range(num):
        part = (rank + 1) % num
        table[rank][part] = sum(row[part] for row in chunks)
    return table


def ring_with_sums_at_home(chunks):
    return [
        [
            sum(row[part] for row in chunks) if part == rank else mine[part]
            for part in range(len(mine))
        ]
        for rank, mine in enumerate(chunks)
    ]


def ring_in_place(chunks):
    num = len(chunks)
    table = list(chunks)
    for step in range(num - 1):
        for rank in range(num):
            part = (rank - step) % num
            table[(rank + 1) % num][part] += table[rank][part]
    return table


def bubble_by_timetable(num_stages, num_micro_batches):
    busy = set()
    for stage in range(num_stages):
        for batch in range(num_micro_batches):
            busy.add((stage, stage + batch))
            back = num_micro_batches + num_stages - 1 + (num_stages - 1 - stage)
            busy.add((stage, back + batch))
    num_slots = 1 + max(slot for _, slot in busy)
    return 1 - len(busy) / (num_stages * num_slots)


def bubble_over_work(num_stages, num_micro_batches):
    return (num_stages - 1) / num_micro_batches


def bubble_of_work(num_stages, num_micro_batches):
    return num_micro_batches / (num_micro_batches + num_stages - 1)


def bubble_in_percent(num_stages, num_micro_batches):
    return 100 * (num_stages - 1) / (num_micro_batches + num_stages - 1)


def bubble_rounded_down(num_stages, num_micro_batches):
    return (num_stages - 1) // (num_micro_batches + num_stages - 1)


def bubble_of_all_stages(num_stages, num_micro_batches):
    return num_stages / (num_micro_batches + num_stages)


def bubble_one_slot_too_long(num_stages, num_micro_batches):
    return (num_stages - 1) / (num_micro_batches + num_stages)


def bubble_without_micro_batches(num_stages, num_micro_batches):
    return (num_stages - 1) / num_stages


def bubble_twice(num_stages, num_micro_batches):
    idle = 2 * (num_stages - 1)
    return idle / (num_micro_batches + idle)


def bubble_once_for_both_ways(num_stages, num_micro_batches):
    return (num_stages - 1) / (2 * num_micro_batches + num_stages - 1)


def bubble_in_slots(num_stages, num_micro_batches):
    return num_stages - 1


def bubble_exchanged(num_stages, num_micro_batches):
    return bubble_by_timetable(num_micro_batches, num_stages)


def held_by_cases(num_parameters, world_size, shared):
    share = num_parameters // world_size + (num_parameters % world_size > 0)
    held = 0
    for kind in ["parameters", "gradients", "optimizer", "optimizer"]:
        held += 4 * share if kind in shared else 4 * num_parameters
    return held


def held_in_integers(num_parameters, world_size, shared):
    share = -(-num_parameters // world_size)
    weights = share if "parameters" in shared else num_parameters
    slopes = share if "gradients" in shared else num_parameters
    means = 2 * (share if "optimizer" in shared else num_parameters)
    return (weights + slopes + means) * 4


def _held(num_parameters, share, shared, means=2, size=4):
    copies = {"parameters": 1, "gradients": 1, "optimizer": means}
    return size * sum(
        number * (share if kind in shared else num_parameters) for kind, number in copies.items()
    )


def held_in_numbers(num_parameters, world_size, shared):
    return _held(num_parameters, math.ceil(num_parameters / world_size), shared, size=1)


def held_in_half_precision(num_parameters, world_size, shared):
    return _held(num_parameters, math.ceil(num_parameters / world_size), shared, size=2)


def held_with_one_mean(num_parameters, world_size, shared):
    return _held(num_parameters, math.ceil(num_parameters / world_size), shared, means=1)


def held_without_means(num_parameters, world_size, shared):
    return _held(num_parameters, math.ceil(num_parameters / world_size), shared, means=0)


def held_rounded_down(num_parameters, world_size, shared):
    return _held(num_parameters, num_parameters // world_size, shared)


def held_unrounded(num_parameters, world_size, shared):
    return _held(num_parameters, num_parameters / world_size, shared)


def held_with_bytes_rounded_up(num_parameters, world_size, shared):
    return math.ceil(held_unrounded(num_parameters, world_size, shared))


def held_with_both_means_in_one(num_parameters, world_size, shared):
    numbers = {"parameters": 1, "gradients": 1, "optimizer": 2}
    return 4 * sum(
        math.ceil(number * num_parameters / (world_size if kind in shared else 1))
        for kind, number in numbers.items()
    )


def held_all_shared(num_parameters, world_size, shared):
    return 16 * math.ceil(num_parameters / world_size)


def held_nothing_shared(num_parameters, world_size, shared):
    return 16 * num_parameters


def held_the_other_way_round(num_parameters, world_size, shared):
    kept = {"parameters", "gradients", "optimizer"} - shared
    return held_in_integers(num_parameters, world_size, kept)


def held_without_gradients(num_parameters, world_size, shared):
    share = math.ceil(num_parameters / world_size)
    held = held_in_integers(num_parameters, world_size, shared)
    return held - 4 * (share if "gradients" in shared else num_parameters)


def held_of_shared_only(num_parameters, world_size, shared):
    share = math.ceil(num_parameters / world_size)
    return 4 * share * sum(2 if kind == "optimizer" else 1 for kind in shared)


ANSWERS = {
    "share_of_rows": Answers(
        right=[share_by_library, share_by_dealing],
        wrong=[
            share_with_the_end_in,
            share_with_a_length,
            share_without_the_rest,
            share_with_the_rest_at_the_end,
            share_with_later_ones_larger,
            share_cut_evenly,
            share_rounded_up,
            share_beyond_the_end,
            share_without_moving_on,
            share_from_rank_one,
            share_in_fractions,
            share_empty_at_zero,
        ],
    ),
    "mean_gradient": Answers(
        right=[gradient_by_loop, gradient_by_where],
        wrong=[
            gradient_plain_mean,
            gradient_mean_of_those_with_targets,
            gradient_spoiled_by_nan,
            gradient_undivided,
            gradient_over_processes,
            gradient_summed,
            gradient_as_for_ddp,
            gradient_divided_twice,
            gradient_in_place,
        ],
    ),
    "ring_step": Answers(
        right=[ring_backward, ring_in_one_formula],
        wrong=[
            ring_that_replaces,
            ring_one_step_more,
            ring_one_step_less,
            ring_to_the_left,
            ring_with_later_parts,
            ring_the_other_way,
            ring_of_one_part,
            ring_to_the_end,
            ring_of_first_numbers,
            ring_one_after_another,
            ring_of_sums_only,
            ring_with_sums_at_home,
            ring_in_place,
        ],
    ),
    "bubble": Answers(
        right=[bubble_by_timetable],
        wrong=[
            bubble_over_work,
            bubble_of_work,
            bubble_in_percent,
            bubble_rounded_down,
            bubble_of_all_stages,
            bubble_one_slot_too_long,
            bubble_without_micro_batches,
            bubble_twice,
            bubble_once_for_both_ways,
            bubble_in_slots,
            bubble_exchanged,
        ],
    ),
    "bytes_held": Answers(
        right=[held_by_cases, held_in_integers],
        wrong=[
            held_in_numbers,
            held_in_half_precision,
            held_with_one_mean,
            held_without_means,
            held_rounded_down,
            held_unrounded,
            held_with_bytes_rounded_up,
            held_with_both_means_in_one,
            held_all_shared,
            held_nothing_shared,
            held_the_other_way_round,
            held_without_gradients,
            held_of_shared_only,
        ],
    ),
}
