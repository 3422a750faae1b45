"""Reviews from Littletown: short opinions whose writer was content or not, which is not said.

Every phrase is likelier under one of the two labels, none gives the label away for sure. Because
the program is known, so is the chance that the writer was content, given the text; and so is the
share of reviews that the best of all classifiers gets right.
"""

import math
import re
from bisect import bisect
from collections.abc import Callable
from functools import cache
from itertools import accumulate, product
from typing import NamedTuple

from gptbook.littletown.words import LOOKS, PLACES, POOLS, THINGS

CONTENT, DISCONTENT = "positive", "negative"
ASPECTS = ("price", "color", "size", "shape", "quality", "service")
OPINIONS = {
    "wonderful": 8,
    "lovely": 7,
    "not bad": 6,
    "fine": 5,
    "ordinary": 5,
    "not good": 4,
    "poor": 3,
    "awful": 2,
}
"""How likely each is when the writer is content, in parts of 40; when not, the other way round."""
CLOSINGS = {
    "I would buy it again.": 4,
    "My friends saw it.": 3,
    "It was my second one.": 2,
    "I gave it away.": 1,
}
"""The same in parts of 10."""
NUM_OPINIONS = (2, 3, 4)
"""How many opinions a review may hold, each number as likely as the others."""

_COLORS = tuple(look.english for look in LOOKS[0])
_NOUNS = tuple(noun.english for noun in THINGS[0])
_SHOPS = tuple(place.at.english for place in PLACES[1])
_PRICES = tuple(price.english for price in POOLS["price"])
_OPENING = re.compile(r"I bought an? (\w+) (\w+) (\w+ the \w+) for (\w+) coins\.")


class Review(NamedTuple):
    """A review.

    Attributes:
        text: What was written.
        label: "positive" if the writer was content, else "negative".
        log_probability: How likely the town is to write this, in nats, under either label.
        posterior: How likely the writer was content, given the text.
    """

    text: str
    label: str
    log_probability: float
    posterior: float


def draw_review(draw: Callable[[], float]) -> Review:
    """Draw a review, with numbers drawn uniformly from 0 to 1."""
    label = CONTENT if draw() < 1 / 2 else DISCONTENT
    pools = (_COLORS, _NOUNS, _SHOPS, _PRICES)
    sentences = [_opening(*[pool[int(draw() * len(pool))] for pool in pools])]
    aspects = list(ASPECTS)
    for _ in range(NUM_OPINIONS[int(draw() * len(NUM_OPINIONS))]):
        aspect = aspects.pop(int(draw() * len(aspects)))
        sentences.append(f"The {aspect} was {_weigh(OPINIONS, label, draw())}.")
    text = " ".join([*sentences, _weigh(CLOSINGS, label, draw())])
    return Review(text, label, review_log_probability(text), posterior(text))


def posterior(text: str) -> float:
    """Say how likely the writer was content, given the text.

    Raises:
        ValueError: If it is no review of the town's.
    """
    content, discontent = (_likelihood(_evidence(text), label) for label in (CONTENT, DISCONTENT))
    return content / (content + discontent)


def review_log_probability(text: str) -> float:
    """Say how likely the town is to write this review, in nats.

    Raises:
        ValueError: If it is no review of the town's.
    """
    evidence = _evidence(text)
    num_openings = len(_COLORS) * len(_NOUNS) * len(_SHOPS) * len(_PRICES)
    num_aspects = math.perm(len(ASPECTS), len(evidence) - 1)
    both = (_likelihood(evidence, CONTENT) + _likelihood(evidence, DISCONTENT)) / 2
    return math.log(both / num_openings / len(NUM_OPINIONS) / num_aspects)


@cache
def best_accuracy() -> float:
    """Give the share of reviews whose label the best of all classifiers gets right."""
    shares = []
    for num in NUM_OPINIONS:
        for evidence in product(*[OPINIONS] * num, CLOSINGS):
            shares.append(
                max(_likelihood(evidence, label) for label in (CONTENT, DISCONTENT))
                / (2 * len(NUM_OPINIONS))
            )
    return math.fsum(shares)


def _tilted(table: dict[str, int], label: str) -> dict[str, int]:
    """Give the weights of phrases under a label."""
    weights = list(table.values())
    return dict(zip(table, weights if label == CONTENT else weights[::-1], strict=True))


def _weigh(table: dict[str, int], label: str, point: float) -> str:
    """Give the phrase on which a point falls, if 1 is shared among all by weight."""
    weights = _tilted(table, label)
    return [*weights][bisect([*accumulate(weights.values())], point * sum(weights.values()))]


def _likelihood(evidence: tuple[str, ...], label: str) -> float:
    """Say how likely the opinions and the closing are under a label."""
    *opinions, closing = evidence
    product_of_weights = math.prod(_tilted(OPINIONS, label)[opinion] for opinion in opinions)
    closing_share = _tilted(CLOSINGS, label)[closing] / sum(CLOSINGS.values())
    return closing_share * product_of_weights / sum(OPINIONS.values()) ** len(opinions)


def _opening(color: str, noun: str, shop: str, price: str) -> str:
    """Write the first sentence."""
    article = "an" if color[0] in "aeiou" else "a"
    return f"I bought {article} {color} {noun} {shop} for {price} coins."


def _evidence(text: str) -> tuple[str, ...]:
    """Take a review apart: its opinions, and its closing sentence."""
    sentences = re.findall(r"[^.]+\.", text.replace(". ", "."))
    opening, *opinions, closing = sentences if len(sentences) > 1 else ["", ""]
    found = _OPENING.fullmatch(opening)
    pairs = [re.fullmatch(r"The (\w+) was ([\w ]+)\.", opinion) for opinion in opinions]
    aspects = [pair[1] for pair in pairs if pair]
    phrases = tuple(pair[2] for pair in pairs if pair)
    is_review = (
        found is not None
        and " ".join([opening, *opinions, closing]) == text
        and opening == _opening(*found.groups())
        and all(map(_contains, (_COLORS, _NOUNS, _SHOPS, _PRICES), found.groups()))
        and len(phrases) == len(opinions)
        and len(set(aspects)) == len(aspects) in NUM_OPINIONS
        and set(aspects) <= set(ASPECTS)
        and set(phrases) <= set(OPINIONS)
        and closing in CLOSINGS
    )
    if not is_review:
        raise ValueError(
            f"{text!r} is no review of Littletown; pass the text of World().review(seed), or write "
            "one like it"
        )
    return (*phrases, closing)


def _contains(pool: tuple[str, ...], entry: str) -> bool:
    """Say whether a pool holds an entry."""
    return entry in pool
