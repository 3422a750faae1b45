"""A training step beside `transformers`: forward, backward and AdamW, without dropout.

Theirs is what a user writes: `model(input_ids, labels=...).loss`, `torch.optim.AdamW` as it comes.
Ours is `GPT.loss` and the fused AdamW. The weights, and so the losses, are the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import NOT_HERE, Row, compare, same
from benchmarks.peers import Shape, gpt2_pair
from gptbook.evaluation import IGNORED
from gptbook.kernels import has_bfloat16
from gptbook.model import GPT
from gptbook.training import TrainingConfig, autocast, make_optimizer

TITLE = "Training step (layers x d_model x vocabulary x context x batch)"
CPU = torch.device("cpu")

# shape, batch, rounds, the ratio that is wanted
STEPS = [
    (Shape(4, 128, 512, 128, num_heads=4), 32, 15, 1.2),
    (Shape(6, 384, 1_024, 256, num_heads=6), 8, 9, 1.1),
    (Shape(6, 384, 50_257, 256, num_heads=6), 8, 5, 1.3),
]


def run() -> list[Row]:
    """Compare at every shape, and at the last in bfloat16."""
    rows = [step_row(*step) for step in STEPS]
    shape, batch_size, rounds, _ = STEPS[-1]
    return rows + bfloat16_rows(shape, batch_size, rounds)


def step_row(shape: Shape, batch_size: int, rounds: int, target: float | None = None) -> Row:
    """Compare in float32, after making sure that two steps give the same losses."""
    ours, theirs = steps(shape, batch_size)
    for number in (1, 2):
        same(f"loss of step {number}", ours(), theirs(), 1e-3)
    work = batch_size * shape.context_length
    return compare(f"{shape} x {batch_size}", ours, theirs, work=work, rounds=rounds, target=target)


def bfloat16_rows(shape: Shape, batch_size: int, rounds: int) -> list[Row]:
    """Compare in bfloat16, where the processor has it."""
    ours_first, theirs_first = "bfloat16, beside our float32", "bfloat16, beside transformers'"
    if not has_bfloat16(CPU):
        return [Row(ours_first, 2.5, note=NOT_HERE), Row(theirs_first, 1.8, note=NOT_HERE)]
    exact, _ = steps(shape, batch_size)
    ours, theirs = steps(shape, batch_size, "bfloat16")
    same("loss in bfloat16", ours(), exact(), 0.05)
    work = batch_size * shape.context_length
    return [
        compare(ours_first, ours, exact, work=work, rounds=rounds, target=2.5),
        compare(theirs_first, ours, theirs, work=work, rounds=rounds, target=1.8),
    ]


def steps(
    shape: Shape, batch_size: int, precision: str = "float32"
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Make one step of each; a call takes it and returns the loss."""
    ours, theirs = gpt2_pair(shape)
    token_ids = torch.randint(shape.vocab_size, (batch_size, shape.context_length))
    targets = token_ids.roll(-1, dims=1)
    targets[:, -1] = IGNORED  # they shift the labels, and have none for the last token
    config = TrainingConfig(learning_rate=1e-4, weight_decay=0.01, betas=(0.9, 0.999))
    optimizer = make_optimizer(ours, config)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4)
    return (
        lambda: _step(lambda: _loss(ours, token_ids, targets), optimizer, precision),
        lambda: _step(lambda: _their_loss(theirs, token_ids), their_optimizer, precision),
    )


def _step(loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, precision: str) -> float:
    with autocast(precision, CPU):
        loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _loss(model: GPT, token_ids: Tensor, targets: Tensor) -> Tensor:
    return model.loss(token_ids, targets)


def _their_loss(model: nn.Module, token_ids: Tensor) -> Tensor:
    return model(input_ids=token_ids, labels=token_ids).loss
