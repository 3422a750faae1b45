import math
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gptbook.data import cldr_pairs
from gptbook.evaluation import IGNORED
from gptbook.generation import Sampling, beam_search, generate
from gptbook.seq2seq import (
    PADDING,
    PAIR_PATTERN,
    CrossAttention,
    EncoderDecoder,
    EncoderDecoderConfig,
    PaperTrainingConfig,
    fill_up,
    pair_batch,
    pair_batches,
    smoothed_cross_entropy,
    split_by_value,
    translate,
    value_of,
)
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import train

TINY = EncoderDecoderConfig(vocab_size=17, d_model=12, num_heads=3, num_layers=2, d_ff=20)
seeds = st.integers(0, 2**31)


def make_model(seed: int = 0, **changes) -> EncoderDecoder:
    """A small model in float64 whose weights are large enough to disagree with itself."""
    torch.manual_seed(seed)
    model = EncoderDecoder(replace(TINY, **changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


# --- the same as PyTorch's ----------------------------------------------------------------------


def torchs(model: EncoderDecoder) -> nn.Transformer:
    """PyTorch's Transformer with our weights: post-norm, no norm at the ends."""
    config = model.config
    options = {"dropout": 0.0, "batch_first": True, "dtype": torch.float64}
    sizes = (config.d_model, config.num_heads, config.d_ff)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(*sizes, **options),
        config.num_layers,
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(*sizes, **options), config.num_layers
    )
    theirs = nn.Transformer(
        *sizes[:2], custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    )
    with torch.no_grad():
        for ours, its in zip(model.encoder, encoder.layers, strict=True):
            copy_attention(ours.attention, its.self_attn)
            copy_rest(ours, its, (ours.attention_norm, ours.feed_forward_norm))
        for ours, its in zip(model.decoder, decoder.layers, strict=True):
            its.self_attn.in_proj_weight.copy_(ours.attention.query_key_value.weight)
            its.self_attn.in_proj_bias.copy_(ours.attention.query_key_value.bias)
            its.self_attn.out_proj.load_state_dict(ours.attention.output.state_dict())
            copy_attention(ours.cross_attention, its.multihead_attn)
            norms = (ours.attention_norm, ours.cross_attention_norm, ours.feed_forward_norm)
            copy_rest(ours, its, norms)
    return theirs.eval()


def copy_attention(ours: CrossAttention, its: nn.MultiheadAttention) -> None:
    its.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
    its.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    its.out_proj.load_state_dict(ours.output.state_dict())


def copy_rest(ours: nn.Module, its: nn.Module, norms: tuple[nn.Module, ...]) -> None:
    its.linear1.load_state_dict(ours.feed_forward.expand.state_dict())
    its.linear2.load_state_dict(ours.feed_forward.contract.state_dict())
    for number, norm in enumerate(norms, start=1):
        getattr(its, f"norm{number}").load_state_dict(norm.state_dict())


def embedded(model: EncoderDecoder, token_ids: torch.Tensor) -> torch.Tensor:
    rows = F.embedding(token_ids.clamp(min=0), model.token_embedding.weight)
    return model.positions(rows * math.sqrt(model.config.d_model))


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    target_length=st.integers(1, 5),
    num_heads=st.sampled_from([1, 2, 4]),
    seed=seeds,
)
def test_logits_and_gradients_are_those_of_pytorchs_transformer(
    lengths, target_length, num_heads, seed
):
    model = make_model(seed, num_heads=num_heads)
    theirs = torchs(model)
    source = fill_up([torch.randint(17, (length,)).tolist() for length in lengths])
    target = torch.randint(17, (len(lengths), target_length))
    expected = (
        theirs(
            embedded(model, source),
            embedded(model, target),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(
                target_length, dtype=torch.float64
            ),
            src_key_padding_mask=source == PADDING,
            memory_key_padding_mask=source == PADDING,
        )
        @ model.token_embedding.weight.T
    )
    logits = model(source, target)
    torch.testing.assert_close(logits, expected)
    pull = torch.randn_like(logits)
    ours, its = model.encoder[0].attention.key_value.weight, theirs.encoder.layers[0].self_attn
    [mine] = torch.autograd.grad((logits * pull).sum(), [ours], retain_graph=True)
    [theirs_] = torch.autograd.grad((expected * pull).sum(), [its.in_proj_weight])
    torch.testing.assert_close(mine, theirs_[12:])


