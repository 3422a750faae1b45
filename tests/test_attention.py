"""What chapters 2 and 3 promise about attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    repeat_kv,
)

from gptbook.attention import (
    CausalSelfAttention,
    KVCache,
    attend,
    attention_weights,
    causal_mask,
    width_of_head,
)

seeds = st.integers(min_value=0, max_value=2**32 - 1)
# (num_heads, num_kv_heads): as many as heads, grouped, and one for all
groupings = st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1), (6, 2), (6, 3)])


def turn_by_position(x: Tensor, first_position: int) -> Tensor:
    """A small stand-in for chapter 4's rotary encoding: it turns pairs by their position."""
    positions = torch.arange(first_position, first_position + x.shape[-2], dtype=x.dtype)
    angle = 0.3 * positions[:, None]  # (T, 1)
    left, right = x.chunk(2, dim=-1)
    return torch.cat(
        [left * angle.cos() - right * angle.sin(), left * angle.sin() + right * angle.cos()], -1
    )


def prefer_near(num_heads: int):
    """A small stand-in for ALiBi: the queries are the last of the keys."""

    def bias(num_queries: int, num_keys: int) -> Tensor:
        query = torch.arange(num_keys - num_queries, num_keys)[:, None]
        distance = (query - torch.arange(num_keys)).clamp(min=0).double()
        return -torch.arange(1.0, num_heads + 1).double()[:, None, None] * 0.2 * distance

    return bias


def make_attention(num_heads: int = 2, num_kv_heads: int | None = None, **options):
    """A layer of width 4 a head in float64, its constants away from their zeros."""
    attention = CausalSelfAttention(
        d_model=4 * num_heads, num_heads=num_heads, num_kv_heads=num_kv_heads, **options
    ).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention.eval()


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# --- who may see whom ---------------------------------------------------------------------------


@given(num_queries=st.integers(0, 12), num_past=st.integers(0, 12))
def test_a_query_may_see_itself_and_the_past(num_queries, num_past):
    mask = causal_mask(num_queries, num_past + num_queries)
    for row in range(num_queries):
        position = num_past + row
        expected = [key <= position for key in range(num_past + num_queries)]
        assert mask[row].tolist() == expected


@given(
    num_queries=st.integers(1, 9),
    num_past=st.integers(0, 9),
    causal=st.booleans(),
    with_bias=st.booleans(),
    seed=seeds,
)
def test_every_query_shares_out_exactly_one_unit(num_queries, num_past, causal, with_bias, seed):
    torch.manual_seed(seed)
    num_keys = num_past + num_queries
    query, key = randn(2, 3, num_queries, 8), randn(2, 3, num_keys, 8)
    bias = 5 * randn(3, num_queries, num_keys) if with_bias else None
    weights = attention_weights(query, key, causal=causal, bias=bias)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    assert (weights >= 0).all()
    if causal:
        assert (weights.masked_fill(causal_mask(num_queries, num_keys), 0.0) == 0).all()


@given(data=st.data(), num_positions=st.integers(2, 12), heads=groupings, seed=seeds)
def test_a_token_never_sees_the_future(data, num_positions, heads, seed):
    changed = data.draw(st.integers(1, num_positions - 1), label="position that changes")
    torch.manual_seed(seed)
    attention = make_attention(*heads)
    x = randn(1, num_positions, 4 * heads[0])
    y = x.clone()
    y[:, changed] += 1
    before, after = attention(x), attention(y)
    torch.testing.assert_close(before[:, :changed], after[:, :changed], rtol=0, atol=0)
    assert not torch.allclose(before[:, changed], after[:, changed])


@pytest.mark.parametrize(
    "options", [{}, {"rotary": turn_by_position, "score_bias": prefer_near(2)}]
)
def test_the_jacobian_is_zero_above_the_diagonal_and_not_below(options):
    torch.manual_seed(0)
    attention = make_attention(**options)
    jacobian = torch.autograd.functional.jacobian(attention, randn(1, 5, 8))[0, :, :, 0]
    influence = jacobian.abs().amax(dim=(1, 3))  # (5 outputs, 5 inputs)
    torch.testing.assert_close(influence > 0, causal_mask(5, 5))


