"""Causal self-attention: how each token gathers from the tokens before it.

Chapter 2 builds one head, with loops and then as two matrix products. Chapter 3 puts many
heads side by side, lets them share keys and values, and remembers both in a cache.

Shapes: B batch, T query positions, S key positions, D d_model, H heads, G key/value heads,
K head_dim, with D = H * K.

References:
    Vaswani et al. (2017), "Attention Is All You Need", section 3.2.
    https://arxiv.org/abs/1706.03762
    Shazeer (2019), "Fast Transformer Decoding: One Write-Head is All You Need".
    https://arxiv.org/abs/1911.02150
    Ainslie et al. (2023), "GQA: Training Generalized Multi-Query Transformer Models from
    Multi-Head Checkpoints". https://arxiv.org/abs/2305.13245
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gptbook.kernels import prefers_explicit_attention

# Chapter 4 gives two ways to tell attention where the tokens stand. A rotary encoding takes queries
# or keys, "*B T K", and the position of the first of them, and turns each by its position. A score
# bias takes the numbers of queries and keys and gives what to add to their scores, "H T S".
Rotary = Callable[[Tensor, int], Tensor]
ScoreBias = Callable[[int, int], Tensor]


def causal_mask(
    num_queries: int, num_keys: int, device: torch.device | None = None
) -> Bool[Tensor, "T S"]:
    """Mark with True the keys that each query may see: itself and the past.

    The queries are the last `num_queries` of the keys, so the same mask serves training (as
    many queries as keys) and cached generation (one query).

    Raises:
        TypeError: If a number is not whole.
        ValueError: If there are more queries than keys, or fewer than none.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    _check_counts(at_least=0, num_queries=num_queries, num_keys=num_keys)
    if num_queries > num_keys:
        raise ValueError(
            f"{num_queries} queries cannot be the last of {num_keys} keys; "
            "pass at least as many keys as queries"
        )
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return visible.tril(diagonal=num_keys - num_queries)


def attention_weights(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    *,
    causal: bool = True,
    bias: Float[Tensor, "*#heads T S"] | None = None,
) -> Float[Tensor, "*heads T S"]:
    """Share out each query's attention over the keys it may see; every row sums to 1.

    This is the explicit form, for figures and for proofs: it writes the whole T by S matrix
    down. `attend` gives the same mixture without ever holding that matrix.

    Args:
        query: What each position looks for.
        key: What each position can be found by.
        causal: Hide the future. Without it every query sees every key, as in an encoder.
        bias: Added to the scores before the softmax; -inf hides a key. A row that hides every key
            it could see has nothing to share out and becomes nan.

    Raises:
        TypeError: If one of them is not a tensor of floats, or their dtypes differ.
        ValueError: If queries and keys differ in width or in heads, if there is no key, if the
            bias does not fit the scores, or if (causal) queries outnumber keys.

    References:
        Vaswani et al. (2017), equation 1.

    >>> alike = torch.ones(4, 2)
    >>> attention_weights(alike, alike)[1].tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    _check_vectors(query, key)
    _check_bias(bias, query, key)
    return _share_out(query, key, causal, bias)


def _share_out(query: Tensor, key: Tensor, causal: bool, bias: Tensor | None) -> Tensor:
    """Compute the weights of what has been checked."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    if causal:
        future = ~causal_mask(query.shape[-2], key.shape[-2], device=query.device)
        scores = scores.masked_fill(future, -math.inf)
    return scores.softmax(dim=-1)


