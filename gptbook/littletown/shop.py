"""The shop of Littletown: talks of a customer and a shopkeeper, of exactly known probability.

A small program of its own, told by one function: `_turns` lists all that may be said next, and how
likely each is. Drawing, scoring and finding faults all ask it. The first line of a talk says what
is on the shelf; whatever the shopkeeper says later must agree with it.
"""

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from gptbook.littletown.words import POOLS, THINGS

SHELF = 3
"""How many things are on the shelf."""
MOST_ASKED = 3
"""How often a customer asks at the most."""
IN_STOCK = 2 / 3
"""How likely a customer asks for something that is there, if anything is."""
BUYS = 2 / 3
"""How likely a customer pays the price."""
ASKS_AGAIN = 1 / 2
"""How likely a customer asks for something else."""

NOUNS = tuple(noun.english for noun in THINGS[0] + THINGS[1])
"""All that may be asked for."""
_PRICES = tuple(price.english for price in POOLS["price"])
_GREETINGS = ("Good morning.", "Good day.", "Hello.")
_FAREWELLS = ("Goodbye.", "Have a nice day.")
SHOPKEEPER, CUSTOMER = "Shopkeeper: ", "Customer: "
"""What stands before a line."""


class _Talk(NamedTuple):
    """How far a talk is: who speaks of what, what is left on the shelf, how often was asked."""

    stage: str
    stock: dict[str, str]
    item: str = ""
    num_asked: int = 0


class _Turn(NamedTuple):
    """Something that may be said next."""

    probability: float
    line: str
    after: _Talk


class Dialogue(NamedTuple):
    """A talk in the shop.

    Attributes:
        text: One line for the shelf, and one for each turn.
        log_probability: How likely just this talk is, in nats.
        answerable: What was on the shelf, and for how many coins: all that can be asked about.
    """

    text: str
    log_probability: float
    answerable: dict[str, str]


@dataclass(frozen=True)
class DialogueFault:
    """A line that cannot stand where it does, counted from 0 at the shelf, and what could."""

    index: int
    line: str
    reason: str


def draw_dialogue(draw: Callable[[], float]) -> Dialogue:
    """Draw a talk, with numbers drawn uniformly from 0 to 1."""
    stock = _draw_stock(draw)
    lines, talk = [_shelf(stock)], _Talk("greeting", stock)
    log_probability = _log_probability_of_shelf()
    while talk.stage != "over":
        turn = _draw_turn(_turns(talk), draw)
        lines.append(turn.line)
        log_probability += math.log(turn.probability)
        talk = turn.after
    return Dialogue("\n".join(lines), log_probability, stock)


def visit(draw: Callable[[], float]) -> Generator[list[str], str, list[str]]:
    """Let a customer talk with a shopkeeper who is not of the town, such as a model.

    It yields all lines so far whenever the shopkeeper is to speak, takes what is said by `send`,
    without "Shopkeeper: ", and returns the lines of the talk. The talk ends with the first line of
    the shopkeeper's that is wrong.

    Args:
        draw: Gives numbers drawn uniformly from 0 to 1, which decide what the customer says.
    """
    stock = _draw_stock(draw)
    lines, talk = [_shelf(stock)], _Talk("greeting", stock)
    while talk.stage != "over":
        turns = list(_turns(talk))
        if turns[0].line.startswith(SHOPKEEPER):
            said = yield list(lines)
            lines.append(SHOPKEEPER + said)
            meant = [turn for turn in turns if turn.line == lines[-1]]
            if not meant:
                break
            talk = meant[0].after
        else:
            turn = _draw_turn(turns, draw)
            lines.append(turn.line)
            talk = turn.after
    return lines


def dialogue_log_probability(text: str) -> float:
    """Say how likely a talk is, in nats; minus infinity if it could not have been drawn."""
    read = list(_read(text))
    if any(isinstance(row, DialogueFault) for row in read):
        return -math.inf
    turns = [row for row in read if isinstance(row, _Turn)]
    return _log_probability_of_shelf() + sum(math.log(turn.probability) for turn in turns)


def dialogue_faults(text: str) -> list[DialogueFault]:
    """List what is wrong with a talk, such as a price that is not the one on the shelf."""
    return [row for row in _read(text) if isinstance(row, DialogueFault)]


def _draw_stock(draw: Callable[[], float]) -> dict[str, str]:
    """Draw what is on the shelf, and for how many coins."""
    stock: dict[str, str] = {}
    while len(stock) < SHELF:
        stock.setdefault(NOUNS[int(draw() * len(NOUNS))], _PRICES[int(draw() * len(_PRICES))])
    return stock