# --- one mixture, two ways ----------------------------------------------------------------------


@given(
    num_queries=st.integers(1, 9),
    num_past=st.integers(0, 9),
    value_width=st.integers(1, 12),
    causal=st.booleans(),
    bias_axes=st.sampled_from([None, 2, 3, 4]),
    seed=seeds,
)
def test_the_fused_kernel_gives_the_mixture_that_the_weights_prescribe(
    num_queries, num_past, value_width, causal, bias_axes, seed
):
    torch.manual_seed(seed)
    num_keys = num_queries + num_past
    query, key = randn(2, 3, num_queries, 4), randn(2, 3, num_keys, 4)
    value = randn(2, 3, num_keys, value_width)
    bias = None if bias_axes is None else randn(2, 3, num_queries, num_keys)
    if bias_axes in (2, 3):
        bias = bias[0, 0] if bias_axes == 2 else bias[:1].squeeze(0)
    explicit = attention_weights(query, key, causal=causal, bias=bias) @ value
    fused = attend(query, key, value, causal=causal, bias=bias)
    torch.testing.assert_close(fused, explicit)


def test_without_the_causal_mask_queries_may_outnumber_keys():
    torch.manual_seed(0)
    query, key, value = randn(7, 4), randn(3, 4), randn(3, 5)
    explicit = attention_weights(query, key, causal=False) @ value
    torch.testing.assert_close(attend(query, key, value, causal=False), explicit)


def test_a_bias_of_minus_infinity_hides_a_key():
    bias = torch.zeros(3, 3, dtype=torch.float64)
    bias[2, 0] = -math.inf
    weights = attention_weights(randn(3, 4), randn(3, 4), bias=bias)
    assert weights[2, 0] == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, dtype=torch.float64))


def test_scores_are_divided_by_the_root_of_the_width():
    query, key = torch.full((1, 16), 1.0), torch.stack([torch.zeros(16), torch.ones(16)])
    weights = attention_weights(query, key, causal=False)
    torch.testing.assert_close(weights, torch.tensor([[0.0, 16 / 4]]).softmax(-1))


@given(num_positions=st.integers(1, 8), heads=groupings, encoded=st.booleans(), seed=seeds)
def test_the_returned_weights_are_those_behind_forward(num_positions, heads, encoded, seed):
    torch.manual_seed(seed)
    options = {"rotary": turn_by_position, "score_bias": prefer_near(heads[0])} if encoded else {}
    attention = make_attention(*heads, **options)
    x = randn(2, num_positions, 4 * heads[0])
    weights = attention.weights(x)
    assert weights.shape == (2, heads[0], num_positions, num_positions)
    mixed = weights @ attention.share(attention.project(x)[2])
    torch.testing.assert_close(attention.output(attention.merge_heads(mixed)), attention(x))