def test_cross_attention_is_pytorchs():
    torch.manual_seed(0)
    ours = CrossAttention(d_model=12, num_heads=3).double()
    its = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        copy_attention(ours, its)
    x, memory = torch.randn(2, 4, 12).double(), torch.randn(2, 5, 12).double()
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    expected, weights = its(x, memory, memory, key_padding_mask=padding, average_attn_weights=False)
    source = ours.read(memory, padding)
    torch.testing.assert_close(ours(x, source), expected)
    torch.testing.assert_close(ours.weights(x, source), weights)


# --- who sees what ------------------------------------------------------------------------------


def test_the_encoder_sees_the_whole_source_and_the_decoder_no_later_target():
    model = make_model()
    source, target = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])
    memory, logits = model.encode(source), model(source, target)
    other = model.encode(torch.tensor([[1, 2, 9]]))
    assert ((memory - other).abs().amax(dim=-1) > 1e-6).all()
    changed = model(source, torch.tensor([[4, 5, 9, 7]]))
    torch.testing.assert_close(changed[:, :2], logits[:, :2], rtol=0, atol=1e-12)
    assert ((changed - logits)[:, 2:].abs().amax(dim=-1) > 1e-6).all()
    assert ((model(torch.tensor([[1, 2, 9]]), target) - logits).abs().amax(dim=-1) > 1e-6).all()


def test_padding_changes_nothing():
    model = make_model()
    alone = model(torch.tensor([[1, 2]]), torch.tensor([[4, 5]]))
    source = fill_up([[1, 2], [3, 4, 5, 6]])
    together = model(source, torch.tensor([[4, 5], [7, 8]]))
    torch.testing.assert_close(together[:1], alone)


# --- generation ---------------------------------------------------------------------------------

sources = st.lists(st.lists(st.integers(0, 16), min_size=1, max_size=5), min_size=1, max_size=3)


@given(sources=sources, drawn=st.booleans(), seed=st.integers(0, 1_000))
def test_a_batch_of_translations_is_what_each_gives_alone(sources, drawn, seed):
    model = make_model(seed)
    options = {"max_new_tokens": 9, "stop": [3], "sampling": Sampling() if drawn else None}
    together = generate(model.reading(fill_up(sources)), [[0]] * len(sources), seed=seed, **options)
    for row, source in enumerate(sources):
        reading = model.reading(torch.tensor([source]))
        assert generate(reading, [[0]], seed=seed + row, **options) == [together[row]]


@given(source=st.lists(st.integers(0, 16), min_size=1, max_size=5), seed=st.integers(0, 1_000))
def test_generation_with_caches_is_that_without(source, seed):
    model = make_model(seed)
    source_ids = torch.tensor([source])

    def without_caches(token_ids):
        return model(source_ids.expand(len(token_ids), -1), token_ids)

    options = {"max_new_tokens": 8, "stop": [3]}
    reading = model.reading(source_ids)
    assert generate(reading, [[0]], **options) == generate(without_caches, [[0]], **options)
    beams = partial(beam_search, prompt=[0], num_beams=3, **options)
    mine, plain = beams(reading), beams(without_caches)
    assert [beam.token_ids for beam in mine] == [beam.token_ids for beam in plain]
    assert mine[0].log_probability == pytest.approx(plain[0].log_probability)


def test_several_translations_of_one_source():
    model = make_model()
    reading = model.reading(torch.tensor([[1, 2], [3, PADDING]]))
    rows = generate(
        reading, [[0], [0]], num_sequences=2, max_new_tokens=6, sampling=Sampling(), seed=4
    )
    alone = model.reading(torch.tensor([[3]]))
    assert rows[3] == generate(alone, [[0]], max_new_tokens=6, sampling=Sampling(), seed=7)[0]


def test_a_model_in_training_reads_without_dropout_and_goes_on_in_training():
    model = make_model(dropout=0.5)
    source_ids, target_ids = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 4]])
    expected = model(source_ids, target_ids)
    model.train()
    reading = model.reading(source_ids)
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(reading.eval()(target_ids), expected)


