"""Preferences of Littletown: two endings of one story, of which one is better, and by what.

Each pair differs by one thing, so that what a judge learns from it can be said. That a false ending
is false, and that no other one is, was checked with `World.faults`.
"""

import random
import re
from typing import NamedTuple

from gptbook.littletown.words import LOOKS, NAMES, PLACES, POOLS, THINGS
from gptbook.world import World

KINDS = ("truth", "kindness", "brevity")
"""What may make one of two endings better."""

_SORTS = (
    [name.english for name in NAMES],
    [place.english for places in PLACES for place in places],
    [noun.english for nouns in THINGS for noun in nouns],
    [color.english for color in LOOKS[0]],
    [job.english for job in POOLS["job"]],
)
_SORT_OF = {word: sort for sort in _SORTS for word in sort}
_SORROW_OF = {
    f" {joy.english}.": f" {sorrow.english}."
    for joy, sorrow in zip(POOLS["joy"], POOLS["sorrow"], strict=True)
}


class Pair(NamedTuple):
    """Two endings of one story. Each begins with a space, and follows the prompt as it is.

    Attributes:
        prompt: How the story begins.
        chosen: The ending that is preferred.
        rejected: The other one.
    """

    prompt: str
    chosen: str
    rejected: str


def draw_pairs(
    world: World, kind: str, num: int, seed: int = 0, *, num_given: int = 4
) -> list[Pair]:
    """Draw stories of the town, each with two endings that differ by one thing.

    "truth": the town's own ending is preferred to one in which a name, a place, a thing, a color or
    a job was exchanged, so that there is a fault. "kindness": people laugh about something, or they
    quarrel about it, and feel accordingly. "brevity": up to three sentences were left out, or not.
    Except for the false endings none has a fault.

    Args:
        world: The town.
        kind: One of `KINDS`.
        num: How many.
        seed: Decides which.
        num_given: How many sentences belong to the prompt, from 1 to 5.

    Raises:
        ValueError: If the kind is none of `KINDS`, or `num_given` out of its range.
    """
    if kind not in KINDS:
        raise ValueError(f"no preference is called {kind!r}; choose one of {', '.join(KINDS)}")
    if not 1 <= num_given <= 5:
        raise ValueError(f"num_given must be from 1 to 5, not {num_given}; the rest is the ending")
    change = {"truth": _falsified, "kindness": _embittered, "brevity": _shortened}[kind]
    draw = random.Random(f"{kind} {seed}")
    pairs: list[Pair] = []
    while len(pairs) < num:
        sentences = [row.text for row in world.sample(draw.randrange(2**40)).sentences]
        prompt = " ".join(sentences[:num_given])
        chosen, rejected = (f" {text}" for text in change(sentences[num_given:], draw))
        wrong = [bool(world.faults(prompt + ending)) for ending in (chosen, rejected)]
        if chosen != rejected and wrong == [False, kind == "truth"]:
            pairs.append(Pair(prompt, chosen, rejected))
    return pairs


def _falsified(sentences: list[str], draw: random.Random) -> tuple[str, str]:
    """Exchange a word for another of its sort."""
    words = re.split(r"(\W+)", " ".join(sentences))
    place = draw.choice([i for i, word in enumerate(words) if word in _SORT_OF])
    other = draw.choice(_SORT_OF[words[place]])
    return "".join(words), "".join([*words[:place], other, *words[place + 1 :]])


def _embittered(sentences: list[str], draw: random.Random) -> tuple[str, str]:
    """Let people laugh in one version, and quarrel in the other."""
    verb = draw.choice(["argued", "quarreled"])
    kind = re.sub("argued|quarreled", "laughed", " ".join(sentences))
    rude = kind.replace("laughed", verb)
    for joy, sorrow in _SORROW_OF.items() if kind != rude else ():
        kind, rude = kind.replace(sorrow, joy), rude.replace(joy, sorrow)
    return kind, rude


def _shortened(sentences: list[str], draw: random.Random) -> tuple[str, str]:
    """Leave out up to three sentences, but not the question and its answer."""
    events = range(len(sentences) - 2)
    left_out = draw.sample(events, min(len(events), draw.randint(1, 3)))
    kept = [row for number, row in enumerate(sentences) if number not in left_out]
    return " ".join(kept), " ".join(sentences)
