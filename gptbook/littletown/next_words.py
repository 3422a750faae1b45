"""Next words: all ways in which a sentence may go on, and how likely each word is."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from gptbook.littletown.scenes import Branch, Choice
from gptbook.littletown.stories import Sentence, State
from gptbook.littletown.wordings import TYPE, Wording, phrases, words_of
from gptbook.littletown.words import POOLS


class Strand(NamedTuple):
    """One way in which a sentence may go on: so likely, first these words, then what `more` gives.

    Of all strands together the probability is 1 at the beginning of a sentence; a word that comes
    cuts off those that go another way.
    """

    probability: float
    ahead: tuple[str, ...]
    more: "Callable[[], Iterable[Strand]] | None"


def begin(state: State) -> list[Strand]:
    """Give all ways in which the next sentence may go."""
    return list(_unroll(_openings(state)))


def advance(strands: list[Strand], word: str) -> list[Strand]:
    """Keep the ways that go on with a word, and go on."""
    kept = [row for row in strands if row.ahead and row.ahead[0] == word]
    return list(_unroll(row._replace(ahead=row.ahead[1:]) for row in kept))


def total(strands: Iterable[Strand]) -> float:
    """Say how likely some ways are together."""
    return math.fsum(strand.probability for strand in strands)


def next_words(strands: list[Strand]) -> dict[str, float]:
    """Say how likely each next word is, given that it is one of these ways."""
    everything = total(strands)
    probabilities: dict[str, float] = defaultdict(float)
    for strand in strands:
        probabilities[strand.ahead[0]] += strand.probability / everything
    return dict(probabilities)


def word_log_probabilities(state: State, sentence: Sentence) -> Iterator[tuple[str, float]]:
    """Give each word of a sentence and how likely it is after those before it, in nats."""
    strands = begin(state)
    before = total(strands)
    for word in words_of(sentence.text):
        strands = advance(strands, word)
        after = total(strands)
        yield word, math.log(after / before)
        before = after


def recalled(sentence: Sentence) -> Iterator[bool]:
    """Say of each word whether the story decided it where the language allows others."""
    if sentence.marker is not None:
        yield from [False] * (len(words_of(sentence.marker.english)) + 1)
    fills = iter(zip(sentence.fills, sentence.entries, strict=True))
    for piece in sentence.wording.pieces:
        if isinstance(piece, str):
            yield False
            continue
        fill, entry = next(fills)
        words = tuple(piece.english(entry).split())
        for index in range(len(words)):
            others = {row[index] for row in phrases(piece)[0] if row[:index] == words[:index]}
            yield not fill.pool and len(others) > 1


def _openings(state: State) -> Iterator[Strand]:
    """Give all ways to begin a sentence, without looking further than its marker of time."""
    for probability, branch in state.branches:
        more = partial(_sayings, state, branch)
        if not branch.marker:
            yield Strand(probability, (), more)
        for marker in POOLS.get(branch.marker, ()):
            first, *rest = marker.english.split()
            each = probability / len(POOLS[branch.marker])
            yield Strand(each, (first.capitalize(), *rest, ","), more)


def _sayings(state: State, branch: Branch) -> Iterator[Strand]:
    """Give all that may be said on a branch."""
    for choice in state.options(branch).choices:
        probability = choice.probability / len(choice.saying.wordings)
        for wording in choice.saying.wordings:
            yield Strand(probability, (), partial(_pieces, state, branch, choice, wording, 0))


def _pieces(
    state: State, branch: Branch, choice: Choice, wording: Wording, start: int
) -> Iterator[Strand]:
    """Give all ways in which a wording may go on from one of its pieces to its next free slot."""
    ahead: list[str] = []
    options: list[list[str]] = [[]]
    more = None
    for index, piece in enumerate(wording.pieces[start:], start):
        if isinstance(piece, str):
            ahead.append(piece)
            continue
        fill = choice.saying.fills[wording.number][wording.slots.index(piece)]
        if fill.pool:
            used = state.used(TYPE[piece.role]) if piece.role else []
            options = [piece.english(row).split() for row in fill.pool if row not in used]
            more = partial(_pieces, state, branch, choice, wording, index + 1)
            break
        ahead += piece.english(state.recall(piece, choice, branch)).split()
    for option in options:
        words = [*ahead, *option]
        if start == 0 and not branch.marker:
            words[0] = words[0][0].upper() + words[0][1:]
        yield Strand(1 / len(options), tuple(words), more)


def _unroll(strands: Iterable[Strand]) -> Iterator[Strand]:
    """Follow each strand to where its next word is known, or the sentence ends."""
    for strand in strands:
        if strand.ahead or strand.more is None:
            yield strand
            continue
        for row in _unroll(strand.more()):
            yield row._replace(probability=strand.probability * row.probability)
