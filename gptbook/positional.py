"""Positions: how attention, which is blind to order, learns where each token stands.

Chapter 4 builds four ways. Two add a vector to each token before the first layer: sinusoidal and
learned. Two act inside attention, through the hooks of `CausalSelfAttention`: rotary turns queries
and keys, ALiBi lowers the scores of far keys.

None but `LearnedPositions` has anything to save. What the others need is worked out from the
position itself, in float64, and rounded once; so a state dict holds no table that could be missing,
have another length or have lost its precision.

Shapes: B batch, T query positions, S key positions, D d_model, H heads, K head_dim.

References:
    Vaswani et al. (2017), "Attention Is All You Need", section 3.5.
    https://arxiv.org/abs/1706.03762
    Su et al. (2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    https://arxiv.org/abs/2104.09864
    Press, Smith and Lewis (2021), "Train Short, Test Long: Attention with Linear Biases Enables
    Input Length Extrapolation". https://arxiv.org/abs/2108.12409
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Pairing = Literal["halves", "neighbors"]


def sinusoidal_positions(
    num_positions: int,
    d_model: int,
    *,
    base: float = 10_000.0,
    first_position: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "T D"]:
    """Describe each position by the hands of d_model / 2 clocks, from fast to slow.

    Channel 2i holds the sine and channel 2i + 1 the cosine of hand i, which turns by
    `base ** (-2i / d_model)` radians a position.

    Args:
        num_positions: How many positions to describe.
        d_model: Width of each description.
        base: How many times slower than the first hand the one after the last would turn.
        first_position: Where to start.
        dtype: What to round to; the angles themselves are float64.

    Raises:
        ValueError: If `d_model` is odd, a position negative, or `base` not above 1.
        TypeError: If a count is no integer.

    References:
        Vaswani et al. (2017), section 3.5.

    >>> sinusoidal_positions(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    angles = _angles(num_positions, d_model, base, first_position, width_name="d_model")
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=-2).to(dtype)


def shift_matrix(
    offset: int, d_model: int, *, base: float = 10_000.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "D D"]:
    """Give the one matrix that moves every sinusoidal position by `offset`.

    `sinusoidal[p] @ shift_matrix(offset, d_model)` is `sinusoidal[p + offset]`, whatever p is. A
    negative offset moves back.

    Raises:
        ValueError: If `d_model` is odd, or `base` not above 1.
        TypeError: If `offset` or `d_model` is no integer.

    >>> shift_matrix(0, 2).tolist()
    [[1.0, -0.0], [0.0, 1.0]]
    """
    _check_integer("offset", offset)
    angles = offset * _angles(2, d_model, base, 0, width_name="d_model")[1]
    cos, sin = angles.cos(), angles.sin()
    turns = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return torch.block_diag(*turns).to(dtype)


