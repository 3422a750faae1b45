"""Text to learn from: where it comes from, how it is cleaned, and how it becomes batches.

Chapter 1 trains its tokenizer on the English that ships with every Python. Chapter 8 goes the
whole way, one visible step after another:

    documents = map(normalize, raw)
    documents = drop_low_quality(documents, removed=removed)
    documents = drop_exact_duplicates(documents, removed=removed)
    documents = drop_near_duplicates(documents, removed=removed)
    split = split_documents(documents)
    shards = write_shards(folder, split.train, tokenizer)
    batches = DocumentBatches(shards, batch_size=32, context_length=128)

A batch is a pair (token_ids, targets): for each position the token that stands there, and the one
to predict from it. Where nothing is to be predicted, the target is `IGNORED`.

Shapes: N windows, B batch, T context_length.

References:
    Broder (1997), "On the Resemblance and Containment of Documents", for MinHash.
    https://doi.org/10.1109/SEQUEN.1997.666900
    Raffel et al. (2019), "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", section 2.2, and Rae et al. (2021), "Scaling Language Models: Methods, Analysis
    & Insights from Training Gopher", appendix A.1, for rules of quality.
    https://arxiv.org/abs/1910.10683, https://arxiv.org/abs/2112.11446
    Lee et al. (2021), "Deduplicating Training Data Makes Language Models Better".
    https://arxiv.org/abs/2107.06499
    Ding et al. (2024), "Fewer Truncations Improve Language Modeling", for packing by best fit.
    https://arxiv.org/abs/2404.10830
"""

import ast
import hashlib
import http.client
import inspect
import json
import math
import os
import re
import shutil
import sysconfig
import tokenize
import unicodedata
import urllib.parse
import urllib.request
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import regex
import tiktoken
import torch
from jaxtyping import Int
from torch import Tensor

from gptbook.evaluation import IGNORED
from gptbook.tokenizer import END_OF_TEXT, Tokenizer

_LOCALES = ("en", "zh")
CLDR_KINDS = ("dates", "durations", "languages", "places", "quantities")

AnyTokenizer = Tokenizer | tiktoken.Encoding
Batch = tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]
Piece = tuple[int, int, int]  # a document, and from which to which of its predictions
_Ids = npt.NDArray[Any]


_NUM_HASHES = 128
_TIMEOUT = 30  # seconds without a byte, after which a download counts as broken
_FORMAT, _VERSION = "gptbook-shards", 1
_ENDS = "<u8"

# Characters that are no text: controls but the tab, halves of surrogate pairs, byte-order marks.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_SPACE = regex.compile(r"\p{Zs}")
_EMPTY_LINES = re.compile(r"\n{3,}")
_LETTER = regex.compile(r"\p{L}")
_NO_SPACE = regex.compile(r"\S")
_SYMBOL = regex.compile(r"[^\s\p{L}\p{M}\p{N}]")
_ASCII_RUN = re.compile(r"[!-~]+")
# A word; in scripts without spaces between words, each character is one.
_WORD = regex.compile(
    r"(?V1)[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]"
    r"|[[\p{L}\p{M}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]]+"
)

# Folders of the standard library that hold tests, other people's packages or old copies.
_SKIPPED = {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}

# A docstring is a string that stands alone where a file begins, or after a line that ends in a
# colon. Looking for just that is ten times faster than parsing every file with `ast`.
_DOCSTRING = re.compile(
    r"""
    (?: \A (?: [ \t]* (?: \#[^\n]* )? \n )*       # the beginning of a file, comments skipped
      | : [ \t]* (?: \#[^\n]* )? \n               # or the colon that ends a def or class line
        (?: [ \t]* (?: \#[^\n]* )? \n )* )
    [ \t]*
    ( [rR]? (?: \"{3} (?: [^"\\] | \\. | "(?!"") )* \"{3}
              | '{3}  (?: [^'\\] | \\. | '(?!'') )* '{3}
              | " (?! "") (?: [^"\\\n] | \\. )* "
              | ' (?! '') (?: [^'\\\n] | \\. )* ' ) )
    (?= [ \t]* (?: \#[^\n]* )? (?: \n | \Z ) )    # nothing follows it on its line
    """,
    re.VERBOSE | re.DOTALL,
)


@cache
def python_english() -> str:
    """Collect the English that ships with every Python, about 2 MB: real prose, no download.

    It is the help texts of `pydoc_data.topics` followed by the docstrings of the standard
    library, in the order of its file names. No module is imported for it. The text differs a
    little from one version of Python to the next, so nothing may depend on its exact content.

    >>> "function" in python_english()
    True
    """
    folder = Path(sysconfig.get_path("stdlib"))
    docstrings = (text for path in _sources(folder) for text in docstrings_of(path))
    return "\n\n".join([*(topics[name].strip() for name in sorted(topics)), *docstrings])


def docstrings_of(path: Path) -> list[str]:
    """Collect the docstrings of one Python file, as `inspect.cleandoc` lays them out.

    A file that is no text in the encoding it names has none: some are stored to be unreadable.
    """
    try:
        with tokenize.open(path) as file:
            source = file.read()
    except (SyntaxError, UnicodeDecodeError):
        return []
    cleaned = (inspect.cleandoc(_value(match[1])) for match in _DOCSTRING.finditer(source))
    return [text for text in cleaned if text]


def littletown_documents(
    num_stories: int, *, seed: int = 0, chinese: bool = False
) -> Iterator[str]:
    """Draw stories of Littletown, as many as are asked for.

    Stories of different seeds are drawn independently: one seed to learn from, another one to
    examine on.

    Args:
        num_stories: How many.
        seed: Another seed, other stories. The same one begins with the same.
        chinese: Tell them in Chinese.
    """
    from gptbook.world import World  # the town builds its tables, and not every chapter goes there

    stories = World().stories(num_stories, seed)
    return (story.chinese if chinese else story.text for story in stories)


