"""What chapter 18 promises: see without changing, split exactly, change only what is asked."""

import math

import pytest
import torch
from captum.attr import LayerFeatureAblation
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

from gptbook.finetuning import Classifier
from gptbook.interpretability import (
    Record,
    attribute,
    control_labels,
    each_head,
    fit_probe,
    induction_scores,
    logit_lens,
    other_map,
    record,
    replace_heads,
    replace_residual,
)
from gptbook.model import GPT, GPT1Config, GPT2Config, GPTConfig, ModernConfig
from gptbook.models import load
from gptbook.tokenizer import END_OF_TEXT
from gptbook.world import World

SIZES = {"vocab_size": 60, "context_length": 24, "d_model": 16, "num_heads": 4, "num_layers": 2}
CONFIGS: list[GPTConfig] = [GPT2Config(**SIZES), ModernConfig(**SIZES, num_kv_heads=2)]
configs = pytest.mark.parametrize("config", CONFIGS, ids=["GPT-2", "modern"])
every_config = pytest.mark.parametrize(
    "config", [*CONFIGS, GPT1Config(**SIZES)], ids=["GPT-2", "modern", "GPT-1"]
)


def a_model(config: GPTConfig = CONFIGS[1], seed: int = 0) -> GPT:
    """Make a model whose numbers, biases too, are large enough for its parts to matter."""
    torch.manual_seed(seed)
    model = GPT(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def a_text(num: int = 2, length: int = 7, seed: int = 0) -> torch.Tensor:
    """Draw texts for such a model."""
    return torch.randint(0, 60, (num, length), generator=torch.Generator().manual_seed(seed))


def num_hooks(model: GPT) -> int:
    """Count what still listens."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# --- to see -------------------------------------------------------------------------------------


@every_config
def test_watching_changes_nothing_and_leaves_nothing_behind(config: GPTConfig) -> None:
    """Not one bit of the logits, not one weight, and no hook, also after an error."""
    model, ids = a_model(config), a_text()
    before, weights = model(ids), {k: row.clone() for k, row in model.state_dict().items()}
    with record(model):
        assert torch.equal(model(ids), before)
    assert all(torch.equal(row, weights[k]) for k, row in model.state_dict().items())
    with pytest.raises(RuntimeError, match="broken off"), record(model):
        raise RuntimeError("broken off")
    with pytest.raises(RuntimeError, match="broken off"), replace_heads(model, {(0, 0): 0.0}):
        raise RuntimeError("broken off")
    assert num_hooks(model) == 0
    assert torch.equal(model(ids), before)


@every_config
@given(length=st.integers(1, 24), num=st.integers(1, 3))
@settings(max_examples=8)
def test_weights_times_values_are_what_the_layer_itself_gathers(
    config: GPTConfig, length: int, num: int
) -> None:
    """The fused kernel's own numbers, in every block and head; and each row is a share of 1."""
    model, ids = a_model(config), a_text(num, length)
    with record(model) as seen:
        model(ids)
    for number, block in enumerate(model.blocks):
        weights = seen.weights(number)
        torch.testing.assert_close(weights @ seen.values(number), seen.mixed(number))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(num, 4, length).double())
        assert weights.triu(1).abs().max() == 0
        bias = block.attention.output.bias
        rest = 0.0 if bias is None else bias
        own = block.attention.output(seen.mixed(number).transpose(1, 2).flatten(2))
        torch.testing.assert_close(seen.added(number).sum(dim=1) + rest, own)


@configs
def test_the_stream_is_only_added_to(config: GPTConfig) -> None:
    """What stands before the next block is what stood before, and what the two parts added."""
    model = a_model(config)
    with record(model) as seen:
        model(a_text())
    torch.testing.assert_close(seen.residual(0)[0, 0], first_vector(model, a_text()))
    for number, block in enumerate(model.blocks):
        bias = block.attention.output.bias
        parts = seen.added(number).sum(dim=1) + seen.feed_forward(number)
        after = seen.residual(number) + parts + (0.0 if bias is None else bias)
        torch.testing.assert_close(seen.residual(number + 1), after)


