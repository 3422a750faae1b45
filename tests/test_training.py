"""What chapter 9 promises about training."""

import itertools
import json
import math
import multiprocessing
import random
import re
import time
from dataclasses import asdict
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from gptbook.training import (
    IGNORED,
    OPTIMIZERS,
    Lamb,
    Lion,
    Muon,
    NonFiniteLossError,
    Step,
    TrainingConfig,
    accumulate,
    autocast,
    find_checkpoint,
    has_bfloat16,
    load_checkpoint,
    loss_of,
    make_optimizer,
    next_token_pairs,
    orthogonalize,
    parameter_groups,
    save_checkpoint,
    train,
    warmup_cosine,
)
from tests import killed_run
from tests.killed_run import CONFIG, CountingTexts, make_run
from tests.notebooks import ROOT

seeds = st.integers(min_value=0, max_value=2**32 - 1)
rates = st.floats(1e-4, 0.3)
CPU = torch.device("cpu")


class FakeModel(nn.Module):
    """Five lines that map ids to logits."""

    def __init__(self, vocab_size: int = 11, d_model: int = 6) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, token_ids):
        return self.head(self.table(token_ids))


def make_model(seed: int = 0) -> FakeModel:
    torch.manual_seed(seed)
    return FakeModel().double()


def some_batches(count: int, shape: tuple[int, int] = (3, 5), seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(11, shape, generator=generator),
            torch.randint(11, shape, generator=generator),
        )
        for _ in range(count)
    ]


def state_of(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


# --- what is learned ----------------------------------------------------------------------------


@given(tokens=st.lists(st.integers(0, 99), min_size=2, max_size=20), batch_axes=st.integers(0, 2))
def test_every_target_is_the_token_that_follows(tokens, batch_axes):
    token_ids = torch.tensor(tokens).expand(*(3,) * batch_axes, -1)
    inputs, targets = next_token_pairs(token_ids)
    assert inputs.shape == targets.shape == (*(3,) * batch_axes, len(tokens) - 1)
    torch.testing.assert_close(inputs[..., 1:], targets[..., :-1])
    row = (0,) * batch_axes
    assert [*inputs[row].tolist(), targets[row][-1].item()] == tokens


def test_one_token_has_no_next_one(without_shape_checks):
    for token_ids in (torch.tensor([7]), torch.zeros(4, 1, dtype=torch.long), torch.tensor(7)):
        with pytest.raises(ValueError, match="pass at least two tokens"):
            next_token_pairs(token_ids)


def test_the_loss_is_the_models_own_where_it_has_one():
    class Own(FakeModel):
        def loss(self, token_ids, targets):
            return torch.tensor(42.0)

    (batch,) = some_batches(1)
    assert loss_of(Own(), *batch).item() == 42
    model = make_model()
    expected = F.cross_entropy(model(batch[0]).mT, batch[1])
    torch.testing.assert_close(loss_of(model, *batch), expected)


def test_untrained_it_is_about_as_good_as_guessing():
    torch.manual_seed(0)
    model = FakeModel(vocab_size=500)
    nn.init.normal_(model.table.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    token_ids = torch.randint(500, (8, 50))
    assert abs(loss_of(model, *next_token_pairs(token_ids)).item() - math.log(500)) < 0.01


def test_ignored_targets_are_not_scored():
    model, (batch,) = make_model(), some_batches(1)
    targets = batch[1].clone()
    targets[:, 2:] = IGNORED
    expected = F.cross_entropy(model(batch[0])[:, :2].flatten(0, 1), batch[1][:, :2].flatten())
    torch.testing.assert_close(loss_of(model, batch[0], targets), expected)


# --- the schedule -------------------------------------------------------------------------------


@given(
    num_steps=st.integers(2, 300), warmup=st.integers(0, 298), peak=rates, part=st.floats(0.0, 1.0)
)
def test_the_learning_rate_rises_to_its_peak_then_falls_to_its_end(num_steps, warmup, peak, part):
    warmup = min(warmup, num_steps - 2)
    config = TrainingConfig(
        num_steps=num_steps, learning_rate=peak, warmup_steps=warmup, final_fraction=part
    )
    path = [config.learning_rate_at(step) for step in range(num_steps)]
    assert math.isclose(path[warmup], peak)
    assert math.isclose(path[-1], part * peak, abs_tol=1e-15)
    assert all(a < b for a, b in itertools.pairwise(path[:warmup]))
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(path[warmup:]))
    assert all(rate > 0 for rate in path[:-1])
    assert config.learning_rate_at(num_steps + 5) == path[-1]
    if warmup:
        assert math.isclose(path[0], peak / warmup)
        assert math.isclose(path[warmup - 1], peak)


def test_the_cosine_is_halfway_down_halfway_along():
    rates = [warmup_cosine(i, peak=3.0, num_steps=21, final=1.0) for i in range(21)]
    assert math.isclose(rates[10], 2.0)
    assert math.isclose(rates[5], 2 + math.cos(math.pi / 4))


@pytest.mark.parametrize("warmup", [0, 10])
def test_the_schedule_agrees_with_torch(warmup):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / max(1, warmup))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 39 - warmup, eta_min=0.03)
    fall.base_lrs = [0.3]
    ours, theirs = [], []
    for step in range(40):
        if step == warmup:
            optimizer.param_groups[0]["lr"] = 0.3
        theirs.append(optimizer.param_groups[0]["lr"])
        ours.append(warmup_cosine(step, peak=0.3, num_steps=40, warmup_steps=warmup, final=0.03))
        optimizer.step()
        if step < warmup:
            rise.step()
        else:
            fall.step()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# --- which parameters decay ---------------------------------------------------------------------