class SinusoidalPositions(nn.Module):
    """Add to each token's vector the sinusoidal description of its position.

    There is nothing to learn, nothing to save, and no longest sequence.

    >>> SinusoidalPositions(d_model=2)(torch.zeros(1, 2, 2))[0, 0].tolist()
    [0.0, 1.0]
    """

    def __init__(self, d_model: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        _check_width("d_model", d_model)
        _check_base("base", base)
        self.d_model, self.base = d_model, base
        self._table = _Table(
            lambda num_positions: sinusoidal_positions(
                num_positions, d_model, base=base, dtype=torch.float64
            )
        )

    def forward(
        self, x: Float[Tensor, "*B T D"], first_position: int = 0
    ) -> Float[Tensor, "*B T D"]:
        """Return x plus the positions from `first_position` on.

        Raises:
            ValueError: If `x` has another width, or `first_position` is negative.
            TypeError: If `first_position` is no integer, or `x` holds none but integers.
        """
        _check_vectors(x, "d_model", self.d_model)
        return x + self._table.rows(first_position, x.shape[-2], x.device, x.dtype)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"d_model={self.d_model}, base={self.base}"


class LearnedPositions(nn.Module):
    """Add to each token's vector a learned one for its position, as GPT-2 does.

    The same interface as `SinusoidalPositions`, but a position beyond the table has no vector.

    >>> LearnedPositions(context_length=1_024, d_model=768).weight.shape
    torch.Size([1024, 768])
    """

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        _check_integer("context_length", context_length, at_least=1)
        _check_integer("d_model", d_model, at_least=1)
        self.weight = nn.Parameter(torch.empty(context_length, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start small, as GPT-2 did."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, x: Float[Tensor, "*B T D"], first_position: int = 0
    ) -> Float[Tensor, "*B T D"]:
        """Return x plus the learned vectors from `first_position` on.

        Raises:
            ValueError: If `x` has another width, or a position is negative or past the table.
            TypeError: If `first_position` is no integer, or `x` holds none but integers.
        """
        context_length, d_model = self.weight.shape
        _check_vectors(x, "d_model", d_model)
        _check_integer("first_position", first_position, at_least=0)
        stop = first_position + x.shape[-2]
        if stop > context_length:
            raise ValueError(
                f"positions {first_position} to {stop - 1} do not fit in context_length="
                f"{context_length}; keep the last {context_length} tokens and start at 0, or "
                "train a longer table"
            )
        return x + self.weight.narrow(0, first_position, stop - first_position)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        context_length, d_model = self.weight.shape
        return f"context_length={context_length}, d_model={d_model}"


class RotaryPositions(nn.Module):
    """Turn queries and keys by their position, so that their products see only distance.

    Channels are taken in pairs, and pair i of a vector at position p is turned by the angle
    `p * theta ** (-2i / head_dim)`. Two ways to pair are in use, and a checkpoint works with its
    own alone: "halves" pairs channel i with i + head_dim / 2 (GPT-NeoX, Llama in transformers),
    "neighbors" pairs 2i with 2i + 1 (the paper, GPT-J, Llama as Meta published it).
    `pairing_permutation` turns one into the other.

    Pass it to `CausalSelfAttention(rotary=...)`.

    Args:
        head_dim: Width of the queries and keys.
        theta: How many times slower than the first pair the one after the last would turn.
        pairing: Which channels turn together.

    References:
        Su et al. (2021), section 3.2.2.

    >>> quarter_turn = RotaryPositions(2)(torch.tensor([[1.0, 0.0]]), first_position=11)
    >>> [round(channel, 2) for channel in quarter_turn[0].tolist()]  # 11 is 3.5 pi, almost
    [0.0, -1.0]
    """

    def __init__(
        self, head_dim: int, *, theta: float = 10_000.0, pairing: Pairing = "halves"
    ) -> None:
        super().__init__()
        _check_width("head_dim", head_dim)
        _check_base("theta", theta)
        if pairing not in get_args(Pairing):
            raise ValueError(
                f"pairing must be one of {', '.join(get_args(Pairing))}, not {pairing!r}; take "
                "the one that the weights were trained with"
            )
        self.head_dim, self.theta, self.pairing = head_dim, theta, pairing
        self._table = _Table(
            lambda num_positions: _cosines_and_sines(num_positions, head_dim, theta)
        )

    def forward(
        self, x: Float[Tensor, "*B T K"], first_position: int = 0
    ) -> Float[Tensor, "*B T K"]:
        """Turn each vector by its position; the dtype stays, whatever it is.

        Raises:
            ValueError: If `x` has another width, or `first_position` is negative.
            TypeError: If `first_position` is no integer, or `x` holds none but integers.
        """
        _check_vectors(x, "head_dim", self.head_dim)
        exact = torch.promote_types(x.dtype, torch.float32)  # bfloat16 would blur the angles
        table = self._table.rows(first_position, x.shape[-2], x.device, exact)
        cos, sin = table.chunk(2, dim=-1)  # each (T, K / 2)
        if self.pairing == "halves":
            left, right = x.chunk(2, dim=-1)
            turned = torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
        else:
            left, right = x[..., 0::2], x[..., 1::2]
            pairs = torch.stack([left * cos - right * sin, left * sin + right * cos], dim=-1)
            turned = pairs.flatten(start_dim=-2)
        return turned.to(x.dtype)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"head_dim={self.head_dim}, theta={self.theta}, pairing={self.pairing!r}"


def pairing_permutation(head_dim: int) -> Int[Tensor, " K"]:
    """Order the channels of a "neighbors" head as a "halves" head expects them.

    With `order = pairing_permutation(head_dim)`, `halves(x[..., order])` equals
    `neighbors(x)[..., order]`. Going back takes `order.argsort()`.

    Raises:
        ValueError: If `head_dim` is odd.
        TypeError: If `head_dim` is no integer.

    >>> pairing_permutation(6).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    _check_width("head_dim", head_dim)
    return torch.arange(head_dim).unflatten(0, (-1, 2)).T.flatten()


def alibi_slopes(num_heads: int) -> Float[Tensor, " H"]:
    """Give how much each head's scores drop with each step of distance.

    For a power of two the slopes halve, or fall by a root of a half, from head to head down to
    1 / 256. For other counts, the next lower power of two is filled up with every second slope
    of the next higher one, as the authors of ALiBi do.

    Raises:
        ValueError: If `num_heads` is below 1.
        TypeError: If `num_heads` is no integer.

    References:
        Press, Smith and Lewis (2021), section 3, and their published code for other counts.

    >>> alibi_slopes(3).tolist()
    [0.0625, 0.00390625, 0.25]
    """
    _check_integer("num_heads", num_heads, at_least=1)
    power = 2 ** (num_heads.bit_length() - 1)
    regular = [2.0 ** (-8 * head / power) for head in range(1, power + 1)]
    between = [2.0 ** (-4 * head / power) for head in range(1, 2 * power, 2)]
    slopes = regular + between[: num_heads - power]
    return torch.tensor(slopes, dtype=torch.float32, device="cpu")


class AlibiBias(nn.Module):
    """Lower the scores of far keys, in each head at its own rate.

    Pass it to `CausalSelfAttention(score_bias=...)`. Nothing is saved: `num_heads` is all there is
    to know. The slopes follow the module to its device, but stay float32 in every dtype.

    >>> AlibiBias(num_heads=8)(1, 3)[0].tolist()
    [[-1.0, -0.5, -0.0]]
    """

    _place: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self._slopes = alibi_slopes(num_heads)
        self.register_buffer("_place", torch.empty(0), persistent=False)  # goes where we are sent

    @property
    def slopes(self) -> Float[Tensor, " H"]:
        """How much each head's scores drop with each step of distance."""
        if self._slopes.device != self._place.device:
            self._slopes = alibi_slopes(self.num_heads).to(self._place.device)
        return self._slopes

    def forward(self, num_queries: int, num_keys: int) -> Float[Tensor, "H T S"]:
        """Give what to add to the scores when the queries are the last of the keys.

        Raises:
            ValueError: If there are more queries than keys, or fewer than none.
            TypeError: If a count is no integer.
        """
        _check_integer("num_queries", num_queries, at_least=0)
        _check_integer("num_keys", num_keys, at_least=0)
        if num_queries > num_keys:
            raise ValueError(
                f"{num_queries} queries cannot be the last of {num_keys} keys; "
                "pass at least as many keys as queries"
            )
        slopes = self.slopes
        keys = torch.arange(num_keys, device=slopes.device)
        queries = keys[num_keys - num_queries :]
        distance = (queries[:, None] - keys).abs()  # (T, S)
        return -slopes[:, None, None] * distance

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"num_heads={self.num_heads}"


class _Table:
    """Rows for positions 0, 1, 2, ..., worked out once and lengthened when more are asked for."""

    def __init__(self, make: Callable[[int], Tensor]) -> None:
        self.make = make
        self.known: Tensor | None = None

    def rows(
        self, first_position: int, num_positions: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """Give the rows from `first_position` on, for this device and in this dtype."""
        _check_integer("first_position", first_position, at_least=0)
        stop = first_position + num_positions
        known = self.known
        if known is None or len(known) < stop or (known.device, known.dtype) != (device, dtype):
            length = 1 << max(stop - 1, 0).bit_length()  # doubles: long generations stay cheap
            with torch.inference_mode(False), torch.no_grad():  # good for training later, too
                known = self.known = self.make(length).to(device=device, dtype=dtype)
        return known[first_position:stop]


def _angles(
    num_positions: int, width: int, base: float, first_position: int, *, width_name: str
) -> Float[Tensor, "T pairs"]:
    """Give the angle of every pair of channels at every position, in radians and in float64."""
    _check_width(width_name, width)
    _check_base("base", base)
    _check_integer("num_positions", num_positions, at_least=0)
    _check_integer("first_position", first_position, at_least=0)
    with torch.device("cpu"):  # whatever the default device: not all know float64
        stop = first_position + num_positions
        positions = torch.arange(first_position, stop, dtype=torch.float64)
        pairs = torch.arange(width // 2, dtype=torch.float64)
    return torch.outer(positions, base ** (-2 * pairs / width))


def _cosines_and_sines(
    num_positions: int, head_dim: int, theta: float
) -> Float[Tensor, "T head_dim"]:
    """Give the cosines, then the sines, by which rotary positions turn each pair."""
    angles = _angles(num_positions, head_dim, theta, 0, width_name="head_dim")
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _check_integer(name: str, value: int, *, at_least: int | None = None) -> None:
    """Refuse what is no count or position."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"{name} must be an integer, not the {type(value).__name__} {value!r}; "
            f"convert it with int(...)"
        )
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value}")


def _check_width(name: str, width: int) -> None:
    """Refuse a width that cannot be cut into pairs."""
    _check_integer(name, width, at_least=2)
    if width % 2:
        raise ValueError(
            f"{name}={width} is odd, but channels are taken in pairs; "
            f"use {width - 1} or {width + 1}"
        )


def _check_base(name: str, base: float) -> None:
    """Refuse a base with which later pairs would not turn more slowly."""
    if not isinstance(base, int | float) or isinstance(base, bool):
        raise TypeError(f"{name} must be a number, not the {type(base).__name__} {base!r}")
    if not 1 < base < math.inf:
        raise ValueError(f"{name} must be above 1 and finite, not {base}; 10_000.0 is usual")


def _check_vectors(x: Tensor, width_name: str, width: int) -> None:
    """Refuse anything but one vector of the right width for each position."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"positions are given to vectors of floating-point numbers, not to {kind}; "
            "embed token ids first"
        )
    if x.dim() < 2 or x.shape[-1] != width:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but {width_name}={width}; "
            f"its last two axes must be positions and {width} channels"
        )
