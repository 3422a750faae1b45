"""What chapter 1 promises about the tokenizer."""

import json
import os
import random
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import requests
import tiktoken
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

import gptbook.tokenizer
from gptbook.data import python_english
from gptbook.tokenizer import (
    BYTES,
    END_OF_TEXT,
    GPT2_PATTERN,
    GPT4_PATTERN,
    GPT4O_PATTERN,
    Merge,
    Tokenizer,
    gpt2_byte_characters,
    learn_merges,
    published_encodings,
)

PATTERNS = {"gpt2": GPT2_PATTERN, "cl100k_base": GPT4_PATTERN, "o200k_base": GPT4O_PATTERN}
CORPUS = (
    "Mia has a red ball. Tom has a red hat, and Tom's hat isn't Mia's hat.\n\n  Mia gave Tom 1234 "
    "balls; he'll lose 123 of them!\tThe town's people own 12 hats.\r\n"
    "米娅有一个红球。汤姆有一顶帽子。红球红球红球帽子帽子 👍👍👍 déjà déjà vu ʼn ſ 'S 'LL 'ſ "
    "aaaaaaaaaaaaaaaa    \n\n\n"
)
SPECIAL = (END_OF_TEXT, "<|user|>", "<|user|>s")
TOKENIZERS = {
    name: Tokenizer.train(CORPUS, 300, pattern, SPECIAL) for name, pattern in PATTERNS.items()
}
TOKENIZER = TOKENIZERS["gpt2"]


def _characters(pattern: str) -> set[str]:
    """List the characters that tiktoken's regular expressions put into a class."""
    everything = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    ranks = {byte: rank for rank, byte in enumerate(BYTES)}
    rust = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return set(rust.decode(rust.encode_ordinary(everything)))


def _ours(pattern: str) -> set[str]:
    """List the characters that `regex` puts into a class."""
    everything = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    return set(regex.findall(pattern, everything))


# The characters that both tables of Unicode know: younger ones may be cut differently.
KNOWN_TO_BOTH = _characters(r"\P{Cn}") & _ours(r"\P{Cn}")
MOVED = {"ʕ"}  # letters that Unicode has moved from one kind of letters to another

texts = st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda text: "".join(c for c in text if c in KNOWN_TO_BOTH - MOVED)
)
fragments = st.lists(
    st.sampled_from([
        *["Mia", " hat", "'s", "'LL", "'ſ", "12345", " ", "  ", "\n", "\r\n", "\t", "a" * 200],
        *[
            "红球",
            "。",
            "👍",
            "é",
            "e\u0301",
            "\u3000",
            "\x1c",
            "\x85",
            "ǅ",
            "//",
            "!?\n",
            "٣",
            "ª",
        ],
        *["<|endoftext|>", "<|user|>", "<|user|>s", "<|", "\x00", "\U0010ffff"],
    ])
).map("".join)
any_text = st.one_of(texts, fragments, st.text("ab \n", min_size=50, max_size=300))
names = st.sampled_from(sorted(PATTERNS))


# Properties


@given(text=any_text, name=names)
@example(text="a" * 100_000, name="gpt2")
@example(text=" \n" * 50_000, name="cl100k_base")
def test_what_is_encoded_comes_back(text, name):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, allowed_special="all")) == text


@given(data=st.one_of(st.binary(), st.binary(min_size=60, max_size=90)), name=names)
def test_bytes_that_are_no_text_come_back(data, name):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


@given(text=any_text)
def test_bytes_of_text_are_encoded_as_the_text_is(text):
    assert TOKENIZER.encode_bytes(text.encode()) == TOKENIZER.encode_ordinary(text)


@given(
    corpus=st.lists(st.text("abc ", min_size=1, max_size=60), min_size=1, max_size=5),
    seed=st.randoms(use_true_random=False),
)
def test_the_order_of_the_texts_does_not_matter(corpus, seed):
    shuffled = corpus.copy()
    seed.shuffle(shuffled)
    assert list(learn_merges(corpus)) == list(learn_merges(shuffled))


