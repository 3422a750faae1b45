"""Every fast path gives the numbers of the plain way."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gptbook import kernels
from gptbook.attention import attend, attention_weights
from gptbook.generation import generate
from gptbook.kernels import (
    Int8Linear,
    bare,
    gelu_tanh,
    has_bfloat16,
    lay_out,
    linear_cross_entropy,
    quantize,
)
from gptbook.model import GPT, GPT1Config, GPT2Config, GPTConfig, ModernConfig

SIZES = {"vocab_size": 50, "context_length": 32, "d_model": 16, "num_heads": 4, "num_layers": 2}
COMPOSITIONS = [
    GPT1Config(**SIZES),
    GPT2Config(**SIZES),
    ModernConfig(**SIZES, num_kv_heads=2, tied_head=False),
]
IGNORED = -100


def assert_same(ours: Tensor | None, theirs: Tensor | None, **tolerance: float) -> None:
    torch.testing.assert_close(ours, theirs, **(tolerance or {"rtol": 1e-12, "atol": 1e-12}))


def model_of(config: GPTConfig) -> GPT:
    """Build a model whose every number matters, biases and norms too."""
    torch.manual_seed(0)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


class Watch(TorchDispatchMode):
    """Notes what PyTorch makes, below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.num_products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.num_products += func.overloadpacket in {
            torch.ops.aten.mm,
            torch.ops.aten.addmm_,
            torch.ops.aten.addmm,
        }
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


# --- the loss -----------------------------------------------------------------------------------


def problem(num_rows=20, d_model=5, vocab_size=11, num_ignored=0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(num_rows, d_model, dtype=torch.float64, generator=generator).to(dtype)
    weight = torch.randn(vocab_size, d_model, dtype=torch.float64, generator=generator).to(dtype)
    targets = torch.randint(vocab_size, (num_rows,), generator=generator)
    targets[torch.randperm(num_rows, generator=generator)[:num_ignored]] = IGNORED
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, targets)


@given(
    num_rows=st.integers(1, 30),
    d_model=st.integers(1, 6),
    vocab_size=st.integers(1, 20),
    ignored=st.floats(0, 0.99),
    chunk_size=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_loss_and_both_gradients_are_those_of_all_logits_at_once(
    num_rows, d_model, vocab_size, ignored, chunk_size, seed
):
    num_ignored = int(ignored * num_rows)
    hidden, weight, targets = problem(num_rows, d_model, vocab_size, num_ignored, seed=seed)
    theirs = plain(hidden, weight, targets)
    wanted = torch.autograd.grad(theirs, [hidden, weight])
    ours = linear_cross_entropy(hidden, weight, targets, chunk_size=chunk_size)
    assert_same(ours, theirs)
    for our, their in zip(torch.autograd.grad(ours, [hidden, weight]), wanted, strict=True):
        assert_same(our, their)


def test_the_gradients_are_those_of_finite_differences():
    hidden, weight, targets = problem(num_rows=5, d_model=3, vocab_size=4, num_ignored=1)
    torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets, chunk_size=2), (hidden, weight)
    )


def test_a_matrix_that_also_embeds_gets_both_gradients():
    _, weight, targets = problem()
    token_ids = targets.roll(1)
    wanted = torch.autograd.grad(plain(weight[token_ids].tanh(), weight, targets), weight)
    ours = linear_cross_entropy(weight[token_ids].tanh(), weight, targets, chunk_size=7)
    assert_same(torch.autograd.grad(ours, weight)[0], wanted[0])


@pytest.mark.parametrize("factor", [1.0, -0.25, 1024.0])
def test_a_scaled_loss_scales_the_gradients_however_often_it_is_asked_for(factor):
    hidden, weight, targets = problem()
    (factor * plain(hidden, weight, targets)).backward()
    wanted = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    loss = factor * linear_cross_entropy(hidden, weight, targets)
    for times in (1, 2):
        loss.backward(retain_graph=True)
        assert_same(hidden.grad, times * wanted[0])
        assert_same(weight.grad, times * wanted[1])


def test_where_nothing_is_predicted_there_is_no_mean_and_no_gradient():
    hidden, weight, targets = problem(num_ignored=20)
    loss = linear_cross_entropy(hidden, weight, targets)
    loss.backward()
    assert loss.isnan()
    assert plain(hidden, weight, targets).isnan()
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_another_number_may_mark_what_is_ignored():
    hidden, weight, targets = problem()
    mark = int(targets[0])
    theirs = F.cross_entropy(hidden @ weight.T, targets, ignore_index=mark)
    assert_same(linear_cross_entropy(hidden, weight, targets, ignore_index=mark), theirs)