def attend(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S K2"],
    *,
    causal: bool = True,
    bias: Float[Tensor, "*#heads T S"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*heads T K2"]:
    """Replace each query by the mixture of values that its attention weights prescribe.

    The same numbers as `attention_weights(query, key) @ value`, by PyTorch's fused kernel.

    Args:
        query: What each position looks for.
        key: What each position can be found by.
        value: What each position passes on; its width may differ from the keys'.
        causal: Hide the future.
        bias: Added to the scores before the softmax; -inf hides a key.
        dropout: Probability with which each attention weight is dropped; those that stay are
            divided by 1 - dropout. On a CPU, PyTorch then holds the whole matrix after all.

    Raises:
        TypeError: If one of them is not a tensor of floats, their dtypes differ, or `dropout` is
            not a number.
        ValueError: As `attention_weights`, or if keys and values differ in number, or `dropout`
            is no probability.

    >>> value = torch.tensor([[2.0], [4.0]])
    >>> attend(torch.zeros(2, 1), torch.zeros(2, 1), value).tolist()
    [[2.0], [3.0]]
    """
    _check_vectors(query, key, value)
    _check_bias(bias, query, key)
    _check_dropout(dropout)
    return _mix(query, key, value, causal, bias, dropout)


def _mix(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, bias: Tensor | None, dropout: float
) -> Tensor:
    """Mix what has been checked, the quickest way."""
    if query.dtype == torch.bfloat16 and not dropout and prefers_explicit_attention(query):
        return _share_out(query, key, causal, bias) @ value
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    if num_queries == 1 and bias is None and not dropout:  # generating; all keys are its past
        return F.scaled_dot_product_attention(query, key, value)
    kernel_masks = causal and bias is None and num_queries == num_keys
    mask = bias
    if causal and not kernel_masks and num_queries != 1:
        visible = causal_mask(num_queries, num_keys, device=query.device)
        mask = visible if bias is None else bias.masked_fill(~visible, -math.inf)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=kernel_masks
    )


def width_of_head(d_model: int, num_heads: int) -> int:
    """Divide the model's width evenly between the heads.

    Raises:
        TypeError: If a number is not whole.
        ValueError: If `d_model` is not a positive multiple of `num_heads`.

    >>> width_of_head(768, 12)
    64
    """
    _check_counts(d_model=d_model, num_heads=num_heads)
    if d_model % num_heads:
        next_multiple = math.ceil(d_model / num_heads) * num_heads
        raise ValueError(
            f"d_model={d_model} is not a multiple of num_heads={num_heads}; "
            f"the next one is {next_multiple}"
        )
    return d_model // num_heads


class KVCache:
    """The keys and values of the tokens so far, so that each is computed once.

    Memory for `context_length` positions is taken at the start; appending copies only what is
    new. It is for generating, not for training, so use it under `torch.no_grad()`.

    Raises:
        TypeError: If a size is not a whole number, or `dtype` holds no fractions.
        ValueError: If a size is less than 1.

    >>> cache = KVCache(batch_size=1, num_kv_heads=2, head_dim=4, context_length=8)
    >>> keys, values = cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    >>> keys.shape[2], len(cache), cache.num_bytes
    (3, 3, 512)
    """

    def __init__(
        self,
        *,
        batch_size: int,
        num_kv_heads: int,
        head_dim: int,
        context_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        _check_counts(
            batch_size=batch_size,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            context_length=context_length,
        )
        if not dtype.is_floating_point:
            raise TypeError(f"a cache of {dtype} cannot hold keys; use torch.float32 or the like")
        # The keys of all heads, then the values: where both come in one tensor, one copy will do.
        shape = (batch_size, 2 * num_kv_heads, context_length, head_dim)
        self._memory = torch.zeros(shape, dtype=dtype, device=device)
        self._length = 0

    def __len__(self) -> int:
        """How many positions are remembered."""
        return self._length

    @property
    def context_length(self) -> int:
        """How many positions there is room for."""
        return self._memory.shape[2]

    @property
    def num_bytes(self) -> int:
        """Memory taken by the keys and values together, in bytes."""
        return self._memory.numel() * self._memory.element_size()

    def append(
        self,
        key: Float[Tensor, "B G T K"],
        value: Float[Tensor, "B G T K"],
        first_position: int | None = None,
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Remember the next positions and return all keys and all values so far.

        Args:
            key: Keys of the new positions.
            value: Values of the new positions.
            first_position: Where the caller believes the new positions begin.

        Returns:
            Views of the cache's own memory: they change when it is truncated and filled anew.

        Raises:
            TypeError: If they are not of the cache's dtype.
            ValueError: If they do not begin where the cache ends, do not fit, are not of the
                cache's shape and device, or carry gradients. After any error the cache is as it
                was before.
        """
        for name, new in (("keys", key), ("values", value)):
            self._check(name, new, self._memory.shape[1] // 2)
        if key.shape != value.shape:
            raise ValueError(
                f"keys of shape {tuple(key.shape)} and values of shape {tuple(value.shape)} came; "
                "each key needs the value it stands for"
            )
        return self.extend(torch.cat([key, value], dim=1), first_position)

    def extend(
        self, key_value: Float[Tensor, "B G2 T K"], first_position: int | None = None
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Do as `append`, where the values of all heads lie behind the keys of all heads.

        That is how one projection makes them, and how they are remembered. Errors are those of
        `append`.
        """
        self._check("keys and values", key_value, self._memory.shape[1])
        if first_position is not None and type(first_position) is not int:
            _check_counts(at_least=0, first_position=first_position)
        start, num_new = self._length, key_value.shape[2]
        stop = start + num_new
        if first_position is not None and first_position != start:
            raise ValueError(
                f"out of order: position {first_position} came, but the cache ends at {start}; "
                f"feed position {start} next, or go back with cache.truncate(...)"
            )
        if stop > self.context_length:
            raise ValueError(
                f"{num_new} more tokens after {start} do not fit in a cache of "
                f"context_length={self.context_length}; make a longer cache, or truncate it"
            )
        self._memory.narrow(2, start, num_new).copy_(key_value)
        self._length = stop
        keys, values = self._memory.narrow(2, 0, stop).chunk(2, 1)
        return keys, values

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on.

        Raises:
            TypeError: If `length` is not a whole number.
            ValueError: If the cache does not hold that many positions.
        """
        _check_counts(at_least=0, length=length)
        if length > len(self):
            raise ValueError(
                f"cannot cut a cache of {len(self)} positions to {length}; "
                f"choose a length from 0 to {len(self)}"
            )
        self._length = length

    def select_rows(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the batch, in this order; a row may come several times, or not at all.

        Generation needs it where a text goes on in two ways, and where one is at its end.

        Raises:
            TypeError: If `rows` does not hold whole numbers.
            ValueError: If there are none, or one is not a row of the cache.
        """
        batch_size = len(self._memory)
        if not isinstance(rows, Tensor) or rows.dtype not in (torch.int32, torch.int64):
            raise TypeError(
                f"rows must be a tensor of whole numbers, not {_kind(rows)}; "
                "write torch.tensor([0, 2]), not a mask"
            )
        if rows.dim() != 1 or not rows.numel() or not 0 <= rows.min() <= rows.max() < batch_size:
            raise ValueError(
                f"rows {rows.tolist()} came, but this cache has rows 0 to {batch_size - 1}; "
                "name at least one of them, in one list"
            )
        kept = self._memory[rows, :, : len(self)]
        if len(rows) != batch_size:
            self._memory = self._memory.new_zeros(len(rows), *self._memory.shape[1:])
        self._memory[:, :, : len(self)] = kept

    def _check(self, name: str, new: Tensor, num_heads: int) -> None:
        """Refuse what is of another batch, head, device or dtype, or under training."""
        memory = self._memory
        if not isinstance(new, Tensor) or new.dtype != memory.dtype:
            raise TypeError(
                f"{name} of {_kind(new)} do not fit a cache of {memory.dtype}; "
                "make the cache with the dtype of the keys"
            )
        batch_size, _, _, head_dim = memory.shape
        num_new = new.shape[2] if new.dim() == 4 else 1
        fits = new.shape == (batch_size, num_heads, num_new, head_dim)
        if not fits or new.device != memory.device:
            raise ValueError(
                f"{name} of shape {tuple(new.shape)} on {new.device} do not fit a cache for "
                f"(batch_size={batch_size}, num_kv_heads={memory.shape[1] // 2}, T, "
                f"head_dim={head_dim}) on {memory.device}; make the cache with "
                "attention.new_cache(batch_size, context_length)"
            )
        if new.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name} that carry gradients came, but a cache is for generating; "
                "call the layer under torch.no_grad()"
            )


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one.

    Args:
        d_model: Width of the vectors that come in and go out.
        num_heads: How many queries each position asks at once.
        num_kv_heads: How many heads of keys and values the queries share; as many as
            `num_heads` by default, 1 for multi-query attention.
        dropout: Probability with which each attention weight is dropped in training.
        bias: Whether the projections add a learned constant, as GPT-2's do.
        rotary: Turns queries and keys by their position.
        score_bias: Adds a bias to the scores by distance.

    Raises:
        TypeError: If a size is not a whole number, or `dropout` is not a number.
        ValueError: If the widths do not divide evenly, or `dropout` is no probability.

    >>> CausalSelfAttention(d_model=8, num_heads=2)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: Rotary | None = None,
        score_bias: ScoreBias | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = width_of_head(d_model, num_heads)
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        _check_counts(num_kv_heads=self.num_kv_heads)
        if num_heads % self.num_kv_heads:
            divisors = [n for n in range(1, num_heads + 1) if num_heads % n == 0]
            raise ValueError(
                f"num_heads={num_heads} query heads cannot share num_kv_heads={num_kv_heads} "
                f"evenly; choose one of {divisors}"
            )
        _check_dropout(dropout)
        self.dropout = dropout
        self.rotary = rotary
        self.score_bias = score_bias
        d_projected = (num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.query_key_value = nn.Linear(d_model, d_projected, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        cache: KVCache | None = None,
        first_position: int | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Replace each token's vector by a mixture of those up to and including it.

        Args:
            x: One vector a token.
            cache: Keys and values of the tokens before `x`; those of `x` are added to it.
            first_position: Position of the first token of `x`: by default where the cache
                ends, or 0.

        Raises:
            TypeError: If `x` is not a tensor of floats, or a position is not a whole number.
            ValueError: If `x` is not (batch, tokens, d_model), does not follow what the cache
                holds, or does not fit into it. The cache is then as it was before.
        """
        if cache is None or self.rotary is not None:
            query, key, value = self.project(x, self._start(cache, first_position))
            if cache is not None:
                key, value = cache.append(key, value, first_position)
        else:  # keys and values come side by side, and are remembered so
            sizes = [self.num_heads, 2 * self.num_kv_heads]
            query, key_value = self._project(x).split_with_sizes(sizes, 1)
            key, value = cache.extend(key_value, first_position)
        if self.num_kv_heads < self.num_heads:
            key, value = self._share(key), self._share(value)
        bias = None if self.score_bias is None else self._bias(query, key)
        dropout = self.dropout if self.training else 0.0
        mixed = _mix(query, key, value, True, bias, dropout)
        return self.output(mixed.transpose(1, 2).flatten(start_dim=-2))  # heads side by side

    def weights(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H T T"]:
        """Return the attention weights behind `forward(x)`, before any dropout.

        For figures: it writes a T by T matrix down for every head, which `forward` never does.
        """
        query, key, _ = self.project(x, 0)
        return attention_weights(query, self.share(key), bias=self._bias(query, key))

    def project(
        self, x: Float[Tensor, "B T D"], first_position: int = 0
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B G T K"], Float[Tensor, "B G T K"]]:
        """Compute every head's queries, keys and values, already turned by their position."""
        if type(first_position) is not int or first_position < 0:
            _check_counts(at_least=0, first_position=first_position)
        num_heads, num_shared = self.num_heads, self.num_kv_heads
        heads = self._project(x)
        if self.rotary is None:
            query, key, value = heads.split_with_sizes([num_heads, num_shared, num_shared], 1)
            return query, key, value
        turning, value = heads.split_with_sizes([num_heads + num_shared, num_shared], 1)
        turned = self.rotary(turning, first_position)
        query, key = turned.split_with_sizes([num_heads, num_shared], 1)
        return query, key, value

    def split_heads(self, x: Float[Tensor, "B T GK"]) -> Float[Tensor, "B G T K"]:
        """Cut each token's vector into one slice per head."""
        if x.dim() != 3 or x.shape[-1] % self.head_dim:
            raise ValueError(
                f"shape {tuple(x.shape)} cannot be cut into heads; it must be (batch, tokens, "
                f"a multiple of head_dim={self.head_dim})"
            )
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def merge_heads(self, x: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
        """Lay the heads side by side again: the inverse of `split_heads`."""
        if x.dim() != 4:
            raise ValueError(
                f"shape {tuple(x.shape)} has no heads to merge; it must be (batch, heads, tokens, "
                "head_dim), as split_heads returns"
            )
        return x.transpose(1, 2).flatten(start_dim=-2)

    def share(self, x: Float[Tensor, "B G S K"]) -> Float[Tensor, "B H S K"]:
        """Hand each group of query heads the keys or values that it shares."""
        if x.dim() != 4 or x.shape[1] != self.num_kv_heads:
            raise ValueError(
                f"shape {tuple(x.shape)} came to be shared, but it must be (batch, "
                f"num_kv_heads={self.num_kv_heads}, tokens, head_dim), as project returns"
            )
        return self._share(x)

    def new_cache(self, batch_size: int, context_length: int) -> KVCache:
        """Make an empty cache of this layer's shape, dtype and device.

        Raises:
            TypeError: If a size is not a whole number.
            ValueError: If a size is less than 1.
        """
        weight = self.output.weight
        return KVCache(
            batch_size=batch_size,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            context_length=context_length,
            dtype=weight.dtype,
            device=weight.device,
        )

    def _project(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H2G T K"]:
        """Compute every head's queries, then the keys, then the values."""
        d_model = self.num_heads * self.head_dim
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a tensor of floats, not {_kind(x)}; embed token ids first")
        if x.dim() != 3 or x.shape[-1] != d_model:
            raise ValueError(
                f"x of shape {tuple(x.shape)} came, but this layer takes (batch, tokens, "
                f"d_model={d_model}); give a single text a batch axis with x.unsqueeze(0)"
            )
        shape = (*x.shape[:2], self.num_heads + 2 * self.num_kv_heads, self.head_dim)
        return self.query_key_value(x).view(shape).transpose(1, 2)

    def _share(self, x: Tensor) -> Tensor:
        """Share what has been checked."""
        group_size = self.num_heads // self.num_kv_heads
        return x if group_size == 1 else x.repeat_interleave(group_size, dim=1)

    def _bias(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Give the bias for the scores of these queries and keys, if the layer has one."""
        if self.score_bias is None:
            return None
        bias = self.score_bias(query.shape[-2], key.shape[-2]).to(query)
        _check_bias(bias, query, key)
        return bias

    @staticmethod
    def _start(cache: KVCache | None, first_position: int | None) -> int:
        """Find the position of the first token that comes in."""
        if first_position is not None:
            return first_position
        return 0 if cache is None else len(cache)


def _check_vectors(query: Tensor, key: Tensor, value: Tensor | None = None) -> None:
    """Refuse queries, keys and values that cannot belong together."""
    vectors = {"query": query, "key": key} | ({} if value is None else {"value": value})
    for name, x in vectors.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats, not {_kind(x)}")
        if x.dim() < 2:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)} is no list of vectors; "
                "its last two axes must be (positions, width)"
            )
        if x.shape[:-2] != query.shape[:-2]:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)} and query of shape {tuple(query.shape)} must "
                "agree in all but the last two axes; hand shared heads out with attention.share"
            )
        if x.dtype != query.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} of {x.dtype} and query of {query.dtype} must agree in dtype")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"queries of width {query.shape[-1]} cannot be compared with keys of width "
            f"{key.shape[-1]}; project both to the same head_dim"
        )
    if query.shape[-2] and not key.shape[-2]:
        raise ValueError("queries came but no key to attend to; pass at least one key")
    if value is not None and value.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"{key.shape[-2]} keys but {value.shape[-2]} values; "
            "each key needs the value it stands for"
        )


def _check_bias(bias: Tensor | None, query: Tensor, key: Tensor) -> None:
    """Refuse a bias that cannot be added to the scores of these queries and keys."""
    if bias is None:
        return
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        raise TypeError(
            f"bias is added to the scores, so it must be a tensor of floats, not {_kind(bias)}; "
            "write a mask as 0.0 where a key is seen and -inf where it is hidden"
        )
    scores = (*query.shape[:-1], key.shape[-2])
    axes = list(zip(bias.shape[::-1], scores[::-1], strict=False))
    matches = all(size == wanted for size, wanted in axes[:2])
    broadcasts = all(size in (1, wanted) for size, wanted in axes[2:])
    if not (2 <= bias.dim() <= len(scores) and matches and broadcasts):
        raise ValueError(
            f"bias of shape {tuple(bias.shape)} does not fit scores of shape {scores}; "
            f"pass (..., {scores[-2]}, {scores[-1]})"
        )


def _check_counts(*, at_least: int = 1, **counts: object) -> None:
    """Refuse what is no number of things: a fraction, a truth value, too small a number."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise TypeError(f"{name} must be a whole number, not {count!r}; pass an int")
        if int(count) < at_least:
            raise ValueError(f"{name} must be at least {at_least}, not {count}")


def _check_dropout(dropout: object) -> None:
    """Refuse what is no probability below 1."""
    if isinstance(dropout, bool) or not isinstance(dropout, Real):
        raise TypeError(f"dropout is a probability such as 0.1, not {dropout!r}; 0.0 turns it off")
    if not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout is a probability in [0, 1), not {dropout}; 0.0 turns it off")


def _kind(x: object) -> str:
    """Name the dtype of a tensor, or the type of anything else."""
    return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
