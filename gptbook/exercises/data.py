"""Exercises of chapter 8: sides, contamination, masks, bands, and the floor of a small language."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gptbook.exercises import Exercise, compare

Tree = dict[str, tuple[float, Any]]


def side(group: str, validation_share: float) -> str:
    """Say by hash on which side of the split all documents of a group stand."""
    digest = hashlib.sha256(group.encode()).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if number < validation_share else "train"


def contaminated(train: list[str], tests: list[str], num_words: int) -> list[int]:
    """Find the tests that share a run of words with any training document."""
    seen = {run for text in train for run in _runs(text, num_words)}
    return [number for number, text in enumerate(tests) if seen & _runs(text, num_words)]


def document_mask(document_ids: Int[Tensor, " T"]) -> Bool[Tensor, "T T"]:
    """Say which positions of a packed window may see which."""
    position = torch.arange(len(document_ids))
    same = document_ids[:, None] == document_ids
    return same & (position <= position[:, None]) & (document_ids >= 0)


def rows_per_band(num_hashes: int, similarity: float, recall: float) -> int:
    """Choose the longest bands that still find a pair of some similarity often enough."""
    divisors = [rows for rows in range(1, num_hashes + 1) if num_hashes % rows == 0]
    found = [
        rows for rows in divisors if 1 - (1 - similarity**rows) ** (num_hashes // rows) >= recall
    ]
    return max(found, default=1)


def entropy(tree: Tree) -> float:
    """Compute the entropy of a language given as a tree of choices, in nats."""
    return math.fsum(
        probability * (entropy(after) - math.log(probability))
        for probability, after in tree.values()
        if probability > 0
    )


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    """Collect the runs of words."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def _judge_side(expected: str, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say what the number of the group is."""
    difference = compare(expected, got, arguments)
    if difference is None or got not in ("train", "validation"):
        return difference
    number = int.from_bytes(hashlib.sha256(arguments[0].encode()).digest()[:8], "big") / 2**64
    return f"{difference}: its number is {number:.4f}"


