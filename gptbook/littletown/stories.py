"""Stories: a scene with its words, and how one sentence follows another."""

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from gptbook.littletown.scenes import (
    OVER,
    Branch,
    Branches,
    Choice,
    Clock,
    Fill,
    Focus,
    Options,
    Scene,
    answer_to,
    focus_after,
    options_in,
    ways_on,
)
from gptbook.littletown.wordings import TYPE, Slot, Wording
from gptbook.littletown.words import (
    NAMES,
    POOLS,
    PRONOUNS,
    TURNS,
    WET,
    Name,
    Noun,
    Place,
    Word,
)


class Person(NamedTuple):
    """Somebody in a story."""

    name: Name
    job: Word
    feeling: Word


class Thing(NamedTuple):
    """Something in a story."""

    noun: Noun
    look: Word
    owner: Name


class State(NamedTuple):
    """All that the rest of a story depends on: the scene, the clock, and the words."""

    scene: Scene = Scene()
    focus: Focus = Focus()
    clock: Clock = Clock()
    people: tuple[Person, ...] = ()
    places: tuple[Place, ...] = ()
    things: tuple[Thing, ...] = ()
    is_raining: bool = False
    asked: tuple[str, int] | None = None

    @property
    def branches(self) -> Branches:
        """All ways to go on, with their probabilities."""
        return ways_on(len(self.people), self.focus, self.clock)

    def options(self, branch: Branch) -> Options:
        """Give all that may be said on a branch."""
        if branch.group == "answer" and self.asked:
            return answer_to(self.scene, *self.asked)
        return options_in(self.scene, branch.group, branch.actor)

    def used(self, type_: str) -> list[Any]:
        """List the names, places or nouns that are in use."""
        if type_ == "person":
            return [person.name for person in self.people]
        return [thing.noun for thing in self.things] if type_ == "thing" else list(self.places)

    def taken(self, type_: str) -> list[Any]:
        """List the names, places or nouns that nobody and nothing new may have.

        Two people share no pronoun, so that "he" and "she" always say who is meant.
        """
        if type_ != "person":
            return self.used(type_)
        pronouns = {person.name.pronoun for person in self.people}
        return [name for name in NAMES if name.pronoun in pronouns]

    def recall(self, slot: Slot, choice: Choice, branch: Branch) -> Any:
        """Look up what stands in a slot that is not free."""
        if slot.attribute == "turn":
            return TURNS[self.is_raining]
        index = choice.cast[slot.role]
        if slot == ACTOR and not branch.says_name:
            return PRONOUNS[self.people[index].name.pronoun]
        return _RECALL[TYPE[slot.role], slot.attribute](self, index)


ACTOR = Slot("", "A")
_RECALL: dict[tuple[str, str], Callable[[State, int], Any]] = {
    ("person", ""): lambda state, i: state.people[i].name,
    ("person", "at"): lambda state, i: state.places[state.scene.people[i]],
    ("person", "she"): lambda state, i: PRONOUNS[state.people[i].name.pronoun],
    ("person", "job"): lambda state, i: state.people[i].job,
    ("person", "feeling"): lambda state, i: state.people[i].feeling,
    ("thing", ""): lambda state, i: state.things[i].noun,
    ("thing", "measure"): lambda state, i: state.things[i].noun,
    ("thing", "at"): lambda state, i: state.places[state.scene.place_of(i)],
    ("thing", "look"): lambda state, i: state.things[i].look,
    ("thing", "holder"): lambda state, i: state.people[state.scene.things[i][0]].name,
    ("thing", "owner"): lambda state, i: state.things[i].owner,
    ("place", "at"): lambda state, i: state.places[i],
}
"""What the town remembers of people, things and places."""


class Sentence(NamedTuple):
    """One sentence of a story, and how the program made it.

    Attributes:
        text: The sentence.
        log_probability: In nats, given all sentences before it.
        branch: How the story went on.
        choice: What was said, by whom, about whom.
        number: In which of the wordings.
        marker: The marker of time before it, if it opens a part of the day.
        entries: What stands in the wording's slots, one after the other.
    """

    text: str
    log_probability: float
    branch: Branch
    choice: Choice
    number: int
    marker: Word | None
    entries: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """The name of its kind in `littletown.KINDS`."""
        return self.choice.kind.name

    @property
    def wording(self) -> Wording:
        """How it is said."""
        return self.choice.saying.wordings[self.number]

    @property
    def fills(self) -> list[Fill]:
        """How the slots of its wording are filled."""
        return self.choice.saying.fills[self.number]


