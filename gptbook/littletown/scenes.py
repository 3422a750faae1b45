"""Scenes: the state of a story but for its words, what may be said in it, and how likely."""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from gptbook.littletown.kinds import KINDS, Kind
from gptbook.littletown.wordings import DRAWN, TYPE, WORDINGS, Slot, Wording, words_of
from gptbook.littletown.words import FOOD, LOOKS, NAMES, POOLS

SECOND_EVENT = 3 / 4
"""How likely a part of the day has two events, not one."""
REACTION = 3 / 5
"""How likely it is said how somebody feels about the first event of a part."""
SAME_SUBJECT = 2.0
"""How much likelier the person of the last sentence acts again, beside anybody else."""
WEATHER = 0.2
"""How likely the weather turns, beside anybody's acting."""

PARTS = ("morning", "afternoon", "evening")

NOBODY = -1
OPENING, ASKED, OVER = -1, 3, 4
KIND = {kind.name: kind for kind in KINDS}


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
        """Count how many words of a pool nobody and nothing new may have: see `State.taken`."""
        if type_ == "person":
            return len(self.people) * len(NAMES) // 2
        if type_ == "place":
            return self.shops.count(bool(number))
        return sum(category == number for _, category in self.things)


TESTS: dict[str, Callable[..., bool]] = {
    "_ meets _": lambda scene, a, b: a != b,
    "_ is one of a kind": lambda scene, t: all(category != ~t for _, category in scene.things),
    "_ has empty hands": lambda scene, a: not scene.held_by(a),
    "_ is far from shops": lambda scene, a: not scene.shops[scene.people[a]],
    "_ is in a shop": lambda scene, a: scene.shops[scene.people[a]],
    "_ holds _": lambda scene, a, t: scene.things[t][0] == a,
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
        new = [~number for number in range(len(DRAWN[TYPE[letter]]))] if is_new else []
        ready = [(verb, cast) for verb, cast in needs if max(cast, default=0) == place]
        yield _Role(TYPE[letter], letter not in kind.new, new, ready)


ROLES = {kind.name: tuple(_parse_roles(kind)) for kind in KINDS}


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
        self.wordings = WORDINGS[kind]
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
            pool = DRAWN[TYPE[slot.role]][number]
            # A faulty story that is read on may have used up a whole pool.
            return Fill(slot, pool, max(len(pool) - num_used, 1))
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
        letter = kind.cheers or kind.saddens
        if not kind.moves:
            people, places, things = _unmoved(self.scene)
            actor, stirred = self.cast.get("A", NOBODY), self.cast.get(letter, NOBODY)
            return After(self.scene, people, places, things, actor, stirred)
        draft = _Draft(self.scene, kind, self.roles)
        for move in kind.moves:
            draft.move(*move.split())
        return draft.settle(draft.cast.get("A", NOBODY), draft.cast.get(letter, NOBODY))


@cache
def _unmoved(scene: Scene) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Give the numbers of all people, places and things, as they are."""
    people, places, things = len(scene.people), len(scene.shops), len(scene.things)
    return tuple(range(people)), tuple(range(places)), tuple(range(things))


class _Draft:
    """A scene while a sentence changes it."""

    def __init__(self, scene: Scene, kind: Kind, roles: tuple[int, ...]) -> None:
        self.people, self.shops = list(scene.people), list(scene.shops)
        self.things = dict(enumerate(scene.things))
        self.cast: dict[str, int] = {}
        for letter, role in zip(kind.roles, roles, strict=True):
            self.cast[letter] = role if role >= 0 else self.enter(TYPE[letter], ~role)

    def enter(self, type_: str, number: int) -> int:
        """Let somebody or something new into the scene."""
        if type_ == "person":
            self.people.append(NOBODY)
            return len(self.people) - 1
        if type_ == "place":
            self.shops.append(bool(number))
            return len(self.shops) - 1
        self.things[len(self.things)] = (NOBODY, number)
        return len(self.things) - 1

    def move(self, who: str, *how: str) -> None:
        """Change what one move of a kind says."""
        if TYPE.get(who) == "person":
            self.people[self.cast[who]] = self.place(how[-1])
        elif TYPE.get(who) == "thing":
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
        if TYPE[letter] == "place":
            return index
        if TYPE[letter] == "thing" and (index := self.things[index][0]) < 0:
            return ~index
        return self.people[index]

    def settle(self, actor: int, stirred: int) -> After:
        """Number everybody and everything anew, so that scenes that are alike become one."""
        load = dict.fromkeys([*range(len(self.people)), *(~place for place in self.people)], 0)
        for where, category in self.things.values():
            load[where] = load.get(where, 0) + 4**category  # tells who or what has which things
        rank = {
            ~where: (-self.people.count(~where), self.shops[~where], weight, ~where)
            for where, weight in load.items()
            if where < 0
        }
        people = [(rank[place], load[who], who) for who, place in enumerate(self.people)]
        people_order = [who for _, _, who in sorted(people)]
        inhabited = dict.fromkeys(self.people[who] for who in people_order)
        places = [*inhabited, *sorted(rank.keys() - inhabited.keys(), key=rank.__getitem__)]
        number = {who: new for new, who in enumerate(people_order)}
        number |= {~place: ~new for new, place in enumerate(places)}
        moved = {old: (number[where], kind) for old, (where, kind) in self.things.items()}
        things = sorted(moved, key=moved.__getitem__)
        scene = Scene(
            tuple([~number[~self.people[who]] for who in people_order]),
            tuple([self.shops[place] for place in places]),
            tuple([moved[old] for old in things]),
        )
        actor, stirred = (number[who] if who >= 0 else who for who in (actor, stirred))
        return After(scene, tuple(people_order), tuple(places), tuple(things), actor, stirred)


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
def options_in(scene: Scene, group: str, actor: int) -> Options:
    """Give all that a group of kinds has somebody do, or nobody in particular.

    The kinds that are possible share the probability by their weights, and the ways to play a
    kind's roles by the number of words that could stand for its new ones: each word is as likely.
    """
    ways: list[tuple[Kind, list[Any]]] = []
    for kind in _GROUPS[group]:
        if group != "event" or bool(kind.roles) == (actor != NOBODY):
            rows = [(roles, *new_roles(scene, kind, roles)) for roles in _ways(scene, kind, actor)]
            ways.append((kind, [row for row in rows if row[2]]))
    total = sum(kind.weight for kind, rows in ways if rows)
    choices = []
    for kind, rows in ways:
        each = kind.weight / total / (sum(num for _, _, num in rows) or 1)
        choices += [Choice(scene, kind, roles, each * num, new) for roles, new, num in rows]
    return Options(choices)


@cache
def answer_to(scene: Scene, question: str, role: int) -> Options:
    """Give the one answer to a question."""
    kinds = [KIND[name] for name in KIND[question].answers]
    return Options([
        Choice(scene, kind, (role,)) for kind in kinds if (role,) in _ways(scene, kind, role)
    ])


def _ways(scene: Scene, kind: Kind, actor: int) -> list[tuple[int, ...]]:
    """Give all ways to play a kind's roles that its needs allow, the first by a given actor."""
    num_old = {"person": len(scene.people), "place": len(scene.shops), "thing": len(scene.things)}
    ways: list[tuple[int, ...]] = [()]
    for role in ROLES[kind.name]:
        old = range(num_old[role.type]) if role.has_old else ()
        players = [actor] if actor != NOBODY and ways == [()] else [*old, *role.new]
        ways = [(*roles, player) for roles in ways for player in players]
        for verb, cast in role.needs:
            test = TESTS[verb]
            ways = [roles for roles in ways if test(scene, *[roles[place] for place in cast])]
    return ways


def new_roles(
    scene: Scene, kind: Kind, roles: tuple[int, ...]
) -> tuple[tuple[tuple[str, int, int], ...], int]:
    """List the new ones among the roles, and say how many words could stand for them."""
    new, num_words = [], 1
    for letter, role in zip(kind.roles, roles, strict=True):
        if role < 0:
            num_used = scene.num_used(TYPE[letter], ~role)
            new.append((letter, ~role, num_used))
            num_words *= len(DRAWN[TYPE[letter]][~role]) - num_used
    return tuple(new), num_words


# --- the clock: when which group of sentences comes -----------------------------------------------


class Clock(NamedTuple):
    """How far a story is: the part of the day, and how many of its events have been told."""

    part: int = OPENING
    done: int = 0


class Focus(NamedTuple):
    """What the last sentence leaves in mind."""

    subject: int = NOBODY
    """Whom it called by name; the next sentence will say she or he."""
    stirred: int = NOBODY
    """Who may be happy or sad about it."""
    feeling: str = ""
    """Which of the two: "joy" or "sorrow"."""


class Branch(NamedTuple):
    """One way to go on: a group of sentences, an actor or nobody, a marker of time or none."""

    group: str
    clock: Clock
    actor: int = NOBODY
    marker: str = ""
    says_name: bool = True


Branches = tuple[tuple[float, Branch], ...]


@cache
def ways_on(num_people: int, focus: Focus, clock: Clock) -> Branches:
    """Give all ways to go on: who else is there, then three parts of a day, then a question."""
    if clock.part == OVER:
        return ()
    if clock.part == ASKED:
        return ((1.0, Branch("answer", Clock(OVER))),)
    if clock.part == OPENING:
        if num_people < 2:
            return ((1.0, Branch("next" if num_people else "first", clock)),)
        return _events(num_people, focus, 1.0, Clock(0, 1))
    branches: Branches = ()
    left = 1.0
    if clock.done == 1:
        if focus.stirred != NOBODY:
            says_name = focus.stirred != focus.subject
            branch = Branch(focus.feeling, clock, focus.stirred, says_name=says_name)
            branches, left = ((REACTION, branch),), 1 - REACTION
        branches += _events(num_people, focus, left * SECOND_EVENT, Clock(clock.part, 2))
        left *= 1 - SECOND_EVENT
    if clock.part + 1 == len(PARTS):
        return (*branches, (left, Branch("question", Clock(ASKED))))
    part = clock.part + 1
    return branches + _events(num_people, Focus(), left, Clock(part, 1), PARTS[part])


def _events(
    num_people: int, focus: Focus, probability: float, clock: Clock, marker: str = ""
) -> Branches:
    """Share the probability of an event among all who may act, and the weather."""
    weights = {NOBODY: WEATHER} | dict.fromkeys(range(num_people), 1.0)
    if focus.subject != NOBODY:
        weights[focus.subject] = SAME_SUBJECT
    total = sum(weights.values())
    return tuple(
        (
            probability * weight / total,
            Branch("event", clock, who, marker, who == NOBODY or who != focus.subject),
        )
        for who, weight in weights.items()
    )


def focus_after(choice: Choice, branch: Branch) -> Focus:
    """Say what a sentence leaves in mind."""
    if branch.actor == NOBODY:
        return Focus()
    subject = choice.after.actor if branch.says_name else NOBODY
    if choice.after.stirred == NOBODY:
        return Focus(subject)
    return Focus(subject, choice.after.stirred, "joy" if choice.kind.cheers else "sorrow")


# --- how much there is to know --------------------------------------------------------------------


class Average(NamedTuple):
    """What a text holds on average."""

    nats: float
    words: float


@cache
def average_rest(scene: Scene, focus: Focus, clock: Clock) -> Average:
    """Average over all that may follow, scene by scene: the entropy in closed form."""
    nats = words = 0.0
    for probability, branch in ways_on(len(scene.people), focus, clock):
        rest = _rest_on(scene, branch)
        nats += probability * (rest.nats - math.log(probability))
        words += probability * rest.words
    return Average(nats, words)


@cache
def _rest_on(scene: Scene, branch: Branch) -> Average:
    """Average over all that may follow on a branch."""
    nats = words = 0.0
    for choice in options_in(scene, branch.group, branch.actor).choices:
        if branch.group == "question":
            answer = answer_to(scene, choice.kind.name, choice.roles[0]).choices[0]
            rest = Average(0.0, answer.saying.num_words)
        else:
            focus = focus_after(choice, branch) if branch.clock.done == 1 else Focus()
            rest = average_rest(choice.after.scene, focus, branch.clock)
        own = choice.saying.nats - math.log(choice.probability)
        nats += choice.probability * (own + rest.nats)
        words += choice.probability * (choice.saying.num_words + rest.words)
    if branch.marker:
        markers = POOLS[branch.marker]
        nats += math.log(len(markers))
        words += 1 + sum(len(words_of(marker.english)) for marker in markers) / len(markers)
    return Average(nats, words)