def _count_and_merge(words: list[list[bytes]]) -> list[Merge]:
    """Train by recounting everything after every merge."""
    merges = []
    order = {byte: rank for rank, byte in enumerate(BYTES)}
    while True:
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts or max(counts.values()) < 2:
            return merges
        best = min(counts, key=lambda p: (-counts[p], order[p[0]], order[p[1]]))
        merges.append(Merge(*best, counts[best]))
        order[best[0] + best[1]] = len(order)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [best[0] + best[1]]
                i += 1


# Recounting counts overlapping pairs ("aaa" holds two); so does learn_merges when a pair is new.
@given(
    corpus=st.one_of(
        st.text("ab c", min_size=1, max_size=120), st.text("ab c", min_size=80, max_size=120)
    )
)
@example(corpus=CORPUS)
@example(corpus="aaaaaaaaaaa aaaa aaaaaaa")
@example(corpus="abababab babab ababa bab")
def test_counts_that_are_kept_find_the_merges_that_recounting_finds(corpus):
    words = [[bytes([b]) for b in w.encode()] for w in regex.findall(GPT2_PATTERN, corpus)]
    kept, recounted = list(learn_merges(corpus)), _count_and_merge(words)
    assert kept == recounted


@given(corpus=st.text("aab c", min_size=20, max_size=200))
def test_encoding_cuts_a_word_as_training_left_it(corpus):
    words = [[bytes([b]) for b in w.encode()] for w in regex.findall(GPT2_PATTERN, corpus)]
    merges = _count_and_merge(words)
    tokenizer = Tokenizer([*BYTES, *(merge.token for merge in merges)])
    ids = tokenizer.encode(corpus)
    assert [tokenizer.token_bytes(i) for i in ids] == [token for word in words for token in word]


@given(word=st.one_of(st.text("ab", max_size=150), st.text("Mia hat", max_size=150), texts))
@example(word="a" * 1001)
def test_long_words_are_merged_as_short_ones(word):
    for tokenizer in TOKENIZERS.values():
        data = word.encode()
        short = gptbook.tokenizer._merge_short(data, tokenizer._ranks)
        assert gptbook.tokenizer._merge_long(data, tokenizer._ranks) == short


@given(text=any_text, name=names)
def test_remembered_words_are_encoded_as_new_ones(text, name):
    tokenizer = TOKENIZERS[name]
    tokenizer._cache.clear()
    assert tokenizer.encode_ordinary(text) == tokenizer.encode_ordinary(text)


def test_the_memory_for_words_is_bounded(monkeypatch):
    monkeypatch.setattr(gptbook.tokenizer, "_CACHE_SIZE", 10)
    tokenizer = Tokenizer.train(CORPUS, 300)
    text = " ".join(f"x{i}" for i in range(100)) + "y" * 500
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer._cache) <= 10
    assert max(map(len, tokenizer._cache)) < 100


# Parity


@given(text=any_text, name=names)
@example(text="a" * 100_000, name="gpt2")
@example(text="'ſ'S it'LL", name="cl100k_base")
@example(text="don\u2019t DON'T Don't  \n\n x", name="o200k_base")
def test_agrees_with_tiktoken(text, name):
    tokenizer = TOKENIZERS[name]
    theirs = ENCODINGS[name]
    assert tokenizer.encode_ordinary(text) == theirs.encode_ordinary(text)
    plain = text.replace("<|user|>s", "")  # tiktoken tries names that begin alike in any order
    ours = tokenizer.encode(plain, allowed_special="all")
    assert ours == theirs.encode(plain, allowed_special="all")
    assert tokenizer.decode_bytes(ours) == theirs.decode_bytes(ours)


ENCODINGS = {name: tokenizer.to_tiktoken(name) for name, tokenizer in TOKENIZERS.items()}