class Everything(nn.Module):
    """One parameter of each kind, with the head tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.positions = nn.Parameter(torch.zeros(5, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.linear = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(4)
        self.image = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.table.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_only_matrices_that_multiply_decay():
    model = Everything()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = parameter_groups(model, 0.3)
    assert {names[id(parameter)] for parameter in decayed["params"]} == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "linear.weight",
        "image.weight",
    }
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    listed = [*decayed["params"], *others["params"]]
    assert len({id(parameter) for parameter in listed}) == len(listed)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in listed} == trained


def test_an_untied_head_decays():
    model = Everything()
    model.head.weight = nn.Parameter(torch.zeros(9, 4))
    decayed, _ = parameter_groups(model, 0.3)
    assert any(parameter is model.head.weight for parameter in decayed["params"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_gradients_to_speak_of_only_decay_moves(name):
    """A gradient of zero everywhere leaves decay alone to act."""
    model = make_model()
    before = dict(zip(("table", "weight", "bias"), state_of(model), strict=True))
    config = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.table.weight, before["table"])
    assert torch.equal(model.head.bias, before["bias"])
    shrunk = model.head.weight / before["weight"]
    # Lamb's trust ratio makes the step as long as the weight: 1 - 0.1, not 1 - 0.1 * 0.5
    torch.testing.assert_close(
        shrunk, torch.full_like(shrunk, 0.9 if name == "lamb" else 0.95), rtol=1e-7, atol=1e-7
    )


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="ReLU has no parameter to train"):
        make_optimizer(nn.ReLU(), TrainingConfig())
    with pytest.raises(ValueError, match="set requires_grad"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), TrainingConfig())


# --- the optimizers against their papers --------------------------------------------------------


class Written:
    """The formulas of the papers in NumPy, for one parameter."""

    def __init__(self, weight: np.ndarray, lr: float, decay: float, betas) -> None:
        self.weight, self.lr, self.decay, self.betas = weight.copy(), lr, decay, betas
        self.m, self.v, self.t = np.zeros_like(weight), np.zeros_like(weight), 0

    def adam(self, g: np.ndarray, eps: float) -> np.ndarray:
        self.t += 1
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * g
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * g**2
        m_hat = self.m / (1 - self.betas[0] ** self.t)
        v_hat = self.v / (1 - self.betas[1] ** self.t)
        return m_hat / (np.sqrt(v_hat) + eps)

    def adamw(self, g: np.ndarray) -> None:
        self.weight = self.weight - self.lr * (self.adam(g, 1e-8) + self.decay * self.weight)

    def lamb(self, g: np.ndarray) -> None:
        update = self.adam(g, 1e-6) + self.decay * self.weight
        trust = np.linalg.norm(self.weight) / np.linalg.norm(update)
        self.weight = self.weight - self.lr * trust * update

    def lion(self, g: np.ndarray) -> None:
        c = np.sign(self.betas[0] * self.m + (1 - self.betas[0]) * g)
        self.weight = self.weight - self.lr * (c + self.decay * self.weight)
        self.m = self.betas[1] * self.m + (1 - self.betas[1]) * g

    def muon(self, g: np.ndarray) -> None:
        self.m = 0.95 * self.m + 0.05 * g
        x = 0.95 * self.m + 0.05 * g
        x = x / max(np.sqrt((x**2).sum()), 1e-7)
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
        self.weight = self.weight * (1 - self.lr * self.decay)
        self.weight = self.weight - self.lr * 0.2 * np.sqrt(max(x.shape)) * x


RULES = {
    "adamw": lambda p, **kw: torch.optim.AdamW(p, eps=1e-8, fused=True, **kw),
    "lamb": Lamb,
    "lion": Lion,
    "muon": Muon,
}


@pytest.mark.parametrize("name", RULES)
@given(
    seed=seeds, decay=st.sampled_from([0.0, 0.1]), lr=rates, shape=st.sampled_from([(4, 3), (3, 5)])
)
def test_each_optimizer_is_the_formula_of_its_paper(name, seed, decay, lr, shape):
    random_numbers = np.random.default_rng(seed)
    start = random_numbers.normal(size=shape)
    betas = (0.8, 0.9)
    written = Written(start, lr, decay, betas)
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = RULES[name]([parameter], lr=lr, weight_decay=decay, betas=betas)
    for _ in range(5):
        gradient = random_numbers.normal(size=shape)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        getattr(written, name)(gradient)
    np.testing.assert_allclose(parameter.detach().numpy(), written.weight, rtol=1e-9, atol=1e-12)


def test_muon_moves_all_but_matrices_by_adamws_rule():
    weight = np.random.default_rng(0).normal(size=7)
    written = Written(weight, 0.1, 0.01, (0.9, 0.95))
    parameter = nn.Parameter(torch.from_numpy(weight.copy()))
    group = {"params": [parameter], "matrices": False}
    optimizer = Muon([group], lr=0.1, weight_decay=0.01)
    for gradient in np.random.default_rng(1).normal(size=(4, 7)):
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        written.adamw(gradient)
    np.testing.assert_allclose(parameter.detach().numpy(), written.weight, rtol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9 has no Muon")
@pytest.mark.parametrize("shape", [(8, 5), (5, 8)])
def test_muon_agrees_with_torch_within_bfloat16(shape):
    """PyTorch's rounds each product of the iteration to 8 bits; ours keeps the gradient's dtype."""
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    ours_by = Muon([ours], lr=0.1, weight_decay=0.1)
    theirs_by = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        before = ours.detach().clone()
        ours_by.step()
        theirs_by.step()
        moved = (ours - before).norm()
        assert (ours - theirs).norm() < 0.1 * moved
        theirs.data.copy_(ours.data)


@given(seed=seeds, shape=st.tuples(st.integers(2, 8), st.integers(2, 8)))
def test_turning_a_matrix_keeps_its_directions_and_evens_their_lengths(seed, shape):
    torch.manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), dtype=torch.float64))
    lengths = torch.linspace(0.2, 3.0, min(shape), dtype=torch.float64)
    turned = orthogonalize(left @ torch.diag(lengths) @ right.mT)
    middle = left.mT @ turned @ right
    off_diagonal = middle - torch.diag(middle.diagonal())
    assert off_diagonal.abs().max() < 1e-9
    assert (middle.diagonal() > 0.5).all()
    assert (middle.diagonal() < 1.3).all()


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"shape \(3,\) came; put it into a group with matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_lamb_steps_in_proportion_to_the_layer_and_lion_by_the_same_everywhere():
    torch.manual_seed(0)
    small, large = (nn.Parameter(scale * torch.randn(4, 4)) for scale in (0.01, 100.0))
    lengths = (small.detach().norm().item(), large.detach().norm().item())
    for rule, lengths_of_step in ((Lamb, lengths), (Lion, (4.0, 4.0))):
        for parameter, size in zip((small, large), lengths_of_step, strict=True):
            before = parameter.detach().clone()
            parameter.grad = torch.randn(4, 4)
            rule([parameter], lr=0.1).step()
            moved = (parameter.detach() - before).norm()
            assert math.isclose(moved.item(), 0.1 * size, rel_tol=1e-3)


def test_lamb_starts_from_zeros():
    """With a length of zero there is no ratio; the step is Adam's then."""
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    Lamb([parameter], lr=0.1).step()
    torch.testing.assert_close(parameter, nn.Parameter(torch.full((3,), -0.1)))


