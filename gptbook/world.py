"""Littletown: a probabilistic program whose little stories have exactly known probability.

Chapter 8 tells how it works, and the rest of the book measures its models against it. What may
happen in the town, and how it is said, stands in `gptbook.littletown`, once. This machine derives
from it how to draw a story, how likely a text is and each of its words, what contradicts what was
said before, and how much there is to know in a story on average: its entropy, which no model can
beat.

The state of a story has two halves. The scene says who is with whom, who holds something, where
something lies, but not what anybody or anything is called. It alone decides what may be said next
and how likely that is. The words that fill the scene are the other half. So the town may know a
hundred million stories and still have so few scenes that every one of them can be visited, and the
entropy is a sum over scenes, with nothing left to chance.

All probabilities are natural logarithms, in nats.

References:
    Shannon (1948), "A Mathematical Theory of Communication", section 7: the entropy of a source
    that moves between states. https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
    Weston et al. (2015), "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks":
    questions about a simulated town. https://arxiv.org/abs/1502.05698
"""

import math
import random
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, partial
from itertools import accumulate, islice
from typing import Any, NamedTuple, Protocol

from gptbook.littletown import (
    FOOD,
    KINDS,
    LOOKS,
    NAMES,
    PLACES,
    POOLS,
    PRONOUNS,
    THINGS,
    TURNS,
    WET,
    Kind,
    Name,
    Noun,
    Place,
    Word,
)

END_OF_STORY = "<|endoftext|>"
"""The word that stands for the end of a story where the next word is predicted."""

THIRD_PERSON = 1 / 2
"""How likely two people are joined by a third."""
SECOND_EVENT = 3 / 4
"""How likely a part of the day has two events, not one."""
REACTION = 3 / 5
"""How likely it is said how somebody feels about the first event of a part."""
SAME_SUBJECT = 2.0
"""How much likelier the person of the last sentence acts again, beside anybody else."""
WEATHER = 0.2
"""How likely the weather turns, beside anybody's acting."""
MOST_THINGS = 2
"""How many things a story keeps track of at a time."""

PARTS = ("morning", "afternoon", "evening")

Entry = Word | Name | Place | Noun
_NOBODY = -1
_OPENING, _ASKED, _OVER = -1, 3, 4
_TYPE = {"A": "person", "B": "person", "C": "person", "T": "thing", "U": "thing", "P": "place"}
_DRAWN: dict[str, tuple[tuple[Any, ...], ...]] = {
    "person": (NAMES,),
    "place": PLACES,
    "thing": THINGS,
}
_KIND = {kind.name: kind for kind in KINDS}


# --- wordings: they write a sentence, and they recognize it ---------------------------------------


class Slot(NamedTuple):
    """What a wording leaves open: `{at B}` has the attribute "at" and the role "B"."""

    attribute: str
    role: str
    article: bool = False

    @classmethod
    def parse(cls, text: str) -> "Slot":
        """Read what stands between the braces."""
        article, parts = text.startswith("a "), text.removeprefix("a ").split()
        role = parts.pop() if parts[-1].isupper() else ""
        return cls(" ".join(parts), role, article)

    @property
    def key(self) -> str:
        """What the English and the Chinese slot have in common when it is a free one."""
        return self.role or self.attribute

    def english(self, entry: Any) -> str:
        """Say an entry as this slot wants it."""
        if self.article:
            return ("an " if entry.english[0] in "aeiou" else "a ") + entry.english
        return entry.at.english if self.attribute == "at" else entry.english

    def chinese(self, entry: Any) -> str:
        """Say an entry in Chinese as this slot wants it."""
        if self.attribute == "measure":
            return entry.measure
        return entry.at.chinese if self.attribute == "at" else entry.chinese

    def entries(self) -> Iterable[Any]:
        """Give all that could stand here in some story."""
        if not self.role:
            table = {"look": dict.fromkeys(sum(LOOKS, ())), "turn": TURNS}
            return table.get(self.attribute) or POOLS[self.attribute]
        type_ = _TYPE[self.role]
        if self.attribute in {"", "at"} and type_ != "person":
            return sum(_DRAWN["place" if self.attribute else type_], ())
        return {
            "": NAMES + tuple(PRONOUNS.values()) * (self.role == "A"),
            "at": sum(PLACES, ()),
            "she": tuple(PRONOUNS.values()),
            "job": POOLS["job"],
            "feeling": POOLS["mood"] + POOLS["joy"] + POOLS["sorrow"],
            "look": tuple(dict.fromkeys(sum(LOOKS, ()))),
            "price": POOLS["price"],
            "holder": NAMES,
            "owner": NAMES,
        }[self.attribute]


def words_of(text: str) -> list[str]:
    r"""Cut a text into its words and punctuation marks, `\w+|[^\w\s]`.

    >>> words_of("Who has the kite? Tom has it.")
    ['Who', 'has', 'the', 'kite', '?', 'Tom', 'has', 'it', '.']
    """
    return re.findall(r"\w+|[^\w\s]", text)


class Wording:
    """A sentence with open slots, in both languages."""

    def __init__(self, kind: Kind, number: int) -> None:
        self.kind, self.number = kind, number
        english, chinese = (re.split(r"\{(.*?)\}", text) for text in kind.wordings[number])
        self.slots = tuple(Slot.parse(text) for text in english[1::2])
        self.chinese_slots = tuple(Slot.parse(text) for text in chinese[1::2])
        self.english, self.chinese = "{}".join(english[::2]), "{}".join(chinese[::2])
        self.pieces: list[str | Slot] = []
        for literal, slot in zip(english[::2], [*self.slots, None], strict=True):
            self.pieces += words_of(literal)
            self.pieces += [slot] if slot else []

    def match(self, words: list[str]) -> tuple[Entry, ...] | None:
        """Give what stands in the slots if this is the wording, whatever the story."""
        entries, start = [], 0
        for piece in self.pieces:
            if isinstance(piece, str):
                if start == len(words) or words[start] != piece:
                    return None
                start += 1
                continue
            phrases, lengths = _phrases(piece)
            for length in lengths:
                if (entry := phrases.get(tuple(words[start : start + length]))) is not None:
                    entries.append(entry)
                    start += length
                    break
            else:
                return None
        return tuple(entries) if start == len(words) else None


@cache
def _phrases(slot: Slot) -> tuple[dict[tuple[str, ...], Entry], tuple[int, ...]]:
    """Index what could stand in a slot by its words, and say how many words that can be."""
    phrases = {tuple(slot.english(entry).split()): entry for entry in slot.entries()}
    return phrases, tuple(sorted({len(words) for words in phrases}))


_WORDINGS = {
    kind.name: tuple(Wording(kind, number) for number in range(len(kind.wordings)))
    for kind in KINDS
}


