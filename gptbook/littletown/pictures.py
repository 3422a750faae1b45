"""Pictures of Littletown: drawn by a program, so that what is right to say of each is known.

There are two kinds. `Shapes` are sheets with colored forms, one to three of a kind on one side of a
line or on both. A `Scene` is a moment of the town: somebody shows somebody a thing somewhere. Its
caption and its questions are sentences of the town's stories.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

SIZE, CELL = 64, 16
"""How many pixels wide and high a picture is, and one of its cells, of which it has four a row."""

Color = tuple[float, float, float]

COLORS: dict[str, Color] = {
    "red": (0.86, 0.12, 0.12),
    "blue": (0.15, 0.30, 0.90),
    "green": (0.10, 0.62, 0.20),
    "yellow": (0.98, 0.88, 0.10),
    "black": (0.15, 0.15, 0.15),
    "purple": (0.52, 0.15, 0.68),
    "orange": (0.98, 0.50, 0.05),
    "pink": (1.00, 0.62, 0.80),
}

FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda x, y: torch.hypot(x, y) - 0.95,
    "square": lambda x, y: torch.maximum(x.abs(), y.abs()) - 0.85,
    "triangle": lambda x, y: torch.maximum(0.87 * x.abs() - 0.45 * y - 0.45, y - 0.85),
    "diamond": lambda x, y: 0.7 * (x.abs() + y.abs() - 1.05),
    "ring": lambda x, y: (torch.hypot(x, y) - 0.75).abs() - 0.2,
    "cross": lambda x, y: torch.maximum(
        torch.maximum(x.abs(), y.abs()) - 0.95, torch.minimum(x.abs(), y.abs()) - 0.32
    ),
}
"""How far a point lies outside of a form around (0, 0) that reaches about from -1 to 1."""

_LINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "upright": lambda x, y: torch.maximum(x.abs() - 0.01, y.abs() - 1.1),
    "level": lambda x, y: torch.maximum(y.abs() - 0.01, x.abs() - 1.1),
}

NEVER_PAIRED = {
    ("red", "square"),
    ("blue", "circle"),
    ("green", "ring"),
    ("yellow", "diamond"),
    ("purple", "triangle"),
    ("orange", "cross"),
}
"""Colors and forms that belong to one thing in no picture for training."""

THINGS = {"ball": "circle", "book": "square", "hat": "triangle", "kite": "diamond", "ring": "ring"}
"""Things of the town, and the form of each."""


class Looks(NamedTuple):
    """How a person is drawn, and called after the first time."""

    pronoun: str
    clothes: str
    color: str


PEOPLE = {
    "Mia": Looks("She", "triangle", "red"),
    "Anna": Looks("She", "triangle", "blue"),
    "Lily": Looks("She", "triangle", "yellow"),
    "Tom": Looks("He", "square", "green"),
    "Ben": Looks("He", "square", "black"),
    "Max": Looks("He", "square", "orange"),
}

_SKY, _WALL, _WOOD = (0.80, 0.92, 1.00), (1.00, 0.94, 0.82), (0.65, 0.45, 0.25)
_GRASS, _LEAVES, _SUN = (0.62, 0.85, 0.52), (0.05, 0.45, 0.20), (1.00, 0.80, 0.20)
_SAND, _WATER, _WHITE = (0.95, 0.85, 0.60), (0.40, 0.68, 0.92), (1.00, 1.00, 1.00)
_SKIN, _EDGE = (0.90, 0.70, 0.55), (0.25, 0.25, 0.25)

Mark = tuple[str, Color, float, float, float]  # form, color, across, down, half its width
PLACES: dict[str, tuple[Color, Color, list[Mark]]] = {
    "in the park": (_SKY, _GRASS, [("square", _WOOD, 32, 25, 5), ("circle", _LEAVES, 32, 13, 10)]),
    "on the beach": (_SKY, _SAND, [("circle", _SUN, 32, 14, 8)]),
    "on the hill": (_SKY, _GRASS, [("triangle", _GRASS, 32, 18, 18)]),
    "at the lake": (_SKY, _WATER, [("triangle", _WHITE, 32, 18, 10)]),
    "in the kitchen": (_WALL, _WOOD, [("square", _SKY, 32, 15, 11)]),
    "in the library": (_WALL, _WOOD, [("square", _WOOD, x, 16, 9) for x in (20, 44)]),
}
"""Places of the town: the color above and below, and what stands there."""

SIDES = {
    "left": "On the left",
    "right": "On the right",
    "top": "At the top",
    "bottom": "At the bottom",
}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")

_Y, _X = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")


class Picture(ABC):
    """What a picture shows: all that can be said of it, and a way to draw it."""

    @property
    @abstractmethod
    def caption(self) -> str:
        """What is to be seen, in words; for each picture in one way only."""

    @property
    @abstractmethod
    def pairs(self) -> set[tuple[str, str]]:
        """Which colors and forms belong together."""

    @property
    @abstractmethod
    def questions(self) -> list[tuple[str, str]]:
        """Questions that the picture answers, with their answers."""

    @abstractmethod
    def marks(self, draw: random.Random) -> list[Mark]:
        """Choose where everything is, which no caption says, in the order of drawing."""

    @property
    def split(self) -> str:
        """Say which part of all pictures this is of.

        "seen" are those for training. "new" is every fifth of the others, kept from it as a whole,
        though each color was seen with each form that it has here. In "never paired" some color
        has a form that it has in no picture for training.
        """
        if self.pairs & NEVER_PAIRED:
            return "never paired"
        return "new" if crc32(self.caption.encode()) % 5 == 0 else "seen"

    def paint(self, seed: int) -> Float[Tensor, "3 Z Z"]:
        """Draw the picture; each seed puts things elsewhere.

        >>> Scene("Mia", "Tom", "red", "ball", "in the park").paint(seed=0).shape
        torch.Size([3, 64, 64])
        """
        canvas = torch.ones(3, SIZE, SIZE)
        for mark in self.marks(random.Random(seed)):
            paint(canvas, *mark)
        return canvas


def paint(
    canvas: Float[Tensor, "3 Z Z"], form: str, color: Color, x: float, y: float, radius: float
) -> None:
    """Put a form on a canvas, with a thin dark edge; pixels that it covers in part are mixed."""
    reach = 1.2 * radius + 3  # farther out nothing changes
    rows, columns = (slice(max(0, int(z - reach)), max(0, int(z + reach))) for z in (y, x))
    part, across, down = canvas[:, rows, columns], _X[rows, columns] - x, _Y[rows, columns] - y
    away = radius * (FORMS | _LINES)[form](across / radius, down / radius)  # in pixels
    for edge, shade in ((1.0, _EDGE), (0.0, color)):
        cover = (0.5 + edge - away).clamp(0, 1)
        part.lerp_(torch.tensor(shade)[:, None, None].expand_as(part), cover.expand_as(part))


class Group(NamedTuple):
    """Some forms that are alike, on one side of the sheet."""

    number: int
    color: str
    form: str
    side: str

    @property
    def words(self) -> str:
        """Say what they are.

        >>> Group(1, "orange", "ring", "left").words, Group(2, "red", "cross", "top").words
        ('an orange ring', 'two red crosses')
        """
        if self.number == 1:
            return f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.form}"
        return f"{NUMBERS[self.number]} {self.color} {plural(self.form)}"


def plural(form: str) -> str:
    """Say the name of several such forms."""
    return form + ("es" if form.endswith("s") else "s")


@dataclass(frozen=True)
class Shapes(Picture):
    """A sheet with a line, and with one group of forms on a side of it, or with two."""

    groups: tuple[Group, ...]

    @property
    def caption(self) -> str:
        """Name the groups, the left or the upper one first.

        >>> Shapes((Group(2, "red", "ring", "left"), Group(1, "blue", "square", "right"))).caption
        'On the left are two red rings. On the right is a blue square.'
        """
        verbs = ("is" if group.number == 1 else "are" for group in self.groups)
        rows = zip(self.groups, verbs, strict=True)
        return " ".join(f"{SIDES[group.side]} {verb} {group.words}." for group, verb in rows)

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Which colors and forms belong together."""
        return {(group.color, group.form) for group in self.groups}

    @property
    def questions(self) -> list[tuple[str, str]]:
        """Ask what is on a side, how many of a form there are, and what color they have."""
        rows = []
        for group in self.groups:
            alike = [other for other in self.groups if other.form == group.form]
            number = sum(other.number for other in alike)
            rows.append((f"What is {SIDES[group.side].lower()}?", f"{group.words.capitalize()}."))
            asked = f"How many {plural(group.form)} are there?"
            rows.append((asked, f"{NUMBERS[number].capitalize()}."))
            if number == 1:
                rows.append((f"What color is the {group.form}?", f"It is {group.color}."))
        return list(dict.fromkeys(rows))

    def marks(self, draw: random.Random) -> list[Mark]:
        """Put the line, and each form of a group into one of the eight cells of its side."""
        line = "upright" if self.groups[0].side in ("left", "right") else "level"
        marks: list[Mark] = [(line, _EDGE, SIZE / 2, SIZE / 2, SIZE / 2)]
        for number, color, form, side in self.groups:
            for cell in draw.sample(range(8), number):
                along, across = divmod(cell, 2)
                across += 2 * (side in ("right", "bottom"))
                column, row = (across, along) if side in ("left", "right") else (along, across)
                x, y = (CELL * (place + 0.5) + draw.uniform(-1.5, 1.5) for place in (column, row))
                marks.append((form, COLORS[color], x, y, draw.uniform(4.5, 6)))
        return marks