def test_forward_never_writes_the_square_matrix_down(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the default path called attention_weights")

    monkeypatch.setattr("gptbook.attention.attention_weights", refuse)
    attention = CausalSelfAttention(d_model=8, num_heads=2)
    assert attention(torch.zeros(1, 4, 8)).shape == (1, 4, 8)


# --- equal to what everyone trusts --------------------------------------------------------------


@pytest.mark.parametrize("num_heads", [1, 2, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_agree_with_torch(num_heads, bias):
    torch.manual_seed(0)
    ours = CausalSelfAttention(d_model=16, num_heads=num_heads, bias=bias).double()
    theirs = nn.MultiheadAttention(16, num_heads, bias=bias, batch_first=True).double()
    names = {"query_key_value.weight": "in_proj_weight", "query_key_value.bias": "in_proj_bias"}
    pairs = [
        (parameter, theirs.get_parameter(names.get(name, name.replace("output", "out_proj"))))
        for name, parameter in ours.named_parameters()
    ]
    with torch.no_grad():
        for mine, reference in pairs:
            nn.init.normal_(mine, std=0.4)
            reference.copy_(mine)
    x = randn(2, 7, 16).requires_grad_()
    y = x.detach().clone().requires_grad_()
    hidden = ~causal_mask(7, 7)

    out = ours(x)
    reference_out, reference_weights = theirs(y, y, y, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(out, reference_out)
    torch.testing.assert_close(ours.weights(x), reference_weights)

    direction = randn(2, 7, 16)
    (out * direction).sum().backward()
    (reference_out * direction).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for mine, reference in pairs:
        torch.testing.assert_close(mine.grad, reference.grad)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    attention = make_attention()
    torch.autograd.gradcheck(attention, randn(1, 4, 8).requires_grad_())


@given(num_positions=st.integers(1, 8), heads=groupings, seed=seeds)
def test_grouped_heads_are_whole_heads_whose_keys_and_values_repeat(num_positions, heads, seed):
    torch.manual_seed(seed)
    num_heads, num_kv_heads = heads
    grouped, whole = make_attention(num_heads, num_kv_heads), make_attention(num_heads)
    group_size, d_model = num_heads // num_kv_heads, 4 * num_heads
    kv_head_of = [head // group_size for head in range(num_heads)]
    rows = list(range(d_model))
    for part in range(2):  # keys, then values
        start = d_model + part * 4 * num_kv_heads
        rows += [start + 4 * kv_head + k for kv_head in kv_head_of for k in range(4)]
    whole.query_key_value.weight.data = grouped.query_key_value.weight.data[rows]
    whole.query_key_value.bias.data = grouped.query_key_value.bias.data[rows]
    whole.output.load_state_dict(grouped.output.state_dict())
    x = randn(2, num_positions, d_model)
    torch.testing.assert_close(grouped(x), whole(x))


@given(heads=groupings, seed=seeds)
def test_sharing_agrees_with_transformers(heads, seed):
    torch.manual_seed(seed)
    attention = make_attention(*heads)
    x = randn(2, heads[1], 5, 4)
    torch.testing.assert_close(attention.share(x), repeat_kv(x, heads[0] // heads[1]))


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_agrees_with_llama_attention(num_kv_heads):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=16,
        attn_implementation="eager",
    )
    llama = LlamaAttention(config, layer_idx=0).double().eval()
    positions = torch.arange(9)[None]
    cos, sin = LlamaRotaryEmbedding(config)(randn(1), positions)

    def turn(x: Tensor, first_position: int) -> Tensor:
        assert first_position == 0
        return apply_rotary_pos_emb(x, x, cos, sin)[0]

    ours = CausalSelfAttention(
        d_model=32, num_heads=4, num_kv_heads=num_kv_heads, bias=False, rotary=turn
    ).double()
    parts = [llama.q_proj.weight, llama.k_proj.weight, llama.v_proj.weight]
    ours.query_key_value.weight.data = torch.cat(parts).data
    ours.output.weight.data = llama.o_proj.weight.data
    x = randn(2, 9, 32)
    hidden = torch.zeros(9, 9).double().masked_fill(~causal_mask(9, 9), -math.inf)[None, None]
    reference, weights = llama(x, position_embeddings=(cos, sin), attention_mask=hidden)
    torch.testing.assert_close(ours(x), reference)
    torch.testing.assert_close(ours.weights(x), weights)


def test_the_number_of_heads_changes_no_parameter_count_but_sharing_saves_some():
    def count(num_heads, num_kv_heads=None):
        layer = CausalSelfAttention(d_model=24, num_heads=num_heads, num_kv_heads=num_kv_heads)
        return sum(parameter.numel() for parameter in layer.parameters())

    assert {count(heads) for heads in (1, 2, 3, 4, 6, 8, 12, 24)} == {4 * 24 * 24 + 4 * 24}
    assert count(6, 2) == 4 * 24 * 24 + 4 * 24 - 2 * (24 - 8) * 25


def test_merging_undoes_splitting():
    attention = make_attention(3)
    x = randn(2, 5, 12)
    split = attention.split_heads(x)
    torch.testing.assert_close(split[1, 2, 4], x[1, 4, 8:12])
    torch.testing.assert_close(attention.merge_heads(split), x, rtol=0, atol=0)


# --- the cache ----------------------------------------------------------------------------------


@given(data=st.data(), heads=groupings, num_positions=st.integers(1, 12), seed=seeds)
def test_chunks_of_any_size_give_what_the_whole_gives(data, heads, num_positions, seed):
    encoding = data.draw(st.sampled_from(["none", "rotary", "bias", "both"]), label="encoding")
    cuts = data.draw(st.sets(st.integers(1, num_positions)), label="cuts")
    torch.manual_seed(seed)
    options = {}
    if encoding in ("rotary", "both"):
        options["rotary"] = turn_by_position
    if encoding in ("bias", "both"):
        options["score_bias"] = prefer_near(heads[0])
    attention = make_attention(*heads, **options)
    x = randn(2, num_positions, 4 * heads[0])
    cache = attention.new_cache(batch_size=2, context_length=num_positions)
    chunks = x.tensor_split(sorted(cuts), dim=1)
    with torch.no_grad():
        cached = torch.cat([attention(chunk, cache) for chunk in chunks if chunk.shape[1]], dim=1)
    torch.testing.assert_close(cached, attention(x))
    assert len(cache) == num_positions


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
def test_token_by_token_gives_what_the_whole_gives(heads):
    torch.manual_seed(0)
    attention = make_attention(*heads, rotary=turn_by_position)
    x, cache = randn(3, 10, 16), attention.new_cache(3, 10)
    with torch.no_grad():
        steps = [attention(x[:, t : t + 1], cache, first_position=t) for t in range(10)]
    torch.testing.assert_close(torch.cat(steps, dim=1), attention(x))


@given(kept=st.integers(0, 6), heads=groupings, seed=seeds)
def test_after_going_back_another_continuation_is_as_if_it_had_come_first(kept, heads, seed):
    torch.manual_seed(seed)
    attention = make_attention(*heads, rotary=turn_by_position, score_bias=prefer_near(heads[0]))
    d_model = 4 * heads[0]
    first, second = randn(1, 6, d_model), randn(1, 3, d_model)
    cache = attention.new_cache(1, 9)
    with torch.no_grad():
        attention(first, cache)
        cache.truncate(kept)
        assert len(cache) == kept
        continued = attention(second, cache)
    whole = attention(torch.cat([first[:, :kept], second], dim=1))
    torch.testing.assert_close(continued, whole[:, kept:])


@torch.no_grad()
def test_a_cache_that_refuses_stays_as_it_was():
    torch.manual_seed(0)
    attention = make_attention()
    x, cache = randn(2, 8, 8), attention.new_cache(batch_size=2, context_length=5)
    attention(x[:, :3], cache)
    before = cache._memory.clone()
    refused = [
        (ValueError, x[:, 3:4], {"first_position": 4}),  # a hole
        (ValueError, x[:, 3:4], {"first_position": 2}),  # once more
        (ValueError, x[:, 3:6], {}),  # too many
        (ValueError, x[:1, 3:4], {}),  # another batch
        (TypeError, x[:, 3:4].float(), {}),  # another dtype
        (TypeError, x[:, 3:4], {"first_position": 3.0}),  # no whole number
    ]
    for error, chunk, options in refused:
        layer = attention.float() if chunk.dtype == torch.float32 else attention
        with pytest.raises(error):
            layer(chunk, cache, **options)
        assert len(cache) == 3
        torch.testing.assert_close(cache._memory, before, rtol=0, atol=0)
        attention.double()
    whole = attention(x[:, :5])
    torch.testing.assert_close(attention(x[:, 3:5], cache), whole[:, 3:], rtol=1e-6, atol=1e-6)


@given(
    batch_size=st.integers(1, 3),
    num_kv_heads=st.integers(1, 4),
    head_dim=st.integers(1, 8),
    context_length=st.integers(1, 16),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_a_cache_takes_two_vectors_a_head_and_position(
    batch_size, num_kv_heads, head_dim, context_length, dtype
):
    cache = KVCache(
        batch_size=batch_size,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        context_length=context_length,
        dtype=dtype,
    )
    num_numbers = 2 * batch_size * num_kv_heads * head_dim * context_length
    assert cache.num_bytes == num_numbers * torch.finfo(dtype).bits // 8
    assert cache.context_length == context_length
    assert len(cache) == 0


@given(
    rows=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    num_past=st.integers(0, 4),
    heads=groupings,
    seed=seeds,
)
def test_selected_rows_go_on_as_those_texts_would(rows, num_past, heads, seed):
    torch.manual_seed(seed)
    attention = make_attention(*heads, rotary=turn_by_position)
    x, more = randn(3, num_past, 4 * heads[0]), randn(len(rows), 2, 4 * heads[0])
    cache = attention.new_cache(batch_size=3, context_length=8)
    with torch.no_grad():
        attention(x, cache)
        cache.select_rows(torch.tensor(rows))
        continued = attention(more, cache)
        alone = attention(torch.cat([x[rows], more], dim=1))[:, num_past:]
    torch.testing.assert_close(continued, alone)
    assert (cache.context_length, len(cache)) == (8, num_past + 2)


def test_keys_and_values_side_by_side_are_remembered_as_if_they_came_apart():
    torch.manual_seed(0)
    apart, together = (make_attention(4, 2).new_cache(3, context_length=7) for _ in range(2))
    for num_new in (3, 1):
        key, value = randn(2, 3, 2, num_new, 4)
        expected = apart.append(key, value)
        torch.testing.assert_close(together.extend(torch.cat([key, value], dim=1)), expected)
        torch.testing.assert_close(expected[1][:, :, -num_new:], value)
    with pytest.raises(ValueError, match=r"keys and values of shape \(3, 2, 1, 4\)"):
        together.extend(key)


def test_a_new_cache_has_the_layers_shape_and_dtype():
    cache = make_attention(4, 2).new_cache(batch_size=3, context_length=7)
    assert cache._memory.shape == (3, 2 * 2, 7, 4)
    assert cache._memory.dtype == torch.float64


def test_a_cached_step_may_see_the_whole_past():
    torch.manual_seed(0)
    attention = make_attention()
    x, y = randn(1, 4, 8), randn(1, 4, 8)
    y[:, 1:] = x[:, 1:]  # another first token
    last = []
    with torch.no_grad():
        for text in (x, y):
            cache = attention.new_cache(1, 4)
            attention(text[:, :3], cache)
            last.append(attention(text[:, 3:], cache))
    assert not torch.allclose(*last)


# --- dropout ------------------------------------------------------------------------------------


def test_dropout_does_nothing_in_evaluation_and_something_in_training():
    torch.manual_seed(0)
    attention, x = make_attention(dropout=0.5), randn(2, 6, 8)
    torch.testing.assert_close(attention(x), attention(x), rtol=0, atol=0)
    certain = make_attention()
    certain.load_state_dict(attention.state_dict())
    torch.testing.assert_close(attention(x), certain(x))
    attention.train()
    assert not torch.allclose(attention(x), attention(x))
    certain.train()
    torch.testing.assert_close(certain(x), certain(x), rtol=0, atol=0)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8])
def test_dropout_drops_its_share_of_the_weights_and_keeps_the_mean(dropout):
    torch.manual_seed(0)
    num_keys, num_queries = 50, 2000
    query, key = torch.zeros(num_queries, 1), torch.zeros(num_keys, 1)
    value = torch.eye(num_keys)  # so that the mixture is the row of weights itself
    weights = attend(query, key, value, causal=False, dropout=dropout)
    share = (weights == 0).float().mean().item()
    four_sigma = 4 * math.sqrt(dropout * (1 - dropout) / (num_keys * num_queries))
    assert share == pytest.approx(dropout, abs=four_sigma)
    kept = weights[weights > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / num_keys / (1 - dropout)))
    assert weights.sum(-1).mean().item() == pytest.approx(1, abs=4 * four_sigma / (1 - dropout))


def test_the_returned_weights_are_never_dropped():
    torch.manual_seed(0)
    attention, x = make_attention(dropout=0.5).train(), randn(1, 6, 8)
    torch.testing.assert_close(attention.weights(x).sum(-1), torch.ones(1, 2, 6).double())


# --- what it says to nonsense -------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("nonsense", "error", "message"),
    [
        (lambda: causal_mask(3, 2), ValueError, "3 queries cannot be the last of 2 keys; pass at"),
        (lambda: causal_mask(-1, 2), ValueError, "num_queries must be at least 0, not -1"),
        (lambda: causal_mask(2.0, 2), TypeError, "num_queries must be a whole number, not 2.0"),
        (lambda: causal_mask(True, 2), TypeError, "num_queries must be a whole number, not True"),
        (lambda: width_of_head(10, 3), ValueError, "not a multiple of num_heads=3; the next .* 12"),
        (lambda: width_of_head(0, 1), ValueError, "d_model must be at least 1, not 0"),
        (lambda: width_of_head(8, -2), ValueError, "num_heads must be at least 1, not -2"),
        (lambda: width_of_head(8.0, 2), TypeError, "d_model must be a whole number, not 8.0"),
    ],
)
def test_says_which_number_is_wrong(nonsense, error, message):
    with pytest.raises(error, match=message):
        nonsense()


ONE = torch.zeros(1, 2, 3, 4)  # (B, H, T, K)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("query", "key", "options", "error", "message"),
    [
        (ONE, ONE[..., :3], {}, ValueError, "queries of width 4 cannot be .* keys of width 3; pro"),
        (
            ONE,
            ONE[:, :1],
            {},
            ValueError,
            r"\(1, 1, 3, 4\) and query .* hand shared heads out with",
        ),
        (ONE, ONE[:, :, :2], {}, ValueError, "3 queries cannot be the last of 2 keys"),
        (ONE, ONE[:, :, :0], {"causal": False}, ValueError, "no key to attend to; pass at least"),
        (ONE[:, :, :1], ONE[:, :, :0], {}, ValueError, "no key to attend to; pass at least one"),
        (ONE.long(), ONE, {}, TypeError, "query must be a tensor of floats, not torch.int64"),
        (ONE.tolist(), ONE, {}, TypeError, "query must be a tensor of floats, not list"),
        (ONE, ONE.double(), {}, TypeError, "key of torch.float64 and query of torch.float32 must"),
        (ONE[0, 0, 0], ONE, {}, ValueError, r"query of shape \(4,\) is no list of vectors; its la"),
        (ONE, ONE, {"bias": causal_mask(3, 3)}, TypeError, "bool; write a mask as 0.0 where"),
        (ONE, ONE, {"bias": torch.zeros(3)}, ValueError, r"\(3,\) does not .* pass \(..., 3, 3\)"),
        (ONE, ONE, {"bias": torch.zeros(3, 1)}, ValueError, r"bias of shape \(3, 1\) does not fit"),
        (ONE, ONE, {"bias": torch.zeros(4, 3, 3)}, ValueError, r"bias of shape \(4, 3, 3\) does"),
        (ONE, ONE, {"bias": torch.zeros(2, 1, 2, 3, 3)}, ValueError, "bias of shape .* does not"),
    ],
)
def test_weights_and_mixture_say_what_does_not_fit(query, key, options, error, message):
    with pytest.raises(error, match=message):
        attention_weights(query, key, **options)
    with pytest.raises(error, match=message):
        attend(query, key, key, **options)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("value", "options", "error", "message"),
    [
        (ONE[:, :, :2], {}, ValueError, "3 keys but 2 values; each key needs the value it stands"),
        (ONE[0], {}, ValueError, "value of shape .* must agree in all but the last two axes"),
        (ONE.int(), {}, TypeError, "value must be a tensor of floats, not torch.int32"),
        (ONE.double(), {}, TypeError, "value of torch.float64 and query of torch.float32"),
        (
            ONE,
            {"dropout": 1.0},
            ValueError,
            r"a probability in \[0, 1\), not 1.0; 0.0 turns it off",
        ),
        (ONE, {"dropout": -0.1}, ValueError, r"a probability in \[0, 1\), not -0.1"),
        (ONE, {"dropout": math.nan}, ValueError, r"a probability in \[0, 1\), not nan"),
        (ONE, {"dropout": True}, TypeError, "a probability such as 0.1, not True"),
        (ONE, {"dropout": "0.1"}, TypeError, "a probability such as 0.1, not '0.1'"),
    ],
)
def test_the_mixture_says_what_is_wrong_with_values_and_dropout(value, options, error, message):
    with pytest.raises(error, match=message):
        attend(ONE, ONE, value, **options)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"d_model": 10},
            ValueError,
            "d_model=10 is not a multiple of num_heads=4; the next .* 12",
        ),
        ({"num_heads": 0}, ValueError, "num_heads must be at least 1, not 0"),
        ({"num_heads": 4.0}, TypeError, "num_heads must be a whole number, not 4.0; pass an int"),
        ({"num_kv_heads": 3}, ValueError, r"num_kv_heads=3 evenly; choose one of \[1, 2, 4\]"),
        ({"num_kv_heads": 8}, ValueError, r"num_kv_heads=8 evenly; choose one of \[1, 2, 4\]"),
        ({"num_kv_heads": 0}, ValueError, "num_kv_heads must be at least 1, not 0"),
        ({"num_kv_heads": 2.0}, TypeError, "num_kv_heads must be a whole number, not 2.0"),
        ({"dropout": 1}, ValueError, r"dropout is a probability in \[0, 1\), not 1"),
        ({"dropout": True}, TypeError, "dropout is a probability such as 0.1, not True"),
        ({"dropout": None}, TypeError, "dropout is a probability such as 0.1, not None"),
    ],
)
def test_a_layer_that_cannot_be_says_what_could(options, error, message):
    with pytest.raises(error, match=message):
        CausalSelfAttention(**{"d_model": 16, "num_heads": 4} | options)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a(torch.zeros(1, 3, 9)), ValueError, r"x of shape \(1, 3, 9\) .* d_model=8\)"),
        (lambda a: a(torch.zeros(3, 8)), ValueError, r"a batch axis with x.unsqueeze\(0\)"),
        (lambda a: a.weights(torch.zeros(3, 8)), ValueError, r"with x.unsqueeze\(0\)"),
        (lambda a: a(torch.zeros(1, 3, dtype=torch.long)), TypeError, "int64; embed token ids"),
        (lambda a: a(None), TypeError, "x must be a tensor of floats, not NoneType"),
        (lambda a: a(ONE[0, :, :, [0] * 8], None, -1), ValueError, "first_position .* 0, not -1"),
        (lambda a: a(ONE[0, :, :, [0] * 8], None, 1.5), TypeError, "first_position .* not 1.5"),
        (
            lambda a: a.share(torch.zeros(1, 4, 3, 2)),
            ValueError,
            "num_kv_heads=2, tokens, head_dim",
        ),
        (lambda a: a.split_heads(torch.zeros(1, 3, 7)), ValueError, "a multiple of head_dim=2"),
        (
            lambda a: a.merge_heads(torch.zeros(1, 3, 8)),
            ValueError,
            "no heads to merge; it must be",
        ),
        (lambda a: a.new_cache(0, 4), ValueError, "batch_size must be at least 1, not 0"),
        (
            lambda a: a.new_cache(1, 4.0),
            TypeError,
            "context_length must be a whole number, not 4.0",
        ),
    ],
)
def test_a_layer_says_what_it_takes(call, error, message):
    with pytest.raises(error, match=message):
        call(CausalSelfAttention(d_model=8, num_heads=4, num_kv_heads=2))


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        (
            (1, 2, 1, 4),
            {"first_position": 5},
            ValueError,
            "out of order: position 5 came, but the ",
        ),
        ((1, 2, 1, 4), {"first_position": 2}, ValueError, r"feed position 3 next, or go back with"),
        (
            (1, 2, 3, 4),
            {},
            ValueError,
            "3 more tokens after 3 do not fit .* context_length=5; make",
        ),
        (
            (2, 2, 1, 4),
            {},
            ValueError,
            r"\(2, 2, 1, 4\) .* \(batch_size=1, num_kv_heads=2, T",
        ),
        ((1, 4, 1, 4), {}, ValueError, r"make the cache with attention.new_cache\(batch_size, con"),
        ((2, 1, 4), {}, ValueError, r"keys of shape \(2, 1, 4\) on cpu do not fit"),
    ],
)
def test_a_cache_says_what_it_expects_next(shape, options, error, message):
    cache = KVCache(batch_size=1, num_kv_heads=2, head_dim=4, context_length=5)
    cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    with pytest.raises(error, match=message):
        cache.append(torch.ones(shape), torch.ones(shape), **options)
    assert len(cache) == 3


