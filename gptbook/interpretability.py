"""Look inside a GPT while it reads, change what one part says, and see what depends on it.

Chapter 18 records a model without changing it, asks each layer what it would predict, splits a
score into what each part added, and then takes heads away and puts other numbers in their place.
What only goes together with an answer (a map, a probe) stands beside what brings it about.

A head is named by two numbers counted from 0: its block, and its place in that block.

Shapes: B batch, T query positions, S key positions, D d_model, H heads, K head_dim, L blocks,
V vocab_size, N examples, C classes.

References:
    nostalgebraist (2020), "interpreting GPT: the logit lens".
    https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens
    Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
    https://transformer-circuits.pub/2021/framework/index.html
    Olsson et al. (2022), "In-context Learning and Induction Heads".
    https://arxiv.org/abs/2209.11895
    Vig et al. (2020), "Causal Mediation Analysis for Interpreting Neural NLP: The Case of Gender
    Bias", for patching. https://arxiv.org/abs/2004.12265
    Hewitt and Liang (2019), "Designing and Interpreting Probes with Control Tasks".
    https://arxiv.org/abs/1909.03368
    Jain and Wallace (2019), "Attention is not Explanation". https://arxiv.org/abs/1902.10186
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gptbook.attention import KVCache
from gptbook.layers import LayerNorm, PostNormBlock, TransformerBlock
from gptbook.model import GPT

Head = tuple[int, int]


class Record:
    """What was seen of a model while it read; `record` makes it.

    Every method takes a block's number, and raises ValueError if there is no such block or
    nothing was read yet.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self._seen: dict[tuple[str, int], Tensor] = {}

    def residual(self, block: int) -> Float[Tensor, "B T D"]:
        """Give the residual stream before a block; that of number L is the one after the last."""
        return self._find("residual", block, num_blocks=len(self.model.blocks) + 1)

    def mixed(self, block: int) -> Float[Tensor, "B H T K"]:
        """Give what each head gathered: its mixture of values, before the output matrix."""
        heads = self._find("mixed", block)
        return heads.unflatten(-1, (self.model.config.num_heads, -1)).transpose(1, 2)

    def added(self, block: int) -> Float[Tensor, "B H T D"]:
        """Give what each head adds to the residual stream; the layer's bias is no head's."""
        mixed = self.mixed(block)
        weight = _blocks(self.model)[block].attention.output.weight.detach()  # (D, H * K)
        by_head = weight.unflatten(1, (self.model.config.num_heads, -1))  # (D, H, K)
        return torch.einsum("bhtk,dhk->bhtd", mixed, by_head)

    def feed_forward(self, block: int) -> Float[Tensor, "B T D"]:
        """Give what a block's feed-forward network adds to the residual stream."""
        return self._find("feed_forward", block)

    @torch.no_grad()
    def weights(self, block: int) -> Float[Tensor, "B H T T"]:
        """Compute the attention weights again; PyTorch's fused kernel never writes them down."""
        attended = self._find("attended", block)
        return _blocks(self.model)[block].attention.weights(attended)

    @torch.no_grad()
    def values(self, block: int) -> Float[Tensor, "B H T K"]:
        """Compute again what each position offers to each head."""
        attended = self._find("attended", block)
        attention = _blocks(self.model)[block].attention
        return attention.share(attention.project(attended)[2])

    def _find(self, what: str, block: int, num_blocks: int | None = None) -> Tensor:
        """Look up what was seen at a block."""
        _check_index("block", block, num_blocks or len(self.model.blocks))
        if (what, block) not in self._seen:
            raise ValueError(
                "nothing was read yet; call model(token_ids) inside `with record(model) as seen:`"
            )
        return self._seen[what, block]

    def _keep(self, what: str, block: int) -> Callable[[Tensor], Tensor | None]:
        """Make what remembers the numbers that pass by a place."""

        def keep(x: Tensor) -> None:  # returns nothing, so nothing is replaced
            self._seen[what, block] = x.detach()

        return keep


