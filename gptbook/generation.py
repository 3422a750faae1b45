"""Generation: from a model's logits to text, one token after another.

Chapter 12 begins with the most probable token, and goes on to sampling and its cuts, to beams, and
to a small model that writes ahead of a large one. All a model must do is turn token ids, "B T",
into logits, "B T V". One that also has `new_caches` (as `gptbook.model.GPT` has) reads every token
once; one that names its `context_length` is never given more than that to read.

Rows of a batch need not be equally long, and nothing is padded. All rows stand at the same
position; a row whose prompt reaches further is given the next token of its prompt, and the others
choose. So each row gets what it would get alone.

Shapes: B rows of a batch, T tokens so far, V vocab_size.

References:
    Fan, Lewis and Dauphin (2018), "Hierarchical Neural Story Generation", section 5.4 (top-k).
    https://arxiv.org/abs/1805.04833
    Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration", section 3.1 (top-p).
    https://arxiv.org/abs/1904.09751
    Nguyen et al. (2025), "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM
    Outputs". https://arxiv.org/abs/2407.01082
    Keskar et al. (2019), "CTRL", section 4.1 (repetition penalty).
    https://arxiv.org/abs/1909.05858
    Paulus, Xiong and Socher (2018), "A Deep Reinforced Model for Abstractive Summarization",
    section 2.5 (no repeated trigram). https://arxiv.org/abs/1705.04304
    Leviathan, Kalman and Matias (2023), "Fast Inference from Transformers via Speculative
    Decoding", algorithm 1. https://arxiv.org/abs/2211.17192
"""

import codecs
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from numbers import Integral, Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gptbook.kernels import bare

# A model maps ids "B T" to logits "B T V"; if it has `new_caches`, it takes caches as well. A
# filter changes logits, "B V". A rule does so too, and sees the tokens so far, "B T".
Model = Callable[..., Tensor]
Filter = Callable[[Tensor], Tensor]
Rule = Callable[[Tensor, Tensor], Tensor]

_EXACT = (torch.float32, torch.float64)  # logits of any other dtype become float32
_DROP_BELOW = 0.75  # of a batch still running, from where on the finished rows are dropped


def temperature(logits: Float[Tensor, "*B V"], value: float) -> Float[Tensor, "*B V"]:
    """Divide the logits: below 1 makes the likely likelier, above 1 evens the chances out.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If it is not above zero.

    >>> temperature(torch.tensor([1.0, 2.0]), 0.5)
    tensor([2., 4.])
    """
    _check_number("temperature", value)
    if not 0 < value < math.inf:
        advice = "for the most probable token each time, choose sampling=None" if value == 0 else ""
        raise ValueError(
            f"temperature must be above 0 and finite, not {value}; {advice or 'try 0.7'}"
        )
    return logits / value


def top_k(logits: Float[Tensor, "*B V"], k: int) -> Float[Tensor, "*B V"]:
    """Rule out all but the `k` most probable tokens, and those as probable as the last of them.

    Raises:
        TypeError: If `k` is not a whole number.
        ValueError: If it is less than 1.

    References:
        Fan, Lewis and Dauphin (2018), section 5.4.

    >>> top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
    tensor([-inf, 3., 2.])
    """
    _check_count("top_k", k)
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def top_p(logits: Float[Tensor, "*B V"], p: float) -> Float[Tensor, "*B V"]:
    """Keep the fewest tokens that together have probability `p`, the most probable first.

    At least one token stays. Which of several equally probable ones stay is not said.

    Raises:
        TypeError: If `p` is not a number.
        ValueError: If it is not above 0 and at most 1.

    References:
        Holtzman et al. (2020), section 3.1.

    >>> top_p(torch.tensor([0.5, 0.3, 0.2]).log(), 0.6).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    _check_number("top_p", p)
    if not 0 < p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {p}; 1 keeps every token")
    ascending, order = logits.sort(dim=-1, stable=True)
    surplus = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    surplus[..., -1] = False
    return logits.masked_fill(surplus.scatter(-1, order, surplus), -math.inf)


def min_p(logits: Float[Tensor, "*B V"], p: float) -> Float[Tensor, "*B V"]:
    """Rule out tokens less than `p` times as probable as the most probable one.

    Raises:
        TypeError: If `p` is not a number.
        ValueError: If it is not from 0 to 1.

    References:
        Nguyen et al. (2025), section 3.

    >>> min_p(torch.tensor([0.5, 0.3, 0.2]).log(), 0.5).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    _check_number("min_p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must be from 0 to 1, not {p}; 0 keeps every token")
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -math.inf)