def _by_second_word() -> dict[str, list[Wording]]:
    """File the wordings under their second word; those in which it varies, under nothing."""
    index: dict[str, list[Wording]] = {}
    for wording in sum(_WORDINGS.values(), ()):
        first, second = wording.pieces[:2]
        plain = isinstance(second, str) and (isinstance(first, str) or first == Slot("", "A"))
        index.setdefault(str(second) if plain else "", []).append(wording)
    return index


_FILE = _by_second_word()


def _recognize(words: list[str]) -> tuple[Wording, tuple[Entry, ...]] | None:
    """Find the one wording that makes this sentence of the language."""
    for wording in _FILE.get(words[1] if len(words) > 1 else "", []) + _FILE[""]:
        if (entries := wording.match(words)) is not None:
            return wording, entries
    return None


# --- the scene: the state of a story but for its words --------------------------------------------


class Scene(NamedTuple):
    """Who is with whom, who has what, what lies where: all that decides what may be said."""

    people: tuple[int, ...] = ()
    """In which place each person is."""
    shops: tuple[bool, ...] = ()
    """Of each place where somebody or something is: whether things are sold there."""
    things: tuple[tuple[int, int], ...] = ()
    """Of each thing: who has it (or ~place, where it lies), and its category."""

    def place_of(self, thing: int) -> int:
        """Say where a thing is, in a hand or on its own."""
        where = self.things[thing][0]
        return ~where if where < 0 else self.people[where]

    def held_by(self, person: int) -> list[int]:
        """Say what a person has; one thing fills the hands."""
        return [thing for thing, (where, _) in enumerate(self.things) if where == person]

    def num_used(self, type_: str, number: int) -> int:
        """Count how many words of a pool are in use."""
        if type_ == "person":
            return len(self.people)
        if type_ == "place":
            return self.shops.count(bool(number))
        return sum(category == number for _, category in self.things)


_TESTS: dict[str, Callable[..., bool]] = {
    "there is room": lambda scene: len(scene.things) < MOST_THINGS,
    "_ leaves for _": lambda scene, a, p: scene.people[a] != p,
    "_ is away from _": lambda scene, a, b: scene.people[a] != scene.people[b],
    "_ is with _": lambda scene, a, b: a != b and scene.people[a] == scene.people[b],
    "_ has empty hands": lambda scene, a: not scene.held_by(a),
    "_ is far from shops": lambda scene, a: not scene.shops[scene.people[a]],
    "_ is in a shop": lambda scene, a: scene.shops[scene.people[a]],
    "_ holds _": lambda scene, a, t: scene.things[t][0] == a,
    "_ sees _": lambda scene, a, t: scene.things[t][0] == ~scene.people[a],
    "_ is far from _": lambda scene, a, t: ~scene.people[a] != scene.things[t][0] < 0,
    "_ is food": lambda scene, t: scene.things[t][1] == FOOD,
    "_ is in hand": lambda scene, t: scene.things[t][0] >= 0,
    "_ is on its own": lambda scene, t: scene.things[t][0] < 0,
    "_ has a color": lambda scene, t: scene.things[t][1] != FOOD,
}
"""What the verbs in a kind's needs mean."""


class _Role(NamedTuple):
    """Who may play a role: old ones, new ones; and the needs that can be tested once it is cast."""

    type: str
    has_old: bool
    new: list[int]
    needs: list[tuple[str, list[int]]]


def _parse_roles(kind: Kind) -> Iterator[_Role]:
    """Read a kind's roles and needs: "A holds T" is the verb "_ holds _" of two roles."""
    needs = []
    for need in kind.needs:
        letters = re.findall(r"\b[A-Z]\b", need)
        needs.append((re.sub(r"\b[A-Z]\b", "_", need), [kind.roles.index(row) for row in letters]))
    for place, letter in enumerate(kind.roles):
        is_new = letter in kind.new or letter in kind.any
        new = [~number for number in range(len(_DRAWN[_TYPE[letter]]))] if is_new else []
        ready = [(verb, cast) for verb, cast in needs if max(cast, default=0) == place]
        yield _Role(_TYPE[letter], letter not in kind.new, new, ready)


_ROLES = {kind.name: tuple(_parse_roles(kind)) for kind in KINDS}


class After(NamedTuple):
    """What follows a choice: the scene, and which old or new one each of its numbers stands for."""

    scene: Scene
    people: tuple[int, ...]
    places: tuple[int, ...]
    things: tuple[int, ...]
    actor: int
    stirred: int


class Fill(NamedTuple):
    """How a slot is filled: from `num_options` left in a pool, or, without a pool, from memory."""

    slot: Slot
    pool: tuple[Any, ...]
    num_options: int


class _Saying:
    """How a kind is said when certain of its roles are new: its slots, and what they cost."""

    def __init__(self, kind: str, new: tuple[tuple[str, int, int], ...]) -> None:
        self.wordings = _WORDINGS[kind]
        self.new = {letter: (number, num_used) for letter, number, num_used in new}
        self.fills = [[self._fill(slot) for slot in row.slots] for row in self.wordings]
        self.log_options = [
            sum(math.log(fill.num_options) for fill in fills if fill.pool) for fills in self.fills
        ]
        self.nats = math.log(len(self.wordings)) + sum(self.log_options) / len(self.wordings)
        self.num_words = sum(map(self._num_words, self.wordings, self.fills)) / len(self.wordings)

    def _fill(self, slot: Slot) -> Fill:
        """Say how a slot is filled."""
        if slot.role:
            if slot.role not in self.new:
                return Fill(slot, (), 0)
            number, num_used = self.new[slot.role]
            pool = _DRAWN[_TYPE[slot.role]][number]
            return Fill(slot, pool, len(pool) - num_used)
        pool = POOLS.get(slot.attribute, ())
        if slot.attribute == "look":
            pool = LOOKS[self.new["T"][0]]
        return Fill(slot, pool, len(pool))

    @staticmethod
    def _num_words(wording: Wording, fills: list[Fill]) -> float:
        """Count the words of a wording on average; what is recalled has as many as any entry."""
        num_words = float(sum(isinstance(piece, str) for piece in wording.pieces))
        for slot, pool, _ in fills:
            entries = pool or tuple(slot.entries())
            num_words += sum(len(slot.english(row).split()) for row in entries) / len(entries)
        return num_words


_saying = cache(_Saying)


class Choice:
    """One thing that may be said in a scene: a kind of sentence, and who plays its roles.

    A role below 0 is played by somebody or something new, of category `~role`.
    """

    def __init__(
        self,
        scene: Scene,
        kind: Kind,
        roles: tuple[int, ...],
        probability: float = 1.0,
        new: tuple[tuple[str, int, int], ...] = (),
    ) -> None:
        self.scene, self.kind, self.roles, self.probability = scene, kind, roles, probability
        self.saying = _saying(kind.name, new)

    @cached_property
    def cast(self) -> dict[str, int]:
        """Who plays which role."""
        return dict(zip(self.kind.roles, self.roles, strict=True))

    def log_probability(self, number: int) -> float:
        """Say how likely this choice is in one wording, with what is drawn for its slots."""
        saying = self.saying
        return math.log(self.probability / len(saying.wordings)) - saying.log_options[number]

    @cached_property
    def after(self) -> After:
        """What follows."""
        kind = self.kind
        stirred = kind.cheers or kind.saddens
        if not kind.moves:
            actor, stirred = (self.cast.get(letter, _NOBODY) for letter in ("A", stirred))
            return After(self.scene, *_unmoved(self.scene), actor, stirred)
        draft = _Draft(self.scene, kind, self.roles)
        for move in kind.moves:
            draft.move(*move.split())
        return draft.settle(draft.cast.get("A", _NOBODY), draft.cast.get(stirred, _NOBODY))