def test_huge_logits_neither_overflow_nor_vanish():
    hidden, weight, targets = problem(dtype=torch.float32)
    loss = linear_cross_entropy(hidden * 1e4, weight, targets)
    assert_same(loss, plain(hidden * 1e4, weight, targets), rtol=1e-5, atol=1e-5)


def test_all_logits_are_never_held():
    hidden, weight, targets = problem(num_rows=64, vocab_size=100)
    with Watch() as watch:
        linear_cross_entropy(hidden, weight, targets, chunk_size=8).backward()
    assert watch.largest <= 8 * 100


@pytest.mark.parametrize("learning", [(), ("hidden",), ("weight",), ("hidden", "weight")])
def test_only_the_gradients_that_are_asked_for_are_computed(learning):
    hidden, weight, targets = problem()
    hidden.requires_grad_("hidden" in learning)
    weight.requires_grad_("weight" in learning)
    with Watch() as watch:
        linear_cross_entropy(hidden, weight, targets, chunk_size=5)
    assert watch.num_products == 4 * (1 + len(learning))
    with torch.no_grad(), Watch() as watch:
        linear_cross_entropy(hidden, weight, targets, chunk_size=5)
    assert watch.num_products == 4


@pytest.mark.parametrize("how", ["tensors", "autocast"])
def test_bfloat16_is_off_by_its_rounding_only(how):
    exact = problem(num_rows=100, d_model=32, vocab_size=40, dtype=torch.float32)
    hidden, weight, targets = (
        problem(num_rows=100, d_model=32, vocab_size=40, dtype=torch.bfloat16)
        if how == "tensors"
        else exact
    )
    wanted = [plain(*exact), *torch.autograd.grad(plain(*exact), exact[:2])]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        loss = linear_cross_entropy(hidden, weight, targets, chunk_size=16)
    came = [loss, *torch.autograd.grad(loss, [hidden, weight])]
    assert loss.dtype == torch.float32
    assert came[2].dtype == weight.dtype
    for ours, theirs in zip(came, wanted, strict=True):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def test_a_gradient_of_many_chunks_adds_up_in_float32():
    """In bfloat16 256 + 1 is 256: a sum of many equal parts would stop growing."""
    hidden = torch.ones(1_024, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.zeros(1_024, dtype=torch.long)
    linear_cross_entropy(hidden, weight, targets, chunk_size=1).backward()
    assert weight.grad.flatten().tolist() == pytest.approx([-0.5, 0.5], rel=0.01)


@pytest.mark.usefixtures("without_shape_checks")
def test_what_does_not_fit_a_head_is_named():
    hidden, weight, targets = problem()
    with pytest.raises(ValueError, match=r"targets run from 0 to 11.* 0 to 10"):
        linear_cross_entropy(hidden, weight, targets.clamp(max=0).index_fill(0, targets[:1], 11))
    with pytest.raises(ValueError, match=r"\(20, 5\), weight \(11, 4\)"):
        linear_cross_entropy(hidden, weight[:, :4], targets)
    with pytest.raises(ValueError, match=r"targets \(10,\) do not fit"):
        linear_cross_entropy(hidden, weight, targets[:10])
    with pytest.raises(TypeError, match=r"torch.int64, not torch.float32"):
        linear_cross_entropy(hidden, weight, targets.float())
    with pytest.raises(ValueError, match="at least 1, not 0"):
        linear_cross_entropy(hidden, weight, targets, chunk_size=0)
    with pytest.raises(TypeError, match=r"whole number, not 2\.5"):
        linear_cross_entropy(hidden, weight, targets, chunk_size=2.5)


# --- GELU and attention -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [kernels._WORTH_MORE_CALLS - 1, kernels._WORTH_MORE_CALLS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_both_paths_of_the_gelu_and_its_gradient_are_pytorchs(size, dtype):
    x = torch.linspace(-30, 30, size, dtype=torch.float64).to(dtype).requires_grad_()
    upstream = torch.linspace(-1, 2, size).to(dtype)
    theirs = F.gelu(x, approximate="tanh")
    tolerance = {"rtol": 0.0, "atol": 64 * torch.finfo(dtype).eps}
    assert_same(gelu_tanh(x), theirs, **tolerance)
    wanted = torch.autograd.grad(theirs, x, upstream)[0]
    assert_same(torch.autograd.grad(gelu_tanh(x), x, upstream)[0], wanted, **tolerance)


def test_the_gelu_takes_vectors_in_any_layout():
    x = torch.randn(4, 64, 128).transpose(0, 2)
    assert_same(gelu_tanh(x), F.gelu(x, approximate="tanh"), rtol=0.0, atol=1e-6)


def test_in_bfloat16_the_exact_gelu_stands_in_within_rounding():
    x = torch.linspace(-5, 5, 10_001)
    off = (F.gelu(x) - F.gelu(x, approximate="tanh")).abs().max()
    assert off < 0.0005
    ours = gelu_tanh(x.bfloat16())
    assert ours.dtype == torch.bfloat16
    theirs = F.gelu(x.bfloat16().float(), approximate="tanh")
    assert (ours - theirs).abs().max() < 2**-8 * 5


def query_key_value(dtype=torch.bfloat16):
    torch.manual_seed(0)
    return [torch.randn(2, 4, 9, 8, dtype=dtype, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("biased", [False, True])
def test_the_two_paths_of_attention_agree(monkeypatch, biased):
    bias = torch.randn(4, 9, 9, dtype=torch.bfloat16) if biased else None
    results = []
    for found in (False, True):
        monkeypatch.setattr(kernels, "has_bfloat16", lambda device, found=found: found)
        tensors = query_key_value()
        mixed = attend(*tensors, bias=bias)
        mixed.float().square().sum().backward()
        results.append([mixed, *(x.grad for x in tensors)])
    for fused, explicit in zip(*results, strict=True):
        assert (fused.float() - explicit.float()).norm() < 0.02 * fused.float().norm()


def test_attention_is_written_down_only_where_that_is_faster(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )

    def uses_kernel(tensors) -> bool:
        calls.clear()
        attend(*tensors)
        return bool(calls)

    monkeypatch.setattr(kernels, "has_bfloat16", lambda device: False)
    assert uses_kernel(query_key_value())
    monkeypatch.setattr(kernels, "has_bfloat16", lambda device: True)
    assert not uses_kernel(query_key_value())
    assert uses_kernel(query_key_value(torch.float32))
    with torch.no_grad():
        assert uses_kernel(query_key_value())
    query, key, value = query_key_value()
    with torch.no_grad():
        torch.testing.assert_close(
            attend(query, key, value), attention_weights(query, key) @ value, rtol=0.02, atol=0.02
        )


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for found, wanted in [({"amx_bf16": True}, True), ({"avx512_bf16": 1}, True), ({}, False)]:
        has_bfloat16.cache_clear()
        monkeypatch.setattr(
            torch, "cpu", SimpleNamespace(get_capabilities=lambda found=found: found)
        )
        assert has_bfloat16(cpu) is wanted
    has_bfloat16.cache_clear()


# --- bare modules -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 5), (5,), (2, 1, 5), (1, 2, 5), (1, 1, 1, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bare_linear_layer_takes_one_vector_or_many(shape, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3, bias=bias).double(), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(bare(layer)(x), layer(x))


@pytest.mark.parametrize("config", COMPOSITIONS, ids=lambda config: type(config).__name__)
def test_a_bare_model_computes_the_very_same(config):
    model = model_of(config)
    twin = bare(model)
    assert twin is not model
    token_ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        assert torch.equal(twin(token_ids), model(token_ids))
        caches, their_caches = twin.new_caches(2), model.new_caches(2)
        for part in token_ids.split([4, 1, 1, 3], dim=1):
            assert torch.equal(twin(part, caches), model(part, their_caches))
    assert type(model) is GPT


def test_a_twin_sees_what_its_model_learns():
    model = model_of(COMPOSITIONS[1])
    twin, token_ids = bare(model), torch.arange(5)[None]
    before = twin(token_ids)
    with torch.no_grad():
        model.token_embedding.weight.mul_(1.5)
    assert torch.equal(twin(token_ids), model(token_ids))
    assert not torch.equal(twin(token_ids), before)


def test_a_twin_drops_nothing_and_leaves_its_model_training():
    model = GPT(GPT2Config(**SIZES, dropout=0.5)).train()
    twin, token_ids = bare(model), torch.arange(5)[None]
    assert torch.equal(twin(token_ids), twin(token_ids))
    assert all(part.training for part in model.modules())
    assert torch.equal(twin(token_ids), model.eval()(token_ids))


def test_a_module_that_does_more_than_its_forward_stays_itself():
    model = model_of(COMPOSITIONS[1])
    heard = []
    hook = model.blocks[1].attention.register_forward_hook(lambda *_: heard.append(1))
    assert bare(model) is model
    generate(model, [[1, 2]], max_new_tokens=3)
    assert len(heard) == 3
    hook.remove()
    assert bare(model) is not model
    model.blocks[0].forward = lambda x, cache, first_position: x
    assert bare(model) is model
    compiled = nn.Sequential(torch.jit.ScriptModule())
    assert bare(compiled) is compiled


# --- weights as one vector reads them -----------------------------------------------------------


@pytest.mark.parametrize("config", COMPOSITIONS, ids=lambda config: type(config).__name__)
def test_a_model_laid_out_anew_is_the_same_model(config):
    model = model_of(config)
    before = {name: tensor.stride() for name, tensor in model.named_parameters()}
    other = lay_out(model.train())
    assert not other.training
    assert other.head.weight.stride() == (1, 50)
    assert other.token_embedding.weight.is_contiguous()
    assert other.blocks[0].feed_forward.contract.weight.is_contiguous()
    assert {name: tensor.stride() for name, tensor in model.named_parameters()} == before
    model.eval()
    token_ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        assert_same(other(token_ids), model(token_ids), rtol=1e-5, atol=1e-5)
        loss = other.loss(token_ids, token_ids.roll(-1, 1))
        assert_same(loss, model.loss(token_ids, token_ids.roll(-1, 1)), rtol=1e-5, atol=1e-5)
    prompts = [[1, 2, 3], [4]]
    assert generate(other, prompts, max_new_tokens=9) == generate(model, prompts, max_new_tokens=9)


# --- weights in 8 bits --------------------------------------------------------------------------


def layer_and_input(num_in=40, num_out=30, num_rows=7, bias=True):
    torch.manual_seed(0)
    return nn.Linear(num_in, num_out, bias=bias), torch.randn(num_rows, num_in)


def without_packing(layer: Int8Linear) -> Int8Linear:
    """Take the plain path, as where PyTorch lacks the kernel."""
    plain = copy.deepcopy(layer)
    plain._packed = None
    return plain


@given(
    rows=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=6
    )
)
def test_no_weight_is_off_by_more_than_half_its_scale(rows):
    weight = torch.tensor(rows)
    layer = Int8Linear(weight)
    off = (layer.weight.double() - weight.double()).abs()
    rounding = 2**-22 * weight.double().abs()
    assert (off <= layer.scale[:, None].double() / 2 + rounding).all()
    assert layer.quantized.dtype == torch.int8
    assert (layer.scale > 0).all()
    assert layer.quantized.abs().amax(dim=1).tolist() == [127 if any(row) else 0 for row in rows]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (7, 40), (2, 3, 40)])