def repetition_penalty(
    logits: Float[Tensor, "B V"], token_ids: Int[Tensor, "B T"], penalty: float
) -> Float[Tensor, "B V"]:
    """Make tokens that stand in the text already, prompt included, less probable.

    A positive logit is divided by the penalty and a negative one multiplied. So it is not the same
    after a constant is added to all logits, though the softmax is.

    Raises:
        TypeError: If `penalty` is not a number.
        ValueError: If it is not above zero.

    References:
        Keskar et al. (2019), section 4.1.

    >>> repetition_penalty(torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[0, 1, 1]]), 2.0)
    tensor([[ 0.5000, -2.0000,  1.0000]])
    """
    _check_number("repetition_penalty", penalty)
    if not 0 < penalty < math.inf:
        raise ValueError(
            f"repetition_penalty must be above 0, not {penalty}; 1.0 changes nothing, 1.2 is usual"
        )
    said = logits.gather(-1, token_ids)
    return logits.scatter(-1, token_ids, torch.where(said < 0, said * penalty, said / penalty))


def no_repeat_ngrams(
    logits: Float[Tensor, "B V"], token_ids: Int[Tensor, "B T"], size: int
) -> Float[Tensor, "B V"]:
    """Rule out each token that would complete, once more, `size` tokens that stood there before.

    Raises:
        TypeError: If `size` is not a whole number.
        ValueError: If it is less than 1.

    References:
        Paulus, Xiong and Socher (2018), section 2.5.

    >>> no_repeat_ngrams(torch.zeros(1, 3), torch.tensor([[0, 1, 2, 0]]), 2)
    tensor([[0., -inf, 0.]])
    """
    _check_count("the size of an n-gram", size)
    num_tokens = token_ids.shape[-1]
    if num_tokens < size:
        return logits
    ngrams = token_ids.unfold(-1, size, 1)  # (B, T - size + 1, size)
    last_tokens = token_ids[:, None, num_tokens - size + 1 :]  # (B, 1, size - 1)
    row, place = (ngrams[..., :-1] == last_tokens).all(dim=-1).nonzero(as_tuple=True)
    kept = logits.clone()
    kept[row, ngrams[row, place, -1]] = -math.inf
    return kept


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw the next token: temperature first, then the cuts.

    Without one of these, `generate` takes the most probable token, and there is no temperature
    that could have no effect.

    Raises:
        TypeError: If a field is not a number.
        ValueError: If it is out of its range.

    >>> Sampling(temperature=0.5, top_k=2)(torch.tensor([1.0, 3.0, 2.0]))
    tensor([-inf, 6., 4.])
    """

    temperature: float = 1.0
    """Divides the logits."""
    top_k: int | None = None
    """How many of the most probable tokens stay; all by default."""
    top_p: float | None = None
    """Which share of the probability stays; all by default."""
    min_p: float | None = None
    """How probable, for each unit of the most probable token, a token must be to stay."""

    def __post_init__(self) -> None:
        self(torch.zeros(1))

    def __call__(self, logits: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
        """Change the logits so that their softmax is what is drawn from."""
        logits = temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = top_p(logits, self.top_p)
        return logits if self.min_p is None else min_p(logits, self.min_p)


def generate(
    model: Model,
    prompts: Iterable[Iterable[int]],
    *,
    max_new_tokens: int,
    sampling: Filter | None = None,
    num_sequences: int = 1,
    stop: Iterable[int | Iterable[int]] = (),
    rules: Iterable[Rule] = (),
    seed: int = 0,
    window: Literal["slide"] | None = None,
) -> list[list[int]]:
    """Continue each prompt, token by token, and return the new tokens of every row.

    Args:
        model: Maps token ids to logits. In training mode it is set to evaluate meanwhile.
        prompts: One list of token ids for each text; their lengths may differ.
        max_new_tokens: Where a row ends at the latest; the prompt does not count.
        sampling: What to draw from, such as `Sampling(temperature=0.7)`. By default the most
            probable token is taken, of several the one with the lowest id.
        num_sequences: How many continuations each prompt gets. They stand side by side: those of
            the first prompt, then those of the second.
        stop: Token ids, or sequences of them, after which a row ends. They stay in the row. Those
            in a prompt end nothing.
        rules: Applied in turn to the logits, before the sampling, such as
            `functools.partial(no_repeat_ngrams, size=3)`.
        seed: Row r draws as a single row would with seed + r, one number a token.
        window: With "slide" the model reads the last `context_length` tokens once there are more.
            They are read afresh for every token, since what fell out changed all that came after.

    Raises:
        TypeError: If a prompt is not a list of whole numbers, or an option not of its type.
        ValueError: If a prompt is empty, holds an id that the model does not know, or does not
            fit with its new tokens into the model's context (and `window` is None); if the most
            probable continuation is asked for several times; or if nothing is left to choose.

    >>> def counts_to_four(token_ids):
    ...     return torch.nn.functional.one_hot((token_ids + 1) % 5, 5).float()
    >>> generate(counts_to_four, [[0], [2, 3]], max_new_tokens=4, stop=[4])
    [[1, 2, 3, 4], [4]]
    """
    rows = _Rows(
        model,
        _checked_prompts(prompts, model),
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        num_sequences=num_sequences,
        stop=stop,
        rules=rules,
        seed=seed,
        window=window,
    )
    with _evaluating(model), torch.inference_mode():
        while rows.running:
            rows.step()
    return rows.written


def stream(
    model: Model,
    prompt: Iterable[int],
    *,
    max_new_tokens: int,
    sampling: Filter | None = None,
    stop: Iterable[int | Iterable[int]] = (),
    rules: Iterable[Rule] = (),
    seed: int = 0,
    window: Literal["slide"] | None = None,
) -> Iterator[int]:
    """Continue one prompt and give each token as soon as it is chosen: the tokens of `generate`.

    Raises:
        TypeError: As `generate`.
        ValueError: As `generate`.

    >>> def counts_to_four(token_ids):
    ...     return torch.nn.functional.one_hot((token_ids + 1) % 5, 5).float()
    >>> for token_id in stream(counts_to_four, [0], max_new_tokens=3):
    ...     print(token_id)
    1
    2
    3
    """
    rows = _Rows(
        model,
        _checked_prompts([prompt], model),
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        num_sequences=1,
        stop=stop,
        rules=rules,
        seed=seed,
        window=window,
    )
    return _each_token(model, rows)


def stream_text(token_ids: Iterable[int], token_bytes: Callable[[int], bytes]) -> Iterator[str]:
    """Turn tokens into text as they come, and hold half a character back until it is whole.

    Args:
        token_ids: The tokens, such as those of `stream`.
        token_bytes: Gives the bytes of a token, such as a tokenizer's `token_bytes`.

    Yields:
        Pieces of text, none empty. What is no UTF-8 becomes the replacement character.

    >>> list(stream_text([0, 1, 2], [b"a", "é".encode()[:1], "é".encode()[1:]].__getitem__))
    ['a', 'é']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token_id in token_ids:
        if text := decoder.decode(token_bytes(token_id)):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