@cache
def _unmoved(scene: Scene) -> tuple[tuple[int, ...], ...]:
    """Give the numbers of all people, places and things, as they are."""
    counts = (len(scene.people), len(scene.shops), len(scene.things))
    return tuple(tuple(range(num)) for num in counts)


class _Draft:
    """A scene while a sentence changes it."""

    def __init__(self, scene: Scene, kind: Kind, roles: tuple[int, ...]) -> None:
        self.people, self.shops = list(scene.people), list(scene.shops)
        self.things = dict(enumerate(scene.things))
        self.cast: dict[str, int] = {}
        for letter, role in zip(kind.roles, roles, strict=True):
            self.cast[letter] = role if role >= 0 else self.enter(_TYPE[letter], ~role)

    def enter(self, type_: str, number: int) -> int:
        """Let somebody or something new into the scene."""
        if type_ == "person":
            self.people.append(_NOBODY)
            return len(self.people) - 1
        if type_ == "place":
            self.shops.append(bool(number))
            return len(self.shops) - 1
        self.things[len(self.things)] = (_NOBODY, number)
        return len(self.things) - 1

    def move(self, who: str, *how: str) -> None:
        """Change what one move of a kind says."""
        if _TYPE.get(who) == "person":
            self.people[self.cast[who]] = self.place(how[-1])
        elif _TYPE.get(who) == "thing":
            thing = self.cast[who]
            match how:
                case ("is", "gone"):
                    del self.things[thing]
                case ("to", "place", "of", other):
                    self.things[thing] = (~self.place(other), self.things[thing][1])
                case ("to", other):
                    self.things[thing] = (self.cast[other], self.things[thing][1])

    def place(self, letter: str) -> int:
        """Say where somebody or something is; a place is where it is."""
        index = self.cast[letter]
        if _TYPE[letter] == "place":
            return index
        if _TYPE[letter] == "thing" and (index := self.things[index][0]) < 0:
            return ~index
        return self.people[index]

    def settle(self, actor: int, stirred: int) -> After:
        """Number everybody and everything anew, so that scenes that are alike become one."""
        holds, lies = Counter[Any](), Counter[Any]()
        for where, category in self.things.values():
            (lies if where < 0 else holds)[where] += 4**category  # tells categories apart
        crowd = Counter(self.people)

        def rank_place(place: int) -> tuple[Any, ...]:
            return (-crowd[place], self.shops[place], lies[~place], place)

        people = sorted(
            range(len(self.people)), key=lambda who: (*rank_place(self.people[who]), holds[who])
        )
        inhabited = dict.fromkeys(self.people[who] for who in people)
        littered = {~where: None for where, _ in self.things.values() if where < 0}
        places = [*inhabited, *sorted(littered.keys() - inhabited.keys(), key=rank_place)]
        number = {who: new for new, who in enumerate(people)}
        number |= {~place: ~new for new, place in enumerate(places)}
        moved = {old: (number[where], kind) for old, (where, kind) in self.things.items()}
        things = sorted(moved, key=lambda old: moved[old])
        scene = Scene(
            tuple([~number[~self.people[who]] for who in people]),
            tuple([self.shops[place] for place in places]),
            tuple([moved[old] for old in things]),
        )
        actor, stirred = (number[who] if who >= 0 else who for who in (actor, stirred))
        return After(scene, tuple(people), tuple(places), tuple(things), actor, stirred)


class Options:
    """All that may be said in a scene on one branch."""

    def __init__(self, choices: list[Choice]) -> None:
        self.choices = choices
        self.cumulative = list(accumulate(choice.probability for choice in choices))

    @cached_property
    def by_roles(self) -> dict[tuple[str, tuple[int, ...]], Choice]:
        """Find a choice by its kind and its roles."""
        return {(choice.kind.name, choice.roles): choice for choice in self.choices}


_GROUPS = {
    group: tuple(kind for kind in KINDS if kind.group == group)
    for group in ("first", "next", "event", "joy", "sorrow", "question", "answer")
}


@cache
def _options(scene: Scene, group: str, actor: int) -> Options:
    """Give all that a group of kinds has somebody do, or nobody in particular.

    The kinds that are possible share the probability by their weights, and the ways to play a
    kind's roles by the number of words that could stand for its new ones: each word is as likely.
    """
    ways: list[tuple[Kind, list[Any]]] = []
    for kind in _GROUPS[group]:
        if group != "event" or bool(kind.roles) == (actor != _NOBODY):
            rows = [(roles, *_new(scene, kind, roles)) for roles in _ways(scene, kind, actor)]
            ways.append((kind, [row for row in rows if row[2]]))
    total = sum(kind.weight for kind, rows in ways if rows)
    choices = []
    for kind, rows in ways:
        each = kind.weight / total / (sum(num for _, _, num in rows) or 1)
        choices += [Choice(scene, kind, roles, each * num, new) for roles, new, num in rows]
    return Options(choices)


@cache
def _answer(scene: Scene, question: str, role: int) -> Options:
    """Give the one answer to a question."""
    kinds = [_KIND[name] for name in _KIND[question].answers]
    return Options([
        Choice(scene, kind, (role,)) for kind in kinds if (role,) in _ways(scene, kind, role)
    ])


def _ways(scene: Scene, kind: Kind, actor: int) -> list[tuple[int, ...]]:
    """Give all ways to play a kind's roles that its needs allow, the first by a given actor."""
    num_old = {"person": len(scene.people), "place": len(scene.shops), "thing": len(scene.things)}
    ways: list[tuple[int, ...]] = [()]
    for role in _ROLES[kind.name]:
        old = range(num_old[role.type]) if role.has_old else ()
        players = [actor] if actor != _NOBODY and ways == [()] else [*old, *role.new]
        ways = [(*roles, player) for roles in ways for player in players]
        for verb, cast in role.needs:
            test = _TESTS[verb]
            ways = [roles for roles in ways if test(scene, *[roles[place] for place in cast])]
    return ways


def _new(
    scene: Scene, kind: Kind, roles: tuple[int, ...]
) -> tuple[tuple[tuple[str, int, int], ...], int]:
    """List the new ones among the roles, and say how many words could stand for them."""
    new, num_words = [], 1
    for letter, role in zip(kind.roles, roles, strict=True):
        if role < 0:
            num_used = scene.num_used(_TYPE[letter], ~role)
            new.append((letter, ~role, num_used))
            num_words *= len(_DRAWN[_TYPE[letter]][~role]) - num_used
    return tuple(new), num_words


