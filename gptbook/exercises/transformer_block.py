"""Exercises of chapter 5: widths, counts, folds, orders and a gradient by hand."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gptbook.attention import CausalSelfAttention
from gptbook.exercises import Exercise, compare
from gptbook.layers import (
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    PostNormBlock,
    RMSNorm,
    TransformerBlock,
)


def gated_width(d_ff: int, multiple: int) -> int:
    """Give the least width at which three matrices hold as much as two of width `d_ff`."""
    return -(-2 * d_ff // (3 * multiple)) * multiple


def block_parameters(
    d_model: int, num_heads: int, num_kv_heads: int, d_ff: int, modern: bool
) -> int:
    """Count the parameters of a block by building it, without memory for its numbers."""
    with torch.device("meta"):
        attention = CausalSelfAttention(
            d_model=d_model, num_heads=num_heads, num_kv_heads=num_kv_heads, bias=not modern
        )
        network = GatedFeedForward if modern else FeedForward
        norm = RMSNorm if modern else LayerNorm
        parts = attention, network(d_model=d_model, d_ff=d_ff), norm(d_model), norm(d_model)
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def fold(
    norm_weight: Float[Tensor, " D"],
    norm_bias: Float[Tensor, " D"],
    weight: Float[Tensor, "F D"],
    bias: Float[Tensor, " F"],
) -> tuple[Float[Tensor, "F D"], Float[Tensor, " F"]]:
    """Let a matrix do what the norm's own weight and bias did before it."""
    return weight * norm_weight, bias + weight @ norm_bias


def order(block: Callable[[Tensor], Tensor], d_model: int) -> str:
    """Tell a pre-norm block from a post-norm one by a huge input."""
    x = 1e6 * _randn(1, 1, d_model, seed=0)
    return "pre" if block(x).norm() > 0.5 * x.norm() else "post"


def layer_norm_backward(
    x: Float[Tensor, "T D"], gradient: Float[Tensor, "T D"], eps: float
) -> Float[Tensor, "T D"]:
    """Take the gradient through LayerNorm, here by autograd."""
    watched = x.clone().requires_grad_()
    F.layer_norm(watched, x.shape[-1:], eps=eps).backward(gradient)
    assert watched.grad is not None
    return watched.grad


def _randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _width_cases() -> Iterator[tuple[Any, ...]]:
    yield 3_072, 1
    yield 16_384, 256
    yield 512, 8
    yield 100, 1
    yield 12, 8
    yield 96, 64
    yield 16, 8


def _count_cases() -> Iterator[tuple[Any, ...]]:
    yield 768, 12, 12, 3_072, False
    yield 768, 12, 12, 2_048, True
    yield 4_096, 32, 8, 14_336, True
    yield 64, 8, 2, 100, False
    yield 64, 8, 1, 100, True


def _fold_cases() -> Iterator[tuple[Any, ...]]:
    yield torch.tensor([2.0, 1.0]), torch.zeros(2), torch.eye(2), torch.zeros(2)
    yield torch.ones(2), torch.tensor([0.0, 3.0]), torch.eye(2), torch.tensor([1.0, 1.0])
    shapes = ((4,), (4,), (4, 4), (4,))
    yield tuple(_randn(*shape, seed=seed) for seed, shape in enumerate(shapes))
    shapes = ((5,), (5,), (3, 5), (3,))
    yield tuple(_randn(*shape, seed=seed) for seed, shape in enumerate(shapes))


def _sealed(kind: type[TransformerBlock], norm: type[nn.Module], d_model: int, seed: int) -> Any:
    """Build a block with random weights, those of its norms too, as a bare function."""
    generator = torch.Generator().manual_seed(seed)
    block = kind(
        attention=CausalSelfAttention(d_model=d_model, num_heads=2),
        feed_forward=FeedForward(d_model=d_model),
        attention_norm=norm(d_model),
        feed_forward_norm=norm(d_model),
    ).requires_grad_(False)
    for parameter in block.parameters():
        mean = 1.0 if parameter.dim() == 1 else 0.0
        parameter.normal_(mean=mean, std=0.4, generator=generator)

    def sealed_block(x: Tensor) -> Tensor:
        return block(x)

    return sealed_block


def _order_cases() -> Iterator[tuple[Any, ...]]:
    kinds = (PostNormBlock, TransformerBlock)
    for seed, (kind, norm) in enumerate((k, n) for n in (LayerNorm, RMSNorm) for k in kinds):
        yield _sealed(kind, norm, 8, seed), 8
    yield _sealed(TransformerBlock, LayerNorm, 32, 4), 32
    yield _sealed(PostNormBlock, LayerNorm, 32, 5), 32


def _backward_cases() -> Iterator[tuple[Any, ...]]:
    yield torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]), 0.0
    yield _randn(4, 6, seed=1), _randn(4, 6, seed=2), 1e-5
    yield 0.01 * _randn(3, 3, seed=3), _randn(3, 3, seed=4), 1e-5
    yield 5 * _randn(2, 16, seed=5) + 3, _randn(2, 16, seed=6) + 1, 0.1


def _judge_fold(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Name the two mistakes that are made most."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 2:
        return difference
    norm_weight, norm_bias, weight, bias = arguments
    rows = len(weight) == len(norm_weight) and compare(expected[0], got[0]) is not None
    if rows and compare(norm_weight[:, None] * weight, got[0]) is None:
        return "the rows of weight were scaled, but its columns belong to the channels"
    if norm_bias.any() and compare(bias, got[1]) is None:
        return "the bias stayed as it was; where did norm_bias go?"
    return difference


def _judge_backward(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say which property of the gradient is missing."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    if got.mean(-1).abs().max() > 1e-4 * (1 + expected.abs().max()):
        return f"the mean of each vector's gradient must be 0, as no input moves it; {difference}"
    return difference


EXERCISES = {
    "gated_width": Exercise(gated_width, _width_cases),
    "block_parameters": Exercise(block_parameters, _count_cases),
    "fold": Exercise(fold, _fold_cases, _judge_fold),
    "order": Exercise(order, _order_cases),
    "layer_norm_backward": Exercise(layer_norm_backward, _backward_cases, _judge_backward),
}