def test_as_many_prompts_as_sources():
    reading = make_model().reading(torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="2 prompts came for 1 sources"):
        generate(reading, [[0], [0]], max_new_tokens=2)


# --- training -----------------------------------------------------------------------------------


@given(smoothing=st.floats(0, 0.9), seed=seeds)
def test_the_smoothed_loss_is_pytorchs(smoothing, seed):
    torch.manual_seed(seed)
    logits = torch.randn(2, 5, 7, dtype=torch.float64)
    targets = torch.randint(7, (2, 5))
    targets[0, 2] = targets[1, 4] = IGNORED
    expected = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
    torch.testing.assert_close(smoothed_cross_entropy(logits, targets, smoothing), expected)


@pytest.mark.parametrize("warmup_steps", [1, 10, 4_000])
def test_the_learning_rate_is_the_papers(warmup_steps):
    config = PaperTrainingConfig(num_steps=5_000, warmup_steps=warmup_steps, d_model=512)
    rates = [config.learning_rate_at(step) for step in range(5_000)]
    for number in (1, 2, 9, 10, 11, 4_000, 4_001, 5_000):
        formula = 512**-0.5 * min(number**-0.5, number * warmup_steps**-1.5)
        assert rates[number - 1] == pytest.approx(formula)
    assert max(rates) == rates[warmup_steps - 1]


def test_a_batch_of_pairs_is_shifted_and_filled_up():
    inputs, targets = pair_batch([([5, 6, 7, 8], [1]), ([9], [2, 3])], end=0)
    assert inputs[0].tolist() == [[5, 6, 7, 8], [0, 1, PADDING, PADDING]]
    assert inputs[1].tolist() == [[9, PADDING, PADDING, PADDING], [0, 2, 3, PADDING]]
    assert targets.tolist() == [[1, 0, IGNORED, IGNORED], [2, 3, 0, IGNORED]]


def test_a_round_takes_each_pair_once():
    pairs = [([number], [number]) for number in range(1, 10)]
    batches = pair_batches(pairs, 3, end=0, seed=1)
    rounds = [[row for _ in range(3) for row in next(batches)[1][:, 0].tolist()] for _ in range(2)]
    assert [sorted(seen) for seen in rounds] == [list(range(1, 10))] * 2
    assert rounds[0] != rounds[1]
    with pytest.raises(ValueError, match="batch_size=10 is more than the 9 pairs"):
        next(pair_batches(pairs, 10, end=0))