# --- the clock: when which group of sentences comes -----------------------------------------------


class Clock(NamedTuple):
    """How far a story is: the part of the day, and how many of its events have been told."""

    part: int = _OPENING
    done: int = 0


class Focus(NamedTuple):
    """What the last sentence leaves in mind."""

    subject: int = _NOBODY
    """Whom it called by name; the next sentence will say she or he."""
    stirred: int = _NOBODY
    """Who may be happy or sad about it."""
    feeling: str = ""
    """Which of the two: "joy" or "sorrow"."""


class Branch(NamedTuple):
    """One way to go on: a group of sentences, an actor or nobody, a marker of time or none."""

    group: str
    clock: Clock
    actor: int = _NOBODY
    marker: str = ""
    says_name: bool = True


Branches = tuple[tuple[float, Branch], ...]


@cache
def _branches(num_people: int, focus: Focus, clock: Clock) -> Branches:
    """Give all ways to go on: who else is there, then three parts of a day, then a question."""
    if clock.part == _OVER:
        return ()
    if clock.part == _ASKED:
        return ((1.0, Branch("answer", Clock(_OVER))),)
    if clock.part == _OPENING:
        if num_people < 2:
            return ((1.0, Branch("next" if num_people else "first", clock)),)
        third = THIRD_PERSON if num_people == 2 else 0.0
        branches = ((third, Branch("next", clock)),) if third else ()
        return branches + _events(num_people, focus, 1 - third, Clock(0, 1))
    branches, left = (), 1.0
    if clock.done == 1:
        if focus.stirred != _NOBODY:
            says_name = focus.stirred != focus.subject
            branch = Branch(focus.feeling, clock, focus.stirred, says_name=says_name)
            branches, left = ((REACTION, branch),), 1 - REACTION
        branches += _events(num_people, focus, left * SECOND_EVENT, Clock(clock.part, 2))
        left *= 1 - SECOND_EVENT
    if clock.part + 1 == len(PARTS):
        return (*branches, (left, Branch("question", Clock(_ASKED))))
    part = clock.part + 1
    return branches + _events(num_people, Focus(), left, Clock(part, 1), PARTS[part])


def _events(
    num_people: int, focus: Focus, probability: float, clock: Clock, marker: str = ""
) -> Branches:
    """Share the probability of an event among all who may act, and the weather."""
    weights = {_NOBODY: WEATHER} | dict.fromkeys(range(num_people), 1.0)
    if focus.subject != _NOBODY:
        weights[focus.subject] = SAME_SUBJECT
    total = sum(weights.values())
    return tuple(
        (
            probability * weight / total,
            Branch("event", clock, who, marker, who == _NOBODY or who != focus.subject),
        )
        for who, weight in weights.items()
    )


def _focus(choice: Choice, branch: Branch) -> Focus:
    """Say what a sentence leaves in mind."""
    if branch.actor == _NOBODY:
        return Focus()
    subject = choice.after.actor if branch.says_name else _NOBODY
    if choice.after.stirred == _NOBODY:
        return Focus(subject)
    return Focus(subject, choice.after.stirred, "joy" if choice.kind.cheers else "sorrow")


# --- how much there is to know --------------------------------------------------------------------


class Average(NamedTuple):
    """What a text holds on average."""

    nats: float
    words: float


@cache
def _rest(scene: Scene, focus: Focus, clock: Clock) -> Average:
    """Average over all that may follow, scene by scene: the entropy in closed form."""
    nats = words = 0.0
    for probability, branch in _branches(len(scene.people), focus, clock):
        rest = _rest_on(scene, branch)
        nats += probability * (rest.nats - math.log(probability))
        words += probability * rest.words
    return Average(nats, words)


@cache
def _rest_on(scene: Scene, branch: Branch) -> Average:
    """Average over all that may follow on a branch."""
    nats = words = 0.0
    for choice in _options(scene, branch.group, branch.actor).choices:
        if branch.group == "question":
            answer = _answer(scene, choice.kind.name, choice.roles[0]).choices[0]
            rest = Average(0.0, answer.saying.num_words)
        else:
            focus = _focus(choice, branch) if branch.clock.done == 1 else Focus()
            rest = _rest(choice.after.scene, focus, branch.clock)
        own = choice.saying.nats - math.log(choice.probability)
        nats += choice.probability * (own + rest.nats)
        words += choice.probability * (choice.saying.num_words + rest.words)
    if branch.marker:
        markers = POOLS[branch.marker]
        nats += math.log(len(markers))
        words += 1 + sum(len(words_of(marker.english)) for marker in markers) / len(markers)
    return Average(nats, words)


# --- the words of a story -------------------------------------------------------------------------


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
        return _branches(len(self.people), self.focus, self.clock)

    def options(self, branch: Branch) -> Options:
        """Give all that may be said on a branch."""
        if branch.group == "answer" and self.asked:
            return _answer(self.scene, *self.asked)
        return _options(self.scene, branch.group, branch.actor)

    def used(self, type_: str) -> list[Any]:
        """List the names, places or nouns that are in use."""
        if type_ == "person":
            return [person.name for person in self.people]
        return [thing.noun for thing in self.things] if type_ == "thing" else list(self.places)

    def recall(self, slot: Slot, choice: Choice, branch: Branch) -> Any:
        """Look up what stands in a slot that is not free."""
        if slot.attribute == "turn":
            return TURNS[self.is_raining]
        index = choice.cast[slot.role]
        if slot == _ACTOR and not branch.says_name:
            return PRONOUNS[self.people[index].name.pronoun]
        return _RECALL[_TYPE[slot.role], slot.attribute](self, index)


_ACTOR = Slot("", "A")
_RECALL: dict[tuple[str, str], Callable[[State, int], Any]] = {
    ("person", ""): lambda state, i: state.people[i].name,
    ("person", "at"): lambda state, i: state.places[state.scene.people[i]],
    ("person", "place"): lambda state, i: state.places[state.scene.people[i]],
    ("person", "she"): lambda state, i: PRONOUNS[state.people[i].name.pronoun],
    ("person", "job"): lambda state, i: state.people[i].job,
    ("person", "feeling"): lambda state, i: state.people[i].feeling,
    ("thing", ""): lambda state, i: state.things[i].noun,
    ("thing", "measure"): lambda state, i: state.things[i].noun,
    ("thing", "at"): lambda state, i: state.places[state.scene.place_of(i)],
    ("thing", "look"): lambda state, i: state.things[i].look,
    ("thing", "holder"): lambda state, i: state.people[state.scene.things[i][0]].name,
    ("thing", "owner"): lambda state, i: state.things[i].owner,
    ("place", ""): lambda state, i: state.places[i],
    ("place", "at"): lambda state, i: state.places[i],
}
"""What the town remembers of people, things and places."""