def cldr_pairs(kind: str) -> Iterator[tuple[str, str]]:
    """Go through expressions in English and in Chinese, from the Unicode Consortium's CLDR.

    Babel brings them along; they stay the same as long as its version does. There are about
    213,000 dates (1900 to 2099), 9,000 durations and 172,000 quantities, and all names of places
    and of languages that both have.

    Args:
        kind: "dates", "durations", "languages", "places" or "quantities".

    Raises:
        ValueError: If there is no such kind.

    >>> next(cldr_pairs("dates"))
    ('Monday, January 1, 1900', '1900年1月1日星期一')
    """
    kinds = {
        "dates": _dates,
        "durations": _durations,
        "languages": lambda: _names("languages"),
        "places": lambda: _names("territories"),
        "quantities": _quantities,
    }
    if kind not in kinds:
        raise ValueError(f"no pairs of kind {kind!r}; there are {', '.join(CLDR_KINDS)}")
    return kinds[kind]()


def cache_folder() -> Path:
    """Say where downloads are kept: `GPTBOOK_CACHE` in the environment, or `~/.cache/gptbook`."""
    return Path(os.environ.get("GPTBOOK_CACHE") or Path.home() / ".cache" / "gptbook")


def read_text(source: str | Path, sha256: str | None = None, *, encoding: str = "utf-8") -> str:
    """Read the text of a file, or of an address that begins with http:// or https://.

    What comes from an address is kept in `cache_folder()` and read from there the next time. It
    is kept only when it is complete and, where `sha256` is given, the right content.

    Args:
        source: Path of a file, or address.
        sha256: Expected SHA-256 of the content, in hexadecimal. An address can hold something
            else tomorrow: give one whenever a result should stay the same.
        encoding: How the characters are written as bytes.

    Raises:
        OSError: If the file cannot be read, or the address not reached, or the connection breaks.
        ValueError: If the address is of another kind, the content has another SHA-256, or it is
            not text in that encoding.
    """
    is_address = "://" in str(source)
    data = _download(str(source), sha256) if is_address else Path(source).read_bytes()
    if not _matches(data, sha256):
        raise ValueError(
            f"{source} is not what was expected: its SHA-256 is {_sha256(data)}, not {sha256}; "
            "get the right version, or give the new SHA-256 if the change is meant"
        )
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source} is no text in {encoding}: {error.reason} at byte {error.start} "
            f"(0x{data[error.start]:02x}, line {line}); give its right encoding=..., or save it "
            "as UTF-8"
        ) from error


