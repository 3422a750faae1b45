"""GPT: token ids in, a score for every possible next token out.

Chapter 6 assembles the model from the parts of the chapters before. A config holds the sizes, and
its class says how the parts are composed: `GPT1Config` (post-norm), `GPT2Config` (pre-norm) and
`ModernConfig` (rotary positions, RMSNorm, SwiGLU, grouped-query heads). Another composition is
another subclass; `GPT` itself knows none of them.

Shapes: B batch, T positions, D d_model, V vocab_size.

References:
    Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training".
    https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
    Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    Brown et al. (2020), "Language Models are Few-Shot Learners".
    https://arxiv.org/abs/2005.14165
    Touvron et al. (2023), "LLaMA: Open and Efficient Foundation Language Models".
    https://arxiv.org/abs/2302.13971
"""

import dataclasses
import json
import math
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gptbook.attention import CausalSelfAttention, KVCache, width_of_head
from gptbook.kernels import linear_cross_entropy
from gptbook.layers import (
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    PostNormBlock,
    RMSNorm,
    TransformerBlock,
    check_dropout,
    usual_d_ff,
    usual_gated_d_ff,
)
from gptbook.positional import LearnedPositions, RotaryPositions

_CONFIG_FILE, _WEIGHTS_FILE = "config.json", "model.safetensors"


def _check_size(name: str, size: object) -> None:
    """Refuse what is no number of things."""
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} must be a whole number, not {size!r}; pass an int")
    if int(size) < 1:
        raise ValueError(f"{name} must be at least 1, not {size}")


def _check_norm_eps(eps: object) -> None:
    """Refuse what cannot keep a norm from dividing by zero."""
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise TypeError(f"norm_eps must be a number such as 1e-6, not {eps!r}")
    if not 0 < float(eps) < math.inf:
        raise ValueError(f"norm_eps keeps a norm from dividing by zero, so it cannot be {eps}")