class Sentence(NamedTuple):
    """One sentence of a story, and how the program made it.

    Attributes:
        text: The sentence.
        kind: The name of its kind in `littletown.KINDS`.
        wording: Which of the kind's wordings.
        marker: The marker of time before it, if it opens a part of the day.
        entries: What stands in the wording's slots, one after the other.
        log_probability: In nats, given all sentences before it.
    """

    text: str
    kind: str
    wording: int
    marker: Word | None
    entries: tuple[Any, ...]
    log_probability: float


class _Step(NamedTuple):
    """A sentence, the choice and the branch behind it, and what is so after it."""

    sentence: Sentence
    choice: Choice
    branch: Branch
    state: State


def _write(wording: Wording, marker: Word | None, entries: Iterable[Any]) -> str:
    """Write a sentence in English."""
    slots = zip(wording.slots, entries, strict=True)
    text = wording.english.format(*[slot.english(entry) for slot, entry in slots])
    if marker is not None:
        text = f"{marker.english}, {text}"
    return text[0].upper() + text[1:]


def _translate(state: State, step: _Step) -> str:
    """Write a sentence in Chinese, given what was so before it."""
    sentence, choice, branch, _ = step
    wording = choice.saying.wordings[sentence.wording]
    said = {slot.key: entry for slot, entry in zip(wording.slots, sentence.entries, strict=True)}
    parts = []
    for slot in wording.chinese_slots:
        if slot.role and choice.cast[slot.role] >= 0:
            parts.append(slot.chinese(state.recall(slot, choice, branch)))
        else:
            parts.append(slot.chinese(said[slot.key]))
    text = wording.chinese.format(*parts)
    return f"{sentence.marker.chinese}，{text}" if sentence.marker else text


def _step(
    state: State,
    branch: Branch,
    probability: float,
    choice: Choice,
    number: int,
    marker: Word | None,
    entries: tuple[Any, ...],
) -> _Step:
    """Say a sentence, how likely it is, and what is so after it."""
    log_probability = math.log(probability) + choice.log_probability(number)
    if marker is not None:
        log_probability -= math.log(len(POOLS[branch.marker]))
    text = _write(choice.saying.wordings[number], marker, entries)
    sentence = Sentence(text, choice.kind.name, number, marker, entries, log_probability)
    return _Step(sentence, choice, branch, _follow(state, branch, choice, number, entries))


def _follow(
    state: State, branch: Branch, choice: Choice, number: int, entries: tuple[Any, ...]
) -> State:
    """Say what is so after a sentence."""
    kind, after = choice.kind, choice.after
    people, places, things = state.people, state.places, state.things
    is_raining = state.is_raining ^ (kind.moves == ("the weather turns",))
    if kind.new or kind.any:
        slots = choice.saying.wordings[number].slots
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
    return State(
        after.scene,
        _focus(choice, branch),
        branch.clock,
        tuple([people[index] for index in after.people]),
        tuple([places[index] for index in after.places]),
        tuple([things[index] for index in after.things]),
        is_raining,
        (kind.name, choice.roles[0]) if kind.group == "question" else state.asked,
    )


# --- drawing a story ------------------------------------------------------------------------------


def _draw(state: State, draw: Callable[[], float]) -> _Step:
    """Draw the next sentence, with numbers drawn uniformly from 0 to 1."""
    left = draw()
    for probability, branch in state.branches:
        if (left := left - probability) < 0:
            break
    options = state.options(branch)
    last = len(options.choices) - 1
    choice = options.choices[min(bisect(options.cumulative, draw()), last)]
    marker = _pick(POOLS[branch.marker], draw) if branch.marker else None
    number = int(draw() * len(choice.saying.wordings))
    entries = []
    for slot, pool, num_options in choice.saying.fills[number]:
        if not pool:
            entries.append(state.recall(slot, choice, branch))
            continue
        entry = _pick(pool, draw)
        while num_options < len(pool) and entry in state.used(_TYPE[slot.role]):
            entry = _pick(pool, draw)
        entries.append(entry)
    return _step(state, branch, probability, choice, number, marker, tuple(entries))


def _draw_steps(draw: Callable[[], float]) -> Iterator[_Step]:
    """Draw the sentences of a story."""
    state = State()
    while state.clock.part != _OVER:
        step = _draw(state, draw)
        yield step
        state = step.state


def _pick(pool: tuple[Any, ...], draw: Callable[[], float]) -> Any:
    """Draw from a pool, each entry as likely as the others."""
    return pool[int(draw() * len(pool))]


# --- reading a story ------------------------------------------------------------------------------


class Fault(NamedTuple):
    """Something wrong with a text.

    Attributes:
        index: Which sentence, counted from 0.
        sentence: The sentence.
        kind: "language" if the town never says such a thing, "contradiction" if it does, but not
            here.
        reason: What is wrong.
    """

    index: int
    sentence: str
    kind: str
    reason: str


class _Wrong(NamedTuple):
    """What is wrong with a sentence, and how the story goes on if it is let pass."""

    kind: str
    reason: str
    state: State


def _split(text: str) -> list[str]:
    """Cut a text into sentences, of which all but the first begin with the space before them."""
    return re.findall(r"[^.?]*[.?]|[^.?]+$", text)


_MARKERS = {
    tuple(marker.english.split()): (part, marker) for part in PARTS[1:] for marker in POOLS[part]
}
_NAMED = {name.english for name in NAMES}


def _parse(text: str) -> tuple[str, Word | None, Wording, tuple[Any, ...]] | None:
    """Read a sentence as one of the language, whatever the story."""
    words = words_of(text)
    if not words:
        return None
    if words[0] not in _NAMED:
        words[0] = words[0].lower()
    comma = words.index(",") if "," in words else 0
    part, marker = _MARKERS.get(tuple(words[:comma]), ("", None))
    found = _recognize(words[comma + 1 :] if marker else words)
    if found is None or _write(found[0], marker, found[1]) != text:
        return None
    return part, marker, *found


def _read(state: State, text: str) -> _Step | _Wrong:
    """Find the one way in which the program says this here, or say why there is none."""
    parsed = _parse(text)
    if parsed is None:
        clock = _clock_after(state, "question" if text.endswith("?") else "event", "")
        reason = "the town has no such sentence"
        return _Wrong("language", reason, state._replace(clock=clock, focus=Focus(), asked=None))
    part, marker, wording, entries = parsed
    kind = wording.kind
    roles, reason = _cast(state, wording, entries)
    if reason:
        passed = state._replace(clock=_clock_after(state, kind.group, part), focus=Focus())
        return _Wrong("contradiction", reason, passed)
    actor = roles[0] if kind.group in {"event", "joy", "sorrow"} and roles else _NOBODY
    for probability, branch in state.branches:
        if (branch.group, branch.marker, branch.actor) != (kind.group, part, actor):
            continue
        choice = state.options(branch).by_roles.get((kind.name, roles))
        if choice is None:
            reason = _unmet_need(state, kind, roles)
        else:
            reason = _misremembered(state, choice, branch, wording, entries)
            if not reason:
                number = wording.number
                return _step(state, branch, probability, choice, number, marker, entries)
        break
    else:
        reason = _untimely(state, kind, part)
    return _Wrong("contradiction", reason, _let_pass(state, part, wording, roles, entries))


