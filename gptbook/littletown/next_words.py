"""Next words: all ways in which a sentence may go on, and how likely each word is."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from gptbook.littletown.scenes import NOBODY, Branch, Choice
from gptbook.littletown.stories import Sentence, State
from gptbook.littletown.wordings import TYPE, Wording, phrases, words_of
from gptbook.littletown.words import POOLS, PRONOUNS


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
    return list(_unroll(Strand(row.probability, row.ahead[1:], row.more) for row in kept))


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
    """Give all ways to begin a sentence, as far as the marker of time and the one who acts."""
    for probability, branch in state.branches:
        more = partial(_sayings, state, branch)
        actor = _actor(state, branch)
        if not branch.marker:
            yield Strand(probability, tuple(word.capitalize() for word in actor), more)
        for marker in POOLS.get(branch.marker, ()):
            first, *rest = marker.english.split()
            each = probability / len(POOLS[branch.marker])
            yield Strand(each, (first.capitalize(), *rest, ",", *actor), more)


def _actor(state: State, branch: Branch) -> tuple[str, ...]:
    """Say who acts on a branch: the one word with which all that may be said on it begins."""
    if branch.actor == NOBODY:
        return ()
    name = state.people[branch.actor].name
    return (name.english if branch.says_name else PRONOUNS[name.pronoun].english,)


def _sayings(state: State, branch: Branch) -> Iterator[Strand]:
    """Give all that may be said on a branch, after the one who acts."""
    start = int(branch.actor != NOBODY)
    for choice in state.options(branch).choices:
        probability = choice.probability / len(choice.saying.wordings)
        for wording in choice.saying.wordings:
            yield Strand(probability, (), partial(_pieces, state, branch, choice, wording, start))


def _pieces(
    state: State, branch: Branch, choice: Choice, wording: Wording, index: int
) -> Iterator[Strand]:
    """Give all ways in which a wording may go on with one of its pieces."""
    if index == len(wording.pieces):
        yield Strand(1.0, (), None)
        return
    piece = wording.pieces[index]
    if isinstance(piece, str):
        options = [[piece]]
    else:
        fill = choice.saying.fills[wording.number][wording.slots.index(piece)]
        if fill.pool:
            taken = state.taken(TYPE[piece.role]) if piece.role else []
            options = [piece.english(row).split() for row in fill.pool if row not in taken]
        else:
            options = [piece.english(state.recall(piece, choice, branch)).split()]
    more = partial(_pieces, state, branch, choice, wording, index + 1)
    for first, *rest in options:
        if index == 0 and not branch.marker:
            first = first[0].upper() + first[1:]
        yield Strand(1 / len(options), (first, *rest), more)


def _unroll(strands: Iterable[Strand]) -> Iterator[Strand]:
    """Follow each strand to where its next word is known, or the sentence ends."""
    for strand in strands:
        if strand.ahead or strand.more is None:
            yield strand
            continue
        for row in _unroll(strand.more()):
            yield Strand(strand.probability * row.probability, row.ahead, row.more)
