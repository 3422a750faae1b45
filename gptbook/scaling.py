"""Scaling: what a GPT costs, and what it gains from being larger.

Chapter 11 checks the first half against counters: parameters, floating-point operations (FLOPs) and
bytes follow from a config, without building anything; days and kilowatt-hours follow from these and
a card. The second half is a law with five numbers, fitted to runs whose exact floor is known
(`gptbook.scaling_runs`).

A FLOP is one addition or one multiplication of two numbers. A product of matrices of shapes (M, K)
and (K, N) takes 2 * M * K * N of them; what is no product of matrices is left out, as is usual.

References:
    Kaplan et al. (2020), "Scaling Laws for Neural Language Models", section 2.1, for counting.
    https://arxiv.org/abs/2001.08361
    Hoffmann et al. (2022), "Training Compute-Optimal Large Language Models", section 3.3, for the
    law, and appendix F, for FLOPs. https://arxiv.org/abs/2203.15556
    Korthikanti et al. (2022), "Reducing Activation Recomputation in Large Transformer Models",
    section 4, for the memory of what is kept for the way back. https://arxiv.org/abs/2205.05198
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gptbook.layers import usual_d_ff, usual_gated_d_ff
from gptbook.model import GPT1Config, GPTConfig, ModernConfig, count_parameters

# --- what one text costs ------------------------------------------------------------------------


def forward_flops(config: GPTConfig, num_tokens: int) -> dict[str, int]:
    """Count what it takes to read one text and score every next token, by part.

    Scores and mixtures are counted for all pairs of tokens, as PyTorch's counter does; a kernel
    that leaves out what the mask hides does about half of these.

    Args:
        config: The model.
        num_tokens: How long the text is.

    Raises:
        ValueError: If the text is empty or longer than the model's context.

    >>> from gptbook.model import PUBLISHED
    >>> costs = forward_flops(PUBLISHED["gpt2"], 1_024)
    >>> {part: f"{flops:.1e}" for part, flops in costs.items()}
    {'projections': '5.8e+10', 'scores': '3.9e+10', 'feed-forward': '1.2e+11', 'head': '7.9e+10'}
    """
    _check_length(config, num_tokens)
    sizes = _sizes(config)
    per_token = 2 * num_tokens  # each weight of a matrix: one product and one sum a token
    return {
        "projections": per_token * config.num_layers * sizes.projections,
        "scores": 2 * per_token * config.num_layers * num_tokens * config.d_model,
        "feed-forward": per_token * config.num_layers * sizes.feed_forward,
        "head": per_token * config.vocab_size * config.d_model,
    }


def training_flops(config: GPTConfig, num_tokens: int, *, length: int | None = None) -> int:
    """Count what it takes to train on so many tokens: there, and twice as much on the way back.

    Each product of matrices has two on the way back, one for the gradient of either factor.

    Args:
        config: The model.
        num_tokens: How many tokens it reads in all.
        length: How long the texts are; as long as the context by default.

    Raises:
        ValueError: If `num_tokens` is negative, or as `forward_flops`.

    >>> from gptbook.model import PUBLISHED
    >>> flops = training_flops(PUBLISHED["gpt3"], 300_000_000_000)
    >>> f"{flops:.2e}"  # Brown et al. (2020), appendix D: 3.14e+23, without the scores
    '3.23e+23'
    """
    if num_tokens < 0:
        raise ValueError(f"num_tokens={num_tokens} cannot be read; pass how many there are")
    length = config.context_length if length is None else length
    return round(3 * sum(forward_flops(config, length).values()) * num_tokens / length)


@dataclass(frozen=True)
class _Sizes:
    """Weights in the matrices of one block."""

    projections: int
    feed_forward: int
    d_shared: int
    d_ff: int


def _sizes(config: GPTConfig) -> _Sizes:
    """Say how large the matrices of one block are."""
    d_model = config.d_model
    if isinstance(config, ModernConfig):
        d_shared = (config.num_kv_heads or config.num_heads) * config.head_dim
        d_ff, num_matrices = config.d_ff or usual_gated_d_ff(d_model), 3
    else:
        d_shared, d_ff, num_matrices = d_model, config.d_ff or usual_d_ff(d_model), 2
    projections = 2 * d_model**2 + 2 * d_model * d_shared
    return _Sizes(projections, num_matrices * d_model * d_ff, d_shared, d_ff)


def _check_length(config: GPTConfig, num_tokens: int) -> None:
    """Refuse a text that the model cannot read."""
    if not 1 <= num_tokens <= config.context_length:
        raise ValueError(
            f"a text of {num_tokens} tokens does not fit in context_length="
            f"{config.context_length}; pass a length from 1 to that"
        )


# --- what training holds in memory --------------------------------------------------------------

STATES = {"adamw": (2, 2), "lamb": (2, 2), "lion": (1, 1), "muon": (1, 2)}
"""How many numbers each optimizer keeps for one of a matrix, and for one of all else."""


def training_bytes(
    config: GPTConfig,
    *,
    batch_size: int,
    num_tokens: int,
    optimizer: str = "adamw",
    bytes_per_number: int = 4,
) -> dict[str, int]:
    """Count what a step of training holds at its peak, by what it is.

    Activations are what the blocks keep for the way back with this package's layers, without
    dropout, where attention runs in PyTorch's flash kernel; a table of angles that all share is too
    small to count. Logits are not among them: the loss never holds all of them.

    Args:
        config: The model.
        batch_size: How many texts are read side by side.
        num_tokens: How long each is.
        optimizer: One of `STATES`.
        bytes_per_number: 4 for float32, which is the same for all four kinds here.

    Raises:
        ValueError: If the optimizer is unknown, the batch is empty, or as `forward_flops`.

    >>> from gptbook.model import PUBLISHED
    >>> held = training_bytes(PUBLISHED["gpt2"], batch_size=8, num_tokens=1_024)
    >>> del held["optimizer"]
    >>> {kind: f"{count / 2**30:.2f} GiB" for kind, count in held.items()}
    {'parameters': '0.46 GiB', 'gradients': '0.46 GiB', 'activations': '5.68 GiB'}
    """
    _check_length(config, num_tokens)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} holds no text; pass at least 1")
    if optimizer not in STATES:
        raise ValueError(f"optimizer={optimizer!r} is unknown; choose one of {', '.join(STATES)}")
    everything = count_parameters(config)
    sizes = _sizes(config)
    in_matrices = config.num_layers * (sizes.projections + sizes.feed_forward)
    in_matrices += 0 if config.has_tied_head else config.vocab_size * config.d_model
    of_matrix, of_other = STATES[optimizer]
    states = of_matrix * in_matrices + of_other * (everything - in_matrices)
    kept = batch_size * num_tokens * _kept_per_token(config, sizes)
    numbers = {
        "parameters": everything,
        "gradients": everything,
        "optimizer": states,
        "activations": kept,
    }
    return {kind: number * bytes_per_number for kind, number in numbers.items()}


def _kept_per_token(config: GPTConfig, sizes: _Sizes) -> int:
    """Count the numbers that a forward pass keeps for the way back, for each token."""
    d_model, num_heads = config.d_model, config.num_heads
    if isinstance(config, ModernConfig):
        # what came, its length, what was normed, and the turned queries and keys
        attention = 2 * d_model + 1 + d_model + sizes.d_shared
        # the keys and values as attention read them, the mixture in either order, its scale
        shares = sizes.d_shared < d_model
        attention += (2 if shares else 3) * d_model + 2 * d_model + num_heads
        # what came, its length, what was normed; gate, value, the gate's curve, their product
        feed_forward = 2 * d_model + 1 + 4 * sizes.d_ff
        last = 2 * d_model + 1
    else:
        # what came, its mean and length, what was normed; queries, keys, values; mixture, scale
        attention = 2 * d_model + 2 + 3 * d_model + d_model + num_heads
        # the same before; before, within and behind the curve
        feed_forward = 2 * d_model + 2 + 3 * sizes.d_ff
        last = d_model if isinstance(config, GPT1Config) else 2 * d_model + 2
    return config.num_layers * (attention + feed_forward) + last


# --- days and money -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A graphics card: what it can do at most, hold, and draw from the plug."""

    name: str
    flops_per_second: float
    """With matrices of 16 bits, sums of 32, and no zeros left out."""
    memory: float
    """In bytes."""
    watts: float