@contextmanager
def record(model: GPT) -> Iterator[Record]:
    """Watch a model read: inside the `with` the latest reading is kept, and nothing changes.

    Raises:
        ValueError: If dropout is on; or, while it reads, if it reads with caches.

    >>> from gptbook.models import load
    >>> model, tokenizer = load()
    >>> with record(model) as seen:
    ...     logits = model(torch.tensor([tokenizer.encode("Mia was in the park.")]))
    >>> seen.weights(0).shape, seen.residual(5).shape
    (torch.Size([1, 4, 7, 7]), torch.Size([1, 7, 128]))
    """
    if model.training and model.config.dropout:
        raise ValueError("dropout is on, so no two readings are alike; call model.eval() first")
    seen = Record(model)
    places = [(site, seen._keep("residual", n)) for n, site in enumerate(_sites(model))]
    with ExitStack() as hooks:  # what is entered here is removed at the end, whatever happens
        for number, block in enumerate(_blocks(model)):
            places.append((block.attention, seen._keep("attended", number)))
            places.append((block.attention.output, seen._keep("mixed", number)))
            keep = seen._keep("feed_forward", number)
            see_output = block.feed_forward.register_forward_hook
            hooks.enter_context(see_output(lambda *io, keep=keep: keep(io[2])))
        hooks.enter_context(_inputs_through(places))
        yield seen


# --- what each layer would say ------------------------------------------------------------------