def test_it_learns_to_write_a_text_backwards():
    torch.manual_seed(0)
    texts = [torch.randint(1, 9, (length,)).tolist() for length in (2, 3, 4) for _ in range(40)]
    pairs = [(text, text[::-1]) for text in texts]
    model = EncoderDecoder(replace(TINY, d_model=24, d_ff=48, label_smoothing=0.1))
    config = PaperTrainingConfig(num_steps=350, warmup_steps=60, d_model=24, learning_rate=0.7)
    losses = [step.loss for step in train(model, pair_batches(pairs, 40, end=0), config)]
    assert losses[-1] < 0.4 * losses[0]
    reading = model.reading(fill_up(texts))
    written = generate(reading, [[0]] * len(texts), max_new_tokens=6, stop=[0])
    right = [row == [*text[::-1], 0] for row, text in zip(written, texts, strict=True)]
    assert sum(right) > 0.8 * len(right)


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([[1, 17]], [[0]], "source_ids run from 1 to 17, but this model knows 0 to 16"),
        ([[1, 2]], [[-2]], "target_ids run from -2"),
        ([[1, 2], [PADDING, PADDING]], [[0], [0]], "nothing but padding"),
        ([[1, 2], [3, 4]], [[0]], "2 sources but 1 targets"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_pair_is_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        make_model()(torch.tensor(source), torch.tensor(target))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "at least 1, not 0; pass tokenizer.vocab_size"),
        ({"num_layers": 2.0}, TypeError, "whole number, not 2.0; the paper took 6"),
        ({"d_ff": True}, TypeError, "d_ff must be a whole number, not True"),
        ({"num_heads": 5}, ValueError, "not a multiple of num_heads=5"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing is a share from 0 to below 1"),
        ({"label_smoothing": "a tenth"}, TypeError, "such as 0.1, not 'a tenth'; 0.0 turns it off"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_sizes_that_cannot_be_built_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (torch.tensor([[0.5]]), TypeError, "not torch.float32; make one of lists .* fill_up"),
        ([[1, 2]], TypeError, "not list; make one"),
        (torch.tensor([1, 2]), ValueError, r"one text goes in as token_ids\[None\]"),
        (torch.zeros(1, 0, dtype=torch.long), ValueError, r"\(1, 0\) came"),
        (torch.tensor([[17]]), ValueError, "encode with the tokenizer that the model was made for"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_source_is_refused_with_advice(source, error, message):
    with pytest.raises(error, match=message):
        make_model().encode(source)


@pytest.mark.parametrize(
    ("d_model", "error", "message"),
    [
        (0, ValueError, "d_model must be at least 1, not 0; the paper took 512"),
        (64.0, TypeError, "d_model must be a whole number, not 64.0"),
        (True, TypeError, "d_model must be a whole number, not True"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_recipe_needs_a_width_that_a_model_can_have(d_model, error, message):
    with pytest.raises(error, match=message):
        PaperTrainingConfig(d_model=d_model, num_steps=200, warmup_steps=20)
    with pytest.raises(ValueError, match="num_steps"):
        PaperTrainingConfig(num_steps=0)


@pytest.mark.parametrize(
    ("smoothing", "error", "message"),
    [
        (1.0, ValueError, "smoothing is a share from 0 to below 1, not 1.0"),
        (-0.1, ValueError, "not -0.1; 0.1 is usual"),
        (math.nan, ValueError, "not nan"),
        ("0.1", TypeError, "smoothing is a share such as 0.1, not '0.1'"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_share_of_a_target_is_refused(smoothing, error, message):
    with pytest.raises(error, match=message):
        smoothed_cross_entropy(torch.zeros(1, 1, 4), torch.tensor([[2]]), smoothing)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) is scored: all are -100; give"):
        smoothed_cross_entropy(torch.zeros(2, 3, 4), torch.full((2, 3), IGNORED), 0.1)


# --- pairs --------------------------------------------------------------------------------------


def test_no_value_that_is_tested_is_trained_on():
    for kind in ("dates", "durations", "quantities"):
        pairs = list(islice(cldr_pairs(kind), 20_000))
        train_pairs, test_pairs = split_by_value(pairs)
        assert sorted(train_pairs + test_pairs) == sorted(pairs)
        seen, unseen = (
            {value_of(english) for english, _ in rows} for rows in (train_pairs, test_pairs)
        )
        assert not seen & unseen
        assert 0.07 < len(unseen) / len(seen | unseen) < 0.13
        assert split_by_value(pairs, seed=1)[1] != test_pairs


@pytest.mark.parametrize(
    ("english", "value"),
    [
        ("Tuesday, May 4, 1920", ("May", "4", "1920")),
        ("Sept 9, 2001", ("Sep", "9", "2001")),
        ("3 days, 12 hours", ("3", "12")),
        ("0.5 liters per 100 kilometers", ("0.5",)),
        ("1 milligram per deciliter", ("1",)),
    ],
)
def test_the_value_is_what_a_text_says(english, value):
    assert value_of(english) == value


def test_translate_gives_what_generate_writes():
    model = make_model(vocab_size=257)
    tokenizer = Tokenizer([bytes([i]) for i in range(256)], PAIR_PATTERN, {END_OF_TEXT: 256})
    texts = ["a b", "xyz", "a b"]
    found = translate(model, tokenizer, texts, max_new_tokens=5, batch_size=2)
    assert found[0] == found[2]
    reading = model.reading(torch.tensor([tokenizer.encode("xyz")]))
    [row] = generate(reading, [[256]], max_new_tokens=5, stop=[256])
    assert found[1] == tokenizer.decode([i for i in row if i != 256])
    with pytest.raises(ValueError, match="text 1 is empty"):
        translate(model, tokenizer, ["a", ""])
    with pytest.raises(TypeError, match="a list of texts, not 'xyz'; put it into a list"):
        translate(model, tokenizer, "xyz")