@dataclass(frozen=True)
class Beam:
    """One finished continuation."""

    token_ids: list[int]
    """The new tokens, with the one that stopped it."""
    log_probability: float
    """Of the new tokens together, in nats; with rules, the sum of what the rules made of it."""

    def score(self, length_penalty: float = 1.0) -> float:
        """Divide the log-probability by a power of the length: 0 leaves it, 1 is the mean."""
        return self.log_probability / len(self.token_ids) ** length_penalty


@torch.inference_mode()
def beam_search(
    model: Model,
    prompt: Iterable[int],
    *,
    max_new_tokens: int,
    num_beams: int,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    stop: Iterable[int] = (),
    rules: Iterable[Rule] = (),
) -> list[Beam]:
    """Carry the `num_beams` most probable beginnings along; return the best finished ones.

    The options are those of `transformers`, and mean the same.

    Args:
        model: As for `generate`.
        prompt: Token ids to continue.
        max_new_tokens: Where a beam ends at the latest.
        num_beams: How many beginnings are kept, and how many finished texts at most.
        length_penalty: The power of the length by which a finished beam's log-probability is
            divided; more of it favors long texts.
        early_stopping: True stops as soon as there are `num_beams` finished texts; False, when
            the best beginning, at its present length, no longer scores above the worst of them;
            "never", when it no longer could at its best length.
        stop: Token ids that finish a beam.
        rules: Applied to the log-probabilities, as for `generate`.

    Returns:
        The finished beams, the best score first.

    Raises:
        TypeError: As `generate`.
        ValueError: As `generate`, or if `early_stopping` is none of the three.

    >>> def counts_to_four(token_ids):
    ...     return 9.0 * torch.nn.functional.one_hot((token_ids + 1) % 5, 5)
    >>> beam_search(counts_to_four, [0], max_new_tokens=9, num_beams=2, stop=[4])[0].token_ids
    [1, 2, 3, 4]
    """
    _check_count("num_beams", num_beams)
    _check_number("length_penalty", length_penalty)
    if early_stopping not in (True, False, "never"):
        raise ValueError(f"early_stopping is True, False or 'never', not {early_stopping!r}")
    [token_ids] = _checked_prompts([prompt], model)
    _check_room([len(token_ids)], max_new_tokens, model)
    search = _BeamSearch(
        num_beams=num_beams, length_penalty=length_penalty, stops=set(_single_tokens(stop))
    )
    rules = list(rules)
    read = _Reader(model, 1, len(token_ids) + max_new_tokens - 1)
    so_far = torch.tensor([token_ids], device=_device_of(model))  # (beams, T)
    with _evaluating(model):
        for length in range(1, max_new_tokens + 1):
            log_probs = read(so_far)[:, -1].log_softmax(dim=-1)  # (beams, V)
            for rule in rules:
                log_probs = rule(log_probs, so_far)
            parents, ids = search.advance(log_probs, is_last=length == max_new_tokens)
            horizon = max_new_tokens if early_stopping == "never" and length_penalty > 0 else length
            if not ids or search.is_over(horizon, at_once=early_stopping is True):
                break
            rows = torch.tensor(parents, device=so_far.device)
            read.select_rows(rows)
            so_far = torch.cat([so_far[rows], so_far.new_tensor(ids)[:, None]], dim=1)
    if not search.finished:
        raise ValueError(_NOTHING_LEFT.format("every beam", length - 1))
    return search.finished