def test_the_kernel_and_the_plain_path_agree(bias, shape):
    layer, _ = layer_and_input(bias=bias)
    small = Int8Linear(layer.weight, layer.bias)
    x = torch.randn(shape)
    x[..., 3] = 50.0  # a channel far beyond the others, as real models have
    ours, wanted = small(x), without_packing(small)(x)
    assert ours.shape == wanted.shape == layer(x).shape
    assert_same(wanted, F.linear(x, small.weight, layer.bias).detach(), rtol=1e-6, atol=1e-6)
    assert (ours - wanted).norm() < 1e-3 * wanted.norm()


@pytest.mark.skipif(not kernels._can_pack(), reason="this PyTorch has no 8-bit kernel here")
def test_inputs_are_cut_into_two_digits_of_fourteen_bits_together():
    layer, x = layer_and_input(num_in=300, num_rows=50)
    small = Int8Linear(layer.weight)
    exact = x.double() @ small.weight.double().T
    off = (small(x) - exact).norm() / exact.norm()
    assert off < 3e-4
    one_digit = (x / x.abs().amax(1, keepdim=True) * 63).round() / 63
    one_digit = one_digit * x.abs().amax(1, keepdim=True)
    coarse = (one_digit.double() @ small.weight.double().T - exact).norm() / exact.norm()
    assert off < coarse / 50


