"""The transformer block: what stands between two layers of attention, and how it is stacked.

Chapter 5 builds the two norms, the two feed-forward networks and the block that joins them to
attention, in today's order (pre-norm) and in that of 2017 (post-norm).

Shapes: B batch, T positions, D d_model, F d_ff.

References:
    Vaswani et al. (2017), "Attention Is All You Need", sections 3.1 and 3.3.
    https://arxiv.org/abs/1706.03762
    Ba, Kiros and Hinton (2016), "Layer Normalization". https://arxiv.org/abs/1607.06450
    Zhang and Sennrich (2019), "Root Mean Square Layer Normalization".
    https://arxiv.org/abs/1910.07467
    Shazeer (2020), "GLU Variants Improve Transformer". https://arxiv.org/abs/2002.05202
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture".
    https://arxiv.org/abs/2002.04745
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptbook.attention import CausalSelfAttention, KVCache
from gptbook.kernels import gelu_tanh

Activation = Literal["gelu_tanh", "gelu", "relu"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": gelu_tanh,
    "gelu": F.gelu,
    "relu": F.relu,
}


class LayerNorm(nn.LayerNorm):
    """Shift and scale each vector to mean 0 and variance 1, then by a learned weight and bias.

    The variance is the population's (divided by D), and `eps` is added to it inside the root.

    Raises:
        TypeError: If `d_model` is not a whole number, or `eps` no number.
        ValueError: If `d_model` is less than 1, or `eps` negative.

    References:
        Ba, Kiros and Hinton (2016), section 3.

    >>> LayerNorm(d_model=2, eps=0.0)(torch.tensor([3.0, 5.0])).tolist()
    [-1.0, 1.0]
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        _check_width("d_model", d_model)
        _check_eps(eps)
        super().__init__(d_model, eps=eps)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return the vectors, shifted and scaled."""
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """Scale each vector to a mean square of 1, then by a learned weight; nothing is shifted.

    Raises:
        TypeError: If `d_model` is not a whole number, or `eps` no number.
        ValueError: If `d_model` is less than 1, or `eps` negative.

    References:
        Zhang and Sennrich (2019), section 3.

    >>> RMSNorm(d_model=2, eps=0.0)(torch.tensor([7.0, 1.0])).tolist()
    [1.399999976158142, 0.20000000298023224]
    """

    def __init__(self, d_model: int, *, eps: float = 1e-6) -> None:
        _check_width("d_model", d_model)
        _check_eps(eps)
        super().__init__(d_model, eps=eps)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return the scaled vectors.

        On a CPU, PyTorch (2.13) takes the gradient of its own operation one small step at a time,
        for two to three times as long.
        """
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if learns and x.is_cpu and x.dtype == self.weight.dtype in (torch.float32, torch.float64):
            return _ScaleToUnit.apply(x, self.weight, self.eps)
        return super().forward(x)


class _ScaleToUnit(torch.autograd.Function):
    """RMSNorm whose gradient comes from LayerNorm's kernel, the term for the mean given back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Scale each vector, then by the weight."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # one a vector
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Take LayerNorm's gradient at mean 0, and add what it subtracts for moving the mean."""
        x, weight, scale = ctx.saved_tensors
        d_x, d_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, weight.shape, torch.zeros_like(scale), scale, weight, None, _BOTH
        )
        means = (
            torch.mv(gradient.reshape(-1, x.shape[-1]), weight).view_as(scale).div_(weight.numel())
        )
        return d_x.add_(means.mul_(scale)), d_weight, None


_BOTH = [True, True, False]  # the gradients of x and of the weight; there is no bias


def usual_d_ff(d_model: int) -> int:
    """Give the inner width of a feed-forward network if no one chooses another: four times D.

    >>> usual_d_ff(768)
    3072
    """
    return 4 * d_model


