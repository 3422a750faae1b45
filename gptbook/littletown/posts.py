"""Posts for Littletown's notice board: friendly or rude, which is not said.

One in eight is rude. Each phrase is likelier in one of the two, none gives a post away for sure. So
whoever moderates the board has to weigh, and the program knows how well that can be done at best.
"""

import math
import re
from bisect import bisect
from collections.abc import Callable
from functools import cache
from itertools import accumulate, product
from typing import NamedTuple

from gptbook.littletown.words import NAMES, THINGS

RUDE_SHARE = 1 / 8
"""How many of the posts are rude."""
NUM_REMARKS = (1, 2, 3)
"""How many remarks a post may hold, each number as likely as the others."""

GREETINGS = {"Dear {}.": (9, 2), "Hello {}.": (7, 4), "To {}.": (3, 6), "Listen, {}.": (1, 8)}
JUDGMENTS = {
    "beautiful": (10, 1),
    "useful": (7, 2),
    "almost new": (6, 3),
    "rather old": (6, 6),
    "not pretty": (4, 6),
    "a bit silly": (3, 7),
    "ugly": (2, 8),
    "rubbish": (1, 9),
}
CLOSINGS = {
    "Thank you.": (10, 2),
    "See you soon.": (6, 3),
    "Think about it.": (3, 5),
    "You have been warned.": (1, 10),
}
"""How likely each phrase is when the post is friendly, and when it is rude; in parts of the sum."""

_NAMES = tuple(name.english for name in NAMES)
_NOUNS = tuple(noun.english for noun in THINGS[0])


class Post(NamedTuple):
    """A post.

    Attributes:
        text: What was written.
        is_rude: Whether it was meant so.
        posterior: How likely it was meant so, given the text.
    """

    text: str
    is_rude: bool
    posterior: float


class Tradeoff(NamedTuple):
    """What the best of all moderators reaches at one threshold.

    Attributes:
        threshold: Posts at least so likely to be rude are held back.
        precision: How many of those held back are rude.
        recall: How many of the rude ones are held back.
    """

    threshold: float
    precision: float
    recall: float


def draw_post(draw: Callable[[], float]) -> Post:
    """Draw a post, with numbers drawn uniformly from 0 to 1."""
    is_rude = draw() < RUDE_SHARE
    name = _NAMES[int(draw() * len(_NAMES))]
    sentences = [_weigh(GREETINGS, is_rude, draw()).format(name)]
    nouns = list(_NOUNS)
    for _ in range(NUM_REMARKS[int(draw() * len(NUM_REMARKS))]):
        noun = nouns.pop(int(draw() * len(nouns)))
        sentences.append(f"Your {noun} is {_weigh(JUDGMENTS, is_rude, draw())}.")
    text = " ".join([*sentences, _weigh(CLOSINGS, is_rude, draw())])
    return Post(text, is_rude, post_posterior(text))


def post_posterior(text: str) -> float:
    """Say how likely a post was meant to be rude, exactly: no moderator knows better.

    Raises:
        ValueError: If it is no post of the town's.
    """
    return _posterior(_evidence(text))


@cache
def best_tradeoffs() -> tuple[Tradeoff, ...]:
    """Give what the best moderator reaches at every threshold that makes a difference."""
    share_by_posterior: dict[float, float] = {}
    for num in NUM_REMARKS:
        for evidence in product(GREETINGS, *[JUDGMENTS] * num, CLOSINGS):
            share = sum(_joint(evidence, is_rude) for is_rude in (False, True)) / len(NUM_REMARKS)
            key = round(_posterior(evidence), 12)
            share_by_posterior[key] = share_by_posterior.get(key, 0.0) + share
    rows, held, rude = [], 0.0, 0.0
    for threshold in sorted(share_by_posterior, reverse=True):
        held += share_by_posterior[threshold]
        rude += share_by_posterior[threshold] * threshold
        rows.append(Tradeoff(threshold, rude / held, rude / RUDE_SHARE))
    return tuple(rows)


def _weigh(table: dict[str, tuple[int, int]], is_rude: bool, point: float) -> str:
    """Give the phrase on which a point falls, if 1 is shared among all by weight."""
    cumulative = [*accumulate(weights[is_rude] for weights in table.values())]
    return [*table][bisect(cumulative, point * cumulative[-1])]


def _share(table: dict[str, tuple[int, int]], phrase: str, is_rude: bool) -> float:
    """Say how likely a phrase is."""
    return table[phrase][is_rude] / sum(weights[is_rude] for weights in table.values())


def _joint(evidence: tuple[str, ...], is_rude: bool) -> float:
    """Say how likely it is that a post is so meant and has these phrases."""
    greeting, *judgments, closing = evidence
    prior = RUDE_SHARE if is_rude else 1 - RUDE_SHARE
    ends = _share(GREETINGS, greeting, is_rude) * _share(CLOSINGS, closing, is_rude)
    return prior * ends * math.prod(_share(JUDGMENTS, row, is_rude) for row in judgments)


def _posterior(evidence: tuple[str, ...]) -> float:
    """Say how likely a post with these phrases is rude."""
    rude = _joint(evidence, True)
    return rude / (rude + _joint(evidence, False))


_POST = re.compile(
    rf"(?P<greeting>Dear|Hello|To|Listen,) (?P<name>{'|'.join(_NAMES)})\. "
    rf"(?P<remarks>(?:Your \w+ is [\w ]+\. )+)(?P<closing>{'|'.join(map(re.escape, CLOSINGS))})"
)


def _evidence(text: str) -> tuple[str, ...]:
    """Take a post apart: its greeting, its judgments, its closing."""
    found = _POST.fullmatch(text)
    pairs = re.findall(r"Your (\w+) is ([\w ]+)\. ", found["remarks"]) if found else []
    nouns = [noun for noun, _ in pairs]
    if (
        found is None
        or len(nouns) not in NUM_REMARKS
        or len({*nouns} & {*_NOUNS}) != len(nouns)
        or any(judgment not in JUDGMENTS for _, judgment in pairs)
    ):
        raise ValueError(
            f"{text!r} is no post of Littletown; pass the text of World().post(seed), or write one "
            "like it"
        )
    return (f"{found['greeting']} {{}}.", *[judgment for _, judgment in pairs], found["closing"])