@pytest.mark.usefixtures("without_shape_checks")
def test_a_cache_refuses_other_kinds_and_gradients():
    cache = KVCache(batch_size=1, num_kv_heads=2, head_dim=4, context_length=5)
    key = torch.ones(1, 2, 1, 4)
    with pytest.raises(
        TypeError, match=r"keys of torch.float64 do not fit a cache of torch.float32"
    ):
        cache.append(key.double(), key.double())
    with pytest.raises(TypeError, match=r"values of torch.float16 do not fit"):
        cache.append(key, key.half())
    with pytest.raises(TypeError, match=r"keys of list do not fit"):
        cache.append([1.0], key)
    with pytest.raises(ValueError, match=r"values of shape \(1, 2, 2, 4\)"):
        cache.append(key, torch.ones(1, 2, 2, 4))
    with pytest.raises(ValueError, match=r"keys that carry gradients .* under torch.no_grad\(\)"):
        cache.append(key.requires_grad_(), key)
    assert len(cache) == 0


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("length", "error", "message"),
    [
        (4, ValueError, "cannot cut a cache of 3 positions to 4; choose a length from 0 to 3"),
        (-1, ValueError, "length must be at least 0, not -1"),
        (1.5, TypeError, "length must be a whole number, not 1.5"),
    ],
)
def test_a_cache_cannot_be_cut_to_what_it_never_held(length, error, message):
    cache = KVCache(batch_size=1, num_kv_heads=2, head_dim=4, context_length=5)
    cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    with pytest.raises(error, match=message):
        cache.truncate(length)
    assert len(cache) == 3


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.tensor([0, 3]), ValueError, r"rows \[0, 3\] came, but this cache has rows 0 to 2"),
        (torch.tensor([-1]), ValueError, r"rows \[-1\] came, but this cache has rows 0 to 2"),
        (torch.tensor([], dtype=torch.long), ValueError, "name at least one of them"),
        (torch.tensor([[0]]), ValueError, "in one list"),
        (torch.tensor([True, False, True]), TypeError, "not torch.bool; .* not a mask"),
        ([0, 2], TypeError, "rows must be a tensor of whole numbers, not list"),
    ],
)
def test_a_cache_refuses_rows_that_it_does_not_have(rows, error, message):
    cache = KVCache(batch_size=3, num_kv_heads=2, head_dim=4, context_length=5)
    cache.append(torch.ones(3, 2, 3, 4), torch.ones(3, 2, 3, 4))
    with pytest.raises(error, match=message):
        cache.select_rows(rows)
    assert len(cache) == 3