def normalize(text: str) -> str:
    r"""Write what looks the same the same way: one form for characters, spaces and line ends.

    Unicode's form NFC joins a letter and its accent; every kind of line end becomes "\n", and
    every kind of space but the tab " "; controls, byte-order marks and halves of surrogate pairs
    go, as do spaces at the end of a line, and all but one of several empty lines.

    >>> normalize("Cafe\u0301\u00a0au lait \r\n\r\n\r\n\x00Bon!\r")
    'Café au lait\n\nBon!'
    """
    lines = (_SPACE.sub(" ", _NO_TEXT.sub("", line)).rstrip() for line in text.splitlines())
    return unicodedata.normalize("NFC", _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n"))


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to remove a document: a number measured on its text is out of range."""

    reason: str
    measure: Callable[[str], float]
    low: float = -math.inf
    high: float = math.inf

    def removes(self, text: str) -> bool:
        """Tell whether a document goes by this rule."""
        return not self.low <= self.measure(text) <= self.high


def num_letters(text: str) -> int:
    """Count the letters, of any script.

    >>> num_letters("3 balls, 球!")
    6
    """
    return len(_LETTER.findall(text))


def share_of_symbols(text: str) -> float:
    """Measure how much of a text, spaces aside, is neither letter nor digit.

    >>> share_of_symbols("a, b!")
    0.5
    """
    marks = _NO_SPACE.findall(text)
    return len(_SYMBOL.findall(text)) / max(1, len(marks))


def share_of_broken(text: str) -> float:
    """Measure how much of a text is the mark that stands for bytes nobody could read.

    >>> share_of_broken("caf\ufffd")
    0.25
    """
    return text.count("\ufffd") / max(1, len(text))


def share_of_repeated_lines(text: str) -> float:
    r"""Measure how many of the lines stood in the text before; empty lines do not count.

    >>> share_of_repeated_lines("Home\nNews\nHome\nHome")
    0.5
    """
    return _share_of_repeats([line.strip() for line in text.splitlines() if line.strip()])


def share_of_repeated_phrases(text: str) -> float:
    """Measure how many of the runs of three words stood in the text before.

    >>> share_of_repeated_phrases("buy it now buy it now")
    0.25
    """
    return _share_of_repeats(_runs(text, 3))


def longest_run(text: str) -> int:
    """Measure the longest row of ASCII characters without a space: no English word is so long.

    >>> longest_run("see data:image/png;base64,iVBORw0KGgo=")
    34
    """
    return max(map(len, _ASCII_RUN.findall(text)), default=0)


RULES = (
    Rule("too short", num_letters, low=20.0),
    Rule("unreadable characters", share_of_broken, high=0.0),
    Rule("too many symbols", share_of_symbols, high=0.3),
    Rule("repeated lines", share_of_repeated_lines, high=0.3),
    Rule("repeated phrases", share_of_repeated_phrases, high=0.3),
    Rule("endless word", longest_run, high=100.0),
)


def drop_low_quality(
    documents: Iterable[str],
    rules: Sequence[Rule] = RULES,
    *,
    removed: Counter[str] | None = None,
) -> Iterator[str]:
    """Leave out the documents that break a rule.

    Args:
        documents: The texts, normalized.
        rules: Tried in order; the first that a document breaks is the reason.
        removed: Where to count the reasons.

    >>> removed = Counter()
    >>> list(drop_low_quality(["Mia lost her red ball in the park.", "***"], removed=removed))
    ['Mia lost her red ball in the park.']
    >>> removed
    Counter({'too short': 1})
    """
    counts = Counter() if removed is None else removed
    for text in documents:
        reason = next((rule.reason for rule in rules if rule.removes(text)), None)
        if reason is None:
            yield text
        else:
            counts[reason] += 1


def drop_exact_duplicates(
    documents: Iterable[str], *, removed: Counter[str] | None = None
) -> Iterator[str]:
    """Leave out the documents that stood before, apart from how `normalize` would write them.

    Only a fingerprint of 16 bytes is kept of each document.

    Args:
        documents: The texts.
        removed: Where to count the copies, as "exact duplicate".

    >>> list(drop_exact_duplicates(["Mia has a ball.", "Tom has a hat.", "Mia has a ball. "]))
    ['Mia has a ball.', 'Tom has a hat.']
    """
    counts = Counter() if removed is None else removed
    seen: set[bytes] = set()
    for text in documents:
        fingerprint = _fingerprint(text)
        if fingerprint in seen:
            counts["exact duplicate"] += 1
        else:
            seen.add(fingerprint)
            yield text


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """Collect all runs of `size` words: what two almost equal texts share.

    Case and punctuation do not count. Scripts without spaces between words, such as Chinese, are
    taken character by character. A text of fewer words is one run.

    Raises:
        ValueError: If `size` is not positive.

    >>> sorted(shingles("Mia has a ball.", size=3))
    ['has a ball', 'mia has a']
    """
    if size < 1:
        raise ValueError(f"size={size} is no number of words; 5 is usual")
    return frozenset(_runs(text, size))


def jaccard(first: Collection[str], second: Collection[str]) -> float:
    """Measure how alike two sets are: what both have, as a share of what either has.

    >>> jaccard({"a", "b", "c"}, {"b", "c", "d"})
    0.5
    """
    either = len(set(first) | set(second))
    return len(set(first) & set(second)) / either if either else 1.0


class NearDuplicates:
    """An index that finds the documents in it that are almost the same as another.

    Two documents are near-duplicates if the Jaccard similarity of their shingles is at least
    `threshold`. Comparing each with each would take the square of their number. So MinHash sums
    each up in 128 numbers, locality-sensitive hashing (both from `datasketch`) looks up those
    with some of them in common, and only these candidates are compared in full. What is found is
    therefore right; a pair at the very threshold is missed about 2 times in 100, and one well
    above it hardly ever.

    Args:
        threshold: Jaccard similarity from which two documents count as almost the same.
        shingle_size: Words in a shingle.
        seed: Of MinHash; the same seed finds the same.

    Raises:
        ValueError: If `threshold` is not above 0 and at most 1, or `shingle_size` not positive.

    >>> index = NearDuplicates()
    >>> index.add("Mia lost her red ball in the park on Monday, and Tom found it by the lake.")
    0
    >>> index.find("Mia lost her red ball in the park on Monday, and Tom found it by the pond.")
    [0]
    """

    def __init__(self, threshold: float = 0.8, *, shingle_size: int = 5, seed: int = 1) -> None:
        from datasketch import (
            MinHash,
            MinHashLSH,
        )  # it takes most of a second, and few chapters need it

        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold} is no similarity above 0 and up to 1; try 0.8")
        if shingle_size < 1:
            raise ValueError(f"shingle_size={shingle_size} is no number of words; 5 is usual")
        self.threshold = threshold
        self._size = shingle_size
        self._empty = MinHash(num_perm=_NUM_HASHES, seed=seed)
        rows = _rows_per_band(threshold)
        bands = (_NUM_HASHES // rows, rows)
        self._lsh = MinHashLSH(threshold, num_perm=_NUM_HASHES, params=bands)
        self._texts: list[str] = []
        self._latest: tuple[str, Any] | None = None

    def __len__(self) -> int:
        """Count the documents in the index."""
        return len(self._texts)

    def add(self, text: str) -> int:
        """Put a document into the index, and give its number: 0, 1, and so on."""
        number = len(self._texts)
        self._lsh.insert(number, self._signature(text))
        self._texts.append(text)
        return number

    def find(self, text: str) -> list[int]:
        """Give the numbers of the documents in the index that are almost the same."""
        mine = shingles(text, self._size)
        candidates = sorted(self._lsh.query(self._signature(text)))
        return [
            number
            for number in candidates
            if jaccard(mine, shingles(self._texts[number], self._size)) >= self.threshold
        ]

    def _signature(self, text: str) -> Any:
        """Sum a document up; the last one is kept, for it is often found first and then added."""
        if self._latest is None or self._latest[0] != text:
            signature = self._empty.copy()
            signature.update_batch([run.encode() for run in shingles(text, self._size)])
            self._latest = (text, signature)
        return self._latest[1]


def drop_near_duplicates(
    documents: Iterable[str],
    *,
    threshold: float = 0.8,
    shingle_size: int = 5,
    removed: Counter[str] | None = None,
) -> Iterator[str]:
    """Leave out the documents that are almost the same as one that was kept.

    Drop exact duplicates first: that is cheaper.

    Args:
        documents: The texts.
        threshold: Jaccard similarity from which two documents count as almost the same.
        shingle_size: Words in a shingle.
        removed: Where to count them, as "near duplicate".

    Raises:
        ValueError: See `NearDuplicates`.
    """
    counts = Counter() if removed is None else removed
    kept = NearDuplicates(threshold, shingle_size=shingle_size)
    for text in documents:
        if kept.find(text):
            counts["near duplicate"] += 1
        else:
            kept.add(text)
            yield text


@dataclass(frozen=True, slots=True)
class Split:
    """Documents to learn from, documents to be examined on, and those that would be in both."""

    train: list[str]
    validation: list[str]
    dropped: list[str]


def split_documents(
    documents: Iterable[str],
    *,
    validation_share: float = 0.1,
    threshold: float | None = 0.8,
    seed: int = 0,
) -> Split:
    """Set documents aside to examine a model on, none of which it has almost seen in training.

    A document goes where the earlier documents went that are almost the same. If there are none,
    a hash of its own text decides. So a document's side never depends on what comes after it:
    documents added at the end move none. One that is almost the same as documents on both sides
    can stand on neither, and is dropped.

    Args:
        documents: The texts.
        validation_share: How large a share to set aside, nearly.
        threshold: Jaccard similarity from which two documents count as almost the same. None
            looks at exact copies only, which is quick.
        seed: Another seed, another split.

    Raises:
        ValueError: If `validation_share` is not between 0 and 1, or see `NearDuplicates`.

    >>> split = split_documents((f"Story number {n}." for n in range(100)), threshold=None)
    >>> len(split.train), len(split.validation)
    (90, 10)
    """
    if not 0 < validation_share < 1:
        raise ValueError(
            f"validation_share={validation_share} is no share between 0 and 1; 0.1 is usual"
        )
    split, sides = Split([], [], []), dict[int, list[str]]()
    index = None if threshold is None else NearDuplicates(threshold)
    for text in documents:
        near = [] if index is None else index.find(text)
        mine = split.validation if _unit(text, seed) < validation_share else split.train
        found = {id(sides[number]): sides[number] for number in near}
        if len(found) > 1:
            split.dropped.append(text)
            continue
        side = next(iter(found.values()), mine)
        side.append(text)
        if index is not None:
            sides[index.add(text)] = side
    return split


def tokenizer_fingerprint(tokenizer: AnyTokenizer) -> str:
    """Sum up all that decides which ids a text gets, so that two tokenizers can be told apart.

    A tokenizer and its `to_tiktoken()` have the same.
    """
    ranks, pattern, special = _anatomy(tokenizer)
    digest = hashlib.sha256(json.dumps([pattern, sorted(special.items())]).encode())
    for token in sorted(ranks, key=ranks.__getitem__):
        digest.update(b"%d %s " % (ranks[token], token.hex().encode()))
    return digest.hexdigest()


class Tokens:
    """Documents as ids, one after another in one row, with end-of-text tokens between them.

    A model that predicts every token of a document needs something to predict the first from,
    and must learn where to stop. Both is the job of one token: `end_of_text` stands at the
    beginning of the row and after every document. Without such a token, the first token of a
    document has nothing that announces it.

    Args:
        documents: The ids of each document, without an end-of-text token.
        end_of_text: The id that closes every document, or None.

    Raises:
        ValueError: If there is no document, or one has no tokens or a negative id.

    >>> tokens = Tokens([[5, 6], [7]], end_of_text=0)
    >>> tokens.stream().tolist()
    [0, 5, 6, 0, 7, 0]
    >>> tokens[1].tolist()
    [7, 0]
    """

    def __init__(
        self, documents: Iterable[Sequence[int]], *, end_of_text: int | None = None
    ) -> None:
        ids = [_closed(number, document, end_of_text) for number, document in enumerate(documents)]
        if not ids:
            raise ValueError("there are no documents; give at least one")
        self._hold([np.concatenate(ids)], np.cumsum([len(d) for d in ids]), end_of_text)

    @classmethod
    def encode(
        cls,
        documents: Iterable[str],
        tokenizer: AnyTokenizer,
        *,
        end_of_text: str | None = END_OF_TEXT,
    ) -> "Tokens":
        """Cut texts into tokens, to be held in memory; `write_shards` does it for more.

        Args:
            documents: The texts. Special tokens in them are ordinary text.
            tokenizer: Ours, or one of tiktoken's.
            end_of_text: Name of the special token that closes every document, or None.

        Raises:
            ValueError: If there is no document, or the tokenizer has no such special token.
        """
        closing = _special_id(tokenizer, end_of_text)
        return Tokens(map(tokenizer.encode_ordinary, documents), end_of_text=closing)

    def __len__(self) -> int:
        """Count the documents."""
        return len(self.ends)

    def __getitem__(self, number: int) -> _Ids:
        """Give the ids of one document, and the end-of-text token that closes it."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no document {number}; there are 0 to {len(self) - 1}")
        lead = self.row_length - self.num_tokens
        return self.stream(int(self.begins[number]) + lead, int(self.ends[number]) + lead)

    @property
    def num_tokens(self) -> int:
        """How many tokens the documents have, with the end-of-text tokens that close them."""
        return int(self.ends[-1])

    @property
    def row_length(self) -> int:
        """How many places the row has: every token, and the end-of-text token in front."""
        return self.num_tokens + (self.end_of_text is not None)

    @property
    def num_predictions(self) -> _Ids:
        """How many tokens of each document can be predicted: without end-of-text, one less."""
        return self.ends - self.begins - (self.end_of_text is None)

    def stream(self, start: int = 0, stop: int | None = None) -> _Ids:
        """Give the ids from one place of the row to another.

        Raises:
            ValueError: If the places are not in the row, or not in order.
        """
        stop = self.row_length if stop is None else stop
        if not 0 <= start <= stop <= self.row_length:
            raise ValueError(
                f"places {start} to {stop} are not in a row of {self.row_length} places"
            )
        firsts = zip(self._firsts.tolist(), self._parts, strict=True)
        return np.concatenate([
            part[max(0, start - first) : max(0, stop - first)] for first, part in firsts
        ]).astype(np.int64)

    def document_at(self, places: _Ids) -> _Ids:
        """Tell for places of the row to which document each token belongs; in front, to none."""
        lead = self.end_of_text is not None
        return np.searchsorted(self.ends, places - lead, side="right") - (places < lead)

    def _hold(self, parts: list[_Ids], ends: _Ids, end_of_text: int | None) -> None:
        """Take the row over, in parts; `ends` says after which token each document ends."""
        self.end_of_text = end_of_text
        self.ends = ends.astype(np.int64)
        self.begins = np.concatenate([[0], self.ends[:-1]])
        self._parts = parts if end_of_text is None else [np.array([end_of_text]), *parts]
        self._firsts = np.cumsum([0, *(len(part) for part in self._parts[:-1])])


