"""What chapter 4 promises about positions."""

import copy
import io
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CohereConfig, GPT2Config, GPT2Model, LlamaConfig
from transformers.models.bloom import modeling_bloom
from transformers.models.cohere import modeling_cohere
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama

from gptbook.attention import CausalSelfAttention, attention_weights
from gptbook.positional import (
    AlibiBias,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    alibi_slopes,
    pairing_permutation,
    shift_matrix,
    sinusoidal_positions,
)

PAIRINGS = ["halves", "neighbors"]

seeds = st.integers(min_value=0, max_value=2**32 - 1)
even_widths = st.integers(1, 16).map(lambda pairs: 2 * pairs)
positions = st.integers(0, 5_000)
bases = st.sampled_from([2.0, 100.0, 10_000.0, 1e6])


def exact(first_position, d_model, base=10_000.0, num_positions=1):
    """One position or more, without rounding to float32."""
    return sinusoidal_positions(
        num_positions, d_model, base=base, first_position=first_position, dtype=torch.float64
    )


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# Sinusoidal


@given(position=positions, d_model=even_widths, base=bases)
def test_every_channel_is_the_paper_s_formula(position, d_model, base):
    row = exact(position, d_model, base)[0]
    for i in range(d_model // 2):
        angle = position / base ** (2 * i / d_model)
        assert row[2 * i].item() == pytest.approx(math.sin(angle), abs=1e-9)
        assert row[2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-9)


@given(position=positions, d_model=even_widths)
def test_the_positions_are_a_transformer_of_2017_s_up_to_the_order_of_channels(position, d_model):
    theirs = modeling_gptj.create_sinusoidal_positions(position + 1, d_model)[position]
    ours = sinusoidal_positions(1, d_model, first_position=position)[0]
    in_their_order = ours[pairing_permutation(d_model)]  # all sines, then all cosines
    torch.testing.assert_close(in_their_order, theirs, atol=2e-3, rtol=0)  # their angles: float32


@given(first=positions, offset=st.integers(-1_000, 1_000), d_model=even_widths, base=bases)
def test_one_matrix_moves_every_position_by_the_same_offset(first, offset, d_model, base):
    here = max(first, -offset)  # there must be a place to arrive at
    moved = exact(here, d_model, base) @ shift_matrix(
        offset, d_model, base=base, dtype=torch.float64
    )
    torch.testing.assert_close(moved, exact(here + offset, d_model, base), atol=1e-9, rtol=0)


@given(a=st.integers(-500, 500), b=st.integers(-500, 500), d_model=even_widths)
def test_shifts_are_rotations_and_add_up(a, b, d_model):
    first, then = (shift_matrix(offset, d_model, dtype=torch.float64) for offset in (a, b))
    both = shift_matrix(a + b, d_model, dtype=torch.float64)
    torch.testing.assert_close(first @ then, both, atol=1e-9, rtol=0)
    torch.testing.assert_close(first @ first.T, torch.eye(d_model, dtype=torch.float64))


@given(p=positions, q=positions, distance=st.integers(0, 500), d_model=even_widths)
def test_inner_products_know_the_distance_alone(p, q, distance, d_model):
    at_p = (exact(p, d_model) * exact(p + distance, d_model)).sum()
    at_q = (exact(q, d_model) * exact(q + distance, d_model)).sum()
    torch.testing.assert_close(at_p, at_q, atol=1e-9, rtol=0)


def test_a_far_position_is_as_exact_as_a_near_one():
    far = sinusoidal_positions(1, 64, first_position=10_000_000)[0]
    for i in range(32):
        assert far[2 * i].item() == pytest.approx(
            math.sin(10_000_000 * 10_000 ** (-2 * i / 64)), abs=1e-7
        )


# Positions that are added


@pytest.mark.parametrize(
    "layer", [SinusoidalPositions(6), LearnedPositions(40, 6)], ids=["sinusoidal", "learned"]
)
@given(seed=seeds, cut=st.integers(0, 12))
def test_what_is_added_depends_on_the_position_alone(layer, seed, cut):
    layer = copy.deepcopy(layer).double()
    x, y = randn(2, 3, 12, 6, seed=seed)
    torch.testing.assert_close(layer(x) - x, layer(y) - y)
    in_two_parts = [layer(x[:, :cut]), layer(x[:, cut:], first_position=cut)]
    torch.testing.assert_close(torch.cat(in_two_parts, dim=1), layer(x), rtol=0, atol=0)


def test_sinusoidal_positions_are_added_as_they_are():
    table = SinusoidalPositions(8, base=50.0)(torch.zeros(9, 8), first_position=3)
    expected = sinusoidal_positions(9, 8, base=50.0, first_position=3)
    torch.testing.assert_close(table, expected, rtol=0, atol=0)


def test_learned_positions_agree_with_gpt2():
    torch.manual_seed(0)
    gpt2 = GPT2Model(GPT2Config(n_layer=1, n_embd=24, n_head=2, n_positions=32, vocab_size=10))
    gpt2.double().eval()
    ours = LearnedPositions(32, 24).double()
    ours.load_state_dict(gpt2.wpe.state_dict())
    token_ids = torch.randint(10, (2, 32))
    theirs = gpt2(token_ids, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(ours(gpt2.wte(token_ids)), theirs)


def test_gpt2_s_own_table_has_1024_rows_of_768_and_is_trained():
    with torch.device("meta"):
        gpt2 = GPT2Model(GPT2Config())
        ours = LearnedPositions(1_024, 768)
    assert gpt2.wpe.weight.shape == ours.weight.shape == (1_024, 768)
    assert gpt2.wpe.weight.requires_grad
    assert sum(parameter.numel() for parameter in gpt2.parameters()) == 124_439_808


def test_learned_positions_start_small_and_receive_gradients_where_used():
    torch.manual_seed(0)
    layer = LearnedPositions(1_000, 64)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    layer(torch.zeros(2, 3, 64), first_position=5).sum().backward()
    used = layer.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert used.tolist() == [5, 6, 7]


# Rotary


def llama_rotates(x, theta):
    """Llama's own table and rotation; x is (B, H, T, K)."""
    _, num_heads, num_positions, head_dim = x.shape
    config = LlamaConfig(
        hidden_size=num_heads * head_dim,
        num_attention_heads=num_heads,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    table = modeling_llama.LlamaRotaryEmbedding(config)
    cos, sin = table(x, torch.arange(num_positions)[None])
    return modeling_llama.apply_rotary_pos_emb(x, x, cos, sin)[0]


def cohere_rotates(x, theta):
    """Cohere's own table and rotation; x is (B, H, T, K)."""
    _, num_heads, num_positions, head_dim = x.shape
    config = CohereConfig(
        hidden_size=num_heads * head_dim,
        num_attention_heads=num_heads,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    table = modeling_cohere.CohereRotaryEmbedding(config)
    cos, sin = table(x, torch.arange(num_positions)[None])
    return modeling_cohere.apply_rotary_pos_emb(x, x, cos, sin)[0]


@pytest.mark.parametrize(
    ("pairing", "reference"), [("halves", llama_rotates), ("neighbors", cohere_rotates)]
)
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_rotary_agrees_with_transformers(pairing, reference, theta):
    x = randn(2, 3, 40, 16, dtype=torch.float32)
    ours = RotaryPositions(16, theta=theta, pairing=pairing)(x)
    torch.testing.assert_close(ours, reference(x, theta), atol=2e-5, rtol=0)


def test_rotary_agrees_with_llama_s_rotation_in_float64():
    x = randn(2, 3, 30, 8)
    angles = torch.outer(torch.arange(30).double(), 10_000.0 ** (-torch.arange(4).double() / 4))
    table = torch.cat([angles, angles], dim=-1)[None]
    theirs, _ = modeling_llama.apply_rotary_pos_emb(x, x, table.cos(), table.sin())
    torch.testing.assert_close(RotaryPositions(8)(x), theirs)


def test_rotary_agrees_with_gptj_s_rotation_in_float64():
    x = randn(2, 3, 30, 8)
    angles = torch.outer(torch.arange(30).double(), 10_000.0 ** (-torch.arange(4).double() / 4))
    theirs = modeling_gptj.apply_rotary_pos_emb(
        x.transpose(1, 2), angles.sin()[None], angles.cos()[None]
    ).transpose(1, 2)  # GPT-J keeps positions before heads
    torch.testing.assert_close(RotaryPositions(8, pairing="neighbors")(x), theirs)


@pytest.mark.parametrize("pairing", PAIRINGS)
@given(first=positions, head_dim=even_widths, theta=bases, seed=seeds)
def test_rotary_keeps_norms(pairing, first, head_dim, theta, seed):
    x = randn(2, 5, head_dim, seed=seed)
    turned = RotaryPositions(head_dim, theta=theta, pairing=pairing)(x, first)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("pairing", PAIRINGS)
@given(p=positions, q=positions, moved=st.integers(1, 5_000), head_dim=even_widths, seed=seeds)
def test_rotary_scores_know_the_distance_alone(pairing, p, q, moved, head_dim, seed):
    rotary = RotaryPositions(head_dim, pairing=pairing)
    query, key = randn(2, 1, head_dim, seed=seed)
    here = (rotary(query, p) * rotary(key, q)).sum()
    there = (rotary(query, p + moved) * rotary(key, q + moved)).sum()
    torch.testing.assert_close(here, there, atol=1e-9, rtol=0)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_rotary_scores_do_know_the_distance(pairing):
    rotary = RotaryPositions(8, pairing=pairing)
    query, key = randn(2, 1, 8)
    scores = [(rotary(query, 100) * rotary(key, 100 - back)).sum().item() for back in range(20)]
    assert len({round(score, 6) for score in scores}) == 20


@given(head_dim=even_widths, first=positions, seed=seeds)
def test_the_permutation_turns_one_pairing_into_the_other(head_dim, first, seed):
    x, order = randn(3, 7, head_dim, seed=seed), pairing_permutation(head_dim)
    halves = RotaryPositions(head_dim, pairing="halves")
    neighbors = RotaryPositions(head_dim, pairing="neighbors")
    torch.testing.assert_close(halves(x[..., order], first), neighbors(x, first)[..., order])
    torch.testing.assert_close(
        neighbors(x[..., order.argsort()], first), halves(x, first)[..., order.argsort()]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_rotary_keeps_the_dtype_and_rounds_once(pairing, dtype):
    x = randn(4, 32).to(dtype)
    rotary = RotaryPositions(32, pairing=pairing).to(dtype)
    turned = rotary(x, 100_000)
    assert turned.dtype == dtype
    exactly = RotaryPositions(32, pairing=pairing)(x.double(), 100_000)
    one_step = torch.finfo(dtype).eps
    torch.testing.assert_close(turned, exactly.to(dtype), rtol=one_step, atol=1e-6)


# ALiBi


@pytest.mark.parametrize("num_heads", range(1, 41))
def test_alibi_s_slopes_agree_with_bloom(num_heads):
    theirs = modeling_bloom.build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)
    torch.testing.assert_close(alibi_slopes(num_heads), theirs[:, 0, 1])
    assert len(set(alibi_slopes(num_heads).tolist())) == num_heads


@given(num_heads=st.integers(1, 20), num_positions=st.integers(1, 30), seed=seeds)
def test_alibi_s_weights_agree_with_bloom(num_heads, num_positions, seed):
    query, key = randn(2, num_heads, num_positions, 4, seed=seed)
    theirs = modeling_bloom.build_alibi_tensor(
        torch.ones(1, num_positions), num_heads, torch.float64
    )
    bias = AlibiBias(num_heads)(num_positions, num_positions).double()
    torch.testing.assert_close(
        attention_weights(query, key, bias=bias),
        attention_weights(query, key, bias=theirs.expand_as(bias)),
        atol=1e-6,  # slopes are float32 in both
        rtol=0,
    )


@given(num_keys=st.integers(0, 30), data=st.data())
def test_alibi_for_the_last_queries_is_the_end_of_the_whole(num_keys, data):
    num_queries = data.draw(st.integers(0, num_keys))
    bias = AlibiBias(6)
    whole = bias(num_keys, num_keys)
    torch.testing.assert_close(bias(num_queries, num_keys), whole[:, num_keys - num_queries :])


def test_alibi_falls_by_the_slope_with_each_step_to_either_side():
    bias = AlibiBias(4)(5, 5)
    for head, slope in enumerate([1 / 4, 1 / 16, 1 / 64, 1 / 256]):
        assert bias[head, 2].tolist() == [-2 * slope, -slope, 0, -slope, -2 * slope]


def test_alibi_stays_exact_in_a_low_precision_model():
    bias = AlibiBias(12).bfloat16()(3, 300)
    torch.testing.assert_close(bias, AlibiBias(12)(3, 300), rtol=0, atol=0)


# In attention


def attention_with(kind):
    rotary = RotaryPositions(4, pairing=kind) if kind in PAIRINGS else None
    bias = AlibiBias(3) if kind == "alibi" else None
    torch.manual_seed(0)
    return CausalSelfAttention(d_model=12, num_heads=3, rotary=rotary, score_bias=bias).double()


@pytest.mark.parametrize("kind", ["none", *PAIRINGS, "alibi"])
def test_without_positions_the_last_token_sees_only_a_bag_of_words(kind):
    attention, x = attention_with(kind), randn(1, 6, 12)
    y = x[:, [2, 1, 0, 3, 4, 5]]
    same = torch.allclose(attention(x)[:, -1], attention(y)[:, -1], atol=1e-12)
    assert same == (kind == "none")


@pytest.mark.parametrize("kind", [*PAIRINGS, "alibi"])
@given(cuts=st.sets(st.integers(1, 8), max_size=8))
def test_in_pieces_with_a_cache_attention_says_the_same(kind, cuts):
    attention, x = attention_with(kind), randn(2, 9, 12)
    cache, edges = attention.new_cache(2, 9), [0, *sorted(cuts), 9]
    with torch.no_grad():
        parts = [attention(x[:, a:b], cache) for a, b in itertools.pairwise(edges)]
        torch.testing.assert_close(torch.cat(parts, dim=1), attention(x))


# Saving, moving, and the table behind


def test_only_learned_positions_have_something_to_save():
    for layer in (SinusoidalPositions(8), RotaryPositions(8), AlibiBias(8)):
        layer(*((4, 4) if isinstance(layer, AlibiBias) else (torch.zeros(4, 8),)))
        assert not layer.state_dict()
        assert not list(layer.parameters())
    assert list(LearnedPositions(8, 8).state_dict()) == ["weight"]


def test_a_model_with_positions_loads_strictly_whatever_was_computed_before():
    used, fresh = attention_with("halves"), attention_with("halves")
    used(randn(1, 50, 12))
    fresh.load_state_dict(used.state_dict())
    attention_with("alibi").load_state_dict(used.state_dict())


@pytest.mark.parametrize("layer", [SinusoidalPositions(8), RotaryPositions(8)])
def test_a_layer_can_be_copied_and_saved_whole(layer):
    x = randn(5, 8, dtype=torch.float32)
    expected = layer(x)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)
    torch.save(layer.state_dict(), io.BytesIO())


@pytest.mark.parametrize("kind", ["halves", "alibi"])
def test_a_model_made_without_memory_has_its_positions_once_it_gets_some(kind):
    with torch.device("meta"):
        empty = attention_with(kind)
        empty(torch.zeros(1, 4, 12, dtype=torch.float64))
    full, x = attention_with(kind), randn(1, 7, 12)
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(full.state_dict())
    torch.testing.assert_close(empty(x), full(x))


def test_alibi_s_bias_is_made_where_the_module_was_sent():
    bias = AlibiBias(8)
    assert bias.to("meta")(2, 3).device.type == "meta"
    torch.testing.assert_close(bias.to_empty(device="cpu")(2, 3), AlibiBias(8)(2, 3))


@pytest.mark.parametrize("kind", ["halves", "neighbors", "alibi"])
def test_what_was_computed_for_inference_also_serves_training(kind):
    attention = attention_with(kind)
    with torch.inference_mode():
        attention(randn(1, 8, 12))
    attention(randn(1, 8, 12)).sum().backward()
    assert attention.query_key_value.weight.grad is not None


def test_a_token_at_a_time_makes_few_tables():
    layer = RotaryPositions(4)
    tables = set()
    for position in range(1_000):
        layer(torch.ones(1, 4), position)
        tables.add(len(layer._table.known))
    assert len(tables) <= 11


@pytest.mark.parametrize("layer", [SinusoidalPositions(8), RotaryPositions(8)])
def test_a_layer_serves_one_dtype_after_another(layer):
    for dtype in (torch.bfloat16, torch.float64, torch.float16, torch.float64):
        x = randn(6, 8).to(dtype)
        out = layer(x, 3)
        assert out.dtype == dtype
        exactly = copy.deepcopy(layer)(x.double(), 3)
        assert (out.double() - exactly).abs().max().item() <= 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("layer", [SinusoidalPositions(8), RotaryPositions(8)])
def test_no_token_needs_no_position(layer):
    assert layer(torch.zeros(2, 0, 8)).shape == (2, 0, 8)
    assert sinusoidal_positions(0, 8).shape == (0, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_positions_follow_their_vectors_to_an_accelerator():
    for kind in (*PAIRINGS, "alibi"):
        attention, x = attention_with(kind), randn(1, 20, 12)
        expected = attention(x)
        torch.testing.assert_close(attention.cuda()(x.cuda()).cpu(), expected)
        torch.testing.assert_close(attention.cpu()(x), expected)
    layer, x = SinusoidalPositions(12), randn(1, 20, 12)
    torch.testing.assert_close(layer(x.cuda()).cpu(), layer(x))


# Messages


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sinusoidal_positions(4, 7),
            ValueError,
            "d_model=7 is odd, but channels are taken in pairs; use 6 or 8",
        ),
        (
            lambda: sinusoidal_positions(4, 0),
            ValueError,
            "d_model must be at least 2, not 0",
        ),
        (
            lambda: sinusoidal_positions(-1, 8),
            ValueError,
            "num_positions must be at least 0, not -1",
        ),
        (
            lambda: sinusoidal_positions(1, 8, first_position=-3),
            ValueError,
            "first_position must be at least 0, not -3",
        ),
        (
            lambda: sinusoidal_positions(4.0, 8),
            TypeError,
            r"num_positions must be an integer, not the float 4.0; convert it with int\(...\)",
        ),
        (
            lambda: sinusoidal_positions(True, 8),
            TypeError,
            "num_positions must be an integer, not the bool True",
        ),
        (
            lambda: sinusoidal_positions(4, 8, base=1.0),
            ValueError,
            "base must be above 1 and finite, not 1.0; 10_000.0 is usual",
        ),
        (
            lambda: sinusoidal_positions(4, 8, base=math.nan),
            ValueError,
            "base must be above 1 and finite, not nan",
        ),
        (
            lambda: SinusoidalPositions(8, base=math.inf),
            ValueError,
            "base must be above 1 and finite, not inf",
        ),
        (
            lambda: SinusoidalPositions(8, base="10000"),
            TypeError,
            "base must be a number, not the str '10000'",
        ),
        (lambda: SinusoidalPositions(9), ValueError, "d_model=9 is odd"),
        (lambda: shift_matrix(1, 7), ValueError, "d_model=7 is odd"),
        (lambda: shift_matrix(0.5, 8), TypeError, "offset must be an integer, not the float 0.5"),
        (
            lambda: SinusoidalPositions(8)(torch.zeros(3, 6)),
            ValueError,
            r"x has shape \(3, 6\), but d_model=8; its last two axes must be positions and 8 ",
        ),
        (
            lambda: SinusoidalPositions(8)(torch.zeros(3, 8), first_position=-1),
            ValueError,
            "first_position must be at least 0, not -1",
        ),
        (
            lambda: SinusoidalPositions(8)(torch.zeros(3, 8, dtype=torch.long)),
            TypeError,
            "vectors of floating-point numbers, not to torch.int64; embed token ids first",
        ),
        (lambda: SinusoidalPositions(8)([0.0] * 8), TypeError, "not to list"),
        (
            lambda: LearnedPositions(0, 8),
            ValueError,
            "context_length must be at least 1, not 0",
        ),
        (lambda: LearnedPositions(8, -1), ValueError, "d_model must be at least 1, not -1"),
        (
            lambda: LearnedPositions(16, 8)(torch.zeros(1, 17, 8)),
            ValueError,
            "positions 0 to 16 do not fit in context_length=16; keep the last 16 tokens and start",
        ),
        (
            lambda: LearnedPositions(16, 8)(torch.zeros(1, 2, 8), first_position=15),
            ValueError,
            "positions 15 to 16 do not fit in context_length=16",
        ),
        (
            lambda: LearnedPositions(16, 8)(torch.zeros(1, 2, 8), first_position=-2),
            ValueError,
            "first_position must be at least 0, not -2",
        ),
        (
            lambda: LearnedPositions(16, 8)(torch.zeros(8)),
            ValueError,
            r"x has shape \(8,\), but d_model=8",
        ),
        (
            lambda: RotaryPositions(7),
            ValueError,
            "head_dim=7 is odd, but channels are taken in pairs; use 6 or 8",
        ),
        (
            lambda: RotaryPositions(8, theta=0),
            ValueError,
            "theta must be above 1 and finite, not 0",
        ),
        (
            lambda: RotaryPositions(8, pairing="half"),
            ValueError,
            "pairing must be one of halves, neighbors, not 'half'; take the one that the weights",
        ),
        (
            lambda: RotaryPositions(8)(torch.zeros(3, 6)),
            ValueError,
            r"x has shape \(3, 6\), but head_dim=8",
        ),
        (
            lambda: RotaryPositions(8)(torch.zeros(3, 8), -1),
            ValueError,
            "first_position must be at least 0, not -1",
        ),
        (
            lambda: RotaryPositions(8)(torch.zeros(3, 8), 1.5),
            TypeError,
            "first_position must be an integer, not the float 1.5",
        ),
        (lambda: pairing_permutation(5), ValueError, "head_dim=5 is odd"),
        (lambda: pairing_permutation("8"), TypeError, "head_dim must be an integer, not the str"),
        (lambda: alibi_slopes(0), ValueError, "num_heads must be at least 1, not 0"),
        (lambda: AlibiBias(0), ValueError, "num_heads must be at least 1, not 0"),
        (lambda: AlibiBias(2.5), TypeError, "num_heads must be an integer, not the float 2.5"),
        (
            lambda: AlibiBias(2)(4, 3),
            ValueError,
            "4 queries cannot be the last of 3 keys; pass at least as many keys as queries",
        ),
        (lambda: AlibiBias(2)(-1, 3), ValueError, "num_queries must be at least 0, not -1"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_nonsense_is_refused_with_what_came_and_what_is_allowed(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_layers_show_their_settings():
    assert repr(SinusoidalPositions(8)) == "SinusoidalPositions(d_model=8, base=10000.0)"
    assert repr(LearnedPositions(4, 8)) == "LearnedPositions(context_length=4, d_model=8)"
    assert repr(AlibiBias(8)) == "AlibiBias(num_heads=8)"
    assert "head_dim=8, theta=10000.0, pairing='neighbors'" in repr(
        RotaryPositions(8, pairing="neighbors")
    )
