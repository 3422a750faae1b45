"""Parallel training: several processes do exactly what one would do, and each its part."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor

from gptbook.__main__ import main
from gptbook.data import RandomBatches, Tokens
from gptbook.distributed import (
    STRATEGIES,
    Processes,
    join,
    load_sharded,
    memory_held,
    memory_needed,
    run_processes,
    save_sharded,
    spread_out,
)
from gptbook.model import GPT, ModernConfig
from gptbook.training import IGNORED, TrainingConfig, make_optimizer, train

pytestmark = pytest.mark.distributed

CONFIG = TrainingConfig(num_steps=20, learning_rate=1e-2, warmup_steps=5, micro_batches=2)
SIZES = {"vocab_size": 32, "context_length": 8, "d_model": 16, "num_heads": 2, "num_layers": 2}
GLOBAL_BATCH = 8
TOKENS = Tokens([range(1, 30), range(5, 25), range(2, 31)], end_of_text=0)


def make_run(group=None, strategy=None, config=CONFIG):
    """A small model in float64, its optimizer, and this process's part of the batches."""
    torch.manual_seed(0)
    model = GPT(ModernConfig(**SIZES)).double()
    rank, world_size = (0, 1) if group is None else (group.rank, group.world_size)
    batches = RandomBatches(
        TOKENS,
        batch_size=GLOBAL_BATCH // world_size,
        context_length=8,
        rank=rank,
        world_size=world_size,
    )
    spread = model if group is None else spread_out(model, strategy, group)
    return model, spread, make_optimizer(model, config), batches


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def curve(group, strategy, config=CONFIG):
    """Train, and give losses, norms and the parameters at the end."""
    model, spread, optimizer, batches = make_run(group, strategy, config)
    steps = [*train(spread, batches, config, optimizer=optimizer, group=group)]
    final = {name: whole(row).detach().clone() for name, row in model.named_parameters()}
    return [(step.loss, step.gradient_norm, step.tokens) for step in steps], final


def alone(config=CONFIG):
    return curve(None, None, config)