def write(wording: Wording, marker: Word | None, entries: Iterable[Any]) -> str:
    """Write a sentence in English."""
    slots = zip(wording.slots, entries, strict=True)
    text = wording.english.format(*[slot.english(entry) for slot, entry in slots])
    if marker is not None:
        text = f"{marker.english}, {text}"
    return text[0].upper() + text[1:]


def translate(state: State, sentence: Sentence) -> str:
    """Write a sentence in Chinese, given what was so before it."""
    choice, wording = sentence.choice, sentence.wording
    said = {slot.key: entry for slot, entry in zip(wording.slots, sentence.entries, strict=True)}
    parts = []
    for slot in wording.chinese_slots:
        if slot.role and choice.cast[slot.role] >= 0:
            parts.append(slot.chinese(state.recall(slot, choice, sentence.branch)))
        else:
            parts.append(slot.chinese(said[slot.key]))
    text = wording.chinese.format(*parts)
    return f"{sentence.marker.chinese}，{text}" if sentence.marker else text


def say(
    branch: Branch,
    probability: float,
    choice: Choice,
    number: int,
    marker: Word | None,
    entries: tuple[Any, ...],
) -> Sentence:
    """Say a sentence, and how likely it is."""
    log_probability = math.log(probability) + choice.log_probability(number)
    if marker is not None:
        log_probability -= math.log(len(POOLS[branch.marker]))
    text = write(choice.saying.wordings[number], marker, entries)
    return Sentence(text, log_probability, branch, choice, number, marker, entries)


def follow(state: State, sentence: Sentence) -> State:
    """Say what is so after a sentence."""
    branch, choice, entries = sentence.branch, sentence.choice, sentence.entries
    kind, after = choice.kind, choice.after
    people, places, things = state.people, state.places, state.things
    is_raining = state.is_raining ^ (kind.moves == ("the weather turns",))
    if kind.new or kind.any:
        slots = sentence.wording.slots
        said: dict[str, Any] = {slot.key: row for slot, row in zip(slots, entries, strict=True)}
        if "A" in kind.new:
            people = (*people, Person(said["A"], said["job"], said["mood"]))
        if choice.cast.get("P", 0) < 0:
            places = (*places, said["P"])
        if "T" in kind.new:
            things = (*things, Thing(said["T"], said["look"], people[branch.actor].name))
        if "sky" in said:
            is_raining = said["sky"].english in WET
    if kind.group in {"joy", "sorrow"}:
        who = branch.actor
        people = (*people[:who], people[who]._replace(feeling=entries[1]), *people[who + 1 :])
    if kind.moves:
        people = tuple([people[index] for index in after.people])
        places = tuple([places[index] for index in after.places])
        things = tuple([things[index] for index in after.things])
    asked = (kind.name, choice.roles[0]) if kind.group == "question" else state.asked
    focus = focus_after(choice, branch)
    return State(after.scene, focus, branch.clock, people, places, things, is_raining, asked)


# --- drawing a story ------------------------------------------------------------------------------


def _draw(state: State, draw: Callable[[], float]) -> Sentence:
    """Draw the next sentence, with numbers drawn uniformly from 0 to 1."""
    branches = state.branches
    cumulative = list(accumulate(probability for probability, _ in branches))
    probability, branch = branches[_locate(draw(), cumulative)]
    options = state.options(branch)
    choice = options.choices[_locate(draw(), options.cumulative)]
    marker = _pick(POOLS[branch.marker], draw) if branch.marker else None
    number = int(draw() * len(choice.saying.wordings))
    entries = []
    for slot, pool, num_options in choice.saying.fills[number]:
        if not pool:
            entries.append(state.recall(slot, choice, branch))
            continue
        entry = _pick(pool, draw)
        while num_options < len(pool) and entry in state.taken(TYPE[slot.role]):
            entry = _pick(pool, draw)
        entries.append(entry)
    return say(branch, probability, choice, number, marker, tuple(entries))


def draw_story(draw: Callable[[], float]) -> Iterator[Sentence]:
    """Draw the sentences of a story."""
    state = State()
    while state.clock.part != OVER:
        sentence = _draw(state, draw)
        state = follow(state, sentence)
        yield sentence


def _locate(point: float, cumulative: list[float]) -> int:
    """Say on which of some shares of 1 a point falls."""
    return min(bisect(cumulative, point), len(cumulative) - 1)


def _pick(pool: tuple[Any, ...], draw: Callable[[], float]) -> Any:
    """Draw from a pool, each entry as likely as the others."""
    return pool[int(draw() * len(pool))]
