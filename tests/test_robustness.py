"""What chapter 19 promises: attacks that keep to their radius, honest measures of confidence."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.robust import FGSM, PGD
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve
from torch import nn
from torchmetrics.classification import MulticlassCalibrationError

from gptbook.finetuning import PADDING, Classifier
from gptbook.generation import temperature
from gptbook.model import GPT, GPT2Config, GPTConfig, ModernConfig
from gptbook.robustness import (
    NORMS,
    Bin,
    Hardened,
    attack_text,
    calibration_error,
    exposure,
    fgm,
    fit_temperature,
    misspellings,
    pgd,
    project,
    reliability,
    risk_coverage,
    scores_from,
    vectors_at,
)
from gptbook.training import TrainingConfig, train

SIZES = {"vocab_size": 40, "context_length": 16, "d_model": 16, "num_heads": 4, "num_layers": 2}
CONFIGS: list[GPTConfig] = [GPT2Config(**SIZES), ModernConfig(**SIZES, num_kv_heads=2)]
RADII, SEEDS = st.floats(1e-3, 10), st.integers(0, 1_000)


def a_model(config: GPTConfig = CONFIGS[1], seed: int = 0) -> GPT:
    """Make a model whose numbers are large enough for its parts to matter."""
    torch.manual_seed(seed)
    model = GPT(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def some_texts(num: int = 4, length: int = 9, seed: int = 0) -> torch.Tensor:
    """Draw texts for such a model, all but the first shorter than the longest."""
    ids = torch.randint(40, (num, length), generator=torch.Generator().manual_seed(seed))
    for row in range(1, num):
        ids[row, length - row :] = PADDING
    return ids


def a_network(seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Make a small smooth network, vectors for it and labels."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return network, torch.randn(5, 3, 4).double(), torch.arange(5) % 3


def loss_of(network, labels):
    return lambda x: F.cross_entropy(network(x), labels, reduction="none")


def drawn_answers(num: int, seed: int, num_levels: int = 7):
    """Draw confidences, many of them equal, and whether the answers are right."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(num_levels, generator=generator)
    confidences = levels[torch.randint(num_levels, (num,), generator=generator)]
    return confidences, torch.rand(num, generator=generator) < confidences


# --- attacks on vectors -------------------------------------------------------------------------


@given(RADII, st.sampled_from(NORMS), st.integers(1, 6), st.floats(0.01, 20), SEEDS)
def test_no_attack_leaves_its_radius(radius, norm, num_steps, step, seed):
    network, x, labels = a_network(seed)
    order = 2 if norm == "L2" else math.inf
    for moved in (
        fgm(loss_of(network, labels), x, radius, norm),
        pgd(loss_of(network, labels), x, radius, norm, num_steps=num_steps, step=step),
    ):
        lengths = torch.linalg.vector_norm((moved - x).flatten(1), order, dim=1)
        assert (lengths <= radius * (1 + 1e-9)).all()
        assert lengths.max() > 0
        assert not moved.requires_grad


@given(RADII, st.sampled_from(NORMS), SEEDS)
def test_one_step_from_the_center_is_the_fast_gradient_method(radius, norm, seed):
    network, x, labels = a_network(seed)
    loss = loss_of(network, labels)
    one_step = pgd(loss, x, radius, norm, num_steps=1)
    torch.testing.assert_close(fgm(loss, x, radius, norm), one_step)


@given(RADII, st.sampled_from(NORMS), SEEDS)
def test_on_a_plane_nothing_beats_the_fast_gradient_method(radius, norm, seed):
    """Where loss is linear, the dual norm of the slope says how much can be gained at most."""
    torch.manual_seed(seed)
    slope, x = torch.randn(3, 2, 4).double(), torch.randn(3, 2, 4).double()

    def loss(moved):
        return (slope * moved).sum(dim=(1, 2))

    gained = loss(fgm(loss, x, radius, norm)) - loss(x)
    dual = slope.flatten(1).norm(dim=1) if norm == "L2" else slope.abs().sum(dim=(1, 2))
    torch.testing.assert_close(gained, radius * dual)
    assert (loss(pgd(loss, x, radius, norm, num_steps=4)) - loss(x) <= radius * dual + 1e-9).all()


