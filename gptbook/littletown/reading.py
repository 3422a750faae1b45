"""Reading: the one way in which the town says something, or what is wrong with it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gptbook.littletown.kinds import Kind
from gptbook.littletown.scenes import (
    ASKED,
    KIND,
    NOBODY,
    OVER,
    PARTS,
    ROLES,
    TESTS,
    Branch,
    Choice,
    Clock,
    Focus,
    new_roles,
)
from gptbook.littletown.stories import ACTOR, Sentence, State, follow, say, write
from gptbook.littletown.wordings import DRAWN, TYPE, Slot, Wording, recognize, words_of
from gptbook.littletown.words import FOOD, NAMES, PLACES, POOLS, Name, Word

_DANGLING, _UNASKED = "nobody was just named", "nothing was asked"
_NOT_ASKED = "that is not what was asked"


@dataclass(frozen=True)
class Fault:
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


class Wrong(NamedTuple):
    """What is wrong with a sentence, and what is so after it if it is let pass."""

    kind: str
    reason: str
    state: State


def reread(text: str) -> Iterator[Sentence | Fault]:
    """Read a text sentence by sentence; where that fails, give the fault, and go on.

    What follows from an earlier fault is passed over: a contradiction for the same reason, or a
    pronoun for somebody whom a faulty sentence named, or an answer to a faulty question.
    """
    state, was_wrong = State(), False
    reasons: set[str] = set()
    spaced = split_sentences(text)
    for index, row in enumerate(spaced):
        sentence = row.removeprefix(" ") if index else row
        read = read_sentence(state, sentence)
        if isinstance(read, Wrong):
            state = read.state
            again = read.kind == "contradiction" and read.reason in reasons
            if not again and not (was_wrong and read.reason.startswith((_DANGLING, _UNASKED))):
                reasons.add(read.reason)
                yield Fault(index, sentence, read.kind, read.reason)
        else:
            state = follow(state, read)
            if index and row == sentence:
                yield Fault(index, sentence, "language", "no space stands before it")
            else:
                yield read
        was_wrong = isinstance(read, Wrong)
    if state.clock.part != OVER:
        yield Fault(len(spaced), "", "language", "the story breaks off before its answer")


def state_after(sentences: list[str]) -> State:
    """Read some whole sentences from the beginning of a story.

    Raises:
        ValueError: If no story begins so.
    """
    state = State()
    for index, row in enumerate(sentences):
        sentence = row.removeprefix(" ") if index else row
        read = read_sentence(state, sentence)
        if isinstance(read, Sentence) and not (index and row == sentence):
            state = follow(state, read)
            continue
        reason = read.reason if isinstance(read, Wrong) else "no space stands before it"
        raise ValueError(
            f"no story of Littletown begins so: sentence {index}, {sentence!r}: {reason}; cut the "
            "text before it"
        )
    return state


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, of which all but the first begin with the space before them."""
    return re.findall(r"[^.?]*[.?]|[^.?]+$", text)


def read_sentence(state: State, text: str) -> Sentence | Wrong:
    """Find the one way in which the program says this here, or say why there is none."""
    parsed = _parse(text)
    if parsed is None:
        clock = _clock_after(state.clock, "question" if text.endswith("?") else "event", "")
        lost = state._replace(clock=clock, focus=Focus(), asked=None)
        return Wrong("language", "the town has no such sentence", lost)
    part, marker, wording, entries = parsed
    group = wording.kind.group
    roles, reason = _cast(state, wording, entries)
    if roles is None:
        lost = state._replace(clock=_clock_after(state.clock, group, part), focus=Focus())
        return Wrong("contradiction", reason, lost)
    actor = roles[0] if group in {"event", "joy", "sorrow"} and roles else NOBODY
    believed, reason = state, _untimely(state, group, part)
    for probability, branch in state.branches:
        if (branch.group, branch.marker, branch.actor) == (group, part, actor):
            choice = state.options(branch).by_roles.get((wording.kind.name, roles))
            if choice is None:
                reason = _unmet_need(state, wording.kind, roles)
                break
            believed, reason = _compare(state, choice, branch, wording.number, entries)
            if not reason:
                return say(branch, probability, choice, wording.number, marker, entries)
            break
    return Wrong("contradiction", reason, _let_pass(believed, part, wording, roles, entries))


_MARKERS = {
    tuple(marker.english.split()): (part, marker) for part in PARTS[1:] for marker in POOLS[part]
}
_NAMES = {name.english for name in NAMES}


