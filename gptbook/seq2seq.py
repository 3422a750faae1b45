"""Encoder-decoder: the Transformer of 2017, which reads one text and writes another.

Chapter 7 puts it together from the parts of the chapters before. An encoder reads the source whole:
every position sees every other. A decoder writes the target as a GPT does, and between attention
and the feed-forward network each of its blocks looks at what the encoder made of the source. That
look is cross-attention, the only part that is new here.

Training takes the loop of `gptbook.training`: a batch of pairs is one tensor, (B, 2, L), the source
above what is there of the target, both filled up with `PADDING`. Generation takes the functions of
`gptbook.generation`: `EncoderDecoder.reading` gives them a model that has read its sources.

Shapes: B pairs, S positions of the source, T of the target, L the longer of both, H heads,
K head_dim, D d_model = H K, V vocab_size.

References:
    Vaswani et al. (2017), "Attention Is All You Need". https://arxiv.org/abs/1706.03762
    Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", section 7
    (label smoothing). https://arxiv.org/abs/1512.00567
    Press and Wolf (2017), "Using the Output Embedding to Improve Language Models" (one matrix for
    both embeddings and the head). https://arxiv.org/abs/1608.05859
"""

import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gptbook.attention import CausalSelfAttention, KVCache, attend, attention_weights, width_of_head
from gptbook.evaluation import IGNORED
from gptbook.generation import generate
from gptbook.layers import FeedForward, LayerNorm, check_dropout
from gptbook.positional import SinusoidalPositions
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch, TrainingConfig

PADDING = -1  # stands in a batch where a text is shorter than the longest


# --- attention from one text to another ---------------------------------------------------------


