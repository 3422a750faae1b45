"""Training: from a stream of batches to a model that predicts the next token.

Chapter 9 builds each part by hand, then trains with the loop here. The loop knows nothing of
GPT: it trains any module that has `loss(token_ids, targets)` or that maps ids to logits. It yields
one `Step` after each update, and printing, validation, samples and checkpoints are what the caller
does with it:

    for step in train(model, batches, config):
        print(step.number, step.loss)

Shapes: B batch, T positions, V vocab_size. A batch is a pair (token_ids, targets), both B by T;
a target of `IGNORED` is not scored.

References:
    Loshchilov and Hutter (2019), "Decoupled Weight Decay Regularization".
    https://arxiv.org/abs/1711.05101
    Loshchilov and Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts".
    https://arxiv.org/abs/1608.03983
    Brown et al. (2020), "Language Models are Few-Shot Learners", appendix B.
    https://arxiv.org/abs/2005.14165
"""

import hashlib
import json
import math
import os
import random
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Int, Num
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from gptbook.evaluation import IGNORED

Batch = tuple[Tensor, Tensor]

_PRECISIONS = ("float32", "bfloat16", "auto")
# The layers whose weights are multiplied with what comes in. All else is a table of vectors to
# look up (embeddings, learned positions), a scale or a shift.
_MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention)


# --- what is learned ----------------------------------------------------------------------------


def next_token_pairs(
    token_ids: Int[Tensor, "*B T1"],
) -> tuple[Int[Tensor, "*B T"], Int[Tensor, "*B T"]]:
    """Cut text into what the model reads and what it has to guess: the same, one token later.

    Raises:
        ValueError: If there are fewer than two tokens.

    >>> inputs, targets = next_token_pairs(torch.tensor([5, 6, 7, 8]))
    >>> inputs.tolist(), targets.tolist()
    ([5, 6, 7], [6, 7, 8])
    """
    if token_ids.dim() == 0 or token_ids.shape[-1] < 2:
        raise ValueError(
            f"token ids of shape {tuple(token_ids.shape)} hold no next token to guess; "
            "pass at least two tokens"
        )
    return token_ids[..., :-1], token_ids[..., 1:]


def loss_of(
    model: nn.Module, token_ids: Int[Tensor, "B *S T"], targets: Num[Tensor, "B ..."]
) -> Tensor:
    """Average the surprise at the targets, in nats: the model's own `loss`, or from its logits.

    A loss of the model's own may read more than one text, and ask for one target a text or for
    several a token.

    >>> guess_evenly = nn.Embedding.from_pretrained(torch.zeros(10, 10))
    >>> loss = loss_of(guess_evenly, torch.tensor([[1, 2]]), torch.tensor([[2, 3]]))
    >>> math.isclose(loss.item(), math.log(10), rel_tol=1e-6)
    True
    """
    own = getattr(model, "loss", None)
    if callable(own):
        return own(token_ids, targets)
    logits = model(token_ids).flatten(0, -2)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)


