"""Littletown: a probabilistic program whose little stories have exactly known probability.

Chapter 8 tells how it works, and the rest of the book measures its models against it. What may
happen in the town, and how it is said, is written down once, in `gptbook.littletown.kinds`; from it
follow the drawing of a story, the probability of a text and of each of its words, what contradicts
what was said before, and how much there is to know in a story on average: its entropy, which no
model can beat.

The state of a story has two halves. The scene says who is with whom, who holds something, where
something lies, but not what anybody or anything is called. It alone decides what may be said next
and how likely that is. The words that fill the scene are the other half. So the town has more
stories than could ever be listed, and still so few scenes that each can be visited: the entropy is
a sum over scenes, and nothing is left to chance.

Where to read on, from the ground up: `words`, `kinds`, `wordings` (a template that writes and
recognizes), `scenes` (what may be said, how likely, the entropy), `stories` (the words of a scene,
one sentence after another), `reading` (the way back, and faults), `next_words`; beside them `shop`,
`reviews`, `posts` and `programs`, four smaller languages.

All probabilities are natural logarithms, in nats.

References:
    Shannon (1948), "A Mathematical Theory of Communication", section 7: the entropy of a source
    that moves between states. https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
    Weston et al. (2015), "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks":
    questions about a simulated town. https://arxiv.org/abs/1502.05698
"""

import math
import random
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from typing import Protocol

from gptbook.littletown.next_words import (
    advance,
    begin,
    next_words,
    recalled,
    word_log_probabilities,
)
from gptbook.littletown.posts import Post, draw_post, post_posterior
from gptbook.littletown.programs import Program, draw_program
from gptbook.littletown.reading import (
    Fault,
    fate,
    reread,
    split_sentences,
    state_after,
    whereabouts,
)
from gptbook.littletown.reviews import Review, draw_review, posterior
from gptbook.littletown.scenes import (
    ASKED,
    NOBODY,
    OVER,
    PARTS,
    Branch,
    Choice,
    Clock,
    Focus,
    Scene,
    answer_to,
    average_rest,
    options_in,
)
from gptbook.littletown.shop import Dialogue, draw_dialogue
from gptbook.littletown.stories import (
    ACTOR,
    Sentence,
    State,
    draw_story,
    follow,
    translate,
    write,
)
from gptbook.littletown.wordings import WORDINGS, phrases, words_of
from gptbook.littletown.words import POOLS, PRONOUNS

END_OF_STORY = "<|endoftext|>"
"""The word that stands for the end of a story where the next word is predicted."""