class Shards(Tokens):
    """Documents as ids in files, as `write_shards` left them: there may be more than memory holds.

    The files are mapped into memory; only what is looked at is read. A folder has an
    `index.json`, and for each shard `NNNNN.tokens.bin`, the ids (little-endian, two bytes each,
    or four where the vocabulary is larger than 65,536), and `NNNNN.ends.bin`, for each document
    the place after its last token (little-endian, eight bytes each).

    Args:
        folder: Where they stand.
        tokenizer: The one that they were written with.
        verify: Whether to read all files once and compare their SHA-256 with the index. Their
            sizes are always compared.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is not as it was written, or the tokenizer another one. The message
            names the file.
    """

    def __init__(self, folder: str | Path, tokenizer: AnyTokenizer, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder / "index.json")
        came = tokenizer_fingerprint(tokenizer)
        if came != index["tokenizer"]:
            raise ValueError(
                f"{self.folder} was written with another tokenizer: its fingerprint is "
                f"{index['tokenizer'][:12]}, that of yours {came[:12]}; read it with the one it "
                "was written with, or write the shards again"
            )
        self.num_bytes: int = index["num_bytes"]
        shards = index["shards"]
        parts = [_map(self.folder, shard["tokens"], index["dtype"], verify) for shard in shards]
        ends = [_map(self.folder, shard["ends"], _ENDS, verify) for shard in shards]
        firsts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        placed = [end.astype(np.int64) + first for end, first in zip(ends, firsts, strict=True)]
        self._hold(parts, np.concatenate(placed), index["end_of_text"])


