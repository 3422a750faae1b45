"""What the chapters promise about how good a model is said to be."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gptbook.evaluation import (
    IGNORED,
    Interval,
    Nats,
    bits_per_byte,
    bootstrap_interval,
    cross_entropy_of,
    mean_loss,
    nats_by_kind,
    normal_interval,
    perplexity,
    token_losses,
)

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7))


class Bigram(nn.Module):
    """A table of scores, with a dropout that an examined model must not use."""

    def __init__(self, vocab_size: int = 5) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
        self.dropout = nn.Dropout(0.5)

    def forward(self, token_ids):
        return self.dropout(self.table(token_ids))


def drawn(sizes, seed=0, share_ignored=0.3):
    """Random logits and targets, some of them to be ignored."""
    generator = torch.Generator().manual_seed(seed)
    batch, length, vocab_size = sizes
    logits = torch.randn(batch, length, vocab_size, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocab_size, (batch, length), generator=generator)
    ignored = torch.rand(batch, length, generator=generator) < share_ignored
    return logits, targets.masked_fill(ignored, IGNORED)


@given(SIZES, st.integers(0, 100))
def test_the_price_of_a_token_is_minus_the_log_of_its_probability(sizes, seed):
    logits, targets = drawn(sizes, seed)
    losses = cross_entropy_of(logits, targets)
    probabilities = logits.softmax(dim=-1)
    for place in (targets != IGNORED).nonzero().tolist():
        row, column = place
        expected = -math.log(probabilities[row, column, targets[row, column]].item())
        assert losses[row, column].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert (losses[targets == IGNORED] == 0).all()


@given(SIZES, st.integers(0, 100))
def test_the_mean_is_that_of_pytorch(sizes, seed):
    logits, targets = drawn(sizes, seed)
    if (targets == IGNORED).all():
        return
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    got = mean_loss(lambda token_ids: logits, [(torch.zeros_like(targets), targets)])
    assert got == pytest.approx(expected.item(), rel=1e-12)


def test_logits_in_half_precision_are_added_up_in_single():
    logits, targets = drawn((2, 4, 300), share_ignored=0.0)
    half = logits.to(torch.bfloat16)
    losses = cross_entropy_of(half, targets)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, cross_entropy_of(half.float(), targets))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_every_token_counts_the_same_however_the_batches_are_cut(sizes, seed):
    torch.manual_seed(seed)
    model = Bigram().double()
    pairs = [drawn((size, 4, 5), seed + n)[1] for n, size in enumerate(sizes)]
    batches = [(targets.clamp(min=0), targets) for targets in pairs]
    together = (torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches]))
    if (together[1] == IGNORED).all():
        return
    assert mean_loss(model, batches) == pytest.approx(mean_loss(model, [together]), rel=1e-12)


def test_a_model_is_asked_without_dropout_and_left_as_it_was():
    model = Bigram()
    model.table.eval()
    token_ids = torch.tensor([[1, 2, 3]])
    first = token_losses(model, token_ids, token_ids)
    assert torch.equal(first, token_losses(model, token_ids, token_ids))
    assert not first.requires_grad
    assert (model.training, model.dropout.training, model.table.training) == (True, True, False)

    class Broken(Bigram):
        def forward(self, token_ids):
            raise RuntimeError("broken")

    broken = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        token_losses(broken, token_ids, token_ids)
    assert broken.dropout.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("vocab_size", [2, 50, 1000])
def test_a_model_that_knows_nothing_guesses_among_the_whole_vocabulary(vocab_size):
    def knows_nothing(token_ids):
        return torch.zeros(*token_ids.shape, vocab_size)

    token_ids = torch.tensor([[0, 1, 1]])
    loss = mean_loss(knows_nothing, [(token_ids, token_ids)])
    assert perplexity(loss) == pytest.approx(vocab_size, rel=1e-6)


def test_one_byte_of_noise_costs_eight_bits_whatever_the_tokens_are():
    for bytes_per_token in (1, 2):
        num_tokens = 12 // bytes_per_token
        nats = num_tokens * math.log(256**bytes_per_token)
        assert bits_per_byte(nats, num_bytes=12) == pytest.approx(8)


@given(st.lists(st.tuples(st.floats(0, 9), st.sampled_from("abc"))))
def test_kinds_add_up_to_the_whole(pairs):
    losses, kinds = [loss for loss, _ in pairs], [kind for _, kind in pairs]
    found = nats_by_kind(losses, kinds)
    assert list(found) == list(dict.fromkeys(kinds))
    assert sum(nats.count for nats in found.values()) == len(pairs)
    assert sum(nats.total for nats in found.values()) == pytest.approx(sum(losses))
    for kind, nats in found.items():
        mine = [loss for loss, other in pairs if other == kind]
        assert nats.mean == pytest.approx(sum(mine) / len(mine))


def test_kinds_may_come_with_a_tensor_of_losses():
    assert nats_by_kind(torch.tensor([1.0, 2.0]), ["a", "a"]) == {"a": Nats(2, 3.0)}


@pytest.mark.parametrize("make", [normal_interval, bootstrap_interval])
def test_an_interval_holds_the_true_mean_about_as_often_as_it_says(make):
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(200, 60, generator=generator).square()  # the true mean is 1/3
    options = {} if make is normal_interval else {"num_resamples": 200}
    hits = sum(1 / 3 in make(sample, 0.9, **options) for sample in samples)
    assert 0.84 < hits / 200 < 0.95


def test_both_intervals_agree_on_a_large_sample():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    normal, bootstrap = normal_interval(values), bootstrap_interval(values)
    assert normal.mean == pytest.approx(bootstrap.mean) == pytest.approx(values.mean().item())
    assert normal.low == pytest.approx(bootstrap.low, abs=0.005)
    assert normal.high == pytest.approx(bootstrap.high, abs=0.005)
    assert bootstrap_interval(values) == bootstrap
    assert bootstrap_interval(values, seed=1) != bootstrap


def test_the_normal_interval_is_the_one_of_the_textbook():
    interval = normal_interval([1.0, 2.0, 3.0, 4.0])
    spread = 1.959964 * math.sqrt(5 / 3) / 2  # the variance is divided by n - 1
    assert interval.low == pytest.approx(2.5 - spread, abs=1e-5)
    assert interval.high == pytest.approx(2.5 + spread, abs=1e-5)


def test_an_interval_holds_its_ends_and_nothing_beyond():
    interval = Interval(2.0, 1.0, 3.0)
    assert [value in interval for value in (0.9, 1.0, 3.0, 3.1)] == [False, True, True, False]


@pytest.mark.parametrize("make", [normal_interval, bootstrap_interval])
def test_a_sample_that_says_nothing_is_refused(make):
    with pytest.raises(ValueError, match="1 values say nothing on their spread; give at least 2"):
        make([1.0])
    with pytest.raises(ValueError, match=r"level=95.0 is no share between 0 and 1; 0\.95"):
        make([1.0, 2.0], 95.0)


def test_what_cannot_be_scored_is_refused_with_what_to_do(without_shape_checks):
    logits, targets = drawn((2, 3, 4))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) need targets of shape \(2, 3\), not \(3,\)"):
        cross_entropy_of(logits, targets[0])
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=f"target {wrong} is not in a vocabulary of 4; use"):
            cross_entropy_of(logits, torch.full((2, 3), wrong))
    nothing = torch.full((2, 3), IGNORED)
    for batches in ([], [(nothing.abs(), nothing)]):
        with pytest.raises(ValueError, match="no target to score"):
            mean_loss(lambda token_ids: logits, batches)
    with pytest.raises(ValueError, match="2 losses came with 1 kinds; give one kind for each"):
        nats_by_kind([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="num_bytes=0 must be at least 1"):
        bits_per_byte(1.0, num_bytes=0)
    with pytest.raises(ValueError, match="num_resamples=0 must be at least 1; 1000 is usual"):
        bootstrap_interval([1.0, 2.0], num_resamples=0)