class Story:
    """A story, and all that is known of it.

    The text and its probability are there at once. The rest is worked out when it is asked for.
    """

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        self.sentences = tuple(sentences)

    @cached_property
    def text(self) -> str:
        """The story in English, in one line."""
        return " ".join(sentence.text for sentence in self.sentences)

    @cached_property
    def log_probability(self) -> float:
        """How likely the town is to tell just this story, in nats."""
        return math.fsum(sentence.log_probability for sentence in self.sentences)

    @property
    def question(self) -> str:
        """What the reader is asked: the last sentence but one."""
        return self.sentences[-2].text

    @property
    def answer(self) -> str:
        """The only right answer: the last sentence."""
        return self.sentences[-1].text

    @property
    def prompt(self) -> str:
        """The story up to its question mark."""
        return " ".join(sentence.text for sentence in self.sentences[:-1])

    @cached_property
    def chinese(self) -> str:
        """The same story in Chinese, sentence by sentence; no two stories have the same."""
        return "".join(map(translate, self.states, self.sentences))

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """What is so in the end, in plain sentences."""
        state = self.states[-1]
        facts = []
        for index, person in enumerate(state.people):
            name = person.name.english
            facts += [f"{name} is a {person.job.english}.", f"{whereabouts(state, index)}."]
            facts += [f"{name} feels {person.feeling.english}."]
        for index, thing in enumerate(state.things):
            told = fate(state, index)
            noun = f"The {thing.noun.english}"
            facts += [told[0].upper() + told[1:] + ".", f"{noun} is {thing.look.english}."]
            facts += [f"{thing.owner.english} had the {thing.noun.english} first."]
        return tuple(facts)

    @cached_property
    def summary(self) -> str:
        """One or two sentences on the person whom the story names first."""
        name = self.states[1].people[0].name
        gained: list[str] = []
        lost: list[str] = []
        held = None
        for state in self.states[1:]:
            who = state.used("person").index(name)
            holding = [state.things[thing].noun.english for thing in state.scene.held_by(who)]
            now = holding[0] if holding else None
            if now != held:
                gained += [f"the {now}"] if now else []
                lost += [f"the {held}"] if held else []
            held = now
        person = state.people[who]
        deeds = [f"got {_listed(gained)}"] if gained else []
        deeds += [f"parted with {_listed(lost)}"] if lost else []
        told = " and ".join(deeds) or "got nothing and parted with nothing"
        end = f"{whereabouts(state, who)} and feels {person.feeling.english}."
        return f"The {person.job.english} {name.english} {told}. In the end {end}"

    @cached_property
    def sentiment(self) -> str:
        """Whether more people end up happy ("positive") or sad ("negative"), or neither."""
        feelings = [person.feeling for person in self.states[-1].people]
        balance = sum((row in POOLS["joy"]) - (row in POOLS["sorrow"]) for row in feelings)
        return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"

    @property
    def states(self) -> list[State]:
        """What is so before the first sentence, and after each of them."""
        return list(accumulate(self.sentences, follow, initial=State()))

    def __repr__(self) -> str:
        return f"Story({self.text!r})"


def _listed(names: list[str]) -> str:
    """Join "the kite", "the hat" and "the kite" to one phrase, each named once."""
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last