def logit_lens(model: GPT, residual: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
    """Score the next token as if the model ended where this residual stream was seen.

    References:
        nostalgebraist (2020).
    """
    return model.logits(model.final_norm(residual))


class Attribution(NamedTuple):
    """What each part of a model added to one number that is read at its end."""

    embedding: Float[Tensor, " B"]
    heads: Float[Tensor, "B L H"]
    feed_forward: Float[Tensor, "B L"]
    constant: Float[Tensor, " B"]

    @property
    def total(self) -> Float[Tensor, " B"]:
        """The number itself."""
        return self.embedding + self.heads.sum((1, 2)) + self.feed_forward.sum(1) + self.constant


@torch.no_grad()
def attribute(
    seen: Record, direction: Float[Tensor, "B D"], positions: Int[Tensor, " B"]
) -> Attribution:
    """Split a number read at the model's end into what each part added to it directly.

    The final norm divides by a scale that depends on all parts; it is held at what it was. What a
    part brings about through later parts counts as theirs.

    Args:
        seen: The model's reading of B texts.
        direction: What the number is read with after the final norm: `model.head.weight[token_ids]`
            for the logits of these tokens, the difference of two such rows for that of two logits.
        positions: Where it is read, in each text.

    Raises:
        ValueError: If the model is post-norm, in which no part reaches the end unchanged.

    References:
        Elhage et al. (2021).
    """
    model, norm = seen.model, cast(Any, seen.model.final_norm)
    if any(isinstance(block, PostNormBlock) for block in model.blocks):
        raise ValueError(
            "in a post-norm model each norm changes what the parts before it added, so the end is "
            "no sum of parts; use a pre-norm one, such as GPT2Config or ModernConfig make"
        )
    num_blocks, rows = len(model.blocks), torch.arange(len(positions))
    last = seen.residual(num_blocks)[rows, positions]  # (B, D)
    if isinstance(norm, LayerNorm):
        last = last - last.mean(dim=-1, keepdim=True)
    scale = (last.square().mean(dim=-1, keepdim=True) + norm.eps).rsqrt()
    read = direction * norm.weight * scale  # (B, D), what is read directly from the stream
    constant = torch.zeros_like(read[:, 0])
    if isinstance(norm, LayerNorm):  # it takes the mean away from what is read, too
        read, constant = read - read.mean(dim=-1, keepdim=True), direction @ norm.bias
    for block in _blocks(model):
        if block.attention.output.bias is not None:
            constant = constant + read @ block.attention.output.bias
    heads = [seen.added(n)[rows, :, positions] @ read[:, :, None] for n in range(num_blocks)]
    worked = [(seen.feed_forward(n)[rows, positions] * read).sum(1) for n in range(num_blocks)]
    return Attribution(
        embedding=(seen.residual(0)[rows, positions] * read).sum(dim=1),
        heads=torch.stack(heads, dim=1).squeeze(-1),
        feed_forward=torch.stack(worked, dim=1),
        constant=constant,
    )


# --- what happens without it --------------------------------------------------------------------


@contextmanager
def replace_heads(
    model: GPT,
    values: Mapping[Head, Tensor | float],
    where: Bool[Tensor, "B T"] | None = None,
) -> Iterator[None]:
    """Let heads say something else inside the `with`: 0, their mean, or what they said elsewhere.

    A `record` begun inside sees what was put in place; one begun outside sees what was replaced.

    Args:
        model: The model; its weights stay as they are.
        values: For each head what to put in place of its mixture of values: a number, or a tensor
            that fits (B, T, K), such as a row of `Record.mixed`.
        where: At which positions of which texts; everywhere by default.

    Raises:
        ValueError: If there is no such head, or, while the model reads, if a value does not fit.

    >>> from gptbook.models import load
    >>> model, _ = load()
    >>> with replace_heads(model, {(0, 3): 0.0}), record(model) as seen:
    ...     logits = model(torch.tensor([[5, 6, 7]]))
    >>> seen.mixed(0)[0, 3].abs().sum().item()
    0.0
    """
    for block, head in values:
        _check_index("block", block, len(model.blocks))
        _check_index("head", head, model.config.num_heads)

    def changed(block: int) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            heads = list(x.unflatten(-1, (model.config.num_heads, -1)).unbind(dim=2))
            for (where_block, head), value in values.items():
                if where_block == block:
                    heads[head] = _replaced(f"head {(block, head)}", heads[head], value, where)
            return torch.cat(heads, dim=-1)

        return change

    blocks = {block for block, _ in values}
    with _inputs_through([(_blocks(model)[n].attention.output, changed(n)) for n in blocks]):
        yield


@contextmanager
def replace_residual(
    model: GPT, block: int, value: Tensor | float, where: Bool[Tensor, "B T"] | None = None
) -> Iterator[None]:
    """Put other numbers into the residual stream before a block; see `replace_heads`.

    Raises:
        ValueError: If there is no such block, or, while the model reads, if the value does not fit.
    """
    _check_index("block", block, len(model.blocks) + 1)
    name = f"the residual stream before block {block}"
    place = (_sites(model)[block], lambda x: _replaced(name, x, value, where))
    with _inputs_through([place]):
        yield


def each_head(
    model: GPT, value: Callable[[int, int], Tensor | float], measure: Callable[[], Tensor]
) -> Float[Tensor, "L H *N"]:
    """Measure once for each head, while only that head says `value(block, head)`."""
    rows = []
    for block in range(len(model.blocks)):
        for head in range(model.config.num_heads):
            with replace_heads(model, {(block, head): value(block, head)}):
                rows.append(measure())
    return torch.stack(rows).unflatten(0, (len(model.blocks), -1))


# --- what a head looks for ----------------------------------------------------------------------


@torch.no_grad()
def induction_scores(
    model: GPT,
    token_ids: Int[Tensor, " V"] | None = None,
    *,
    length: int = 40,
    num_texts: int = 20,
    seed: int = 0,
) -> Float[Tensor, "L H"]:
    """Say how much each head looks for what came after the last time: 0 not at all, 1 only there.

    A text of different tokens, drawn at random, comes twice in a row. An induction head, in the
    second half, looks at the token after the one that it stands on, in the first half.

    Args:
        model: The model.
        token_ids: What to draw from; the whole vocabulary by default.
        length: How many tokens one half has.
        num_texts: How many such texts are averaged.
        seed: Which.

    Raises:
        ValueError: If two halves do not fit into the context, or there are too few tokens or texts.

    References:
        Olsson et al. (2022).
    """
    pool = torch.arange(model.vocab_size) if token_ids is None else token_ids
    if not 2 <= length <= min(model.context_length // 2, len(pool)):
        raise ValueError(
            f"length={length} came, but with {len(pool)} tokens to draw from and a context of "
            f"{model.context_length} it must be 2 to {min(model.context_length // 2, len(pool))}"
        )
    if num_texts < 1:
        raise ValueError(f"num_texts={num_texts} came; give 1 or more, 20 are usual")
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(num_texts, len(pool), generator=generator).argsort(dim=1)[:, :length]
    with record(model) as seen:
        model(pool[order].repeat(1, 2))
    after_the_last_time = [
        seen.weights(block).diagonal(1 - length, dim1=-2, dim2=-1)[..., 1:]  # (B, H, length)
        for block in range(len(model.blocks))
    ]
    return torch.stack([row.mean(dim=(0, 2)) for row in after_the_last_time])


# --- what can be read off -----------------------------------------------------------------------


class Probe(NamedTuple):
    """A linear classifier of vectors."""

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]

    def predict(self, x: Float[Tensor, "N D"]) -> Int[Tensor, " N"]:
        """Say which class each vector is of."""
        return (x.to(self.weight) @ self.weight.T + self.bias).argmax(dim=1)


def fit_probe(
    x: Float[Tensor, "N D"], labels: Int[Tensor, " N"], num_classes: int, *, ridge: float = 1.0
) -> Probe:
    """Fit one line a class by least squares: 1 for the vectors of the class, 0 for the others.

    Args:
        x: The vectors.
        labels: The class of each.
        num_classes: How many classes there are.
        ridge: How much the squares of the weights cost; the constant costs nothing.

    Raises:
        ValueError: If a label is no class, there are not as many as vectors, or `ridge` is not
            above 0.

    References:
        Hoerl and Kennard (1970), "Ridge Regression: Biased Estimation for Nonorthogonal Problems".
        https://doi.org/10.1080/00401706.1970.10488634
    """
    if len(x) != len(labels) or not len(x):
        raise ValueError(f"{len(labels)} labels came for {len(x)} vectors; give each one")
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but the {num_classes} classes are "
            f"0 to {num_classes - 1}"
        )
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, not {ridge}; 1.0 is usual")
    x, targets = x.double(), F.one_hot(labels, num_classes).double()
    mean, share = x.mean(dim=0), targets.mean(dim=0)
    centered = x - mean
    inner = centered.T @ centered + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(inner, centered.T @ (targets - share)).T
    return Probe(weight, share - weight @ mean)