# --- the recipe ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Every number of a training run that is not the model's or the data's.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value is out of range.

    >>> TrainingConfig(num_steps=1_000, learning_rate=2e-3, warmup_steps=100).learning_rate_at(49)
    0.001
    """

    num_steps: int = 1_000
    """How many times the parameters are updated."""

    optimizer: str = "adamw"
    """The rule of the update, one of adamw, lamb, lion and muon."""

    learning_rate: float = 1e-3
    """How far a step goes, at its highest."""

    warmup_steps: int = 0
    """Over how many steps the learning rate rises to its highest."""

    final_fraction: float = 0.1
    """What part of the highest learning rate the cosine ends at; 1.0 keeps it constant."""

    weight_decay: float = 0.1
    """What part of a matrix, times the learning rate, each step takes away."""

    betas: tuple[float, float] = (0.9, 0.95)
    """How long the running means of the gradient and of its square remember."""

    eps: float = 1e-8
    """Added to the root of the mean square, so that nothing is divided by zero."""

    max_gradient_norm: float | None = 1.0
    """Longer gradients are shortened to this length; None leaves them."""

    micro_batches: int = 1
    """How many batches make one step; their gradients are added up before it."""

    precision: str = "float32"
    """That of the matrix products; auto is bfloat16 where the machine has it, else float32."""

    def __post_init__(self) -> None:
        _check_whole(1, num_steps=self.num_steps, micro_batches=self.micro_batches)
        _check_whole(0, warmup_steps=self.warmup_steps)
        _check_number(self, "learning_rate", "eps", above=0.0)
        _check_number(self, "weight_decay", "final_fraction", at_least=0.0)
        if self.max_gradient_norm is not None:
            _check_number(self, "max_gradient_norm", above=0.0)
        _check_choice("precision", self.precision, _PRECISIONS)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.warmup_steps >= self.num_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} leave none of num_steps={self.num_steps} to "
                "train at the full learning rate; warm up for a tenth of them"
            )
        if self.final_fraction > 1:
            raise ValueError(f"final_fraction is a part from 0 to 1, not {self.final_fraction}")
        _check_betas(self.betas)
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON and TOML know only lists

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step; the first is step 0."""
        return warmup_cosine(
            step,
            peak=self.learning_rate,
            num_steps=self.num_steps,
            warmup_steps=self.warmup_steps,
            final=self.learning_rate * self.final_fraction,
        )


def warmup_cosine(
    step: int, *, peak: float, num_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> float:
    """Give a step's learning rate: up along a line, then down along half a cosine.

    Args:
        step: Which step, from 0 to num_steps - 1; later ones stay at the end.
        peak: The highest, reached at step warmup_steps.
        num_steps: How many steps there are.
        warmup_steps: How many of them rise; the first is already above zero.
        final: The learning rate of the last step.

    References:
        Loshchilov and Hutter (2017), section 3; Goyal et al. (2017), "Accurate, Large Minibatch
        SGD: Training ImageNet in 1 Hour", section 2.2. https://arxiv.org/abs/1706.02677

    >>> [round(warmup_cosine(i, peak=1.0, num_steps=7, warmup_steps=2), 2) for i in range(7)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    length = max(1, num_steps - 1 - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / length)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Part the parameters in two: matrices that multiply, which decay, and all else.

    Decay pulls a number to zero unless gradients pull back. For a matrix this bounds how much it
    amplifies. The scale of a norm and the shifts have no reason to be near zero. An embedding
    table is looked up, and decay would wear down the rows of rare tokens between their
    appearances; recipes differ where a head is tied to it. Here the table never decays.

    Returns:
        Two groups for an optimizer. `matrices` says which is which; Muon wants to know.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9), nn.LayerNorm(9))
    >>> [[tuple(p.shape) for p in group["params"]] for group in parameter_groups(model, 0.1)]
    [[(9, 4)], [(9, 4), (9,), (9,), (9,)]]
    """
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    multiplying = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _MULTIPLYING)
        for parameter in module.parameters(recurse=False)
        if parameter.dim() >= 2 and id(parameter) not in tables
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if id(parameter) in multiplying]
    others = [parameter for parameter in trained if id(parameter) not in multiplying]
    return [
        {"params": matrices, "weight_decay": weight_decay, "matrices": True},
        {"params": others, "weight_decay": 0.0, "matrices": False},
    ]


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """Make the optimizer that a config asks for, with decay where it belongs.

    Raises:
        ValueError: If no parameter of the model is to be trained.

    >>> make_optimizer(nn.Linear(2, 2), TrainingConfig(optimizer="lion")).defaults["lr"]
    0.001
    """
    groups = [group for group in parameter_groups(model, config.weight_decay) if group["params"]]
    if not groups:
        raise ValueError(
            f"{type(model).__name__} has no parameter to train; "
            "set requires_grad on those that should be"
        )
    return OPTIMIZERS[config.optimizer](groups, config)


# --- four rules for a step ----------------------------------------------------------------------


class _Rule(Optimizer):
    """An optimizer that treats each parameter by one formula, `update`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, self.state[parameter], group)
        return loss

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Move one parameter."""
        raise NotImplementedError(f"{type(self).__name__} must say how it moves a parameter")


