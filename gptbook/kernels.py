"""Kernels: the same numbers sooner. Every fast path of the package, and when it is taken.

Each choice was measured beside the plain way, on one thread of a processor with AVX2 and without
bfloat16 of its own unless its docstring says otherwise, and a test holds each path to the plain
way. Chapter 9 uses what speeds training up, chapter 12 what speeds generation up.

Shapes: N positions, D d_model, V vocab_size, I and O the widths of a linear layer's input and
output.

References:
    Hendrycks and Gimpel (2016), "Gaussian Error Linear Units". https://arxiv.org/abs/1606.08415
    Hsu et al. (2024), "Liger Kernel: Efficient Triton Kernels for LLM Training".
    https://arxiv.org/abs/2410.10989
    Dettmers et al. (2022), "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale".
    https://arxiv.org/abs/2208.07339
"""

import copy
import functools
import math
import warnings
from numbers import Integral
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Model = TypeVar("Model", bound=nn.Module)

# --- attention in bfloat16 ----------------------------------------------------------------------


@functools.cache
def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies in bfloat16 faster than it could in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    return False


def prefers_explicit_attention(query: Tensor) -> bool:
    """Say whether to write the attention weights down instead of calling the fused kernel.

    Only in bfloat16, under training, on a CPU that multiplies bfloat16: there the fused kernel's
    gradient takes two to four times as long as the explicit formula's. On any other CPU the
    formula takes three times as long as the kernel.
    """
    learns = torch.is_grad_enabled() and query.requires_grad
    return learns and query.is_cpu and query.dtype == torch.bfloat16 and has_bfloat16(query.device)


# --- GPT's GELU ---------------------------------------------------------------------------------

# 1 + tanh(z) is 2 sigmoid(2 z). So GPT's x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) is
# x sigmoid(_SLOPE x + _CURVE x^3).
_SLOPE = 2 * math.sqrt(2 / math.pi)
_CURVE = 0.044715 * _SLOPE
_WORTH_MORE_CALLS = 8_192  # numbers; one call of PyTorch's is done with fewer before four of ours


