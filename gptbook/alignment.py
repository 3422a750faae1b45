"""Alignment: a GPT that can write learns which of two texts is liked better.

Chapter 16 begins with preferences: pairs of endings to one story, such as
`gptbook.littletown.preferences` draws. A `RewardModel` learns to score texts so that the preferred
one scores higher. Then a policy, which is a GPT that changes, is moved: by `Dpo`, on the pairs
themselves, or by `Grpo`, which lets it write and makes likelier what scored above the rest. A
reference, a GPT that does not change, holds the policy back.

What a policy wrote comes as token ids and targets, as `gptbook.finetuning.chat_batch` lays them: a
target is `IGNORED` wherever the policy did not write. Log-probabilities are in nats.

Shapes: B batch, T positions, N prompts or pairs, G endings of each prompt.

References:
    Bradley and Terry (1952), "Rank Analysis of Incomplete Block Designs: I. The Method of Paired
    Comparisons". https://doi.org/10.2307/2334029
    Ouyang et al. (2022), "Training language models to follow instructions with human feedback".
    https://arxiv.org/abs/2203.02155
    Rafailov et al. (2023), "Direct Preference Optimization: Your Language Model is Secretly a
    Reward Model". https://arxiv.org/abs/2305.18290
    Shao et al. (2024), "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language
    Models". https://arxiv.org/abs/2402.03300
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gptbook import generation
from gptbook.evaluation import IGNORED, cross_entropy_of
from gptbook.finetuning import ChatRow, chat_batch, encode_texts, last_hidden
from gptbook.littletown.preferences import Pair
from gptbook.model import GPT
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch

Reward = Callable[[Sequence[str]], Tensor]

# --- preferences --------------------------------------------------------------------------------


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Refuse pairs from which nothing can be learned.

    Raises:
        ValueError: If there is none, or the endings of one are equal.

    >>> check_pairs([Pair("Mia had a kite.", "She lost it.", "She lost it.")])
    Traceback (most recent call last):
    ...
    ValueError: pair 0 prefers 'She lost it.' to itself; leave out pairs of equal texts
    """
    if not pairs:
        raise ValueError("no pair came; pass at least one, such as draw_pairs makes")
    for number, (_, chosen, rejected) in enumerate(pairs):
        if chosen == rejected:
            raise ValueError(
                f"pair {number} prefers {chosen!r} to itself; leave out pairs of equal texts"
            )


# --- a judge that is learned --------------------------------------------------------------------