@pytest.mark.usefixtures("without_shape_checks")
def test_a_cache_that_cannot_be_says_why():
    sizes = {"batch_size": 1, "num_kv_heads": 2, "head_dim": 4, "context_length": 5}
    for name in sizes:
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            KVCache(**sizes | {name: 0})
    with pytest.raises(TypeError, match=r"a cache of torch.int64 cannot hold keys"):
        KVCache(**sizes, dtype=torch.int64)


# --- it learns ----------------------------------------------------------------------------------


def test_three_heads_learn_a_look_up_in_three_places_that_one_head_cannot():
    """A head gives one mixture, so three unrelated vectors need three heads."""
    losses = {}
    for num_heads in (1, 3):
        torch.manual_seed(0)
        attention = CausalSelfAttention(d_model=24, num_heads=num_heads)
        embed = nn.Linear(7, 24)
        optimizer = torch.optim.Adam([*attention.parameters(), *embed.parameters()], lr=2e-2)
        roles = torch.eye(4).expand(64, 4, 4)  # three marked words and the place that asks
        for _ in range(120):
            words = torch.randn(64, 3, 3)
            x = torch.cat([torch.cat([words, torch.zeros(64, 1, 3)], dim=1), roles], dim=-1)
            loss = F.mse_loss(attention(embed(x))[:, -1, :9], words.flatten(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[num_heads] = loss.item()
    assert losses[1] > 0.3
    assert losses[3] < 0.05