def gelu_tanh(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Bend by GPT's approximation of the GELU, `F.gelu(x, approximate="tanh")`.

    On a CPU most of PyTorch's time for it goes into the tanh, and in the gradient again. Written
    with a sigmoid that is kept for the gradient, it takes half as long. In bfloat16 that gains
    nothing, but the exact GELU takes half as long there; the two differ by less than 0.0005, when
    bfloat16 is off by up to 0.002 near 1.

    References:
        Hendrycks and Gimpel (2016), section 2.

    >>> round(gelu_tanh(torch.tensor(1.0)).item(), 4)
    0.8412
    """
    if x.is_cpu:
        if x.dtype == torch.bfloat16:
            return F.gelu(x)
        if x.numel() >= _WORTH_MORE_CALLS and x.dtype in (torch.float32, torch.float64):
            return _SigmoidGELU.apply(x)
    return F.gelu(x, approximate="tanh")


class _SigmoidGELU(torch.autograd.Function):
    """GPT's GELU as x s with s = sigmoid(_SLOPE x + _CURVE x^3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Bend, and keep what the gradient is made of; the next layer keeps the result anyway."""
        s = torch.addcmul(x.new_tensor(_SLOPE), x, x, value=_CURVE).mul_(x).sigmoid_()
        bent = x * s
        ctx.save_for_backward(x, s, bent)
        return bent

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Multiply by s + x s (1 - s) (_SLOPE + 3 _CURVE x^2)."""
        x, s, bent = ctx.saved_tensors
        rise = torch.addcmul(x.new_tensor(_SLOPE), x, x, value=3 * _CURVE)
        return rise.mul_(torch.addcmul(bent, bent, s, value=-1)).add_(s).mul_(gradient)


# --- the loss -----------------------------------------------------------------------------------


def linear_cross_entropy(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    *,
    chunk_size: int = 512,
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """Return `F.cross_entropy(hidden @ weight.T, targets)` without ever holding all the logits.

    The logits of one chunk of positions at a time are turned into that chunk's share of the loss
    and of both gradients, in memory that the next chunk uses again. So the gradients are ready
    before `backward` is called, and cost no second look at the logits. At GPT-2's vocabulary this
    takes two thirds of the plain way's time; at one of 512 it is still a tenth quicker.

    Args:
        hidden: What the head reads, one vector a position.
        weight: What it is compared with, one vector a token.
        targets: The token that should come next, or `ignore_index` where none is to be predicted.
        chunk_size: How many positions' logits to hold at once.
        ignore_index: What stands in `targets` where nothing is to be predicted.

    Returns:
        The mean over the positions that are predicted, in nats, in float32 or better; nan if there
        are none, as PyTorch has it.

    Raises:
        TypeError: If the targets or `chunk_size` are not whole numbers.
        ValueError: If the shapes do not fit together, a target is not in the vocabulary, or
            `chunk_size` is less than 1.

    References:
        Hsu et al. (2024), section 3.2, FusedLinearCrossEntropy.

    >>> head = torch.zeros(10, 4)  # knows nothing: every token is as likely
    >>> loss = linear_cross_entropy(torch.ones(3, 4), head, torch.tensor([1, 2, -100]))
    >>> math.isclose(loss.item(), math.log(10), rel_tol=1e-6)
    True
    """
    _check_head(hidden, weight, targets, chunk_size)
    predicted = targets != ignore_index
    if not predicted.all():
        hidden, targets = hidden[predicted], targets[predicted]
    _check_targets(targets, len(weight))
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, targets, chunk_size, dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss, and with it both gradients, chunk by chunk.

    Logits stand as (V, C), C positions side by side: the matrix product that makes them is a
    quarter quicker so than as (C, V).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk_size: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """Add up the loss and the gradients; matrix products in `dtype`, sums in float32."""
        exact = torch.promote_types(dtype, torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.zeros_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=exact) if needs_weight else None
        rounded = weight.to(dtype)
        memory = hidden.new_empty(len(weight), min(chunk_size, len(hidden)), dtype=exact)
        loss = hidden.new_zeros((), dtype=exact)
        for start in range(0, len(hidden), chunk_size):
            rows = hidden[start : start + chunk_size].to(dtype)  # (C, D)
            wanted = targets[None, start : start + chunk_size]  # (1, C)
            logits = _product(rounded, rows.T, memory[:, : len(rows)])  # (V, C)
            peak = logits.amax(dim=0)
            loss += (peak - logits.gather(0, wanted)).sum()
            total = logits.sub_(peak).exp_().sum(dim=0)
            loss += total.log().sum()
            if not (needs_hidden or needs_weight):
                continue
            # softmax minus 1 at the target, times `total`; dividing the thin matrices is cheaper
            pull = logits.scatter_add_(0, wanted, -total[None]).to(dtype)
            share = total.mul_(len(hidden)).reciprocal_()[:, None]  # (C, 1)
            if d_hidden is not None:
                d_hidden[start : start + chunk_size] = (pull.T @ rounded) * share
            if d_weight is not None:
                _add_product(d_weight, pull, (rows * share).to(dtype))
        ctx.save_for_backward(d_hidden, d_weight)
        return loss / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Scale what is ready by the gradient of the loss, which is mostly 1."""
        d_hidden, d_weight = ctx.saved_tensors
        if not (gradient.is_cpu and gradient.item() == 1):
            d_hidden = None if d_hidden is None else d_hidden * gradient
            d_weight = None if d_weight is None else d_weight * gradient
        return d_hidden, d_weight, None, None, None


def _product(left: Tensor, right: Tensor, memory: Tensor) -> Tensor:
    """Multiply into memory that is there already; fresh memory costs as much as arithmetic."""
    if left.dtype == memory.dtype:
        return torch.mm(left, right, out=memory)
    return memory.copy_(left @ right)


def _add_product(sums: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to sums that may be of higher precision."""
    if left.dtype == sums.dtype:
        sums.addmm_(left, right)
    else:
        sums += left @ right


def _check_head(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_size: object) -> None:
    """Refuse what cannot belong together."""
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, Integral):
        raise TypeError(f"chunk_size must be a whole number, not {chunk_size!r}; pass an int")
    if int(chunk_size) < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}; 512 is a good size")
    fits = hidden.dim() == weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    if not fits or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"hidden of shape {tuple(hidden.shape)}, weight {tuple(weight.shape)} and targets "
            f"{tuple(targets.shape)} do not fit together; pass (positions, d_model), (vocab_size, "
            "d_model) and (positions,), with hidden.flatten(0, 1) and targets.flatten()"
        )
    if targets.dtype != torch.int64:
        raise TypeError(f"targets must be token ids in torch.int64, not {targets.dtype}")


def _check_targets(targets: Tensor, vocab_size: int) -> None:
    """Refuse targets that no logit stands for."""
    if not targets.numel():
        return
    smallest, largest = targets.aminmax()
    if smallest < 0 or largest >= vocab_size:
        raise ValueError(
            f"targets run from {smallest} to {largest}, but there are logits for 0 to "
            f"{vocab_size - 1}; mark what is not to be predicted with ignore_index"
        )


# --- modules without their bookkeeping ----------------------------------------------------------


def bare(module: Model) -> Model:
    """Return a twin of a module that computes the same, and nothing besides.

    Each call of an `nn.Module` looks for hooks, and each look at one of its parameters searches
    three dictionaries. For one token of a small model that is a third of the time. The twin runs
    the same `forward` on the same tensors, found as plain attributes, with dropout off. Only a
    linear layer to which a single vector comes multiplies in another way, which is quicker to call
    and rounds differently in the last digit.

    A module is its own twin if there is more to calling it than its class's `forward`: hooks, a
    `forward` of its own, or a compiled one. Make the twin anew when hooks or parameters are put in.

    >>> layer = nn.Linear(2, 3)
    >>> torch.equal(bare(layer)(torch.ones(1, 2)), layer(torch.ones(1, 2)))
    True
    """
    if any(_does_more(part) for part in module.modules()):
        return module
    return _twin(module)


def _twin(module: Model) -> Model:
    """Copy what a module is made of into the plain attributes of a new one."""
    kind: Any = type(module)
    twin: Any = object.__new__(_without_bookkeeping(kind))
    parts = {n: None if part is None else _twin(part) for n, part in module._modules.items()}
    vars(twin).update({**vars(module), **module._parameters, **module._buffers, **parts})
    vars(twin).update(_modules=parts, training=False)
    return twin


@functools.cache
def _without_bookkeeping(kind: type) -> type:
    """Derive a class whose objects are called by calling `forward`, and nothing besides."""
    forward = _linear if kind is nn.Linear else kind.forward  # type: ignore[attr-defined]
    return type(kind.__name__, (kind,), {"__call__": forward})


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Do what a linear layer does; a single vector need not be treated as a matrix."""
    bias = layer.bias
    if bias is None or x.numel() != layer.in_features or x.dim() != 3:
        return F.linear(x, layer.weight, bias)
    return torch.addmv(bias, layer.weight, x.view(-1)).view(1, 1, -1)


def _does_more(module: nn.Module) -> bool:
    """Find out whether a call does more than the class's `forward`."""
    compiled = isinstance(module, torch.jit.ScriptModule) or module._compiled_call_impl is not None
    called_otherwise = compiled or type(module).__call__ is not nn.Module.__call__
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(called_otherwise or hooks or "forward" in vars(module))


# --- weights as one vector reads them -----------------------------------------------------------


def lay_out(model: Model) -> Model:
    """Return a copy of a model, for generating, whose matrices lie as a single vector reads them.

    A matrix times one vector is bound by memory, and memory is quickest along long lines. PyTorch
    stores a linear layer output by output; where there are more outputs than inputs, the copy
    stores it input by input: the same numbers in a third less time. A head that shares its matrix
    with the embedding gets one of its own, so the copy takes more memory.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 2))
    >>> [layer.weight.stride() for layer in lay_out(model)]
    [(1, 8), (8, 1)]
    """
    copied = copy.deepcopy(model).requires_grad_(False).eval()
    for part in copied.modules():
        if type(part) is nn.Linear and part.out_features > part.in_features:
            weight = part.weight.t().contiguous().t()
            part.weight = nn.Parameter(weight, requires_grad=False)
    return copied


# --- weights in 8 bits --------------------------------------------------------------------------


class Int8Linear(nn.Module):
    """A linear layer whose weights are whole numbers from -127 to 127, times one scale a row.

    Generating one text is bound by memory: every weight is read for every token. A quarter of the
    bytes takes about a quarter of the time. What comes in stays (as good as) exact: where PyTorch
    has a kernel for 8-bit inputs, each vector goes through it as two digits in base 126, coarse and
    fine, and otherwise the weights are turned back for each call, which is slow.

    It is for generating: what cannot move by less than its scale cannot learn.

    Args:
        weight: The layer's weights.
        bias: What it adds, if anything.

    Raises:
        TypeError: If the weights are not a tensor of floats.
        ValueError: If they are no matrix, or not all finite.

    References:
        Dettmers et al. (2022), section 2.1, on one scale a row.

    >>> layer = Int8Linear(torch.tensor([[1.27, -0.5], [0.0, 254.0]]))
    >>> layer.quantized.tolist()
    [[127, -50], [0, 127]]
    >>> layer(torch.tensor([1.0, 0.0])).tolist()
    [1.2699999809265137, 0.0]
    """

    quantized: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None):
        super().__init__()
        _check_weight(weight)
        exact = weight.detach().to(torch.float32)
        scale = exact.abs().amax(dim=1) / _LARGEST
        scale = scale.where(scale > 0, 1.0)  # a row of zeros may have any scale
        numbers = (exact / scale[:, None]).round_().clamp_(-_LARGEST, _LARGEST)
        # None of it is saved: a checkpoint holds the weights that these were made from.
        self.register_buffer("quantized", numbers.to(torch.int8), persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)
        self.out_features, self.in_features = weight.shape
        self._packed = _pack(self.quantized, self.scale) if weight.is_cpu and _can_pack() else None
        self.training = False

    @property
    def weight(self) -> Float[Tensor, "O I"]:
        """The weights that the whole numbers stand for."""
        return self.quantized * self.scale[:, None]

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Multiply by the weights, and add the bias.

        Raises:
            ValueError: If `x` carries gradients.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                "gradients came into a layer of int8 weights, which only generates; "
                "train the model that it was made from, and quantize it again"
            )
        if self._packed is None or x.dtype != torch.float32 or not x.is_cpu:
            bias = None if self.bias is None else self.bias.to(x)
            return F.linear(x, self.weight.to(x), bias)
        product = _two_digit_product(x.reshape(-1, self.in_features), self._packed, self.bias)
        return product.view(*x.shape[:-1], self.out_features)

    def train(self, mode: bool = True) -> "Int8Linear":
        """Stay as it is.

        Raises:
            ValueError: If it is to train.
        """
        if mode:
            raise ValueError(
                "a layer of int8 weights cannot be trained; train the model that it was made "
                "from, and quantize it again"
            )
        return self

    def extra_repr(self) -> str:
        """Show the widths where PyTorch prints the module."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def quantize(model: Model) -> Model:
    """Return a copy of a model, for generating, whose linear layers hold 8-bit weights.

    Every other part stays as it is. So does an embedding whose matrix the head shares: of it a
    token reads one row, of the head's it reads all.

    Raises:
        ValueError: If there is no linear layer in the model.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    >>> quantize(model)
    Sequential(
      (0): Embedding(9, 4)
      (1): Int8Linear(in_features=4, out_features=9)
    )
    """
    small = copy.deepcopy(model).requires_grad_(False).eval()
    linear = [
        (parent, name, child)
        for parent in small.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    if not linear:
        raise ValueError(
            f"there is no nn.Linear inside {type(model).__name__}; pass a model that holds some, "
            "such as a GPT"
        )
    for parent, name, child in linear:
        setattr(parent, name, Int8Linear(child.weight, child.bias))
    return small


_LARGEST = 127  # of an int8, the same on both sides of zero
# The kernel adds pairs of products in 16 bits. Inputs of 7 bits, -63 to 63, cannot overflow them.
_REACH = 63
_BASE = 2 * _REACH  # what is left after rounding, times this, reaches as far again
_ZERO = 64  # what the kernel, whose inputs are 0 to 127, takes for 0
_DIGITS = torch.tensor([[1.0], [_BASE]])  # (2, 1)
_WORTH = torch.tensor([1.0, 1.0 / _BASE])  # (2,)


def _two_digit_product(
    x: Float[Tensor, "N I"], packed: Any, bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "N O"]:
    """Multiply by packed weights, each vector cut into a coarse and a fine digit."""
    unit = torch.linalg.vector_norm(x, math.inf, dim=-1)[:, None, None].div_(_REACH)  # (N, 1, 1)
    unit.clamp_(min=torch.finfo(x.dtype).tiny)
    digits = x[:, None] * (_DIGITS / unit)  # (N, 2, I)
    coarse, fine = digits.unbind(1)
    fine.sub_(coarse.round_(), alpha=_BASE)
    sums = _multiply(digits.flatten(0, 1), 1.0, _ZERO, packed).view(len(x), 2, -1)
    product = torch.bmm(unit * _WORTH, sums)[:, 0]
    return product if bias is None else product.add_(bias)


def _multiply(x: Tensor, scale: float, zero: int, packed: Any) -> Tensor:
    """Round inputs to 8 bits and multiply by packed weights; sums are of whole numbers, exact."""
    return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x, scale, zero, packed)


def _pack(quantized: Int[Tensor, "O I"], scale: Float[Tensor, " O"]) -> Any:
    """Lay 8-bit weights out as the kernel reads them."""
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # PyTorch means to drop tensors of this kind; without them `_can_pack` will say no.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
        zeros = torch.zeros(len(scale), dtype=torch.long)
        tensor = torch._make_per_channel_quantized_tensor(quantized, scale.double(), zeros, 0)
        try:
            torch.backends.quantized.engine = "fbgemm"
            return torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = engine


@functools.cache
def _can_pack() -> bool:
    """Find out, by trying, whether this PyTorch has the kernel for this processor."""
    one = torch.ones(1, 1)
    try:
        packed = _pack(one.to(torch.int8), one[0])
        return bool(_multiply(one, 1.0, _ZERO, packed) == 1)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False


def _check_weight(weight: Tensor) -> None:
    """Refuse what 8 bits cannot stand for."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight must be a matrix of floats, not {kind}")
    if weight.dim() != 2:
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} came, but it must be a matrix, "
            "(out_features, in_features)"
        )
    if not weight.isfinite().all():
        raise ValueError("weight holds nan or infinity, which no scale fits; mend the model first")