class Lamb(_Rule):
    """Adam's direction, in every layer as long a step as the layer's weights are large.

    Made for very large batches, where one learning rate for all layers is too much for some.

    References:
        You et al. (2020), "Large Batch Optimization for Deep Learning: Training BERT in 76
        minutes", algorithm 2. https://arxiv.org/abs/1904.00962

    >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> weight.grad = torch.tensor([1.0, 1.0])
    >>> Lamb([weight], lr=0.1).step()
    >>> [round(number, 4) for number in weight.tolist()]  # moved by a tenth of its length
    [2.6464, 3.6464]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Move one layer's parameter."""
        direction = _adam_direction(gradient, state, group["betas"], group["eps"])
        direction.add_(parameter, alpha=group["weight_decay"])
        size, length = parameter.norm(), direction.norm()
        trust = torch.where((size > 0) & (length > 0), size / length, 1.0)
        parameter.sub_(direction.mul_(trust), alpha=group["lr"])


class Lion(_Rule):
    """Step by the sign of a running mean alone: one number a parameter to remember, not two.

    Every number moves by exactly the learning rate, so it wants a rate three to ten times smaller
    than AdamW's and a weight decay as much larger.

    References:
        Chen et al. (2023), "Symbolic Discovery of Optimization Algorithms", program 1.
        https://arxiv.org/abs/2302.06675

    >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> weight.grad = torch.tensor([0.001, -7.0])
    >>> Lion([weight], lr=0.5).step()
    >>> weight.tolist()
    [2.5, 4.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Move one parameter by the sign of what it remembers and what it feels now."""
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        near, far = group["betas"]
        direction = state["mean"].lerp(gradient, 1 - near).sign_()
        direction.add_(parameter, alpha=group["weight_decay"])
        parameter.sub_(direction, alpha=group["lr"])
        state["mean"].lerp_(gradient, 1 - far)