def _cast(
    state: State, wording: Wording, entries: tuple[Any, ...]
) -> tuple[tuple[int, ...], str]:
    """Say who plays the roles of a sentence, or who is missing."""
    kind, roles = wording.kind, []
    said = dict(zip(wording.slots, entries, strict=True))
    for letter in kind.roles:
        type_ = _TYPE[letter]
        entry = said.get(Slot("", letter)) or (said.get(Slot("at", letter)) if letter == "P" else None)
        if entry is None:  # only an answer leaves out whom it is about
            if state.asked is None:
                return (), "nothing was asked"
            roles.append(state.asked[1])
        elif isinstance(entry, Word):
            if state.focus.subject == _NOBODY:
                return (), f"nobody was just named whom {entry.english!r} could mean"
            roles.append(state.focus.subject)
        elif entry in state.used(type_):
            if letter in kind.new:
                return (), f"{_the(entry)} is in the story already"
            roles.append(state.used(type_).index(entry))
        elif letter in kind.new or letter in kind.any:
            roles.append(next(~n for n, pool in enumerate(_DRAWN[type_]) if entry in pool))
        else:
            return (), f"there is no {entry.english} in the story"
    return tuple(roles), ""


def _the(entry: Any) -> str:
    """Name a person, a place or a thing."""
    return str(entry.english) if isinstance(entry, Name) else f"the {entry.english}"


def _misremembered(
    state: State, choice: Choice, branch: Branch, wording: Wording, entries: tuple[Any, ...]
) -> str:
    """Say which slot is filled otherwise than the story has it, if one is."""
    for (slot, pool, _), entry in zip(choice.saying.fills[wording.number], entries, strict=True):
        if pool and entry not in pool:
            return f"nothing of that sort is ever {entry.english}"
        if pool or (known := state.recall(slot, choice, branch)) == entry:
            continue
        wrong, right = slot.english(entry), slot.english(known)
        if slot.attribute == "turn":
            return "it is raining already" if state.is_raining else "it was not raining"
        if slot == _ACTOR:
            return f"here the town says {right}, not {wrong}"
        type_ = _TYPE[slot.role]
        who = _the(state.used(type_)[choice.cast[slot.role]])
        pattern = {
            "job": "{who} is a {right}, not a {wrong}",
            "feeling": "{who} feels {right}, not {wrong}",
            "holder": "{right} has {who}, not {wrong}",
            "owner": "{right} had {who} first, not {wrong}",
            "she": "the town calls {who} {right}, not {wrong}",
        }.get(slot.attribute, "{who} is {right}, not {wrong}")
        return pattern.format(who=who, right=right, wrong=wrong)
    return ""


def _unmet_need(state: State, kind: Kind, roles: tuple[int, ...]) -> str:
    """Say which need of a kind is not met."""
    scene = state.scene
    for role in _ROLES[kind.name]:
        for verb, places in role.needs:
            cast = [roles[place] for place in places]
            if not _TESTS[verb](scene, *cast):
                return _REASONS[verb](state, *cast)
    return "that is not what was asked" if kind.group == "answer" else "that cannot happen here"


def _at(state: State, person: int) -> str:
    """Say where a person is."""
    place = state.places[state.scene.people[person]]
    return f"{state.people[person].name.english} is {place.at.english}"


def _fate(state: State, thing: int) -> str:
    """Say who has a thing, or where it lies."""
    where, _ = state.scene.things[thing]
    noun = state.things[thing].noun.english
    if where >= 0:
        return f"{state.people[where].name.english} has the {noun}"
    return f"the {noun} is {state.places[~where].at.english}"


def _not_with(state: State, a: int, b: int) -> str:
    """Say why two people cannot do something together."""
    if a == b:
        return f"{state.people[a].name.english} cannot do that alone"
    return f"{_at(state, a)}, but {_at(state, b)}"


_REASONS: dict[str, Callable[..., str]] = {
    "there is room": lambda state: "the story has as many things as it keeps track of",
    "_ leaves for _": lambda state, a, p: f"{_at(state, a)} already",
    "_ is away from _": lambda state, a, b: f"{_at(state, a)} already, and so is "
    + state.people[b].name.english,
    "_ is with _": _not_with,
    "_ has empty hands": lambda state, a: _fate(state, state.scene.held_by(a)[0]),
    "_ is far from shops": lambda state, a: f"{_at(state, a)}, where things are bought",
    "_ is in a shop": lambda state, a: f"{_at(state, a)}, where nothing is sold",
    "_ holds _": lambda state, a, t: f"{state.people[a].name.english} cannot do that: "
    + _fate(state, t),
    "_ sees _": lambda state, a, t: f"{_at(state, a)}, but {_fate(state, t)}",
    "_ is far from _": lambda state, a, t: f"{_fate(state, t)}, and {_at(state, a)}",
    "_ is food": lambda state, t: f"nobody can eat the {state.things[t].noun.english}",
    "_ is in hand": lambda state, t: _fate(state, t),
    "_ is on its own": lambda state, t: _fate(state, t),
    "_ has a color": lambda state, t: f"nobody knows the color of the "
    + state.things[t].noun.english,
}
"""What to say when a need is not met."""


def _untimely(state: State, kind: Kind, part: str) -> str:
    """Say what may come here instead."""
    expected = dict.fromkeys(_describe(row.group, row.marker) for _, row in state.branches)
    if not expected:
        return "the story was over"
    return f"{_describe(kind.group, part)} cannot come here, but {' or '.join(expected)} can"


def _describe(group: str, part: str) -> str:
    """Say in words what a branch is."""
    if part:
        return f"the first event of the {part}"
    return {
        "first": "the opening",
        "next": "somebody new",
        "event": "another event",
        "joy": "joy",
        "sorrow": "sorrow",
        "question": "the question",
        "answer": "the answer",
    }[group]


def _clock_after(state: State, group: str, part: str) -> Clock:
    """Say how far the story is after a sentence of a group, in its place or not."""
    clock = state.clock
    if group in {"question", "answer"}:
        return Clock(_ASKED if group == "question" else _OVER)
    if part:
        return Clock(PARTS.index(part), 1)
    if group != "event" or clock.part >= _ASKED:
        return clock
    return Clock(max(clock.part, 0), min(clock.done + 1, 2))


def _let_pass(
    state: State, part: str, wording: Wording, roles: tuple[int, ...], entries: tuple[Any, ...]
) -> State:
    """Say what is so after a sentence that is a contradiction: what it claims, as far as it can."""
    kind = wording.kind
    if state.clock.part == _OVER:
        return state
    clock = _clock_after(state, kind.group, part)
    actor = roles[0] if kind.group in {"event", "joy", "sorrow"} and roles else _NOBODY
    new, _ = _new(state.scene, kind, roles)
    choice = Choice(state.scene, kind, roles, new=new)
    says_name = bool(entries) and isinstance(entries[0], Name)
    branch = Branch(kind.group, clock, actor, part, says_name)
    return _follow(state, branch, choice, wording.number, entries)


