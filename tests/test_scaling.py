"""What a GPT costs, against PyTorch's own counters; and a law found again in runs that obey it."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptbook.model import (
    GPT,
    PUBLISHED,
    GPT1Config,
    GPT2Config,
    ModernConfig,
    count_parameters,
)
from gptbook.scaling import (
    CARDS,
    STATES,
    Card,
    ScalingLaw,
    bootstrap_laws,
    fit_law,
    forward_flops,
    training_bytes,
    training_cost,
    training_flops,
)
from gptbook.scaling_runs import read_runs
from gptbook.training import TrainingConfig, make_optimizer

SIZES = {"vocab_size": 101, "context_length": 64, "num_layers": 2}
CONFIGS = {
    "gpt1": GPT1Config(d_model=48, num_heads=6, **SIZES),
    "gpt2": GPT2Config(d_model=48, num_heads=6, d_ff=100, **SIZES),
    "modern": ModernConfig(d_model=32, num_heads=4, **SIZES),
    "grouped": ModernConfig(d_model=48, num_heads=6, num_kv_heads=2, d_ff=40, **SIZES),
    "untied": ModernConfig(d_model=32, num_heads=4, num_kv_heads=1, tied_head=False, **SIZES),
}
every_config = pytest.mark.parametrize("name", CONFIGS)
LAW = ScalingLaw(floor=0.7, a=60.0, alpha=0.45, b=90.0, beta=0.3)
RUNS = [(n, d) for n in (1e4, 3e4, 1e5, 1e6) for d in (1e5, 1e6, 1e7)]
COLUMNS = ([n for n, _ in RUNS], [d for _, d in RUNS], [LAW.loss(*run) for run in RUNS])


def counted(model, token_ids, *, there_and_back):
    """Let PyTorch count; it knows attention only as products of matrices."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(token_ids)
        if there_and_back:
            logits.sum().backward()
    return counter.get_total_flops()


@every_config
@pytest.mark.parametrize("num_tokens", [1, 50, 64])
def test_operations_are_those_that_pytorch_counts(name, num_tokens):
    config = CONFIGS[name]
    model, token_ids = GPT(config), torch.randint(101, (3, num_tokens))
    one = sum(forward_flops(config, num_tokens).values())
    if num_tokens > 1:  # of a single token, PyTorch has the vectors multiplied in another way
        assert counted(model, token_ids, there_and_back=False) == 3 * one
        assert counted(model, token_ids, there_and_back=True) == 9 * one
    assert training_flops(config, 3 * num_tokens, length=num_tokens) == 9 * one


def test_the_rule_of_thumb_leaves_out_what_grows_with_the_text():
    config = PUBLISHED["gpt3"]
    thumb = 6 * count_parameters(config) * 300e9
    assert math.isclose(thumb, 3.14e23, rel_tol=0.005)  # Brown et al. (2020), appendix D
    assert 1.02 < training_flops(config, 300_000_000_000) / thumb < 1.04


def kept_bytes(model, batch_size, num_tokens):
    """Let PyTorch say what it keeps for the way back, each piece of memory once."""
    given = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept, alive = {}, []

    def keep(tensor):
        alive.append(tensor)  # else its memory, and so its address, would be used again
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randint(101, (batch_size, num_tokens)))
    return sum(kept.values())


@every_config
@pytest.mark.parametrize("num_tokens", [50, 64])
def test_activations_are_what_pytorch_keeps_for_the_way_back(name, num_tokens):
    config = CONFIGS[name]
    model = GPT(config)
    two, five = (kept_bytes(model, number, num_tokens) for number in (2, 5))
    counted = training_bytes(config, batch_size=3, num_tokens=num_tokens)["activations"]
    assert five - two == counted
    table = two - counted // 3 * 2
    assert table == (4 * 64 * config.head_dim if isinstance(config, ModernConfig) else 0)