class Muon(_Rule):
    """Turn each matrix's momentum into the nearest rotation, so that no direction is neglected.

    A group with `matrices=False` (embeddings, norms, biases) is moved by AdamW's rule. The steps of
    matrices are scaled to the size that AdamW's have, so that one learning rate serves both.

    References:
        Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
        https://kellerjordan.github.io/posts/muon/
        Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2.
        https://arxiv.org/abs/2502.16982

    Raises:
        ValueError: If a parameter that is to be turned is no matrix.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        matrices: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay, "matrices": matrices})
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["matrices"] and parameter.dim() != 2:
                    raise ValueError(
                        f"Muon turns matrices, but a parameter of shape {tuple(parameter.shape)} "
                        "came; put it into a group with matrices=False"
                    )

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """Move one matrix by its turned momentum, or another parameter by AdamW's rule."""
        if group["matrices"]:
            momentum = state.setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(gradient, 1 - group["momentum"])
            direction = orthogonalize(gradient.lerp(momentum, group["momentum"]))
            direction.mul_(0.2 * math.sqrt(max(parameter.shape)))
        else:
            direction = _adam_direction(gradient, state, group["betas"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(direction, alpha=group["lr"])


def orthogonalize(matrix: Tensor, num_rounds: int = 5) -> Tensor:
    """Bring a matrix's singular values near 1 and keep its singular vectors, by products alone.

    Each round sends every singular value s to as + bs^3 + cs^5. With these a, b and c small ones
    grow fast, and after five rounds most lie between 0.7 and 1.2.

    References:
        Jordan et al. (2024), the Newton-Schulz iteration.

    >>> stretched = torch.diag(torch.tensor([5.0, 0.5]))
    >>> bool((torch.linalg.svdvals(orthogonalize(stretched)) - 1 < 0.35).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(num_rounds):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


def _adam_direction(
    gradient: Tensor, state: dict[str, Any], betas: tuple[float, float], eps: float
) -> Tensor:
    """Divide the running mean of the gradient by the root of that of its square."""
    if not state:
        state["step"] = torch.tensor(0.0)
        state["mean"] = torch.zeros_like(gradient)
        state["mean_square"] = torch.zeros_like(gradient)
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - betas[0])
    state["mean_square"].lerp_(gradient.square(), 1 - betas[1])
    step = state["step"].item()  # the means began at zero: divide by what they have seen
    mean = state["mean"] / (1 - betas[0] ** step)
    return mean.div_((state["mean_square"] / (1 - betas[1] ** step)).sqrt_().add_(eps))


def _adamw(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    """Make PyTorch's AdamW, in one fused kernel where there is one."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused)


def _lamb(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    return Lamb(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)


def _lion(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    return Lion(groups, lr=config.learning_rate, betas=config.betas)


def _muon(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    return Muon(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], TrainingConfig], Optimizer]] = {
    "adamw": _adamw,
    "lamb": _lamb,
    "lion": _lion,
    "muon": _muon,
}


# --- the loop -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one update of the parameters was."""

    number: int
    """How many updates there have been, this one included."""

    loss: float
    """Mean over the step's targets before the update, in nats."""

    learning_rate: float
    """How far it went."""

    gradient_norm: float
    """Length of the gradient before any clipping."""

    tokens: int
    """How many targets were scored."""

    seconds: float
    """How long the step took, without what the caller did between steps."""


@runtime_checkable
class Group(Protocol):
    """Several processes that take each step as one; `gptbook.distributed.Processes` is one."""

    @property
    def world_size(self) -> int:
        """How many processes there are."""

    def sum(self, number: float) -> float:
        """Add up the numbers that all processes have, and give each the sum."""

    def turn(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Go forward and backward in it; the last time, gradients are averaged over processes."""


class _Alone:
    """A group of one process."""

    world_size = 1

    def sum(self, number: float) -> float:
        """Return the number."""
        return number

    def turn(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Exchange nothing."""
        return nullcontext()


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient is infinite or not a number; the step was not taken."""


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainingConfig,
    *,
    optimizer: Optimizer | None = None,
    first_step: int = 0,
    group: Group | None = None,
) -> Iterator[Step]:
    """Train a model, one step each time the caller asks for the next.

    Between two steps the caller may look, sample, validate (the model is put back into training
    mode) and save. Stopping early leaves a usable model.

    Args:
        model: Anything that `loss_of` can take the loss of.
        batches: Pairs of token ids and targets, as many as the steps need. Only those of the
            steps taken are drawn, so that their state can be saved between steps.
        config: The recipe.
        optimizer: What to step with; by default `make_optimizer(model, config)`. Make it yourself
            to save or restore its state.
        first_step: How many steps were taken before, when a run is resumed.
        group: The processes that train this model together, each with batches of its own.

    Raises:
        ValueError: If `first_step` is not one of the steps, the batches end too early, or a step
            has no target.
        NonFiniteLossError: If a loss or a gradient is not finite. It says where that began. The
            parameters are those of the step before.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> batch = (torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 1]]))
    >>> config = TrainingConfig(num_steps=60, learning_rate=0.3)
    >>> losses = [step.loss for step in train(nn.Embedding(4, 4), [batch] * 60, config)]
    >>> losses[-1] < 0.01 * losses[0]
    True
    """
    _check_whole(0, first_step=first_step)
    if first_step > config.num_steps:
        raise ValueError(
            f"first_step={first_step} lies beyond num_steps={config.num_steps}; "
            "raise num_steps to train on"
        )
    if optimizer is None:
        optimizer = make_optimizer(model, config)
    return _steps(model, iter(batches), config, optimizer, first_step, group or _Alone())


def _steps(
    model: nn.Module,
    batches: Iterator[Batch],
    config: TrainingConfig,
    optimizer: Optimizer,
    first_step: int,
    group: Group,
) -> Iterator[Step]:
    """Take the steps, one at a time."""
    history: deque[float] = deque(maxlen=5)
    device = next(model.parameters()).device
    cast = autocast(config.precision, device)
    for index in range(first_step, config.num_steps):
        start = time.perf_counter()
        model.train()
        optimizer.zero_grad()
        for parameters in optimizer.param_groups:
            parameters["lr"] = config.learning_rate_at(index)
        micro_batches = _draw(batches, config, index, device)
        loss, tokens = accumulate(model, micro_batches, cast, group)
        norm = _clip(model, config.max_gradient_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _explain(model, micro_batches, cast, group, config, index, loss, norm, history)
        optimizer.step()
        history.append(loss)
        yield Step(
            number=index + 1,
            loss=loss,
            learning_rate=config.learning_rate_at(index),
            gradient_norm=norm,
            tokens=tokens,
            seconds=time.perf_counter() - start,
        )


def accumulate(
    model: nn.Module,
    micro_batches: list[Batch],
    cast: AbstractContextManager[Any] | None = None,
    group: Group | None = None,
) -> tuple[float, int]:
    """Add up the gradients of several batches to that of one batch made of all of them.

    Each counts by its number of targets, so that a batch with much padding weighs less. In a group
    the batches of all processes are added up, in one exchange after the last of them.

    Returns:
        The mean loss of all targets, in nats, and their number.

    Raises:
        ValueError: If no batch has a target.

    >>> model = nn.Embedding(3, 3)
    >>> loss, tokens = accumulate(model, [(torch.tensor([[0]]), torch.tensor([[1]]))] * 2)
    >>> tokens, model.weight.grad.shape
    (2, torch.Size([3, 3]))
    """
    counts = [int((targets != IGNORED).sum()) for _, targets in micro_batches]
    together = group or _Alone()
    total = round(together.sum(float(sum(counts))))
    is_alone = isinstance(together, _Alone)
    if not is_alone and together.sum(float(counts.count(0))):
        raise ValueError(
            "a batch of one of the processes has no target, and all must take part in each step; "
            f"give at least one position of every batch a target other than {IGNORED}"
        )
    if not total:
        raise ValueError(
            f"no position of {len(micro_batches)} batches has a target: all are {IGNORED}; "
            "give at least one position the token that follows it"
        )
    loss = 0.0
    for number, (token_ids, targets) in enumerate(micro_batches):
        weight = counts[number] / total
        if not weight and is_alone:
            continue
        with together.turn(model, last=number == len(counts) - 1):
            with cast or nullcontext():
                part = loss_of(model, token_ids, targets) * weight
            (part * together.world_size).backward()
        loss += part.item()
    return together.sum(loss), total


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Make the context in which a forward pass runs in the wanted precision.

    Parameters, their gradients and the optimizer stay in float32; only matrix products and the like
    are rounded to bfloat16, which has float32's range and so needs no scaling of the loss.

    References:
        Micikevicius et al. (2018), "Mixed Precision Training". https://arxiv.org/abs/1710.03740
        Kalamkar et al. (2019), "A Study of BFLOAT16 for Deep Learning Training".
        https://arxiv.org/abs/1905.12322

    >>> with autocast("bfloat16", torch.device("cpu")):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    _check_choice("precision", precision, _PRECISIONS)
    wanted = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies in bfloat16 faster than it could in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    return False


def _draw(
    batches: Iterator[Batch], config: TrainingConfig, index: int, device: torch.device
) -> list[Batch]:
    """Draw the batches of one step."""
    drawn = list(islice(batches, config.micro_batches))
    if len(drawn) < config.micro_batches:
        raise ValueError(
            f"the batches ended in step {index + 1} of num_steps={config.num_steps}; "
            "give batches that go on, or lower num_steps"
        )
    return [(token_ids.to(device), targets.to(device)) for token_ids, targets in drawn]


def _clip(model: nn.Module, max_norm: float | None) -> float:
    """Shorten the gradient to at most `max_norm` and return how long it was."""
    limit = math.inf if max_norm is None else max_norm
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    whole = getattr(norm, "full_tensor", None)  # where each process holds a part of the parameters
    return (norm if whole is None else whole()).item()


# --- when the loss is not finite ----------------------------------------------------------------


def _explain(
    model: nn.Module,
    micro_batches: list[Batch],
    cast: AbstractContextManager[Any],
    group: Group,
    config: TrainingConfig,
    index: int,
    loss: float,
    norm: float,
    history: Iterable[float],
) -> NonFiniteLossError:
    """Say what is not finite, since when, and where it began."""
    what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {norm}"
    before = ", ".join(f"{value:.4g}" for value in history) or "none, it is the first step"
    where = next(_where_it_begins(model, micro_batches, cast, group))
    return NonFiniteLossError(
        f"{what} in step {index + 1}, at learning rate {config.learning_rate_at(index):.3g}; the "
        f"losses before it: {before}; {where}. The step was not taken: look at this batch, lower "
        "learning_rate, or clip with max_gradient_norm"
    )


def _where_it_begins(
    model: nn.Module,
    micro_batches: list[Batch],
    cast: AbstractContextManager[Any],
    group: Group,
) -> Iterator[str]:
    """Run the batches again, listening, and say what first was not finite."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            yield f"the parameter {name} is not finite itself"
    outputs: list[str] = []
    gradients: list[str] = []

    def hear_output(name: str, output: object) -> None:
        parts = output if isinstance(output, tuple | list) else [output]
        if any(isinstance(part, Tensor) and not part.isfinite().all() for part in parts):
            outputs.append(name)

    def hear_gradient(name: str, gradient: Tensor | None) -> None:
        if gradient is not None and not gradient.isfinite().all():
            gradients.append(name)

    hooks = [
        module.register_forward_hook(lambda _, __, x, name=name: hear_output(name, x))
        for name, module in model.named_modules()
    ] + [
        parameter.register_post_accumulate_grad_hook(
            lambda parameter, name=name: hear_gradient(name, parameter.grad)
        )
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    model.zero_grad()
    loss, _ = accumulate(model, micro_batches, cast, group)
    for hook in hooks:
        hook.remove()
    for name in outputs:
        kind = type(model.get_submodule(name)).__name__
        yield f"it begins in the output of {name or 'the model itself'} ({kind})"
    if not math.isfinite(loss):
        yield "it begins in the loss, for the outputs of all modules are finite"
    for name in gradients:
        yield f"it begins, going backward, in the gradient of {name}"
    yield (
        "run again, every output and every gradient is finite by itself: "
        "either dropout drew otherwise, or only the norm of them all overflows"
    )


# --- checkpoints --------------------------------------------------------------------------------


@runtime_checkable
class Resumable(Protocol):
    """Batches that can go on where they were."""

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on, as JSON knows it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


_FORMAT = "gptbook checkpoint 1"


def save_checkpoint(
    folder: str | Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Resumable | None = None,
    config: Any = None,
    keep: int = 2,
) -> Path:
    """Write everything a run needs to go on as if it had never stopped.

    The tensors go to safetensors files, all else to JSON: the step, the states of the random
    generators and of the batches, and the config. The checkpoint stands in a folder of its own,
    which appears whole or not at all; older ones are removed only when it stands.

    Args:
        folder: Where the checkpoints of this run are.
        step: How many steps were taken.
        model: Its parameters and buffers are saved, each once.
        optimizer: Its state is saved.
        batches: Saved by their `state_dict`.
        config: A dataclass or a dictionary: what a resumed run must agree with.
        keep: How many checkpoints are kept, this one included.

    Returns:
        The folder of the new checkpoint, such as `folder/step-00000100`.

    Raises:
        FileExistsError: If there is a checkpoint of this step already.
        OSError: If it cannot be written.
    """
    _check_whole(0, step=step)
    _check_whole(1, keep=keep)
    folder = Path(folder)
    final = folder / f"step-{step:08d}"
    if final.exists():
        raise FileExistsError(
            f"{final} exists already; resume from it, or choose another folder for this run"
        )
    partial = folder / f".partial-{uuid.uuid4().hex}"
    partial.mkdir(parents=True)
    numbers, tensors = optimizer_state(optimizer)
    contents = {"model": tensors_of(model), "optimizer": {**tensors, **_torch_generators()}}
    state = {
        "format": _FORMAT,
        "step": step,
        "config": plain(config),
        "optimizer": numbers,
        "random": random.getstate(),  # PyTorch's generators are among the tensors
        "batches": None if batches is None else batches.state_dict(),
        "sha256": {name: _write(partial, name, part) for name, part in contents.items()},
    }
    write_durably(partial / "state.json", json.dumps(state).encode())
    partial.replace(final)
    _sync(folder)
    tidy(folder, keep)
    return final


def load_checkpoint(
    folder: str | Path,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Resumable | None = None,
    config: Any = None,
) -> int:
    """Put a run back to where its checkpoint was written.

    Args:
        folder: One checkpoint, or the folder that holds those of a run: then the latest.
        model: Made as it was then; its parameters and buffers are overwritten.
        optimizer: Made as it was then; its state is overwritten.
        batches: Made as they were then; they go on from where they were.
        config: What was saved as `config`.

    Returns:
        How many steps were taken: `first_step` of `train`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If a file is damaged, or the model, the optimizer, the batches or the config are
            not those of the checkpoint. The message lists what differs, and nothing is overwritten.
    """
    path = find_checkpoint(folder)
    state = read_state(path)
    tensors = {name: _read(path, name, state) for name in ("model", "optimizer")}
    generators = {
        name: tensors["optimizer"].pop(name)
        for name in list(tensors["optimizer"])
        if name.startswith("random.")
    }
    numbers, _ = optimizer_state(optimizer)
    current = tensors_of(model)
    shapes = shapes_of(tensors["model"]), shapes_of(current)
    require_same_run(path, state, shapes, config, numbers, batches)
    if batches is not None:
        batches.load_state_dict(state["batches"])
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(tensors["model"][name])
    optimizer.load_state_dict(_joined(state["optimizer"], tensors["optimizer"]))
    version, internal, gauss = state["random"]
    random.setstate((version, tuple(internal), gauss))
    _restore_generators(generators)
    return state["step"]


def require_same_run(
    path: Path,
    state: dict[str, Any],
    shapes: tuple[dict[str, str], dict[str, str]],
    config: Any,
    numbers: dict[str, Any],
    batches: Resumable | None,
) -> None:
    """Refuse a checkpoint of another run, and list what differs from this one."""
    found = [
        *differences("config", state["config"], plain(config)),
        *differences("model", *shapes),
        *differences("optimizer", identity_of(state["optimizer"]), identity_of(numbers)),
        *differences("state of batches", state["batches"] is not None, batches is not None),
    ]
    if found:
        raise ValueError(f"{path} is of another run: " + "; ".join(found))


def find_checkpoint(folder: str | Path) -> Path:
    """Find a run's latest checkpoint; a folder that is a checkpoint itself is returned.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(folder)
    if (folder / "state.json").exists():
        return folder
    found = _checkpoints(folder)
    if not found:
        raise FileNotFoundError(
            f"no checkpoint in {folder}; save_checkpoint writes one, as folder/step-..."
        )
    return found[-1]


def _checkpoints(folder: Path) -> list[Path]:
    """List a run's checkpoints, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").exists())


def tidy(folder: Path, keep: int) -> None:
    """Remove checkpoints that are too old, and what killed runs left half written."""
    for path in [*_checkpoints(folder)[:-keep], *folder.glob(".partial-*")]:
        # Out of the way in one step first: a kill while removing must not leave half a checkpoint.
        doomed = path.with_name(f".partial-{uuid.uuid4().hex}")
        path.replace(doomed)
        shutil.rmtree(doomed)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Name every parameter and saved buffer once, shared ones by their first name."""
    saved = model.state_dict().keys()
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if name in saved}


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Part an optimizer's state into plain numbers and named tensors."""
    state = optimizer.state_dict()
    named = {
        f"{number}.{name}": value
        for number, values in state["state"].items()
        for name, value in values.items()
    }
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    numbers = {
        "class": type(optimizer).__name__,
        "groups": state["param_groups"],
        "values": {name: value for name, value in named.items() if name not in tensors},
    }
    return plain(numbers), tensors


def _joined(numbers: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Put an optimizer's state together again."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**numbers["values"], **tensors}.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in numbers["groups"]
    ]
    return {"state": state, "param_groups": groups}


def identity_of(numbers: dict[str, Any]) -> dict[str, Any]:
    """Keep of an optimizer what must agree, which is not how PyTorch happens to compute it."""
    kept = ("params", "weight_decay", "betas", "eps", "momentum", "matrices")
    groups = {
        f"group {number}": {name: group[name] for name in kept if name in group}
        for number, group in enumerate(numbers["groups"])
    }
    return {"class": numbers["class"], **groups}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe tensors by their shapes and dtypes."""
    return {name: f"{x.dtype} of shape {tuple(x.shape)}" for name, x in tensors.items()}


def differences(what: str, saved: Any, current: Any) -> list[str]:
    """List in words how two settings differ."""
    if isinstance(saved, dict) and isinstance(current, dict):
        names = [*saved, *(name for name in current if name not in saved)]
        return [
            f"{what} {name} is only {'there' if name in saved else 'here'}"
            for name in names
            if (name in saved) != (name in current)
        ] + [
            difference
            for name in names
            if name in saved and name in current
            for difference in differences(f"{what} {name}", saved[name], current[name])
        ]
    return [] if saved == current else [f"{what} was {saved!r} there and is {current!r} here"]


def plain(value: Any) -> Any:
    """Turn a config into what JSON gives back."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return json.loads(json.dumps(value))


def _torch_generators() -> dict[str, Tensor]:
    """Take the states of PyTorch's own random generators, which dropout draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        cuda = torch.cuda.get_rng_state_all()
        states |= {f"random.cuda.{number}": state for number, state in enumerate(cuda)}
    return states


def _restore_generators(states: Mapping[str, Tensor]) -> None:
    """Put PyTorch's random generators back."""
    torch.set_rng_state(states["random.cpu"])
    for name, state in states.items():
        if name.startswith("random.cuda.") and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, int(name.rpartition(".")[2]))