def first_vector(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    """Embed the first token of the first text by hand."""
    vector = model.token_embedding.weight[ids[0, 0]]
    return vector if model.positions is None else vector + model.positions.weight[0]


def test_the_latest_reading_is_kept_also_of_a_model_inside_another() -> None:
    """A classifier reads with a GPT."""
    model = a_model()
    with record(model) as seen:
        model(a_text(1, 3))
        Classifier(model, 2).double()(a_text(2, 5))
    assert seen.residual(2).shape == (2, 5, 16)
    assert seen.weights(1).shape == (2, 4, 5, 5)


# --- what each layer would say ------------------------------------------------------------------


@every_config
def test_the_lens_at_the_end_is_the_model(config: GPTConfig) -> None:
    """And at the beginning it is the norm and the head on the embedding."""
    model, ids = a_model(config), a_text()
    with record(model) as seen:
        logits = model(ids)
    assert torch.equal(logit_lens(model, seen.residual(2)), logits)
    first = model.head(model.final_norm(seen.residual(0)[:, -1]))
    assert torch.equal(logit_lens(model, seen.residual(0)[:, -1]), first)


@configs
@given(length=st.integers(1, 12), data=st.data())
def test_the_shares_add_up_to_the_logit(
    config: GPTConfig, length: int, data: st.DataObject
) -> None:
    """In float64, at any position of any text, for one logit and for the difference of two."""
    model, ids = a_model(config), a_text(3, length)
    places = st.lists(st.integers(0, length - 1), min_size=3, max_size=3)
    tokens = st.lists(st.integers(0, 59), min_size=3, max_size=3)
    positions = torch.tensor(data.draw(places))
    one, other = (torch.tensor(data.draw(tokens)) for _ in range(2))
    with record(model) as seen, torch.no_grad():
        logits = model(ids)[range(3), positions]
    weight = model.head.weight.detach()
    for direction, number in (
        (weight[one], logits[range(3), one]),
        (weight[one] - weight[other], logits[range(3), one] - logits[range(3), other]),
    ):
        found = attribute(seen, direction, positions)
        torch.testing.assert_close(found.total, number, atol=1e-12, rtol=1e-10)
        assert found.heads.shape == (3, 2, 4)
        assert found.feed_forward.shape == (3, 2)


def test_a_head_that_is_silent_has_no_share() -> None:
    """And the shares of the same parts are proportional to what they added."""
    model, ids = a_model(), a_text()
    direction, positions = model.head.weight[[3, 4]].detach(), torch.tensor([6, 2])
    with replace_heads(model, {(1, 2): 0.0}), record(model) as seen:
        model(ids)
    shares = attribute(seen, direction, positions).heads
    assert torch.equal(shares[:, 1, 2], torch.zeros(2).double())
    assert (shares != 0).sum() == 2 * (2 * 4 - 1)


# --- what happens without it --------------------------------------------------------------------


@configs
def test_taking_a_head_away_is_what_captum_does(config: GPTConfig) -> None:
    """The same effect on the same logits, for every head of every block."""
    model, ids = a_model(config), a_text(2, 5)
    target = 7

    def score(token_ids: torch.Tensor) -> torch.Tensor:
        return model(token_ids)[:, -1]

    heads = torch.arange(4).repeat_interleave(4)  # which head each channel belongs to
    for number, block in enumerate(model.blocks):
        theirs = LayerFeatureAblation(score, block.attention.output).attribute(
            ids, target=target, layer_mask=heads.expand(1, 1, 16), attribute_to_layer_input=True
        )
        ours = each_head(model, lambda _block, _head: 0.0, lambda: score(ids)[:, target])
        effects = score(ids)[:, target] - ours[number]  # (H, B)
        torch.testing.assert_close(effects.T, theirs[:, 0, ::4])


def test_what_a_head_said_anyway_changes_nothing() -> None:
    """All heads at once, replaced by themselves."""
    model, ids = a_model(), a_text()
    with record(model) as seen:
        before = model(ids)
    values = {(b, h): seen.mixed(b)[:, h] for b in range(2) for h in range(4)}
    with replace_heads(model, values):
        torch.testing.assert_close(model(ids), before)


@configs
@pytest.mark.parametrize("block", [0, 1, 2])
def test_another_texts_stream_brings_its_scores(config: GPTConfig, block: int) -> None:
    """What follows a block depends on nothing but the stream before it."""
    model, one, other = a_model(config), a_text(seed=1), a_text(seed=2)
    with record(model) as seen:
        expected = model(other)
    with replace_residual(model, block, seen.residual(block)):
        torch.testing.assert_close(model(one), expected)


@given(place=st.integers(0, 6), head=st.integers(0, 3), block=st.integers(0, 1))
def test_a_patch_at_one_place_is_not_felt_before_it(place: int, head: int, block: int) -> None:
    """Nor in other texts of the batch; nor by other heads of the same block."""
    model, ids = a_model(), a_text()
    where = torch.zeros(2, 7, dtype=torch.bool)
    where[1, place] = True
    with record(model) as seen:
        before = model(ids)
    with replace_heads(model, {(block, head): 5.0}, where), record(model) as patched:
        after = model(ids)
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1, :place], before[1, :place])
    assert not torch.allclose(after[1, place], before[1, place])
    is_changed = patched.mixed(block) != seen.mixed(block)
    assert is_changed[1, head, place].all()
    assert is_changed.sum() == is_changed[1, head, place].sum()