def _parse(text: str) -> tuple[str, Word | None, Wording, tuple[Any, ...]] | None:
    """Read a sentence as one of the language, whatever the story."""
    words = words_of(text)
    if not words:
        return None
    if words[0] not in _NAMES:
        words[0] = words[0].lower()
    comma = words.index(",") if "," in words else 0
    part, marker = _MARKERS.get(tuple(words[:comma]), ("", None))
    found = recognize(words[comma + 1 :] if marker else words)
    if found is None or write(found[0], marker, found[1]) != text:
        return None
    return part, marker, *found


def _cast(
    state: State, wording: Wording, entries: tuple[Any, ...]
) -> tuple[tuple[int, ...] | None, str]:
    """Say who plays the roles of a sentence, or who is missing."""
    kind, roles = wording.kind, []
    said = dict(zip(wording.slots, entries, strict=True))
    for letter in kind.roles:
        entry = said.get(Slot("", letter), said.get(Slot("at", "P")) if letter == "P" else None)
        used = state.used(TYPE[letter])
        if entry is None:  # only an answer leaves out whom it is about
            if state.asked is None:
                return None, _UNASKED
            question, index = state.asked
            if TYPE[letter] != TYPE[KIND[question].roles[0]]:
                return None, _NOT_ASKED
            roles.append(index)
        elif isinstance(entry, Word):
            if state.focus.subject == NOBODY:
                return None, f"{_DANGLING} whom {entry.english!r} could mean"
            roles.append(state.focus.subject)
        elif entry in used and letter in kind.new:
            return None, f"{_the(entry)} is in the story already"
        elif entry in used:
            roles.append(used.index(entry))
        elif letter in kind.new or letter in kind.any:
            pools = DRAWN[TYPE[letter]]
            roles.append(next(~number for number, pool in enumerate(pools) if entry in pool))
        else:
            return None, f"there is no {entry.english} in the story"
    return tuple(roles), ""


def _the(entry: Any) -> str:
    """Name a person, a place or a thing."""
    return f"{entry.english}" if isinstance(entry, Name) else f"the {entry.english}"


# --- what is wrong --------------------------------------------------------------------------------


def _untimely(state: State, group: str, part: str) -> str:
    """Say what may come here instead of what came."""
    expected = dict.fromkeys(_describe(row.group, row.marker) for _, row in state.branches)
    if not expected:
        return "the story was over"
    return f"{_describe(group, part)} cannot come here, but {' or '.join(expected)} can"


def _describe(group: str, part: str) -> str:
    """Name a group of sentences."""
    if part:
        return f"the first event of the {part}"
    names = {"first": "the opening", "next": "somebody new", "event": "another event"}
    names |= {"question": "the question", "answer": "the answer"}
    return names.get(group, f"{group} about what happened")


def _unmet_need(state: State, kind: Kind, roles: tuple[int, ...]) -> str:
    """Say which need of a kind is not met."""
    for role in ROLES[kind.name]:
        for verb, places in role.needs:
            cast = [roles[place] for place in places]
            if not TESTS[verb](state.scene, *cast):
                reason = _REASONS[verb](state, *cast)
                if kind.group != "event":
                    return reason
                return f"{state.people[roles[0]].name.english} cannot {kind.name} now: {reason}"
    return _NOT_ASKED if kind.group == "answer" else "that cannot happen here"


def whereabouts(state: State, person: int) -> str:
    """Say where a person is."""
    place = state.places[state.scene.people[person]]
    return f"{state.people[person].name.english} is {place.at.english}"


def fate(state: State, thing: int) -> str:
    """Say who has a thing, or where it lies."""
    where, _ = state.scene.things[thing]
    noun = state.things[thing].noun.english
    if where >= 0:
        return f"{state.people[where].name.english} has the {noun}"
    return f"the {noun} is {state.places[~where].at.english}"


def _another(state: State, category: int) -> str:
    """Say why nothing more of a category may come."""
    categories = [category for _, category in state.scene.things]
    told = fate(state, categories.index(category))
    purpose = "eat" if category == FOOD else "own"
    return f"{told}, and a story has one thing to {purpose} at a time"