@pytest.mark.parametrize("rule", [Lamb, Lion, Muon])
def test_an_optimizer_takes_a_closure_as_torchs_do(rule):
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = rule([parameter], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert parameter.square().sum() < 4


# --- the loop -----------------------------------------------------------------------------------


def test_the_loop_is_torchs_adamw_loop():
    config = TrainingConfig(
        num_steps=12, learning_rate=0.03, warmup_steps=3, weight_decay=0.2, max_gradient_norm=0.4
    )
    batches = some_batches(12)
    ours, theirs = make_model(), make_model()
    steps = list(train(ours, batches, config))

    optimizer = torch.optim.AdamW(
        [
            {"params": [theirs.head.weight], "weight_decay": 0.2},
            {"params": [theirs.table.weight, theirs.head.bias], "weight_decay": 0.0},
        ],
        lr=0.03,
        betas=(0.9, 0.95),
    )
    for index, (token_ids, targets) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(index)
        loss = F.cross_entropy(theirs(token_ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.4)
        optimizer.step()
        assert math.isclose(steps[index].loss, loss.item(), rel_tol=1e-12)
        assert math.isclose(steps[index].gradient_norm, norm.item(), rel_tol=1e-12)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-13)


def test_each_step_says_what_it_was():
    config = TrainingConfig(num_steps=4, learning_rate=0.02, micro_batches=2)
    steps = list(train(make_model(), some_batches(8), config))
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert [step.learning_rate for step in steps] == [config.learning_rate_at(i) for i in range(4)]
    assert all(step.tokens == 30 and step.seconds > 0 for step in steps)
    assert isinstance(steps[0], Step)


@given(
    counts=st.lists(st.integers(0, 15), min_size=2, max_size=5).filter(any),
    seed=seeds,
)
def test_accumulated_gradients_are_those_of_the_big_batch(counts, seed):
    """Also where the small batches have different numbers of targets, or none."""
    batches = []
    for (token_ids, targets), count in zip(
        some_batches(len(counts), seed=seed), counts, strict=True
    ):
        kept = targets.flatten().clone()
        kept[count:] = IGNORED
        batches.append((token_ids, kept.view_as(targets)))
    big = tuple(torch.cat(part) for part in zip(*batches, strict=True))
    ours, theirs = make_model(), make_model()
    loss, tokens = accumulate(ours, batches)
    expected = loss_of(theirs, *big)
    expected.backward()
    assert tokens == sum(counts)
    assert math.isclose(loss, expected.item(), rel_tol=1e-12)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-12, atol=1e-14)