# --- one word at a time ---------------------------------------------------------------------------


class _Strand(NamedTuple):
    """A way in which a sentence may go on: so likely, first these words, then what `more` gives."""

    mass: float
    ahead: tuple[str, ...]
    more: "Callable[[], Iterable[_Strand]] | None"


def _strands(state: State) -> Iterator[_Strand]:
    """Give all ways in which the next sentence may go."""
    for probability, branch in state.branches:
        if not branch.marker:
            yield from _sayings(state, branch, probability)
            continue
        markers = POOLS[branch.marker]
        for marker in markers:
            first, *rest = marker.english.split()
            ahead = (first.capitalize(), *rest, ",")
            more = partial(_sayings, state, branch)
            yield _Strand(probability / len(markers), ahead, more)


def _sayings(state: State, branch: Branch, mass: float = 1.0) -> Iterator[_Strand]:
    """Give all ways in which the next sentence may go on a branch."""
    for choice in state.options(branch).choices:
        each = mass * choice.probability / len(choice.saying.wordings)
        for wording in choice.saying.wordings:
            for strand in _pieces(state, branch, choice, wording, 0, 0):
                yield strand._replace(mass=strand.mass * each)


def _pieces(
    state: State, branch: Branch, choice: Choice, wording: Wording, piece: int, slot: int
) -> Iterator[_Strand]:
    """Give all ways in which a wording may go on from one of its pieces and slots."""
    ahead: list[str] = []
    is_first = piece == 0 and not branch.marker
    options, num_options = [()], 1
    while piece < len(wording.pieces):
        part = wording.pieces[piece]
        piece += 1
        if isinstance(part, str):
            ahead.append(part)
            continue
        fill = choice.saying.fills[wording.number][slot]
        slot += 1
        if fill.pool:
            used = state.used(_TYPE[part.role]) if part.role else []
            options = [part.english(row).split() for row in fill.pool if row not in used]
            break
        ahead += part.english(state.recall(part, choice, branch)).split()
    else:
        piece = -1
    more = partial(_pieces, state, branch, choice, wording, piece, slot) if piece >= 0 else None
    for option in options:
        words = [*ahead, *option]
        if is_first:
            words[0] = words[0][0].upper() + words[0][1:]
        yield _Strand(1 / len(options), tuple(words), more)


def _unroll(strands: Iterable[_Strand]) -> Iterator[_Strand]:
    """Follow each strand to where its next word is known."""
    for strand in strands:
        if strand.ahead or strand.more is None:
            yield strand
            continue
        for row in _unroll(strand.more()):
            yield row._replace(mass=strand.mass * row.mass)


def _advance(strands: list[_Strand], word: str) -> list[_Strand]:
    """Keep the strands that go on with a word, and go on."""
    kept = (row for row in strands if row.ahead and row.ahead[0] == word)
    return list(_unroll(row._replace(ahead=row.ahead[1:]) for row in kept))


def _mass(strands: Iterable[_Strand]) -> float:
    """Say how likely some strands are together."""
    return math.fsum(strand.mass for strand in strands)


# --- the town -------------------------------------------------------------------------------------