def greatest_difference(first, second):
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.mark.parametrize("num_processes", [2, 4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_several_processes_take_the_steps_of_one(strategy, num_processes):
    expected, parameters = alone()
    for got, final in run_processes(curve, num_processes, strategy):
        for (loss, norm, tokens), (own_loss, own_norm, own_tokens) in zip(
            expected, got, strict=True
        ):
            assert math.isclose(loss, own_loss, abs_tol=1e-10)
            assert math.isclose(norm, own_norm, abs_tol=1e-9)
            assert tokens == own_tokens
        assert greatest_difference(parameters, final) < 1e-10


def save_midway(group, strategy, folder):
    """Train half of the way and save."""
    model, spread, optimizer, batches = make_run(group, strategy)
    for step in train(spread, batches, CONFIG, optimizer=optimizer, group=group):
        if step.number == 10:
            break
    save_sharded(
        folder,
        step=10,
        model=model,
        optimizer=optimizer,
        group=group,
        batches=batches,
        config=CONFIG,
    )


def go_on(group, strategy, folder):
    """Go on to the end."""
    model, spread, optimizer, batches = make_run(group, strategy)
    first = load_sharded(folder, model=model, optimizer=optimizer, batches=batches, config=CONFIG)
    steps = train(spread, batches, CONFIG, optimizer=optimizer, first_step=first, group=group)
    losses = [(step.loss, step.gradient_norm, step.tokens) for step in steps]
    return losses, {name: whole(row).detach().clone() for name, row in model.named_parameters()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_of_two_processes_is_read_by_one_and_by_four(strategy, tmp_path):
    run_processes(save_midway, 2, strategy, tmp_path)
    expected, parameters = alone()
    for losses, final in [
        go_on(None, None, tmp_path),
        *run_processes(go_on, 4, strategy, tmp_path),
    ]:
        for (loss, *_), (own, *_) in zip(expected[10:], losses, strict=True):
            assert math.isclose(loss, own, abs_tol=1e-10)
        assert greatest_difference(parameters, final) < 1e-10


def memory_after_a_step(group, strategy):
    model, spread, optimizer, batches = make_run(group, strategy)
    next(train(spread, batches, CONFIG, optimizer=optimizer, group=group))
    return memory_held(model, optimizer)


@pytest.mark.parametrize("num_processes", [1, 2, 4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_process_holds_what_the_formula_says(strategy, num_processes):
    num_parameters = GPT(ModernConfig(**SIZES)).num_parameters()
    needed = memory_needed(num_parameters, strategy, num_processes, bytes_each=8)
    for held in run_processes(memory_after_a_step, num_processes, strategy):
        assert held.parameters == needed.parameters
        assert held.gradients == needed.gradients
        counts = 4 * len([*GPT(ModernConfig(**SIZES)).parameters()])  # how many steps it has seen
        assert held.optimizer == needed.optimizer + counts


# --- what is sent ---------------------------------------------------------------------------------


def bytes_sent(group, micro_batches):
    """Count what DDP exchanges in three steps."""
    config = TrainingConfig(num_steps=3, micro_batches=micro_batches, warmup_steps=0)
    _, spread, optimizer, batches = make_run(group, "ddp", config)
    sent = []

    def listen(state, bucket):
        sent.append(bucket.buffer().numel() * bucket.buffer().element_size())
        return allreduce_hook(state, bucket)

    spread.engine.register_comm_hook(None, listen)
    assert len([*train(spread, batches, config, optimizer=optimizer, group=group)]) == 3
    return sum(sent)


def test_gradients_are_exchanged_once_a_step_however_many_batches_it_has():
    gradients = 8 * GPT(ModernConfig(**SIZES)).num_parameters()
    for micro_batches in (1, 4):
        assert run_processes(bytes_sent, 2, micro_batches) == [3 * gradients] * 2


def sums_of_shards(group, micro_batches):
    """Count how often FSDP adds up gradients in three steps."""
    config = TrainingConfig(num_steps=3, micro_batches=micro_batches, warmup_steps=0)
    _, spread, optimizer, batches = make_run(group, "fsdp", config)
    with patch.object(dist, "reduce_scatter_single", wraps=dist.reduce_scatter_single) as adding:
        assert len([*train(spread, batches, config, optimizer=optimizer, group=group)]) == 3
    return adding.call_count


def test_fsdp_adds_up_gradients_once_a_step_too():
    once, again = (run_processes(sums_of_shards, 2, number) for number in (1, 4))
    assert once == again == [3 * (SIZES["num_layers"] + 1)] * 2  # each block, and what is around


def rows_drawn(group):
    _, _, _, batches = make_run(group, "ddp")
    return [next(batches)[0] for _ in range(3)]


def test_each_process_reads_its_own_part_and_all_read_everything():
    parts = run_processes(rows_drawn, 2)
    _, _, _, batches = make_run()
    for first, second in zip(*parts, strict=True):
        assert torch.equal(torch.cat([first, second]), next(batches)[0])


# --- what goes wrong ------------------------------------------------------------------------------


def fail_in_one(group):
    if group.rank == 1:
        raise ValueError("one of us is unwell")
    group.wait()


def die_in_one(group):
    if group.rank == 1:
        os._exit(7)
    group.wait()


def wait_for_nobody(group):
    if group.rank == 0:
        group.wait()
    time.sleep(100)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (fail_in_one, RuntimeError, "one of us is unwell"),
        (die_in_one, RuntimeError, "exit code 7"),
        (wait_for_nobody, TimeoutError, "did not end in time"),
    ],
)
def test_nobody_waits_for_ever(function, error, message):
    start = time.monotonic()
    with pytest.raises(error, match=message):
        run_processes(function, 2, timeout=10.0)
    assert time.monotonic() - start < 40


def test_no_process_is_too_few():
    with pytest.raises(ValueError, match="num_processes=0 are none; start at least 1"):
        run_processes(rows_drawn, 0)


def batch_without_targets(group):
    _, spread, optimizer, batches = make_run(group, "ddp")
    token_ids, targets = next(batches)
    if group.rank == 1:
        targets = torch.full_like(targets, IGNORED)
    with pytest.raises(ValueError, match="one of the processes has no target"):
        next(train(spread, [(token_ids, targets)] * 2, CONFIG, optimizer=optimizer, group=group))
    return True


def test_a_batch_without_targets_anywhere_stops_all():
    assert run_processes(batch_without_targets, 2) == [True, True]


def test_a_batch_is_shared_out_evenly_or_not_at_all():
    group = Processes(0, 3, torch.device("cpu"))
    assert group.share_of(12) == 4
    with pytest.raises(ValueError, match=r"of 32 cannot .* among 3 processes; .* such as 30"):
        group.share_of(32)


def test_who_was_not_started_by_torchrun_is_told_how_to(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"nobody to meet; start .* with torchrun"), join():
        pass


def test_the_command_says_so_too(tmp_path, capsys):
    assert main(["train", "--parallel", "fsdp", "--out", str(tmp_path)]) == 2
    assert "start the processes with torchrun" in capsys.readouterr().err


def test_a_port_in_use_is_an_error_and_no_wait(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        start = time.monotonic()
        message = f"could not meet the others at 127.0.0.1:{port}"
        with pytest.raises(OSError, match=message), join(timeout=5.0):
            pass
        assert time.monotonic() - start < 20


def test_who_starts_again_takes_no_address_of_the_dead(monkeypatch):
    """torchrun keeps one store for all starts: what one start left must not be met by the next."""
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    place |= {"MASTER_PORT": str(kept.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    counts = []
    for start in ("0", "1"):
        for name, value in (place | {"TORCHELASTIC_RESTART_COUNT": start}).items():
            monkeypatch.setenv(name, value)
        with join(timeout=20.0):
            counts.append(kept.num_keys())
    assert counts[1] >= 2 * counts[0] - 1


def test_a_strategy_that_there_is_not_is_refused():
    group = Processes(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="strategy must be one of ddp, fsdp, not zero"):
        spread_out(GPT(ModernConfig(**SIZES)), "zero", group)
    with pytest.raises(ValueError, match="strategy must be one of ddp, fsdp, not zero"):
        memory_needed(100, "zero", 2)


def test_a_checkpoint_of_another_model_or_a_damaged_one_changes_nothing(tmp_path):
    run_processes(save_midway, 2, "fsdp", tmp_path)
    config = ModernConfig(**SIZES | {"d_model": 32})
    model = GPT(config).double()
    before = {name: row.clone() for name, row in model.named_parameters()}
    settings = {"optimizer": make_optimizer(model, CONFIG), "batches": make_run()[3]}
    with pytest.raises(ValueError, match=r"is of another run: .*token_embedding.*\(32, 16\)"):
        load_sharded(tmp_path, model=model, config=CONFIG, **settings)
    assert greatest_difference(before, dict(model.named_parameters())) == 0
    [file, *_] = tmp_path.glob("step-*/*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    model, _, optimizer, batches = make_run()
    with pytest.raises(ValueError, match="damaged, its content is not what was written"):
        load_sharded(tmp_path, model=model, optimizer=optimizer, batches=batches, config=CONFIG)


# --- the command ----------------------------------------------------------------------------------

SMALL = "--num-stories 200 --vocab-size 300 --d-model 32 --num-layers 2 --num-heads 2"
SMALL += " --context-length 64 --batch-size 8 --num-steps 40 --save-every 10 --report-every 40"


def command(*options, num_processes=2, restarts=0):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node", str(num_processes), "--max-restarts", str(restarts)]
    return [*launch, "-m", "gptbook", "train", *SMALL.split(), *options]


def log_of(folder):
    lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def launch(*options, **settings):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(*options, **settings),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(pid):
    """Find the processes that torchrun started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return sorted(found)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of two processes that nobody disturbs."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    run = launch("--parallel", "fsdp", "--out", str(out))
    said, _ = run.communicate(timeout=240)
    assert run.returncode == 0, said
    return out, said


@pytest.mark.slow
def test_the_same_command_trains_with_several_processes(unbroken, tmp_path):
    out, said = unbroken
    assert said.count("2 processes") == 1  # only the first speaks
    assert main(["train", *SMALL.split(), "--out", str(tmp_path / "one")]) == 0
    for one, two in zip(log_of(tmp_path / "one"), log_of(out), strict=True):
        assert math.isclose(one["loss"], two["loss"], rel_tol=1e-3)
    assert main(["generate", "--model", str(out), "--num-tokens", "5"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_a_worker_killed_in_mid_run_changes_nothing_of_the_result(unbroken, tmp_path):
    out = tmp_path / "killed"
    run = launch("--parallel", "fsdp", "--out", str(out), restarts=1)
    end = time.monotonic() + 200
    while not [*out.glob("checkpoints/step-00000020")]:
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(workers_of(run.pid)[-1], signal.SIGKILL)
    said, _ = run.communicate(timeout=240)
    assert run.returncode == 0, said
    assert "going on after step" in said
    assert log_of(out) == log_of(unbroken[0])
    name = "model.safetensors"
    assert (out / name).read_bytes() == (unbroken[0] / name).read_bytes()