@dataclass(frozen=True)
class Scene(Picture):
    """Somebody shows somebody a thing somewhere in the town; the holder has it in hand."""

    holder: str
    other: str
    color: str
    thing: str
    place: str

    @property
    def caption(self) -> str:
        """Say it as the town's stories do.

        >>> Scene("Mia", "Tom", "red", "kite", "in the park").caption
        'Mia showed Tom the red kite in the park.'
        """
        return f"{self.holder} showed {self.other} the {self.color} {self.thing} {self.place}."

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Which color belongs to the thing's form."""
        return {(self.color, THINGS[self.thing])}

    @property
    def questions(self) -> list[tuple[str, str]]:
        """Ask what the town's stories ask at their ends."""
        whereabouts = [
            (f"Where is {name}?", f"{PEOPLE[name].pronoun} is {self.place}.")
            for name in (self.holder, self.other)
        ]
        return [
            (f"Who has the {self.thing}?", f"{self.holder} has it."),
            (f"What color is the {self.thing}?", f"It is {self.color}."),
            *whereabouts,
        ]

    def marks(self, draw: random.Random) -> list[Mark]:
        """Draw the place, then the two, one on each side, then the thing beside its holder."""
        above, below, landmarks = PLACES[self.place]
        ground = SIZE / 2 + draw.uniform(-2, 2)
        marks: list[Mark] = [("square", above, 32, ground - 64, 80)]
        marks += [("square", below, 32, ground + 64, 75), *landmarks]
        flip = draw.random() < 0.5
        for name, x in ((self.holder, 8.0), (self.other, 56.0)):
            x, y = x + draw.uniform(-1.5, 1.5), 55 + draw.uniform(-1.5, 1.5)
            _, clothes, color = PEOPLE[name]
            marks.append((clothes, COLORS[color], x, y, 8))
            marks.append(("circle", _SKIN, x, y - 13, 5.5))
        x, y = 24 + draw.uniform(-1.5, 1.5), 55 + draw.uniform(-1.5, 1.5)
        marks.append((THINGS[self.thing], COLORS[self.color], x, y, draw.uniform(4.5, 6)))
        return [
            (f, c, float(SIZE - x if flip else x), float(y), float(r)) for f, c, x, y, r in marks
        ]