def test_accumulation_trains_as_the_big_batch_does():
    batches = some_batches(20)
    big = [
        tuple(torch.cat(part) for part in zip(*batches[i : i + 4], strict=True))
        for i in range(0, 20, 4)
    ]
    ours, theirs = make_model(), make_model()
    list(train(ours, batches, TrainingConfig(num_steps=5, micro_batches=4)))
    list(train(theirs, big, TrainingConfig(num_steps=5)))
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("limit", "expected"), [(0.01, 0.01), (1e6, None), (None, None)])
def test_a_long_gradient_is_shortened_and_a_short_one_left(limit, expected):
    model = make_model()
    config = TrainingConfig(num_steps=1, max_gradient_norm=limit)
    (step,) = train(model, some_batches(1), config)
    squares = [parameter.grad.square().sum().item() for parameter in model.parameters()]
    assert math.isclose(math.sqrt(sum(squares)), expected or step.gradient_norm, rel_tol=1e-4)
    assert step.gradient_norm > 0.01


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns_one_batch_by_heart(name):
    torch.manual_seed(0)
    model = FakeModel(vocab_size=20, d_model=24)
    batch = next_token_pairs(torch.randperm(20)[None])
    rate = {"lion": 0.01, "lamb": 0.1}.get(name, 0.03)
    config = TrainingConfig(
        num_steps=150, optimizer=name, learning_rate=rate, weight_decay=0.0, warmup_steps=10
    )
    steps = list(train(model, itertools.repeat(batch), config))
    assert steps[0].loss > 2.5
    assert steps[-1].loss < 0.02
    assert (model(batch[0]).argmax(-1) == batch[1]).all()