def write_shards(
    folder: str | Path,
    documents: Iterable[str],
    tokenizer: AnyTokenizer,
    *,
    end_of_text: str | None = END_OF_TEXT,
    tokens_per_shard: int = 1 << 26,
) -> Shards:
    """Cut texts into tokens and write these to files; one document at a time is held in memory.

    The folder appears whole or not at all. For much text, give `tokenizer.to_tiktoken()`: the
    same ids, found faster.

    Args:
        folder: Where to write. It must be empty or not exist yet.
        documents: The texts. Special tokens in them are ordinary text.
        tokenizer: Ours, or one of tiktoken's.
        end_of_text: Name of the special token that closes every document, or None.
        tokens_per_shard: A shard is closed by the document that fills it, which stays whole.

    Raises:
        FileExistsError: If the folder is not empty.
        OSError: If a file cannot be written.
        ValueError: If there is no document or one has no tokens, the tokenizer has no such
            special token, or `tokens_per_shard` is not positive.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; delete it, or write to another folder")
    if tokens_per_shard < 1:
        raise ValueError(f"tokens_per_shard={tokens_per_shard} must be at least 1")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        _write_folder(partial, documents, tokenizer, end_of_text, tokens_per_shard)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Shards(folder, tokenizer, verify=False)


@dataclass(frozen=True)
class Windows:
    """Tokens cut to windows of one length, and what to predict at each place.

    Args:
        token_ids: What stands at each place.
        targets: What comes next there; `IGNORED` where nothing is to be predicted.
        document_ids: Which document each target belongs to; -1 where there is none. Attention
            that may not see across documents is masked where these differ.
    """

    token_ids: Int[Tensor, "N T"]
    targets: Int[Tensor, "N T"]
    document_ids: Int[Tensor, "N T"]

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.token_ids)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Go through all windows once, in order; the last batch may be smaller.

        Raises:
            ValueError: If `batch_size` is not positive.
        """
        _check_positive(batch_size=batch_size)
        pairs = (self.token_ids.split(batch_size), self.targets.split(batch_size))
        return zip(*pairs, strict=True)


def pack(tokens: Tokens, context_length: int, *, boundaries: bool = True) -> Windows:
    """Cut documents into windows in which every token is predicted exactly once.

    Without boundaries, the whole row of tokens is cut every `context_length` places, wherever
    that falls. With boundaries, documents stay whole: each goes into the window that has the
    least room left that is enough, and the rest of a window is padding. Only a document longer
    than a window is cut. Every window begins at the beginning of a document then, or of a piece
    of a long one.

    Args:
        tokens: The documents.
        context_length: How many places a window has.
        boundaries: Whether documents stay whole.

    Raises:
        ValueError: If `context_length` is not positive, or there is nothing to predict.

    >>> windows = pack(Tokens([[5, 6], [7], [8, 9]], end_of_text=0), 3)
    >>> windows.token_ids.tolist()
    [[0, 5, 6], [0, 7, 0], [0, 8, 9]]
    >>> windows.targets.tolist()
    [[5, 6, 0], [7, 0, -100], [8, 9, 0]]
    """
    _check_positive(context_length=context_length)
    if not boundaries:
        return _cut_anywhere(tokens, context_length)
    pieces = _pieces(tokens, range(len(tokens)), context_length)
    rows = [_window(tokens, row, context_length) for row in best_fit(pieces, context_length)]
    return Windows(*torch.from_numpy(np.stack(rows, axis=1)))


def best_fit(pieces: Iterable[Piece], size: int) -> list[list[Piece]]:
    """Distribute pieces to windows: each goes where the least room is left that is enough.

    Args:
        pieces: The document that each is of, where in it the piece begins, and where it ends.
        size: How much fits in a window; no piece is longer.

    >>> best_fit([(0, 0, 5), (1, 0, 3), (2, 0, 4), (3, 0, 3)], size=8)
    [[(0, 0, 5), (1, 0, 3)], [(2, 0, 4), (3, 0, 3)]]
    """
    windows: list[list[Piece]] = []
    with_room: defaultdict[int, list[int]] = defaultdict(list)
    rooms = 0  # bit r is set if some window has exactly r places left; bit 0 is never asked for
    for piece in pieces:
        length = piece[2] - piece[1]
        enough = rooms >> length << length
        if enough:
            room = (enough & -enough).bit_length() - 1
            window = with_room[room].pop()
            rooms ^= 0 if with_room[room] else 1 << room
        else:
            room, window = size, len(windows)
            windows.append([])
        windows[window].append(piece)
        with_room[room - length].append(window)
        rooms |= 1 << room - length
    return windows