@dataclass(frozen=True)
class Speculation:
    """What came of speculative decoding, and what it took."""

    token_ids: list[int]
    """The new tokens."""
    num_proposed: int
    """How many tokens the draft proposed."""
    num_accepted: int
    """How many of them the large model took."""
    num_calls: int
    """How often the large model was run."""


@torch.inference_mode()
def speculate(
    model: Model,
    draft: Model,
    prompt: Iterable[int],
    *,
    max_new_tokens: int,
    num_draft: int = 4,
    sampling: Filter | None = None,
    stop: Iterable[int | Iterable[int]] = (),
    seed: int = 0,
) -> Speculation:
    """Let a small model write ahead, and a large one check several tokens in a single pass.

    The tokens are distributed exactly as if `model` alone had drawn them with this `sampling`, and
    without sampling they are the very same. `draft` decides only how many passes it takes.

    Args:
        model: The large model.
        draft: The small one, with the same vocabulary.
        prompt: Token ids to continue.
        max_new_tokens: Where the text ends at the latest.
        num_draft: How many tokens the draft proposes at a time.
        sampling: As for `generate`; applied to both models.
        stop: As for `generate`.
        seed: Where the random numbers start. The tokens are not those of `generate` with this
            seed, only of the same distribution.

    Raises:
        TypeError: As `generate`.
        ValueError: As `generate`, or if the vocabularies differ in size.

    References:
        Leviathan, Kalman and Matias (2023), algorithm 1.

    >>> def counts_to_four(token_ids):
    ...     return torch.nn.functional.one_hot((token_ids + 1) % 5, 5).float()
    >>> speculate(counts_to_four, counts_to_four, [0], max_new_tokens=4, num_draft=3)
    Speculation(token_ids=[1, 2, 3, 4], num_proposed=3, num_accepted=3, num_calls=1)
    """
    _check_count("num_draft", num_draft)
    _check_sampling(sampling)
    [token_ids] = _checked_prompts([prompt], model)
    for each in (model, draft):
        _check_room([len(token_ids)], max_new_tokens, each)
    stops, room = _checked_stops(stop), len(token_ids) + max_new_tokens - 1
    generator = torch.Generator().manual_seed(_integer("seed", seed))
    large, small = (_Distributions(each, room, sampling, generator) for each in (model, draft))
    new: list[int] = []
    num_proposed = num_accepted = num_calls = 0
    with _evaluating(model), _evaluating(draft):
        while len(new) < max_new_tokens and not _stops_at(new, stops):
            num_ahead = min(num_draft, max_new_tokens - len(new) - 1)
            guesses, guessed_from = small.propose(token_ids + new, num_ahead)
            accepted, correction = large.judge(token_ids + new, guesses, guessed_from)
            for reader in (large, small):
                reader.forget(len(token_ids + new) + accepted)
            new = _cut([*new, *guesses[:accepted], correction], len(new), stops)
            num_calls += 1
            num_proposed += num_ahead
            num_accepted += accepted
    return Speculation(new, num_proposed, num_accepted, num_calls)


