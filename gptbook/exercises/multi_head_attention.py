"""Exercises of chapter 3: heads, shared heads, the cache."""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.attention import attend, causal_mask
from gptbook.exercises import Exercise, compare


def _randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw the same numbers for every reader."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Cut each token's vector into `num_heads` slices: (B, T, D) to (B, H, T, K)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _judge_split(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the two ways in which heads get other tokens' or other heads' numbers."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    x, num_heads = arguments
    if not compare(x.reshape(expected.shape), got):
        return (
            f"{difference}; a view or reshape straight to (B, H, T, K) deals the numbers out in "
            "their old order, so that heads get the vectors of other tokens: split the last axis "
            "first, then swap two axes"
        )
    if not compare(x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2), got):
        return f"{difference}; each head should get neighboring numbers, not every H-th one"
    return difference


def _share_heads(x: Tensor, num_heads: int) -> Tensor:
    """Hand each group of neighboring query heads its keys: (B, G, S, K) to (B, H, S, K)."""
    return x.repeat_interleave(num_heads // x.shape[1], dim=1)


def _judge_share(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the order that `repeat` gives."""
    difference = compare(expected, got)
    x, num_heads = arguments
    if difference and not compare(x.repeat(1, num_heads // x.shape[1], 1, 1), got):
        return f"{difference}; the order should be 0, 0, 1, 1, but 0, 1, 0, 1 came"
    return difference


def _multi_head(
    x: Tensor, w_query: Tensor, w_key: Tensor, w_value: Tensor, w_output: Tensor, num_heads: int
) -> Tensor:
    """Apply causal multi-head attention with the given matrices, each (D, D)."""
    query, key, value = (_split_heads(x @ w, num_heads) for w in (w_query, w_key, w_value))
    return attend(query, key, value).transpose(1, 2).flatten(-2) @ w_output


def _cache_bytes(
    num_layers: int,
    d_model: int,
    num_heads: int,
    num_kv_heads: int,
    context_length: int,
    bytes_per_number: int,
) -> int:
    """Count the bytes of all keys and values of one text."""
    head_dim = d_model // num_heads
    return 2 * num_layers * num_kv_heads * head_dim * context_length * bytes_per_number


def _chunk_mask(num_queries: int, num_keys: int, window: int | None = None) -> Tensor:
    """Mark what the last `num_queries` of `num_keys` positions see, at most `window` keys each."""
    visible = causal_mask(num_queries, num_keys)
    if window is None:
        return visible
    return visible.triu(num_keys - num_queries - window + 1)


def _cached_step(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend from one new token to the past and itself; return the mixture and both caches."""
    keys = torch.cat([past_keys, key], dim=-2)
    values = torch.cat([past_values, value], dim=-2)
    weights = (query @ keys.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)
    return weights @ values, keys, values


def _matrices(batch_size: int, num_tokens: int, d_model: int, num_heads: int) -> tuple[Any, ...]:
    """Draw an input and the four matrices."""
    x = _randn(batch_size, num_tokens, d_model, seed=1)
    return (x, *(_randn(d_model, d_model, seed=seed) / 2 for seed in range(2, 6)), num_heads)


def _step(num_heads: int, num_past: int, head_dim: int) -> tuple[Tensor, ...]:
    """Draw one new token and its past."""
    new = [_randn(num_heads, 1, head_dim, seed=seed) for seed in range(3)]
    return (*new, *(_randn(num_heads, num_past, head_dim, seed=seed) for seed in (3, 4)))


EXERCISES = {
    "split_heads": Exercise(
        _split_heads,
        cases=lambda: [
            (torch.arange(8.0).reshape(1, 2, 4), 2),
            (_randn(2, 3, 12), 4),
            (_randn(3, 4, 4), 2),
            (_randn(1, 5, 6), 1),
        ],
        judge=_judge_split,
    ),
    "share_heads": Exercise(
        _share_heads,
        cases=lambda: [
            (torch.arange(2.0).reshape(1, 2, 1, 1), 4),
            (_randn(2, 2, 3, 4), 6),
            (_randn(1, 1, 3, 2), 4),
            (_randn(2, 3, 3, 3), 3),
        ],
        judge=_judge_share,
    ),
    "multi_head": Exercise(
        _multi_head,
        cases=lambda: [_matrices(1, 2, 4, 2), _matrices(2, 5, 12, 3), _matrices(2, 4, 4, 1)],
    ),
    "cache_bytes": Exercise(
        _cache_bytes,
        cases=lambda: [
            (12, 768, 12, 12, 1024, 4),
            (32, 4096, 32, 8, 8192, 2),
            (1, 60, 6, 2, 7, 1),
            (80, 8192, 64, 1, 100, 2),
        ],
    ),
    "chunk_mask": Exercise(
        _chunk_mask,
        cases=lambda: [(3, 3), (2, 5), (1, 4), (4, 4, 2), (3, 6, 3), (2, 5, 1), (2, 3, 9)],
    ),
    "cached_step": Exercise(
        _cached_step,
        cases=lambda: [_step(1, 2, 4), _step(3, 5, 4), _step(2, 1, 9), _step(2, 0, 4)],
    ),
}