def draw_shapes(draw: random.Random) -> Shapes:
    """Draw what is on a sheet: two groups, or in one of four cases one."""
    sides: tuple[str, ...] = draw.choice((("left", "right"), ("top", "bottom")))
    if draw.random() < 1 / 4:
        sides = (draw.choice(sides),)
    groups = [
        Group(draw.randint(1, 3), draw.choice([*COLORS]), draw.choice([*FORMS]), side)
        for side in sides
    ]
    return Shapes(tuple(groups))


def draw_scene(draw: random.Random) -> Scene:
    """Draw who shows whom what, and where."""
    holder, other = draw.sample([*PEOPLE], 2)
    color, thing = draw.choice([*COLORS]), draw.choice([*THINGS])
    return Scene(holder, other, color, thing, draw.choice([*PLACES]))


KINDS: dict[str, Callable[[random.Random], Picture]] = {"shapes": draw_shapes, "scene": draw_scene}
SPLITS = ("seen", "new", "never paired")


def pictures(kind: str, split: str, seed: int = 0) -> Iterator[Picture]:
    """Draw pictures of one kind from one part without end, the same on every machine.

    Raises:
        ValueError: If there is no such kind or part.

    >>> next(pictures("scene", "new", seed=1)).split
    'new'
    """
    if kind not in KINDS or split not in SPLITS:
        raise ValueError(
            f"there are no pictures of kind {kind!r} and part {split!r}; choose one of "
            f"{', '.join(KINDS)} and one of {', '.join(SPLITS)}"
        )
    draw = random.Random(seed)
    while True:
        picture = KINDS[kind](draw)
        if picture.split == split:
            yield picture