class _Reader:
    """Shows a model the tokens that it has not read yet: all of them, if it cannot remember."""

    def __init__(self, model: Model, num_rows: int, num_tokens: int) -> None:
        self._model = bare(model) if isinstance(model, nn.Module) else model
        self._context_length = getattr(model, "context_length", num_tokens)
        self._last_only = hasattr(model, "hidden") and hasattr(model, "logits")
        self._caches: list[Any] | None = None
        if hasattr(model, "new_caches"):
            self._caches = model.new_caches(num_rows, min(num_tokens, self._context_length))

    def __call__(self, token_ids: Tensor, num_last: int = 1) -> Tensor:
        """Give the logits that follow each of the last `num_last` tokens, (B, num_last, V)."""
        if self._caches is None or token_ids.shape[1] > self._context_length:
            logits = self._logits(num_last, token_ids[:, -self._context_length :])
        else:
            num_read = len(self._caches[0])
            unread = token_ids.narrow(1, num_read, token_ids.shape[1] - num_read)
            logits = self._logits(num_last, unread, self._caches)
        return logits if logits.dtype in _EXACT else logits.float()

    def select_rows(self, rows: Tensor) -> None:
        """Go on with these rows of the batch."""
        for cache in self._caches or ():
            cache.select_rows(rows)

    def forget(self, length: int) -> None:
        """Go back to the first `length` tokens."""
        for cache in self._caches or ():
            cache.truncate(min(length, len(cache)))

    def _logits(self, num_last: int, token_ids: Tensor, *caches: Any) -> Tensor:
        """Run the model; spare it the logits of a long prompt, if it can be asked for the last."""
        if self._last_only and token_ids.shape[1] > num_last:
            model: Any = self._model
            return model.logits(model.hidden(token_ids, *caches)[:, -num_last:])
        logits = self._model(token_ids, *caches)
        return logits if logits.shape[1] == num_last else logits[:, -num_last:]