@dataclass(frozen=True, kw_only=True)
class GPTConfig(ABC):
    """The sizes of a GPT; a subclass says what is built in these sizes.

    Raises:
        TypeError: If a size is not a whole number, or `dropout` not a number.
        ValueError: If a size is less than 1, `d_model` is no multiple of `num_heads`, or `dropout`
            is no probability.
    """

    vocab_size: int
    """How many different tokens there are."""
    context_length: int
    """How many tokens the model reads at most."""
    d_model: int
    """Width of the residual stream."""
    num_heads: int
    """How many attention heads a block has."""
    num_layers: int
    """How many blocks stand on each other."""
    d_ff: int | None = None
    """Inner width of the feed-forward networks; None for the composition's usual one."""
    dropout: float = 0.0
    """Probability of dropping, from the embedded tokens, attention weights and what blocks add."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        for name in ("vocab_size", "context_length", "d_model", "num_heads", "num_layers"):
            _check_size(name, getattr(self, name))
        if self.d_ff is not None:
            _check_size("d_ff", self.d_ff)
        width_of_head(self.d_model, self.num_heads)
        check_dropout(self.dropout)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return width_of_head(self.d_model, self.num_heads)

    @property
    def has_tied_head(self) -> bool:
        """Whether tokens are scored with the very matrix that embeds them."""
        return True

    def make_positions(self) -> nn.Module | None:
        """Build what adds positions to the embedded tokens, if anything does."""
        return LearnedPositions(self.context_length, self.d_model)

    @abstractmethod
    def make_blocks(self) -> list[TransformerBlock]:
        """Build the blocks, from the first to the last."""

    @abstractmethod
    def make_final_norm(self) -> nn.Module:
        """Build what stands between the last block and the head."""

    @abstractmethod
    def count(self) -> dict[str, int]:
        """Count the parameters of each kind of part, by formula, without building any."""


@dataclass(frozen=True, kw_only=True)
class GPT2Config(GPTConfig):
    """GPT-2 and GPT-3: learned positions, LayerNorm before each part, tanh GELU, biases, tied head.

    GPT-3 differs in that every second layer of it sees only a band of the past, which changes no
    parameter and is not built here.

    >>> count_parameters(GPT2Config(
    ...     vocab_size=50_257, context_length=1_024, d_model=768, num_heads=12, num_layers=12
    ... ))
    124439808
    """

    def make_blocks(self) -> list[TransformerBlock]:
        """Build pre-norm blocks."""
        return [TransformerBlock(**self._parts()) for _ in range(self.num_layers)]

    def make_final_norm(self) -> nn.Module:
        """Build the LayerNorm through which the head reads the residual stream."""
        return LayerNorm(self.d_model)

    def count(self) -> dict[str, int]:
        """Count the parameters of each kind of part."""
        d_model, num_layers = self.d_model, self.num_layers
        d_ff = self.d_ff or usual_d_ff(d_model)
        return {
            "token embedding": self.vocab_size * d_model,
            "positions": self.context_length * d_model,
            "attention": num_layers * (4 * d_model**2 + 4 * d_model),
            "feed-forward": num_layers * (2 * d_model * d_ff + d_ff + d_model),
            "norms": self._num_norms() * 2 * d_model,
        }

    def _parts(self) -> dict[str, Any]:
        """Build what one block is made of, in either order."""
        return {
            "attention": CausalSelfAttention(
                d_model=self.d_model, num_heads=self.num_heads, dropout=self.dropout
            ),
            "feed_forward": FeedForward(d_model=self.d_model, d_ff=self.d_ff),
            "attention_norm": LayerNorm(self.d_model),
            "feed_forward_norm": LayerNorm(self.d_model),
            "dropout": self.dropout,
        }

    def _num_norms(self) -> int:
        """Two a block, and the final one."""
        return 2 * self.num_layers + 1


@dataclass(frozen=True, kw_only=True)
class GPT1Config(GPT2Config):
    """GPT-1: as GPT-2, but each norm stands after its part, so that no final one is needed."""

    def make_blocks(self) -> list[TransformerBlock]:
        """Build post-norm blocks."""
        return [PostNormBlock(**self._parts()) for _ in range(self.num_layers)]

    def make_final_norm(self) -> nn.Module:
        """Pass on what the last block has normed already."""
        return nn.Identity()

    def _num_norms(self) -> int:
        """Two a block."""
        return 2 * self.num_layers


@dataclass(frozen=True, kw_only=True)
class ModernConfig(GPTConfig):
    """What came after GPT-3, as in Llama: rotary positions, RMSNorm, SwiGLU, no biases.

    Raises:
        TypeError: If a size is not a whole number, or another setting no number.
        ValueError: As `GPTConfig`, if the heads cannot share `num_kv_heads` evenly, or if
            `norm_eps` is not above zero.
    """

    num_kv_heads: int | None = None
    """How many heads of keys and values the queries share; None for one each."""
    rope_theta: float = 10_000.0
    """How many times slower than the first pair of channels the one after the last would turn."""
    tied_head: bool = True
    """Whether tokens are scored with the very matrix that embeds them."""
    norm_eps: float = 1e-6
    """What every RMSNorm adds to the mean square, so that it never divides by zero."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        super().__post_init__()
        _check_norm_eps(self.norm_eps)
        with torch.device("meta"):  # the layer knows best what it takes
            self._attention(RotaryPositions(self.head_dim, theta=self.rope_theta))

    @property
    def has_tied_head(self) -> bool:
        """Whether tokens are scored with the very matrix that embeds them."""
        return self.tied_head

    def make_positions(self) -> None:
        """Add nothing: attention turns queries and keys by their position."""
        return None

    def make_blocks(self) -> list[TransformerBlock]:
        """Build pre-norm blocks that share one table of rotary angles."""
        rotary = RotaryPositions(self.head_dim, theta=self.rope_theta)
        return [
            TransformerBlock(
                attention=self._attention(rotary),
                feed_forward=GatedFeedForward(d_model=self.d_model, d_ff=self.d_ff),
                attention_norm=RMSNorm(self.d_model, eps=self.norm_eps),
                feed_forward_norm=RMSNorm(self.d_model, eps=self.norm_eps),
                dropout=self.dropout,
            )
            for _ in range(self.num_layers)
        ]

    def make_final_norm(self) -> nn.Module:
        """Build the RMSNorm through which the head reads the residual stream."""
        return RMSNorm(self.d_model, eps=self.norm_eps)

    def count(self) -> dict[str, int]:
        """Count the parameters of each kind of part."""
        d_model, num_layers = self.d_model, self.num_layers
        d_ff = self.d_ff or usual_gated_d_ff(d_model)
        d_shared = (self.num_kv_heads or self.num_heads) * self.head_dim
        embedding = self.vocab_size * d_model
        return {
            "token embedding": embedding,
            "attention": num_layers * (2 * d_model**2 + 2 * d_model * d_shared),
            "feed-forward": num_layers * 3 * d_model * d_ff,
            "norms": (2 * num_layers + 1) * d_model,
        } | ({} if self.tied_head else {"head": embedding})

    def _attention(self, rotary: RotaryPositions) -> CausalSelfAttention:
        """Build one block's attention."""
        return CausalSelfAttention(
            d_model=self.d_model,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            dropout=self.dropout,
            bias=False,
            rotary=rotary,
        )