def control_labels(
    words: Int[Tensor, " N"], num_classes: int, *, seed: int = 0
) -> Int[Tensor, " N"]:
    """Give each different word a class at random, the same wherever it comes.

    A probe that learns this learns words by heart: there is nothing else to find.

    References:
        Hewitt and Liang (2019), section 2.
    """
    different, places = words.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (len(different),), generator=generator)[places]


# --- what a map does not say --------------------------------------------------------------------


def other_map(weights: Float[Tensor, " S"], values: Float[Tensor, "S K"]) -> Float[Tensor, " S"]:
    """Find attention weights that look elsewhere and mix the same vector.

    The weights move away from where they were large, along directions that change neither their
    sum nor the mixture, until none is left or no weight can be lowered any more without becoming
    negative. More than K + 1 keys always leave such a direction.

    References:
        Jain and Wallace (2019).
    """
    kept = torch.cat([values.double(), torch.ones(len(values), 1, dtype=torch.float64)], dim=1).T
    found, away = weights.double().clone(), -weights.double()
    free = torch.ones(len(found), dtype=torch.bool)
    while free.any():
        _, sizes, rows = torch.linalg.svd(kept[:, free], full_matrices=False)
        rows = rows[sizes > 1e-12 * sizes[0]]  # along these the mixture or the sum would change
        step = torch.zeros_like(found)
        step[free] = away[free] - rows.T @ (rows @ away[free])
        falling = step < 0
        if step.abs().max() < 1e-7:  # nothing but rounding is left
            break
        room = torch.where(falling, found / -step, torch.inf)
        found = found + room.min() * step
        free &= room > room.min()
    return found.clamp(min=0.0)


# --- hooks --------------------------------------------------------------------------------------


def _blocks(model: GPT) -> list[TransformerBlock]:
    """Give the blocks as what they are."""
    return [cast(TransformerBlock, block) for block in model.blocks]


def _sites(model: GPT) -> list[nn.Module]:
    """List what reads the residual stream: each block, and the final norm."""
    return [*model.blocks, model.final_norm]


@contextmanager
def _inputs_through(
    places: Sequence[tuple[nn.Module, Callable[[Tensor], Tensor | None]]],
) -> Iterator[None]:
    """Let functions see, and replace if they return something, what comes into modules."""

    def hook(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
        def through(_: nn.Module, inputs: tuple[Any, ...]) -> Any:
            if any(isinstance(row, KVCache) for row in inputs):
                raise ValueError(
                    "the model read with caches, which hide most of the text from view; call "
                    "model(token_ids) with the whole text and no caches"
                )
            new = function(inputs[0])
            return None if new is None else (new, *inputs[1:])

        return through

    with ExitStack() as hooks:
        for module, function in places:
            hooks.enter_context(module.register_forward_pre_hook(hook(function)))
        yield


def _replaced(name: str, x: Tensor, value: Tensor | float, where: Tensor | None) -> Tensor:
    """Put a value into a place, where it is wanted."""
    new = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    mask = torch.ones(1, 1, dtype=torch.bool) if where is None else where
    for what, came, wanted in (("value", new, x.shape), ("where", mask, x.shape[:2])):
        axes = zip(came.shape[::-1], wanted[::-1], strict=False)
        if came.dim() > len(wanted) or any(size not in (1, room) for size, room in axes):
            raise ValueError(
                f"{what} of shape {tuple(came.shape)} does not fit {name}, which is "
                f"{tuple(wanted)}; record and replace texts of the same length"
            )
    return torch.where(mask[..., None], new, x)


def _check_index(name: str, number: object, count: int) -> None:
    """Refuse a block or head that does not exist."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < count:
        raise ValueError(f"{name} {number!r} came, but they are numbered 0 to {count - 1}")