def test_agrees_with_tiktoken_on_two_megabytes():
    text = python_english()
    tokenizer = Tokenizer.train(text, 1_000)
    ids = tokenizer.encode_ordinary(text)
    assert ids == tokenizer.to_tiktoken().encode_ordinary(text)
    assert tokenizer.decode(ids) == text


def test_patterns_are_the_published_ones(monkeypatch):
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *a, **k: {})
    monkeypatch.setattr(openai_public, "data_gym_to_mergeable_bpe_ranks", lambda *a, **k: {})
    for name, pattern in PATTERNS.items():
        assert openai_public.ENCODING_CONSTRUCTORS[name]()["pat_str"] == pattern


@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\s", r"\p{M}", r"[\p{Lu}\p{Lt}]"])
def test_letters_digits_and_spaces_are_the_same_for_regex_and_rust(kind):
    assert (_characters(kind) ^ _ours(kind)) & KNOWN_TO_BOTH == set()


def test_only_moved_letters_differ_in_case():
    for kind in (r"\p{Ll}", r"\p{Lo}", r"\p{Lm}"):
        assert (_characters(kind) ^ _ours(kind)) & KNOWN_TO_BOTH <= MOVED


def test_both_tables_know_the_characters_of_unicode_14():
    assert len(KNOWN_TO_BOTH) > 280_000  # unassigned code points are the other 800,000


def _gpt2_files(tokenizer: Tokenizer, merges: list[Merge], folder) -> tuple:
    """Write a tokenizer in GPT-2's two files."""
    table = gpt2_byte_characters()

    def visible(token: bytes) -> str:
        return "".join(table[value] for value in token)

    num_tokens = 256 + len(merges)
    vocabulary = {visible(tokenizer.token_bytes(i)): i for i in range(num_tokens)}
    vocabulary |= tokenizer.special_tokens
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = [f"{visible(merge.left)} {visible(merge.right)}\n" for merge in merges]
    text = "#version: 0.2\n" + "".join(lines)
    (folder / "merges.txt").write_text(text, encoding="utf-8", newline="\n")
    return folder / "vocab.json", folder / "merges.txt"


@pytest.fixture
def gpt2_files(tmp_path):
    """A small vocabulary in GPT-2's form."""
    merges = list(islice(learn_merges(CORPUS), 40))
    tokens = [*BYTES, *(merge.token for merge in merges)]
    tokenizer = Tokenizer(tokens, special_tokens={END_OF_TEXT: len(tokens)})
    return tokenizer, *_gpt2_files(tokenizer, merges, tmp_path)


def test_reads_the_files_that_transformers_reads(gpt2_files):
    from transformers import GPT2Tokenizer

    tokenizer, vocab_json, merges_txt = gpt2_files
    ours = Tokenizer.from_gpt2_files(vocab_json, merges_txt)
    theirs = GPT2Tokenizer(str(vocab_json), str(merges_txt))
    assert ours == tokenizer
    for text in (CORPUS, "Mia's hats  \n\n 米娅 12 hats", END_OF_TEXT + "Tom"):
        assert ours.encode(text, allowed_special="all") == theirs.encode(text)


def test_takes_over_a_tiktoken_encoding():
    for name, tokenizer in TOKENIZERS.items():
        assert Tokenizer.from_tiktoken(ENCODINGS[name]) == tokenizer


@pytest.fixture(scope="module")
def gpt2():
    """GPT-2's published vocabulary, where it can be had."""
    published = published_encodings(["gpt2"])
    if not published:
        pytest.skip("the published vocabularies cannot be had here")
    return published["gpt2"]


def test_the_published_gpt2_is_read_and_agrees(gpt2):
    tokenizer = Tokenizer.from_tiktoken(gpt2)
    assert tokenizer.encode("Hello World") == [15496, 2159]
    text = python_english()[:200_000] + CORPUS
    assert tokenizer.encode_ordinary(text) == gpt2.encode_ordinary(text)
    assert tokenizer.vocab_size == gpt2.n_vocab == 50_257


