r"""Byte-level byte-pair encoding: from text to integer ids, and back to the same text.

Chapter 1 builds it by hand. A text is cut into words by a split pattern; a word is a run of bytes;
the two neighbors that stand side by side most often become one token, again and again. The order
in which tokens were found is all that a tokenizer needs to know: it is their rank, and their id.

Unicode grows, and so do the tables of the libraries that know which characters are letters. A
character that is younger than the older of two tables can be cut differently by `regex`, which we
use, and by tiktoken. On all others (every one that both tables know, but for a handful like "ʕ"
that Unicode has since moved from small letters to letters without case) they agree.

References:
    Gage (1994), "A New Algorithm for Data Compression", The C Users Journal 12(2).
    http://www.pennelynn.com/Documents/CUJ/HTML/94HTML/19940045.HTM
    Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword
    Units". https://arxiv.org/abs/1508.07909
    Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", section 2.2.
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    The three patterns are constants published by OpenAI in tiktoken, openai_public.py.
    https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
"""

import hashlib
import heapq
import json
import math
import operator
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, SupportsIndex

import regex
import tiktoken

GPT2_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)
GPT4_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"""
    r"""| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
GPT4O_PATTERN = "|".join([
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}""",
    r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
    r"""\s*[\r\n]+""",
    r"""\s+(?!\S)""",
    r"""\s+""",
])

END_OF_TEXT = "<|endoftext|>"
BYTES = tuple(bytes([value]) for value in range(256))

_LONG_WORD = 64  # bytes; from here on, keeping the best pair in a heap beats looking for it
_CACHE_SIZE = 1 << 16  # words whose ids are remembered
_FORMAT, _VERSION = "gptbook-tokenizer", 1
_GAP = -1  # stands between two words in training, where no token may reach across


@dataclass(frozen=True, slots=True)
class Merge:
    """One step of training: two tokens become one."""

    left: bytes
    right: bytes
    count: int

    @property
    def token(self) -> bytes:
        """The new token."""
        return self.left + self.right


def learn_merges(texts: str | Iterable[str], pattern: str = GPT2_PATTERN) -> Iterator[Merge]:
    """Find one merge after another: always the pair of neighbors that is most frequent now.

    Among pairs as frequent as each other, the one whose tokens were found first wins (left token
    first, then right; single bytes before all others, in the order of their values). So the order
    of the texts does not matter. The end comes when no pair occurs twice.

    Counts are kept, not recounted: a merge visits only the places where its pair stands, so
    training costs about as much as all merges have places.

    Args:
        texts: One text or several; tokens never reach from one into the next.
        pattern: Regular expression whose matches are the words. It must leave no character out.

    Raises:
        TypeError: If a text is not a string.
        ValueError: If the texts are empty, hold half a surrogate pair, or are not covered by the
            pattern.

    >>> [merge.token for merge in learn_merges("low lower lowest")]
    [b'lo', b'low', b' low', b' lowe']
    """
    words = _count_words(texts, _compile(pattern))
    if not words:
        raise ValueError("there is nothing to learn from: the corpus is empty; give it some text")
    return _merges(words)


class Tokenizer:
    """A byte-level BPE: ids of tokens for text, and text for ids.

    The tokens alone decide how a word is cut: of all neighbors that together are a token, those
    with the lowest id merge first. That is also how tiktoken reads a table of ranks.

    Args:
        tokens: Every ordinary token, in the order of ids: 256 single bytes, then the merges.
        pattern: Regular expression whose matches are the words that no token reaches beyond.
        special_tokens: Ids of the tokens that stand for themselves and are never merged.

    Raises:
        TypeError: If a token is not bytes, or a special token not text with an integer.
        ValueError: If a byte is missing, a token stands twice or is not the join of two earlier
            ones, the pattern is no regular expression, or two tokens share an id.

    >>> tokenizer = Tokenizer.train("low lower lowest", vocab_size=259)
    >>> tokenizer.encode("a low")
    [97, 258]
    >>> tokenizer.decode([97, 258])
    'a low'
    """

    def __init__(
        self,
        tokens: Iterable[bytes],
        pattern: str = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self._tokens = _checked_tokens(tokens)
        self._ranks = {token: rank for rank, token in enumerate(self._tokens)}
        self._words = _compile(pattern)
        self._special = _checked_special_tokens(special_tokens or {}, len(self._tokens))
        self._special_bytes = {number: name.encode() for name, number in self._special.items()}
        self._any_special = _any_of(self._special)
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        pattern: str = GPT2_PATTERN,
        special_tokens: Collection[str] = (),
    ) -> "Tokenizer":
        """Learn a vocabulary from text.

        Args:
            texts: One text or several. Special tokens in them are cut out, not learned from.
            vocab_size: How many tokens to have in all: 256 bytes, merges and special tokens.
            pattern: Regular expression whose matches are the words.
            special_tokens: Names of the special tokens; they get the last ids.

        Raises:
            TypeError: If a text is not a string, or `vocab_size` not an integer.
            ValueError: If `vocab_size` is too small for the bytes and special tokens or too large
                for the text, or `learn_merges` refuses the text.
        """
        names = _checked_names("special_tokens", special_tokens)
        smallest = len(BYTES) + len(names)
        if _integer("vocab_size", vocab_size) < smallest:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: 256 single bytes and {len(names)} special "
                f"tokens need {smallest}; ask for at least that"
            )
        num_merges = vocab_size - smallest
        merges = islice(learn_merges(_without(names, texts), pattern), num_merges)
        tokens = [*BYTES, *(merge.token for merge in merges)]
        if len(tokens) < len(BYTES) + num_merges:
            raise ValueError(
                f"vocab_size={vocab_size} is too large: after {len(tokens) + len(names)} tokens no "
                "pair occurs twice in the text; ask for at most that, or give more text"
            )
        return cls(tokens, pattern, {name: len(tokens) + i for i, name in enumerate(names)})

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> "Tokenizer":
        """Take over the vocabulary, the pattern and the special tokens of a tiktoken encoding.

        Raises:
            ValueError: If its ordinary tokens do not have the ids from 0 on without a gap, or are
                not built of pairs of earlier ones.
        """
        ranks = encoding._mergeable_ranks
        tokens = sorted(ranks, key=ranks.__getitem__)
        if [ranks[token] for token in tokens] != list(range(len(tokens))):
            raise ValueError(
                f"the ranks of {encoding.name!r} are not 0 to {len(tokens) - 1}; "
                "only an encoding without gaps can be taken over"
            )
        return cls(tokens, encoding._pat_str, encoding._special_tokens)

    @classmethod
    def from_gpt2_files(
        cls,
        vocab_json: str | Path,
        merges_txt: str | Path,
        pattern: str = GPT2_PATTERN,
        special_tokens: Collection[str] = (END_OF_TEXT,),
    ) -> "Tokenizer":
        """Read a vocabulary in the two files that GPT-2 was published with.

        Both write every byte as one visible character; `gpt2_byte_characters` is the table. The
        merges say which tokens there are and in which order, the vocabulary repeats them with
        their ids, and both must agree.

        Args:
            vocab_json: `vocab.json` (OpenAI's own name for it is `encoder.json`).
            merges_txt: `merges.txt` (OpenAI's own name for it is `vocab.bpe`).
            pattern: Regular expression whose matches are the words; the files do not hold it.
            special_tokens: Names in the vocabulary that are special tokens.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file is damaged, or the two do not agree.
        """
        names = _checked_names("special_tokens", special_tokens)
        ids, special = _read_gpt2_vocabulary(Path(vocab_json), names)
        merges = _read_gpt2_merges(Path(merges_txt))
        single = sorted((byte for byte in BYTES if byte in ids), key=ids.__getitem__)
        tokens = [*single, *(left + right for left, right in merges)]
        expected = {token: rank for rank, token in enumerate(tokens)}
        if ids != expected:
            odd = min(ids.items() ^ expected.items(), key=lambda item: (item[1], item[0]))
            raise ValueError(
                f"{vocab_json} and {merges_txt} do not agree on {odd[0]!r} with id {odd[1]}, which "
                "only one of them has; take both files from the same model, and name "
                "its special tokens in special_tokens=(...)"
            )
        for (left, right), rank in zip(merges, range(len(single), len(tokens)), strict=True):
            late = next((part for part in (left, right) if ids.get(part, rank) >= rank), None)
            if late is not None:
                raise ValueError(
                    f"{merges_txt} merges {left!r} and {right!r} before {late!r} is a token; "
                    "get the file again"
                )
        return _named(f"{vocab_json}, {merges_txt}", tokens, pattern, special)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer that `save` wrote.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is not such a file, or not as it was saved.
        """
        content = _read_json(Path(path))
        fields = {"format", "version", "pattern", "special_tokens", "tokens", "sha256"}
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f'{path} is no tokenizer: it lacks "format": "{_FORMAT}"')
        if content.get("version") != _VERSION:
            raise ValueError(
                f"{path} is of version {content.get('version')!r}, and this gptbook reads version "
                f"{_VERSION}; install the gptbook that wrote it, or train and save again"
            )
        digest = content.pop("sha256", None)
        texts = content.get("tokens")
        if (
            set(content) | {"sha256"} != fields
            or digest != _digest(content)
            or not isinstance(texts, list)
            or not all(isinstance(text, str) and max(text, default="") <= "\xff" for text in texts)
        ):
            raise ValueError(
                f"{path} is damaged: its content is not what was saved; save the tokenizer again"
            )
        tokens = [text.encode("latin-1") for text in texts]
        return _named(str(path), tokens, content["pattern"], content["special_tokens"])

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as plain JSON; each byte of a token is one Latin-1 character.

        The file appears whole or not at all: whatever stood there stays until the end.

        Raises:
            OSError: If the file cannot be written.
        """
        content: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "pattern": self.pattern,
            "special_tokens": self._special,
            "tokens": [token.decode("latin-1") for token in self._tokens],
        }
        content["sha256"] = _digest(content)
        path = Path(path)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("w", encoding="ascii", newline="\n") as file:
                json.dump(content, file, indent=0)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def to_tiktoken(self, name: str = "gptbook") -> tiktoken.Encoding:
        """Make a real `tiktoken.Encoding` of this vocabulary: the same ids, found in Rust.

        Raises:
            ValueError: If tiktoken's regular expressions cannot express the pattern.
        """
        try:
            return tiktoken.Encoding(
                name,
                pat_str=self.pattern,
                mergeable_ranks=self._ranks,
                special_tokens=self._special,
            )
        except ValueError as error:
            raise ValueError(
                f"tiktoken cannot express the split pattern {self.pattern!r}: {error}; train "
                "with a pattern that Rust knows too, such as GPT2_PATTERN"
            ) from error

    @property
    def pattern(self) -> str:
        """The regular expression whose matches are the words."""
        return self._words.pattern

    @property
    def tokens(self) -> list[bytes]:
        """Every ordinary token, in the order of ids."""
        return list(self._tokens)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of every special token."""
        return dict(self._special)

    @property
    def vocab_size(self) -> int:
        """How many rows an embedding table needs: the largest id, plus one."""
        return max([len(self._tokens) - 1, *self._special_bytes]) + 1

    def encode(self, text: str, allowed_special: str | Collection[str] = ()) -> list[int]:
        """Cut text into tokens and give their ids.

        Args:
            text: Any text.
            allowed_special: Special tokens that may become ids where their names stand in the
                text, or "all". Text from others should not be allowed any: it could end the
                text, or speak for someone else.

        Raises:
            TypeError: If `text` is not a string, or `allowed_special` no collection of strings.
            ValueError: If the text holds a special token that is not allowed or half a surrogate
                pair, or a name in `allowed_special` is not a special token.
        """
        _check_text("text", text)
        allowed = self._allowed(allowed_special)
        if self._any_special is None:
            return self._encode_words(text)
        token_ids: list[int] = []
        start = 0
        for match in self._any_special.finditer(text):
            name = match[0]
            if name not in allowed:
                raise ValueError(
                    f"the text holds the special token {name!r} at position {match.start()}; "
                    f"pass allowed_special={{{name!r}}} to get its id, or use encode_ordinary to "
                    "treat it as ordinary text"
                )
            token_ids += self._encode_words(text[start : match.start()])
            token_ids.append(self._special[name])
            start = match.end()
        return token_ids + self._encode_words(text[start:])

    def encode_ordinary(self, text: str) -> list[int]:
        """Cut text into ordinary tokens, whatever it says: no special token comes out.

        Raises:
            TypeError: If `text` is not a string.
            ValueError: If the text holds half a surrogate pair.
        """
        _check_text("text", text)
        return self._encode_words(text)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Cut bytes into ordinary tokens, be they text in UTF-8 or not.

        Raises:
            TypeError: If `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(
                f"encode_bytes takes bytes, not a value {_kind(data)}; for a string use "
                "encode_ordinary"
            )
        return self._encode_words(data.decode("utf-8", "surrogateescape"))

    def decode_bytes(self, token_ids: Iterable[SupportsIndex]) -> bytes:
        """Join the bytes of tokens.

        Raises:
            TypeError: If `token_ids` is not a row of integers.
            ValueError: If an id is outside the vocabulary.
        """
        if isinstance(token_ids, str | bytes) or not isinstance(token_ids, Iterable):
            raise TypeError(
                f"decoding takes a list of ids, not a value {_kind(token_ids)}; for one id write "
                "[token_id]"
            )
        numbers: list[Any] = list(token_ids)
        plain = set(map(type, numbers)) == {int}
        if plain and min(numbers) >= 0 and max(numbers) < len(self._tokens):
            return b"".join(map(self._tokens.__getitem__, numbers))  # the usual case, at full speed
        return b"".join(map(self.token_bytes, numbers))

    def decode(self, token_ids: Iterable[SupportsIndex], errors: str = "replace") -> str:
        """Join tokens to text.

        One character can be spread over several tokens, so decode a whole row at once, not token
        by token.

        Args:
            token_ids: The ids of the tokens.
            errors: What to do with bytes that are not UTF-8: "replace" writes "\ufffd" for them,
                "strict" raises a `UnicodeDecodeError`; see `bytes.decode`.

        Raises:
            TypeError: If `token_ids` is not a row of integers.
            ValueError: If an id is outside the vocabulary.
        """
        return self.decode_bytes(token_ids).decode("utf-8", errors)

    def token_bytes(self, token_id: SupportsIndex) -> bytes:
        """Give the bytes of one token.

        Raises:
            TypeError: If `token_id` is not an integer.
            ValueError: If it is outside the vocabulary.
        """
        number = _integer("a token id", token_id)
        if 0 <= number < len(self._tokens):
            return self._tokens[number]
        if number not in self._special_bytes:
            special = f" and the special tokens' {sorted(self._special_bytes)}"
            raise ValueError(
                f"id {number} is outside the vocabulary: allowed are 0 to {len(self._tokens) - 1}"
                f"{special if self._special else ''}; decode with the tokenizer that encoded"
            )
        return self._special_bytes[number]

    def merges(self) -> list[tuple[bytes, bytes]]:
        """Find for each token beyond the single bytes the two that it is made of, in encoding.

        This is the other way to write a vocabulary down: GPT-2's `merges.txt` lists such pairs, in
        the order of ids, and so do the files of Hugging Face's `tokenizers`.

        Raises:
            ValueError: If encoding never arrives at a token, since the bytes of it merge otherwise.

        >>> Tokenizer.train("low lower lowest", vocab_size=259).merges()
        [(b'l', b'o'), (b'lo', b'w'), (b' ', b'low')]
        """
        ranks = dict(self._ranks)
        pairs = []
        for token in self._tokens:
            if len(token) == 1:
                continue
            rank = ranks.pop(token)  # encode it as if there were no such token
            parts = [self._tokens[part] for part in _merge_short(token, ranks)]
            ranks[token] = rank
            if len(parts) != 2:
                raise ValueError(
                    f"token {rank}, {token!r}, is the join of no two tokens that its bytes merge "
                    f"to ({parts}), so encoding never makes it; leave it out of the vocabulary"
                )
            pairs.append((parts[0], parts[1]))
        return pairs

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        mine = (self._tokens, self.pattern, self._special)
        return mine == (other._tokens, other.pattern, other._special)

    def __hash__(self) -> int:
        return hash((len(self._tokens), self.pattern))

    def __repr__(self) -> str:
        return f"<Tokenizer with {self.vocab_size} ids, {len(self._special)} of them special>"

    def _allowed(self, allowed_special: str | Collection[str]) -> set[str]:
        """Spell out which special tokens are allowed."""
        if allowed_special == "all":
            return set(self._special)
        names = set(_checked_names("allowed_special", allowed_special))
        if names - set(self._special):
            raise ValueError(
                f"no special token {sorted(names - set(self._special))[0]!r} to allow; "
                f"this tokenizer has {sorted(self._special)}"
            )
        return names

    def _encode_words(self, text: str) -> list[int]:
        """Encode ordinary text; stray bytes stand in it as surrogates."""
        remembered = self._cache
        token_ids: list[int] = []
        for word in _split(self._words, text):
            token_ids += remembered.get(word) or self._encode_word(word)
        return token_ids

    def _encode_word(self, word: str) -> list[int]:
        """Encode one word, and remember the ids unless the word is long."""
        data = word.encode("utf-8", "surrogateescape")
        if len(data) >= _LONG_WORD:
            return [self._ranks[data]] if data in self._ranks else _merge_long(data, self._ranks)
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        known = data in self._ranks  # a whole word that is a token stays whole, as in tiktoken
        token_ids = [self._ranks[data]] if known else _merge_short(data, self._ranks)
        self._cache[word] = token_ids
        return token_ids


def published_encodings(
    names: Iterable[str] = ("gpt2", "cl100k_base", "o200k_base"),
) -> dict[str, tiktoken.Encoding]:
    """Get those of the published vocabularies that can be had; the others are left out.

    tiktoken downloads each once. With the environment variable TIKTOKEN_CACHE_DIR it keeps and
    looks for them in that folder, also where there is no network.

    Raises:
        ValueError: If tiktoken knows no encoding of that name.
    """
    known = tiktoken.list_encoding_names()
    encodings = {}
    for name in names:
        if name not in known:
            raise ValueError(f"no published encoding {name!r}; tiktoken knows {sorted(known)}")
        try:
            encodings[name] = tiktoken.get_encoding(name)
        except (OSError, ValueError):  # no network, or one that answers with something else
            continue
    return encodings


def gpt2_byte_characters() -> dict[int, str]:
    """Map every byte to the visible character that stands for it in GPT-2's files.

    A printable byte stands for itself; the others (spaces, controls) take the characters from 256
    on, in order: a space becomes "Ġ".

    References:
        Radford et al. (2019), the published code, src/encoder.py.
        https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), 173), *range(ord("®"), 256)]
    others = [value for value in range(256) if value not in printable]
    table = {value: chr(value) for value in printable}
    return table | {value: chr(256 + place) for place, value in enumerate(others)}


def _merges(words: Mapping[str, int]) -> Iterator[Merge]:
    """Merge the most frequent pair, until none occurs twice.

    The words stand one after another in linked lists, a gap between them. `counts` says how often
    a pair occurs in the text, `places` where its left tokens stand in the lists. A place is never
    removed from `places` but found out of date when visited. Only pairs with the newest token are
    new, and all others only lose; so the heap holds every pair, with a count that is never too low.
    """
    token_at, weight = [_GAP], [0]
    for word, count in words.items():
        data = word.encode()
        token_at += data
        token_at.append(_GAP)
        weight += [count] * (len(data) + 1)
    before = list(range(-1, len(token_at) - 1))
    after = list(range(1, len(token_at) + 1))
    counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for place in range(len(token_at) - 1):
        pair = token_at[place], token_at[place + 1]
        if _GAP not in pair:
            counts[pair] += weight[place]
            places[pair].append(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    tokens = list(BYTES)
    while heap:
        claimed, pair = heapq.heappop(heap)
        count = counts[pair]
        if count < 2:
            continue
        if count < -claimed:  # it has lost some since; let it queue again
            heapq.heappush(heap, (-count, pair))
            continue
        left, right = pair
        merge = Merge(tokens[left], tokens[right], count)
        yield merge
        new = len(tokens)
        tokens.append(merge.token)
        fresh: set[tuple[int, int]] = set()
        for place in sorted(places.pop(pair)):
            second = after[place]
            if token_at[place] != left or token_at[second] != right:
                continue  # another merge, or this one a step before, took one of the two
            times, previous, following = weight[place], before[place], after[second]
            token_at[place], token_at[second] = new, _GAP
            after[place], before[following] = following, place
            if token_at[previous] != _GAP:
                counts[token_at[previous], left] -= times
                joined = token_at[previous], new
                counts[joined] += times
                places[joined].append(previous)
                fresh.add(joined)
            if token_at[following] != _GAP:
                counts[right, token_at[following]] -= times
                joined = new, token_at[following]
                counts[joined] += times
                places[joined].append(place)
                fresh.add(joined)
        del counts[pair]
        for joined in fresh:
            heapq.heappush(heap, (-counts[joined], joined))


def _merge_short(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Merge the pair of lowest rank until there is none; quick for a short word."""
    parts = [BYTES[value] for value in word]
    found = [ranks.get(a + b, math.inf) for a, b in pairwise(parts)]
    while found:
        best = min(found)
        if best == math.inf:
            break
        i = found.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del found[i]
        if i > 0:
            found[i - 1] = ranks.get(parts[i - 1] + parts[i], math.inf)
        if i < len(found):
            found[i] = ranks.get(parts[i] + parts[i + 1], math.inf)
    return [ranks[part] for part in parts]


def _merge_long(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Do what `_merge_short` does with a heap of pairs, so that long words do not cost squares."""
    size = len(word)
    end = list(range(1, size + 1))  # where the part that begins here ends; 0 once it is merged
    before = list(range(-1, size))
    pairs = ((start, start + 2) for start in range(size - 1))
    heap = [(ranks[word[a:b]], a, b) for a, b in pairs if word[a:b] in ranks]
    heapq.heapify(heap)
    while heap:
        _, start, stop = heapq.heappop(heap)
        middle = end[start]
        if middle == 0 or middle >= stop or end[middle] != stop:
            continue  # one of the two parts has been merged with another since
        end[start], end[middle], before[stop] = stop, 0, start
        first = before[start] if start > 0 else start
        last = end[stop] if stop < size else stop
        for a, b in ((first, stop), (start, last)):
            rank = ranks.get(word[a:b])
            if rank is not None and b - a > stop - start:
                heapq.heappush(heap, (rank, a, b))
    token_ids, start = [], 0
    while start < size:
        token_ids.append(ranks[word[start : end[start]]])
        start = end[start]
    return token_ids


def _count_words(texts: str | Iterable[str], pattern: "regex.Pattern[str]") -> Counter[str]:
    """Count every word of the texts."""
    words: Counter[str] = Counter()
    for text in _texts(texts):
        words.update(_split(pattern, text))
    return words


def _texts(texts: str | Iterable[str]) -> Iterator[str]:
    """Go through the texts of a corpus, checking each."""
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"a corpus is a string or several strings, not a value {_kind(texts)}")
    for number, text in enumerate([texts] if isinstance(texts, str) else texts):
        _check_text(f"text {number} of the corpus", text)
        yield text


def _without(names: Sequence[str], texts: str | Iterable[str]) -> Iterator[str]:
    """Cut texts at special tokens, which are not to be learned from."""
    special = _any_of(names)
    for text in _texts(texts):
        yield from [text] if special is None else special.split(text)


def _split(pattern: "regex.Pattern[str]", text: str) -> list[str]:
    """Cut text into words, and see that none of it is lost."""
    if pattern.groups:  # findall would give the groups, not the words
        words = [match[0] for match in pattern.finditer(text)]
    else:
        words = pattern.findall(text)
    if sum(map(len, words)) != len(text):
        raise ValueError(
            f"the split pattern {pattern.pattern!r} leaves characters of the text out, and they "
            r"would be lost; give it an alternative for them, such as |\s+|."
        )
    return words


def _compile(pattern: str) -> "regex.Pattern[str]":
    """Compile a split pattern."""
    if not isinstance(pattern, str):
        raise TypeError(
            f"a split pattern is a string, not a value {_kind(pattern)}; try GPT2_PATTERN"
        )
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(
            f"the split pattern {pattern!r} is no regular expression: {error}; try GPT2_PATTERN"
        ) from error


def _any_of(names: Iterable[str]) -> "regex.Pattern[str] | None":
    """Match any of the names, the longest first; None if there are none."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return regex.compile("|".join(map(regex.escape, longest_first))) if longest_first else None


def _check_text(what: str, text: object) -> None:
    """Refuse what is not text, or cannot be written in UTF-8."""
    if not isinstance(text, str):
        advice = "; for bytes use encode_bytes" if isinstance(text, bytes) else ""
        raise TypeError(f"{what} must be a string, not a value {_kind(text)}{advice}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} holds {text[error.start]!r} at position {error.start}: half a surrogate pair, "
            "which is no character; remove it, or read the text again with its right encoding"
        ) from error


def _kind(value: object) -> str:
    """Name the type of a value."""
    return f"of type {type(value).__name__}"


def _integer(what: str, value: Any) -> int:
    """Accept Python's, NumPy's and PyTorch's integers, but no truth values."""
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool):
            raise TypeError("a truth value")
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f"{what} must be an integer, not {value!r} {_kind(value)}") from error


def _checked_names(what: str, names: Any) -> list[str]:
    """Refuse names of special tokens that are no names, or one string in place of several."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise TypeError(f"{what} takes several names, such as [{names!r}], not {names!r} itself")
    listed = list(names)
    for name in listed:
        _check_text(f"a name in {what}", name)
        if not name:
            raise ValueError(f"a name in {what} is empty; it would stand everywhere")
    if len(set(listed)) < len(listed):
        raise ValueError(f"a name stands twice in {what}: {listed}; keep one")
    return listed


def _checked_tokens(tokens: Iterable[bytes]) -> list[bytes]:
    """Refuse ordinary tokens that no training can have found."""
    listed = list(tokens)
    rank: dict[bytes, int] = {}
    for number, token in enumerate(listed):
        if not isinstance(token, bytes):
            raise TypeError(f"token {number} must be bytes, not {token!r} {_kind(token)}")
        if token in rank:
            raise ValueError(f"tokens {rank[token]} and {number} are both {token!r}; keep one")
        rank[token] = number
    missing = [byte for byte in BYTES if byte not in rank]
    if missing:
        raise ValueError(
            f"{len(missing)} of the 256 single bytes are missing, the first is {missing[0]!r}; "
            "begin with tokenizer.BYTES, or some texts could not be encoded"
        )
    for number, token in enumerate(listed):
        cuts = range(1, len(token))
        if len(token) != 1 and not any(
            rank.get(token[:cut], number) < number and rank.get(token[cut:], number) < number
            for cut in cuts
        ):
            raise ValueError(
                f"token {number}, {token!r}, is not the join of two earlier tokens; "
                "give the tokens in the order in which training found them"
            )
    return listed


def _checked_special_tokens(special_tokens: Mapping[str, int], num_tokens: int) -> dict[str, int]:
    """Refuse special tokens whose ids are taken."""
    if not isinstance(special_tokens, Mapping):
        raise TypeError(
            f"special_tokens maps names to ids, such as {{{END_OF_TEXT!r}: {num_tokens}}}; "
            f"a value {_kind(special_tokens)} came"
        )
    names = _checked_names("special_tokens", special_tokens)
    checked = {
        name: _integer(f"the id of special token {name!r}", special_tokens[name]) for name in names
    }
    for name, number in checked.items():
        if number < num_tokens:
            raise ValueError(
                f"special token {name!r} has id {number}, but 0 to {num_tokens - 1} are those of "
                f"the ordinary tokens; give it {num_tokens} or more"
            )
    if len(set(checked.values())) < len(checked):
        raise ValueError(f"two special tokens share an id: {checked}; give each its own")
    return checked


def _named(source: str, tokens: list[bytes], pattern: str, special: dict[str, int]) -> Tokenizer:
    """Make a tokenizer from files, and name them if it cannot be made."""
    try:
        return Tokenizer(tokens, pattern, special)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from error


def _read_json(path: Path) -> Any:
    """Read a JSON file in which no name stands twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        return json.loads(path.read_bytes(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged, it is not JSON ({error}); get or save the file again"
        ) from error


def _digest(content: Mapping[str, Any]) -> str:
    """Sum up a tokenizer's content, so that damage shows."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_gpt2_vocabulary(
    path: Path, special: list[str]
) -> tuple[dict[bytes, int], dict[str, int]]:
    """Read the ids of ordinary and of special tokens from GPT-2's vocabulary."""
    content = _read_json(path)
    if not isinstance(content, dict) or not all(type(i) is int for i in content.values()):
        raise ValueError(f"{path} is no vocabulary: it must map every token to an integer")
    ordinary = {_gpt2_bytes(text, path): i for text, i in content.items() if text not in special}
    return ordinary, {name: content[name] for name in special if name in content}


def _read_gpt2_merges(path: Path) -> list[tuple[bytes, bytes]]:
    """Read GPT-2's merges: two tokens a line, after a line with the version."""
    merges = []
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged, it is not UTF-8 ({error}); get it again") from error
    for number, line in enumerate(lines, start=1):
        pair = line.rstrip("\r").split(" ")
        if pair == [""] or (number == 1 and line.startswith("#version")):
            continue
        if len(pair) != 2 or "" in pair:
            raise ValueError(f"{path}, line {number}: two tokens were expected, but {line!r} came")
        merges.append((_gpt2_bytes(pair[0], path), _gpt2_bytes(pair[1], path)))
    return merges


_GPT2_BYTE = {character: value for value, character in gpt2_byte_characters().items()}


def _gpt2_bytes(text: str, path: Path) -> bytes:
    """Translate the visible characters of GPT-2's files to bytes."""
    unknown = sorted(set(text) - _GPT2_BYTE.keys())
    if unknown:
        raise ValueError(
            f"{path}: {text!r} is no token, for no byte is written {unknown[0]!r}; "
            "if it is a special token, name it in special_tokens=(...)"
        )
    return bytes(_GPT2_BYTE[character] for character in text)