def test_only_the_batches_of_the_steps_taken_are_drawn():
    batches = CountingTexts()
    model, optimizer, _ = make_run()
    steps = train(model, batches, CONFIG, optimizer=optimizer)
    assert batches.number == 0
    for taken in (1, 2, 3):
        next(steps)
        assert batches.number == taken * CONFIG.micro_batches


def test_the_caller_may_put_the_model_into_any_mode_between_steps():
    model, optimizer, batches = make_run()
    for step in train(model, batches, CONFIG, optimizer=optimizer):
        assert model.training
        model.eval()
        if step.number == 3:
            break


def test_stale_gradients_do_not_leak_into_the_first_step():
    clean, stale = make_model(), make_model()
    for parameter in stale.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    for model in (clean, stale):
        list(train(model, some_batches(2), TrainingConfig(num_steps=2)))
    for mine, reference in zip(stale.parameters(), clean.parameters(), strict=True):
        assert torch.equal(mine, reference)


def test_a_run_of_the_same_seed_is_the_same_run():
    losses = []
    for _ in range(2):
        model, optimizer, batches = make_run()
        losses.append([step.loss for step in train(model, batches, CONFIG, optimizer=optimizer)])
    assert losses[0] == losses[1]


def test_batches_that_end_too_early_say_so():
    steps = train(make_model(), some_batches(5), TrainingConfig(num_steps=4, micro_batches=2))
    with pytest.raises(ValueError, match="ended in step 3 of num_steps=4; give batches that go on"):
        list(steps)


def test_a_step_without_a_target_is_refused():
    token_ids = torch.zeros(2, 3, dtype=torch.long)
    nothing = (token_ids, torch.full_like(token_ids, IGNORED))
    with pytest.raises(ValueError, match="no position of 1 batches has a target"):
        list(train(make_model(), [nothing], TrainingConfig(num_steps=1)))


