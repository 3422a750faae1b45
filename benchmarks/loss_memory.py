"""The loss and its gradients: all logits at once, or chunk by chunk. Time, and memory."""

import subprocess
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.harness import Row, compare, same
from gptbook.kernels import linear_cross_entropy

TITLE = "Loss and gradients of the head, chunked beside plain (positions x d_model x vocabulary)"
SHAPES = [(4_096, 128, 512, 9), (2_048, 384, 4_096, 5), (2_048, 384, 50_257, 3)]
WAYS: dict[str, Callable[..., torch.Tensor]] = {
    "plain": lambda hidden, weight, targets: F.cross_entropy(hidden @ weight.T, targets),
    "chunked": linear_cross_entropy,
}


def run() -> list[Row]:
    """Compare the time at each shape, and the memory at the largest."""
    rows = [row(*shape) for shape in SHAPES]
    return [*rows, *memory_rows(*SHAPES[-1][:3])]


def row(num_rows: int, d_model: int, vocab_size: int, rounds: int) -> Row:
    """Compare the time, after making sure that the losses are the same."""
    ours, theirs = (step(name, num_rows, d_model, vocab_size) for name in ("chunked", "plain"))
    same("loss", ours(), theirs(), 1e-4)
    return compare(
        f"{num_rows:,} x {d_model:,} x {vocab_size:,}", ours, theirs, work=num_rows, rounds=rounds
    )


def step(name: str, num_rows: int, d_model: int, vocab_size: int) -> Callable[[], float]:
    """Make one loss with its gradients."""
    torch.manual_seed(0)
    hidden = torch.randn(num_rows, d_model, requires_grad=True)
    weight = (torch.randn(vocab_size, d_model) * 0.05).requires_grad_()
    targets = torch.randint(vocab_size, (num_rows,))

    def work() -> float:
        hidden.grad = weight.grad = None
        loss = WAYS[name](hidden, weight, targets)
        loss.backward()
        return loss.item()

    return work


def memory_rows(num_rows: int, d_model: int, vocab_size: int) -> list[Row]:
    """Compare the most memory that a fresh process takes, where the system tells."""
    what = f"most memory at {num_rows:,} x {d_model:,} x {vocab_size:,}"
    if not sys.platform.startswith("linux"):
        return [Row(what, note="not measured: only Linux says it in one way")]
    chunked, plain = (
        _megabytes(way, num_rows, d_model, vocab_size) for way in ("chunked", "plain")
    )
    found = Row(what, None, "MB", chunked, plain, (plain / chunked,), "beyond what torch takes")
    print(found, flush=True)
    return [found]


def _megabytes(name: str, num_rows: int, d_model: int, vocab_size: int) -> float:
    """Measure one way in a process of its own."""
    # Not `getrusage`: what it tells begins with what the process was forked from.
    code = (
        "from pathlib import Path\n"
        "import torch\n"
        "from benchmarks.loss_memory import step\n"
        "status = lambda: Path('/proc/self/status').read_text(encoding='utf-8')\n"
        "most = lambda: int(status().partition('VmHWM:')[2].split()[0]) / 1e3\n"
        "torch.set_num_threads(1)\n"
        f"step({name!r}, 8, 8, 8)(); start = most()\n"
        f"step({name!r}, {num_rows}, {d_model}, {vocab_size})(); print(most() - start)"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