class _Rows:
    """Rows of tokens that grow side by side; all stand at the same position."""

    def __init__(
        self,
        model: Model,
        prompts: list[list[int]],
        *,
        max_new_tokens: int,
        sampling: Filter | None,
        num_sequences: int,
        stop: Iterable[int | Iterable[int]],
        rules: Iterable[Rule],
        seed: int,
        window: str | None,
    ) -> None:
        _check_count("num_sequences", num_sequences)
        _check_sampling(sampling)
        if sampling is None and num_sequences > 1:
            raise ValueError(
                f"num_sequences={num_sequences} of the most probable continuation would all be the "
                "same; pass sampling=Sampling() to draw different ones"
            )
        lengths = [len(prompt) for prompt in prompts]
        _check_room(lengths, max_new_tokens, model, window)
        self._stops, self._rules, self._sampling = _checked_stops(stop), list(rules), sampling
        self._max_new_tokens = max_new_tokens
        self._lengths = [length for length in lengths for _ in range(num_sequences)]
        self._position, self._longest = min(lengths), max(lengths)
        self.written: list[list[int]] = [[] for _ in self._lengths]
        device = _device_of(model)
        self._tokens = torch.zeros(
            len(prompts), self._longest + max_new_tokens, dtype=torch.long, device=device
        )  # a row for each prompt first, then for each sequence, then for those still running
        for row, prompt in enumerate(prompts):
            self._tokens[row, : len(prompt)] = torch.tensor(prompt)
        self._copies = torch.arange(len(prompts), device=device).repeat_interleave(num_sequences)
        self._rows = list(range(len(self._lengths)))  # which row stands where in the batch
        self.running = self._rows  # places in the batch that still grow
        self._starts = torch.tensor(self._lengths, device=device)
        num_draws = 0 if sampling is None else max_new_tokens
        self._chances = _chances(_integer("seed", seed), len(self._rows), num_draws, device)
        with torch.inference_mode():
            self._read = _Reader(model, len(prompts), self._tokens.shape[1] - 1)

    def step(self) -> None:
        """Write one more token into every row."""
        so_far = self._tokens.narrow(1, 0, self._position)
        logits = self._read(so_far).select(1, -1)  # (B, V)
        if len(self._starts) > len(self._tokens):  # each prompt was read once, for all its rows
            logits = logits[self._copies]
            self._keep(self._copies)
            so_far = self._tokens.narrow(1, 0, self._position)
        for rule in self._rules:
            logits = rule(logits, so_far)
        ids = self._choose(logits)  # (B,), -1 where there was nothing to choose
        if self._position < self._longest:
            ids = ids.where(self._starts <= self._position, self._tokens[:, self._position])
        chosen = ids.tolist()
        if min(chosen) < 0:  # rows at their end may have no choice
            ids = ids.clamp(min=0)
        self._tokens.select(1, self._position).copy_(ids)
        self._position += 1
        self._record(chosen)

    def _choose(self, logits: Tensor) -> Tensor:
        """Take the most probable token, or draw one."""
        if self._sampling is None:
            best, ids = logits.max(dim=-1)
            if all(logit > -math.inf for logit in best.tolist()):
                return ids
            return ids.where(best > -math.inf, -1)
        number = (self._position - self._starts).clamp(min=0)  # of the new token
        chances = self._chances.gather(1, number[:, None])[:, 0]
        return _draw(self._sampling(logits).softmax(dim=-1), chances)

    def _record(self, ids: list[int]) -> None:
        """Note what was written, and leave the rows that are at their end."""
        running = []
        for place in self.running:
            row = self._rows[place]
            if self._position > self._lengths[row]:
                new = self.written[row]
                if ids[place] < 0:
                    raise ValueError(_NOTHING_LEFT.format(f"row {row}", len(new)))
                new.append(ids[place])
                if len(new) == self._max_new_tokens or _stops_at(new, self._stops):
                    continue
            running.append(place)
        self.running = running
        if running and len(running) <= _DROP_BELOW * len(ids):
            self._drop_finished()

    def _drop_finished(self) -> None:
        """Go on with the running rows alone."""
        places = torch.tensor(self.running, device=self._tokens.device)
        self._keep(places)
        self._starts, self._chances = self._starts[places], self._chances[places]
        self._rows = [self._rows[place] for place in self.running]
        self.running = list(range(len(self.running)))

    def _keep(self, places: Tensor) -> None:
        """Take the tokens, and what was read of them, from these places."""
        self._tokens = self._tokens[places]
        self._read.select_rows(places)


class _BeamSearch:
    """The scores of the beams that are open, and the beams that are finished."""

    def __init__(self, *, num_beams: int, length_penalty: float, stops: set[int]) -> None:
        self._num_beams, self._length_penalty, self._stops = num_beams, length_penalty, stops
        self._written: list[list[int]] = [[]]
        self._open = [0.0]  # log-probabilities, the best first
        self.finished: list[Beam] = []  # the best first

    def advance(self, log_probs: Tensor, *, is_last: bool) -> tuple[list[int], list[int]]:
        """Extend the beams; return, for each one still open, which it continues and by what."""
        totals = log_probs + log_probs.new_tensor(self._open)[:, None]  # (beams, V)
        num_candidates = self._num_beams * max(2, 1 + len(self._stops))
        best = totals.flatten().topk(min(num_candidates, totals.numel()))
        parents: list[int] = []
        ids: list[int] = []
        scores: list[float] = []
        written: list[list[int]] = []
        for rank, (score, place) in enumerate(zip(*map(Tensor.tolist, best), strict=True)):
            parent, token_id = divmod(place, log_probs.shape[1])
            if not score > -math.inf:
                break
            token_ids = [*self._written[parent], token_id]
            if is_last or token_id in self._stops:
                if rank < self._num_beams:
                    self.finished.append(Beam(token_ids, score))
            elif len(ids) < self._num_beams:
                parents.append(parent)
                ids.append(token_id)
                scores.append(score)
                written.append(token_ids)
        self._open, self._written = scores, written
        self.finished.sort(key=self._score, reverse=True)
        del self.finished[self._num_beams :]
        return parents, ids

    def is_over(self, length: int, *, at_once: bool) -> bool:
        """Say whether no open beam, were it `length` long, would beat a finished one."""
        if len(self.finished) < self._num_beams:
            return False
        within_reach = self._open[0] / length**self._length_penalty
        return at_once or within_reach <= self._score(self.finished[-1])

    def _score(self, beam: Beam) -> float:
        return beam.score(self._length_penalty)