def test_a_row_gets_what_it_gets_alone():
    layer, x = layer_and_input()
    small = Int8Linear(layer.weight, layer.bias)
    x[2] *= 1e4
    together = small(x)
    for row, wanted in zip(x, together, strict=True):
        assert_same(small(row), wanted, rtol=1e-6, atol=1e-6)


def test_zeros_nan_and_infinity_come_through():
    layer, x = layer_and_input()
    small = Int8Linear(layer.weight, layer.bias)
    x[0], x[1, 0], x[2, 0] = 0.0, math.nan, math.inf
    out = small(x)
    assert_same(out[0], layer.bias.detach(), rtol=0.0, atol=1e-7)
    assert not out[1].isfinite().any()
    assert not out[2].isfinite().any()
    assert out[3:].isfinite().all()


def test_other_dtypes_take_the_plain_path():
    layer, x = layer_and_input()
    small = Int8Linear(layer.weight, layer.bias)
    for dtype in (torch.float64, torch.bfloat16):
        assert small(x.to(dtype)).dtype == dtype
    wanted = x.double() @ small.weight.double().T + layer.bias.double()
    assert_same(small(x.double()), wanted.detach())
    assert Int8Linear(layer.weight.bfloat16()).scale.dtype == torch.float32


def test_without_the_kernel_everything_still_works(monkeypatch):
    model = model_of(COMPOSITIONS[1])
    fast = generate(quantize(model), [[1, 2, 3]], max_new_tokens=5)
    kernels._can_pack.cache_clear()
    monkeypatch.setattr(kernels, "_multiply", lambda *_: torch.ops.quantized.there_is_none())
    assert not kernels._can_pack()
    small = quantize(model)
    assert small.head._packed is None
    assert generate(small, [[1, 2, 3]], max_new_tokens=5) == fast
    kernels._can_pack.cache_clear()


