"""A run that tests kill and start again, in a process of its own: see test_training.py."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import _dynamo, nn  # noqa: F401  (or each process's first step would load it anew)

from gptbook import training
from gptbook.training import (
    TrainingConfig,
    load_checkpoint,
    make_optimizer,
    next_token_pairs,
    save_checkpoint,
    train,
)

CONFIG = TrainingConfig(num_steps=16, learning_rate=1e-2, warmup_steps=5, micro_batches=2)
EVERY = 4  # steps between two checkpoints


class CountingTexts:
    """Endless batches of small sums, drawn anew from a seed that counts."""

    def __init__(self) -> None:
        self.number = 0

    def __iter__(self):
        return self

    def __next__(self):
        generator = torch.Generator().manual_seed(self.number)
        self.number += 1
        steps = torch.randint(1, 4, (4, 1), generator=generator)
        return next_token_pairs(torch.arange(9) * steps % 20)

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


def make_run(config: TrainingConfig = CONFIG):
    """A small model with dropout, which draws from PyTorch's own generator."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(20, 16), nn.Dropout(0.2), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 20)
    )
    return model, make_optimizer(model, config), CountingTexts()


def run(folder: str) -> None:
    """Train to the end, from the latest checkpoint if there is one."""
    torch.set_num_threads(1)
    here = Path(folder)
    model, optimizer, batches = make_run()
    first, log = 0, here / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    if list(here.glob("step-*")):
        first = load_checkpoint(
            here, model=model, optimizer=optimizer, batches=batches, config=CONFIG
        )
        with (here / "resumed.txt").open("a") as file:
            file.write(f"{first}\n")
    shortened = here / "log.partial"  # put in place at once: a kill must not find half a log
    shortened.write_text("".join(f"{line}\n" for line in lines[:first]))
    os.replace(shortened, log)  # noqa: PTH105  (Path.replace counts as the checkpoint's)
    with log.open("a") as file:
        for step in train(model, batches, CONFIG, optimizer=optimizer, first_step=first):
            file.write(json.dumps([step.number, step.loss, step.gradient_norm]) + "\n")
            file.flush()
            if step.number % EVERY == 0:
                save_checkpoint(
                    here,
                    step=step.number,
                    model=model,
                    optimizer=optimizer,
                    batches=batches,
                    config=CONFIG,
                )
    save_file(dict(model.named_parameters()), here / "final.safetensors")


def run_and_die(folder: str, operation: int) -> None:
    """Run, but be killed just before the n-th operation on a checkpoint's files."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for owner, name in (
        (Path, "mkdir"),
        (training, "save_file"),
        (os, "fsync"),
        (Path, "replace"),
        (shutil, "rmtree"),
        (os, "unlink"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))
    run(folder)
