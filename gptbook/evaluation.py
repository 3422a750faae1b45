"""How good is a language model? Losses, and what they say in other units.

Chapter 8 prices text with simple models, chapter 9 a GPT. A loss is the surprise of a token: minus
the logarithm of the probability that the model gave it, in nats. Perplexity and bits per byte are
the same number in other units; an interval says how far a mean can be trusted.

A model is anything that maps token ids to logits. A target of `IGNORED` is not scored.

Shapes: B batch, T positions, V vocab_size, N numbers.

References:
    Shannon (1951), "Prediction and Entropy of Printed English", for the surprise of a letter.
    https://doi.org/10.1002/j.1538-7305.1951.tb01366.x
    Gao et al. (2020), "The Pile: An 800GB Dataset of Diverse Text for Language Modeling",
    section 3.1, for bits per byte. https://arxiv.org/abs/2101.00027
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13.
    https://doi.org/10.1201/9780429246593
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

IGNORED = -100  # the target where nothing is to be predicted, as in PyTorch's cross_entropy

Model = Callable[[Tensor], Tensor]
Batch = tuple[Tensor, Tensor]
Label = TypeVar("Label", bound=Hashable)


def cross_entropy_of(
    logits: Float[Tensor, "*B T V"], targets: Int[Tensor, "*B T"]
) -> Float[Tensor, "*B T"]:
    """Price each token that came: its surprise in nats, and 0 where the target is `IGNORED`.

    Logits in half precision are first made float32.

    Raises:
        ValueError: If the shapes do not agree, or a target is not in the vocabulary.

    >>> coin_flip = torch.zeros(1, 1, 2)  # two tokens, each as likely as the other
    >>> round(cross_entropy_of(coin_flip, torch.tensor([[1]])).item(), 4)
    0.6931
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} need targets of shape "
            f"{tuple(logits.shape[:-1])}, not {tuple(targets.shape)}"
        )
    vocab_size = logits.shape[-1]
    outside = (targets != IGNORED) & ((targets < 0) | (targets >= vocab_size))
    if outside.any():
        raise ValueError(
            f"target {int(targets[outside][0])} is not in a vocabulary of {vocab_size}; use the "
            f"model's own tokenizer, and {IGNORED} where nothing is to be predicted"
        )
    scores = logits if logits.dtype == torch.float64 else logits.float()
    flat = F.cross_entropy(
        scores.reshape(-1, vocab_size), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return flat.view(targets.shape)


def token_losses(
    model: Model, token_ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Price each token with a model, as `cross_entropy_of` does, on the CPU.

    The model is asked without dropout and without gradients, where it stands; it is left in the
    mode it was in.

    Raises:
        ValueError: See `cross_entropy_of`.
    """
    with _asked(model) as device:
        logits = model(token_ids.to(device))
        return cross_entropy_of(logits, targets.to(device)).cpu()


def mean_loss(model: Model, batches: Iterable[Batch]) -> float:
    """Price batches with a model: nats for each token, every token counting the same.

    The mean of the batches' means is something else where batches differ in how many tokens they
    score.

    Raises:
        ValueError: If nothing is scored, or see `cross_entropy_of`.

    >>> fair = lambda token_ids: torch.zeros(*token_ids.shape, 4)
    >>> batch = (torch.tensor([[0, 1]]), torch.tensor([[1, 2]]))
    >>> round(perplexity(mean_loss(fair, [batch])), 4)
    4.0
    """
    nats, count = 0.0, 0
    for token_ids, targets in batches:
        nats += token_losses(model, token_ids, targets).double().sum().item()
        count += int((targets != IGNORED).sum())
    if count == 0:
        raise ValueError(f"no target to score: there is no batch, or all targets are {IGNORED}")
    return nats / count


def perplexity(nats_per_token: float) -> float:
    """Say among how many equally likely tokens one would have to guess to be as surprised.

    >>> round(perplexity(math.log(50)), 6)
    50.0
    """
    return math.exp(nats_per_token)


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Price a text in bits for each byte of its UTF-8 encoding.

    Loss per token favors tokenizers with long tokens. Bytes are the same for every tokenizer, so
    this number compares models that cut text differently. 8 is what storing the text costs.

    Args:
        nats: Surprise of the whole text: the sum over its tokens.
        num_bytes: Length of the text in bytes.

    Raises:
        ValueError: If `num_bytes` is not positive.

    >>> round(bits_per_byte(8 * math.log(2), num_bytes=4), 6)
    2.0
    """
    if num_bytes < 1:
        raise ValueError(f"num_bytes={num_bytes} must be at least 1: the length of the text")
    return nats / math.log(2) / num_bytes


@dataclass(frozen=True, slots=True)
class Nats:
    """What the tokens of one kind cost: how many there are, and their surprise in all."""

    count: int
    total: float

    @property
    def mean(self) -> float:
        """Nats for each token of the kind."""
        return self.total / self.count


def nats_by_kind(losses: Iterable[float] | Tensor, kinds: Iterable[Label]) -> dict[Label, Nats]:
    """Add losses up by kind, in the order in which the kinds first come.

    Args:
        losses: Nats, one number a token (or a word).
        kinds: What each is: a label such as "grammar".

    Raises:
        ValueError: If there are not as many kinds as losses.

    >>> nats_by_kind([1.0, 0.5, 3.0], ["choice", "grammar", "choice"])["choice"].mean
    2.0
    """
    found: defaultdict[Label, list[float]] = defaultdict(list)
    listed = list(map(float, losses)), list(kinds)
    if len(listed[0]) != len(listed[1]):
        raise ValueError(
            f"{len(listed[0])} losses came with {len(listed[1])} kinds; give one kind for each"
        )
    for loss, kind in zip(*listed, strict=True):
        found[kind].append(loss)
    return {kind: Nats(len(nats), math.fsum(nats)) for kind, nats in found.items()}


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the range that holds the true one in most samples such as this."""

    mean: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def normal_interval(values: Sequence[float] | Tensor, level: float = 0.95) -> Interval:
    """Say how far a mean can be trusted, by the normal distribution: for some dozens of values.

    The values must be drawn independently of each other: stories, not words of one story.

    Raises:
        ValueError: If there are fewer than two values, or `level` is not between 0 and 1.

    >>> interval = normal_interval([4.0, 5.0, 6.0, 5.0] * 25)
    >>> f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"
    '5.00 (4.86 to 5.14)'
    """
    numbers = _sample(values, level)
    spread = NormalDist().inv_cdf((1 + level) / 2) * (numbers.std() / len(numbers) ** 0.5).item()
    mean = numbers.mean().item()
    return Interval(mean, mean - spread, mean + spread)


def bootstrap_interval(
    values: Sequence[float] | Tensor,
    level: float = 0.95,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Say how far a mean can be trusted, by drawing from the sample again and again.

    Each time as many values are drawn as there are, with replacement; the interval holds the
    middle share `level` of the means. It asks for no normal distribution; see `normal_interval`.

    Raises:
        ValueError: If there are fewer than two values, `level` is not between 0 and 1, or
            `num_resamples` is not positive.
    """
    numbers = _sample(values, level)
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples} must be at least 1; 1000 is usual")
    generator = torch.Generator().manual_seed(seed)
    size = (len(numbers),)
    means = torch.stack([
        numbers[torch.randint(len(numbers), size, generator=generator)].mean()
        for _ in range(num_resamples)
    ])
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return Interval(numbers.mean().item(), low, high)


@contextmanager
def _asked(model: Model) -> Iterator[torch.device]:
    """Ask a model without dropout and gradients, and leave it as it was."""
    if not isinstance(model, nn.Module):
        with torch.no_grad():
            yield torch.device("cpu")
        return
    modes = [(module, module.training) for module in model.modules()]
    parameter = next(model.parameters(), None)
    model.eval()
    try:
        with torch.no_grad():
            yield torch.device("cpu") if parameter is None else parameter.device
    finally:
        for module, training in modes:
            module.training = training


def _sample(values: Sequence[float] | Tensor, level: float) -> Float[Tensor, " N"]:
    """Check a sample, and hold it in double precision."""
    numbers = torch.as_tensor(values, dtype=torch.float64).flatten()
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} values say nothing on their spread; give at least 2")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is no share between 0 and 1; 0.95 is usual")
    return numbers