@given(RADII, st.sampled_from(NORMS), SEEDS)
def test_projecting_gives_the_nearest_point_and_does_it_once(radius, norm, seed):
    torch.manual_seed(seed)
    x, center = 3 * torch.randn(4, 2, 3).double(), torch.randn(4, 2, 3).double()
    near = project(x, center, radius, norm)
    torch.testing.assert_close(project(near, center, radius, norm), near)
    others = project(center + torch.randn(50, 4, 2, 3).double() * radius, center, radius, "Linf")
    if norm == "L2":
        others = torch.stack([project(row, center, radius) for row in others])
    distances = (others - x).flatten(2).norm(dim=2)
    assert ((near - x).flatten(1).norm(dim=1) <= distances + 1e-9).all()
    inside = center + (x - center) * (radius / (x - center).flatten(1).norm(dim=1).max()) * 0.99
    torch.testing.assert_close(project(inside, center, radius, norm), inside)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_our_attacks_are_those_of_captum():
    """Signs, one step and several, from the same place, in double precision."""
    network, x, labels = a_network()
    loss = loss_of(network, labels)
    theirs = FGSM(network, nn.CrossEntropyLoss(reduction="none"))
    torch.testing.assert_close(
        fgm(loss, x, 0.1, "Linf"), theirs.perturb(x.clone(), 0.1, labels).detach()
    )
    climbing = PGD(network, nn.CrossEntropyLoss(reduction="none"))
    expected = climbing.perturb(x.clone(), 0.3, 0.1, 7, labels, norm="Linf").detach()
    torch.testing.assert_close(pgd(loss, x, 0.3, "Linf", num_steps=7, step=0.1), expected)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_our_ball_is_that_of_captum():
    """Captum climbs by signs in either norm, and brings back what is too long as we do."""
    network, x, labels = a_network()
    theirs = PGD(network, nn.CrossEntropyLoss(reduction="none"))
    expected = theirs.perturb(x.clone(), 0.4, 0.2, 5, labels, norm="L2").detach()
    moved = x
    for _ in range(5):
        moved = moved.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(network, labels)(moved).sum(), moved)
        moved = project(moved.detach() + 0.2 * slope.sign(), x, 0.4, "L2")
    torch.testing.assert_close(moved, expected)


def test_several_steps_find_more_than_one():
    """On a curved loss, at the same radius, on average."""
    one, several = [], []
    for seed in range(10):
        network, x, labels = a_network(seed)
        loss = loss_of(network, labels)
        one.append(loss(fgm(loss, x, 2.0)).mean().item())
        several.append(loss(pgd(loss, x, 2.0, num_steps=8)).mean().item())
    assert sum(several) > sum(one)


def test_what_has_no_slope_stays():
    x = torch.randn(2, 3).double()
    for norm in NORMS:
        assert torch.equal(fgm(lambda moved: 0 * moved.sum(dim=1), x, 1.0, norm), x)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_classifier_cut_open_gives_its_own_scores(config, layer):
    classifier = Classifier(a_model(config), 3).double()
    ids = some_texts()
    vectors = vectors_at(classifier, ids, layer)
    torch.testing.assert_close(scores_from(classifier, vectors, ids, layer), classifier(ids))


def test_an_attack_leaves_padding_and_the_other_texts_alone():
    """A text attacked alone is moved to the same place as among others."""
    classifier = Classifier(a_model(), 2).double()
    ids, labels = some_texts(), torch.tensor([0, 1, 0, 1])

    def attacked(rows, wanted):
        def loss(x):
            return F.cross_entropy(scores_from(classifier, x, rows), wanted, reduction="none")

        return pgd(loss, vectors_at(classifier, rows), 0.5, num_steps=3)

    together = attacked(ids, labels)
    change = together - vectors_at(classifier, ids)
    assert not change[ids == PADDING].any()
    assert change[ids != PADDING].any()
    alone = attacked(ids[2:3, :7], labels[2:3])
    torch.testing.assert_close(together[2:3, :7], alone)