def test_a_published_vocabulary_that_cannot_be_had_is_left_out(monkeypatch):
    def refuse(name):
        raise requests.exceptions.ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    assert published_encodings() == {}


# Behavior


def test_the_most_frequent_pair_is_merged_first():
    assert list(learn_merges("low lower lowest")) == [
        Merge(b"l", b"o", 3),
        Merge(b"lo", b"w", 3),
        Merge(b" ", b"low", 2),
        Merge(b" low", b"e", 2),
    ]


def test_merges_are_found_while_you_watch():
    merges = learn_merges(CORPUS)
    assert next(merges).count >= next(merges).count > 2


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_merges_can_be_told_from_the_tokens_alone(name):
    tokenizer = Tokenizer.train(CORPUS, 310, PATTERNS[name], SPECIAL)
    found = list(islice(learn_merges(CORPUS, PATTERNS[name]), 310 - 256 - len(SPECIAL)))
    assert tokenizer.merges() == [(merge.left, merge.right) for merge in found]
    assert tokenizer.tokens == [*BYTES, *(merge.token for merge in found)]
    tokenizer.tokens.clear()  # what is handed out is a copy
    assert tokenizer.decode([256]).encode() == found[0].token


def test_a_token_that_encoding_never_makes_has_no_merge():
    tokenizer = Tokenizer([*BYTES, b"bc", b"ab", b"cd", b"abcd"])  # abcd merges to a, bc, d
    assert tokenizer.encode("xabcd") == [120, 97, 256, 100]
    with pytest.raises(ValueError, match=r"token 259, b'abcd', is .* never makes it; leave it out"):
        tokenizer.merges()


def test_tokens_never_reach_from_one_text_into_the_next():
    assert {merge.token for merge in learn_merges(["ab", "ab", "ab"])} == {b"ab"}


def test_tokens_never_reach_beyond_a_word():
    tokens = [TOKENIZER.token_bytes(i) for i in range(256, 297)]
    assert all(b" " not in token.lstrip(b" ") for token in tokens)


def test_special_tokens_in_the_corpus_are_cut_out():
    corpus = ["Mia" + END_OF_TEXT + "Tom"] * 50
    tokenizer = Tokenizer.train(corpus, 261, special_tokens=[END_OF_TEXT])
    tokens = {tokenizer.token_bytes(i) for i in range(256, 260)}
    assert tokens == {b"Mi", b"Mia", b"To", b"Tom"}
    assert tokenizer.special_tokens == {END_OF_TEXT: 260}


def test_the_longest_special_token_wins():
    ids = TOKENIZER.special_tokens
    assert TOKENIZER.encode("<|user|>s<|user|>", allowed_special="all") == [
        ids["<|user|>s"],
        ids["<|user|>"],
    ]


def test_ordinary_text_never_becomes_a_special_token():
    ids = TOKENIZER.encode_ordinary("Mia" + END_OF_TEXT)
    assert max(ids) < min(TOKENIZER.special_tokens.values())
    assert TOKENIZER.decode(ids) == "Mia" + END_OF_TEXT


def test_ids_may_come_from_numpy_and_torch():
    ids = TOKENIZER.encode("Mia has a hat.")
    for row in (np.array(ids), torch.tensor(ids), tuple(ids), iter(ids)):
        assert TOKENIZER.decode(row) == "Mia has a hat."


def test_half_a_character_decodes_to_a_replacement_mark():
    assert TOKENIZER.decode([0xE4]) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        TOKENIZER.decode([0xE4], errors="strict")


def test_an_embedding_table_needs_a_row_for_the_largest_id():
    tokenizer = Tokenizer(BYTES, special_tokens={"<|a|>": 300})
    assert tokenizer.vocab_size == tokenizer.to_tiktoken().n_vocab == 301


def test_a_pattern_with_groups_gives_whole_words():
    tokenizer = Tokenizer.train("ab ab ab", 258, pattern=r"( ?)(\w+)|\s+|.")
    assert tokenizer.encode("ab ab") == tokenizer.to_tiktoken().encode("ab ab")