def test_a_run_cannot_begin_after_its_end():
    with pytest.raises(ValueError, match="first_step=9 lies beyond num_steps=8; raise num_steps"):
        train(make_model(), [], TrainingConfig(num_steps=8), first_step=9)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, not 0"),
        ({"micro_batches": 1.5}, TypeError, "micro_batches must be a whole number, not 1.5"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and greater than 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate must be finite"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, not 'fast'"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be finite and at least 0"),
        ({"final_fraction": 2.0}, ValueError, "a part from 0 to 1, not 2"),
        ({"max_gradient_norm": 0}, ValueError, "max_gradient_norm must be finite and greater"),
        ({"precision": "float16"}, ValueError, "one of float32, bfloat16, auto, not 'float16'"),
        ({"optimizer": "adam"}, ValueError, "one of adamw, lamb, lion, muon, not 'adam'"),
        ({"betas": (0.9, 1.0)}, ValueError, "betas must be two numbers from 0 to below 1"),
        ({"betas": 0.9}, ValueError, "betas must be two numbers"),
        ({"num_steps": 50, "warmup_steps": 50}, ValueError, "warm up for a tenth of them"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps must be at least 0"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(changes, error, message, without_shape_checks):
    with pytest.raises(error, match=re.escape(message)):
        TrainingConfig(**changes)


def test_a_recipe_survives_json(without_shape_checks):
    config = TrainingConfig(num_steps=7, betas=(0.8, 0.9), max_gradient_norm=None)
    assert TrainingConfig(**json.loads(json.dumps(asdict(config)))) == config


# --- mixed precision ----------------------------------------------------------------------------


def test_mixed_precision_multiplies_in_bfloat16_and_keeps_float32_parameters():
    seen = set()

    class Watching(FakeModel):
        def forward(self, token_ids):
            logits = super().forward(token_ids)
            seen.add(logits.dtype)
            return logits

    torch.manual_seed(0)
    model = Watching()
    config = TrainingConfig(num_steps=30, precision="bfloat16", learning_rate=0.03)
    (batch,) = some_batches(1)
    steps = list(train(model, [batch] * 30, config))
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}

    torch.manual_seed(0)
    exact = list(train(FakeModel(), [batch] * 30, TrainingConfig(num_steps=30, learning_rate=0.03)))
    assert steps[0].loss != exact[0].loss
    assert abs(steps[0].loss - exact[0].loss) < 0.01
    assert abs(steps[-1].loss - exact[-1].loss) < 0.05


def test_auto_takes_bfloat16_where_the_machine_has_it(monkeypatch):
    product = torch.ones(2, 2)
    for found, dtype in (({"amx_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert has_bfloat16(CPU) is bool(found)
        with autocast("auto", CPU):
            assert (product @ product).dtype == dtype
    with autocast("float32", CPU):
        assert (product @ product).dtype == torch.float32


# --- when the loss is not finite ----------------------------------------------------------------


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


class Root(nn.Module):
    """Finite at zero, but with an infinite slope there."""

    def forward(self, x):
        return (0 * x).sqrt() + x


def broken_model(middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), middle, nn.Linear(6, 11))


def test_a_loss_that_is_not_finite_says_where_it_began():
    model = broken_model(Logarithm())
    before = state_of(model)
    with pytest.raises(NonFiniteLossError) as caught:
        list(train(model, some_batches(3), TrainingConfig(num_steps=3, learning_rate=0.5)))
    message = str(caught.value)
    assert "loss nan in step 1, at learning rate 0.5" in message
    assert "none, it is the first step" in message
    assert "begins in the output of 2 (Logarithm)" in message
    assert "lower learning_rate" in message
    for parameter, unchanged in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, unchanged)


def test_a_gradient_that_is_not_finite_says_where_it_began_going_backward():
    model = broken_model(Root())
    before = state_of(model)
    with pytest.raises(
        NonFiniteLossError, match=r"gradient norm nan .*gradient of 1\.(weight|bias)"
    ):
        list(train(model, some_batches(3), TrainingConfig(num_steps=3)))
    for parameter, unchanged in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, unchanged)


def test_the_last_finite_losses_are_told():
    model = make_model()
    steps = train(model, some_batches(9), TrainingConfig(num_steps=9))
    losses = [step.loss for step in itertools.islice(steps, 7)]
    model.head.bias.data[3] = math.inf
    with pytest.raises(NonFiniteLossError) as caught:
        next(steps)
    assert "in step 8" in str(caught.value)
    assert ", ".join(f"{loss:.4g}" for loss in losses[-5:]) in str(caught.value)
    assert "the parameter head.bias is not finite itself" in str(caught.value)


def test_a_loss_that_only_the_loss_makes_infinite_is_told_apart():
    class Overflow(FakeModel):
        def loss(self, token_ids, targets):
            return self(token_ids).sum().exp() * math.inf

    with pytest.raises(NonFiniteLossError, match="begins in the loss, for the outputs of all"):
        list(train(Overflow(), some_batches(1), TrainingConfig(num_steps=1)))


def test_after_the_message_no_hook_is_left_behind():
    model = broken_model(Logarithm())
    with pytest.raises(NonFiniteLossError):
        list(train(model, some_batches(1), TrainingConfig(num_steps=1)))
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


# --- checkpoints --------------------------------------------------------------------------------


def save(folder: Path, taken: int = 5, name: str = "adamw", **options):
    """Take some steps of a run and write a checkpoint."""
    config = TrainingConfig(num_steps=20, optimizer=name, learning_rate=1e-3)
    model, optimizer, batches = make_run(config)
    list(itertools.islice(train(model, batches, config, optimizer=optimizer), taken))
    path = save_checkpoint(
        folder,
        step=taken,
        model=model,
        optimizer=optimizer,
        batches=batches,
        config=config,
        **options,
    )
    return path, config


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_is_the_unbroken_run_to_the_last_bit(name, tmp_path):
    _, config = save(tmp_path, taken=5, name=name)
    model, optimizer, batches = make_run(config)
    unbroken = list(train(model, batches, config, optimizer=optimizer))

    again, optimizer, batches = make_run(config)
    torch.manual_seed(12345)
    random.seed(12345)
    first = load_checkpoint(
        tmp_path, model=again, optimizer=optimizer, batches=batches, config=config
    )
    assert first == 5
    resumed = list(train(again, batches, config, optimizer=optimizer, first_step=first))
    assert [step.loss for step in resumed] == [step.loss for step in unbroken[5:]]
    assert [step.number for step in resumed] == [step.number for step in unbroken[5:]]
    for mine, reference in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, reference)