CARDS = {
    "v100": Card("Tesla V100", 125e12, 32e9, 300.0),
    "rtx4090": Card("GeForce RTX 4090", 165.2e12, 24e9, 450.0),
    "h100": Card("H100 SXM", 989.4e12, 80e9, 700.0),
}
"""Cards by their names, what GPT-3 was trained on, one for the home, and one of a data centre.

Source: NVIDIA's papers on the architectures Volta, Ada and Hopper.
"""


@dataclass(frozen=True)
class Cost:
    """What a training takes."""

    days: float
    kilowatt_hours: float
    cards_to_hold: int
    """How many cards it takes until parameters, gradients and optimizer fit into them."""


def training_cost(
    flops: float, states: float, card: Card, *, num_cards: int = 1, utilisation: float = 0.4
) -> Cost:
    """Say how long cards work on a training, what they draw, and how many hold the model.

    Time is reckoned as if the model fitted, also where it does not.

    Args:
        flops: What the training takes in all; see `training_flops`.
        states: Bytes of parameters, gradients and optimizer; see `training_bytes`.
        card: One of `CARDS`, or your own.
        num_cards: How many work on it, each as well as if it were alone.
        utilisation: What part of its peak a card reaches, from 0 to 1.

    Raises:
        ValueError: If one of them is not positive, or `utilisation` is above 1.

    >>> cost = training_cost(3.14e23, 16.0 * 174_604_259_328, CARDS["rtx4090"])
    >>> f"{cost.days / 365.25:.0f} years, {cost.cards_to_hold} cards"
    '151 years, 117 cards'
    """
    numbers = {"flops": flops, "states": states, "num_cards": num_cards, "utilisation": utilisation}
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name}={number} came; pass a positive number")
    if utilisation > 1:
        raise ValueError(f"utilisation={utilisation} is more than a card can do; pass at most 1")
    seconds = flops / (card.flops_per_second * utilisation * num_cards)
    return Cost(
        days=seconds / 86_400,
        kilowatt_hours=seconds / 3_600 * num_cards * card.watts / 1_000,
        cards_to_hold=math.ceil(states / card.memory),
    )