def test_equal_tokenizers_are_those_that_encode_alike():
    again = Tokenizer.train(CORPUS, 300, GPT2_PATTERN, SPECIAL)
    assert again == TOKENIZER
    assert hash(again) == hash(TOKENIZER)
    assert again != TOKENIZERS["cl100k_base"]
    assert again != "a tokenizer"
    assert repr(again) == "<Tokenizer with 300 ids, 3 of them special>"


def test_one_long_word_is_encoded_in_a_moment():
    letters = "".join(random.Random(0).choices("Miahat", k=100_000))
    ids = TOKENIZER.encode(letters)  # a method that looks at all pairs each time takes hours
    assert TOKENIZER.decode(ids) == letters


# Saving and loading


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_what_is_saved_is_loaded(tmp_path, name):
    path = tmp_path / "tokenizer.json"
    TOKENIZERS[name].save(path)
    assert Tokenizer.load(path) == TOKENIZERS[name]
    assert Tokenizer.load(str(path)).encode(CORPUS) == TOKENIZERS[name].encode(CORPUS)
    content = json.loads(path.read_text(encoding="ascii"))
    assert content["tokens"][TOKENIZERS[name].encode("Mia")[0]] == "Mia"


@given(data=st.data())
def test_damage_is_noticed_and_the_file_named(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.json"
    TOKENIZER.save(path)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut short"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 2))]
    else:
        damaged = whole.copy()
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:
        same = Tokenizer.load(path) == TOKENIZER  # a space became another space, say
    except ValueError as error:
        same = str(path) in str(error)
    assert same


def _resealed(tmp_path, **changes):
    """Save a tokenizer, change its content, and seal it as if it had been saved so."""
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    content = json.loads(path.read_text()) | changes
    del content["sha256"]
    content["sha256"] = gptbook.tokenizer._digest(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, 'lacks "format": "gptbook-tokenizer"'),
        ({"version": 99}, "version 99, and this gptbook reads version 1"),
        ({"tokens": ["a"]}, "255 of the 256 single bytes are missing"),
        ({"tokens": 5}, "is damaged"),
        ({"tokens": [1, 2]}, "is damaged"),
        ({"tokens": ["红"]}, "is damaged"),
        ({"pattern": None}, "a split pattern is a string"),
        ({"pattern": "("}, "no regular expression"),
        ({"special_tokens": {"<|a|>": 5}}, "give it 297 or more"),
        ({"special_tokens": {"<|a|>": True}}, "must be an integer"),
        ({"special_tokens": {"<|a|>": 400, "<|b|>": 400}}, "share an id"),
        ({"special_tokens": ["<|a|>"]}, "maps names to ids"),
        ({"surplus": 1}, "is damaged"),
    ],
)
def test_a_file_that_no_training_wrote_is_refused(tmp_path, without_shape_checks, changes, message):
    path = _resealed(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1, "a": 2}', "[]", "null", "", "\xff"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=regex.escape(str(path))):
        Tokenizer.load(path)


def test_a_file_that_is_missing_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tokenizer.load(tmp_path / "none.json")


@pytest.mark.parametrize(("owner", "last_step"), [(os, "fsync"), (Path, "replace")])
def test_saving_that_fails_leaves_the_old_file(tmp_path, monkeypatch, owner, last_step):
    """Up to the very last step, putting the new file in place, the old one stands untouched."""
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(owner, last_step, fail)
    with pytest.raises(OSError, match="the disk is full"):
        TOKENIZERS["o200k_base"].save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


# Messages