def test_many_patches_in_one_batch_are_the_single_ones() -> None:
    """One row of the batch for each place."""
    model, ids, other = a_model(), a_text(1), a_text(1, seed=5)
    with record(model) as seen:
        model(other)
    value = seen.residual(1)
    with replace_residual(model, 1, value, torch.eye(7, dtype=torch.bool)):
        together = model(ids.expand(7, -1))
    for place in range(7):
        where = torch.zeros(1, 7, dtype=torch.bool)
        where[0, place] = True
        with replace_residual(model, 1, value, where):
            torch.testing.assert_close(model(ids)[0], together[place])


def test_a_record_inside_sees_the_replacement_and_one_outside_what_was_replaced() -> None:
    """Whatever is begun first hears first."""
    model, ids = a_model(), a_text()
    with record(model) as untouched:
        model(ids)
    with record(model) as outside, replace_heads(model, {(0, 1): 5.0}), record(model) as inside:
        model(ids)
    assert torch.equal(outside.mixed(0), untouched.mixed(0))
    assert (inside.mixed(0)[:, 1] == 5.0).all()
    assert torch.equal(outside.mixed(1), inside.mixed(1))  # both come after the replacement
    assert not torch.equal(inside.mixed(1), untouched.mixed(1))


def test_each_head_is_measured_by_itself_in_order() -> None:
    """A grid of blocks and heads; each cell as if measured alone."""
    model, ids = a_model(), a_text()
    grid = each_head(model, lambda block, head: float(10 * block + head), lambda: model(ids)[0, -1])
    assert grid.shape == (2, 4, 60)
    for block, head in ((0, 3), (1, 0), (1, 2)):
        with replace_heads(model, {(block, head): float(10 * block + head)}):
            torch.testing.assert_close(grid[block, head], model(ids)[0, -1])
    assert num_hooks(model) == 0


# --- what a head looks for ----------------------------------------------------------------------