@every_config
@pytest.mark.parametrize("optimizer", STATES)
def test_the_rest_is_parameters_gradients_and_what_the_optimizer_remembers(name, optimizer):
    model = GPT(CONFIGS[name])
    rule = make_optimizer(model, TrainingConfig(optimizer=optimizer))
    model.loss(torch.randint(101, (2, 9)), torch.randint(101, (2, 9))).backward()
    rule.step()
    states = [
        tensor.numel()
        for state in rule.state.values()
        for tensor in state.values()
        if isinstance(tensor, torch.Tensor) and tensor.dim()
    ]
    counted = training_bytes(CONFIGS[name], batch_size=2, num_tokens=9, optimizer=optimizer)
    assert counted["parameters"] == counted["gradients"] == 4 * model.num_parameters()
    assert counted["optimizer"] == 4 * sum(states)


def test_half_the_bytes_a_number_are_half_of_all():
    options = {"batch_size": 2, "num_tokens": 9}
    whole = training_bytes(CONFIGS["gpt2"], **options)
    half = training_bytes(CONFIGS["gpt2"], bytes_per_number=2, **options)
    assert {kind: 2 * count for kind, count in half.items()} == whole


def test_what_cannot_be_counted_is_refused():
    config = CONFIGS["modern"]
    with pytest.raises(ValueError, match="a text of 65 tokens does not fit in context_length=64"):
        forward_flops(config, 65)
    with pytest.raises(ValueError, match="a text of 0 tokens"):
        training_flops(config, 100, length=0)
    with pytest.raises(ValueError, match="num_tokens=-1 cannot be read"):
        training_flops(config, -1)
    with pytest.raises(ValueError, match="batch_size=0 holds no text"):
        training_bytes(config, batch_size=0, num_tokens=9)
    with pytest.raises(ValueError, match="optimizer='sgd' is unknown; choose one of adamw"):
        training_bytes(config, batch_size=1, num_tokens=9, optimizer="sgd")