COMPOSITIONS: dict[str, type[GPTConfig]] = {
    composition.__name__: composition for composition in (GPT1Config, GPT2Config, ModernConfig)
}
"""What `load` can build, by the name that `save` writes down."""


def _published(
    composition: Callable[..., GPTConfig], shape: tuple[int, int, int], vocab: int, context: int
) -> GPTConfig:
    """Fill in a row of a paper's table: layers, width, heads."""
    num_layers, d_model, num_heads = shape
    return composition(
        vocab_size=vocab,
        context_length=context,
        d_model=d_model,
        num_heads=num_heads,
        num_layers=num_layers,
    )


PUBLISHED: dict[str, GPTConfig] = {
    "gpt1": _published(GPT1Config, (12, 768, 12), 40_478, 512),
    "gpt2": _published(GPT2Config, (12, 768, 12), 50_257, 1_024),
    "gpt2-medium": _published(GPT2Config, (24, 1_024, 16), 50_257, 1_024),
    "gpt2-large": _published(GPT2Config, (36, 1_280, 20), 50_257, 1_024),
    "gpt2-xl": _published(GPT2Config, (48, 1_600, 25), 50_257, 1_024),
    "gpt3": _published(GPT2Config, (96, 12_288, 96), 50_257, 2_048),
}
"""The shapes that OpenAI published, in the papers of GPT-1 and GPT-3, and with GPT-2's weights."""


def count_parameters(config: GPTConfig) -> int:
    """Count the parameters of a model by formula, without building it.

    >>> count_parameters(PUBLISHED["gpt3"])
    174604259328
    """
    return sum(config.count().values())