# --- the law ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScalingLaw:
    """How the loss falls with parameters N and tokens D: floor + a / N**alpha + b / D**beta.

    >>> law = ScalingLaw(floor=1.69, a=406.4, alpha=0.34, b=410.7, beta=0.28)  # Hoffmann et al.
    >>> round(law.loss(70e9, 1.4e12), 2)
    1.94
    """

    floor: float
    """What no model and no amount of text can go below, in nats a token."""
    a: float
    """What a model of one parameter would pay for being small."""
    alpha: float
    """How fast that falls with the number of parameters."""
    b: float
    """What a model would pay for having read one token."""
    beta: float
    """How fast that falls with the number of tokens."""

    def loss(self, parameters: float, tokens: float) -> float:
        """Say what a model of so many parameters pays for a token, after reading so many."""
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def best(self, flops: float) -> tuple[float, float]:
        """Split an amount of compute into parameters and tokens so that the loss is lowest.

        Training takes 6 FLOPs a parameter and token, by the rule of thumb.

        Raises:
            ValueError: If `flops` is not positive.

        >>> law = ScalingLaw(floor=1.69, a=406.4, alpha=0.34, b=410.7, beta=0.28)
        >>> parameters, tokens = law.best(5.76e23)
        >>> f"{parameters / 1e9:.0f} billion parameters, {tokens / 1e12:.1f} trillion tokens"
        '32 billion parameters, 3.0 trillion tokens'
        """
        if flops <= 0:
            raise ValueError(f"flops={flops} trains nothing; pass a positive number")
        total = self.alpha + self.beta
        balance = (self.alpha * self.a / (self.beta * self.b)) ** (1 / total)
        parameters = balance * (flops / 6) ** (self.beta / total)
        return parameters, flops / 6 / parameters


def fit_law(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    floor: float | None = None,
) -> ScalingLaw:
    """Fit the law to runs, so that the logarithms of the losses are matched.

    A run that is far off counts by how far it is off, not by the square (Huber's loss), and the
    search begins from several places, because the valley is long and curved. Exponents are sought
    from 0 to 5.

    Args:
        parameters: How many each run's model had.
        tokens: How many each run read.
        losses: What each run paid for a token at the end, in nats.
        floor: The exact floor, where it is known; else it is fitted, too.

    Raises:
        ValueError: If the lists differ in length, there are fewer runs than numbers to fit, or a
            number is not positive or a loss not above the floor.

    >>> law = ScalingLaw(floor=1.0, a=50.0, alpha=0.4, b=80.0, beta=0.3)
    >>> sizes = [(n, d) for n in (1e4, 1e5, 1e6) for d in (1e5, 1e6, 1e7)]
    >>> found = fit_law(*zip(*sizes), [law.loss(*size) for size in sizes], floor=1.0)
    >>> round(found.alpha, 3), round(found.beta, 3)
    (0.4, 0.3)
    """
    runs = _check_runs(parameters, tokens, losses, floor)
    return _fit(runs[None], floor)[0]


def bootstrap_laws(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    floor: float | None = None,
    num: int = 200,
    seed: int = 0,
) -> list[ScalingLaw]:
    """Fit the law to so many lists of runs drawn from these with replacement.

    What the laws disagree on, the runs do not decide.

    Raises:
        ValueError: As `fit_law`.
    """
    runs = _check_runs(parameters, tokens, losses, floor)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    while len(drawn) < num:
        rows = torch.randint(len(losses), (len(losses),), generator=generator)
        if len(rows.unique()) >= _num_numbers(floor):  # fewer different runs fix nothing
            drawn.append(runs[:, rows])
    return _fit(torch.stack(drawn), floor)