class _Distributions:
    """What a model would draw the next token from, after what it has read."""

    def __init__(
        self, model: Model, room: int, sampling: Filter | None, generator: torch.Generator
    ) -> None:
        self._read = _Reader(model, 1, room)
        self._device, self._sampling, self._generator = _device_of(model), sampling, generator
        self.forget = self._read.forget

    def propose(self, token_ids: list[int], num_ahead: int) -> tuple[list[int], list[Tensor]]:
        """Write ahead: the tokens, and what each was drawn from, (V,)."""
        guesses: list[int] = []
        drawn_from: list[Tensor] = []
        for _ in range(num_ahead):
            drawn_from += self._after(token_ids + guesses, 1)
            guesses.append(self._draw(drawn_from[-1], len(guesses)))
        return guesses, drawn_from

    def judge(
        self, token_ids: list[int], guesses: list[int], guessed_from: list[Tensor]
    ) -> tuple[int, int]:
        """Say how many guesses are taken, and draw the token that follows them."""
        wanted = self._after(token_ids + guesses, len(guesses) + 1)  # (T + 1, V)
        for place, (guess, theirs) in enumerate(zip(guesses, guessed_from, strict=True)):
            ours = wanted[place]
            if theirs.shape != ours.shape:
                raise ValueError(
                    f"the draft knows {len(theirs)} tokens and the model {len(ours)}; "
                    "choose two models with the same tokenizer"
                )
            if self._chance() * theirs[guess].item() >= ours[guess].item():
                missed = (ours - theirs.to(ours)).clamp(min=0)
                return place, self._draw(missed if missed.any() else ours, place)
        return len(guesses), self._draw(wanted[-1], len(guesses))

    def _after(self, token_ids: list[int], num_last: int) -> Tensor:
        """Give the distributions after each of the last tokens, (num_last, V)."""
        logits = self._read(torch.tensor([token_ids], device=self._device), num_last)[0]
        if self._sampling is not None:
            return self._sampling(logits).softmax(dim=-1)
        best, ids = logits.max(dim=-1, keepdim=True)
        return (best > -math.inf) * F.one_hot(ids[:, 0], logits.shape[-1]).to(logits)

    def _chance(self) -> float:
        return torch.rand((), generator=self._generator).item()

    def _draw(self, weights: Tensor, num_before: int) -> int:
        token_id = int(_draw(weights[None], weights.new_tensor([self._chance()])).item())
        if token_id < 0:
            raise ValueError(_NOTHING_LEFT.format("the text", num_before))
        return token_id


_NOTHING_LEFT = (
    "nothing is left to choose for {} after {} new tokens: every logit is -inf, or one is nan; "
    "loosen the rules, or look for nan in the model"
)


def _each_token(model: Model, rows: _Rows) -> Iterator[int]:
    """Write one row and give its tokens one by one."""
    while rows.running:
        with _evaluating(model), torch.inference_mode():
            rows.step()
        yield rows.written[0][-1]