@pytest.mark.parametrize("config", COMPOSITIONS, ids=lambda config: type(config).__name__)
def test_a_quantized_model_generates_with_its_cache_and_is_close(config):
    model = model_of(config)
    before = copy.deepcopy(model.state_dict())
    small = quantize(model)
    assert not any(type(part) is nn.Linear for part in small.modules())
    assert sum(type(part) is Int8Linear for part in small.modules()) == 4 * 2 + 1
    assert torch.equal(small.token_embedding.weight, model.token_embedding.weight)
    token_ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        logits, wanted = small(token_ids), model(token_ids)
        assert (logits - wanted).norm() < 0.05 * wanted.norm()
        assert not torch.equal(logits, wanted)
        caches = small.new_caches(2)
        parts = [small(part, caches) for part in token_ids.split([4, 1, 4], dim=1)]
        assert_same(torch.cat(parts, dim=1), logits, rtol=1e-2, atol=1e-2)
        loss = small.loss(token_ids, token_ids.roll(-1, 1))
        assert abs(loss - model.loss(token_ids, token_ids.roll(-1, 1))) < 0.05
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_what_is_quantized_refuses_to_learn():
    small = quantize(model_of(COMPOSITIONS[1]))
    assert not any(parameter.requires_grad for parameter in small.parameters())
    with pytest.raises(ValueError, match="cannot be trained; train the model that it was made"):
        small.train()
    layer, x = layer_and_input()
    with pytest.raises(ValueError, match="gradients came into a layer of int8 weights"):
        Int8Linear(layer.weight)(x.requires_grad_())
    with torch.no_grad():
        Int8Linear(layer.weight)(x)


def test_a_quantized_model_can_be_copied():
    small = quantize(model_of(COMPOSITIONS[1]))
    token_ids = torch.arange(5)[None]
    assert torch.equal(copy.deepcopy(small)(token_ids), small(token_ids))


@pytest.mark.usefixtures("without_shape_checks")
def test_what_cannot_be_quantized_is_named():
    with pytest.raises(TypeError, match=r"matrix of floats, not torch.int64"):
        Int8Linear(torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \(3,\) came"):
        Int8Linear(torch.ones(3))
    with pytest.raises(ValueError, match="nan or infinity"):
        Int8Linear(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match=r"no nn.Linear inside Embedding"):
        quantize(nn.Embedding(2, 2))