def _draw_turn(turns: Iterable[_Turn], draw: Callable[[], float]) -> _Turn:
    """Draw one of the turns that may come next."""
    left = draw()
    for turn in turns:
        left -= turn.probability
        if left < 0:
            break
    return turn


def _read(text: str) -> Iterator[_Turn | DialogueFault]:
    """Read a talk line by line; after a fault, go on with what is most like the line."""
    shelf, *lines = text.split("\n")
    rows = re.findall(r"(\w+) for (\w+) coins", shelf)
    stock = {noun: price for noun, price in rows if noun in NOUNS and price in _PRICES}
    if len(stock) != SHELF or shelf != _shelf(stock):
        yield DialogueFault(0, shelf, f"a talk begins with a shelf of {SHELF} things and prices")
        return
    talk = _Talk("greeting", stock)
    for index, line in enumerate(lines, 1):
        turns = list(_turns(talk))
        if not turns:
            yield DialogueFault(index, line, "the talk was over")
            return
        found = next((turn for turn in turns if turn.line == line), None)
        if found is None:
            found = max(turns, key=lambda turn: SequenceMatcher(None, turn.line, line).ratio())
            yield DialogueFault(index, line, f"it could be {found.line!r}")
        else:
            yield found
        talk = found.after
    if talk.stage != "over":
        yield DialogueFault(len(lines) + 1, "", "the talk breaks off")


def _turns(talk: _Talk) -> Iterator[_Turn]:
    """List all that may be said next."""
    stage, stock, item, num_asked = talk
    if stage == "greeting":
        for greeting in _GREETINGS:
            after = talk._replace(stage="welcome")
            yield _Turn(1 / len(_GREETINGS), f"Customer: {greeting}", after)
    elif stage == "welcome":
        line = "Shopkeeper: Hello. What would you like?"
        yield _Turn(1.0, line, talk._replace(stage="asking"))
    elif stage == "asking":
        there = IN_STOCK if stock else 0.0
        for noun in NOUNS:
            num_absent = len(NOUNS) - len(stock)
            probability = there / len(stock) if noun in stock else (1 - there) / num_absent
            after = _Talk("price", stock, noun, num_asked + 1)
            for line in (_ask(noun), f"Customer: How much is the {noun}?"):
                yield _Turn(probability / 2, line, after)
    elif stage == "price" and item in stock:
        line = f"Shopkeeper: I have {_a(item)} for {stock[item]} coins."
        yield _Turn(1.0, line, talk._replace(stage="deciding"))
    elif stage == "price":
        yield _Turn(1.0, f"Shopkeeper: I am sorry, there is no {item}.", _on(talk))
    elif stage == "deciding":
        line = f"Customer: I will take it. Here are {stock[item]} coins."
        yield _Turn(BUYS, line, talk._replace(stage="thanks"))
        yield _Turn(1 - BUYS, "Customer: That is too much for me.", _on(talk))
    elif stage == "thanks":
        left = {noun: price for noun, price in stock.items() if noun != item}
        line = f"Shopkeeper: Thank you. Here is your {item}."
        yield _Turn(1.0, line, _on(talk._replace(stock=left)))
    elif stage == "again":
        for turn in _turns(talk._replace(stage="asking")):
            yield turn._replace(probability=turn.probability * ASKS_AGAIN)
        for turn in _turns(talk._replace(stage="leaving")):
            yield turn._replace(probability=turn.probability * (1 - ASKS_AGAIN))
    elif stage == "leaving":
        for farewell in _FAREWELLS:
            after = talk._replace(stage="farewell")
            yield _Turn(1 / len(_FAREWELLS), f"Customer: {farewell}", after)
    elif stage == "farewell":
        yield _Turn(1.0, "Shopkeeper: Goodbye.", talk._replace(stage="over"))


def _on(talk: _Talk) -> _Talk:
    """Let the customer ask again, or leave when it has been often enough."""
    return talk._replace(stage="again" if talk.num_asked < MOST_ASKED else "leaving", item="")


def _ask(noun: str) -> str:
    """Ask whether there is something."""
    return f"Customer: Do you have {_a(noun)}?"


def _a(noun: str) -> str:
    """Put an article before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _shelf(stock: dict[str, str]) -> str:
    """Write the first line."""
    return (
        f"On the shelf: {', '.join(f'{noun} for {price} coins' for noun, price in stock.items())}."
    )


def _log_probability_of_shelf() -> float:
    """Say how likely each shelf is, in nats."""
    return -math.log(math.perm(len(NOUNS), SHELF) * len(_PRICES) ** SHELF)