def _judge_contaminated(expected: list[int], got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize comparisons of whole words in the wrong way, and of short texts."""
    difference = compare(expected, got, arguments)
    if difference is None or not isinstance(got, list):
        return difference
    _, tests, num_words = arguments
    short = [n for n, text in enumerate(tests) if not _runs(text, num_words)]
    if any(number in got for number in short):
        return f"test {next(n for n in short if n in got)} has no run of {num_words} words at all"
    if any(isinstance(number, bool) for number in got):
        return "numbers of tests were expected, not truth values"
    if set(got) < set(expected):
        missed = min(set(expected) - set(got))
        return f"test {missed} was missed; do case, punctuation or underscores count in yours?"
    return difference


def _judge_mask(expected: Tensor, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize which of the three conditions is missing."""
    difference = compare(expected, got, arguments)
    if difference is None or not isinstance(got, Tensor) or got.dtype != torch.bool:
        return difference
    (ids,) = arguments
    position = torch.arange(len(ids))
    causal = position <= position[:, None]
    same = ids[:, None] == ids
    if torch.equal(got, same & (ids >= 0)):
        return "a position may not see later ones of its own document"
    if torch.equal(got, causal & (ids >= 0)[:, None] & (ids >= 0)):
        return "a position may not see other documents"
    if torch.equal(got, same & causal):
        return "padding (-1) is no document: it is neither seen nor sees"
    return difference


def _judge_rows(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize swapped letters and lengths that do not divide."""
    num_hashes, similarity, recall = arguments
    if isinstance(got, int) and not isinstance(got, bool) and got > 0:
        if num_hashes % got:
            return f"{got} came, but {num_hashes} hashes cannot be cut into bands of {got}"
        if got == num_hashes // expected != expected:
            return f"{got} came: that is the number of bands; how long is each?"
        chance = 1 - (1 - similarity**got) ** (num_hashes // got)
        if got > expected and chance < recall:
            return f"{got} came: such bands find the pair only {chance:.4f} of the time"
        if got < expected:
            return f"{got} came, but bands of {expected} still find the pair often enough"
    return compare(expected, got, arguments)


def _judge_entropy(expected: float, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize bits, and later choices that are not weighted."""
    difference = compare(expected, got, arguments)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    (tree,) = arguments
    if math.isclose(got, expected / math.log(2), rel_tol=1e-6):
        return f"{got:.4f} came: those are bits; nats were asked for"
    unweighted = sum(entropy(after) - p * math.log(p) for p, after in tree.values() if p > 0)
    if math.isclose(got, unweighted, rel_tol=1e-6):
        return f"{got:.4f} came: a choice that is reached rarely counts rarely"
    return difference


def _sides() -> Iterable[tuple[Any, ...]]:
    """Make groups, and shares just above and just below their numbers."""
    for number in range(12):
        yield f"author {number}", 0.5
    for group in ("", "作者", "a" * 100):
        for share in (0.05, 0.25, 0.75):
            yield group, share
    digest = hashlib.sha256(b"edge").digest()
    edge = int.from_bytes(digest[:8], "big") / 2**64
    yield "edge", edge  # a number that is the share itself is not below it
    yield "edge", math.nextafter(edge, 1.0)


def _exams() -> Iterable[tuple[Any, ...]]:
    """Make training documents and tests on them."""
    train = ["Mia lost her red ball in the park.", "Tom found it; Tom kept it."]
    yield train, ["Who lost her red ball?", "Where is the park?"], 4
    yield train, ["Mia lost her red ball", "lost her blue ball", "her red ball in"], 3
    yield train, ["MIA, LOST... HER", "Mia-lost-her"], 3
    yield train, ["ball", "park", "the"], 2  # too short for any run
    yield ["a ball_game in the park"], ["ball game in"], 3  # an underscore is no letter
    yield train, ["in the park Tom found it"], 4  # a run across two documents is none
    yield ["a cart is longer"], ["art is", "cart is", "is long"], 2
    yield [], ["anything at all"], 2
    yield train, [], 2
    yield ["one two three four"], ["two three", "three two", "one three", "four"], 2


def _masks() -> Iterable[tuple[Any, ...]]:
    """Make packed windows, one of which comes back to a document."""
    for ids in ([0, 0, 1, 1, 1], [7], [4, 4, 4], [2, 5, -1, -1], [0, 0, 3, 3, -1], [-1, -1]):
        yield (torch.tensor(ids),)


def _bands() -> Iterable[tuple[Any, ...]]:
    """Make sizes of signatures and what is asked of them."""
    return [
        (128, 0.8, 0.98),
        (128, 0.5, 0.9),
        (128, 0.9, 0.999),
        (12, 0.7, 0.6),
        (12, 0.9, 0.5),
        (100, 0.3, 0.5),
        (1, 0.5, 0.5),
        (2, 0.5, 0.25),  # exactly as often as is asked for
        (64, 0.95, 0.01),
        (6, 0.01, 0.99),  # no band is good enough; 1 is the best there is
    ]


def _languages() -> Iterable[tuple[Any, ...]]:
    """Make small languages."""
    coin: Tree = {"heads": (0.5, {}), "tails": (0.5, {})}
    yield (coin,)
    yield ({},)
    yield ({"sure": (1.0, {})},)
    yield ({"Mia": (0.9, {}), "Tom": (0.1, coin)},)
    yield ({"Mia": (0.25, coin), "Tom": (0.75, {"sleeps": (1.0, coin)})},)
    yield ({"never": (0.0, coin), "always": (1.0, {"a": (0.2, {}), "b": (0.8, {})})},)
    die: Tree = {str(number): (1 / 6, {}) for number in range(6)}
    yield ({"coin": (0.5, coin), "die": (0.5, {**die, "5": (1 / 6, die)})},)


EXERCISES = {
    "side": Exercise(side, _sides, _judge_side),
    "contaminated": Exercise(contaminated, _exams, _judge_contaminated),
    "document_mask": Exercise(document_mask, _masks, _judge_mask),
    "rows_per_band": Exercise(rows_per_band, _bands, _judge_rows),
    "entropy": Exercise(entropy, _languages, _judge_entropy),
}