class GPT(nn.Module):
    """A stack of blocks between an embedding of tokens and scores for the next one.

    The weights start as GPT-2's did: from `torch.manual_seed`, normal with deviation 0.02, the
    projections that add to the residual stream smaller by the root of their number.

    References:
        Radford et al. (2019), section 2.3.

    >>> config = GPT2Config(
    ...     vocab_size=50, context_length=16, d_model=8, num_heads=2, num_layers=2
    ... )
    >>> GPT(config)(torch.zeros(1, 5, dtype=torch.long)).shape
    torch.Size([1, 5, 50])
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = config.make_positions()
        self.blocks = nn.ModuleList(config.make_blocks())
        self.final_norm = config.make_final_norm()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.tie()
        self.reset_parameters()

    def tie(self) -> None:
        """Let the head use the embedding's own matrix, where the composition says so."""
        if self.config.has_tied_head:
            self.head.weight = self.token_embedding.weight

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start small, as GPT-2 did."""
        smaller = 1 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)  # the weight of a norm
            else:
                adds = name.endswith(("attention.output.weight", "feed_forward.contract.weight"))
                parameter.normal_(std=0.02 * (smaller if adds else 1.0))

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.config.vocab_size

    @property
    def context_length(self) -> int:
        """How many tokens the model reads at most."""
        return self.config.context_length

    def num_parameters(self) -> int:
        """Count the numbers that training changes; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self, token_ids: Int[Tensor, "B T"], caches: list[KVCache] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Score every token as the next one, at each position.

        Args:
            token_ids: The text; after what the caches hold, if there are any.
            caches: One for each block, as `new_caches` makes them. The tokens are added to them.

        Raises:
            TypeError: If `token_ids` is not a tensor of integers.
            ValueError: If it is not (batch, tokens), does not fit in the context, or holds an id
                that is not in the vocabulary; or if the caches are not of this model.
        """
        return self.logits(self.hidden(token_ids, caches))

    def hidden(
        self, token_ids: Int[Tensor, "B T"], caches: list[KVCache] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return what the head reads: the residual stream after the last norm.

        Args and errors are those of `forward`.
        """
        first_position = self._start(caches)
        self._check_ids(token_ids, first_position)
        x = self._embed(token_ids)
        if self.positions is not None:
            x = self.positions(x, first_position)
        if self.training and self.config.dropout:
            x = F.dropout(x, self.config.dropout)
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None, first_position)
        return self.final_norm(x)

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Score every token against what `hidden` returned."""
        return self.head(hidden)

    def loss(
        self,
        token_ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        ignore_index: int = -100,
    ) -> Float[Tensor, ""]:
        """Return how surprised the model is by the targets, in nats a token, on average.

        Args:
            token_ids: The text.
            targets: At each position the token that should come next.
            ignore_index: What stands in `targets` where nothing is to be predicted.

        Raises:
            TypeError: As `forward`.
            ValueError: As `forward`, or if the targets are not one for each token.
        """
        if targets.shape != token_ids.shape:
            raise ValueError(
                f"targets of shape {tuple(targets.shape)} came for token_ids of shape "
                f"{tuple(token_ids.shape)}; give each token its next one, or {ignore_index}"
            )
        hidden, targets = self.hidden(token_ids).flatten(0, 1), targets.flatten()
        if type(self.head) is nn.Linear:  # never hold all the logits
            return linear_cross_entropy(
                hidden, self.head.weight, targets, ignore_index=ignore_index
            )
        return F.cross_entropy(self.logits(hidden), targets, ignore_index=ignore_index)

    def new_caches(self, batch_size: int, context_length: int | None = None) -> list[KVCache]:
        """Make an empty cache for each block.

        Args:
            batch_size: How many texts are continued at once.
            context_length: How many positions to make room for; the model's own by default.

        Raises:
            TypeError: If a size is not a whole number.
            ValueError: If a size is less than 1.
        """
        length = self.context_length if context_length is None else context_length
        return [block.attention.new_cache(batch_size, length) for block in self._each_block()]

    def extra_repr(self) -> str:
        """Show the sizes where PyTorch prints the module."""
        return repr(self.config)

    def _each_block(self) -> list[TransformerBlock]:
        """Give the blocks as what they are."""
        return [block for block in self.blocks if isinstance(block, TransformerBlock)]

    def _embed(self, token_ids: Tensor) -> Float[Tensor, "B T D"]:
        """Look up each token's vector. On a CPU the look-up itself finds wrong ids."""
        try:
            return self.token_embedding(token_ids)
        except IndexError as error:
            smallest, largest = token_ids.aminmax()
            raise ValueError(
                f"token_ids run from {smallest} to {largest}, but this model knows 0 to "
                f"{self.vocab_size - 1}; use the tokenizer that it was trained with"
            ) from error

    def _check_ids(self, token_ids: Tensor, first_position: int) -> None:
        """Refuse what is no text for this model, once, at the door."""
        if not isinstance(token_ids, Tensor) or token_ids.dtype not in (torch.int64, torch.int32):
            kind = token_ids.dtype if isinstance(token_ids, Tensor) else type(token_ids).__name__
            raise TypeError(
                f"token_ids must be a tensor of whole numbers, not {kind}; "
                "use torch.tensor([tokenizer.encode(text)])"
            )
        if token_ids.dim() != 2 or not token_ids.numel():
            raise ValueError(
                f"token_ids of shape {tuple(token_ids.shape)} came, but the model reads (batch, "
                "tokens) with at least one of each; give a single text a batch axis with "
                "token_ids.unsqueeze(0)"
            )
        length = first_position + token_ids.shape[1]
        if length > self.config.context_length:
            raise ValueError(
                f"{length} tokens do not fit in context_length={self.config.context_length}; "
                f"keep the last ones with token_ids[:, -{self.config.context_length}:]"
                + (", and start with new caches" if first_position else "")
            )

    def _start(self, caches: list[KVCache] | None) -> int:
        """Find the position of the first token that comes in."""
        if caches is None:
            return 0
        lengths = set(map(len, caches))
        if len(caches) != self.config.num_layers or len(lengths) != 1:
            raise ValueError(
                f"{len(caches)} caches with {sorted(lengths)} positions came, but each of the "
                f"{len(self.blocks)} blocks needs one, all of one length; make them with "
                "model.new_caches(batch_size)"
            )
        return lengths.pop()