class Batches(ABC):
    """Batches without end, in an order that the seed decides, that resume exactly.

    `state_dict()` says in plain numbers where it stands; batches made with the same settings
    that `load_state_dict` it go on with the very batch that would have come next, be they shared
    out among as many processes as then or among others.

    Args:
        tokens: The documents, in memory or in shards.
        batch_size: Windows in a batch, for each process.
        context_length: Places in a window.
        seed: Another seed, another order.
        rank: Which of several processes this is. All together they draw what one process
            would draw with `batch_size * world_size`.
        world_size: How many processes there are.

    Raises:
        ValueError: If a size is not positive, `rank` is not below `world_size`, or there is
            nothing to predict.
    """

    _BEGINNING: ClassVar[dict[str, int]]

    def __init__(
        self,
        tokens: Tokens,
        *,
        batch_size: int,
        context_length: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_positive(batch_size=batch_size, context_length=context_length, world_size=world_size)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} is none of world_size={world_size} processes, 0 and up")
        self.tokens, self.batch_size, self.context_length = tokens, batch_size, context_length
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self._mine = slice(rank * batch_size, (rank + 1) * batch_size)
        self._go_to(self._BEGINNING)

    def __iter__(self) -> Iterator[Batch]:
        return self

    @abstractmethod
    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]:
        """Say where these batches stand, in numbers and names that JSON can hold."""
        return {"settings": self._settings(), "position": self._position()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another run stood.

        Raises:
            ValueError: If that run had other settings or other documents.
        """
        saved, mine = dict(state["settings"]), self._settings()
        for name in mine | saved:
            if saved.get(name) != mine.get(name):
                raise ValueError(
                    f"the state is of batches with {name}={saved.get(name)!r}, and these have "
                    f"{name}={mine.get(name)!r}; make them as they were made in the saved run"
                )
        self._go_to(state["position"])

    def _settings(self) -> dict[str, Any]:
        """Collect what decides the order, apart from the position."""
        return {
            "kind": type(self).__name__,
            "batch_size": self.batch_size * self.world_size,
            "context_length": self.context_length,
            "seed": self.seed,
            "num_documents": len(self.tokens),
            "num_tokens": self.tokens.num_tokens,
        }

    @abstractmethod
    def _position(self) -> dict[str, int]:
        """Say where it stands."""

    @abstractmethod
    def _go_to(self, position: Mapping[str, int]) -> None:
        """Stand there."""


class RandomBatches(Batches):
    """Windows that begin at random places of the row, wherever in a document that is.

    For long documents, of which a window shows only a part; see `Batches` for the arguments.

    >>> tokens = Tokens([range(1, 50), range(50, 100)], end_of_text=0)
    >>> token_ids, targets = next(RandomBatches(tokens, batch_size=2, context_length=4))
    >>> bool((token_ids[:, 1:] == targets[:, :-1]).all())
    True
    """

    _BEGINNING: ClassVar[dict[str, int]] = {"batch": 0}

    def __next__(self) -> Batch:
        draw = np.random.RandomState([self.seed, self._batch])
        size = self.batch_size * self.world_size
        starts = draw.randint(self._num_places, size=size, dtype=np.int64)[self._mine]
        rows = [
            self.tokens.stream(start, start + self.context_length + 1) for start in starts.tolist()
        ]
        self._batch += 1
        ids = torch.from_numpy(np.stack(rows))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def _position(self) -> dict[str, int]:
        return {"batch": self._batch}

    def _go_to(self, position: Mapping[str, int]) -> None:
        self._batch = position["batch"]
        self._num_places = self.tokens.row_length - self.context_length
        if self._num_places < 1:
            raise ValueError(
                f"a row of {self.tokens.row_length} tokens holds no window of "
                f"{self.context_length} and the token after it; make context_length smaller"
            )


class DocumentBatches(Batches):
    """Windows that begin with a document, filled with whole documents as `pack` fills them.

    Every epoch goes through all documents once, in another order, and the next one begins in the
    middle of a batch if need be; see `Batches` for the arguments.

    >>> tokens = Tokens([[5, 6], [7], [8, 9]], end_of_text=0)
    >>> token_ids, targets = next(DocumentBatches(tokens, batch_size=3, context_length=3))
    >>> sorted(token_ids.tolist())
    [[0, 5, 6], [0, 7, 0], [0, 8, 9]]
    """

    _BEGINNING: ClassVar[dict[str, int]] = {"epoch": 0, "window": 0}

    def __next__(self) -> Batch:
        rows = [self._next_row() for _ in range(self.batch_size * self.world_size)][self._mine]
        windows = [_window(self.tokens, row, self.context_length) for row in rows]
        token_ids, targets, _ = torch.from_numpy(np.stack(windows, axis=1))
        return token_ids, targets

    @property
    def epoch(self) -> int:
        """How many times all documents have been gone through."""
        return self._epoch

    @property
    def windows_in_epoch(self) -> int:
        """How many windows this epoch has."""
        return len(self._rows)

    def _next_row(self) -> list[Piece]:
        """Say what the next window holds, of this epoch or of the next."""
        if self._next == len(self._rows):
            self._go_to({"epoch": self._epoch + 1, "window": 0})
        self._next += 1
        return self._rows[self._next - 1]

    def _position(self) -> dict[str, int]:
        return {"epoch": self._epoch, "window": self._next}

    def _go_to(self, position: Mapping[str, int]) -> None:
        self._epoch, self._next = position["epoch"], position["window"]
        draw = np.random.RandomState([self.seed, self._epoch])
        order = draw.permutation(len(self.tokens))
        rows = best_fit(_pieces(self.tokens, order, self.context_length), self.context_length)
        self._rows = [rows[number] for number in draw.permutation(len(rows))]


def _sources(folder: Path) -> Iterator[Path]:
    """List the Python files below a folder, in an order that is the same everywhere."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (Path(here, name) for name in sorted(files) if name.endswith(".py"))


def _value(literal: str) -> str:
    """Evaluate a string literal, without the warnings that old escapes in it may cause."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ast.literal_eval(literal)
    assert isinstance(value, str)
    return value


def _dates() -> Iterator[tuple[str, str]]:
    """Write every day of two centuries in three ways."""
    from babel.dates import format_date

    first, days = date(1900, 1, 1), (date(2100, 1, 1) - date(1900, 1, 1)).days
    for day in (first + timedelta(days=number) for number in range(days)):
        forms = ("full", "long", "medium")  # in May, the last two are the same
        yield from dict.fromkeys(
            (format_date(day, form, locale="en"), format_date(day, form, locale="zh"))
            for form in forms
        )


def _durations() -> Iterator[tuple[str, str]]:
    """Write lengths of time: in one unit, and in two that follow each other."""
    from babel.lists import format_list

    units = [f"duration-{name}" for name in ("year", "month", "week", "day", "hour", "minute")]
    pairs = [("year", "month"), ("week", "day"), ("day", "hour"), ("hour", "minute")]
    for unit in units:
        yield from (_measured(number, unit) for number in range(1, 501))
    for large, small in pairs:
        for first in range(1, 61):
            for second in range(1, {"month": 12, "day": 7, "hour": 24, "minute": 60}[small]):
                parts = (
                    _measured(first, f"duration-{large}"),
                    _measured(second, f"duration-{small}"),
                )
                english, chinese = zip(*parts, strict=True)
                yield (
                    format_list(english, style="unit", locale="en"),
                    format_list(chinese, style="unit", locale="zh"),
                )


def _names(field: str) -> Iterator[tuple[str, str]]:
    """Name territories or languages, those that both languages have a name for."""
    from babel import Locale

    english, chinese = (getattr(Locale(name), field) for name in _LOCALES)
    for code in sorted(set(english) & set(chinese)):
        yield english[code], chinese[code]


def _quantities() -> Iterator[tuple[str, str]]:
    """Measure from a half to five hundred in every unit."""
    for unit in _units():
        yield from (_measured(halves / 2, unit) for halves in range(1, 1001))


def _units() -> Iterator[str]:
    """List the units that both languages have a word for, but those of time."""
    from babel import Locale

    units = set.intersection(*(set(Locale(name).unit_display_names) for name in _LOCALES))
    for unit in sorted(units):
        english, chinese = _measured(1, unit)
        if not unit.startswith("duration-") and unit not in chinese and english != chinese:
            yield unit


def _measured(number: int | float, unit: str) -> tuple[str, str]:
    """Write a number of units in both languages, in the longest form that each has."""
    from babel.units import format_unit

    whole = int(number) if number == int(number) else number
    english, chinese = (format_unit(whole, unit, locale=name) for name in _LOCALES)
    if unit in chinese:  # it has no long form, and the name of the unit stands for it
        chinese = format_unit(whole, unit, "short", locale="zh")
    return english, chinese


def _download(url: str, sha256: str | None) -> bytes:
    """Get the content of an address from the cache, or from the network into the cache."""
    _check_web(url)
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])[-60:]
    path = cache_folder() / f"{_sha256(url.encode())[:16]}-{name or 'index'}"
    if path.exists() and _matches(cached := path.read_bytes(), sha256):
        return cached
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        _fetch(url, partial)
        data = partial.read_bytes()
        if _matches(data, sha256):
            partial.replace(path)
        return data
    finally:
        partial.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> None:
    """Write the content of an address to a file, and see that all of it came."""
    from tqdm.auto import tqdm  # what it imports depends on where it runs: a notebook or not

    request = urllib.request.Request(url, headers={"User-Agent": "gptbook"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, path.open("wb") as file:
        _check_web(response.url)
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length)
        with tqdm(total=total, unit="B", unit_scale=True, desc=url, leave=False) as bar:
            try:
                while piece := response.read(1 << 16):
                    file.write(piece)
                    bar.update(len(piece))
            except http.client.HTTPException as error:
                raise ConnectionError(f"{url} broke off after {bar.n} bytes; try again") from error
            if total is not None and bar.n != total:
                raise ConnectionError(f"{url} broke off after {bar.n} of {total} bytes; try again")


def _check_web(url: str) -> None:
    """Refuse addresses of other kinds, such as file:// and ftp://."""
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(
            f"{url!r} is no address that can be read; give one that begins with http:// or "
            "https://, or the path of a file"
        )


def _sha256(data: bytes) -> str:
    """Sum up bytes."""
    return hashlib.sha256(data).hexdigest()


def _matches(data: bytes, sha256: str | None) -> bool:
    """Tell whether content is what was expected, if anything was."""
    return sha256 is None or _sha256(data) == sha256.lower()


def _runs(text: str, size: int) -> list[str]:
    """List the runs of `size` words in their order; a shorter text is one run."""
    words = _WORD.findall(text.casefold())
    if len(words) < size:
        return [" ".join(words) or text.casefold()]
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


def _rows_per_band(similarity: float, recall: float = 0.98) -> int:
    """Cut signatures into the longest bands of which a pair of that similarity still shares one.

    Wrong candidates cost only a comparison, but missed ones are lost: so hardly any may be missed.
    """
    for rows in range(_NUM_HASHES, 1, -1):
        if 1 - (1 - similarity**rows) ** (_NUM_HASHES // rows) >= recall:
            return rows
    return 1


def _share_of_repeats(pieces: Sequence[str]) -> float:
    """Measure how many of the pieces stood before."""
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def _fingerprint(text: str, seed: int = 0) -> bytes:
    """Sum a text up in 16 bytes, however it is spaced."""
    salt = seed.to_bytes(8, "little", signed=True)
    return hashlib.blake2b(normalize(text).encode(), digest_size=16, salt=salt).digest()


def _unit(text: str, seed: int) -> float:
    """Turn a text into a number from 0 to 1, evenly spread over texts."""
    return int.from_bytes(_fingerprint(text, seed)[:8], "big") / 2**64


def _anatomy(tokenizer: AnyTokenizer) -> tuple[Mapping[bytes, int], str, Mapping[str, int]]:
    """Take a tokenizer apart: ids of ordinary tokens, split pattern, ids of special tokens."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer._ranks, tokenizer.pattern, tokenizer.special_tokens
    return tokenizer._mergeable_ranks, tokenizer._pat_str, tokenizer._special_tokens


def _special_id(tokenizer: AnyTokenizer, name: str | None) -> int | None:
    """Look up the id of a special token."""
    if name is None:
        return None
    special = _anatomy(tokenizer)[2]
    if name not in special:
        raise ValueError(
            f"the tokenizer has no special token {name!r}, only {sorted(special)}; train one with "
            f"special_tokens=[{name!r}], or pass end_of_text=None"
        )
    return special[name]


def _closed(number: int, ids: Sequence[int], end_of_text: int | None) -> _Ids:
    """Check the ids of one document, and close it."""
    if len(ids) == 0:
        raise ValueError(f"document {number} has no tokens; leave empty documents out")
    closing = [] if end_of_text is None else [end_of_text]
    array = np.array([*ids, *closing], dtype=np.int64)
    if array.min() < 0:
        raise ValueError(f"document {number} has the id {array.min()}; ids are 0 and up")
    return array


def _write_folder(
    folder: Path,
    documents: Iterable[str],
    tokenizer: AnyTokenizer,
    end_of_text: str | None,
    tokens_per_shard: int,
) -> None:
    """Write the shards and their index."""
    ranks, _, special = _anatomy(tokenizer)
    largest_id = max([*ranks.values(), *special.values()])
    dtype = "<u2" if largest_id < 1 << 16 else "<u4"
    closing = _special_id(tokenizer, end_of_text)
    sizes: Counter[str] = Counter()
    encoded = _encoded(documents, tokenizer, closing, tokens_per_shard, sizes)
    shards = [
        _write_shard(folder, number, (ids for _, ids in group), dtype)
        for number, (_, group) in enumerate(groupby(encoded, key=lambda item: item[0]))
    ]
    if not shards:
        raise ValueError("there are no documents to write; give at least one")
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "dtype": dtype,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "end_of_text": closing,
        "num_bytes": sizes["bytes"],
        "shards": shards,
    }
    content["sha256"] = _sha256(json.dumps(content, sort_keys=True).encode())
    with (folder / "index.json").open("w", encoding="ascii", newline="\n") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _encoded(
    documents: Iterable[str],
    tokenizer: AnyTokenizer,
    closing: int | None,
    tokens_per_shard: int,
    sizes: Counter[str],
) -> Iterator[tuple[int, _Ids]]:
    """Cut documents into tokens, each with the number of the shard it goes to."""
    shard = filled = 0
    for number, text in enumerate(documents):
        ids = _closed(number, tokenizer.encode_ordinary(text), closing)
        if filled >= tokens_per_shard:
            shard, filled = shard + 1, 0
        yield shard, ids
        filled += len(ids)
        sizes["bytes"] += len(text.encode())


def _write_shard(
    folder: Path, number: int, documents: Iterable[_Ids], dtype: str
) -> dict[str, dict[str, Any]]:
    """Write one shard, and describe its two files."""
    ends: list[int] = []
    name, digest = f"{number:05}.tokens.bin", hashlib.sha256()
    with (folder / name).open("wb") as file:
        for ids in documents:
            data = ids.astype(dtype).tobytes()
            file.write(data)
            digest.update(data)
            ends.append(len(ids) + (ends[-1] if ends else 0))
        file.flush()
        os.fsync(file.fileno())
    data = np.array(ends, dtype=_ENDS).tobytes()
    with (folder / f"{number:05}.ends.bin").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {
        "tokens": {"file": name, "length": ends[-1], "sha256": digest.hexdigest()},
        "ends": {"file": f"{number:05}.ends.bin", "length": len(ends), "sha256": _sha256(data)},
    }


def _read_index(path: Path) -> dict[str, Any]:
    """Read the index of a folder of shards."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, it is not JSON ({error}); write it again") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f'{path} is no index of shards: it lacks "format": "{_FORMAT}"')
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path} is of version {content.get('version')!r}, and this gptbook reads version "
            f"{_VERSION}; install the gptbook that wrote it, or write the shards again"
        )
    digest = content.pop("sha256", None)
    if digest != _sha256(json.dumps(content, sort_keys=True).encode()):
        raise ValueError(f"{path} is not as it was written; write the shards again")
    return content