def test_pythons_and_pytorchs_random_numbers_go_on(tmp_path, without_shape_checks):
    """The checks are off because beartype draws from Python's generator to do its work."""
    random.seed(3)
    torch.manual_seed(3)
    save(tmp_path)
    expected = [random.random() for _ in range(3)], torch.rand(3)
    model, optimizer, batches = make_run()
    load_checkpoint(
        tmp_path,
        model=model,
        optimizer=optimizer,
        batches=batches,
        config=TrainingConfig(num_steps=20),
    )
    assert [random.random() for _ in range(3)] == expected[0]
    assert torch.equal(torch.rand(3), expected[1])


def run_in_process(context, target, *arguments):
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


@pytest.fixture(scope="module")
def processes():
    """Processes that start at once, because PyTorch is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed_run"])
    forkserver._forkserver._stop()  # there is one, which others may have started with their modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # some Pythons hand sys.path to the server too late
        yield context


@pytest.fixture(scope="module")
def unbroken(processes, tmp_path_factory) -> Path:
    """A run that nobody disturbed; the second one, since the first one warms the machine up."""
    for _ in range(2):
        folder, start = tmp_path_factory.mktemp("unbroken"), time.perf_counter()
        process = run_in_process(processes, killed_run.run, str(folder))
        process.join()
        assert process.exitcode == 0
    (folder / "seconds.txt").write_text(str(time.perf_counter() - start))
    return folder


def assert_same_run(folder: Path, unbroken: Path) -> None:
    for name in ("final.safetensors", "log.jsonl"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_where_the_unbroken_run_ends(
    processes, unbroken, tmp_path
):
    seconds = float((unbroken / "seconds.txt").read_text())
    moments, kills, resumed = random.Random(0), 0, 0
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(2):
            process = run_in_process(processes, killed_run.run, str(folder))
            process.join(moments.uniform(0.1, 0.8) * seconds)
            kills += process.exitcode is None
            process.kill()
            process.join()
        process = run_in_process(processes, killed_run.run, str(folder))
        process.join()
        assert process.exitcode == 0
        assert_same_run(folder, unbroken)
        # A kill during the last save leaves a part; no later save was there to remove it.
        assert len(list(folder.glob(".partial-*"))) <= 1
        resumed += (folder / "resumed.txt").exists()
    assert kills >= 4
    assert resumed >= 2


@pytest.mark.slow
def test_a_run_killed_at_any_operation_on_its_files_ends_where_the_unbroken_run_ends(
    processes, unbroken, tmp_path
):
    """The first checkpoint takes 10 operations; with the third, the first one is removed."""
    for operation in (*range(1, 12), *range(22, 36)):
        folder = tmp_path / str(operation)
        folder.mkdir()
        exit_codes = []
        for dies_at in (operation, 10**9):
            process = run_in_process(processes, killed_run.run_and_die, str(folder), dies_at)
            process.join()
            exit_codes.append(process.exitcode)
        assert exit_codes == [-9, 0]
        assert_same_run(folder, unbroken)


def test_only_the_last_checkpoints_are_kept(tmp_path):
    model, optimizer, batches = make_run()
    (tmp_path / ".partial-left-by-a-kill").mkdir()
    for step in range(1, 6):
        save_checkpoint(
            tmp_path, step=step, model=model, optimizer=optimizer, batches=batches, keep=3
        )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000003", "step-00000004", "step-00000005"]
    assert find_checkpoint(tmp_path).name == "step-00000005"
    assert find_checkpoint(tmp_path / names[0]) == tmp_path / names[0]


def test_the_one_before_stands_until_the_new_one_does(tmp_path, monkeypatch):
    first, _ = save(tmp_path, taken=2)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("gptbook.training.write_durably", fail)
    with pytest.raises(OSError, match="disk is full"):
        save(tmp_path, taken=4, keep=1)
    assert find_checkpoint(tmp_path) == first


def test_a_step_is_saved_once(tmp_path):
    save(tmp_path)
    with pytest.raises(FileExistsError, match="step-00000005 exists already; resume from it"):
        save(tmp_path)


def test_tied_tensors_are_saved_once(tmp_path):
    model = Everything()
    optimizer = make_optimizer(model, TrainingConfig())
    path = save_checkpoint(tmp_path, step=0, model=model, optimizer=optimizer)
    saved = load_file(path / "model.safetensors")
    assert "table.weight" in saved
    assert "head.weight" not in saved
    with torch.no_grad():
        model.table.weight.add_(1)
    load_checkpoint(tmp_path, model=model, optimizer=optimizer)
    assert torch.equal(model.head.weight, saved["table.weight"])
    assert model.head.weight is model.table.weight


def test_buffers_are_saved_unless_they_say_no(tmp_path):
    model = nn.Linear(2, 2)
    model.register_buffer("seen", torch.tensor([3.0]))
    model.register_buffer("table", torch.tensor([4.0]), persistent=False)
    path = save_checkpoint(
        tmp_path, step=0, model=model, optimizer=make_optimizer(model, TrainingConfig())
    )
    assert set(load_file(path / "model.safetensors")) == {"weight", "bias", "seen"}


def test_a_checkpoint_of_another_run_is_refused_with_a_list_and_nothing_is_changed(tmp_path):
    path, _ = save(tmp_path)
    other = nn.Sequential(nn.Embedding(20, 8), nn.Dropout(0.2), nn.Linear(8, 20))
    other_config = TrainingConfig(num_steps=21, optimizer="lion", learning_rate=1e-3)
    optimizer = make_optimizer(other, other_config)
    before, batches, generator = state_of(other), CountingTexts(), torch.get_rng_state()
    with pytest.raises(ValueError, match="is of another run") as caught:
        load_checkpoint(
            tmp_path, model=other, optimizer=optimizer, batches=batches, config=other_config
        )
    message = str(caught.value)
    assert message.startswith(f"{path} is of another run")
    for difference in (
        "config num_steps was 20 there and is 21 here",
        "config optimizer was 'adamw' there and is 'lion' here",
        "model 4.weight is only there",
        "model 0.weight was 'torch.float32 of shape (20, 16)' there",
        "optimizer class was 'AdamW' there and is 'Lion' here",
    ):
        assert difference in message
    for parameter, unchanged in zip(other.parameters(), before, strict=True):
        assert torch.equal(parameter, unchanged)
    assert batches.number == 0
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("given_batches", [True, False])
def test_batches_come_back_only_if_they_were_saved(tmp_path, given_batches):
    model, optimizer, batches = make_run()
    saved, loaded = (batches, None) if given_batches else (None, batches)
    save_checkpoint(tmp_path, step=1, model=model, optimizer=optimizer, batches=saved)
    with pytest.raises(ValueError, match="state of batches was"):
        load_checkpoint(tmp_path, model=model, optimizer=optimizer, batches=loaded)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "empty", "flipped"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name, damage):
    path, config = save(tmp_path)
    content = bytearray((path / name).read_bytes())
    if damage == "missing":
        (path / name).unlink()
    else:
        content[len(content) // 2] ^= 64 if name != "state.json" else 0xFF
        cut = {"truncated": len(content) - 9, "empty": 0, "flipped": len(content)}[damage]
        (path / name).write_bytes(content[:cut])
    model, optimizer, batches = make_run()
    expected = FileNotFoundError if (name, damage) == ("state.json", "missing") else ValueError
    message = "no checkpoint in" if expected is FileNotFoundError else f"{name} is "
    with pytest.raises(expected, match=re.escape(message)):
        load_checkpoint(tmp_path, model=model, optimizer=optimizer, batches=batches, config=config)


def test_tensors_of_another_checkpoint_are_noticed(tmp_path):
    path, config = save(tmp_path)
    tensors = load_file(path / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path / "model.safetensors")
    model, optimizer, batches = make_run()
    with pytest.raises(ValueError, match="content is not what was written; remove this"):
        load_checkpoint(path, model=model, optimizer=optimizer, batches=batches, config=config)


def test_json_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"format": "something else"}')
    model, optimizer, _ = make_run()
    with pytest.raises(ValueError, match=r"state\.json is damaged \(it is no gptbook checkpoint"):
        load_checkpoint(tmp_path, model=model, optimizer=optimizer)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        find_checkpoint(tmp_path)


def test_nothing_in_a_checkpoint_is_pickled(tmp_path):
    path, _ = save(tmp_path)
    assert sorted(file.name for file in path.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