def save(model: GPT, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model as config.json (what it is) and model.safetensors (its weights).

    Each file appears whole or not at all. The weights carry a copy of the config, so that `load`
    notices if a save was cut off between the two. A tied matrix is written once.

    Args:
        model: What to save.
        folder: Where; made if need be.
        dtype: What to round to, such as torch.float16 for half the bytes; as it is by default.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If the composition is none that `load` can build.
    """
    name = type(model.config).__name__
    if COMPOSITIONS.get(name) is not type(model.config):
        raise ValueError(
            f"a {name} cannot be loaded again; add it to gptbook.model.COMPOSITIONS first"
        )
    text = json.dumps({"composition": name} | dataclasses.asdict(model.config), indent=2) + "\n"
    tensors = {
        name: parameter.detach().to(dtype=dtype or parameter.dtype, device="cpu").contiguous()
        for name, parameter in model.named_parameters()
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(
        folder / _WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"config": text})
    )
    write_whole(folder / _CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def load(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> GPT:
    """Read a model that `save` wrote. Nothing in the files is ever executed.

    Args:
        folder: Where its two files are.
        dtype: What the weights become, whatever they were stored as.

    Returns:
        The model, on the CPU, ready for reading (`eval()`).

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is damaged, the two are not of one save, or a tensor is missing, too
            many or of another shape.
    """
    folder = Path(folder)
    config, text = _read_config(folder / _CONFIG_FILE)
    tensors, metadata = read_tensors(folder / _WEIGHTS_FILE)
    model = from_weights(config, tensors, source=folder / _WEIGHTS_FILE, dtype=dtype)
    if metadata.get("config") != text:
        raise ValueError(
            f"{_CONFIG_FILE} and {_WEIGHTS_FILE} in {folder} are not of one save; save again"
        )
    return model


def from_weights(
    config: GPTConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: str | Path,
    dtype: torch.dtype = torch.float32,
) -> GPT:
    """Build a GPT of weights that are there already; nothing is drawn.

    Args:
        config: What the model is.
        tensors: One for each parameter, by its name; of a tied matrix, the embedding. What has
            the right dtype is taken over, not copied.
        source: Where the tensors come from, for the error.
        dtype: What the weights become.

    Returns:
        The model, ready for reading (`eval()`).

    Raises:
        ValueError: If a tensor is missing, too many, of another shape or of whole numbers.

    >>> config = GPT2Config(
    ...     vocab_size=50, context_length=16, d_model=8, num_heads=2, num_layers=2
    ... )
    >>> first = GPT(config)
    >>> second = from_weights(config, dict(first.named_parameters()), source="the first")
    >>> torch.equal(second.token_embedding.weight, first.token_embedding.weight)
    True
    """
    model = outline(config)
    faults = differences(tensors, dict(model.named_parameters()))
    if faults:
        raise ValueError(f"{source} does not fit its {_CONFIG_FILE}:\n" + "\n".join(faults))
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor.detach().to(dtype)))
    model.tie()
    return model.eval()


def outline(config: GPTConfig) -> GPT:
    """Build a GPT of shapes without numbers, on PyTorch's meta device: no size is too large.

    >>> outline(PUBLISHED["gpt3"]).token_embedding.weight.shape
    torch.Size([50257, 12288])
    """
    with torch.device("meta"), _NothingDrawn():
        return GPT(config)


def differences(came: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """List how weights differ from those of a model in names and shapes, a line each.

    >>> differences({"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(3)})
    ['b belongs to no part', 'a has shape (2,), not (3,)']
    """
    faults = [f"{name} is missing" for name in wanted if name not in came]
    faults += [f"{name} belongs to no part" for name in came if name not in wanted]
    common = [name for name in wanted if name in came]
    faults += [
        f"{name} has shape {tuple(came[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in common
        if came[name].shape != wanted[name].shape
    ]
    return faults + [
        f"{name} holds {came[name].dtype}, not numbers with a fraction"
        for name in common
        if not came[name].is_floating_point()
    ]


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a safetensors file, and what its header says beside them.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file: damaged, or a pickle, which is never opened.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        with path.open("rb") as raw:
            start = raw.read(8)  # of a safetensors file, the length of its header
        if start.startswith(_PICKLES) and int.from_bytes(start, "little") > _LONGEST_HEADER:
            raise ValueError(
                f"{path} is a pickle under another name, and reading one may run whatever is in "
                "it; get the model as safetensors"
            ) from error
        raise ValueError(f"{path} is damaged: {error}; copy or save it again") from error


_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LONGEST_HEADER = 100_000_000  # bytes; safetensors takes no longer one


class _NothingDrawn(TorchFunctionMode):
    """Draw no normal numbers: on the meta device, that alone would import PyTorch's compiler."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        """Run everything but what draws."""
        keywords = keywords or {}
        if function in (torch.Tensor.normal_, nn.init.normal_):
            return arguments[0] if arguments else keywords["tensor"]
        return function(*arguments, **keywords)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    Whatever stood there stays until the end; if `write` fails, for good.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)  # whoever may read other files here may read this one
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_config(path: Path) -> tuple[GPTConfig, str]:
    """Read a config, and the very text of it."""
    text = path.read_text(encoding="utf-8")
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; save the model again") from error
    name = fields.pop("composition", None) if isinstance(fields, dict) else None
    if name not in COMPOSITIONS:
        raise ValueError(
            f"{path} names the composition {name!r}, but this gptbook knows "
            f"{', '.join(COMPOSITIONS)}; install the gptbook that wrote it"
        )
    try:
        return COMPOSITIONS[name](**fields), text
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes no {name}: {error}") from error
