"""Train small GPTs of many sizes on many amounts of Littletown, and write what they reached.

    python tools/dev.py scaling       # same as `make scaling`: under an hour on two cores

Two runs go side by side, one thread each, the longest first. What a run is says
gptbook/scaling_runs.py, whose table this writes.
"""

import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch

from gptbook.model import count_parameters
from gptbook.scaling import training_flops
from gptbook.scaling_runs import TOKENS_PER_STORY, Run, run, small_config, write_runs

TABLE = Path(__file__).resolve().parent.parent / "gptbook" / "scaling_runs.csv"
Plan = tuple[str, int, int, int, int]  # purpose, width, blocks, tokens, new ones among them

SHAPES = ((16, 2), (32, 3), (64, 4), (96, 4))  # width, blocks
AMOUNTS = (200_000, 600_000, 2_000_000, 6_000_000)  # tokens
MOST_FOR_WIDEST = 2_000_000  # more would take a quarter of an hour for this one run
MIDDLE = (64, 4)
BUDGETS = tuple(
    training_flops(small_config(*MIDDLE), tokens, length=TOKENS_PER_STORY)
    for tokens in AMOUNTS[1:3]
)
WIDTHS = ((16, 2), (24, 2), (32, 3), (48, 3), (96, 4), (128, 5))  # beside MIDDLE, in the grid
DEPTHS = (1, 2, 8)  # beside MIDDLE
UNIQUE, REPEATS = 100_000, (1, 2, 4, 8, 16)


def affordable(d_model: int, num_layers: int, budget: int) -> int:
    """Say how many tokens a model can read for so many FLOPs."""
    million = training_flops(small_config(d_model, num_layers), 10**6, length=TOKENS_PER_STORY)
    return round(budget / million * 10**6)


def plan() -> list[Plan]:
    """List all runs, those first that take longest."""
    rows: list[Plan] = []
    for shape in SHAPES:
        for tokens in AMOUNTS:
            if shape != SHAPES[-1] or tokens <= MOST_FOR_WIDEST:
                rows.append(("grid", *shape, tokens, tokens))
    for d_model, num_layers in WIDTHS:
        tokens = affordable(d_model, num_layers, BUDGETS[0])
        rows.append(("width", d_model, num_layers, tokens, tokens))
    for num_layers, budget in product(DEPTHS, BUDGETS):
        tokens = affordable(MIDDLE[0], num_layers, budget)
        rows.append(("depth", MIDDLE[0], num_layers, tokens, tokens))
    for times in REPEATS:
        rows.append(("repeats", *MIDDLE, times * UNIQUE, times * UNIQUE))
        if times > 1:
            rows.append(("repeats", *MIDDLE, times * UNIQUE, UNIQUE))
    return sorted(rows, key=seconds, reverse=True)


def seconds(row: Plan) -> float:
    """Say about how long a run takes: calls cost a small model more than multiplying does."""
    _, d_model, num_layers, tokens, _ = row
    return tokens * (4e-5 + 2.8e-10 * count_parameters(small_config(d_model, num_layers)))


def measure(row: Plan) -> Run:
    """Do one run, on one thread."""
    torch.set_num_threads(1)
    return run(*row)


def make(path: Path = TABLE) -> None:
    """Do all runs and write the table."""
    rows, start = plan(), time.perf_counter()
    found: dict[Plan, Run] = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[Run], Plan] = {pool.submit(measure, row): row for row in rows}
        for done in as_completed(waiting):
            row = waiting[done]
            found[row] = done.result()
            minutes = (time.perf_counter() - start) / 60
            print(f"{len(found)} of {len(rows)} after {minutes:.1f} min: {found[row]}", flush=True)
    order = ("grid", "width", "depth", "repeats")
    rows.sort(key=lambda row: (order.index(row[0]), *row[1:]))
    write_runs([found[row] for row in rows], path)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    make()
    sys.exit(0)