def _draw(weights: Float[Tensor, "B V"], chances: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Draw one token a row, by one number from [0, 1) each; -1 where all weights are 0 or nan.

    The weights laid end to end make a line; the token is the one in whose stretch the number falls.
    """
    line = weights.cumsum(dim=-1)
    total = line[:, -1:]
    ids = torch.searchsorted(line, chances[:, None].to(line) * total, right=True)
    return ids.where(total > 0, -1)[:, 0]


def _chances(seed: int, num_rows: int, num_draws: int, device: torch.device) -> Tensor:
    """Draw each row's random numbers from its own stream, so that no row depends on another."""
    streams = (torch.Generator().manual_seed(seed + row) for row in range(num_rows))
    return torch.stack([torch.rand(num_draws, generator=stream) for stream in streams]).to(device)


def _stops_at(new: list[int], stops: dict[int, list[list[int]]]) -> bool:
    """Say whether the last of the new tokens complete something to stop at."""
    return bool(new) and any(new[-len(each) :] == each for each in stops.get(new[-1], ()))


def _cut(new: list[int], start: int, stops: dict[int, list[list[int]]]) -> list[int]:
    """Leave out what follows the first stop after `start` tokens."""
    ends = (end for end in range(start + 1, len(new)) if _stops_at(new[:end], stops))
    return new[: next(ends, len(new))]


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Turn dropout off, and afterwards on again where it was."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _device_of(model: Model) -> torch.device:
    """Find out where a model's numbers are."""
    if not isinstance(model, nn.Module):
        return torch.device("cpu")
    numbers = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if numbers is None else numbers.device


def _check_room(
    lengths: list[int], max_new_tokens: int, model: Model, window: str | None = None
) -> None:
    """Refuse what does not fit into the model's context, unless it may slide."""
    _check_count("max_new_tokens", max_new_tokens)
    if window not in (None, "slide"):
        raise ValueError(f"window is None or 'slide', not {window!r}")
    context_length = getattr(model, "context_length", None)
    longest = max(lengths)
    if context_length is None or window or longest + max_new_tokens - 1 <= context_length:
        return
    room = context_length - longest + 1
    advice = f"ask for at most {room} new ones" if room > 0 else "cut the prompt yourself"
    raise ValueError(
        f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit in "
        f"context_length={context_length}; {advice}, or let the oldest tokens fall out of sight "
        'with generate(..., window="slide")'
    )


def _checked_prompts(prompts: Any, model: Model) -> list[list[int]]:
    """Refuse prompts that are no lists of token ids, or empty, or not of this vocabulary."""
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Iterable):
        raise TypeError(f"prompts are lists of token ids, not {prompts!r}; encode the text first")
    checked = [_token_ids(f"prompt {number}", prompt) for number, prompt in enumerate(prompts)]
    if not checked:
        raise ValueError("no prompt came; pass at least one, such as [[end_of_text]]")
    vocab_size = getattr(model, "vocab_size", math.inf)
    for number, prompt in enumerate(checked):
        if not prompt:
            raise ValueError(
                f"prompt {number} is empty, and a model needs a token to start from; "
                "begin with the end-of-text token"
            )
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            worst = min(prompt) if min(prompt) < 0 else max(prompt)
            raise ValueError(
                f"prompt {number} holds the id {worst}, but the model knows 0 to "
                f"{vocab_size - 1}; use the tokenizer it was trained with"
            )
    return checked


def _token_ids(what: str, values: Any) -> list[int]:
    """Accept a list, tensor or array of whole numbers."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(
            f"{what} must be a list of token ids, not {values!r}; encode text first, and pass "
            "several prompts as a list of lists"
        )
    values = values.tolist() if isinstance(values, Tensor) else values
    return [_integer(f"a token id in {what}", value) for value in values]


def _checked_stops(stop: Any) -> dict[int, list[list[int]]]:
    """Sort what to stop at, tokens and sequences of them, by its last token."""
    if isinstance(stop, str | bytes) or not isinstance(stop, Iterable):
        raise TypeError(f"stop takes several token ids, such as [{stop!r}], not {stop!r} itself")
    stops: dict[int, list[list[int]]] = {}
    for each in stop:
        sequence = _token_ids("stop", [each] if isinstance(each, Integral) else each)
        if not sequence:
            raise ValueError("a stop sequence is empty; every text would end before it begins")
        stops.setdefault(sequence[-1], []).append(sequence)
    return stops


def _single_tokens(stop: Any) -> list[int]:
    """Refuse to stop beams at anything but single tokens."""
    sequences = [sequence for ending in _checked_stops(stop).values() for sequence in ending]
    if longer := [sequence for sequence in sequences if len(sequence) > 1]:
        raise ValueError(f"beams stop at single tokens only, not at {longer[0]}; use generate")
    return [token_id for [token_id] in sequences]


def _check_sampling(sampling: Any) -> None:
    """Refuse what changes no logits."""
    if sampling is not None and not callable(sampling):
        raise TypeError(
            f"sampling must be None, for the most probable token, or such as "
            f"Sampling(temperature=0.7), not {sampling!r}"
        )


def _integer(what: str, value: Any) -> int:
    """Accept Python's, NumPy's and PyTorch's integers, but no truth values."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    return operator.index(value)


def _check_count(name: str, count: Any) -> None:
    """Refuse what is no number of things."""
    if _integer(name, count) < 1:
        raise ValueError(f"{name} must be at least 1, not {count}")


def _check_number(name: str, value: Any) -> None:
    """Refuse truth values, text and the like."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