_REASONS: dict[str, Callable[..., str]] = {
    "_ meets _": lambda state, a, b: "that takes somebody else",
    "_ is one of a kind": lambda state, t: _another(state, ~t),
    "_ has empty hands": lambda state, a: fate(state, state.scene.held_by(a)[0]),
    "_ is far from shops": lambda state, a: f"{whereabouts(state, a)}, where things are bought",
    "_ is in a shop": lambda state, a: f"{whereabouts(state, a)}, where nothing is sold",
    "_ holds _": lambda state, a, t: fate(state, t),
    "_ is food": lambda state, t: f"the {state.things[t].noun.english} is no food",
    "_ is in hand": fate,
    "_ is on its own": fate,
    "_ has a color": lambda state, t: f"the {state.things[t].noun.english} is food",
}
"""What to say when a need is not met."""


def _compare(
    state: State, choice: Choice, branch: Branch, number: int, entries: tuple[Any, ...]
) -> tuple[State, str]:
    """Say which slot is filled otherwise than the story has it, and what is so if believed."""
    for (slot, pool, _), entry in zip(choice.saying.fills[number], entries, strict=True):
        if pool and entry not in pool:
            return state, f"nothing of its kind is called {entry.english}"
        if pool and slot.role and entry in state.taken(TYPE[slot.role]):
            return state, f"somebody in the story is called {entry.pronoun!r} already"
        if pool or (known := state.recall(slot, choice, branch)) == entry:
            continue
        wrong, right = slot.english(entry), slot.english(known)
        if slot.attribute == "turn":
            why = "it was raining already" if state.is_raining else "it was not raining"
            return state._replace(is_raining=not state.is_raining), why
        if slot == ACTOR:
            return state, f"here the town says {right!r}, not {wrong!r}"
        index = choice.cast[slot.role]
        who = _the(state.used(TYPE[slot.role])[index])
        pattern = {
            "job": "{who} is a {right}, not a {wrong}",
            "feeling": "{who} feels {right}, not {wrong}",
            "holder": "{right} has {who}, not {wrong}",
            "owner": "{right} had {who} first, not {wrong}",
            "she": "the town calls {who} {right!r}, not {wrong!r}",
        }.get(slot.attribute, "{who} is {right}, not {wrong}")
        reason = pattern.format(who=who, right=right, wrong=wrong)
        return _believe(state, slot, index, entry), reason
    return state, ""


# --- and how the story goes on --------------------------------------------------------------------


def _believe(state: State, slot: Slot, index: int, entry: Any) -> State:
    """Take for true what a sentence says of somebody or something."""
    if slot.attribute in {"job", "feeling"}:
        people = list(state.people)
        people[index] = people[index]._replace(**{slot.attribute: entry})
        return state._replace(people=tuple(people))
    if slot.attribute == "look":
        rows = list(state.things)
        rows[index] = rows[index]._replace(look=entry)
        return state._replace(things=tuple(rows))
    if slot.attribute != "at":
        return state
    scene = state.scene
    if entry not in state.places:
        state = state._replace(places=(*state.places, entry))
        scene = scene._replace(shops=(*scene.shops, entry in PLACES[1]))
    place = state.places.index(entry)
    if TYPE[slot.role] == "person":
        where = list(scene.people)
        where[index] = place
        return state._replace(scene=scene._replace(people=tuple(where)))
    things = list(scene.things)
    things[index] = (~place, things[index][1])
    return state._replace(scene=scene._replace(things=tuple(things)))


def _clock_after(clock: Clock, group: str, part: str) -> Clock:
    """Say how far the story is after a sentence of a group, in its place or not."""
    if group in {"question", "answer"}:
        return Clock(ASKED if group == "question" else OVER)
    if part:
        return Clock(PARTS.index(part), 1)
    if group != "event" or clock.part >= ASKED:
        return clock
    return Clock(max(clock.part, 0), min(clock.done + 1, 2))


def _let_pass(
    state: State, part: str, wording: Wording, roles: tuple[int, ...], entries: tuple[Any, ...]
) -> State:
    """Say what is so after a contradiction: what it claims."""
    kind = wording.kind
    if state.clock.part == OVER:
        return state
    actor = roles[0] if kind.group in {"event", "joy", "sorrow"} and roles else NOBODY
    says_name = bool(entries) and isinstance(entries[0], Name)
    branch = Branch(kind.group, _clock_after(state.clock, kind.group, part), actor, part, says_name)
    new, _ = new_roles(state.scene, kind, roles)
    choice = Choice(state.scene, kind, roles, new=new)
    return follow(state, Sentence("", 0.0, branch, choice, wording.number, None, entries))