def test_hardening_trains_on_both_halves():
    """Its loss is the mean of the two, and an attack leaves nothing behind in the gradients."""
    torch.manual_seed(0)
    hardened = Hardened(a_model(), 2, radius=0.5).double()
    ids, labels = some_texts(), torch.tensor([0, 1, 0, 1])

    def surprise(x):
        return F.cross_entropy(scores_from(hardened, x, ids), labels, reduction="none")

    vectors = vectors_at(hardened, ids)
    delta = (fgm(surprise, vectors, 0.5) - vectors).detach()
    expected = (Classifier.loss(hardened, ids, labels) + surprise(vectors + delta).mean()) / 2
    loss = hardened.loss(ids, labels)
    torch.testing.assert_close(loss, expected)
    assert loss > Classifier.loss(hardened, ids, labels)
    wanted = torch.autograd.grad(expected, hardened.model.token_embedding.weight)[0]
    loss.backward()
    torch.testing.assert_close(hardened.model.token_embedding.weight.grad, wanted)


def test_hardening_helps_under_attack():
    """After as many steps, more texts keep their class within the radius."""
    torch.manual_seed(0)
    ids = torch.randint(40, (40, 3))
    labels = (ids[:, 1] > 19).long()
    found = {}
    for name, make in (
        ("plain", lambda gpt: Classifier(gpt, 2)),
        ("hardened", lambda gpt: Hardened(gpt, 2, radius=0.5, num_steps=2)),
    ):
        classifier = make(copy.deepcopy(a_model().float()))
        classifier.model.token_embedding.requires_grad_(False)
        config = TrainingConfig(num_steps=50, learning_rate=1e-2, weight_decay=0.0)
        list(train(classifier, [(ids, labels)] * 50, config))

        def surprise(x, classifier=classifier):
            return F.cross_entropy(scores_from(classifier, x, ids), labels, reduction="none")

        moved = pgd(surprise, vectors_at(classifier, ids), 0.5)
        found[name] = (scores_from(classifier, moved, ids).argmax(dim=1) == labels).float().mean()
        assert (classifier(ids).argmax(dim=1) == labels).float().mean() > 0.9
    assert found["hardened"] > found["plain"] + 0.1


# --- attacks on letters -------------------------------------------------------------------------


@given(st.text("abcdefg", min_size=1, max_size=9))
def test_a_slip_keeps_the_ends_and_can_be_read(word):
    for slip in misspellings(word):
        assert slip != word
        assert (slip[0], slip[-1]) == (word[0], word[-1])
        assert abs(len(slip) - len(word)) <= 1
        assert not set(slip) - set(word)
    assert len(misspellings(word)) == len(set(misspellings(word)))


@given(st.text("abcdefg", min_size=3, max_size=9))
def test_exchanged_letters_and_doubled_ones_can_be_undone(word):
    """A word exchanged is one exchange from the word, a doubled one is one omission from it."""
    for slip in misspellings(word):
        if len(slip) >= len(word):
            assert word in misspellings(slip)


def test_all_slips_are_found():
    assert misspellings("poor") == ["pooor", "por"]
    assert misspellings("cup") == ["cp", "cuup"]
    assert misspellings("a") == misspellings("at") == []
    assert len(misspellings("rubbish")) == 4 + 4 + 3  # the two b are exchanged for nothing


def letters(text):
    """All texts in which one letter is another."""
    return [text[:i] + c + text[i + 1 :] for i in range(len(text)) for c in "abc"]


def test_an_attack_on_a_text_goes_down_and_stops_where_it_can():
    def score(texts):
        return torch.tensor([float(text.count("a")) for text in texts])

    path = attack_text(score, "aabca", letters, max_changes=10)
    assert [text.count("a") for text in path] == [3, 2, 1, 0]
    assert all(
        sum(x != y for x, y in zip(a, b, strict=True)) == 1 for a, b in itertools.pairwise(path)
    )
    assert attack_text(score, "aabca", letters, max_changes=2) == path[:3]
    assert attack_text(score, "bcb", letters, max_changes=2) == ["bcb"]
    assert attack_text(score, "aaa", lambda text: [], max_changes=2) == ["aaa"]