PEAK = """
import torch
from pathlib import Path
from gptbook.model import GPT, GPT2Config

def peak():  # of this program alone; what `resource` says begins with that of its parent
    line = next(row for row in Path("/proc/self/status").open() if row.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

torch.set_num_threads(1)
config = GPT2Config(vocab_size=500, context_length=256, d_model=256, num_heads=4, num_layers=6)
model, ids = GPT(config), torch.randint(500, (32, 256))
model.loss(ids[:1, :8], ids[:1, :8]).backward()  # what is loaded only once
model.zero_grad()
before = peak()
model.loss(ids, ids).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says the peak of a program")
def test_the_peak_of_a_step_is_what_the_system_sees():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    config = GPT2Config(vocab_size=500, context_length=256, d_model=256, num_heads=4, num_layers=6)
    held = training_bytes(config, batch_size=32, num_tokens=256)
    counted = held["activations"] + held["gradients"]
    assert 0.95 < int(done.stdout) / counted < 1.25  # above it are what single operations need


# --- days and money -----------------------------------------------------------------------------


@given(
    st.floats(1e12, 1e26),
    st.floats(1.0, 1e13),
    st.sampled_from(sorted(CARDS)),
    st.integers(1, 10_000),
    st.floats(0.01, 1.0),
)
def test_cards_do_in_their_time_what_a_training_takes(flops, states, name, num_cards, utilisation):
    card = CARDS[name]
    cost = training_cost(flops, states, card, num_cards=num_cards, utilisation=utilisation)
    done = cost.days * 86_400 * card.flops_per_second * utilisation * num_cards
    assert math.isclose(done, flops)
    assert math.isclose(cost.kilowatt_hours, cost.days * 24 * num_cards * card.watts / 1_000)
    assert (cost.cards_to_hold - 1) * card.memory < states <= cost.cards_to_hold * card.memory


def test_gpt3_takes_as_many_card_years_as_its_compute_says():
    """Patterson et al. (2021), table 4: 14.8 days on 10,000 V100 at 24.6 TFLOP/s each."""
    cost = training_cost(
        3.14e23, 1.0, CARDS["v100"], num_cards=10_000, utilisation=24.6e12 / 125e12
    )
    assert math.isclose(cost.days, 14.8, rel_tol=0.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flops": 0.0}, r"flops=0\.0 came; pass a positive number"),
        ({"states": -1.0}, r"states=-1\.0 came"),
        ({"num_cards": 0}, "num_cards=0 came"),
        ({"utilisation": 0.0}, r"utilisation=0\.0 came"),
        ({"utilisation": math.nan}, "utilisation=nan came"),
        ({"utilisation": 1.2}, r"utilisation=1\.2 is more than a card can do; pass at most 1"),
    ],
)
def test_a_training_that_takes_nothing_is_refused(wrong, message):
    card = Card("a card", 1e12, 1e9, 100.0)
    with pytest.raises(ValueError, match=message):
        training_cost(**{"flops": 1e15, "states": 1e9, "card": card, **wrong})


# --- the law ------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(10, 200), st.floats(10, 200), st.booleans()
)
def test_a_law_is_found_again_in_runs_that_obey_it(alpha, beta, a, b, knows_floor):
    law = ScalingLaw(floor=0.7, a=a, alpha=alpha, b=b, beta=beta)
    losses = [law.loss(*run) for run in RUNS]
    found = fit_law(*COLUMNS[:2], losses, floor=0.7 if knows_floor else None)
    for n, d in RUNS:
        assert math.isclose(found.loss(n, d), law.loss(n, d), rel_tol=1e-4)
    assert math.isclose(found.alpha, alpha, rel_tol=0.02)
    assert math.isclose(found.beta, beta, rel_tol=0.02)


def test_one_run_that_went_wrong_does_not_bend_the_law():
    losses = [*COLUMNS[2]]
    losses[5] *= 1.5
    found = fit_law(*COLUMNS[:2], losses, floor=0.7)
    assert abs(found.alpha - LAW.alpha) < 0.02
    assert abs(found.beta - LAW.beta) < 0.02


def test_an_exponent_that_drawn_runs_leave_open_stays_finite():
    """Without a bound, some draws of these ten runs end at an exponent of 80."""
    runs = [row for row in read_runs() if row.purpose == "grid" and row.d_model != 32]
    runs = [row for row in runs if row.d_model == 64 or row.d_model == 96 or row.tokens > 300_000]
    columns = [[float(row.parameters) for row in runs], [float(row.tokens) for row in runs]]
    laws = bootstrap_laws(*columns, [row.above_floor for row in runs], floor=0.0)
    assert max(max(law.alpha, law.beta) for law in laws) == 5.0


def test_laws_of_drawn_runs_agree_as_far_as_the_runs_do():
    noise = torch.Generator().manual_seed(0)
    losses = [loss * (1 + 0.01 * torch.randn(1, generator=noise).item()) for loss in COLUMNS[2]]
    laws = bootstrap_laws(*COLUMNS[:2], losses, floor=0.7, num=50, seed=1)
    alphas = sorted(law.alpha for law in laws)
    assert len(laws) == 50
    assert alphas[2] < LAW.alpha < alphas[-3]
    assert alphas[-3] - alphas[2] < 0.2
    exact = bootstrap_laws(*COLUMNS, floor=0.7, num=20)
    assert all(math.isclose(law.alpha, LAW.alpha, rel_tol=1e-3) for law in exact)
    assert laws == bootstrap_laws(*COLUMNS[:2], losses, floor=0.7, num=50, seed=1)


def test_the_best_split_of_compute_is_the_lowest_of_all_splits():
    flops = 1e18
    parameters, tokens = LAW.best(flops)
    assert math.isclose(6 * parameters * tokens, flops)
    lowest = LAW.loss(parameters, tokens)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert LAW.loss(parameters * factor, tokens / factor) > lowest


def test_runs_that_fix_no_law_are_refused():
    n, d, losses = COLUMNS
    with pytest.raises(ValueError, match="12 models, 12 numbers of tokens and 11 losses came"):
        fit_law(n, d, losses[1:])
    with pytest.raises(ValueError, match="4 runs cannot fix 5 numbers"):
        fit_law(n[:4], d[:4], losses[:4])
    with pytest.raises(ValueError, match=r"tokens of 0\.0 came; all must be positive"):
        fit_law(n, [0.0, *d[1:]], losses)
    with pytest.raises(ValueError, match=r"all must lie above 5\.0"):
        fit_law(n, d, losses, floor=5.0)
    with pytest.raises(ValueError, match=r"flops=0\.0 trains nothing"):
        LAW.best(0.0)