@pytest.mark.parametrize(("back", "score"), [(9, 1.0), (10, 0.0), (1, 0.0)])
def test_only_looking_after_the_last_time_is_induction(
    back: int, score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads that look so many places back, where the text comes again after ten."""

    def weights(self: Record, block: int) -> torch.Tensor:
        places = torch.arange(20)
        looks = torch.zeros(3, 4, 20, 20)
        looks[:, :, places, (places - back).clamp(min=0)] = 1.0
        return looks

    monkeypatch.setattr(Record, "weights", weights)
    scores = induction_scores(a_model(), length=10, num_texts=3)
    assert scores.tolist() == [[score] * 4] * 2


def test_the_score_is_that_of_the_loops() -> None:
    """On texts of different tokens that come twice, drawn from what was asked for."""
    model, pool = a_model(), torch.arange(20, 50)
    read: list[torch.Tensor] = []
    handle = model.token_embedding.register_forward_pre_hook(lambda _, ids: read.append(ids[0]))
    scores = induction_scores(model, pool, length=6, num_texts=3, seed=4)
    handle.remove()
    [ids] = read
    assert torch.equal(ids[:, :6], ids[:, 6:])
    assert set(ids.flatten().tolist()) <= set(pool.tolist())
    assert all(len(row[:6].unique()) == 6 for row in ids)
    with record(model) as seen:
        model(ids)
    for block in range(2):
        for head in range(4):
            looks = [
                seen.weights(block)[text, head, place, place - 5].item()
                for text in range(3)
                for place in range(6, 12)
            ]
            assert math.isclose(scores[block, head].item(), sum(looks) / len(looks), rel_tol=1e-9)


# --- what can be read off -----------------------------------------------------------------------


@given(seed=st.integers(0, 1000), ridge=st.floats(0.01, 100))
def test_a_probe_is_that_of_scikit_learn(seed: int, ridge: float) -> None:
    """The same weights and constants as Ridge, the same answers as RidgeClassifier."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 6, generator=generator).double() + 3
    labels = torch.cat([torch.arange(3), torch.randint(0, 3, (37,), generator=generator)])
    probe = fit_probe(x, labels, 3, ridge=ridge)
    targets = torch.nn.functional.one_hot(labels, 3).double()
    theirs = Ridge(alpha=ridge).fit(x.numpy(), targets.numpy())
    torch.testing.assert_close(probe.weight, torch.from_numpy(theirs.coef_), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(
        probe.bias, torch.from_numpy(theirs.intercept_), atol=1e-9, rtol=1e-7
    )
    classifier = RidgeClassifier(alpha=ridge).fit(x.numpy(), labels.numpy())
    assert probe.predict(x).tolist() == classifier.predict(x.numpy()).tolist()


def test_a_probe_learns_what_lies_on_a_line_and_nothing_from_noise() -> None:
    """New vectors are told apart if a line can, and by chance if there is nothing to tell."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 8, generator=generator)
    labels = (x[:, 2] - x[:, 5] > 0.3).long()
    probe = fit_probe(x[:1000], labels[:1000], 2)
    assert (probe.predict(x[1000:]) == labels[1000:]).float().mean() > 0.93
    noise = torch.randint(0, 2, (2000,), generator=generator)
    probe = fit_probe(x[:1000], noise[:1000], 2)
    assert abs((probe.predict(x[1000:]) == noise[1000:]).float().mean() - 0.5) < 0.06


@given(words=st.lists(st.integers(0, 30), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_a_word_has_one_control_label_wherever_it_comes(words: list[int], seed: int) -> None:
    """A function of the word, within the classes."""
    labels = control_labels(torch.tensor(words), 3, seed=seed).tolist()
    assert len({*zip(words, labels, strict=True)}) == len(set(words))
    assert set(labels) <= {0, 1, 2}


def test_control_labels_are_drawn_evenly() -> None:
    """Over many words, each class as often; another seed draws others."""
    words = torch.arange(6000)
    one, other = (control_labels(words, 3, seed=seed) for seed in (0, 1))
    assert all(abs(n - 2000) < 200 for n in one.bincount().tolist())
    assert abs((one == other).float().mean() - 1 / 3) < 0.05


# --- what a map does not say --------------------------------------------------------------------


@given(num_keys=st.integers(1, 30), width=st.integers(1, 8), seed=st.integers(0, 1000))
def test_another_map_mixes_the_same_vector(num_keys: int, width: int, seed: int) -> None:
    """Weights that are shares of 1, the same mixture, and with keys enough another map."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(num_keys, generator=generator).double().softmax(dim=0)
    values = torch.randn(num_keys, width, generator=generator).double()
    found = other_map(weights, values)
    torch.testing.assert_close(found @ values, weights @ values, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(found.sum(), torch.ones(()).double())
    assert found.min() >= 0
    moved = (found - weights).abs().sum().item() / 2
    if num_keys > width + 1:
        assert moved > 1e-4
        assert found @ weights < weights @ weights  # it looks where the first did not
    else:
        assert moved < 1e-7


# --- what is refused ----------------------------------------------------------------------------


def test_a_block_or_head_that_does_not_exist_is_refused(without_shape_checks: None) -> None:
    """The message says which there are."""
    model = a_model()
    with record(model) as seen:
        model(a_text())
    with pytest.raises(ValueError, match="block 2 came, but they are numbered 0 to 1"):
        seen.weights(2)
    with pytest.raises(ValueError, match="block 3 came, but they are numbered 0 to 2"):
        seen.residual(3)
    with pytest.raises(ValueError, match="block -1 came"):
        seen.added(-1)
    for head, message in (
        ((5, 0), "block 5 came, but they are numbered 0 to 1"),
        ((0, 4), "head 4 came, but they are numbered 0 to 3"),
        ((0, True), "head True came"),
        ((0.5, 1), r"block 0\.5 came"),
    ):
        with pytest.raises(ValueError, match=message), replace_heads(model, {head: 0.0}):
            pass
    with pytest.raises(ValueError, match="block 3 came"), replace_residual(model, 3, 0.0):
        pass


def test_reading_nothing_or_half_or_by_chance_is_refused() -> None:
    """Before any text, with caches, with dropout."""
    model = a_model()
    with record(model) as seen:
        pass
    with pytest.raises(ValueError, match="nothing was read yet; call model"):
        seen.weights(0)
    with (
        pytest.raises(ValueError, match=r"read with caches.*no caches"),
        record(model),
        torch.no_grad(),
    ):
        model(a_text(), model.new_caches(2))
    dropping = GPT(ModernConfig(**SIZES, dropout=0.1)).train()
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"), record(dropping):
        pass
    assert num_hooks(model) == num_hooks(dropping) == 0


def test_what_does_not_fit_is_refused(without_shape_checks: None) -> None:
    """A value or a mask of another shape; the message gives both."""
    model = a_model()
    with (
        pytest.raises(ValueError, match=r"value of shape \(2, 6, 4\) does not fit head \(1, 3\)"),
        replace_heads(model, {(1, 3): torch.zeros(2, 6, 4)}),
    ):
        model(a_text())
    with (
        pytest.raises(ValueError, match=r"where of shape \(3, 7\) does not fit the residual"),
        replace_residual(model, 1, 0.0, torch.ones(3, 7, dtype=torch.bool)),
    ):
        model(a_text())
    with record(GPT(GPT1Config(**SIZES)).eval()) as seen:
        seen.model(a_text())
    with pytest.raises(ValueError, match="post-norm model each norm changes"):
        attribute(seen, torch.zeros(2, 16), torch.tensor([0, 1]))


def test_impossible_probes_and_texts_are_refused(without_shape_checks: None) -> None:
    """Labels that are no class, or too few; a half text that is too long."""
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="labels run from 0 to 2, but the 2 classes are 0 to 1"):
        fit_probe(x, torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match="2 labels came for 3 vectors"):
        fit_probe(x, torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match=r"ridge must be above 0, not 0\.0"):
        fit_probe(x, torch.tensor([0, 1, 1]), 2, ridge=0.0)
    with pytest.raises(ValueError, match=r"length=13 came.*a context of 24 it must be 2 to 12"):
        induction_scores(a_model(), length=13)
    with pytest.raises(ValueError, match=r"length=8 came, but with 5 tokens.*2 to 5"):
        induction_scores(a_model(), torch.arange(5), length=8)
    with pytest.raises(ValueError, match=r"num_texts=0 came; give 1 or more"):
        induction_scores(a_model(), length=8, num_texts=0)


# --- the model of the book ----------------------------------------------------------------------


def test_five_heads_of_the_book_answer_who_and_five_others_do_not() -> None:
    """Without those that the chapter names nearly all answers are wrong, without others few."""
    model, tokenizer = load("littletown")
    end = tokenizer.special_tokens[END_OF_TEXT]
    asked = []
    for story in World().stories(60, seed=8_000_000):
        told = " ".join(sentence.text for sentence in story.sentences[:-2])
        pairs = [row for row in World().questions(story.text) if row[0].startswith("Who has")]
        asked += [(f"{told} {question}", answer) for question, answer in pairs]
    asked = asked[:30]
    rows = [[end, *tokenizer.encode(text)] for text, _ in asked]
    last = torch.tensor([len(row) - 1 for row in rows])
    ids = torch.tensor([row + [0] * (max(map(len, rows)) - len(row)) for row in rows])
    names = torch.tensor([tokenizer.encode(" " + answer.split()[0])[0] for _, answer in asked])

    @torch.no_grad()
    def num_wrong(*heads: tuple[int, int]) -> int:
        with replace_heads(model, dict.fromkeys(heads, 0.0)):
            hidden = model.hidden(ids)[range(len(ids)), last]
        return int((model.logits(hidden).argmax(dim=1) != names).sum())

    assert num_wrong() == 0
    assert num_wrong((1, 2), (2, 1), (2, 3), (4, 1), (4, 2)) > 20
    assert num_wrong((2, 0), (2, 2), (3, 0), (3, 1), (3, 2)) < 10
    assert num_wrong((3, 1), (3, 3), (4, 0), (4, 3), (2, 0)) < 10
