"""What chapter 5 promises about norms, feed-forward networks and blocks."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Block
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from gptbook.attention import CausalSelfAttention
from gptbook.layers import (
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    PostNormBlock,
    RMSNorm,
    TransformerBlock,
    usual_d_ff,
    usual_gated_d_ff,
)

NORMS = [LayerNorm, RMSNorm]
BLOCKS = [TransformerBlock, PostNormBlock]
ACTIVATIONS = ["gelu_tanh", "gelu", "relu"]

seeds = st.integers(min_value=0, max_value=2**32 - 1)
widths = st.integers(1, 24)
epsilons = st.sampled_from([1e-8, 1e-5, 1e-2])


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with every weight and constant away from its start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.5, generator=generator)
    return module


def make_block(block: type[TransformerBlock] = TransformerBlock, norm=LayerNorm, **options):
    """A block of width 8 with two heads."""
    return block(
        attention=CausalSelfAttention(d_model=8, num_heads=2),
        feed_forward=FeedForward(d_model=8),
        attention_norm=norm(8),
        feed_forward_norm=norm(8),
        **options,
    )


# --- norms --------------------------------------------------------------------------------------


@given(d_model=widths, seed=seeds, eps=epsilons, scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_layer_norm_is_the_paper_s_formula(d_model, seed, eps, scale):
    norm = shaken(LayerNorm(d_model, eps=eps), seed)
    x = scale * randn(3, 5, d_model, seed=seed) + scale
    mean = x.sum(-1, keepdim=True) / d_model
    variance = ((x - mean) ** 2).sum(-1, keepdim=True) / d_model
    expected = (x - mean) / (variance + eps) ** 0.5 * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-7, atol=1e-9)


@given(d_model=widths, seed=seeds, eps=epsilons, scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_rms_norm_is_the_paper_s_formula(d_model, seed, eps, scale):
    norm = shaken(RMSNorm(d_model, eps=eps), seed)
    x = scale * randn(3, 5, d_model, seed=seed) + scale
    mean_square = (x * x).sum(-1, keepdim=True) / d_model
    torch.testing.assert_close(norm(x), x / (mean_square + eps) ** 0.5 * norm.weight)


@given(d_model=widths, seed=seeds, eps=epsilons)
def test_rms_norm_agrees_with_torch_and_llama_to_the_gradient(d_model, seed, eps):
    ours, theirs, llama = RMSNorm(d_model, eps=eps), nn.RMSNorm(d_model, eps=eps), None
    shaken(ours, seed)
    theirs.double().load_state_dict(ours.state_dict())
    llama = LlamaRMSNorm(d_model, eps=eps).double()
    llama.load_state_dict(ours.state_dict())
    results = []
    for norm in (ours, theirs, llama):
        x = randn(2, 3, d_model, seed=seed).requires_grad_()
        y = norm(x)
        y.backward(randn(2, 3, d_model, seed=seed + 1))
        results.append((y, x.grad, norm.weight.grad))
    for mine, reference, in_float32 in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference)
        torch.testing.assert_close(mine, in_float32, rtol=1e-4, atol=1e-4)  # Llama's rounds to it


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_gradients_of_a_norm_agree_with_finite_differences(norm, shape):
    norm = shaken(norm(4))
    x = randn(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, *norm.parameters()))


@pytest.mark.parametrize("with_gradients", [True, False])
def test_rms_norm_gives_one_answer_whether_it_learns_or_not(with_gradients):
    norm = shaken(RMSNorm(64)).float()
    x = randn(10, 64).float()
    with torch.no_grad():
        expected = norm(x)
    x.requires_grad_(with_gradients)
    norm.requires_grad_(not with_gradients)
    y = norm(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert (x.grad is not None) is with_gradients
    assert (norm.weight.grad is not None) is not with_gradients


def test_rms_norm_keeps_its_precision_under_autocast():
    norm = shaken(RMSNorm(64)).float()
    x = randn(10, 64).float().requires_grad_()
    norm(x).square().sum().backward()
    expected, x.grad = x.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
        y.square().sum().backward()
    assert y.dtype == torch.float32
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_works_in_half_precision(norm, dtype):
    exact = shaken(norm(32))
    x = randn(6, 32)
    y = copy.deepcopy(exact).to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact(x), rtol=0.05, atol=0.05)


def test_a_mean_square_too_large_for_half_precision_is_still_found():
    x = 3_000 * randn(6, 32)  # its squares are beyond float16
    y = RMSNorm(32).half()(x.half())
    torch.testing.assert_close(y.double(), RMSNorm(32).double()(x), rtol=0.01, atol=0.01)


def test_a_gradient_of_a_gradient_of_rms_norm_is_refused_not_wrong():
    norm = RMSNorm(4)
    x = randn(2, 4).float().requires_grad_()
    (gradient,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@given(seed=seeds, factor=st.floats(0.5, 100), shift=st.floats(-100, 100))
def test_layer_norm_forgets_scale_and_shift_and_rms_norm_only_scale(seed, factor, shift):
    x = randn(4, 16, seed=seed)
    layer, rms = LayerNorm(16, eps=0.0).double(), RMSNorm(16, eps=0.0).double()
    torch.testing.assert_close(layer(factor * x + shift), layer(x))
    torch.testing.assert_close(rms(factor * x), rms(x))
    assert not torch.allclose(rms(x + 1), rms(x))
    centered = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(rms(centered), layer(x))


@pytest.mark.parametrize("norm", NORMS)
def test_a_vector_of_zeros_stays_finite(norm):
    x = torch.zeros(2, 8, requires_grad=True)
    norm(8)(x).sum().backward()
    assert norm(8)(x).isfinite().all()
    assert x.grad.isfinite().all()


# --- feed-forward networks ----------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_feed_forward_network_is_two_matrices_with_a_bend_between(activation, bias):
    network = shaken(FeedForward(d_model=5, d_ff=7, activation=activation, bias=bias))
    x = randn(2, 3, 5)
    bend = {
        "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / math.sqrt(2))),
        "gelu_tanh": lambda z: (
            z * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        ),
        "relu": lambda z: z * (z > 0),
    }[activation]
    constants = [network.expand.bias, network.contract.bias] if bias else [0, 0]
    inner = bend(x @ network.expand.weight.T + constants[0])
    torch.testing.assert_close(network(x), inner @ network.contract.weight.T + constants[1])
    assert len(list(network.parameters())) == (4 if bias else 2)


@given(d_model=widths, d_ff=widths, seed=seeds)
def test_a_feed_forward_network_agrees_with_gpt2(d_model, d_ff, seed):
    config = GPT2Config(n_embd=d_model, n_head=1, activation_function="gelu_new")
    gpt2 = shaken(GPT2MLP(d_ff, config), seed).eval()
    ours = FeedForward(d_model=d_model, d_ff=d_ff).double()
    for mine, its in ((ours.expand, gpt2.c_fc), (ours.contract, gpt2.c_proj)):
        mine.load_state_dict({"weight": its.weight.T, "bias": its.bias})
    x = randn(2, 3, d_model, seed=seed)
    torch.testing.assert_close(ours(x), gpt2(x))


@given(d_model=widths.map(lambda pairs: 2 * pairs), d_ff=widths, seed=seeds, bias=st.booleans())
def test_a_gated_network_agrees_with_llama(d_model, d_ff, seed, bias):
    config = LlamaConfig(
        hidden_size=d_model, intermediate_size=d_ff, mlp_bias=bias, num_attention_heads=1
    )
    llama = shaken(LlamaMLP(config), seed)
    ours = GatedFeedForward(d_model=d_model, d_ff=d_ff, bias=bias).double()
    for name in ["weight", "bias"][: 1 + bias]:
        parts = [getattr(part, name) for part in (llama.gate_proj, llama.up_proj)]
        getattr(ours.expand, name).data = torch.cat(parts).data
    ours.contract.load_state_dict(llama.down_proj.state_dict())
    x = randn(2, 3, d_model, seed=seed)
    torch.testing.assert_close(ours(x), llama(x))


@given(d_model=st.integers(1, 20_000))
def test_the_usual_widths_cost_the_same(d_model):
    plain, gated = 2 * d_model * usual_d_ff(d_model), 3 * d_model * usual_gated_d_ff(d_model)
    assert usual_gated_d_ff(d_model) % 8 == 0
    assert plain <= gated < plain + 3 * d_model * 8


def test_the_usual_widths_are_used_unless_another_is_named():
    assert FeedForward(d_model=6).expand.out_features == 24 == usual_d_ff(6)
    assert GatedFeedForward(d_model=6).contract.in_features == 16 == usual_gated_d_ff(6)
    assert FeedForward(d_model=6, d_ff=5).contract.in_features == 5
    assert GatedFeedForward(d_model=6, d_ff=5).expand.out_features == 10


@pytest.mark.parametrize("network", [FeedForward(d_model=8), GatedFeedForward(d_model=8)])
@given(seed=seeds, order=st.permutations(range(6)))
def test_each_position_is_worked_on_by_itself(network, seed, order):
    network = shaken(copy.deepcopy(network), seed)
    x = randn(2, 6, 8, seed=seed)
    torch.testing.assert_close(network(x[:, order]), network(x)[:, order])
    torch.testing.assert_close(network(x[:, 2:3]), network(x)[:, 2:3])


def test_a_feed_forward_network_drops_inner_values_in_training_only():
    torch.manual_seed(0)
    network = FeedForward(d_model=64, d_ff=1_000, dropout=0.25)
    nn.init.zeros_(network.expand.weight)
    nn.init.ones_(network.expand.bias)
    nn.init.constant_(network.contract.weight, 1 / 1_000)
    nn.init.zeros_(network.contract.bias)
    x = torch.zeros(200, 1, 64)
    kept = F.gelu(torch.tensor(1.0), approximate="tanh").item()
    trained = network.train()(x)
    assert trained.mean().item() == pytest.approx(kept, rel=0.01)
    assert trained.std().item() == pytest.approx(kept * math.sqrt(0.25 / 0.75 / 1_000), rel=0.2)
    torch.testing.assert_close(network.eval()(x), torch.full_like(x, kept))


# --- blocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_a_pre_norm_block_adds_what_its_parts_read_through_their_norms(norm):
    block = shaken(make_block(norm=norm))
    x = randn(2, 5, 8)
    middle = x + block.attention(block.attention_norm(x))
    expected = middle + block.feed_forward(block.feed_forward_norm(middle))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_post_norm_block_norms_each_sum(norm):
    block = shaken(make_block(PostNormBlock, norm=norm))
    x = randn(2, 5, 8)
    middle = block.attention_norm(x + block.attention(x))
    expected = block.feed_forward_norm(middle + block.feed_forward(middle))
    torch.testing.assert_close(block(x), expected)


def test_a_pre_norm_block_agrees_with_gpt2():
    torch.manual_seed(0)
    config = GPT2Config(n_embd=8, n_head=2, attn_implementation="eager")
    gpt2 = shaken(GPT2Block(config, layer_idx=0)).eval()
    ours = make_block().double()
    pairs = {
        ours.attention_norm: gpt2.ln_1,
        ours.feed_forward_norm: gpt2.ln_2,
        ours.attention.query_key_value: gpt2.attn.c_attn,
        ours.attention.output: gpt2.attn.c_proj,
        ours.feed_forward.expand: gpt2.mlp.c_fc,
        ours.feed_forward.contract: gpt2.mlp.c_proj,
    }
    for mine, its in pairs.items():
        weight = its.weight.mT if its.weight.dim() == 2 else its.weight
        mine.load_state_dict({"weight": weight, "bias": its.bias})
    x = randn(2, 5, 8)
    future = torch.full((5, 5), -math.inf).double().triu(diagonal=1)[None, None]
    theirs = gpt2(x, attention_mask=future)
    torch.testing.assert_close(ours(x), theirs[0] if isinstance(theirs, tuple) else theirs)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("block", BLOCKS)
def test_both_orders_agree_with_torch(block, activation):
    pre_norm = block is TransformerBlock
    theirs = shaken(
        nn.TransformerEncoderLayer(
            8, 2, 32, activation=activation, norm_first=pre_norm, batch_first=True
        )
    ).eval()
    ours = make_block(block).double().eval()
    ours.feed_forward = FeedForward(d_model=8, activation=activation).double()
    attention, network = theirs.self_attn, ours.feed_forward
    ours.attention.query_key_value.load_state_dict({
        "weight": attention.in_proj_weight,
        "bias": attention.in_proj_bias,
    })
    ours.attention.output.load_state_dict(attention.out_proj.state_dict())
    network.expand.load_state_dict(theirs.linear1.state_dict())
    network.contract.load_state_dict(theirs.linear2.state_dict())
    ours.attention_norm.load_state_dict(theirs.norm1.state_dict())
    ours.feed_forward_norm.load_state_dict(theirs.norm2.state_dict())
    x = randn(2, 5, 8)
    future = ~torch.ones(5, 5, dtype=torch.bool).tril()
    torch.testing.assert_close(ours(x), theirs(x, src_mask=future))


@pytest.mark.parametrize("block", BLOCKS)
@given(seed=seeds, position=st.integers(0, 5))
def test_a_token_never_sees_the_future(block, seed, position):
    block = shaken(make_block(block), seed)
    x = randn(1, 6, 8, seed=seed).requires_grad_()
    block(x)[0, position].sum().backward()
    reached = x.grad[0].abs().sum(-1) > 0
    assert not reached[position + 1 :].any()


@pytest.mark.parametrize("block", BLOCKS)
@given(seed=seeds, cut=st.integers(1, 6))
def test_with_a_cache_the_parts_give_what_the_whole_gives(block, seed, cut):
    block = shaken(make_block(block), seed).eval()
    x = randn(2, 7, 8, seed=seed)
    with torch.no_grad():
        cache = block.attention.new_cache(2, 7)
        parts = [block(x[:, :cut], cache), block(x[:, cut:], cache, cut)]
        torch.testing.assert_close(torch.cat(parts, dim=1), block(x))


def test_the_residual_stream_of_a_pre_norm_block_passes_what_its_parts_do_not_touch():
    block = make_block()
    nn.init.zeros_(block.attention.output.weight)
    nn.init.zeros_(block.feed_forward.contract.weight)
    nn.init.zeros_(block.attention.output.bias)
    nn.init.zeros_(block.feed_forward.contract.bias)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("block", BLOCKS)
def test_dropout_acts_on_what_is_added_in_training_only(block):
    torch.manual_seed(0)
    dropping, plain = make_block(block, dropout=0.5), make_block(block)
    plain.load_state_dict(dropping.state_dict())
    x = torch.randn(4, 5, 8)
    torch.testing.assert_close(dropping.eval()(x), plain(x))
    assert not torch.allclose(dropping.train()(x), plain(x))


def test_dropout_keeps_the_stream_and_the_mean_of_what_is_added():
    torch.manual_seed(0)
    block = make_block(dropout=0.25)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(block.attention.output.bias)
    nn.init.constant_(block.feed_forward.contract.bias, 10)
    added = (block(torch.zeros(1, 5_000, 8)) * 0.75).round().flatten()
    values, counts = added.unique(return_counts=True)
    assert values.tolist() == [0, 1, 10, 11]
    shares = [0.0625, 0.1875, 0.1875, 0.5625]
    assert (counts / added.numel()).tolist() == pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize("block", BLOCKS)
def test_at_zero_dropout_there_is_no_work(block, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("dropout was called")

    monkeypatch.setattr(F, "dropout", refuse)
    make_block(block).train()(torch.zeros(1, 3, 8))


def test_the_deeper_the_stack_the_less_each_pre_norm_block_is_moved_but_not_each_post_norm_block():
    def of_last_block(block: type[TransformerBlock], depth: int) -> float:
        torch.manual_seed(0)
        blocks = nn.Sequential(*[make_block(block) for _ in range(depth)], LayerNorm(8))
        for parameter in blocks.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_normal_(parameter)
        y = blocks(torch.randn(8, 16, 8))
        (y * torch.randn_like(y)).sum().backward()
        return blocks[-2].feed_forward.contract.weight.grad.norm().item()

    pre, post = (of_last_block(block, 48) / of_last_block(block, 3) for block in BLOCKS)
    assert pre < 0.5  # 1 / sqrt(depth): a quarter
    assert post > 0.6


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LayerNorm(0), ValueError, "d_model must be at least 1, not 0"),
        (lambda: RMSNorm(True), TypeError, "d_model must be a whole number, not True; pass an int"),
        (lambda: RMSNorm(8, eps=-1.0), ValueError, "eps is added to a variance"),
        (lambda: LayerNorm(8, eps=math.inf), ValueError, "so it cannot be inf; 1e-5 is usual"),
        (lambda: LayerNorm(8, eps="small"), TypeError, "eps must be a number such as 1e-5"),
        (lambda: FeedForward(d_model=8.0), TypeError, "d_model must be a whole number, not 8.0"),
        (lambda: FeedForward(d_model=8, d_ff=0), ValueError, "d_ff must be at least 1, not 0"),
        (
            lambda: FeedForward(d_model=8, activation="tanh"),
            ValueError,
            "activation must be one of gelu_tanh, gelu, relu, not 'tanh'",
        ),
        (lambda: FeedForward(d_model=8, dropout=1.0), ValueError, r"probability in \[0, 1\)"),
        (lambda: GatedFeedForward(d_model=-8), ValueError, "d_model must be at least 1, not -8"),
        (lambda: GatedFeedForward(d_model=8, d_ff="16"), TypeError, "d_ff must be a whole number"),
        (lambda: make_block(dropout="some"), TypeError, "dropout is a probability such as 0.1"),
        (lambda: make_block(dropout=-0.1), ValueError, "0.0 turns it off"),
    ],
)
def test_says_which_number_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("network", [FeedForward(d_model=8), GatedFeedForward(d_model=8)])
def test_says_which_width_came(network):
    message = r"x has shape \(2, 5, 6\), but its last axis must be d_model=8 wide"
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(2, 5, 6))
