"""What chapter 12 promises about turning a model's scores into text."""

import itertools
import math
from collections import Counter
from functools import partial

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gptbook.generation import (
    Sampling,
    _draw,
    beam_search,
    generate,
    min_p,
    no_repeat_ngrams,
    repetition_penalty,
    speculate,
    stream,
    stream_text,
    temperature,
    top_k,
    top_p,
)
from gptbook.model import GPT, GPT2Config, ModernConfig

VOCAB_SIZE = 23
seeds = st.integers(min_value=0, max_value=2**32 - 1)
prompts = st.lists(
    st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=7), min_size=1, max_size=4
)


class History(nn.Module):
    """A five-line model whose scores depend on every token so far, and on their order."""

    def __init__(self, vocab_size: int = 4, seed: int = 0, sharpness: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = sharpness * torch.randn(13, vocab_size, dtype=torch.float64)

    def forward(self, token_ids: Tensor) -> Tensor:
        place = torch.arange(1, token_ids.shape[1] + 1)
        return self.table[(place * (token_ids + 1)).cumsum(dim=1) % 13]


class Silent(nn.Module):
    """A model that rules every token out, or knows none."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, token_ids: Tensor) -> Tensor:
        return torch.full((*token_ids.shape, 3), self.logit)


def make_model(seed: int = 0, config: type = GPT2Config, **sizes) -> GPT:
    """A small GPT in float64 whose weights are large enough to disagree with itself."""
    torch.manual_seed(seed)
    usual = {"vocab_size": VOCAB_SIZE, "context_length": 32, "d_model": 16, "num_heads": 2}
    model = GPT(config(**usual | {"num_layers": 2} | sizes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def without_cache(model: GPT):
    """The same model, as something that cannot remember."""
    return lambda token_ids: model(token_ids)


def make_pair(seed: int = 0, **sizes) -> tuple[GPT, GPT2LMHeadModel]:
    """Our model, and transformers' with the same weights."""
    ours = make_model(seed, **sizes)
    theirs = GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCAB_SIZE,
            n_positions=ours.context_length,
            n_embd=16,
            n_head=2,
            n_layer=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    translation = {
        "token_embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "blocks": "transformer.h",
        "attention_norm": "ln_1",
        "feed_forward_norm": "ln_2",
        "query_key_value": "c_attn",
        "attention": "attn",
        "output": "c_proj",
        "feed_forward": "mlp",
        "expand": "c_fc",
        "contract": "c_proj",
        "final_norm": "transformer.ln_f",
    }
    with torch.no_grad():
        for name, parameter in ours.double().named_parameters():
            theirs_name = ".".join(translation.get(part, part) for part in name.split("."))
            is_linear = parameter.dim() == 2 and "blocks" in name
            theirs.double().get_parameter(theirs_name).copy_(
                parameter.T if is_linear else parameter
            )
    return ours, theirs.eval()


def theirs_generate(model: GPT2LMHeadModel, prompt: list[int], **options) -> list[list[int]]:
    """The new tokens that transformers writes, without the padding behind a stop token."""
    token_ids = torch.tensor([prompt])
    options = {"do_sample": False, "pad_token_id": VOCAB_SIZE} | options
    config = transformers.GenerationConfig(**options)
    mask = torch.ones_like(token_ids)
    rows = model.generate(token_ids, attention_mask=mask, generation_config=config)
    written = rows[:, len(prompt) :].tolist()
    return [[token_id for token_id in row if token_id != VOCAB_SIZE] for row in written]


def chi_squared_bound(num_cells: int) -> float:
    """What chi squared exceeds once in ten thousand times (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * (num_cells - 1))
    return (num_cells - 1) * (1 - spread + 3.719 * math.sqrt(spread)) ** 3


def assert_drawn_from(samples: list[tuple[int, ...]], model: nn.Module, prompt, sampling) -> None:
    """Compare how often each whole sequence came with its exact probability."""
    counts, length = Counter(samples), len(samples[0])
    vocab_size, chi_squared, num_cells = model.table.shape[1], 0.0, 0
    for sequence in itertools.product(range(vocab_size), repeat=length):
        token_ids = torch.tensor([[*prompt, *sequence]])
        logits = sampling(model(token_ids)[0, len(prompt) - 1 : -1])
        probability = logits.softmax(-1)[range(length), list(sequence)].prod().item()
        expected = probability * len(samples)
        if not probability:
            assert counts[sequence] == 0
            continue
        chi_squared += (counts[sequence] - expected) ** 2 / expected
        num_cells += 1
    assert chi_squared < chi_squared_bound(num_cells)


# --- filters ------------------------------------------------------------------------------------

# integers make ties, and -inf is what an earlier filter leaves
scores = st.lists(
    st.one_of(st.floats(-20, 20), st.integers(-3, 3).map(float), st.just(-math.inf)),
    min_size=2,
    max_size=12,
).filter(lambda row: any(score > -math.inf for score in row))


@given(row=scores, k=st.integers(1, 15), p=st.floats(0.01, 1), heat=st.floats(0.1, 5))
def test_filters_give_what_those_of_transformers_give(row, k, p, heat):
    logits = torch.tensor([row, row[::-1]], dtype=torch.float64)
    before = logits.clone()
    for ours, theirs in (
        (temperature(logits, heat), TemperatureLogitsWarper(heat)),
        (top_k(logits, k), TopKLogitsWarper(k)),
        (top_p(logits, p), TopPLogitsWarper(p)),
        (min_p(logits, p), MinPLogitsWarper(p)),
    ):
        torch.testing.assert_close(ours, theirs(None, logits), rtol=0, atol=0)
    sampling = Sampling(temperature=heat, top_k=k, top_p=p, min_p=p)
    chain = LogitsProcessorList([
        TemperatureLogitsWarper(heat),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(p),
    ])
    torch.testing.assert_close(sampling(logits), chain(None, logits), rtol=0, atol=0)
    assert torch.equal(logits, before)


@given(
    text=st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=3),
    num_tokens=st.integers(1, 9),
    size=st.integers(1, 4),
    penalty=st.floats(0.5, 3),
    seed=seeds,
)
def test_rules_against_repetition_give_what_those_of_transformers_give(
    text, num_tokens, size, penalty, seed
):
    torch.manual_seed(seed)
    token_ids = torch.tensor(text)[:, :num_tokens]
    logits = torch.randn(len(text), 4, dtype=torch.float64)
    before = logits.clone()
    theirs = NoRepeatNGramLogitsProcessor(size)(token_ids, logits)
    assert torch.equal(no_repeat_ngrams(logits, token_ids, size), theirs)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(token_ids, logits)
    assert torch.equal(repetition_penalty(logits, token_ids, penalty), theirs)
    assert torch.equal(logits, before)


@given(row=scores, p=st.floats(0.01, 1))
def test_top_p_keeps_enough_and_no_more(row, p):
    logits = torch.tensor(row, dtype=torch.float64)
    probabilities, kept = logits.softmax(-1), top_p(logits, p) > -math.inf
    shares = probabilities[kept]
    assert kept.any()
    assert shares.sum() >= p - 1e-9
    assert shares.numel() == 1 or shares.sum() - shares.min() < p + 1e-9
    assert not (~kept).any() or shares.min() >= probabilities[~kept].max()


def test_each_cut_keeps_what_its_name_says():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert (top_k(logits, 2) > -math.inf).tolist() == [True, True, False, False]
    assert (top_p(logits, 0.65) > -math.inf).tolist() == [True, True, False, False]
    assert (min_p(logits, 0.45) > -math.inf).tolist() == [True, True, True, False]
    assert (top_p(logits, 1e-9) > -math.inf).tolist() == [True, False, False, False]
    assert torch.equal(top_k(logits, 99), logits)
    assert torch.equal(top_p(logits, 1.0), logits)
    assert torch.equal(min_p(logits, 0.0), logits)
    assert (min_p(logits, 1.0) > -math.inf).sum() == 1


def test_the_cuts_see_the_distribution_that_temperature_made():
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    kept = {heat: Sampling(temperature=heat, top_p=0.85)(logits) > -math.inf for heat in (1.0, 4.0)}
    assert kept[1.0].tolist() == [True, True, False]
    assert kept[4.0].tolist() == [True, True, True]
    kept = {heat: Sampling(temperature=heat, min_p=0.3)(logits) > -math.inf for heat in (1.0, 4.0)}
    assert kept[1.0].tolist() == [True, True, False]
    assert kept[4.0].tolist() == [True, True, True]
    cut_twice = Sampling(top_k=2, top_p=0.95)(logits)  # two thirds and one third are left
    assert (cut_twice > -math.inf).tolist() == [True, True, False]
    assert (Sampling(top_k=2, top_p=0.65)(logits) > -math.inf).tolist() == [True, False, False]


def test_tokens_as_probable_as_the_last_one_kept_stay():
    logits = torch.tensor([1.0, 2.0, 1.0, 0.0])
    assert top_k(logits, 2).tolist() == [1.0, 2.0, 1.0, -math.inf]
    assert min_p(torch.zeros(3), 1.0).tolist() == [0.0, 0.0, 0.0]


# --- the most probable token --------------------------------------------------------------------


@settings(max_examples=12)
@given(seed=st.integers(0, 99), batch=prompts)
def test_greedy_gives_token_for_token_what_transformers_generate_gives(seed, batch):
    ours, theirs = make_pair(seed)
    written = generate(ours, batch, max_new_tokens=12)
    assert written == [theirs_generate(theirs, prompt, max_new_tokens=12)[0] for prompt in batch]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    batch=prompts,
    size=st.integers(1, 3),
    penalty=st.floats(1.05, 2),
    stop=st.sets(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=4),
)
def test_rules_and_stops_give_what_transformers_generate_gives(seed, batch, size, penalty, stop):
    ours, theirs = make_pair(seed)
    rules = [partial(repetition_penalty, penalty=penalty), partial(no_repeat_ngrams, size=size)]
    written = generate(ours, batch, max_new_tokens=12, rules=rules, stop=stop)
    options = {
        "max_new_tokens": 12,
        "no_repeat_ngram_size": size,
        "repetition_penalty": penalty,
        "eos_token_id": list(stop),
    }
    assert written == [theirs_generate(theirs, prompt, **options)[0] for prompt in batch]


@pytest.mark.parametrize("heat", [0.1, 0.7, 5.0])
def test_in_transformers_a_temperature_without_sampling_does_nothing(heat):
    _, theirs = make_pair()
    plain = theirs_generate(theirs, [1, 2, 3], max_new_tokens=20)
    assert theirs_generate(theirs, [1, 2, 3], max_new_tokens=20, temperature=heat) == plain
    options = {"max_new_tokens": 20, "temperature": heat, "do_sample": True}
    drawn = [theirs_generate(theirs, [1, 2, 3], **options) for _ in range(3)]
    assert any(row != plain for row in drawn)


def test_a_temperature_without_sampling_cannot_be_asked_for():
    with pytest.raises(TypeError, match="temperature"):
        generate(History(), [[0]], max_new_tokens=1, temperature=0.7)  # type: ignore[call-arg]


def test_of_equally_probable_tokens_the_first_is_taken():
    assert generate(Silent(0.0), [[2]], max_new_tokens=2) == [[0, 0]]


# --- with a cache and without, alone and in company ---------------------------------------------


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    batch=prompts,
    drawn=st.booleans(),
    num_sequences=st.integers(1, 2),
    composition=st.sampled_from([GPT2Config, ModernConfig]),
    stop=st.sets(st.integers(0, VOCAB_SIZE - 1), max_size=6),
)
def test_a_row_gets_what_it_gets_alone_and_without_cache(
    seed, batch, drawn, num_sequences, composition, stop
):
    model = make_model(seed, composition, num_layers=1)
    sampling = Sampling(temperature=1.3, top_k=9) if drawn else None
    num_sequences = num_sequences if drawn else 1
    options = {"max_new_tokens": 6, "sampling": sampling, "stop": stop}
    together = generate(model, batch, num_sequences=num_sequences, seed=seed, **options)
    assert len(together) == len(batch) * num_sequences
    for row, new in enumerate(together):
        prompt = [batch[row // num_sequences]]
        assert generate(model, prompt, seed=seed + row, **options) == [new]
        assert generate(without_cache(model), prompt, seed=seed + row, **options) == [new]
        assert 1 <= len(new) <= 6
        assert not stop.intersection(new[:-1])
        assert len(new) == 6 or new[-1] in stop


def test_with_a_cache_every_token_is_read_once():
    model, read = make_model(), []
    model.token_embedding.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape))
    generate(model, [[1, 2, 3], [1, 2, 3, 4, 5]], max_new_tokens=4)
    assert read == [(2, 3), *[(2, 1)] * 3, *[(1, 1)] * 2]  # until the first row is at its end
    read.clear()
    generate(model, [[1, 2, 3]], max_new_tokens=3, num_sequences=5, sampling=Sampling())
    assert read == [(1, 3), (5, 1), (5, 1)]  # the prompt once, for all five


def test_the_head_scores_only_the_last_token_of_a_prompt():
    model, scored = make_model(), []
    model.head.register_forward_hook(lambda _, inputs, __: scored.append(inputs[0].shape[1]))
    generate(model, [[1, 2, 3, 4]], max_new_tokens=3)
    assert scored == [1, 1, 1]


def test_finished_rows_are_no_longer_fed():
    read = []

    def counts_up(token_ids):
        read.append(len(token_ids))
        return nn.functional.one_hot((token_ids + 1) % 9, 9).float()

    starts = [[7], [6], [5], [0]]
    assert generate(counts_up, starts, max_new_tokens=9, stop=[8]) == [
        [8],
        [7, 8],
        [6, 7, 8],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ]
    assert read == [4, 3, 2, 1, 1, 1, 1, 1]


def test_a_longer_text_begins_like_a_shorter_one():
    model = make_model()
    options = {"sampling": Sampling(), "num_sequences": 3, "seed": 5}
    short = generate(model, [[1, 2]], max_new_tokens=5, **options)
    long = generate(model, [[1, 2]], max_new_tokens=25, **options)
    assert [row[:5] for row in long] == short
    assert short == generate(model, [[1, 2]], max_new_tokens=5, **options)
    assert short != generate(model, [[1, 2]], max_new_tokens=5, **options | {"seed": 50})


def test_a_rule_sees_the_tokens_of_each_sequence():
    model, rule = make_model(), partial(repetition_penalty, penalty=3.0)
    options = {"max_new_tokens": 6, "sampling": Sampling(temperature=2.0), "rules": [rule]}
    together = generate(model, [[1, 2], [3, 4, 5]], num_sequences=2, **options)
    alone = [[1, 2], [1, 2], [3, 4, 5], [3, 4, 5]]
    for row, prompt in enumerate(alone):
        assert generate(model, [prompt], seed=row, **options) == [together[row]]
    assert together[0] != together[1]


# --- drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.6), Sampling(top_k=2), Sampling(top_p=0.8)]
)
def test_whole_sequences_are_drawn_from_the_models_distribution(sampling):
    model = History()
    rows = generate(
        model, [[1, 2]], max_new_tokens=3, sampling=sampling, num_sequences=6000, seed=3
    )
    assert_drawn_from([tuple(row) for row in rows], model, [1, 2], sampling)


def test_a_token_that_is_ruled_out_is_never_drawn():
    logits = torch.full((1000,), -math.inf)
    logits[[3, 500]] = torch.tensor([0.0, -20.0])
    drawn = generate(
        lambda ids: logits.expand(*ids.shape, 1000),
        [[0]],
        max_new_tokens=4,
        sampling=Sampling(),
        num_sequences=2000,
    )
    assert {token_id for row in drawn for token_id in row} <= {3, 500}


def test_at_the_edge_of_a_stretch_the_token_behind_it_is_drawn():
    weights = torch.tensor([[0.0, 0.5, 0.0, 0.5]] * 3)
    assert _draw(weights, torch.tensor([0.0, 0.5, 1 - 2**-24])).tolist() == [1, 3, 3]
    assert _draw(torch.zeros(1, 3), torch.zeros(1)).tolist() == [-1]


# --- where a text ends --------------------------------------------------------------------------


def counts_to_nine(token_ids: Tensor) -> Tensor:
    return nn.functional.one_hot((token_ids + 1) % 10, 10).double()


def test_a_stop_in_the_prompt_stops_nothing():
    assert generate(counts_to_nine, [[4, 2]], max_new_tokens=9, stop=[4]) == [[3, 4]]
    assert generate(counts_to_nine, [[4], [3, 4, 2]], max_new_tokens=4, stop=[4]) == [
        [5, 6, 7, 8],
        [3, 4],
    ]


def test_a_sequence_stops_where_it_is_whole_and_new():
    assert generate(counts_to_nine, [[1]], max_new_tokens=9, stop=[(3, 4), [9]]) == [[2, 3, 4]]
    assert generate(counts_to_nine, [[3]], max_new_tokens=3, stop=[(3, 4)]) == [[4, 5, 6]]


def test_a_stream_gives_the_tokens_of_generate_as_they_come():
    calls = []

    def counts(token_ids):
        calls.append(token_ids.shape[1])
        return counts_to_nine(token_ids)

    tokens = stream(counts, [1], max_new_tokens=9, stop=[4])
    assert not calls
    assert (next(tokens), len(calls)) == (2, 1)
    assert list(tokens) == [3, 4]
    model = make_model()
    options = {"max_new_tokens": 20, "sampling": Sampling(), "seed": 7}
    assert list(stream(model, [1, 2], **options)) == generate(model, [[1, 2]], **options)[0]


def test_a_stream_leaves_gradients_on_between_its_tokens():
    for _ in stream(make_model(), [1], max_new_tokens=2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


@given(data=st.data(), text=st.one_of(st.text().map(str.encode), st.binary()))
def test_streamed_pieces_are_the_text_however_its_bytes_are_cut(data, text):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    tokens = [text[i:j] for i, j in itertools.pairwise([0, *cuts, len(text)])]
    pieces = list(stream_text(range(len(tokens)), tokens.__getitem__))
    assert "".join(pieces) == text.decode("utf-8", errors="replace")
    assert all(pieces)


def test_half_a_character_waits_for_its_other_half():
    tokens = ["球".encode()[:1], "球".encode()[1:] + b"!"]
    pieces = stream_text([0, 1], tokens.__getitem__)
    assert list(pieces) == ["球!"]


# --- beams --------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    prompt=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=7),
    num_beams=st.integers(2, 6),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]),
    early_stopping=st.sampled_from([False, True, "never"]),
    stop=st.sets(st.integers(0, VOCAB_SIZE - 1), max_size=5),
    rule=st.sampled_from([None, "ngrams", "penalty"]),
)
def test_beams_are_those_of_transformers(
    seed, prompt, num_beams, length_penalty, early_stopping, stop, rule
):
    ours, theirs = make_pair(seed)
    options = {
        "max_new_tokens": 9,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }
    rules = {
        None: [],
        "ngrams": [partial(no_repeat_ngrams, size=2)],
        "penalty": [partial(repetition_penalty, penalty=1.3)],
    }
    for model in (ours, without_cache(ours)):
        beams = beam_search(model, prompt, stop=stop, rules=rules[rule], **options)
        scores = [beam.score(length_penalty) for beam in beams]
        assert scores == sorted(scores, reverse=True)
        expected = theirs_generate(
            theirs,
            prompt,
            num_return_sequences=num_beams,
            eos_token_id=list(stop) or None,
            no_repeat_ngram_size=2 if rule == "ngrams" else 0,
            repetition_penalty=1.3 if rule == "penalty" else 1.0,
            **options,
        )
        assert [beam.token_ids for beam in beams] == expected


@pytest.mark.parametrize("early_stopping", [False, "never"])
def test_beams_stop_when_those_of_transformers_stop(early_stopping):
    """A length penalty of 2 favors long texts, so that it matters when the search gives up."""
    for seed, num_beams in itertools.product(range(10), (2, 3)):
        ours, theirs = make_pair(seed)
        options = {
            "max_new_tokens": 9,
            "num_beams": num_beams,
            "length_penalty": 2.0,
            "early_stopping": early_stopping,
        }
        beams = beam_search(ours, [20, 21], stop=range(6), **options)
        options |= {"eos_token_id": list(range(6)), "num_return_sequences": num_beams}
        assert [beam.token_ids for beam in beams] == theirs_generate(theirs, [20, 21], **options)


def test_beams_enough_find_the_most_probable_text_of_all():
    model, length = History(vocab_size=4, sharpness=2.0), 4
    best = max(
        (sum_of_logs(model, [1], sequence), sequence)
        for sequence in itertools.product(range(4), repeat=length)
    )
    beams = beam_search(model, [1], max_new_tokens=length, num_beams=4 ** (length - 1))
    assert tuple(beams[0].token_ids) == best[1]
    assert beams[0].log_probability == pytest.approx(best[0])
    greedy = beam_search(model, [1], max_new_tokens=length, num_beams=1)
    assert [greedy[0].token_ids] == generate(model, [[1]], max_new_tokens=length)


def sum_of_logs(model, prompt, sequence) -> float:
    logits = model(torch.tensor([[*prompt, *sequence]]))[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(sequence)), list(sequence)].sum().item()


def test_more_beams_than_tokens_are_no_trouble():
    model = History(vocab_size=3)
    beams = beam_search(model, [0], max_new_tokens=2, num_beams=50)
    assert len(beams) == 9
    assert len({tuple(beam.token_ids) for beam in beams}) == 9


# --- speculation --------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")  # they would take most of the time
@pytest.mark.parametrize(
    ("sampling", "num_draft"),
    [(Sampling(), 1), (Sampling(), 3), (Sampling(temperature=0.7, top_k=3), 2)],
)
def test_speculation_has_the_distribution_of_the_large_model_alone(sampling, num_draft):
    large, small = History(seed=0), History(seed=1)
    options = {"max_new_tokens": 3, "num_draft": num_draft, "sampling": sampling}
    results = [speculate(large, small, [1, 2], seed=seed, **options) for seed in range(1500)]
    assert_drawn_from([tuple(result.token_ids) for result in results], large, [1, 2], sampling)
    proposed = sum(result.num_proposed for result in results)
    accepted = sum(result.num_accepted for result in results)
    assert 0.2 < accepted / proposed < 0.9


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    prompt=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=7),
    num_draft=st.integers(1, 6),
    cached=st.booleans(),
    stop=st.sets(st.integers(0, VOCAB_SIZE - 1), max_size=4),
)
def test_greedy_speculation_writes_what_the_large_model_writes(
    seed, prompt, num_draft, cached, stop
):
    large = make_model(seed, num_layers=1)
    small = make_model(
        seed, num_layers=1
    )  # nearly the same, so that some guesses are right and some wrong
    with torch.no_grad():
        small.final_norm.weight.add_(0.5 * torch.randn(16))
    models = (large, small) if cached else (without_cache(large), without_cache(small))
    result = speculate(*models, prompt, max_new_tokens=15, num_draft=num_draft, stop=stop)
    assert [result.token_ids] == generate(large, [prompt], max_new_tokens=15, stop=stop)
    assert result.num_accepted <= result.num_proposed
    assert result.num_calls <= len(result.token_ids)


def test_sampled_speculation_is_the_same_with_a_cache_and_without():
    large, small = make_model(0), make_model(1)
    options = {"max_new_tokens": 20, "sampling": Sampling(temperature=2.0), "seed": 4}
    cached = speculate(large, small, [1, 2, 3], **options)
    assert cached == speculate(without_cache(large), without_cache(small), [1, 2, 3], **options)
    assert 0 < cached.num_accepted < cached.num_proposed


def test_a_draft_that_is_the_model_is_always_right():
    model = make_model()
    result = speculate(model, model, [1], max_new_tokens=20, num_draft=4, sampling=Sampling())
    assert (result.num_proposed, result.num_accepted, result.num_calls) == (16, 16, 4)


# --- the edge of the context --------------------------------------------------------------------


@pytest.mark.parametrize("num_tokens", [1, 5, 8, 11])
@pytest.mark.parametrize("composition", [GPT2Config, ModernConfig])
def test_a_sliding_window_reads_the_last_tokens_and_no_others(num_tokens, composition):
    model = make_model(context_length=8, config=composition)
    prompt = [(7 * i) % VOCAB_SIZE for i in range(num_tokens)]
    text = list(prompt)
    for _ in range(12):
        text.append(model(torch.tensor([text[-8:]]))[0, -1].argmax().item())
    assert generate(model, [prompt], max_new_tokens=12, window="slide") == [text[num_tokens:]]
    company = generate(model, [prompt, [3, 4, 5]], max_new_tokens=12, window="slide")
    assert company[0] == text[num_tokens:]


def test_a_context_may_be_filled_to_the_last_token():
    model = make_model(context_length=8)
    assert len(generate(model, [[1, 2, 3]], max_new_tokens=6)[0]) == 6  # the sixth is not read
    assert len(beam_search(model, [1, 2, 3], max_new_tokens=6, num_beams=2)[0].token_ids) == 6
    assert len(speculate(model, model, [1, 2, 3], max_new_tokens=6).token_ids) == 6


@pytest.mark.parametrize("how", [generate, stream, beam_search, speculate])
@pytest.mark.parametrize(
    ("num_tokens", "num_new", "message"),
    [
        (3, 7, "3 tokens and 7 new ones do not fit in context_length=8; ask for at most 6 new"),
        (8, 2, "ask for at most 1 new ones"),
        (9, 1, "9 tokens and 1 new ones do not fit .*; cut the prompt yourself, or let the oldest"),
    ],
)
def test_what_does_not_fit_is_refused(how, num_tokens, num_new, message):
    model, prompt = make_model(context_length=8), [0] * num_tokens
    first = {
        generate: [[prompt]],
        stream: [prompt],
        beam_search: [prompt],
        speculate: [make_model(), prompt],
    }
    options = {"num_beams": 2} if how is beam_search else {}
    with pytest.raises(ValueError, match=message):
        how(model, *first[how], max_new_tokens=num_new, **options)


def test_a_draft_with_a_shorter_context_is_refused_too():
    with pytest.raises(ValueError, match="context_length=8; ask for at most 6"):
        speculate(make_model(), make_model(context_length=8), [1, 2, 3], max_new_tokens=7)


# --- what generation leaves alone ---------------------------------------------------------------


def test_dropout_is_off_while_generating_and_on_again_afterwards():
    model = make_model(dropout=0.5)
    expected = generate(model, [[1, 2]], max_new_tokens=8)
    model.train()
    model.blocks[0].eval()
    assert generate(model, [[1, 2]], max_new_tokens=8) == expected
    assert list(stream(model, [1, 2], max_new_tokens=8)) == expected[0]
    assert model.training
    assert not model.blocks[0].training
    with pytest.raises(ValueError, match="nothing is left"):
        generate(model, [[1, 2]], max_new_tokens=8, rules=[lambda logits, _: logits - math.inf])
    assert model.training


def test_generation_leaves_no_gradient_and_changes_no_weight():
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generate(model, [[1, 2]], max_new_tokens=4, sampling=Sampling())
    beam_search(model, [1, 2], max_new_tokens=4, num_beams=2)
    speculate(model, model, [1, 2], max_new_tokens=4)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.loss(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()


def test_the_global_random_numbers_are_left_alone():
    model = History()
    before = torch.get_rng_state()
    generate(model, [[1]], max_new_tokens=4, sampling=Sampling())
    speculate(model, model, [1], max_new_tokens=4, sampling=Sampling())
    assert torch.equal(torch.get_rng_state(), before)


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "above 0 .*, not 0; for the most probable .* sampling=No"),
        ({"temperature": -1.0}, ValueError, "temperature must be above 0 and finite, not -1.0"),
        ({"temperature": math.nan}, ValueError, "not nan"),
        ({"temperature": math.inf}, ValueError, "not inf"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, not 'hot'"),
        ({"temperature": True}, TypeError, "temperature must be a number, not True"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, not 0"),
        ({"top_k": 2.5}, TypeError, r"top_k must be a whole number, not 2\.5"),
        ({"top_p": 0}, ValueError, "top_p must be above 0 and at most 1, not 0"),
        ({"top_p": 90}, ValueError, "top_p must be above 0 and at most 1, not 90"),
        ({"top_p": math.nan}, ValueError, "top_p must be above 0 and at most 1, not nan"),
        ({"min_p": -0.1}, ValueError, "min_p must be from 0 to 1, not -0.1"),
        ({"min_p": 1.5}, ValueError, "min_p must be from 0 to 1, not 1.5; 0 keeps every token"),
    ],
)
def test_sampling_that_cannot_be_is_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        Sampling(**options)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([], ValueError, "no prompt came; pass at least one"),
        ([[1], []], ValueError, "prompt 1 is empty, .*; begin with the end-of-text token"),
        ([[1], [VOCAB_SIZE]], ValueError, "prompt 1 holds the id 23, but the model knows 0 to 22"),
        ([[-1]], ValueError, "prompt 0 holds the id -1"),
        ([1, 2], TypeError, "prompt 0 must be a list of token ids, not 1; .* a list of lists"),
        ("Mia", TypeError, "prompts are lists of token ids, not 'Mia'; encode the text first"),
        (["Mia"], TypeError, "prompt 0 must be a list of token ids, not 'Mia'"),
        ([[1.5]], TypeError, r"a token id in prompt 0 must be a whole number, not 1\.5"),
        ([[True]], TypeError, "a token id in prompt 0 must be a whole number, not True"),
        (7, TypeError, "prompts are lists of token ids, not 7"),
    ],
)
def test_prompts_that_are_none_are_refused(batch, error, message):
    with pytest.raises(error, match=message):
        generate(make_model(), batch, max_new_tokens=1)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1, not 0"),
        ({"max_new_tokens": 2.0}, TypeError, r"max_new_tokens must be a whole number, not 2\.0"),
        ({"num_sequences": 3}, ValueError, "would all be the same; pass sampling=Sampling()"),
        ({"num_sequences": 0}, ValueError, "num_sequences must be at least 1, not 0"),
        ({"sampling": 0.7}, TypeError, r"sampling must be None, .*\(temperature=0.7\), not 0\.7"),
        ({"stop": 3}, TypeError, r"stop takes several token ids, such as \[3\], not 3 itself"),
        ({"stop": "."}, TypeError, "stop takes several token ids"),
        ({"stop": [[]]}, ValueError, "a stop sequence is empty"),
        ({"stop": ["."]}, TypeError, "stop must be a list of token ids, not '.'"),
        ({"seed": 0.5}, TypeError, r"seed must be a whole number, not 0\.5"),
        ({"window": "left"}, ValueError, "window is None or 'slide', not 'left'"),
        ({"rules": [partial(no_repeat_ngrams, size=0)]}, ValueError, "n-gram must be at least 1"),
        ({"rules": [partial(repetition_penalty, penalty=0)]}, ValueError, "1.0 changes nothing"),
    ],
)
def test_options_that_cannot_be_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        generate(make_model(), [[1]], **{"max_new_tokens": 1} | options)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beams": 0}, ValueError, "num_beams must be at least 1, not 0"),
        ({"length_penalty": None}, TypeError, "length_penalty must be a number, not None"),
        ({"early_stopping": "yes"}, ValueError, "True, False or 'never', not 'yes'"),
        ({"stop": [[1, 2]]}, ValueError, r"stop at single tokens only, not at \[1, 2\]; use gen"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1, not 0"),
    ],
)
def test_beams_that_cannot_be_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        beam_search(make_model(), [1], **{"max_new_tokens": 1, "num_beams": 2} | options)


@pytest.mark.parametrize("logit", [-math.inf, math.nan])
@pytest.mark.parametrize("sampling", [None, Sampling(), Sampling(top_p=0.5, top_k=2, min_p=0.1)])
def test_where_nothing_is_left_to_choose_it_is_said(logit, sampling):
    message = "nothing is left to choose for row 0 after 0 new tokens: every logit is -inf"
    with pytest.raises(ValueError, match=message):
        generate(Silent(logit), [[1], [2]], max_new_tokens=2, sampling=sampling)
    with pytest.raises(ValueError, match="nothing is left to choose for the text"):
        speculate(Silent(logit), Silent(logit), [1], max_new_tokens=2, sampling=sampling)


def test_rules_that_leave_nothing_say_so_and_spare_prompts():
    rules = [partial(no_repeat_ngrams, size=1)]
    with pytest.raises(ValueError, match=r"row 0 after 3 new tokens: .* loosen the rules"):
        generate(History(vocab_size=4), [[0]], max_new_tokens=9, rules=rules)
    with pytest.raises(ValueError, match="every beam after 3 new tokens"):
        beam_search(History(vocab_size=4), [0], max_new_tokens=9, num_beams=2, rules=rules)
    model = History(vocab_size=4)  # the long prompt uses every token up, the short one does not
    with pytest.raises(ValueError, match="row 1 after 0 new tokens"):
        generate(model, [[0], [0, 1, 2, 3, 0]], max_new_tokens=3, rules=rules)


def test_a_row_at_its_end_need_not_have_a_choice():
    def end_for_good(logits, token_ids):
        is_over = (token_ids == 9).any(dim=1, keepdim=True)
        return logits.masked_fill(is_over, -math.inf)

    batch = [[8], [1], [2], [3], [4]]
    written = generate(counts_to_nine, batch, max_new_tokens=3, stop=[9], rules=[end_for_good])
    assert written == [[9], [2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 7]]


def test_half_precision_is_judged_in_single():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    seen = []

    def listen(logits):
        seen.append(logits.dtype)
        return top_p(logits, 0.9)

    generate(lambda ids: logits.expand(*ids.shape, 1000), [[0]], max_new_tokens=1, sampling=listen)
    assert seen == [torch.float32]


@pytest.mark.usefixtures("without_shape_checks")
def test_speculation_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="draft knows 5 tokens and the model 4; choose two models"):
        speculate(History(4), History(5), [1], max_new_tokens=4)
    with pytest.raises(ValueError, match="num_draft must be at least 1, not 0"):
        speculate(History(), History(), [1], max_new_tokens=4, num_draft=0)
    with pytest.raises(TypeError, match=r"sampling must be None, .* not 0\.7"):
        speculate(History(), History(), [1], max_new_tokens=4, sampling=0.7)
    with pytest.raises(TypeError, match="seed must be a whole number"):
        speculate(History(), History(), [1], max_new_tokens=4, seed="x")