def test_train_says_what_it_needs(without_shape_checks):
    with pytest.raises(ValueError, match=r"vocab_size=255 is too small: .* need 256"):
        Tokenizer.train("text", 255)
    with pytest.raises(ValueError, match=r"vocab_size=256 is too small: .* 1 special .* need 257"):
        Tokenizer.train("text", 256, special_tokens=[END_OF_TEXT])
    with pytest.raises(ValueError, match="after 257 tokens no pair occurs twice"):
        Tokenizer.train("abab", 300)
    with pytest.raises(TypeError, match=r"vocab_size must be an integer, not 300.0"):
        Tokenizer.train("text", 300.0)
    with pytest.raises(TypeError, match="vocab_size must be an integer, not True"):
        Tokenizer.train("text", True)
    with pytest.raises(TypeError, match="special_tokens takes several names"):
        Tokenizer.train("text", 300, special_tokens=END_OF_TEXT)
    with pytest.raises(ValueError, match="stands twice"):
        Tokenizer.train("text", 300, special_tokens=["<|a|>", "<|a|>"])
    with pytest.raises(ValueError, match="is empty; it would stand everywhere"):
        Tokenizer.train("text", 300, special_tokens=[""])


@pytest.mark.parametrize("corpus", ["", [], ["", ""]])
def test_an_empty_corpus_is_refused(corpus):
    with pytest.raises(ValueError, match="the corpus is empty; give it some text"):
        Tokenizer.train(corpus, 300)


@pytest.mark.parametrize("corpus", [b"bytes", 5, None, ["text", b"bytes"]])
def test_a_corpus_must_be_text(without_shape_checks, corpus):
    with pytest.raises(TypeError, match="corpus"):
        next(learn_merges(corpus))


def test_half_a_surrogate_pair_is_refused_with_its_position():
    for method in (TOKENIZER.encode, TOKENIZER.encode_ordinary, learn_merges):
        with pytest.raises(ValueError, match=r"'\\ud83d' at position 3: half a surrogate pair"):
            list(method("Mia\ud83d"))


def test_encode_says_what_it_takes(without_shape_checks):
    with pytest.raises(TypeError, match=r"must be a string, not .* bytes; for bytes use"):
        TOKENIZER.encode(b"Mia")
    with pytest.raises(TypeError, match=r"encode_bytes takes bytes, not .* type str"):
        TOKENIZER.encode_bytes("Mia")
    with pytest.raises(ValueError, match=r"at position 4; pass allowed_special=.* encode_ordinary"):
        TOKENIZER.encode("Mia " + END_OF_TEXT)
    with pytest.raises(ValueError, match=r"special token '<\|user\|>' at position 0"):
        TOKENIZER.encode("<|user|>", allowed_special={END_OF_TEXT})
    with pytest.raises(ValueError, match="no special token '<pad>' to allow; this tokenizer has"):
        TOKENIZER.encode("Mia", allowed_special={"<pad>"})
    with pytest.raises(TypeError, match="allowed_special takes several names"):
        TOKENIZER.encode("Mia", allowed_special=END_OF_TEXT)


@pytest.mark.parametrize("number", [-1, 300, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(number):
    with pytest.raises(ValueError, match=f"id {number} is outside the vocabulary: .* 0 to 296"):
        TOKENIZER.decode([5, number])


@pytest.mark.parametrize("ids", [5, "5", b"5", [5.0], [True], [None], torch.zeros(2, 2).int()])
def test_what_is_no_row_of_ids_is_refused(without_shape_checks, ids):
    with pytest.raises(TypeError):
        TOKENIZER.decode(ids)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([*BYTES, b"ab", b"ab"], ValueError, "tokens 256 and 257 are both b'ab'"),
        (BYTES[1:], ValueError, "1 of the 256 single bytes are missing, the first is b'.x00'"),
        ([*BYTES, b"abc"], ValueError, "token 256, b'abc', is not the join of two earlier"),
        ([*BYTES, b"abc", b"ab"], ValueError, "token 256, b'abc', is not the join"),
        ([*BYTES, b""], ValueError, "token 256, b'', is not the join"),
        ([*BYTES, "ab"], TypeError, "token 256 must be bytes, not 'ab' of type str"),
    ],
)
def test_tokens_that_no_training_found_are_refused(without_shape_checks, tokens, error, message):
    with pytest.raises(error, match=message):
        Tokenizer(tokens)