# --- how sure, and rightly so -------------------------------------------------------------------


@given(st.integers(1, 200), SEEDS, st.integers(1, 20))
def test_every_answer_stands_in_one_bin(num, seed, num_bins):
    confidences, is_right = drawn_answers(num, seed)
    bins = reliability(confidences, is_right, num_bins)
    assert sum(row.num for row in bins) == num
    right = sum(row.num * row.accuracy for row in bins)
    assert right == pytest.approx(is_right.sum().item())
    assert 0 <= calibration_error(bins) <= 1


@given(st.integers(1, 200), SEEDS, st.integers(1, 20))
def test_our_calibration_error_is_that_of_torchmetrics(num, seed, num_bins):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(num, 4, generator=generator).double()).softmax(dim=1)
    labels = torch.randint(4, (num,), generator=generator)
    confidences, predicted = probabilities.max(dim=1)
    ours = calibration_error(reliability(confidences, predicted == labels, num_bins))
    theirs = MulticlassCalibrationError(4, n_bins=num_bins)(probabilities, labels)
    assert ours == pytest.approx(theirs.item(), abs=1e-6)  # theirs counts in single precision


def test_certainty_stands_in_the_last_bin():
    assert reliability(torch.ones(2), torch.tensor([True, False]), 10) == [Bin(2, 1.0, 0.5)]


@given(SEEDS, st.floats(0.2, 5))
def test_the_temperature_is_the_one_that_a_search_finds(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(60, 3, generator=generator).double()
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    logits = spread * logits
    found = fit_temperature(logits, labels)
    theirs = minimize_scalar(
        lambda log_t: F.cross_entropy(logits / math.exp(log_t), labels).item(),
        bounds=(-6, 6),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found == pytest.approx(math.exp(theirs.x), rel=1e-4)


def test_the_temperature_undoes_what_was_done_to_scores():
    """Scores that were right, made k times as large, need the temperature k."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 2, generator=generator).double()
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(4 * logits, labels) == pytest.approx(
        4 * fit_temperature(logits, labels), rel=1e-6
    )


@given(SEEDS, st.floats(0.05, 20))
def test_no_temperature_changes_what_is_chosen(seed, value):
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(seed)).double()
    assert torch.equal(temperature(logits, value).argmax(dim=1), logits.argmax(dim=1))


@pytest.mark.filterwarnings("ignore:No positive class found in y_true")
@given(st.integers(2, 100), SEEDS)
def test_the_risk_is_what_precision_leaves(num, seed):
    """Scikit-learn's precision of "is right" at each threshold, which answers the same."""
    confidences, is_right = drawn_answers(num, seed)
    coverage, risk = risk_coverage(confidences, is_right)
    precision, _, thresholds = precision_recall_curve(is_right.numpy(), confidences.numpy())
    answered = [(confidences.numpy() >= t).mean() for t in thresholds]
    np.testing.assert_allclose(coverage.numpy(), answered[::-1], atol=1e-12)
    np.testing.assert_allclose(risk.numpy(), (1 - precision[:-1])[::-1], atol=1e-12)


@given(st.integers(1, 100), SEEDS)
def test_coverage_rises_to_all_and_then_risk_is_the_share_of_mistakes(num, seed):
    confidences, is_right = drawn_answers(num, seed)
    coverage, risk = risk_coverage(confidences, is_right)
    assert (coverage.diff() > 0).all()
    assert coverage[-1] == 1
    assert risk[-1].item() == pytest.approx(1 - is_right.double().mean().item())
    assert len(coverage) == len(confidences.unique())


def test_who_knows_what_it_knows_makes_no_mistake_until_it_must():
    is_right = torch.tensor([True, False, True, False])
    coverage, risk = risk_coverage(is_right.float(), is_right)
    assert coverage.tolist() == [0.5, 1.0]
    assert risk.tolist() == [0.0, 0.5]


# --- what was learned by heart ------------------------------------------------------------------


@given(st.integers(1, 64), SEEDS)
def test_exposure_falls_with_the_rank(num, seed):
    scores = torch.randn(num, generator=torch.Generator().manual_seed(seed)).double()
    ordered = scores.sort(descending=True).values.tolist()
    bits = [exposure(row, scores) for row in ordered]
    assert bits == [pytest.approx(math.log2(num / rank)) for rank in range(1, num + 1)]
    assert bits[0] == math.log2(num)
    assert bits[-1] == pytest.approx(0)


def test_a_secret_among_no_candidates_is_refused():
    with pytest.raises(ValueError, match="no candidates came; score all"):
        exposure(0.0, torch.tensor([]))


def test_a_token_that_the_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"this model knows 0 to 39; use the tokenizer"):
        vectors_at(Classifier(a_model(), 3), torch.tensor([[40]]))


def test_a_number_never_seen_has_an_exposure_of_about_one_bit_and_a_half():
    """Log2 of n over a rank drawn evenly has the mean 1 / ln 2."""
    scores = torch.randn(4_096, generator=torch.Generator().manual_seed(0)).double()
    bits = [exposure(row, scores) for row in scores.tolist()]
    assert sum(bits) / len(bits) == pytest.approx(1 / math.log(2), abs=0.01)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0, -0.5, math.nan, math.inf])