def _map(folder: Path, entry: Mapping[str, Any], dtype: str, verify: bool) -> _Ids:
    """Map a file of numbers into memory, and refuse it if it is not as it was written."""
    path = folder / entry["file"]
    expected, found = entry["length"] * np.dtype(dtype).itemsize, path.stat().st_size
    if found != expected:
        problem = "is truncated" if found < expected else "has grown"
        raise ValueError(
            f"{path} {problem}: it has {found} bytes, its index says {expected}; write the "
            "shards again"
        )
    if verify:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry["sha256"]:
            raise ValueError(f"{path} is not as it was written; write the shards again")
    return np.memmap(path, dtype=dtype, mode="r")


def _check_positive(**sizes: int) -> None:
    """Refuse sizes below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")


def _pieces(tokens: Tokens, order: Sequence[int] | _Ids, context_length: int) -> Iterator[Piece]:
    """Go through the documents in an order, those longer than a window piece by piece."""
    lengths = tokens.num_predictions
    if not lengths.any():
        raise ValueError(
            "there is nothing to predict: every document has one token, and none an end-of-text "
            "token; encode them with one"
        )
    for document in order:
        length = int(lengths[document])
        for first in range(0, length, context_length):
            yield int(document), first, min(first + context_length, length)


def _window(tokens: Tokens, pieces: Iterable[Piece], context_length: int) -> _Ids:
    """Lay pieces side by side: rows of token ids, of targets and of document numbers."""
    filler = 0 if tokens.end_of_text is None else tokens.end_of_text
    window = np.repeat([[filler], [IGNORED], [-1]], context_length, axis=1)
    place = 0
    for document, first, stop in pieces:
        begin, here = int(tokens.begins[document]), slice(place, place + stop - first)
        ids = tokens.stream(begin + first, begin + stop + 1)
        window[0, here], window[1, here], window[2, here] = ids[:-1], ids[1:], document
        place = here.stop
    return window


def _cut_anywhere(tokens: Tokens, context_length: int) -> Windows:
    """Cut the row every `context_length` places; the last window is filled up."""
    row = tokens.stream()
    num_predictions = len(row) - 1
    if num_predictions < 1:
        raise ValueError("there is nothing to predict in a row of one token; give more")
    num_windows = math.ceil(num_predictions / context_length)
    filler = 0 if tokens.end_of_text is None else tokens.end_of_text
    columns = (row[:-1], row[1:], tokens.document_at(np.arange(1, len(row))))
    padded = [
        np.pad(column, (0, num_windows * context_length - num_predictions), constant_values=value)
        for column, value in zip(columns, (filler, IGNORED, -1), strict=True)
    ]
    return Windows(*(torch.from_numpy(column).view(num_windows, -1) for column in padded))