class Source(NamedTuple):
    """What one block's cross-attention has read of the sources: keys, values, and what to hide."""

    key: Float[Tensor, "B H S K"]
    value: Float[Tensor, "B H S K"]
    bias: Float[Tensor, "B 1 1 S"] | None
    """0 where there is a token, minus infinity where there is padding; None if there is none."""

    def bias_for(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B 1 T S"] | None:
        """Give the bias for these queries."""
        return None if self.bias is None else self.bias.expand(-1, -1, x.shape[1], -1)

    def select_rows(self, rows: Int[Tensor, " rows"]) -> "Source":
        """Keep these rows of the batch, in this order."""
        bias = None if self.bias is None else self.bias[rows]
        return Source(self.key[rows], self.value[rows], bias)


class CrossAttention(nn.Module):
    """Multi-head attention whose queries come from one text, and keys and values from another.

    An encoder's self-attention is the special case in which both are the same text.

    Args:
        d_model: Width of the vectors that come in and go out.
        num_heads: How many queries each position asks at once.
        dropout: Probability with which each attention weight is dropped in training.

    Raises:
        TypeError: If a size is not a whole number, or `dropout` is not a number.
        ValueError: If the width does not divide evenly, or `dropout` is no probability.

    References:
        Vaswani et al. (2017), section 3.2.3.

    >>> attention = CrossAttention(d_model=8, num_heads=2)
    >>> attention(torch.zeros(1, 3, 8), attention.read(torch.zeros(1, 5, 8))).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, *, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.head_dim = width_of_head(d_model, num_heads)
        check_dropout(dropout)
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Float[Tensor, "B T D"], source: Source) -> Float[Tensor, "B T D"]:
        """Replace each vector of `x` by a mixture of the source's values."""
        dropout = self.dropout if self.training else 0.0
        mixed = attend(
            self._heads(self.query(x)),
            source.key,
            source.value,
            causal=False,
            bias=source.bias_for(x),
            dropout=dropout,
        )
        return self.output(mixed.transpose(1, 2).flatten(start_dim=-2))

    def read(
        self, memory: Float[Tensor, "B S D"], padding: Bool[Tensor, "B S"] | None = None
    ) -> Source:
        """Make keys and values of what the encoder put out; for each text once is enough.

        Args:
            memory: One vector for each position of the source.
            padding: True where there is none.
        """
        key, value = self.key_value(memory).chunk(2, dim=-1)
        bias = None
        if padding is not None and padding.any():
            bias = torch.zeros_like(padding, dtype=memory.dtype)
            bias = bias.masked_fill_(padding, -math.inf)[:, None, None]
        return Source(self._heads(key), self._heads(value), bias)

    def weights(self, x: Float[Tensor, "B T D"], source: Source) -> Float[Tensor, "B H T S"]:
        """Return the attention weights behind `forward`, before any dropout, for figures."""
        query = self._heads(self.query(x))
        return attention_weights(query, source.key, causal=False, bias=source.bias_for(x))

    def _heads(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B H T K"]:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


# --- blocks -------------------------------------------------------------------------------------


class DecoderCache:
    """What one block remembers while it writes: its own text so far, and the source."""

    def __init__(self, text: KVCache, source: Source) -> None:
        self.text, self.source = text, source

    def __len__(self) -> int:
        """How many positions of the target are remembered."""
        return len(self.text)

    def select_rows(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these rows of the batch; see `KVCache.select_rows`."""
        self.text.select_rows(rows)
        self.source = self.source.select_rows(rows)

    def truncate(self, length: int) -> None:
        """Forget every position of the target from `length` on."""
        self.text.truncate(length)


class EncoderBlock(nn.Module):
    """Look at the whole text, then think about each position; each is added, then normed."""

    def __init__(self, *, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = CrossAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.attention_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(
            d_model=d_model, d_ff=d_ff, activation="relu", dropout=dropout
        )
        self.feed_forward_norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B S D"], padding: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """Replace each vector by one that knows the whole text."""
        mixed = self.attention(x, self.attention.read(x, padding))
        x = self.attention_norm(x + self.dropout(mixed))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class DecoderBlock(nn.Module):
    """Look back at the target so far, look at the source, then think about each position."""

    def __init__(self, *, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = CausalSelfAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.attention_norm = LayerNorm(d_model)
        self.cross_attention = CrossAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.cross_attention_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(
            d_model=d_model, d_ff=d_ff, activation="relu", dropout=dropout
        )
        self.feed_forward_norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], source: Source, cache: KVCache | None = None
    ) -> Float[Tensor, "B T D"]:
        """Replace each vector by one that knows the target up to it, and the source.

        Args:
            x: One vector for each position of the target.
            source: What `cross_attention.read` made of the source.
            cache: Keys and values of the positions before `x`; those of `x` are added to it.
        """
        x = self.attention_norm(x + self.dropout(self.attention(x, cache)))
        x = self.cross_attention_norm(x + self.dropout(self.cross_attention(x, source)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


# --- the model ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """What an encoder-decoder is made of; the default is the paper's base model.

    Raises:
        TypeError: If a size is not a whole number, or a probability no number.
        ValueError: If a size is less than 1, the heads do not divide the width, or a probability
            is not from 0 to below 1.
    """

    vocab_size: int
    """How many different tokens there are, of both languages together."""
    d_model: int = 512
    """Width of every vector between the blocks."""
    num_heads: int = 8
    """How many queries each position asks at once."""
    num_layers: int = 6
    """How many blocks the encoder has, and the decoder too."""
    d_ff: int = 2048
    """Width inside the feed-forward networks."""
    dropout: float = 0.0
    """Probability with which each number is dropped in training; the paper took 0.1."""
    label_smoothing: float = 0.0
    """How much of each target goes to all tokens alike; the paper took 0.1."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "num_heads", "num_layers", "d_ff"):
            _check_size(name, getattr(self, name))
        width_of_head(self.d_model, self.num_heads)
        check_dropout(self.dropout)
        _check_share("label_smoothing", self.label_smoothing)


class EncoderDecoder(nn.Module):
    """The Transformer of 2017: an encoder, a decoder, and one matrix for all tokens.

    The matrix embeds the source's tokens and the target's, times the root of its width, and scores
    the next token. Norms stand after each sum, as in the paper; there is none at the end.

    References:
        Vaswani et al. (2017), sections 3.1 and 3.4.

    >>> config = EncoderDecoderConfig(
    ...     vocab_size=50, d_model=8, num_heads=2, num_layers=1, d_ff=16
    ... )
    >>> source, target = torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long)
    >>> EncoderDecoder(config)(source, target).shape
    torch.Size([1, 3, 50])
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        sizes: dict[str, Any] = {
            "d_model": config.d_model,
            "num_heads": config.num_heads,
            "d_ff": config.d_ff,
            "dropout": config.dropout,
        }
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = SinusoidalPositions(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderBlock(**sizes) for _ in range(config.num_layers))
        self.decoder = nn.ModuleList(DecoderBlock(**sizes) for _ in range(config.num_layers))
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.head.weight = self.token_embedding.weight
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with matrices that keep the size of what passes through them (Glorot)."""
        for name, parameter in self.named_parameters():
            if name == "token_embedding.weight":
                parameter.normal_(std=self.config.d_model**-0.5)
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                parameter.zero_()

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.config.vocab_size

    def num_parameters(self) -> int:
        """Count the numbers that training changes; the shared matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self, source_ids: Int[Tensor, "B S"], target_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T V"]:
        """Score every token as the next one of the target, at each of its positions.

        Args:
            source_ids: What to translate; `PADDING` behind a source that is shorter.
            target_ids: The translation so far, from the token that begins it.

        Raises:
            TypeError: If the ids are not whole numbers.
            ValueError: If they are not (batch, tokens), not of one batch, or not in the
                vocabulary; or if a source is nothing but padding.
        """
        sources = self.read(source_ids)
        self._check_ids("target_ids", target_ids)
        if len(target_ids) != len(source_ids):
            raise ValueError(
                f"{len(source_ids)} sources but {len(target_ids)} targets came; pass one each"
            )
        return self.decode(target_ids, sources)

    def encode(self, source_ids: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """Turn each token of the source into a vector that knows the whole source."""
        self._check_ids("source_ids", source_ids)
        padding = source_ids == PADDING
        if padding.all(dim=1).any():
            raise ValueError("a source holds nothing but padding; give it at least one token")
        x = self._embed(source_ids.clamp(min=0))
        for block in self.encoder:
            x = block(x, padding)
        return x

    def read(self, source_ids: Int[Tensor, "B S"]) -> list[Source]:
        """Encode the sources, and make of them what each block of the decoder looks at."""
        memory = self.encode(source_ids)
        padding = source_ids == PADDING
        return [block.cross_attention.read(memory, padding) for block in self._each_decoder_block()]

    def decode(
        self,
        target_ids: Int[Tensor, "B T"],
        sources: Sequence[Source],
        caches: Sequence[KVCache] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Score the next tokens, given what `read` returned.

        Args:
            target_ids: The translation so far; after what the caches hold, if there are any.
            sources: One for each block.
            caches: One for each block.
        """
        first_position = len(caches[0]) if caches else 0
        x = self._embed(target_ids.clamp(min=0), first_position)
        for i, block in enumerate(self.decoder):
            x = block(x, sources[i], caches[i] if caches else None)
        return self.head(x)

    def loss(self, pairs: Int[Tensor, "B 2 L"], targets: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        """Return the smoothed surprise at the targets, in nats a token, on average.

        Args:
            pairs: The sources, and the targets shifted by one, as `pair_batch` lays them out.
            targets: At each position the token that should come next, or `IGNORED`.
        """
        logits = self(pairs[:, 0], pairs[:, 1])
        return smoothed_cross_entropy(logits, targets, self.config.label_smoothing)

    def looks(
        self, source_ids: Int[Tensor, "B S"], target_ids: Int[Tensor, "B T"]
    ) -> list[Float[Tensor, "B H T S"]]:
        """Return the weights of every block's cross-attention, for figures."""
        found: list[Tensor] = []

        def note(layer: CrossAttention, inputs: tuple[Tensor, Source]) -> None:
            found.append(layer.weights(*inputs))

        blocks = self._each_decoder_block()
        hooks = [block.cross_attention.register_forward_pre_hook(note) for block in blocks]
        try:
            self(source_ids, target_ids)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def reading(self, source_ids: Int[Tensor, "B S"]) -> "Reading":
        """Give the functions of `gptbook.generation` a model that has read these sources.

        Each row of what it is given continues the translation of the source in that row.
        """
        return Reading(self, source_ids)

    def _each_decoder_block(self) -> list[DecoderBlock]:
        """Give the decoder's blocks as what they are."""
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]

    def _embed(self, token_ids: Tensor, first_position: int = 0) -> Float[Tensor, "B T D"]:
        """Look tokens up, and add where they stand."""
        x = self.token_embedding(token_ids) * math.sqrt(self.config.d_model)
        return self.dropout(self.positions(x, first_position))

    def _check_ids(self, name: str, token_ids: Tensor) -> None:
        """Refuse what is no text for this model."""
        if not isinstance(token_ids, Tensor) or token_ids.dtype not in (torch.int64, torch.int32):
            kind = token_ids.dtype if isinstance(token_ids, Tensor) else type(token_ids).__name__
            raise TypeError(
                f"{name} must be a tensor of whole numbers, not {kind}; "
                "make one of lists of token ids with fill_up"
            )
        if token_ids.dim() != 2 or not token_ids.numel():
            raise ValueError(
                f"{name} of shape {tuple(token_ids.shape)} came, but the model reads (batch, "
                "tokens) with at least one of each; one text goes in as token_ids[None]"
            )
        smallest, largest = token_ids.aminmax()
        if smallest < PADDING or largest >= self.vocab_size:
            raise ValueError(
                f"{name} run from {smallest} to {largest}, but this model knows 0 to "
                f"{self.vocab_size - 1}, and {PADDING} for padding; encode with the tokenizer "
                "that the model was made for"
            )


class Reading(nn.Module):
    """An encoder-decoder that has read its sources, and writes on as a GPT does."""

    def __init__(self, model: EncoderDecoder, source_ids: Int[Tensor, "B S"]) -> None:
        super().__init__()
        self.model = model
        was_training = model.training
        model.eval()  # what is read once serves every token that is written
        try:
            with torch.no_grad():
                self._sources = model.read(source_ids)
        finally:
            model.train(was_training)

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.model.vocab_size

    def forward(
        self, token_ids: Int[Tensor, "B T"], caches: list[DecoderCache] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Score every token as the next one, at each position."""
        if caches is None:
            return self.model.decode(token_ids, self._sources)
        texts = [cache.text for cache in caches]
        return self.model.decode(token_ids, [cache.source for cache in caches], texts)

    def new_caches(self, batch_size: int, context_length: int) -> list[DecoderCache]:
        """Make a cache for each block, which knows the source and nothing of the target.

        Raises:
            ValueError: If there are not as many rows as sources.
        """
        num_sources = len(self._sources[0].key)
        if batch_size != num_sources:
            raise ValueError(
                f"{batch_size} prompts came for {num_sources} sources; begin one for each"
            )
        blocks = self.model._each_decoder_block()
        return [
            DecoderCache(block.attention.new_cache(batch_size, context_length), source)
            for block, source in zip(blocks, self._sources, strict=True)
        ]


# --- pairs --------------------------------------------------------------------------------------

PAIR_PATTERN = r" ?\p{Latin}+|\p{N}|\p{Han}|\s|[^\s\p{Latin}\p{N}\p{Han}]"
"""Cuts a text into English words, single digits and single Chinese characters."""

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_VALUE = re.compile(rf"{_MONTHS}|(?<!per )\b\d[\d.,]*\b")


def value_of(english: str) -> tuple[str, ...]:
    """Give what an English date, duration or quantity says, without how it is said.

    >>> value_of("Monday, January 1, 1900") == value_of("Jan 1, 1900")
    True
    >>> value_of("37.5 liters per 100 kilometers")
    ('37.5',)
    """
    return tuple(_VALUE.findall(english))


def split_by_value(
    pairs: Iterable[tuple[str, str]], share: float = 0.1, seed: int = 0
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Hold a share of the values out, each in all the ways in which it is written.

    So whoever is tested on "37.5 meters" has never seen 37.5 of anything.

    Returns:
        The pairs to train on, and those to test on.

    >>> pairs = [("1 day", "1天"), ("1 hour", "1小时"), ("2 days", "2天")]
    >>> split_by_value(pairs, share=0.5)
    ([('1 day', '1天'), ('1 hour', '1小时')], [('2 days', '2天')])
    """
    train: list[tuple[str, str]] = []
    test: list[tuple[str, str]] = []
    for pair in pairs:
        is_held_out = random.Random(f"{seed} {value_of(pair[0])}").random() < share
        (test if is_held_out else train).append(pair)
    return train, test


def translate(
    model: EncoderDecoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_new_tokens: int = 60,
    batch_size: int = 100,
) -> list[str]:
    """Translate texts greedily, many at once.

    Args:
        model: A trained model.
        tokenizer: Its tokenizer; `END_OF_TEXT` begins and ends a target.
        texts: What to translate.
        max_new_tokens: Where a translation ends at the latest.
        batch_size: How many are translated side by side.

    Raises:
        TypeError: If the texts are one text.
        ValueError: If a text is empty.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, not {texts!r}; put it into a list")
    end = tokenizer.special_tokens[END_OF_TEXT]
    rows = [tokenizer.encode_ordinary(text) for text in texts]
    if empty := [number for number, row in enumerate(rows) if not row]:
        raise ValueError(f"text {empty[0]} is empty; leave it out, there is nothing to translate")
    written: list[list[int]] = []
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        reading = model.reading(fill_up(some))
        prompts = [[end]] * len(some)
        written += generate(reading, prompts, max_new_tokens=max_new_tokens, stop=[end])
    return [tokenizer.decode([i for i in row if i != end]) for row in written]


def fill_up(rows: Sequence[Sequence[int]]) -> Int[Tensor, "B L"]:
    """Lay texts of different lengths side by side, filled up with `PADDING`.

    >>> fill_up([[1, 2], [3]]).tolist()
    [[1, 2], [3, -1]]
    """
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PADDING] * (longest - len(row))] for row in rows])


# --- training -----------------------------------------------------------------------------------


def smoothed_cross_entropy(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Return the cross-entropy with targets that are not quite sure.

    A share of `smoothing` of each target goes to all tokens alike. That keeps the model from making
    the logit of the target ever larger: the loss is least where the odds against any other token
    are finite.

    Args:
        logits: Scores of every token.
        targets: The right ones, or `IGNORED`.
        smoothing: The share.

    Returns:
        The mean over the positions that are scored, in nats.

    Raises:
        TypeError: If `smoothing` is not a number.
        ValueError: If `smoothing` is no share, or no position is scored.

    References:
        Szegedy et al. (2016), section 7; Vaswani et al. (2017), section 5.4.

    >>> logits = torch.zeros(1, 1, 4)
    >>> loss = smoothed_cross_entropy(logits, torch.tensor([[2]]), 0.1)
    >>> math.isclose(loss.item(), math.log(4), rel_tol=1e-6)
    True
    """
    _check_share("smoothing", smoothing)
    scored = targets != IGNORED
    log_probs = logits[scored].log_softmax(dim=-1)  # (N, V)
    if not len(log_probs):
        raise ValueError(
            f"no position of targets of shape {tuple(targets.shape)} is scored: all are {IGNORED}; "
            "give at least one the token that comes next"
        )
    right = log_probs.gather(1, targets[scored][:, None])[:, 0]
    return -((1 - smoothing) * right + smoothing * log_probs.mean(dim=1)).mean()


@dataclass(frozen=True, kw_only=True)
class PaperTrainingConfig(TrainingConfig):
    """The recipe of 2017: a rise in a straight line, then a fall with the root of the step.

    Raises:
        TypeError: If `d_model` is not a whole number; else as `TrainingConfig`.
        ValueError: If `d_model` is less than 1; else as `TrainingConfig`.

    References:
        Vaswani et al. (2017), section 5.3, equation 3.

    >>> config = PaperTrainingConfig(num_steps=400, warmup_steps=100, d_model=64)
    >>> config.learning_rate_at(99), config.learning_rate_at(399)
    (0.0125, 0.00625)
    """

    d_model: int = 512
    """Width of the model; the rate falls with its root."""
    learning_rate: float = 1.0
    """By how much to multiply the paper's rate."""
    warmup_steps: int = 4_000
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("d_model", self.d_model)

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step; the first is step 0."""
        number = step + 1
        slope = min(number**-0.5, number * max(1, self.warmup_steps) ** -1.5)
        return self.learning_rate * self.d_model**-0.5 * slope


def pair_batch(pairs: Sequence[tuple[list[int], list[int]]], end: int) -> Batch:
    """Lay pairs of texts out as one batch for training.

    Args:
        pairs: Token ids of sources and targets.
        end: The token that begins a target and ends it.

    Returns:
        The sources above the targets, (B, 2, L), and what to predict, (B, L).

    >>> inputs, targets = pair_batch([([5, 6], [7])], end=0)
    >>> inputs.tolist(), targets.tolist()
    ([[[5, 6], [0, 7]]], [[7, 0]])
    """
    length = max(max(len(source), len(target) + 1) for source, target in pairs)

    def padded(token_ids: list[int], filler: int) -> list[int]:
        return token_ids + [filler] * (length - len(token_ids))

    inputs = [
        [padded(source, PADDING), padded([end, *target], PADDING)] for source, target in pairs
    ]
    targets = [padded([*target, end], IGNORED) for _, target in pairs]
    return torch.tensor(inputs), torch.tensor(targets)


def pair_batches(
    pairs: Sequence[tuple[list[int], list[int]]],
    batch_size: int,
    end: int,
    seed: int = 0,
    *,
    pool: int = 50,
) -> Iterator[Batch]:
    """Go through the pairs without end, each round in an order of its own.

    Pairs of about the same length share a batch, so that little of it is padding.

    Args:
        pairs: Token ids of sources and targets.
        batch_size: How many pairs make a batch; what is left of a round is left out.
        end: The token that begins a target and ends it.
        seed: Decides the order.
        pool: Among how many batches' worth of pairs those of like length are sought.

    Raises:
        ValueError: If there are fewer pairs than one batch takes.
    """
    if not 1 <= batch_size <= len(pairs):
        raise ValueError(
            f"batch_size={batch_size} is more than the {len(pairs)} pairs, or none; "
            "choose a batch that the pairs can fill"
        )
    order = random.Random(seed)
    while True:
        shuffled = order.sample(pairs, len(pairs) - len(pairs) % batch_size)
        for start in range(0, len(shuffled), pool * batch_size):
            some = sorted(shuffled[start : start + pool * batch_size], key=_length)
            starts = range(0, len(some), batch_size)
            for first in order.sample(starts, len(starts)):
                yield pair_batch(some[first : first + batch_size], end)


def _length(pair: tuple[list[int], list[int]]) -> int:
    """Say how long a pair is in a batch."""
    source, target = pair
    return max(len(source), len(target) + 1)


# --- what users give ----------------------------------------------------------------------------

_PAPER = {"d_model": 512, "num_heads": 8, "num_layers": 6, "d_ff": 2048}  # the base model's sizes


def _check_size(name: str, size: object) -> None:
    """Refuse what is no number of things."""
    advice = f"the paper took {_PAPER[name]}" if name in _PAPER else "pass tokenizer.vocab_size"
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{name} must be a whole number, not {size!r}; {advice}")
    if size < 1:
        raise ValueError(f"{name} must be at least 1, not {size}; {advice}")


def _check_share(name: str, share: object) -> None:
    """Refuse what is no share of a target."""
    if isinstance(share, bool) or not isinstance(share, Real):
        raise TypeError(f"{name} is a share such as 0.1, not {share!r}; 0.0 turns it off")
    if not 0 <= float(share) < 1:
        raise ValueError(f"{name} is a share from 0 to below 1, not {share}; 0.1 is usual")