def test_a_pattern_that_loses_characters_is_refused():
    with pytest.raises(ValueError, match="leaves characters of the text out"):
        Tokenizer(BYTES, pattern=r"\w+").encode("Mia has")
    with pytest.raises(ValueError, match="leaves characters of the text out"):
        Tokenizer.train("Mia has", 256, pattern=r"\w+")


def test_a_pattern_that_rust_does_not_know_is_refused_for_tiktoken():
    tokenizer = Tokenizer(BYTES, pattern=r"(?r)\w+|.")
    with pytest.raises(ValueError, match="tiktoken cannot express the split pattern"):
        tokenizer.to_tiktoken()


def test_an_encoding_with_gaps_is_refused():
    ranks = {byte: 2 * rank for rank, byte in enumerate(BYTES)}
    gaps = tiktoken.Encoding("gaps", pat_str=".", mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(ValueError, match="the ranks of 'gaps' are not 0 to 255"):
        Tokenizer.from_tiktoken(gaps)


def test_an_unknown_published_name_is_refused():
    with pytest.raises(ValueError, match=r"no published encoding 'gpt9'; tiktoken knows .*gpt2"):
        published_encodings(["gpt9"])


def _edit(path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8", newline="\n")


def test_gpt2_files_that_disagree_are_refused(gpt2_files):
    _, vocab_json, merges_txt = gpt2_files
    lines = merges_txt.read_text(encoding="utf-8").splitlines(keepends=True)
    first = "".join(lines[1].split())
    for damaged in (lines[:-1], lines[:1] + lines[2:], [lines[0], lines[2], lines[1], *lines[3:]]):
        merges_txt.write_text("".join(damaged), encoding="utf-8", newline="\n")
        with pytest.raises(ValueError, match=r"vocab.json and .*merges.txt do not agree on b"):
            Tokenizer.from_gpt2_files(vocab_json, merges_txt)
    merges_txt.write_text("".join(lines), encoding="utf-8", newline="\n")
    _edit(vocab_json, json.dumps(first) + ": 256", json.dumps(first) + ": 999")
    with pytest.raises(ValueError, match="do not agree"):
        Tokenizer.from_gpt2_files(vocab_json, merges_txt)


def test_damaged_gpt2_files_are_refused_by_name(gpt2_files):
    _, vocab_json, merges_txt = gpt2_files
    whole = merges_txt.read_bytes()
    for damage, message in (
        (b"a b c\n", "line 2: two tokens were expected"),
        (b"a\n", "line 2: two tokens were expected"),
        (b"\xff \xff\n", "not UTF-8"),
        ("红 a\n".encode(), "no byte is written '红'"),
    ):
        merges_txt.write_bytes(b"#version: 0.2\n" + damage)
        with pytest.raises(ValueError, match=f"merges.txt.*{message}"):
            Tokenizer.from_gpt2_files(vocab_json, merges_txt)
    merges_txt.write_bytes(whole)
    with pytest.raises(ValueError, match=r"vocab.json: '<\|endoftext\|>'|do not agree"):
        Tokenizer.from_gpt2_files(vocab_json, merges_txt, special_tokens=())
    for damage in ("{", "[]", '{"a": "b"}', '{"a": true}'):
        vocab_json.write_text(damage)
        with pytest.raises(ValueError, match=r"vocab.json"):
            Tokenizer.from_gpt2_files(vocab_json, merges_txt)


def test_a_gpt2_merge_of_tokens_that_come_later_is_refused(tmp_path):
    tokens = [*BYTES, b"ab", b"abc", b"bc"]
    late = [Merge(b"a", b"b", 2), Merge(b"a", b"bc", 2), Merge(b"b", b"c", 2)]
    files = _gpt2_files(Tokenizer(tokens), late, tmp_path)
    with pytest.raises(ValueError, match="merges b'a' and b'bc' before b'bc' is a token"):
        Tokenizer.from_gpt2_files(*files)
