"""Exercises of chapter 3: heads, shared heads, the cache."""

import math
from collections.abc import Callable
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
    """Recognize the usual ways in which heads get other tokens' or other heads' numbers."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor):
        return difference
    x, num_heads = arguments
    if not compare(x.unflatten(-1, (num_heads, -1)), got):
        return f"the head axis still stands behind the tokens, swap the two; {difference}"
    if not compare(x.reshape(expected.shape), got):
        return (
            "a view or reshape straight to (B, H, T, K) deals the numbers out in their old order, "
            "so that heads get the vectors of other tokens: split the last axis first, then swap "
            f"two axes; {difference}"
        )
    if not compare(x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2), got):
        return f"each head should get neighboring numbers, not every H-th one; {difference}"
    return difference


def _share_heads(x: Tensor, num_heads: int) -> Tensor:
    """Hand each group of neighboring query heads its keys: (B, G, S, K) to (B, H, S, K)."""
    return x.repeat_interleave(num_heads // x.shape[1], dim=1)


def _judge_share(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the order that `repeat` gives."""
    difference = compare(expected, got)
    x, num_heads = arguments
    if difference and not compare(x.repeat(1, num_heads // x.shape[1], 1, 1), got):
        return f"the order should be 0, 0, 1, 1, but 0, 1, 0, 1 came; {difference}"
    return difference


def _multi_head(
    x: Tensor, w_query: Tensor, w_key: Tensor, w_value: Tensor, w_output: Tensor, num_heads: int
) -> Tensor:
    """Apply causal multi-head attention with the given matrices, each (D, D)."""
    query, key, value = (_split_heads(x @ w, num_heads) for w in (w_query, w_key, w_value))
    return attend(query, key, value).transpose(1, 2).flatten(-2) @ w_output


def _judge_multi_head(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a wrong width in the root, and what was left out, transposed or mixed up."""
    difference = compare(expected, got)
    if difference is None:
        return None
    x, w_query, w_key, w_value, w_output, num_heads = arguments
    inner = (w_query, w_key, w_value)
    inner_transposed = (w_query.mT, w_key.mT, w_value.mT)
    head_dim = x.shape[-1] // num_heads
    query, key, value = (_split_heads(x @ w, num_heads) for w in inner)

    def output(stretch: float = 1.0, *, causal: bool = True) -> Tensor:
        """Repeat the right answer, but with scores `stretch` times as large."""
        return attend(stretch * query, key, value, causal=causal).transpose(1, 2).flatten(-2)

    mistakes: dict[str, Callable[[], Tensor]] = {
        "the scores are divided by the root of D, but a head is only K numbers wide": (
            lambda: output(num_heads**-0.5) @ w_output
        ),
        "the scores are not divided by the root of K": lambda: output(head_dim**0.5) @ w_output,
        "tokens see the future, the causal mask is missing": (
            lambda: output(causal=False) @ w_output
        ),
        "the output matrix is missing": output,
        "the output matrix is transposed": lambda: output() @ w_output.mT,
        "the matrices are transposed, as nn.Linear would store them; here it is x @ w": (
            lambda: _multi_head(x, *inner_transposed, w_output.mT, num_heads)
        ),
        "queries, keys and values come from transposed matrices": (
            lambda: _multi_head(x, *inner_transposed, w_output, num_heads)
        ),
        "there is one softmax over the whole width, not one for each head": (
            lambda: _multi_head(x, *inner, w_output, 1)
        ),
        "the heads are laid side by side without swapping heads and tokens back first": (
            lambda: attend(query, key, value).reshape(x.shape) @ w_output
        ),
    }
    for mistake, answer in mistakes.items():
        if not compare(answer(), got):
            return f"{mistake}; {difference}"
    return difference


def _num_texts(
    free_bytes: int,
    num_layers: int,
    d_model: int,
    num_heads: int,
    num_kv_heads: int,
    context_length: int,
    bytes_per_number: int,
) -> int:
    """Count the whole texts whose keys and values fit into `free_bytes`."""
    head_dim = d_model // num_heads
    bytes_per_token = 2 * num_layers * num_kv_heads * head_dim * bytes_per_number
    return free_bytes // (bytes_per_token * context_length)


def _judge_num_texts(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a factor that was forgotten, and texts that are not whole."""
    difference = compare(expected, got)
    if difference is None:
        return difference
    free_bytes, num_layers, d_model, num_heads, num_kv_heads, context_length, width = arguments
    numbers = 2 * num_layers * num_kv_heads * (d_model // num_heads) * context_length
    one_text = numbers * width
    mistakes = {
        "only whole texts count": [free_bytes / one_text, math.ceil(free_bytes / one_text)],
        "a text needs its keys and its values": [free_bytes // (one_text // 2)],
        "every layer has keys and values of its own": [free_bytes // (one_text // num_layers)],
        "every token of the text is remembered": [free_bytes // (one_text // context_length)],
        "a number takes bytes_per_number bytes": [free_bytes // numbers],
        "sharing keys makes fewer heads, not wider ones: each is d_model / num_heads wide": [
            free_bytes // (one_text // num_kv_heads * num_heads)
        ],
    }
    for mistake, answers in mistakes.items():
        if any(not compare(answer, got) for answer in answers):
            return f"{mistake}; {difference}"
    return difference


def _chunk_mask(num_queries: int, num_keys: int, window: int | None = None) -> Tensor:
    """Mark what the last `num_queries` of `num_keys` positions see, at most `window` keys each."""
    visible = causal_mask(num_queries, num_keys)
    if window is None:
        return visible
    return visible.triu(num_keys - num_queries - window + 1)


def _judge_mask(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a mask that is inverted, of numbers, without the offset, or off by one."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if got.dtype != torch.bool:
        return f"True and False were expected, but numbers of {got.dtype} came"
    num_queries, num_keys, *rest = arguments
    window = rest[0] if rest else None
    if torch.equal(got, ~expected):
        return f"True means visible, and this mask has it the other way round; {difference}"
    if window is not None and torch.equal(got, _chunk_mask(num_queries, num_keys)):
        return f"the window is not applied; {difference}"
    if window is not None and torch.equal(got, _chunk_mask(num_queries, num_keys, window + 1)):
        return f"a window counts the token itself; {difference}"
    first = torch.ones_like(expected).tril()
    if torch.equal(got, first if window is None else first.triu(1 - window)):
        return f"the queries are the last of the keys, not the first; {difference}"
    if (got & ~_chunk_mask(num_queries, num_keys)).any():
        return f"a query sees a key in its future; {difference}"
    return difference


def _cached_step(
    query: Tensor, key: Tensor, value: Tensor, past_keys: Tensor, past_values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend from one new token to the past and itself; return the mixture and both caches."""
    keys = torch.cat([past_keys, key], dim=-2)
    values = torch.cat([past_values, value], dim=-2)
    weights = (query @ keys.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)
    return weights @ values, keys, values


def _judge_step(
    expected: tuple[Tensor, ...], got: Any, arguments: tuple[Tensor, ...]
) -> str | None:
    """Say which of the three things is wrong, and recognize the usual wrong mixtures."""
    if isinstance(got, Tensor):
        return "three things were expected (mixture, keys, values), but one tensor came"
    if not isinstance(got, tuple | list) or len(got) != 3:
        return compare(expected, got)
    query, key, value, past_keys, past_values = arguments
    _, keys, values = expected
    for name, wanted, came, old, new in (
        ("keys", keys, got[1], past_keys, key),
        ("values", values, got[2], past_values, value),
    ):
        difference = compare(wanted, came)
        if difference and not compare(torch.cat([new, old], dim=1), came):
            return f"the new token belongs behind the past {name}, not in front; {difference}"
        if difference:
            return f"the {name} to remember: {difference}"
    difference = compare(expected[0], got[0])
    if difference is None:
        return None
    mistakes = {"it sees only the first key; one new token needs no mask": values[:, :1]}
    scores = query @ keys.mT
    mistakes["the scores are not divided by the root of K"] = scores.softmax(dim=-1) @ values
    if past_keys.shape[1]:
        past = attend(query, past_keys, past_values)
        mistakes["the new token does not see itself: remember first, then attend"] = past
    else:
        nothing = torch.zeros_like(expected[0])
        mistakes["without a past the new token still sees itself"] = nothing
    for mistake, answer in mistakes.items():
        if not compare(answer, got[0]):
            return f"{mistake}; {difference}"
    return f"the mixture: {difference}"


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
            (torch.arange(12.0).reshape(1, 3, 4), 2),
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
        cases=lambda: [_matrices(1, 3, 4, 2), _matrices(2, 5, 12, 3), _matrices(2, 4, 4, 1)],
        judge=_judge_multi_head,
    ),
    "num_texts": Exercise(
        _num_texts,
        cases=lambda: [
            (10_000, 3, 8, 2, 2, 10, 1),
            (10**9, 12, 768, 12, 12, 1024, 4),
            (16 * 10**9, 32, 4096, 32, 32, 8192, 2),
            (16 * 10**9, 32, 4096, 32, 8, 8192, 2),
            (10**6, 80, 8192, 64, 1, 100, 2),
        ],
        judge=_judge_num_texts,
    ),
    "chunk_mask": Exercise(
        _chunk_mask,
        cases=lambda: [(3, 3), (2, 5), (1, 4), (4, 4, 2), (3, 6, 3), (2, 5, 1), (2, 3, 9)],
        judge=_judge_mask,
    ),
    "cached_step": Exercise(
        _cached_step,
        cases=lambda: [_step(2, 0, 4), _step(1, 2, 4), _step(3, 5, 4), _step(2, 1, 9)],
        judge=_judge_step,
    ),
}
