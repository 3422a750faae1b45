"""Robustness: how a model is made to err, and whether it knows.

Chapter 19 attacks what the chapters before have built. `fgm` and `pgd` move the vectors of a text a
little, uphill on the loss; `Hardened` learns from texts so moved; `attack_text` changes letters or
words. `reliability` asks whether 0.9 means nine of ten, `risk_coverage` what is gained by answering
only when sure, `exposure` what was learned by heart.

Shapes: B batch, T positions, D d_model, C classes, N cases.

References:
    Miyato et al. (2017), "Adversarial Training Methods for Semi-Supervised Text Classification".
    https://arxiv.org/abs/1605.07725
    Madry et al. (2018), "Towards Deep Learning Models Resistant to Adversarial Attacks".
    https://arxiv.org/abs/1706.06083
    Guo et al. (2017), "On Calibration of Modern Neural Networks". https://arxiv.org/abs/1706.04599
    Geifman and El-Yaniv (2017), "Selective Classification for Deep Neural Networks".
    https://arxiv.org/abs/1705.08500
    Carlini et al. (2019), "The Secret Sharer: Evaluating and Testing Unintended Memorization in
    Neural Networks". https://arxiv.org/abs/1802.08232
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gptbook.finetuning import PADDING, Classifier
from gptbook.model import GPT

Loss = Callable[[Tensor], Tensor]  # one number a text; no text may depend on another

NORMS = ("L2", "Linf")
"""What counts as the distance between texts, the length of the whole change or its largest part."""


def vectors_at(
    model: Classifier, token_ids: Int[Tensor, "B T"], layer: int = 0
) -> Float[Tensor, "B T D"]:
    """Give the vectors that a layer reads: 0 for those of the tokens, 1 for after one block.

    Raises:
        ValueError: If there is no such layer.
    """
    gpt = model.model
    _check_layer(gpt, layer)
    vectors = gpt._embed(token_ids.clamp(min=0))
    vectors = vectors if gpt.positions is None else gpt.positions(vectors, 0)
    for block in gpt.blocks[:layer]:
        vectors = block(vectors, None, 0)
    return vectors


def scores_from(
    model: Classifier, vectors: Float[Tensor, "B T D"], token_ids: Tensor, layer: int = 0
) -> Float[Tensor, "B C"]:
    """Score every class from the vectors that a layer reads; the tokens only say where texts end.

    Raises:
        ValueError: If there is no such layer.
    """
    _check_layer(model.model, layer)
    for block in model.model.blocks[layer:]:
        vectors = block(vectors, None, 0)
    last = (token_ids != PADDING).sum(dim=1) - 1
    return model.head(model.model.final_norm(vectors)[torch.arange(len(last)), last])


def project(x: Tensor, center: Tensor, radius: float, norm: str = "L2") -> Tensor:
    """Give the points nearest to x, one a text, within the radius of the center.

    Raises:
        ValueError: If the radius is not above 0, or the norm none of `NORMS`.

    >>> project(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), radius=1.0)
    tensor([[0.6000, 0.8000]])
    """
    _check_ball(radius, norm)
    change = x - center
    if norm == "Linf":
        return center + change.clamp(-radius, radius)
    return center + change * (radius / _lengths(change).clamp(min=radius))


def fgm(loss: Loss, x: Tensor, radius: float, norm: str = "L2") -> Tensor:
    """Move each text by the radius to where its loss rises fastest, seen from where it is.

    With "Linf" every number moves by the radius: the fast gradient *sign* method (Goodfellow et
    al. 2015, https://arxiv.org/abs/1412.6572). What has no gradient stays. Errors: as `pgd`.
    """
    return pgd(loss, x, radius, norm, num_steps=1, step=radius)


def pgd(
    loss: Loss,
    x: Tensor,
    radius: float,
    norm: str = "L2",
    *,
    num_steps: int = 5,
    step: float | None = None,
) -> Tensor:
    """Climb in several steps, each brought back within the radius: projected gradient ascent.

    Args:
        loss: Gives one number a text, from vectors like `x`.
        x: The vectors of the texts, text by text.
        radius: How far each text may be moved.
        norm: How that is measured, one of `NORMS`.
        num_steps: How many steps to take.
        step: How far one goes; by default all together could go two and a half times as far.

    Raises:
        ValueError: If the radius or the step is not above 0, the norm unknown, or no step allowed.
    """
    _check_ball(radius, norm)
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps} changes nothing; take at least 1")
    step = 2.5 * radius / num_steps if step is None else step
    if not 0 < step < math.inf:
        raise ValueError(f"step={step} leads nowhere; choose one above 0, or leave it out")
    center = moved = x.detach()
    for _ in range(num_steps):
        moved = moved.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(moved).sum(), moved)
        tiny = torch.finfo(slope.dtype).tiny
        way = slope.sign() if norm == "Linf" else slope / _lengths(slope).clamp(min=tiny)
        moved = project(moved.detach() + step * way, center, radius, norm)
    return moved


class Hardened(Classifier):
    """A classifier that learns from each text twice: as it is, and moved as `pgd` would move it.

    Raises:
        ValueError: As `Classifier`, or if the radius is not above 0, or the norm unknown.
    """

    def __init__(
        self, model: GPT, num_classes: int, *, radius: float, norm: str = "L2", num_steps: int = 1
    ) -> None:
        super().__init__(model, num_classes)
        _check_ball(radius, norm)
        self.radius, self.norm, self.num_steps = radius, norm, num_steps

    def loss(self, token_ids: Int[Tensor, "B T"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Average the surprise at the labels, in nats, over the texts as they are and as moved."""
        as_is = super().loss(token_ids, labels)
        vectors = vectors_at(self, token_ids)

        def surprise(x: Tensor) -> Tensor:
            return F.cross_entropy(scores_from(self, x, token_ids), labels, reduction="none")

        moved = pgd(surprise, vectors, self.radius, self.norm, num_steps=self.num_steps)
        return (as_is + surprise(vectors + (moved - vectors).detach()).mean()) / 2


def misspellings(word: str) -> list[str]:
    """List all words one slip away: two letters exchanged, one left out, or one doubled.

    The first and the last letter stay where they are, so that people can still read it (Pruthi et
    al. 2019, https://arxiv.org/abs/1905.11268).

    >>> misspellings("ugly")
    ['uggly', 'uglly', 'ugy', 'ulgy', 'uly']
    """
    inner = range(1, len(word) - 1)
    slips = {word[:i] + word[i + 1 :] for i in inner} | {word[: i + 1] + word[i:] for i in inner}
    slips |= {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in inner[:-1]}
    return sorted(slips - {word})


def attack_text(
    score: Callable[[Sequence[str]], Tensor],
    text: str,
    changes: Callable[[str], Sequence[str]],
    max_changes: int,
) -> list[str]:
    """Change a text step by step, each time to where its score is lowest, as long as it falls.

    Args:
        score: What the attacker wants low, one number a text. No gradient is needed.
        text: Where to begin.
        changes: Lists the texts one change away.
        max_changes: How many changes there may be.

    Returns:
        The text after no change, one, two and so on.

    Raises:
        ValueError: If no change is allowed.
    """
    if max_changes < 1:
        raise ValueError(f"max_changes={max_changes} leaves the text as it is; allow at least 1")
    path, lowest = [text], score([text]).item()
    while len(path) <= max_changes and (near := changes(path[-1])):
        scores = score(near)
        if scores.min().item() >= lowest:
            break
        lowest = scores.min().item()
        path.append(near[int(scores.argmin())])
    return path


class Bin(NamedTuple):
    """Answers of about the same confidence: how many, how sure on average, which share right."""

    num: int
    confidence: float
    accuracy: float


def reliability(
    confidences: Float[Tensor, " N"], is_right: Bool[Tensor, " N"], num_bins: int = 10
) -> list[Bin]:
    """Sort answers into equal ranges of confidence, from 0 to 1; empty ranges are left out.

    Raises:
        ValueError: As `risk_coverage`, or if a confidence is no probability, or there is no bin.
    """
    _check_answers(confidences, is_right)
    if num_bins < 1 or not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError("pass probabilities from 0 to 1, as a softmax gives, and at least one bin")
    places = (confidences.double() * num_bins).long().clamp(max=num_bins - 1)
    found = []
    for here in (places == place for place in range(num_bins)):
        if here.any():
            means = confidences[here].double().mean(), is_right[here].double().mean()
            found.append(Bin(int(here.sum()), means[0].item(), means[1].item()))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Give the expected calibration error: how far confidence and accuracy lie apart, on average.

    >>> round(calibration_error([Bin(3, 0.9, 0.6), Bin(1, 0.5, 0.5)]), 3)
    0.225
    """
    gaps = math.fsum(row.num * abs(row.confidence - row.accuracy) for row in bins)
    return gaps / sum(row.num for row in bins)


def fit_temperature(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float:
    """Find the temperature at which the labels are least surprising: where the slope is zero.

    Raises:
        ValueError: If there is none, since every label has the highest score, or scores mislead.
    """
    scores = logits.double()
    right = scores.gather(1, labels[:, None])[:, 0]

    def slope(log_inverse: float) -> float:
        expected = ((scores * math.exp(log_inverse)).softmax(dim=1) * scores).sum(dim=1)
        return (expected - right).mean().item()

    low, high = -10.0, 10.0  # between them the loss is convex in the inverse temperature
    if not slope(low) < 0 < slope(high):
        raise ValueError(
            "no temperature is best: either every label has the highest score, or scores say "
            "nothing of labels; pass more cases, which were not learned"
        )
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-low)


def risk_coverage(
    confidences: Float[Tensor, " N"], is_right: Bool[Tensor, " N"]
) -> tuple[Tensor, Tensor]:
    """Answer only from some confidence on: the share answered, and the share of those wrong.

    There is one pair for each threshold, from the highest; equal confidences are answered together.

    Raises:
        ValueError: If there is no answer, or not one confidence each.
    """
    _check_answers(confidences, is_right)
    ordered, order = confidences.sort(descending=True)
    count = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    wrong = (~is_right[order]).double().cumsum(dim=0)
    is_last = torch.cat([ordered[1:] != ordered[:-1], torch.tensor([True])])
    return (count / len(count))[is_last], (wrong / count)[is_last]


def exposure(secret: float, candidates: Float[Tensor, " N"]) -> float:
    """Say how often a model halves the search for a secret, from the scores of all candidates.

    Raises:
        ValueError: If there is no candidate.

    >>> exposure(-1.0, torch.tensor([-1.0, -2.0, -3.0, -9.0]))
    2.0
    """
    if not len(candidates):
        raise ValueError("no candidates came; score all that the secret could be, itself included")
    return math.log2(len(candidates)) - math.log2(1 + int((candidates > secret).sum()))


def _lengths(x: Tensor) -> Tensor:
    """Measure each text's part, with as many axes as the text has."""
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))


def _check_layer(gpt: GPT, layer: int) -> None:
    """Refuse a layer that does not exist."""
    if not 0 <= layer <= len(gpt.blocks):
        raise ValueError(
            f"layer {layer} does not exist; choose from 0, the vectors of the tokens, to "
            f"{len(gpt.blocks)}, what the last block gives"
        )


def _check_ball(radius: float, norm: str) -> None:
    """Refuse a ball without room, and an unknown way to measure."""
    if not 0 < radius < math.inf:
        raise ValueError(f"radius={radius} leaves no room to move; choose a number above 0")
    if norm not in NORMS:
        raise ValueError(f"no norm is called {norm!r}; choose one of {', '.join(NORMS)}")


def _check_answers(confidences: Tensor, is_right: Tensor) -> None:
    """Refuse no answers, and confidences that are not one each."""
    if confidences.shape != is_right.shape or not len(confidences):
        raise ValueError(
            f"{len(confidences)} confidences for {len(is_right)} answers; give one each, at least 1"
        )