def usual_gated_d_ff(d_model: int) -> int:
    """Give the inner width at which three gated matrices cost what two plain ones do.

    That is two thirds of `usual_d_ff`, made a multiple of 8, on which processors are quick.

    References:
        Shazeer (2020), section 3: two thirds of the width, for equal parameters.

    >>> usual_gated_d_ff(768)
    2048
    """
    return 8 * math.ceil(2 * usual_d_ff(d_model) / (3 * 8))


class FeedForward(nn.Module):
    """Think about each position by itself: widen, bend, narrow.

    Args:
        d_model: Width of the vectors that come in and go out.
        d_ff: Width in between; `usual_d_ff(d_model)` by default.
        activation: What bends: GPT's own approximation of the GELU by a tanh, the exact GELU, or
            the 2017 Transformer's ReLU.
        bias: Whether both matrices add a learned constant, as GPT-2's do.
        dropout: Probability with which each inner value is dropped in training.

    Raises:
        TypeError: If a width is not a whole number, or `dropout` not a number.
        ValueError: If a width is less than 1, `dropout` no probability, or `activation` unknown.

    References:
        Vaswani et al. (2017), section 3.3.

    >>> FeedForward(d_model=8)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        *,
        d_model: int,
        d_ff: int | None = None,
        activation: Activation = "gelu_tanh",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_width("d_model", d_model)
        d_ff = usual_d_ff(d_model) if d_ff is None else d_ff
        _check_width("d_ff", d_ff)
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(get_args(Activation))}, not {activation!r}"
            )
        check_dropout(dropout)
        self.expand = nn.Linear(d_model, d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)
        self.activation, self.dropout = activation, dropout
        self._bend = _ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        """Replace each vector by what the network makes of it.

        Raises:
            ValueError: If `x` has another width.
        """
        _check_vectors(x, self.expand.in_features)
        inner = self._bend(self.expand(x))  # (B, T, F)
        return self.contract(_drop(inner, self.dropout) if self.training else inner)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"activation={self.activation!r}, dropout={self.dropout}"


class GatedFeedForward(nn.Module):
    """Widen twice, let one copy open or close the other, narrow: SwiGLU.

    Args:
        d_model: Width of the vectors that come in and go out.
        d_ff: Width in between; `usual_gated_d_ff(d_model)` by default.
        bias: Whether the matrices add a learned constant; Llama's do not.

    Raises:
        TypeError: If a width is not a whole number.
        ValueError: If a width is less than 1.

    References:
        Shazeer (2020), equation 6.

    >>> GatedFeedForward(d_model=8)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, *, d_model: int, d_ff: int | None = None, bias: bool = False) -> None:
        super().__init__()
        _check_width("d_model", d_model)
        d_ff = usual_gated_d_ff(d_model) if d_ff is None else d_ff
        _check_width("d_ff", d_ff)
        self.expand = nn.Linear(d_model, 2 * d_ff, bias=bias)  # gates first, then what they let by
        self.contract = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*B T D"]) -> Float[Tensor, "*B T D"]:
        """Replace each vector by what the network makes of it.

        Raises:
            ValueError: If `x` has another width.
        """
        _check_vectors(x, self.expand.in_features)
        gate, inner = self.expand(x).chunk(2, dim=-1)  # each (B, T, F)
        return self.contract(F.silu(gate) * inner)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network, each adding to the vectors that pass by (pre-norm).

    The residual stream `x` is only ever added to; each part reads it through a norm of its own.

    Args:
        attention: Carries information between positions.
        feed_forward: Works on each position by itself.
        attention_norm: What attention reads through.
        feed_forward_norm: What the feed-forward network reads through.
        dropout: Probability with which each number is dropped, in training, from what the two
            parts add.

    Raises:
        TypeError: If `dropout` is not a number.
        ValueError: If `dropout` is no probability.

    References:
        Xiong et al. (2020), figure 1(b); Radford et al. (2019), section 2.3.

    >>> block = TransformerBlock(
    ...     attention=CausalSelfAttention(d_model=8, num_heads=2),
    ...     feed_forward=FeedForward(d_model=8),
    ...     attention_norm=LayerNorm(d_model=8),
    ...     feed_forward_norm=LayerNorm(d_model=8),
    ... )
    >>> block(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        *,
        attention: CausalSelfAttention,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        self.attention, self.attention_norm = attention, attention_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm
        self.dropout = dropout

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cache: KVCache | None = None,
        first_position: int | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add to each vector what attention and the feed-forward network make of it.

        Args:
            x: One vector a token.
            cache: Keys and values of the tokens before `x`; those of `x` are added to it.
            first_position: Position of the first token of `x`: by default where the cache
                ends, or 0.

        Errors are those of `CausalSelfAttention.forward`.
        """
        mixed = self.attention(self.attention_norm(x), cache, first_position)
        x = x + (_drop(mixed, self.dropout) if self.training else mixed)
        worked = self.feed_forward(self.feed_forward_norm(x))
        return x + (_drop(worked, self.dropout) if self.training else worked)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"dropout={self.dropout}"


class PostNormBlock(TransformerBlock):
    """The same parts in the order of 2017 and of GPT-1: add first, then norm the sum (post-norm).

    The residual stream itself passes through every norm, so nothing reaches the end unchanged.

    References:
        Vaswani et al. (2017), section 3.1; Xiong et al. (2020), figure 1(a).

    >>> block = PostNormBlock(
    ...     attention=CausalSelfAttention(d_model=8, num_heads=2),
    ...     feed_forward=FeedForward(d_model=8),
    ...     attention_norm=LayerNorm(d_model=8),
    ...     feed_forward_norm=LayerNorm(d_model=8),
    ... )
    >>> block(torch.randn(1, 5, 8)).mean(dim=-1).abs().max().item() < 1e-6
    True
    """

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cache: KVCache | None = None,
        first_position: int | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add what attention makes of the vectors, norm; add what the network makes, norm.

        Args:
            x: One vector a token.
            cache: Keys and values of the tokens before `x`; those of `x` are added to it.
            first_position: Position of the first token of `x`: by default where the cache
                ends, or 0.

        Errors are those of `CausalSelfAttention.forward`.
        """
        mixed = self.attention(x, cache, first_position)
        x = self.attention_norm(x + (_drop(mixed, self.dropout) if self.training else mixed))
        worked = self.feed_forward(x)
        worked = _drop(worked, self.dropout) if self.training else worked
        return self.feed_forward_norm(x + worked)


def check_dropout(dropout: object) -> None:
    """Refuse what is no probability below 1.

    >>> check_dropout(0.1)
    """
    if isinstance(dropout, bool) or not isinstance(dropout, Real):
        raise TypeError(f"dropout is a probability such as 0.1, not {dropout!r}; 0.0 turns it off")
    if not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout is a probability in [0, 1), not {dropout}; 0.0 turns it off")


def _drop(x: Tensor, dropout: float) -> Tensor:
    """Drop numbers at random; at zero there is no work at all."""
    return F.dropout(x, dropout) if dropout else x


def _check_width(name: str, width: object) -> None:
    """Refuse what is no number of channels."""
    if isinstance(width, bool) or not isinstance(width, Integral):
        raise TypeError(f"{name} must be a whole number, not {width!r}; pass an int")
    if int(width) < 1:
        raise ValueError(f"{name} must be at least 1, not {width}")


def _check_eps(eps: object) -> None:
    """Refuse what cannot keep a root away from zero."""
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise TypeError(f"eps must be a number such as 1e-5, not {eps!r}")
    if not 0 <= float(eps) < math.inf:
        raise ValueError(f"eps is added to a variance, so it cannot be {eps}; 1e-5 is usual")


def _check_vectors(x: Tensor, d_model: int) -> None:
    """Refuse vectors of another width."""
    if x.shape[-1] != d_model:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but its last axis must be d_model={d_model} wide"
        )
