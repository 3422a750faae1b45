"""Parallel training: one model, trained by several processes at once.

Chapter 10 opens up what happens here. PyTorch does the work: `torchrun` starts the processes, and
starts them again when one dies; DDP or FSDP2 exchange gradients and parameters;
`torch.distributed.checkpoint` writes what each process holds. `train` of `gptbook.training` stays
the loop, with the processes as its `group`:

    with join() as group:
        spread = spread_out(model, "ddp", group)
        for step in train(spread, batches, config, group=group):
            ...

Shapes: N counts processes.

References:
    Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel Training".
    https://arxiv.org/abs/2006.15704
    Zhao et al. (2023), "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
    https://arxiv.org/abs/2304.11277
    Rajbhandari et al. (2020), "ZeRO: Memory Optimizations Toward Training Trillion Parameter
    Models". https://arxiv.org/abs/1910.02054
"""

import hashlib
import json
import multiprocessing
import os
import queue
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.optim import Optimizer

from gptbook import training
from gptbook.training import Resumable, find_checkpoint, loss_of

STRATEGIES = ("ddp", "fsdp")

_NEEDED_BY_FSDP = (
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.device_mesh",
    "torch.distributed.fsdp",
)
_SETTINGS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


# --- who takes part -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, seen from one of them.

    Attributes:
        rank: Which of them this is, from 0.
        world_size: How many there are.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def sum(self, number: float) -> float:
        """Add up the numbers that all processes have, and give each the sum."""
        total = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.item()

    def turn(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Go forward and backward in it; the last time, gradients are averaged over processes."""
        assert isinstance(model, _Spread)
        return model.turn(last)

    def share_of(self, batch_size: int) -> int:
        """Say how much of a batch is this process's.

        Raises:
            ValueError: If the batch cannot be shared out evenly.
        """
        if batch_size < 1 or batch_size % self.world_size:
            near = max(1, batch_size // self.world_size) * self.world_size
            raise ValueError(
                f"a batch of {batch_size} cannot be shared out evenly among {self.world_size} "
                f"processes; make it a multiple, such as {near}"
            )
        return batch_size // self.world_size

    def wait(self) -> None:
        """Wait until all processes are here."""
        dist.barrier()


@contextmanager
def join(*, device: str = "cpu", timeout: float = 120.0) -> Iterator[Processes]:
    """Meet the other processes that `torchrun` started.

    Args:
        device: Where to compute: "cpu", with gloo between the processes, or "cuda", with NCCL and
            one GPU each.
        timeout: For how many seconds to wait for others, at the start and in each exchange.

    Raises:
        ValueError: If this process was not started by `torchrun`.
        OSError: If the others cannot be met, because the port is in use or somebody is missing.
    """
    missing = [name for name in _SETTINGS if name not in os.environ]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} are not set, so there is nobody to meet; start the processes "
            "with torchrun --nproc-per-node 2 -m gptbook train --parallel ddp"
        )
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout)))
        if int(os.environ.get("GROUP_WORLD_SIZE", 1)) == 1:
            # torchrun keeps this store when it starts the processes again: without a part of their
            # own in it, some would take the addresses of the dead for those of the living.
            store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout),
        )
    except RuntimeError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise OSError(
            f"process {rank} of {world_size} could not meet the others at {where}: "
            f"{str(error).splitlines()[0]}; choose another port with --master-port, or "
            "look whether all processes were started"
        ) from error
    try:
        yield Processes(rank, world_size, place)
    finally:
        with suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()


# --- who holds what -----------------------------------------------------------------------------


class _LossOf(nn.Module):
    """A model whose forward pass is its loss, since DDP and FSDP follow forward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        return loss_of(self.model, token_ids, targets)


class _Spread(nn.Module):
    """A model among processes, for `train`."""

    def __init__(self, model: nn.Module, strategy: str, group: Processes) -> None:
        super().__init__()
        self.strategy = strategy
        whole = _LossOf(model)
        if strategy == "ddp":
            ids = None if group.device.type == "cpu" else [group.device]
            self.engine: nn.Module = nn.parallel.DistributedDataParallel(whole, device_ids=ids)
            return
        # Loading what FSDP needs takes seconds, which the other ways do not have to wait.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(group.device.type, (group.world_size,))
        for block in getattr(model, "blocks", ()):
            fully_shard(block, mesh=mesh)
        self.sharded = fully_shard(model, mesh=mesh)
        if hasattr(model, "loss"):
            register_fsdp_forward_method(model, "loss")
        self.engine = whole

    def loss(self, token_ids: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, after what this process lacks has been fetched."""
        return self.engine(token_ids, targets)

    def turn(self, last: bool) -> AbstractContextManager[Any]:
        """Exchange gradients after the last batch of a step only."""
        if isinstance(self.engine, nn.parallel.DistributedDataParallel):
            return nullcontext() if last else self.engine.no_sync()
        self.sharded.set_requires_gradient_sync(last)
        return nullcontext()


def spread_out(model: nn.Module, strategy: str, group: Processes) -> nn.Module:
    """Spread a model out among processes.

    - "ddp": each process holds all of it, and gradients are averaged. The optimizer is free.
    - "fsdp": each process holds an N-th of every parameter, gradient and optimizer state, and
      fetches the rest of a block when the block is at work.

    The model itself is changed; make the optimizer, save and generate with it as before.

    Args:
        model: The same on all processes. For "fsdp" its `blocks` are fetched one at a time.
        strategy: "ddp" or "fsdp".
        group: The processes.

    Returns:
        What to give to `train`, together with the group.

    Raises:
        ValueError: If there is no such strategy.
    """
    _require_strategy(strategy)
    return _Spread(model.to(group.device), strategy, group)


def _require_strategy(strategy: str) -> None:
    """Refuse a strategy that there is not."""
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy}")


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Fetch all parameters and buffers of a model, wherever they are, to the first process.

    All processes must ask; the others get nothing.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


class Memory(NamedTuple):
    """How many bytes one process holds, of each kind."""

    parameters: int
    gradients: int
    optimizer: int


def memory_held(model: nn.Module, optimizer: Optimizer) -> Memory:
    """Count what this process holds of a model that was spread out, after a step."""
    parameters = list(model.parameters())
    gradients = [row.grad for row in parameters if row.grad is not None]
    states = [row for state in optimizer.state.values() for row in state.values()]
    return Memory(*(_bytes_of(rows) for rows in (parameters, gradients, states)))


def memory_needed(
    num_parameters: int, strategy: str, world_size: int, *, bytes_each: int = 4
) -> Memory:
    """Say how many bytes a process needs for parameters, gradients and AdamW's two means.

    References:
        Rajbhandari et al. (2020), section 3.1 and figure 1.

    >>> memory_needed(1_000_000, "fsdp", 4)
    Memory(parameters=1000000, gradients=1000000, optimizer=2000000)
    """
    _require_strategy(strategy)
    whole = num_parameters * bytes_each
    share = whole if strategy == "ddp" else -(-whole // world_size)
    return Memory(share, share, 2 * share)


def _bytes_of(rows: Iterable[Any]) -> int:
    """Count the bytes of tensors, of sharded ones those that are here."""
    tensors = [row for row in rows if isinstance(row, Tensor)]
    here = [row.to_local() if hasattr(row, "to_local") else row for row in tensors]
    return sum(row.numel() * row.element_size() for row in here)


# --- checkpoints that several processes write together --------------------------------------------

_FORMAT = "gptbook sharded checkpoint 1"


def save_sharded(
    folder: str | Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    group: Processes,
    batches: Resumable | None = None,
    config: Any = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint, each process the part that it holds.

    It is as `gptbook.training.save_checkpoint` writes them: in a folder that appears whole or not
    at all, tensors in safetensors files and all else in JSON. Any number of processes can read it.
    So it holds no random generators, of which each process has its own: with dropout, a run that
    goes on drops other values than the unbroken one.

    Args:
        folder: Where the checkpoints of this run are; all processes see the same files there.
        step: How many steps were taken.
        model: The model itself, not what `spread_out` returned.
        optimizer: Its state is saved.
        group: The processes.
        batches: Saved by their `state_dict`.
        config: A dataclass or a dictionary: what a resumed run must agree with.
        keep: How many checkpoints are kept, this one included.

    Returns:
        The folder of the new checkpoint.

    Raises:
        FileExistsError: If there is a checkpoint of this step already.
    """
    import torch.distributed.checkpoint as checkpoint

    final = Path(folder) / f"step-{step:08d}"
    if final.exists():
        raise FileExistsError(
            f"{final} exists already; resume from it, or choose another folder for this run"
        )
    partial = Path(folder) / f".partial-step-{step:08d}"  # the same name on all processes
    if group.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    group.wait()
    tensors = _tensors_held(model, optimizer)
    writer = checkpoint.HuggingFaceStorageWriter(str(partial), save_distributed=True)
    checkpoint.save(tensors, storage_writer=writer)
    group.wait()
    if group.rank == 0:
        state = {
            "format": _FORMAT,
            "step": step,
            "config": training.plain(config),
            "tensors": training.shapes_of(tensors),
            "optimizer": _numbers_of(optimizer),
            "batches": None if batches is None else batches.state_dict(),
            "sha256": {file.name: _digest(file) for file in partial.glob("*.safetensors")},
        }
        training.write_durably(partial / "state.json", json.dumps(state).encode())
        partial.replace(final)
        training.tidy(Path(folder), keep)
    group.wait()
    return final


def load_sharded(
    folder: str | Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Resumable | None = None,
    config: Any = None,
) -> int:
    """Put a run back to where its checkpoint was written, by as many processes as there are now.

    Args:
        folder: One checkpoint, or the folder that holds those of a run: then the latest.
        model: Made as it was then, and spread out or not; its parameters are overwritten.
        optimizer: Made as it was then; its state is overwritten.
        batches: Made as they were then; they go on from where they were.
        config: What was saved as `config`.

    Returns:
        How many steps were taken: `first_step` of `train`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If a file is damaged, or the model, the optimizer, the batches or the config are
            not those of the checkpoint. The message lists what differs, and nothing is overwritten.
    """
    import torch.distributed.checkpoint as checkpoint

    path = find_checkpoint(folder)
    state = training.read_state(path, _FORMAT)
    for name, digest in state["sha256"].items():
        if not (path / name).exists() or _digest(path / name) != digest:
            raise ValueError(
                f"{path / name} is missing or damaged, its content is not what was written; "
                "remove this checkpoint's folder to go on from the one before it"
            )
    held = training.tensors_of(model)
    saved = {name: shape for name, shape in state["tensors"].items() if _is_of(name, "model")}
    here = training.shapes_of({f"model.{name}": row for name, row in held.items()})
    numbers = _numbers_of(optimizer)
    training.require_same_run(path, state, (saved, here), config, numbers, batches)
    if batches is not None:
        batches.load_state_dict(state["batches"])
    tensors = {f"model.{name}": row for name, row in held.items()}
    states = _empty_states(model, state["tensors"])
    tensors |= {
        f"optimizer.{name}.{key}": row for name, rows in states.items() for key, row in rows.items()
    }
    reader = checkpoint.HuggingFaceStorageReader(str(path))
    with torch.no_grad(), _quiet():
        checkpoint.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    parameters = dict(model.named_parameters())
    for name, rows in states.items():
        optimizer.state[parameters[name]] = dict(rows)
    return state["step"]


def _tensors_held(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Name all that is to be saved: parameters, buffers, and what the optimizer knows of each."""
    names: dict[Tensor, str] = {row: name for name, row in model.named_parameters()}
    found = {f"model.{name}": row for name, row in training.tensors_of(model).items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            found[f"optimizer.{names[parameter]}.{key}"] = value
    return found


def _empty_states(model: nn.Module, saved: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Make room for the optimizer's state: means like their parameter, counts as they are."""
    parameters = dict(model.named_parameters())
    states: dict[str, dict[str, Tensor]] = {}
    for entry in saved:
        if _is_of(entry, "optimizer"):
            name, _, key = entry.removeprefix("optimizer.").rpartition(".")
            like = parameters[name].detach()
            room = torch.zeros((), dtype=torch.float32) if key == "step" else torch.zeros_like(like)
            states.setdefault(name, {})[key] = room
    return states


def _is_of(name: str, kind: str) -> bool:
    """Say whether a tensor is the model's or the optimizer's."""
    return name.startswith(f"{kind}.")


def _numbers_of(optimizer: Optimizer) -> dict[str, Any]:
    """Give the class and the groups of an optimizer, in plain numbers."""
    groups = optimizer.state_dict()["param_groups"]
    return training.plain({"class": type(optimizer).__name__, "groups": groups})


def _digest(file: Path) -> str:
    """Give the fingerprint of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out PyTorch's warning that one process alone has nobody to share with."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no_dist.*|.*single process.*")
        yield


# --- processes without torchrun -------------------------------------------------------------------


def run_processes(
    function: Callable[..., Any], num_processes: int, *arguments: Any, timeout: float = 120.0
) -> list[Any]:
    """Run a function in several processes that have met, as in a test or on a page.

    Args:
        function: What to run; it is given the `Processes`, then the arguments. It stands in a file,
            since another process has to find it by its name.
        num_processes: How many to start.
        arguments: The same for all.
        timeout: For how many seconds to wait, for all of them together.

    Returns:
        What each returned, by rank.

    Raises:
        TimeoutError: If some did not end in time; they are ended.
        RuntimeError: If one failed; the others are ended. The message holds what it said.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes={num_processes} are none; start at least 1")
    context = _context()
    answers, taken = context.Queue(), context.Event()
    with tempfile.TemporaryDirectory() as folder:
        place = (Path(folder) / "meeting").as_uri()
        workers = [
            context.Process(
                target=_work,
                args=(function, rank, num_processes, place, timeout, answers, taken, arguments),
                daemon=True,
            )
            for rank in range(num_processes)
        ]
        for worker in workers:
            worker.start()
        try:
            return _collect(workers, answers, time.monotonic() + timeout)
        finally:
            taken.set()
            for worker in workers:
                worker.join(2)
                worker.kill()
                worker.join()


def _work(
    function: Callable[..., Any],
    rank: int,
    world_size: int,
    place: str,
    timeout: float,
    answers: Any,
    taken: Any,
    arguments: tuple[Any, ...],
) -> None:
    """Be one of the processes of `run_processes`."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=place,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout),
        )
        group = Processes(rank, world_size, torch.device("cpu"))
        answer = function(group, *arguments)
        group.wait()
        answers.put((rank, True, answer))
        taken.wait(timeout)  # tensors are handed over only while their owner lives
        dist.destroy_process_group()
    except BaseException:
        answers.put((rank, False, traceback.format_exc()))


@cache
def _context() -> Any:
    """Choose how processes start: from a server that has loaded PyTorch once, if there can be one.

    A process of its own takes seconds to load PyTorch, and one split off the server hardly any.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # as on Windows
        return torch.multiprocessing.get_context("spawn")
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gptbook.distributed", *_NEEDED_BY_FSDP])
    return context


def _blame(workers: Sequence[BaseProcess]) -> None:
    """Name a process that died; the others only noticed that it was gone."""
    for rank, worker in enumerate(workers):
        if worker.exitcode:
            raise RuntimeError(f"process {rank} ended with exit code {worker.exitcode}")


def _collect(workers: Sequence[BaseProcess], answers: Any, end: float) -> list[Any]:
    """Take what the processes return."""
    found: dict[int, Any] = {}
    while len(found) < len(workers):
        try:
            rank, is_well, answer = answers.get(timeout=0.2)
        except queue.Empty:
            missing = [rank for rank in range(len(workers)) if rank not in found]
            _blame(workers)
            if time.monotonic() > end:
                raise TimeoutError(
                    f"processes {missing} did not end in time; give them a longer timeout, or "
                    "look for one that waits for a message that nobody sends"
                ) from None
            continue
        if not is_well:
            _blame(workers)
            raise RuntimeError(f"process {rank} failed:\n{answer}")
        found[rank] = answer
    return [found[rank] for rank in range(len(workers))]
