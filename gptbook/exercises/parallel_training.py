"""Exercises of chapter 10: shares of rows, one mean of many, half a ring, idle stages, memory.

Shapes: N processes. Their number is `world_size` in code, as in `torch.distributed`.
"""

import math
from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare, explain


def share_of_rows(num_rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """Say where a process's share of the rows begins and ends."""
    size, extra = divmod(num_rows, world_size)
    first = rank * size + min(rank, extra)
    return first, first + size + (1 if rank < extra else 0)


def mean_gradient(gradients: list[Tensor], counts: list[int]) -> Tensor:
    """Combine the gradients of means into the gradient of the mean over all targets."""
    total = sum(counts)
    pairs = zip(gradients, counts, strict=True)
    parts = [count / total * gradient for gradient, count in pairs if count > 0]
    return torch.stack(parts).sum(dim=0)


def reduce_scatter(chunks: list[list[int]]) -> list[list[int]]:
    """Go through the first half of a ring all-reduce."""
    num = len(chunks)
    table = [list(row) for row in chunks]
    for step in range(num - 1):
        sent = [table[rank][(rank - step) % num] for rank in range(num)]
        for rank, number in enumerate(sent):
            table[(rank + 1) % num][(rank - step) % num] += number
    return table


def bubble(num_stages: int, num_micro_batches: int) -> float:
    """Say which share of the time the stages of a pipeline stand idle."""
    return (num_stages - 1) / (num_micro_batches + num_stages - 1)


def bytes_held(num_parameters: int, world_size: int, shared: Set[str]) -> int:
    """Count the bytes that a process holds when it trains with AdamW in float32."""
    share = math.ceil(num_parameters / world_size)
    numbers_each = {"parameters": 1, "gradients": 1, "optimizer": 2}
    return 4 * sum(
        each * (share if kind in shared else num_parameters) for kind, each in numbers_each.items()
    )


def _share_cases() -> list[tuple[Any, ...]]:
    """Even shares, rows left over, fewer rows than processes, and one process alone."""
    return [
        *((8, rank, 4) for rank in (0, 1, 3)),
        *((10, rank, 4) for rank in range(4)),
        *((11, rank, 3) for rank in range(3)),
        *((3, rank, 5) for rank in range(5)),
        (7, 0, 1),
        (1003, 5, 8),
    ]


def _judge_share(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize an end that is included, a length, rows left over or too many, and a late start."""
    difference = compare(expected, got)
    if not isinstance(got, list | tuple) or len(got) != 2:
        return difference
    if any(isinstance(number, float) for number in got):
        return f"a list is cut at whole numbers, of type int, but {got[0]} and {got[1]} came"
    if difference is None or any(isinstance(n, bool) or not isinstance(n, int) for n in got):
        return difference
    num_rows, rank, world_size = arguments
    first, end = expected
    if min(got) < 0:
        return f"rows are numbered from 0, and so are processes ({difference})"
    size, extra = divmod(num_rows, world_size)
    if tuple(got) == (first, end - 1) and rank >= extra:
        return f"the second number is one past the last row of the share ({difference})"
    if tuple(got) == (first, end - first) and first > 1:
        return f"the second number says where the share ends, not how long it is ({difference})"
    if max(got) > num_rows:
        return f"there are only {num_rows} rows ({difference})"
    if first == end:
        return (
            f"no row is left for process {rank}: its share is empty, "
            f"and begins and ends at {first} ({difference})"
        )
    if got[1] - got[0] != end - first:
        left = f"{extra} left over, one each for the first {extra}" if extra else "none left over"
        return (
            f"process {rank} should get {end - first} of the rows, not {got[1] - got[0]}: "
            f"{num_rows} rows for {world_size} processes are {size} each, and {left} ({difference})"
        )
    return (
        f"the number of rows is right, but process {rank} begins where the one before it ends, "
        f"at {first} ({difference})"
    )


def _gradient_cases() -> list[tuple[Any, ...]]:
    """Unequal counts, equal ones, none with and without nan, a matrix, and one process alone."""
    first, second, third = (torch.tensor(row) for row in ([1.0, -2.0], [5.0, 4.0], [-3.0, 7.0]))
    nothing = torch.full((2,), math.nan)
    matrix = torch.tensor([[0.5, -1.5], [2.0, 8.0], [0.0, 3.0]])
    return [
        ([first, second], [1, 4]),
        ([first, second], [3, 3]),
        ([first, second, third], [5, 0, 2]),
        ([first, nothing, second], [5, 0, 2]),
        ([nothing, first, nothing, third], [0, 40, 0, 25]),
        ([matrix, matrix.flip(0), -matrix], [1024, 300, 77]),
        ([third], [6]),
    ]


def _judge_gradient(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize nan that spreads, counts left out, and a wrong number to divide by."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    gradients, counts = arguments
    used = [(gradient, count) for gradient, count in zip(gradients, counts, strict=True) if count]
    if got.isnan().any() and any(gradient.isnan().any() for gradient in gradients):
        return (
            "the nan of a process without targets got into the result; leave that process out, "
            f"for 0 times nan is nan ({difference})"
        )
    num, total = len(counts), sum(counts)
    plain = torch.stack([gradient for gradient, _ in used]).sum(dim=0)
    mistakes = (
        (plain / num, "a process with more targets counts more"),
        (plain / len(used), "a process with more targets counts more"),
        (torch.stack(gradients).mean(dim=0), "a process with more targets counts more"),
        (plain, "this is the sum; weigh each mean by its targets, and divide by all targets"),
        (
            torch.stack(gradients).sum(dim=0),
            "this is the sum; weigh each mean by its targets, and divide by all targets",
        ),
        (expected * total, "divide by the number of all targets"),
        (expected * total / num, "divide by the number of targets, not of processes"),
        (expected * total / len(used), "divide by the number of targets, not of processes"),
        (expected * num, f"this is {num} times too long, once for each process"),
        (expected / num, "it is divided once too often, by the number of processes"),
    )
    return explain(difference, got, mistakes)


def _ring_cases() -> list[tuple[Any, ...]]:
    """Three processes, two and more, in numbers that show who added what, and one alone."""
    return [
        ([[1, 2, 3], [10, 20, 30], [100, 200, 300]],),
        ([[1, 2], [10, 20]],),
        ([[1, 1, 1, 1], [10, 10, 10, 10], [100, 100, 100, 100], [1000, 1000, 1000, 1000]],),
        ([[(7 * rank + 3 * part) ** 2 % 31 - 9 for part in range(5)] for rank in range(5)],),
        ([[7]],),
    ]


def _ring(
    chunks: list[list[int]], num_steps: int, way: int = 1, turn: int = -1, keep: bool = True
) -> list[list[int]]:
    """Go round another ring: more or fewer steps, the other way, or without adding."""
    num = len(chunks)
    table = [list(row) for row in chunks]
    for step in range(num_steps):
        sent = [table[rank][(rank + turn * step) % num] for rank in range(num)]
        for rank, number in enumerate(sent):
            to, part = (rank + way) % num, (rank + turn * step) % num
            table[to][part] = number + (table[to][part] if keep else 0)
    return table


def _first_numbers_only(chunks: list[list[int]]) -> list[list[int]]:
    """Send in every step what a process had at the beginning."""
    num = len(chunks)
    table = [list(row) for row in chunks]
    for step in range(num - 1):
        for rank in range(num):
            part = (rank - step) % num
            table[(rank + 1) % num][part] += chunks[rank][part]
    return table


def _one_after_another(chunks: list[list[int]]) -> list[list[int]]:
    """Let one process send all it has to send, and then the next."""
    num = len(chunks)
    table = [list(row) for row in chunks]
    for rank in range(num):
        for step in range(num - 1):
            part = (rank - step) % num
            table[(rank + 1) % num][part] += table[rank][part]
    return table


def _judge_ring(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize other rings, and tables that hold the whole sums and not what is on the way."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple):
        return difference
    (chunks,) = arguments
    num = len(chunks)
    sums = [sum(row[part] for row in chunks) for part in range(num)]
    mistakes = (
        (chunks, "the table is as it was, but what is sent is to be added"),
        ([sums] * num, "this is the whole all-reduce, but it is to stop after the first half"),
        (_ring(chunks, num), "N processes take N - 1 steps, and this is one more"),
        (_ring(chunks, num - 2), "N processes take N - 1 steps, and this is one less"),
        (_ring(chunks, num - 1, keep=False), "the receiver adds what comes to its own number"),
        (_ring(chunks, num - 1, way=-1), "process r sends to r + 1, not to r - 1"),
        (_ring(chunks, num - 1, turn=1), "in step s process r sends part r - s, not r + s"),
        (_ring(chunks, num - 1, way=-1, turn=1), "this ring runs the other way: r sends to r + 1"),
        (_ring(chunks, num - 1, turn=0), "each step sends another part: in step s part r - s"),
        (_first_numbers_only(chunks), "send on the sum so far, not the number of the beginning"),
        (_one_after_another(chunks), "in each step all processes send, before the next step"),
    )
    if (explained := explain(difference, got, mistakes)) != difference:
        return explained
    if compare([num] * num, [len(row) if isinstance(row, list | tuple) else 0 for row in got]):
        return difference
    places = [(rank + 1) % num for rank in range(num)]
    found = [row[part] for row, part in zip(got, places, strict=True)]
    if compare([sums[part] for part in places], found) is None:
        return (
            "the whole sums are right and in their places, but the other numbers "
            f"should be what the steps have left there ({difference})"
        )
    if compare(sums, [row[rank] for rank, row in enumerate(got)]) is None:
        return f"process r ends with the whole sum of part (r + 1) mod N, not of r ({difference})"
    return difference


def _bubble_cases() -> list[tuple[Any, ...]]:
    """Some stages and micro-batches, one stage, one micro-batch, and many."""
    return [(4, 8), (1, 5), (4, 1), (2, 3), (8, 33), (3, 100)]


def _judge_bubble(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the share of work, idle over working time, and times that are one off."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    stages, batches = arguments
    time = batches + stages - 1
    mistakes = (
        (1 - expected, "this is the share of the time that they work"),
        ((stages - 1) / batches, "this is idle over working time, not over all the time"),
        (100 * expected, "give a share, from 0 to 1, not percent"),
        (int(expected), "a share is a fraction, which // rounds down"),
        (stages - 1, "this is the number of idle slots, to be divided by all the slots"),
        ((stages - 1) / stages, "stages work at the same time, on other micro-batches"),
        (stages / (batches + stages), "a stage idles for one slot less than there are stages"),
        (stages / time, "a stage idles for one slot less than there are stages"),
        ((stages - 1) / (batches + stages), f"all forward passes take {time} slots, one less"),
        (
            2 * (stages - 1) / (batches + 2 * (stages - 1)),
            "the way back doubles the idle slots, and the working ones, too",
        ),
        (
            (stages - 1) / (2 * batches + stages - 1),
            "the way back doubles the working slots, and the idle ones, too",
        ),
        ((batches - 1) / time, "the stages come first, then the micro-batches"),
    )
    return explain(difference, got, mistakes)


def _held_cases() -> list[tuple[Any, ...]]:
    """Each kind shared, all and none, a rest, more processes than parameters, and many."""
    optimizer, gradients = {"optimizer"}, {"gradients"}
    every = {"parameters", "gradients", "optimizer"}
    return [
        (12, 4, optimizer),
        (12, 4, gradients),
        (12, 4, gradients | optimizer),
        (12, 4, every),
        (12, 4, set()),
        (22, 3, optimizer),
        (22, 3, gradients),
        (22, 3, {"parameters"}),
        (22, 3, every),
        (3, 5, every),
        (11, 1, every),
        (124_439_808, 8, gradients | optimizer),
    ]


def _judge_held(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize kinds left out or shared by mistake, numbers for bytes, and other rounding."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    num, world_size, shared = arguments
    share = math.ceil(num / world_size)
    weights, slopes, means = (
        share if kind in shared else num for kind in ("parameters", "gradients", "optimizer")
    )
    split = sum(2 if kind == "optimizer" else 1 for kind in shared)
    whole = 4 - split
    two_means = math.ceil(2 * num / world_size) if "optimizer" in shared else 2 * num
    mistakes = (
        (expected / 4, "numbers are counted here, and each takes four bytes"),
        (expected / 2, "a number in float32 takes four bytes, not two"),
        (16 * num, f"what is shared is split over the {world_size} processes"),
        (4 * (weights + slopes + means), "one of AdamW's two means is missing"),
        (4 * (weights + slopes), "both of AdamW's means are missing"),
        (4 * (weights + 2 * means), "the gradients are missing"),
        (4 * (slopes + 2 * means), "the parameters are missing"),
        (8 * means, "parameters and gradients are missing"),
        (16 * share, "what is not shared is held whole by each process"),
        (4 * (whole * share + split * num), "split what is shared, and not the rest"),
        (4 * split * share, "what is not shared is missing"),
        (4 * whole * num, "the process's own part of what is shared is missing"),
        (4 * (whole * num + split * (num // world_size)), "a share is rounded up, not down"),
        (4 * (whole * num + split * num / world_size), "a share is rounded up to a whole number"),
        (
            math.ceil(4 * (whole * num + split * num / world_size)),
            "the numbers in a share are rounded up, not the bytes",
        ),
        (4 * (weights + slopes + two_means), "each of the two means is split by itself"),
    )
    return explain(difference, got, mistakes)


EXERCISES = {
    "share_of_rows": Exercise(share_of_rows, _share_cases, _judge_share),
    "mean_gradient": Exercise(mean_gradient, _gradient_cases, _judge_gradient),
    "ring_step": Exercise(reduce_scatter, _ring_cases, _judge_ring),
    "bubble": Exercise(bubble, _bubble_cases, _judge_bubble),
    "bytes_held": Exercise(bytes_held, _held_cases, _judge_held),
}