def _write(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors durably; return the digest of the file."""
    path = folder / f"{name}.safetensors"
    save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, path)
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Wait until the disk has a folder's list of files, where the system can say so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def read_state(path: Path, format: str = _FORMAT) -> dict[str, Any]:
    """Read the part of a checkpoint that is JSON, and see that it is of this format."""
    file = path / "state.json"
    try:
        state = json.loads(file.read_bytes())
        names = {"format", "step", "config", "optimizer", "batches", "sha256"}
        if not isinstance(state, dict) or state.get("format") != format or names - set(state):
            raise ValueError(f"it is no {format}")
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); {_GO_BACK}") from error
    return state


def _read(path: Path, name: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """Read tensors, and see that they are those that were written."""
    file = path / f"{name}.safetensors"
    if not file.exists():
        raise ValueError(f"{file} is missing; {_GO_BACK}")
    with file.open("rb") as opened:
        whole = hashlib.file_digest(opened, "sha256").hexdigest() == state["sha256"].get(name)
    if not whole:
        raise ValueError(f"{file} is damaged, its content is not what was written; {_GO_BACK}")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); {_GO_BACK}") from error


_GO_BACK = "remove this checkpoint's folder to go on from the one before it"


# --- what is refused ----------------------------------------------------------------------------


def _check_whole(at_least: int, **numbers: object) -> None:
    """Refuse what is no number of things."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise TypeError(f"{name} must be a whole number, not {number!r}; pass an int")
        if int(number) < at_least:
            raise ValueError(f"{name} must be at least {at_least}, not {number}")


def _check_number(
    config: object, *names: str, above: float = -math.inf, at_least: float = -math.inf
) -> None:
    """Refuse what is no finite number in its range."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, not {value!r}")
        number = float(value)
        if not (math.isfinite(number) and number > above and number >= at_least):
            limit = f"greater than {above:g}" if above > -math.inf else f"at least {at_least:g}"
            raise ValueError(f"{name} must be finite and {limit}, not {number}")


def _check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse what is not among the choices."""
    if value not in list(choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _check_betas(betas: object) -> None:
    """Refuse what is no pair of parts below 1."""
    listed = betas if isinstance(betas, tuple | list) else ()
    if len(listed) != 2 or not all(isinstance(b, Real) and 0 <= float(b) < 1 for b in listed):
        raise ValueError(f"betas must be two numbers from 0 to below 1, not {betas!r}")