def bradley_terry_loss(
    chosen: Float[Tensor, " N"], rejected: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Say how surprising the preferences are to a judge, in nats a pair, given its scores.

    Raises:
        ValueError: If the scores are not one each a pair.

    References:
        Bradley and Terry (1952); Ouyang et al. (2022), equation 1.

    >>> bradley_terry_loss(torch.tensor([0.0]), torch.tensor([0.0]))  # ln 2: it tosses a coin
    tensor(0.6931)
    """
    _check_shapes(chosen=chosen, rejected=rejected)
    return -F.logsigmoid(chosen - rejected).mean()


class RewardModel(nn.Module):
    """A GPT that has read a text, and a head that says with one number how good it is.

    Args:
        model: What reads.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.d_model, 1, bias=False)
        nn.init.normal_(self.head.weight, std=1 / math.sqrt(model.config.d_model))

    def forward(self, token_ids: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
        """Score each text by the vector of its last token.

        Args:
            token_ids: The texts, with `PADDING` behind those that are shorter.

        Raises:
            TypeError: As `gptbook.finetuning.last_hidden`.
            ValueError: As `gptbook.finetuning.last_hidden`.
        """
        return self.head(last_hidden(self.model, token_ids)).squeeze(-1)

    def loss(self, chosen: Int[Tensor, "N T"], rejected: Int[Tensor, "N S"]) -> Float[Tensor, ""]:
        """Return the Bradley-Terry loss of texts of which the first were preferred."""
        return bradley_terry_loss(self(chosen), self(rejected))

    @torch.inference_mode()
    def score(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Float[Tensor, " B"]:
        """Score texts, without dropout."""
        was_training = self.training
        try:
            return self.eval()(encode_texts(tokenizer, texts))
        finally:
            self.train(was_training)


def reward_batch(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Batch:
    """Lay out pairs for a `RewardModel`: the whole texts that were preferred, and the others.

    Raises:
        ValueError: As `check_pairs`.
    """
    check_pairs(pairs)
    chosen = encode_texts(tokenizer, [pair.prompt + pair.chosen for pair in pairs])
    return chosen, encode_texts(tokenizer, [pair.prompt + pair.rejected for pair in pairs])


# --- a policy that is moved ---------------------------------------------------------------------


def written_batch(
    tokenizer: Tokenizer, prompts: Sequence[str], written: Sequence[Sequence[int]]
) -> Batch:
    """Lay out texts of which only what follows the prompts was written, as tokens."""
    given = _encode_prompts(tokenizer, prompts)
    return chat_batch([
        ChatRow([*old, *new], [False] * len(old) + [True] * len(new))
        for old, new in zip(given, written, strict=True)
    ])


def pair_batch(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Batch:
    """Lay out pairs for `Dpo`: above all the endings that were preferred, below all the others.

    Raises:
        ValueError: As `check_pairs`.
    """
    check_pairs(pairs)
    endings = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    end = tokenizer.special_tokens[END_OF_TEXT]
    written = [[*tokenizer.encode_ordinary(ending), end] for ending in endings]
    return written_batch(tokenizer, 2 * [pair.prompt for pair in pairs], written)


def log_probabilities(
    model: GPT,
    token_ids: Int[Tensor, "B T"],
    targets: Int[Tensor, "B T"],
    temperature: float = 1.0,
) -> Float[Tensor, "B T"]:
    """Say how likely each token was that was written, and 0 where none was.

    Raises:
        ValueError: If the temperature is not above zero, or see `cross_entropy_of`.
    """
    is_written = targets != IGNORED  # all else, often more than half, needs no logits
    logits = generation.temperature(model.logits(model.hidden(token_ids)[is_written]), temperature)
    each = -cross_entropy_of(logits, targets[is_written])
    return each.new_zeros(targets.shape).masked_scatter(is_written, each)


def dpo_loss(
    chosen: Float[Tensor, " N"],
    rejected: Float[Tensor, " N"],
    reference_chosen: Float[Tensor, " N"],
    reference_rejected: Float[Tensor, " N"],
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """Say how surprising preferences are to a policy read as a judge, in nats a pair.

    Its score of a text is how much likelier the text became, times `beta`.

    Args:
        chosen: Log-probability of each preferred ending under the policy.
        rejected: The same of the other ending.
        reference_chosen: That of the preferred ending under the reference.
        reference_rejected: That of the other.
        beta: How strongly the reference holds: the lower, the further the policy goes.

    Raises:
        ValueError: If `beta` is not above zero, or there is not one number of each a pair.

    References:
        Rafailov et al. (2023), equation 7.
    """
    _check_number("beta", beta)
    _check_shapes(chosen=chosen, reference_chosen=reference_chosen)
    _check_shapes(rejected=rejected, reference_rejected=reference_rejected)
    return bradley_terry_loss(
        beta * (chosen - reference_chosen), beta * (rejected - reference_rejected)
    )


class _Moved(nn.Module):
    """A policy, which changes, beside a reference, which does not."""

    def __init__(self, policy: GPT, reference: GPT, beta: float) -> None:
        super().__init__()
        if policy is reference:
            raise ValueError(
                "policy and reference are one model, and the reference must not move; pass "
                "copy.deepcopy(policy) as the reference"
            )
        self.policy, self.beta = policy, beta
        self._reference = (reference,)  # in a tuple, so that it is no part of what is trained


class Dpo(_Moved):
    """What `gptbook.training.train` trains to move a policy by pairs, as `pair_batch` lays them.

    Args:
        policy: What changes.
        reference: What it began as, another object; it is left as it is.
        beta: See `dpo_loss`.

    Raises:
        ValueError: If both are one model, or `beta` is not above zero.
    """

    def __init__(self, policy: GPT, reference: GPT, *, beta: float) -> None:
        _check_number("beta", beta)
        super().__init__(policy, reference, beta)

    def loss(self, token_ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Return the DPO loss of a batch whose upper half was preferred to its lower."""
        [reference] = self._reference
        with torch.no_grad():
            theirs = log_probabilities(reference, token_ids, targets).sum(dim=1)
        ours = log_probabilities(self.policy, token_ids, targets).sum(dim=1)
        return dpo_loss(*ours.chunk(2), *theirs.chunk(2), beta=self.beta)


def group_advantages(rewards: Float[Tensor, "N G"]) -> Float[Tensor, "N G"]:
    """Say how far each ending scored above the others of its prompt, in standard deviations.

    Raises:
        ValueError: If there are not at least two of each prompt, or a reward is not finite.

    References:
        Shao et al. (2024), section 4.1.2.

    >>> group_advantages(torch.tensor([[0.0, 0.0, 3.0], [7.0, 7.0, 7.0]])).round(decimals=2)
    tensor([[-0.5800, -0.5800,  1.1500],
            [ 0.0000,  0.0000,  0.0000]])
    """
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards of shape {tuple(rewards.shape)} came; give each prompt a row of at least 2, "
            "to compare an ending with"
        )
    if not rewards.isfinite().all():
        raise ValueError("a reward is not finite; score every text with a number")
    spread = rewards.std(dim=1, keepdim=True)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (spread + 1e-4)


def kl_estimate(
    log_probs: Float[Tensor, "B T"], reference: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Estimate, token by token, how far a policy is from its reference: never below zero.

    Its mean over what the policy writes is the Kullback-Leibler divergence.

    References:
        Shao et al. (2024), equation 4.
    """
    excess = reference - log_probs
    return excess.expm1() - excess


def grpo_loss(
    log_probs: Float[Tensor, "B T"],
    old: Float[Tensor, "B T"],
    reference: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"],
    is_written: Bool[Tensor, "B T"],
    *,
    beta: float,
    clip: float = 0.2,
) -> Float[Tensor, ""]:
    """Give what GRPO makes small: less for likelier good texts, and more for going astray.

    Args:
        log_probs: Of the tokens under the policy.
        old: The same when the texts were written, without a gradient.
        reference: The same under the reference.
        advantages: How good each text is beside others.
        is_written: Which tokens the policy wrote.
        beta: What each nat away from the reference costs; with 0 the policy is free.
        clip: How far the ratio of a token's probabilities may go from 1 and still earn more.

    Raises:
        ValueError: If `beta` is negative, `clip` not above zero, or a text has no written token.

    References:
        Schulman et al. (2017), "Proximal Policy Optimization Algorithms", equation 7 (the clip).
        https://arxiv.org/abs/1707.06347
        Shao et al. (2024), equation 3.
    """
    _check_number("beta", beta, zero_too=True)
    _check_number("clip", clip)
    if not is_written.any(dim=1).all():
        raise ValueError("a text has no token that the policy wrote; leave it out")
    ratio = (log_probs - old).exp()
    gain = advantages[:, None] * ratio
    clipped = advantages[:, None] * ratio.clamp(1 - clip, 1 + clip)
    cost = beta * kl_estimate(log_probs, reference) - torch.minimum(gain, clipped)
    return ((cost * is_written).sum(dim=1) / is_written.sum(dim=1)).mean()


def write_endings(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    num_each: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 80,
    seed: int = 0,
) -> list[list[int]]:
    """Let a model end stories, `num_each` times each; those of one prompt stand side by side.

    Returns:
        The tokens that were written, the end of text included where one was.

    Raises:
        ValueError: As `gptbook.generation.generate`, or if the temperature is not above zero.
    """
    return generation.generate(
        model,
        _encode_prompts(tokenizer, prompts),
        max_new_tokens=max_new_tokens,
        sampling=generation.Sampling(temperature=temperature),
        num_sequences=num_each,
        stop=[tokenizer.special_tokens[END_OF_TEXT]],
        seed=seed,
    )


def decode_endings(tokenizer: Tokenizer, written: Iterable[Sequence[int]]) -> list[str]:
    """Give as text what `write_endings` wrote, without the end of text."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    return [tokenizer.decode([token for token in row if token != end]) for row in written]


def _encode_prompts(tokenizer: Tokenizer, prompts: Iterable[str]) -> list[list[int]]:
    """Give the tokens that a policy is given."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    return [[end, *tokenizer.encode_ordinary(prompt)] for prompt in prompts]


class Round(NamedTuple):
    """What a policy wrote, and how it was liked, before it learned of that.

    Attributes:
        texts: The prompts with their endings.
        rewards: One a text, (N, G).
        log_probs: Of the tokens under the policy, (B, T).
        reference: The same under the reference, (B, T).
    """

    texts: list[str]
    rewards: Tensor
    log_probs: Tensor
    reference: Tensor

    @property
    def kl(self) -> float:
        """How many nats an ending the policy was away from its reference, by what it wrote."""
        return (self.log_probs - self.reference).sum(dim=1).mean().item()


class Grpo(_Moved):
    """What `gptbook.training.train` trains to move a policy by what it writes itself.

    Each batch is written when a step asks for it, and may serve several steps:

        moved = Grpo(policy, reference, tokenizer, reward, beta=0.05)
        for step in train(moved, map(moved.write, prompts), config):
            print(moved.last.rewards.mean(), moved.last.kl)

    Args:
        policy: What changes.
        reference: What it began as, another object; it is left as it is.
        tokenizer: Of both.
        reward: Scores whole texts.
        beta: See `grpo_loss`.
        num_each: How many endings each prompt gets.
        temperature: At which the policy writes, and at which its probabilities are taken.
        max_new_tokens: Where an ending is cut off at the latest.
        seed: Decides what is written.

    Raises:
        ValueError: If both are one model, or `beta` is negative.

    References:
        Shao et al. (2024), algorithm 1.
    """

    last: Round
    """What was written last."""

    def __init__(
        self,
        policy: GPT,
        reference: GPT,
        tokenizer: Tokenizer,
        reward: Reward,
        *,
        beta: float,
        num_each: int = 8,
        temperature: float = 1.0,
        max_new_tokens: int = 80,
        seed: int = 0,
    ) -> None:
        _check_number("beta", beta, zero_too=True)
        super().__init__(policy, reference, beta)
        self._tokenizer, self._reward, self._temperature = tokenizer, reward, temperature
        self._num_each, self._max_new_tokens, self._seed = num_each, max_new_tokens, seed

    def write(self, prompts: Sequence[str]) -> Batch:
        """Let the policy end stories, score them, and lay out what was written.

        Raises:
            ValueError: As `write_endings`, or if the reward does not give each text one number.
        """
        written = write_endings(
            self.policy,
            self._tokenizer,
            prompts,
            num_each=self._num_each,
            temperature=self._temperature,
            max_new_tokens=self._max_new_tokens,
            seed=self._seed,
        )
        self._seed += len(written)
        given = [prompt for prompt in prompts for _ in range(self._num_each)]
        texts = [*map(operator.add, given, decode_endings(self._tokenizer, written))]
        rewards = self._reward(texts)
        if rewards.shape != (len(texts),):
            raise ValueError(
                f"the reward gave scores of shape {tuple(rewards.shape)} for {len(texts)} texts; "
                "let it give each text one number"
            )
        batch = written_batch(self._tokenizer, given, written)
        with torch.no_grad():
            ours, theirs = (
                log_probabilities(model, *batch, self._temperature)
                for model in (self.policy, *self._reference)
            )
        self.last = Round(texts, rewards.view(-1, self._num_each), ours, theirs)
        self._targets = batch[1]
        return batch

    def loss(self, token_ids: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Return the GRPO loss of the batch that was written last.

        Raises:
            ValueError: If it is another batch, or as `group_advantages`.
        """
        _, rewards, old, theirs = self.last
        if not torch.equal(targets, self._targets):
            raise ValueError(
                "this batch is not the one that was written last; take all steps on a batch before "
                "the next one is written"
            )
        ours = log_probabilities(self.policy, token_ids, targets, self._temperature)
        advantages = group_advantages(rewards).flatten()
        return grpo_loss(ours, old, theirs, advantages, targets != IGNORED, beta=self.beta)


# --- what is refused ----------------------------------------------------------------------------


def _check_shapes(**rows: Tensor) -> None:
    """Refuse scores that are not one a pair, or none."""
    shapes = [tuple(row.shape) for row in rows.values()]
    if len({*shapes}) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        came = ", ".join(f"{name} of shape {x}" for name, x in zip(rows, shapes, strict=True))
        raise ValueError(f"{came} came; give each pair one number of both")


def _check_number(name: str, value: float, *, zero_too: bool = False) -> None:
    """Refuse what is not a finite number above zero."""
    is_number = isinstance(value, Real) and math.isfinite(value)
    if not is_number or value < 0 or (value == 0 and not zero_too):
        limit = "at least 0" if zero_too else "above 0"
        raise ValueError(f"{name} must be {limit} and finite, not {value}; 0.1 is usual")