class World:
    """Littletown.

    >>> world = World()
    >>> story = world.sample(seed=7)
    >>> world.log_probability(story.text) == story.log_probability
    True
    >>> world.faults(story.text)
    []
    """

    def sample(self, seed: int) -> Story:
        """Draw the story of a seed, the same on every machine.

        Raises:
            TypeError: If the seed is no integer.
            ValueError: If the seed is negative.
        """
        return next(self.stories(1, seed))

    def stories(self, num: int, seed: int = 0) -> Iterator[Story]:
        """Draw stories one after the other, of which the first is `sample(seed)`.

        Raises:
            TypeError: If the number or the seed is no integer.
            ValueError: If the number or the seed is negative.
        """
        _check_count("num", num)
        _check_count("seed", seed)
        draw = random.Random(seed).random
        for _ in range(num):
            yield Story(draw_story(draw))

    def parse(self, text: str) -> tuple[Sentence, ...]:
        """Find the one way in which the town tells a story.

        Raises:
            ValueError: If the town cannot tell it; the message names the first fault.
        """
        sentences = []
        for sentence in reread(text):
            if isinstance(sentence, Fault):
                raise ValueError(
                    f"Littletown cannot tell this: sentence {sentence.index}, "
                    f"{sentence.sentence!r}: {sentence.reason}; world.faults(text) lists all that "
                    "is wrong"
                )
            sentences.append(sentence)
        return tuple(sentences)

    def log_probability(self, text: str) -> float:
        """Say how likely the town is to tell just this story, in nats.

        It is minus infinity for a text that the town cannot tell, which is one with `faults`.
        """
        log_probabilities = []
        for sentence in reread(text):
            if isinstance(sentence, Fault):
                return -math.inf
            log_probabilities.append(sentence.log_probability)
        return math.fsum(log_probabilities)

    def faults(self, text: str) -> list[Fault]:
        """List what is wrong with a text: the measure of how often a model makes things up.

        Each sentence that is not of the town's language is one. A sentence that contradicts the
        story is believed from there on as far as it can be, so that one slip counts once.
        """
        return [row for row in reread(text) if isinstance(row, Fault)]

    def next_word_probabilities(self, prefix: str) -> dict[str, float]:
        """Say how likely each word is to come next.

        A word is what `words_of` makes of a text: letters, or one punctuation mark. After the last
        sentence the next word is `END_OF_STORY`.

        Args:
            prefix: The beginning of a story, cut after any of its words; or nothing.

        Raises:
            ValueError: If no story begins so.

        >>> sorted(World().next_word_probabilities(""))
        ['Early', 'On', 'One']
        """
        *sentences, rest = [*split_sentences(prefix.rstrip(" ")), ""]
        if sentences and sentences[-1][-1] not in ".?":
            *sentences, rest = sentences
        state = state_after(sentences)
        if state.clock.part == OVER and not rest:
            return {END_OF_STORY: 1.0}
        words = words_of(rest)
        if rest != " " * bool(sentences and rest) + _join(words):
            raise ValueError(
                f"{rest!r} is not spaced as the stories are; put one space before a word, and none "
                "before a punctuation mark"
            )
        strands = begin(state)
        for index, word in enumerate(words):
            strands = advance(strands, word)
            if not strands:
                raise ValueError(
                    f"no story of Littletown begins so: word {index} of {_join(words)!r} cannot be "
                    f"{word!r}; cut the text before it"
                )
        return next_words(strands)

    def word_log_probabilities(self, text: str) -> list[tuple[str, float]]:
        """Give each word of a story and how likely it is after those before it, in nats.

        The end of the story is certain and not listed; the sum is the story's log-probability.

        Raises:
            ValueError: If the town cannot tell the story.
        """
        rows: list[tuple[str, float]] = []
        state = State()
        for sentence in self.parse(text):
            rows += word_log_probabilities(state, sentence)
            state = follow(state, sentence)
        return rows

    def kinds(self, text: str) -> list[str]:
        """Say of each word of a story what it takes to predict it.

        "memory": the language would allow another word here, but the story's state decides: a name,
        a place, a thing, a color, an answer. "choice": the town is free to say something else.
        "grammar": there is nothing else to say, whatever happened.

        Raises:
            ValueError: If the town cannot tell the story.
        """
        is_recalled = [row for sentence in self.parse(text) for row in recalled(sentence)]
        nats = [row for _, row in self.word_log_probabilities(text)]
        return [
            "memory" if memory else "choice" if row < -1e-9 else "grammar"
            for memory, row in zip(is_recalled, nats, strict=True)
        ]

    def questions(self, text: str) -> list[tuple[str, str]]:
        """List all that could be asked at the end of a story's events, with the answers.

        Args:
            text: A story, with or without its question and answer.

        Raises:
            ValueError: If the town cannot tell it.
        """
        sentences = split_sentences(text)
        asked = [row.endswith("?") for row in sentences]
        state = state_after(sentences[: asked.index(True)] if any(asked) else sentences)
        branch = Branch("question", Clock(ASKED))
        pairs = []
        for choice in options_in(state.scene, "question", NOBODY).choices:
            answer = answer_to(state.scene, choice.kind.name, choice.roles[0]).choices[0]
            pairs.append((_recite(state, choice, branch), _recite(state, answer, branch)))
        return pairs

    @cached_property
    def entropy(self) -> float:
        """How much there is to know in a story on average, in nats: the floor under every loss."""
        return average_rest(Scene(), Focus(), Clock()).nats

    @cached_property
    def expected_words(self) -> float:
        """How many words and punctuation marks a story has on average, its end not counted."""
        return average_rest(Scene(), Focus(), Clock()).words

    @property
    def entropy_per_word(self) -> float:
        """The floor in nats a word."""
        return self.entropy / self.expected_words

    def entropy_per_token(
        self, tokenizer: "Encoder", *, num_stories: int = 2_000, seed: int = 0
    ) -> float:
        """Give the floor in nats a token.

        A tokenizer is a one-to-one map, so a story's entropy does not depend on it; the number of
        tokens does. It is counted on stories drawn for it; the token at the end counts as one.

        Args:
            tokenizer: Whatever has a method `encode` that turns a text into tokens.
            num_stories: How many stories to count on.
            seed: Which stories.
        """
        lengths = [len(tokenizer.encode(row.text)) + 1 for row in self.stories(num_stories, seed)]
        return self.entropy * len(lengths) / sum(lengths)

    def dialogue(self, seed: int) -> Dialogue:
        """Draw a talk between a customer and a shopkeeper, the same on every machine.

        Raises:
            TypeError: If the seed is no integer.
            ValueError: If the seed is negative.
        """
        _check_count("seed", seed)
        return draw_dialogue(random.Random(seed).random)

    def review(self, seed: int) -> Review:
        """Draw what a customer writes about something bought, the same on every machine.

        Raises:
            TypeError: If the seed is no integer.
            ValueError: If the seed is negative.
        """
        _check_count("seed", seed)
        return draw_review(random.Random(seed).random)

    def review_posterior(self, text: str) -> float:
        """Say how likely the writer of a review was content, exactly: no classifier knows better.

        Raises:
            ValueError: If it is no review of the town's.
        """
        return posterior(text)

    def post(self, seed: int) -> Post:
        """Draw what somebody pins to the notice board, the same on every machine.

        Raises:
            TypeError: If the seed is no integer.
            ValueError: If the seed is negative.
        """
        _check_count("seed", seed)
        return draw_post(random.Random(seed).random)

    def post_posterior(self, text: str) -> float:
        """Say how likely a post was meant to be rude, exactly: no moderator knows better.

        Raises:
            ValueError: If it is no post of the town's.
        """
        return post_posterior(text)

    def program(self, seed: int) -> Program:
        """Draw a program of a few lines about who has what, the same on every machine.

        Raises:
            TypeError: If the seed is no integer.
            ValueError: If the seed is negative.
        """
        _check_count("seed", seed)
        return draw_program(random.Random(seed).random)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words and punctuation marks of the town's stories, sorted."""
        words = {","}
        for marker in (marker for part in PARTS[1:] for marker in POOLS[part]):
            first, *rest = marker.english.split()
            words.update([first.capitalize(), *rest])
        for wording in sum(WORDINGS.values(), ()):
            for index, piece in enumerate(wording.pieces):
                for phrase in [(piece,)] if isinstance(piece, str) else phrases(piece)[0]:
                    words.update(phrase[1:])
                    if phrase[0] in PRONOUNS and piece == ACTOR and index:
                        continue  # a pronoun opens its sentence, or is not there
                    if index or (wording.kind.group == "event" and phrase[0] not in PRONOUNS):
                        words.add(phrase[0])  # a marker of time may come before it
                    if not index:
                        words.add(phrase[0].capitalize())
        return tuple(sorted(words))


class Encoder(Protocol):
    """Whatever turns a text into tokens."""

    def encode(self, text: str) -> list[int]:
        """Turn a text into tokens."""


def _recite(state: State, choice: Choice, branch: Branch) -> str:
    """Say a sentence without free slots."""
    wording = choice.saying.wordings[0]
    return write(wording, None, [state.recall(slot, choice, branch) for slot in wording.slots])


def _join(words: list[str]) -> str:
    """Put words and punctuation marks together as a text has them."""
    text = " ".join(words)
    for mark in ".,?":
        text = text.replace(f" {mark}", mark)
    return text


def _check_count(name: str, value: int) -> None:
    """Refuse what is no count."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"{name} must be an integer, not the {type(value).__name__} {value!r}; convert it "
            "with int(...)"
        )
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}")