class Story:
    """A story, and all that is known of it.

    The text and its probability are there at once. The rest is worked out when it is asked for.
    """

    def __init__(self, steps: Iterable[_Step]) -> None:
        self._steps = tuple(steps)
        self.sentences = tuple([step.sentence for step in self._steps])

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
        before = [State(), *(step.state for step in self._steps)]
        return "".join(map(_translate, before, self._steps))

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """What is so in the end, in plain sentences."""
        state = self._steps[-1].state
        facts = []
        for index, person in enumerate(state.people):
            name = person.name.english
            facts += [f"{name} is a {person.job.english}.", f"{_at(state, index)}."]
            facts += [f"{name} feels {person.feeling.english}."]
        for index, thing in enumerate(state.things):
            fate = _fate(state, index)
            noun = f"The {thing.noun.english}"
            facts += [fate[0].upper() + fate[1:] + ".", f"{noun} is {thing.look.english}."]
            facts += [f"{thing.owner.english} had the {thing.noun.english} first."]
        return tuple(facts)

    @cached_property
    def summary(self) -> str:
        """One or two sentences on the person whom the story names first."""
        name = self._steps[0].state.people[0].name
        gained, lost, held = [], [], None
        for step in self._steps:
            state = step.state
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
        end = f"{_at(state, who)} and feels {person.feeling.english}."
        return f"The {person.job.english} {name.english} {told}. In the end {end}"

    @cached_property
    def sentiment(self) -> str:
        """Whether more people end up happy ("positive") or sad ("negative"), or neither."""
        feelings = [person.feeling for person in self._steps[-1].state.people]
        balance = sum((row in POOLS["joy"]) - (row in POOLS["sorrow"]) for row in feelings)
        return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"

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
            yield Story(_draw_steps(draw))

    def parse(self, text: str) -> tuple[Sentence, ...]:
        """Find the one way in which the town tells a story.

        Raises:
            ValueError: If the town cannot tell it; the message names the first fault.
        """
        steps = []
        for step in _steps_of(text):
            if isinstance(step, Fault):
                raise ValueError(
                    f"Littletown cannot tell this: sentence {step.index}, {step.sentence!r}: "
                    f"{step.reason}; world.faults(text) lists all that is wrong"
                )
            steps.append(step.sentence)
        return tuple(steps)

    def log_probability(self, text: str) -> float:
        """Say how likely the town is to tell just this story, in nats.

        It is minus infinity for a text that the town cannot tell, which is one with `faults`.
        """
        log_probabilities = []
        for step in _steps_of(text):
            if isinstance(step, Fault):
                return -math.inf
            log_probabilities.append(step.sentence.log_probability)
        return math.fsum(log_probabilities)

    def faults(self, text: str) -> list[Fault]:
        """List what is wrong with a text: the measure of how often a model makes things up.

        A sentence that contradicts the story is believed from there on as far as it can be, so that
        one slip counts once.
        """
        return [step for step in _steps_of(text) if isinstance(step, Fault)]

    def next_word_probabilities(self, prefix: str) -> dict[str, float]:
        """Say how likely each word is to come next.

        A word is what `words_of` makes of a text: letters and digits, or one punctuation mark. After
        the last sentence the next word is `END_OF_STORY`.

        Args:
            prefix: The beginning of a story, cut after any of its words; or nothing.

        Raises:
            ValueError: If no story begins so.

        >>> sorted(World().next_word_probabilities(""))
        ['Early', 'On', 'One']
        """
        *sentences, rest = [*_split(prefix.rstrip()), ""]
        if sentences and sentences[-1][-1] not in ".?":
            *sentences, rest = sentences
        state = _state_after(sentences)
        if state.clock.part == _OVER and not rest:
            return {END_OF_STORY: 1.0}
        strands = list(_unroll(_strands(state)))
        for index, word in enumerate(words_of(rest)):
            strands = _advance(strands, word)
            if not strands:
                raise ValueError(
                    f"no story of Littletown begins so: {word!r} cannot be word {index} of the "
                    f"sentence {rest.strip()!r}; cut the prefix before it"
                )
        if _join(words_of(rest)) != rest.strip() or (sentences and rest and rest[0] != " "):
            raise ValueError(
                f"{rest!r} is not spaced as the stories are; put one space between words, and "
                "none before a punctuation mark"
            )
        total = _mass(strands)
        probabilities: Counter[str] = Counter()
        for strand in strands:
            probabilities[strand.ahead[0]] += strand.mass / total
        return dict(probabilities)

    def word_log_probabilities(self, text: str) -> list[tuple[str, float]]:
        """Give each word of a story and how likely it is after those before it, in nats.

        The end of the story is certain and not listed; the sum is the story's log-probability.

        Raises:
            ValueError: If the town cannot tell the story.
        """
        self.parse(text)
        rows, state = [], State()
        for step in _steps_of(text):
            rows += _word_log_probabilities(state, step.sentence.text)
            state = step.state
        return rows

    def kinds(self, text: str) -> list[str]:
        """Say of each word of a story what it takes to predict it.

        "memory": the language would allow another word here, but the story's state decides: a name,
        a place, a thing, a color, an answer. "choice": the town is free to say something else.
        "grammar": there is nothing else to say, whatever happened.

        Raises:
            ValueError: If the town cannot tell the story.
        """
        self.parse(text)
        kinds, state = [], State()
        for step in _steps_of(text):
            log_probabilities = _word_log_probabilities(state, step.sentence.text)
            for is_recalled, (_, nats) in zip(_recalled(step), log_probabilities, strict=True):
                certain = nats > -1e-9
                kinds.append("memory" if is_recalled else "grammar" if certain else "choice")
            state = step.state
        return kinds

    def questions(self, text: str) -> list[tuple[str, str]]:
        """List all that could be asked at the end of a story's events, with the answers.

        Args:
            text: A story, with or without its question and answer.

        Raises:
            ValueError: If the town cannot tell it.
        """
        sentences = _split(text)
        if "?" in text:
            sentences = sentences[: next(i for i, row in enumerate(sentences) if row[-1] == "?")]
        state = _state_after(sentences)
        branch = Branch("question", Clock(_ASKED))
        pairs = []
        for choice in _options(state.scene, "question", _NOBODY).choices:
            asked = state._replace(asked=(choice.kind.name, choice.roles[0]))
            answer = _answer(state.scene, choice.kind.name, choice.roles[0]).choices[0]
            pairs.append((_say(state, choice, branch), _say(asked, answer, branch)))
        return pairs

    @cached_property
    def entropy(self) -> float:
        """How much there is to know in a story on average, in nats: the floor under every loss."""
        return _rest(Scene(), Focus(), Clock()).nats

    @cached_property
    def expected_words(self) -> float:
        """How many words and punctuation marks a story has on average, its end not counted."""
        return _rest(Scene(), Focus(), Clock()).words

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

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words and punctuation marks of the town's stories, sorted."""
        words: set[str] = set()
        markers = [row.english for part in PARTS[1:] for row in POOLS[part]]
        for wording in sum(_WORDINGS.values(), ()):
            for start in ["", *markers]:
                if start and wording.kind.group != "event":
                    continue
                for slot, piece in _openers(wording):
                    text = f"{start}, {piece}" if start else piece
                    words.update(words_of(text[0].upper() + text[1:]))
            for slot in wording.slots[1:]:
                words.update(*(row for row in _phrases(slot)[0]))
        return tuple(sorted(words))


class Encoder(Protocol):
    """Whatever turns a text into tokens."""

    def encode(self, text: str) -> list[int]:
        """Turn a text into tokens."""


def _steps_of(text: str) -> Iterator[Any]:
    """Read a text sentence by sentence: a step, or a fault, for each."""
    state, sentences = State(), _split(text)
    for index, sentence in enumerate(sentences):
        start = 1 if index and sentence[0] == " " else 0
        step = _read(state, sentence[start:])
        if isinstance(step, _Wrong):
            yield Fault(index, sentence.strip(), step.kind, step.reason)
        elif bool(index) != bool(start):
            yield Fault(index, sentence, "language", "a space is missing before it")
        else:
            yield step
        state = step.state
    if state.clock.part != _OVER:
        reason = "the story breaks off before its answer"
        yield Fault(len(sentences), "", "language", reason)


def _state_after(sentences: list[str]) -> State:
    """Read some whole sentences from the beginning of a story."""
    state = State()
    for index, sentence in enumerate(sentences):
        step = _read(state, sentence[bool(index) :])
        if isinstance(step, _Wrong) or (index and sentence[0] != " "):
            reason = step.reason if isinstance(step, _Wrong) else "a space is missing before it"
            raise ValueError(
                f"no story of Littletown begins so: sentence {index}, {sentence.strip()!r}: "
                f"{reason}; cut the prefix before it"
            )
        state = step.state
    return state


def _say(state: State, choice: Choice, branch: Branch) -> str:
    """Say a sentence without free slots."""
    wording = choice.saying.wordings[0]
    return _write(wording, None, [state.recall(slot, choice, branch) for slot in wording.slots])


def _word_log_probabilities(state: State, text: str) -> Iterator[tuple[str, float]]:
    """Give each word of a sentence and how likely it is after those before it."""
    strands = list(_unroll(_strands(state)))
    before = _mass(strands)
    for word in words_of(text):
        strands = _advance(strands, word)
        after = _mass(strands)
        yield word, math.log(after / before)
        before = after


def _recalled(step: _Step) -> Iterator[bool]:
    """Say of each word of a sentence whether the story decided it where others were possible."""
    sentence, choice, _, _ = step
    if sentence.marker is not None:
        yield from [False] * (len(words_of(sentence.marker.english)) + 1)
    fills = iter(zip(choice.saying.fills[sentence.wording], sentence.entries, strict=True))
    for piece in choice.saying.wordings[sentence.wording].pieces:
        if isinstance(piece, str):
            yield False
            continue
        fill, entry = next(fills)
        words = tuple(piece.english(entry).split())
        for index in range(len(words)):
            others = {row[index] for row in _phrases(piece)[0] if row[:index] == words[:index]}
            yield not fill.pool and len(others) > 1


def _join(words: list[str]) -> str:
    """Put words and punctuation marks together as a text has them."""
    return re.sub(r" ([.,?])", r"\1", " ".join(words))


def _check_count(name: str, value: int) -> None:
    """Refuse what is no count."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"{name} must be an integer, not the {type(value).__name__} {value!r}; convert it "
            "with int(...)"
        )
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}")