def test_a_ball_without_room_is_refused(radius):
    network, x, labels = a_network()
    match = r"radius=.* leaves no room to move; choose a number above 0"
    for attack in (fgm, pgd):
        with pytest.raises(ValueError, match=match):
            attack(loss_of(network, labels), x, float(radius))
    with pytest.raises(ValueError, match=match):
        project(x, x, float(radius))
    with pytest.raises(ValueError, match=match):
        Hardened(a_model(), 2, radius=float(radius))


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(layer):
    classifier = Classifier(a_model(), 2).double()
    match = f"layer {layer} does not exist; choose from 0, the vectors of the tokens, to 2"
    with pytest.raises(ValueError, match=match):
        vectors_at(classifier, some_texts(), layer)
    with pytest.raises(ValueError, match=match):
        scores_from(classifier, vectors_at(classifier, some_texts()), some_texts(), layer)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf])
def test_a_temperature_that_is_not_above_zero_is_refused(value):
    with pytest.raises(ValueError, match="temperature must be above 0 and finite"):
        temperature(torch.zeros(2), value)


def test_what_cannot_be_measured_is_refused(without_shape_checks):
    network, x, labels = a_network()
    loss = loss_of(network, labels)
    with pytest.raises(ValueError, match="no norm is called 'L1'; choose one of L2, Linf"):
        fgm(loss, x, 1.0, "L1")
    with pytest.raises(ValueError, match="num_steps=0 changes nothing; take at least 1"):
        pgd(loss, x, 1.0, num_steps=0)
    with pytest.raises(ValueError, match="step=-1 leads nowhere"):
        pgd(loss, x, 1.0, step=-1)
    with pytest.raises(ValueError, match="max_changes=0 leaves the text as it is"):
        attack_text(lambda texts: torch.zeros(len(texts)), "a", letters, 0)
    yes = torch.tensor([True, False])
    with pytest.raises(ValueError, match="3 confidences for 2 answers; give one each"):
        risk_coverage(torch.rand(3), yes)
    with pytest.raises(ValueError, match="at least 1"):
        reliability(torch.rand(0), yes[:0])
    for confidences, num_bins in (([0.5, 1.5], 10), ([-0.1, 0.5], 10), ([0.5, 0.5], 0)):
        with pytest.raises(ValueError, match=r"from 0 to 1, as a softmax gives, and at least one"):
            reliability(torch.tensor(confidences), yes, num_bins)


def test_scores_without_a_best_temperature_are_refused():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    for labels in ([0, 1], [1, 0]):
        with pytest.raises(ValueError, match=r"no temperature is best.*were not learned"):
            fit_temperature(logits, torch.tensor(labels))
