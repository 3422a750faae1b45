"""Wordings: a template that writes a sentence and recognizes it, so that nothing is said twice."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from gptbook.littletown.kinds import KINDS, Kind
from gptbook.littletown.words import (
    LOOKS,
    NAMES,
    PLACES,
    POOLS,
    PRONOUNS,
    THINGS,
    TURNS,
    Name,
    Noun,
    Place,
    Word,
)

Entry: TypeAlias = Word | Name | Place | Noun
TYPE = {"A": "person", "B": "person", "T": "thing", "U": "thing", "P": "place"}
DRAWN: dict[str, tuple[tuple[Any, ...], ...]] = {
    "person": (NAMES,),
    "place": PLACES,
    "thing": THINGS,
}


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
        type_ = TYPE[self.role]
        if self.attribute in {"", "at"} and type_ != "person":
            return sum(DRAWN["place" if self.attribute else type_], ())
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
        entries: list[Entry] = []
        start = 0
        for piece in self.pieces:
            if isinstance(piece, str):
                if start == len(words) or words[start] != piece:
                    return None
                start += 1
                continue
            known, lengths = phrases(piece)
            for length in lengths:
                if (entry := known.get(tuple(words[start : start + length]))) is not None:
                    entries.append(entry)
                    start += length
                    break
            else:
                return None
        return tuple(entries) if start == len(words) else None


@cache
def phrases(slot: Slot) -> tuple[dict[tuple[str, ...], Entry], tuple[int, ...]]:
    """Index what could stand in a slot by its words, and say how many words that can be."""
    known = {tuple(slot.english(entry).split()): entry for entry in slot.entries()}
    return known, tuple(sorted({len(words) for words in known}))


WORDINGS = {
    kind.name: tuple(Wording(kind, number) for number in range(len(kind.wordings)))
    for kind in KINDS
}


def _by_second_word() -> dict[str, list[Wording]]:
    """File the wordings under their second word; those in which it varies, under nothing."""
    index: dict[str, list[Wording]] = {}
    for wording in sum(WORDINGS.values(), ()):
        first, second = wording.pieces[:2]
        plain = isinstance(second, str) and (isinstance(first, str) or first == Slot("", "A"))
        index.setdefault(str(second) if plain else "", []).append(wording)
    return index


_FILE = _by_second_word()


def recognize(words: list[str]) -> tuple[Wording, tuple[Entry, ...]] | None:
    """Find the one wording that makes this sentence of the language."""
    for wording in _FILE.get(words[1] if len(words) > 1 else "", []) + _FILE[""]:
        if (entries := wording.match(words)) is not None:
            return wording, entries
    return None