_STEEPEST = 5.0  # drawn runs may leave an exponent open; no law that was ever found is as steep


def _num_numbers(floor: float | None) -> int:
    """Say how many numbers are fitted."""
    return 5 if floor is None else 4


def _check_runs(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    floor: float | None,
) -> Float[Tensor, "3 N"]:
    """Refuse runs that no law can be fitted to."""
    if not len(parameters) == len(tokens) == len(losses):
        raise ValueError(
            f"{len(parameters)} models, {len(tokens)} numbers of tokens and {len(losses)} losses "
            "came; give one of each a run"
        )
    if len(losses) < _num_numbers(floor):
        raise ValueError(
            f"{len(losses)} runs cannot fix {_num_numbers(floor)} numbers; give at least as many"
        )
    for name, row in (("parameters", parameters), ("tokens", tokens)):
        if min(row) <= 0:
            raise ValueError(f"{name} of {min(row)} came; all must be positive")
    lowest = 0.0 if floor is None else floor
    if min(losses) <= lowest:
        raise ValueError(f"a loss of {min(losses)} came; all must lie above {lowest}")
    return torch.tensor([[*parameters], [*tokens], [*losses]], dtype=torch.float64)


def _fit(runs: Float[Tensor, "L 3 N"], floor: float | None) -> list[ScalingLaw]:
    """Fit a law to each of several lists of runs, all at once, each from several places."""
    log_n, log_d, log_loss = runs.log().unbind(dim=1)  # (L, N) each
    starts = []
    for alpha, beta in product((0.2, 0.5, 1.0), repeat=2):
        half = log_loss.mean(dim=1) - math.log(2)  # each term explains a half of a middling run
        a, b = half + alpha * log_n.mean(dim=1), half + beta * log_d.mean(dim=1)
        lowest = log_loss.amin(dim=1) - math.log(2)
        row = [a, torch.full_like(a, alpha), b, torch.full_like(b, beta), lowest]
        starts.append(torch.stack(row[: _num_numbers(floor)], dim=1))
    x = torch.cat(starts)  # (9 L, P)
    missed, x = _descend(x, runs.log().repeat(len(starts), 1, 1), floor)
    best = missed.view(len(starts), -1).argmin(dim=0)
    laws = []
    for row in x.view(len(starts), len(runs), -1)[best, torch.arange(len(runs))].tolist():
        found = math.exp(row[4]) if floor is None else floor
        laws.append(ScalingLaw(found, math.exp(row[0]), row[1], math.exp(row[2]), row[3]))
    return laws


def _descend(x: Tensor, logs: Tensor, floor: float | None) -> tuple[Tensor, Tensor]:
    """Go downhill from each place (Levenberg-Marquardt); give how low it is there, and where."""
    log_n, log_d, log_loss = logs.unbind(dim=1)  # (K, N) each
    delta, caution = 1e-3, torch.full((len(x), 1, 1), 1e-2, dtype=x.dtype)

    def look(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, alpha, b, beta = (row[:, None] for row in x[:, :4].unbind(dim=1))
        last = x[:, 4:].expand_as(log_n) if floor is None else torch.full_like(log_n, floor).log()
        terms = torch.stack([a - alpha * log_n, b - beta * log_d, last], dim=-1)  # (K, N, 3)
        of_n, of_d, of_floor = terms.softmax(dim=-1).unbind(dim=-1)
        slopes = [of_n, -of_n * log_n, of_d, -of_d * log_d, of_floor][: x.shape[1]]
        misses = terms.logsumexp(dim=-1) - log_loss
        lost = F.huber_loss(misses, torch.zeros_like(misses), reduction="none", delta=delta)
        return misses, torch.stack(slopes, dim=-1), lost.sum(dim=1)

    misses, slopes, lost = look(x)
    for _ in range(400):
        weights = (delta / misses.abs().clamp(min=delta))[..., None]  # far off: by how far
        square = slopes.mT @ (weights * slopes)
        damping = caution * (
            square.diagonal(dim1=1, dim2=2).diag_embed() + 1e-12 * torch.eye(x.shape[1])
        )
        step = torch.linalg.solve(square + damping, slopes.mT @ (weights * misses[..., None]))
        trial = x - step[..., 0]
        trial[:, [1, 3]] = trial[:, [1, 3]].clamp(0.0, _STEEPEST)
        there = look(trial)
        better = there[2] < lost
        x = torch.where(better[:, None], trial, x)
        misses = torch.where(better[:, None], there[0], misses)
        slopes = torch.where(better[:, None, None], there[1], slopes)
        lost = torch.where(better, there[2], lost)
        caution = torch.where(better[:, None, None], caution / 3, caution * 4).clamp(1e-12, 1e12)
    return lost, x
