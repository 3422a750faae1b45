"""What the chapters promise about the text they train on, from its source to the batches."""

import ast
import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import sysconfig
import threading
import tokenize
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptbook import data
from gptbook.data import (
    CLDR_KINDS,
    IGNORED,
    RULES,
    DocumentBatches,
    NearDuplicates,
    RandomBatches,
    Rule,
    Shards,
    Tokens,
    best_fit,
    cache_folder,
    cldr_pairs,
    docstrings_of,
    drop_exact_duplicates,
    drop_low_quality,
    drop_near_duplicates,
    jaccard,
    littletown_documents,
    normalize,
    pack,
    python_english,
    read_text,
    shingles,
    split_documents,
    tokenizer_fingerprint,
    write_shards,
)
from gptbook.tokenizer import BYTES, END_OF_TEXT, GPT4_PATTERN, Tokenizer

STDLIB = Path(sysconfig.get_path("stdlib"))
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
STORY = "Mia lost her red ball in the park on Monday, and Tom found it under the old bench."
BYTE_TOKENIZER = Tokenizer(BYTES, special_tokens={END_OF_TEXT: 256})

# Documents of ids from 1 on, with 0 to close them.
documents = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=12)
closings = st.sampled_from([0, None])


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Hundreds of small folders are written here: do not wait for the disk each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def sentences(count: int, seed: int = 0, words: int = 40) -> list[str]:
    """Texts that have hardly a run of words in common."""
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(5000)}" for _ in range(words)) for _ in range(count)]


def changed(text: str, places: tuple[int, ...]) -> str:
    """The same text with other words in a few places."""
    words = text.split()
    for place in places:
        words[place] = "other"
    return " ".join(words)


def test_the_english_of_python_is_two_megabytes_of_prose():
    text = python_english()
    assert 1_000_000 < len(text.encode()) < 5_000_000
    assert text.count(" the ") > 10_000
    assert "\r" not in text


def test_the_text_comes_in_the_same_order_each_time():
    first = python_english()
    python_english.cache_clear()
    assert python_english() == first


@pytest.mark.parametrize("name", ["argparse.py", "asyncio/base_events.py", "os.py", "typing.py"])
def test_the_scan_finds_the_docstrings_that_a_parser_finds(name):
    path = STDLIB / name
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    parsed = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, KINDS)]
    assert sorted(docstrings_of(path)) == sorted(text for text in parsed if text)


def test_only_docstrings_are_taken(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "#!/usr/bin/env python\n"
        "# a comment\n\n"
        'r"""The module\'s \\d.\n\n    More of it."""\n'
        "text = '''not this'''\n"
        "def f(x='no',\n      y=1):  # why\n    # before\n    'One\\tline.'\n    'not this'\n"
        'def g(): return """not this"""\n'
        "async def h():\n    '''not this''' % x\n"
        'class C:\n\n    """Empty next."""\n    def m(self):\n        """"""\n'
    )
    assert docstrings_of(path) == [
        "The module's \\d.\n\nMore of it.",
        "One     line.",  # cleandoc expands the tab
        "Empty next.",
    ]


def test_a_file_that_is_no_text_is_passed_over(tmp_path):
    path = tmp_path / "broken.py"
    for content in (b'# coding: no-such\n"""Text."""\n', b'"""\xff"""\n'):
        path.write_bytes(content)
        assert docstrings_of(path) == []


def test_old_escapes_do_not_warn(tmp_path):
    path = tmp_path / "old.py"
    path.write_text('"""A \\d here."""\n')
    assert docstrings_of(path) == ["A \\d here."]


# --- sources ------------------------------------------------------------------------------------


def test_importing_the_module_does_not_import_what_few_chapters_need():
    code = "import sys, gptbook.data; print({'babel', 'datasketch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("kind", CLDR_KINDS)
def test_pairs_are_english_and_chinese_and_always_the_same(kind):
    pairs = list(islice(cldr_pairs(kind), 600))
    assert pairs == list(islice(cldr_pairs(kind), 600))
    assert len(set(pairs)) == len(pairs) > 250
    chinese = [text for _, text in pairs]
    assert sum(any("一" <= character <= "鿿" for character in text) for text in chinese) > 240
    assert all(english and chinese and english != chinese for english, chinese in pairs)
    assert not any(name in text for text in chinese for name in ("duration-", "length-", "area-"))


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        ("dates", ("Tuesday, January 2, 1900", "1900年1月2日星期二")),
        ("durations", ("2 hours, 30 minutes", "2小时30分钟")),
        ("languages", ("French", "法语")),
        ("places", ("China", "中国")),
        ("quantities", ("3 acres", "3英亩")),
    ],
)
def test_pairs_say_the_same(kind, pair):
    assert pair in cldr_pairs(kind)


def test_quantities_come_in_units_that_both_languages_have_a_word_for():
    units = list(data._units())
    assert 150 < len(units) < 200
    assert not any(unit.startswith("duration-") for unit in units)
    for unit in units:
        english, chinese = data._measured(2, unit)
        assert unit not in chinese
        assert english != chinese


def test_there_is_no_pair_of_an_unknown_kind(without_shape_checks):
    with pytest.raises(ValueError, match="no pairs of kind 'recipes'; there are dates, durations"):
        cldr_pairs("recipes")


def test_stories_of_littletown_come_in_both_languages_and_by_seed():
    english = list(littletown_documents(3, seed=1))
    assert english[:2] == list(littletown_documents(2, seed=1))
    assert not set(english) & set(littletown_documents(3, seed=2))
    chinese = list(littletown_documents(3, seed=1, chinese=True))
    assert all(text.isascii() for text in english)
    assert all("。" in text and not text.isascii() for text in chinese)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A server on this machine that counts requests, and a cache folder of its own."""
    monkeypatch.setenv("GPTBOOK_CACHE", str(tmp_path / "cache"))
    text = "Mia und Tom, schön.\n".encode() * 20_000
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked[self.path] += 1
            self.close_connection = True
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/story.txt")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path == "/missing":
                self.send_error(404)
                return
            self.send_response(200)
            if self.path.startswith("/chunked"):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n" % len(text) + text[:1000])
                return
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            breaks_off = self.path.startswith("/broken") and asked[self.path] == 1
            self.wfile.write(text[: len(text) // 2] if breaks_off else text)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", text, asked
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_is_read_once_and_then_from_the_cache(web):
    address, text, asked = web
    digest = hashlib.sha256(text).hexdigest()
    for _ in range(3):
        assert read_text(f"{address}/story.txt", digest.upper()) == text.decode()
    assert read_text(f"{address}/story.txt") == text.decode()
    assert asked == {"/story.txt": 1}
    assert [path.name.endswith("-story.txt") for path in cache_folder().iterdir()] == [True]


def test_two_addresses_that_end_alike_are_two_texts(web):
    address, _, asked = web
    read_text(f"{address}/one/story.txt")
    read_text(f"{address}/two/story.txt")
    assert asked == {"/one/story.txt": 1, "/two/story.txt": 1}


@pytest.mark.parametrize("path", ["/broken.txt", "/chunked.txt"])
def test_a_download_that_breaks_off_is_never_used(web, path):
    address, text, asked = web
    with pytest.raises(OSError, match=f"{path} broke off after .*try again"):
        read_text(address + path)
    assert list(cache_folder().iterdir()) == []
    if path == "/broken.txt":
        assert read_text(address + path) == text.decode()  # the second time it comes whole
        assert asked[path] == 2


def test_content_with_another_sha256_is_refused_and_not_kept(web):
    address, _, asked = web
    for _ in range(2):
        with pytest.raises(ValueError, match=r"story.txt is not what was expected: its SHA-256 is"):
            read_text(f"{address}/story.txt", "0" * 64)
    assert list(cache_folder().iterdir()) == []
    assert asked["/story.txt"] == 2


def test_a_cached_copy_that_was_spoiled_is_downloaded_again(web):
    address, text, asked = web
    digest = hashlib.sha256(text).hexdigest()
    read_text(f"{address}/story.txt", digest)
    next(cache_folder().iterdir()).write_bytes(b"spoiled")
    assert read_text(f"{address}/story.txt", digest) == text.decode()
    assert asked["/story.txt"] == 2


def test_a_redirection_is_followed_and_an_error_of_the_server_is_an_error(web):
    address, text, _ = web
    assert read_text(f"{address}/elsewhere") == text.decode()
    with pytest.raises(OSError, match="404"):
        read_text(f"{address}/missing")


@pytest.mark.parametrize("address", ["file:///etc/hosts", "ftp://x.org/a", "data://text"])
def test_only_the_web_is_read_from(address):
    with pytest.raises(ValueError, match="begins with http:// or https://, or the path"):
        read_text(address)


def test_a_file_is_read_as_utf8_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "story.txt"
    path.write_bytes("\ufeff球\r\n".encode())
    assert read_text(path) == read_text(str(path)) == "球\r\n"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_text(path, digest) == "球\r\n"
    with pytest.raises(ValueError, match="its SHA-256 is"):
        read_text(path, digest[::-1])


def test_text_in_another_encoding_is_refused_with_the_place(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("one\ncafé".encode("latin-1"))
    with pytest.raises(ValueError, match=r"no text in utf-8: .* at byte 7 \(0xe9, line 2\)"):
        read_text(path)
    assert read_text(path, encoding="latin-1") == "one\ncafé"


# --- cleaning -----------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=40))
def test_normal_text_stays_as_it_is(text):
    once = normalize(text)
    assert normalize(once) == once == unicodedata.normalize("NFC", once)
    once.encode()  # no half of a surrogate pair is left
    controls = {c for c in once if unicodedata.category(c) in {"Cc", "Zl", "Zp"}}
    assert controls <= {"\n", "\t"}
    assert not any(line != line.rstrip() for line in once.split("\n"))
    assert "\n\n\n" not in once


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A\u030a", "Å"),
        ("one\r\ntwo\rthree\x0cfour\u2028five", "one\ntwo\nthree\nfour\nfive"),
        ("a\u00a0b\u3000c\u2009d", "a b c d"),
        ("a\ufeff\x00\x1bb\ud800", "ab"),
        ("  indented\n\tso\n\n\n\n  end  \n\n", "  indented\n\tso\n\n  end"),
        ("ﬁve ① x²", "ﬁve ① x²"),  # what looks different stays different
        ("", ""),
    ],
)
def test_normalizing_writes_what_looks_the_same_the_same_way(raw, clean):
    assert normalize(raw) == clean


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Mia.", "too short"),
        ("Mia lost her red ball in the \ufffd\ufffd.", "unreadable characters"),
        ("Mia == {} != [] && --> ** lost ++ %% her ## ball ^^ in the && park", "too many symbols"),
        ("Home is here\nNews\nHome is here\nNews\nHome is here", "repeated lines"),
        ("buy it now and save " * 5, "repeated phrases"),
        (f"Mia drew a picture in the park: {'iVBORw0KGgo' * 10}", "endless word"),
        (STORY, None),
        ("米娅在公园里丢了她的红球，汤姆把它还给了她。", None),
        ("मिया ने पार्क में अपनी लाल गेंद खो दी और टॉम को वह मिली।", None),
    ],
)
def test_each_rule_catches_its_kind_of_dirt_and_spares_good_text_of_any_script(text, reason):
    removed: Counter[str] = Counter()
    kept = list(drop_low_quality([text], removed=removed))
    assert (kept, removed) == (([], {reason: 1}) if reason else ([text], {}))
    assert reason is None or reason in {rule.reason for rule in RULES}


def test_the_first_rule_that_a_document_breaks_is_counted_and_rules_are_the_readers_to_choose():
    rules = (Rule("long", len, high=3.0), Rule("empty", len, low=1.0))
    removed = Counter(before=1)
    assert list(drop_low_quality(["abc", "", "abcd"], rules, removed=removed)) == ["abc"]
    assert removed == {"before": 1, "long": 1, "empty": 1}


def test_the_value_at_the_edge_of_a_range_is_allowed():
    rule = Rule("short or long", len, low=2.0, high=3.0)
    assert [rule.removes("x" * size) for size in range(1, 5)] == [True, False, False, True]


# --- duplicates ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "b", "c", "a ", "c\r\n", "A"])))
def test_the_first_of_equal_documents_stays_in_its_place(texts):
    removed: Counter[str] = Counter()
    kept = list(drop_exact_duplicates(texts, removed=removed))
    first = dict(zip(reversed(list(map(normalize, texts))), reversed(texts), strict=True))
    assert kept == list(dict.fromkeys(first[normalize(text)] for text in texts))
    assert len(kept) + removed["exact duplicate"] == len(texts)


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_likeness_is_the_share_of_what_both_have(first, second):
    likeness = jaccard(first, second)
    assert 0 <= likeness == jaccard(second, first) <= 1
    assert (likeness == 1) == (first == second)
    assert likeness * len(first | second) == pytest.approx(len(first & second))


def test_shingles_are_runs_of_words_in_any_script():
    assert shingles("One, two; THREE four", 3) == {"one two three", "two three four"}
    assert shingles("汤姆有球abc。", 2) == {"汤 姆", "姆 有", "有 球", "球 abc"}
    assert shingles("too short", 5) == {"too short"}
    assert shingles("!?", 5) == {"!?"}  # without a word, the text itself
    with pytest.raises(ValueError, match="size=0 is no number of words; 5 is usual"):
        shingles("text", 0)


def test_near_duplicates_are_found_and_others_are_not():
    texts = sentences(80, words=60)
    index = NearDuplicates()
    assert [index.add(text) for text in texts] == list(range(80)) == list(range(len(index)))
    for number, text in enumerate(texts):
        assert index.find(text) == [number]
        assert index.find(changed(text, (3,))) == [number]  # 51 of 61 shingles are shared
        assert index.find(changed(text, (10, 30, 50))) == []  # 41 of 71


def test_hardly_any_document_is_compared_in_full(monkeypatch):
    compared = []
    monkeypatch.setattr(data, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    index = NearDuplicates()
    for text in sentences(100):
        index.find(text)
        index.add(text)
    assert len(compared) < 10  # of 4950 pairs


@given(st.integers(0, 1000), st.lists(st.integers(0, 39), max_size=3))
def test_what_is_found_is_at_least_as_alike_as_the_threshold_says(seed, places):
    text = sentences(1, seed)[0]
    other = changed(text, tuple(places))
    likeness = jaccard(shingles(text), shingles(other))
    index = NearDuplicates(0.7)
    index.add(text)
    assert index.find(other) == ([0] if likeness >= 0.7 else [])


def test_finding_does_not_depend_on_chance():
    texts = [changed(text, (place,)) for text in sentences(20) for place in (0, 1, 39)]
    runs = [list(drop_near_duplicates(texts)) for _ in range(2)]
    assert runs[0] == runs[1] == texts[::3]


def test_no_two_documents_that_remain_are_almost_the_same():
    draw = random.Random(0)
    texts = [
        changed(text, tuple(draw.randrange(40) for _ in range(draw.randrange(3))))
        for text in sentences(12, words=60)
        for _ in range(5)
    ]
    removed: Counter[str] = Counter()
    kept = list(drop_near_duplicates(texts, removed=removed))
    assert len(kept) + removed["near duplicate"] == len(texts)
    sets = [shingles(text) for text in kept]
    alike = [jaccard(a, b) for number, a in enumerate(sets) for b in sets[:number]]
    assert max(alike) < 0.8
    assert removed["near duplicate"] > 20


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match=r"no similarity above 0 and up to 1; try 0\.8"):
        NearDuplicates(threshold)


# --- split --------------------------------------------------------------------------------------


def test_the_two_sides_share_no_document_that_is_almost_the_same():
    texts = [t for text in sentences(60) for t in (text, text, changed(text, (0,)))]
    random.Random(0).shuffle(texts)
    split = split_documents(texts, validation_share=0.3)
    sides = [[shingles(text) for text in side] for side in (split.train, split.validation)]
    assert max(jaccard(a, b) for a in sides[0] for b in sides[1]) < 0.8
    assert sorted(split.train + split.validation) == sorted(texts)
    assert 0.1 < len(split.validation) / len(texts) < 0.5
    assert not split.dropped


@given(st.integers(0, 100), st.integers(0, 10), st.sampled_from([0.8, None]))
def test_documents_added_at_the_end_move_none(seed, num_added, threshold):
    texts = sentences(12, seed, words=20)
    more = sentences(num_added, seed + 1, words=20) + [changed(text, (0,)) for text in texts]
    before = split_documents(texts, validation_share=0.4, threshold=threshold)
    after = split_documents(texts + more, validation_share=0.4, threshold=threshold)
    assert after.train[: len(before.train)] == before.train
    assert after.validation[: len(before.validation)] == before.validation


def test_a_document_that_would_stand_on_both_sides_is_dropped():
    texts = sentences(40)
    split = split_documents(texts, validation_share=0.5)
    first, second = split.train[0].split(), split.validation[0].split()
    bridge = " ".join(first + second)
    both = split_documents([*texts, bridge], validation_share=0.5, threshold=0.3)
    assert both.dropped == [bridge]
    assert (both.train, both.validation) == (split.train, split.validation)


def test_the_share_is_kept_and_the_seed_decides_which():
    texts = sentences(3000, words=5)
    sides = [split_documents(texts, threshold=None, seed=seed).validation for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]
    assert all(0.08 < len(side) / 3000 < 0.12 for side in sides)
    larger = split_documents(texts, threshold=None, validation_share=0.3).validation
    assert set(sides[0]) < set(larger)  # a larger share only takes from the other side


@pytest.mark.parametrize("share", [0.0, 1.0, 10.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"no share between 0 and 1; 0\.1 is usual"):
        split_documents(["text"], validation_share=share)


# --- tokens and shards --------------------------------------------------------------------------


@given(documents, closings)
def test_the_row_holds_every_document_and_gives_it_back(ids, closing):
    tokens = Tokens(ids, end_of_text=closing)
    closed = [[*document, *([] if closing is None else [0])] for document in ids]
    row = [*([] if closing is None else [0]), *(i for document in closed for i in document)]
    assert [tokens[number].tolist() for number in range(len(tokens))] == closed
    assert tokens.stream().tolist() == row
    assert tokens.stream().dtype == np.int64
    assert tokens.num_tokens == sum(map(len, closed))
    assert tokens.num_predictions.sum() == sum(map(len, closed)) - (closing is None) * len(ids)


@given(documents, closings, st.integers(0, 50), st.integers(0, 50))
def test_any_part_of_the_row_is_the_part_of_the_whole(ids, closing, start, length):
    tokens = Tokens(ids, end_of_text=closing)
    stop = start + length
    if stop <= tokens.row_length:
        assert tokens.stream(start, stop).tolist() == tokens.stream().tolist()[start:stop]
    else:
        with pytest.raises(ValueError, match=f"places {start} to {stop} are not in a row"):
            tokens.stream(start, stop)


def test_every_place_of_the_row_belongs_to_a_document():
    tokens = Tokens([[5, 6], [7]], end_of_text=0)
    assert tokens.document_at(np.arange(6)).tolist() == [-1, 0, 0, 0, 1, 1]
    tokens = Tokens([[5, 6], [7]])
    assert tokens.document_at(np.arange(3)).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "there are no documents"),
        ([[1], []], "document 1 has no tokens; leave empty documents out"),
        ([[1], [2, -3]], "document 1 has the id -3; ids are 0 and up"),
    ],
)
def test_rows_that_are_none_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        Tokens(ids)


def test_there_is_no_document_beyond_the_last():
    tokens = Tokens([[1]])
    for number in (1, -1):
        with pytest.raises(IndexError, match="there are 0 to 0"):
            tokens[number]


def test_text_is_cut_by_the_tokenizer_and_closed_by_its_end_of_text():
    tokens = Tokens.encode(["ab", "<|endoftext|>"], BYTE_TOKENIZER)
    assert tokens[0].tolist() == [97, 98, 256]
    assert tokens[1].tolist() == [*b"<|endoftext|>", 256]  # written by somebody, not by us
    assert Tokens.encode(["ab"], BYTE_TOKENIZER, end_of_text=None).stream().tolist() == [97, 98]
    with pytest.raises(ValueError, match=r"no special token '<s>', only \['<\|endoftext\|>'\]"):
        Tokens.encode(["ab"], BYTE_TOKENIZER, end_of_text="<s>")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    st.integers(1, 30),
)
def test_shards_hold_what_was_written_whatever_their_size(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("shards") / "train"
    written = write_shards(folder, texts, BYTE_TOKENIZER, tokens_per_shard=size)
    in_memory = Tokens.encode(texts, BYTE_TOKENIZER)
    for shards in (written, Shards(folder, BYTE_TOKENIZER)):
        assert shards.stream().tolist() == in_memory.stream().tolist()
        assert shards.ends.tolist() == in_memory.ends.tolist()
        assert shards.end_of_text == 256
        assert shards.num_bytes == sum(len(text.encode()) for text in texts)
    assert [BYTE_TOKENIZER.decode(shards[n][:-1]) for n in range(len(shards))] == texts
    files = list(folder.glob("*.tokens.bin"))
    assert all(file.stat().st_size >= 2 * size for file in sorted(files)[:-1])
    assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_the_format_is_as_told(tmp_path):
    write_shards(tmp_path / "train", ["ab", "c"], BYTE_TOKENIZER, tokens_per_shard=3)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [
        *("00000.ends.bin", "00000.tokens.bin", "00001.ends.bin", "00001.tokens.bin"),
        "index.json",
    ]
    first = tmp_path / "train" / "00000.tokens.bin"
    assert first.read_bytes() == b"a\0b\0\0\1"
    assert (tmp_path / "train" / "00000.ends.bin").read_bytes() == b"\3" + 7 * b"\0"
    index = json.loads((tmp_path / "train" / "index.json").read_text())
    assert index["shards"][0]["tokens"]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()


@pytest.mark.parametrize(("last_id", "size"), [((1 << 16) - 1, 2), (1 << 16, 4)])
def test_ids_take_two_bytes_as_long_as_they_fit(tmp_path, last_id, size):
    tokenizer = Tokenizer(BYTES, special_tokens={END_OF_TEXT: last_id})
    shards = write_shards(tmp_path / "train", ["a"], tokenizer)
    assert shards.stream().tolist() == [last_id, 97, last_id]
    assert (tmp_path / "train" / "00000.tokens.bin").stat().st_size == 2 * size


def test_shards_are_mapped_and_not_read(tmp_path):
    shards = write_shards(tmp_path / "train", ["ab"], BYTE_TOKENIZER)
    assert any(isinstance(part, np.memmap) for part in shards._parts)


@pytest.mark.parametrize("name", ["00000.tokens.bin", "00001.ends.bin", "index.json"])
def test_a_file_that_is_cut_or_changed_is_refused_by_name(tmp_path, name):
    folder = tmp_path / "train"
    write_shards(folder, ["Mia", "Tom", "Ann"], BYTE_TOKENIZER, tokens_per_shard=4)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{name} is (truncated|damaged).*write"):
        Shards(folder, BYTE_TOKENIZER)
    (folder / name).write_bytes(whole + b"]")
    with pytest.raises(ValueError, match=f"{name} (has grown|is damaged)"):
        Shards(folder, BYTE_TOKENIZER)
    for place in (0, len(whole) // 2, len(whole) - 1):
        other = bytes([whole[place] ^ 1])
        (folder / name).write_bytes(whole[:place] + other + whole[place + 1 :])
        with pytest.raises(ValueError, match=f"{name} is (not as it was written|damaged|no index)"):
            Shards(folder, BYTE_TOKENIZER)
    (folder / name).unlink()
    with pytest.raises(OSError, match=name):
        Shards(folder, BYTE_TOKENIZER)
    (folder / name).write_bytes(whole)
    Shards(folder, BYTE_TOKENIZER)


def test_an_index_of_another_version_says_what_to_do(tmp_path):
    folder = tmp_path / "train"
    write_shards(folder, ["Mia"], BYTE_TOKENIZER)
    index = json.loads((folder / "index.json").read_text())
    for change, message in (
        ({"version": 9}, "of version 9, and this gptbook reads version 1; install"),
        ({"format": "other"}, "is no index of shards"),
        ({"num_bytes": 7}, "is not as it was written"),
    ):
        (folder / "index.json").write_text(json.dumps(index | change))
        with pytest.raises(ValueError, match=message):
            Shards(folder, BYTE_TOKENIZER)


@pytest.mark.parametrize(
    "other",
    [
        Tokenizer(BYTES),
        Tokenizer(BYTES, special_tokens={END_OF_TEXT: 257}),
        Tokenizer(BYTES[::-1], special_tokens={END_OF_TEXT: 256}),
        Tokenizer(BYTES, GPT4_PATTERN, special_tokens={END_OF_TEXT: 256}),
        Tokenizer([*BYTES, b"ab"], special_tokens={END_OF_TEXT: 257}),
    ],
)
def test_shards_of_another_tokenizer_are_refused_by_name(tmp_path, other):
    write_shards(tmp_path / "train", ["Mia"], BYTE_TOKENIZER)
    with pytest.raises(ValueError, match="train was written with another tokenizer: its finger"):
        Shards(tmp_path / "train", other)


def test_a_tokenizer_and_its_copy_in_tiktoken_write_and_read_the_same_shards(tmp_path):
    tokenizer = Tokenizer.train(STORY * 3, 280, special_tokens=[END_OF_TEXT])
    encoding = tokenizer.to_tiktoken()
    assert isinstance(encoding, tiktoken.Encoding)
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(encoding)
    ours = write_shards(tmp_path / "ours", [STORY, "Tom"], tokenizer)
    theirs = write_shards(tmp_path / "theirs", [STORY, "Tom"], encoding)
    assert ours.stream().tolist() == theirs.stream().tolist()
    names = [path.name for path in sorted((tmp_path / "ours").iterdir())]
    contents = [
        [(tmp_path / side / name).read_bytes() for name in names] for side in ("ours", "theirs")
    ]
    assert contents[0] == contents[1]
    Shards(tmp_path / "ours", encoding)


def test_a_folder_of_shards_appears_whole_or_not_at_all(tmp_path):
    def documents():
        yield "Mia"
        assert [path.name.endswith(".partial") for path in tmp_path.iterdir()] == [True]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "train", documents(), BYTE_TOKENIZER)
    assert list(tmp_path.iterdir()) == []


def test_files_are_on_the_disk_before_the_folder_appears(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((tmp_path / "x").exists()))
    write_shards(tmp_path / "x", ["Mia", "Tom"], BYTE_TOKENIZER, tokens_per_shard=2)
    assert synced == [False] * 5


def test_nothing_is_overwritten_and_an_empty_folder_is_used(tmp_path):
    (tmp_path / "train").mkdir()
    write_shards(tmp_path / "train", ["Mia"], BYTE_TOKENIZER)
    with pytest.raises(FileExistsError, match="train is not empty; delete it, or write to another"):
        write_shards(tmp_path / "train", ["Tom"], BYTE_TOKENIZER)
    assert Shards(tmp_path / "train", BYTE_TOKENIZER)[0].tolist() == [*b"Mia", 256]


def test_there_is_something_to_write(tmp_path):
    with pytest.raises(ValueError, match="there are no documents to write; give at least one"):
        write_shards(tmp_path / "train", [], BYTE_TOKENIZER)
    with pytest.raises(ValueError, match="tokens_per_shard=0 must be at least 1"):
        write_shards(tmp_path / "train", ["Mia"], BYTE_TOKENIZER, tokens_per_shard=0)


# --- packing ------------------------------------------------------------------------------------


def predicted(windows) -> list[tuple[int, ...]]:
    """Every prediction that is made: document, token before it, token."""
    rows = (windows.document_ids, windows.token_ids, windows.targets)
    columns = zip(*(row.flatten().tolist() for row in rows), strict=True)
    return sorted(column for column in columns if column[2] != IGNORED)


def to_predict(tokens: Tokens, boundaries: bool) -> list[tuple[int, ...]]:
    """Every prediction that there is to make, one document after another."""
    found, row = [], tokens.stream().tolist()
    owner = tokens.document_at(np.arange(len(row))).tolist()
    for before, after, earlier, document in zip(row, row[1:], owner, owner[1:], strict=False):
        if tokens.end_of_text is not None or not boundaries or earlier == document:
            found.append((document, before, after))
    return sorted(found)


@given(documents, closings, st.integers(1, 20), st.booleans())
def test_every_token_is_predicted_exactly_once(ids, closing, context_length, boundaries):
    tokens = Tokens(ids, end_of_text=closing)
    expected = to_predict(tokens, boundaries)
    if not expected:
        with pytest.raises(ValueError, match="there is nothing to predict"):
            pack(tokens, context_length, boundaries=boundaries)
        return
    windows = pack(tokens, context_length, boundaries=boundaries)
    assert windows.token_ids.shape == windows.targets.shape == (len(windows), context_length)
    assert windows.token_ids.dtype == windows.targets.dtype == torch.int64
    assert predicted(windows) == expected
    assert ((windows.targets == IGNORED) == (windows.document_ids == -1)).all()


@given(documents, closings, st.integers(1, 20))
def test_a_document_that_fits_into_a_window_stands_in_one(ids, closing, context_length):
    tokens = Tokens(ids, end_of_text=closing)
    if not tokens.num_predictions.any():
        return
    owners = pack(tokens, context_length).document_ids
    for number, length in enumerate(tokens.num_predictions.tolist()):
        rows, places = (owners == number).nonzero(as_tuple=True)
        assert len(rows) == length
        pieces = len(set(rows.tolist()))
        assert pieces == -(-length // context_length)
        if pieces == 1:
            assert places.tolist() == list(range(places[0], places[0] + length))


@given(documents, st.integers(1, 20))
def test_inside_a_document_the_target_is_the_next_token(ids, context_length):
    windows = pack(Tokens(ids, end_of_text=0), context_length)
    same = windows.document_ids[:, 1:] == windows.document_ids[:, :-1]
    same &= windows.targets[:, 1:] != IGNORED
    assert (windows.token_ids[:, 1:] == windows.targets[:, :-1])[same].all()


@given(st.lists(st.integers(1, 10), max_size=40), st.integers(10, 20))
def test_packing_wastes_less_than_one_document_for_each_window(lengths, size):
    pieces = [(number, 0, length) for number, length in enumerate(lengths)]
    windows = best_fit(pieces, size)
    assert sorted(piece for window in windows for piece in window) == pieces
    filled = [sum(stop - first for _, first, stop in window) for window in windows]
    assert all(0 < total <= size for total in filled)
    assert sum(2 * total <= size for total in filled) <= 1  # two half-empty ones would be one


def test_packing_takes_the_window_with_the_least_room_that_is_enough():
    pieces = [(0, 0, 6), (1, 0, 7), (2, 0, 5), (3, 0, 3), (4, 0, 4), (5, 0, 2)]
    assert best_fit(pieces, 10) == [
        [(0, 0, 6), (4, 0, 4)],
        [(1, 0, 7), (3, 0, 3)],
        [(2, 0, 5), (5, 0, 2)],
    ]


def test_all_windows_are_gone_through_once_in_order():
    windows = pack(Tokens([range(1, 12)], end_of_text=0), 2)
    batches = list(windows.batches(4))
    assert [len(token_ids) for token_ids, _ in batches] == [4, 2]
    assert torch.equal(torch.cat([targets for _, targets in batches]), windows.targets)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        windows.batches(0)


# --- batches ------------------------------------------------------------------------------------

KIND = pytest.mark.parametrize("kind", [RandomBatches, DocumentBatches])
TEXT = Tokens([range(10 * n, 10 * n + 3 + n % 5) for n in range(1, 40)], end_of_text=0)
LENGTHS = TEXT.num_predictions.tolist()


def draw(batches, count: int) -> list[tuple[list, list]]:
    return [(ids.tolist(), targets.tolist()) for ids, targets in islice(batches, count)]


@KIND
def test_a_batch_is_a_pair_of_whole_numbers(kind):
    token_ids, targets = next(kind(TEXT, batch_size=4, context_length=8))
    assert token_ids.shape == targets.shape == (4, 8)
    assert token_ids.dtype == targets.dtype == torch.int64
    assert token_ids.is_contiguous()
    assert targets.is_contiguous()


@KIND
@given(before=st.integers(0, 12), seed=st.integers(0, 3))
def test_batches_go_on_exactly_where_they_were_left_also_in_a_later_epoch(kind, before, seed):
    settings = {"batch_size": 5, "context_length": 9, "seed": seed}
    unbroken = kind(TEXT, **settings)
    draw(unbroken, before)
    state = json.loads(json.dumps(unbroken.state_dict()))
    resumed = kind(TEXT, **settings)
    draw(resumed, 3)  # wherever it stood before
    resumed.load_state_dict(state)
    assert draw(resumed, 12) == draw(unbroken, 12)
    assert resumed.state_dict() == unbroken.state_dict()


def test_a_state_counts_batches_and_windows():
    settings = {"batch_size": 5, "context_length": 9}
    by_chance, by_document = RandomBatches(TEXT, **settings), DocumentBatches(TEXT, **settings)
    draw(by_chance, 3)
    draw(by_document, 3)
    assert by_chance.state_dict()["position"] == {"batch": 3}
    assert by_document.state_dict()["position"] == {"epoch": 0, "window": 15}


@KIND
def test_the_seed_decides_the_order(kind):
    runs = [draw(kind(TEXT, batch_size=4, context_length=8, seed=seed), 6) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][0] != runs[0][1]


@KIND
def test_several_processes_draw_what_one_would(kind):
    alone = kind(TEXT, batch_size=6, context_length=8)
    ranks = [kind(TEXT, batch_size=2, context_length=8, rank=r, world_size=3) for r in range(3)]
    for token_ids, targets in islice(alone, 10):
        parts = [next(rank) for rank in ranks]
        assert torch.equal(torch.cat([part[0] for part in parts]), token_ids)
        assert torch.equal(torch.cat([part[1] for part in parts]), targets)
    assert len({json.dumps(rank.state_dict()) for rank in ranks}) == 1


def test_each_epoch_visits_every_document_once_in_another_order():
    batches = DocumentBatches(TEXT, batch_size=1, context_length=9)
    orders = []
    for epoch in range(3):
        assert batches.epoch == max(0, epoch - 1)  # it turns when the next window is drawn
        seen: list[int] = []
        first = next(batches)
        assert batches.epoch == epoch
        for token_ids, targets in [first, *islice(batches, batches.windows_in_epoch - 1)]:
            real = token_ids[targets != IGNORED]
            assert token_ids[0, 0] == 0  # it begins with a document
            seen += [int(i) // 10 for i in real if i and i % 10 == 0]
        assert sorted(seen) == list(range(1, 40))
        orders.append(seen)
    assert orders[0] != orders[1] != orders[2]


def test_windows_of_an_epoch_are_those_that_packing_makes():
    batches = DocumentBatches(TEXT, batch_size=1, context_length=9)
    count = batches.windows_in_epoch
    targets = torch.cat([targets for _, targets in islice(batches, count)])
    packed = pack(TEXT, 9)
    kept = [row[row != IGNORED].sort().values.tolist() for row in (targets, packed.targets)]
    assert kept[0] == kept[1]


def test_a_document_longer_than_a_window_is_visited_piece_by_piece():
    tokens = Tokens([range(1, 24), [30]], end_of_text=0)
    batches = DocumentBatches(tokens, batch_size=4, context_length=8)
    assert batches.windows_in_epoch == 4
    token_ids, targets = next(batches)
    assert sorted(targets[targets > 0].tolist()) == [*range(1, 24), 30]
    assert sorted(token_ids[:, 0].tolist()) == [0, 0, 8, 16]


def test_random_windows_are_parts_of_the_row_and_reach_all_of_it():
    row = TEXT.stream()
    pairs = {tuple(row[i : i + 9].tolist()) for i in range(len(row) - 8)}
    batches = RandomBatches(TEXT, batch_size=64, context_length=8)
    seen: set[tuple[int, ...]] = set()
    for token_ids, targets in islice(batches, 80):
        seen |= set(map(tuple, torch.cat([token_ids, targets[:, -1:]], dim=1).tolist()))
        assert torch.equal(token_ids[:, 1:], targets[:, :-1])
    assert seen == pairs


@KIND
def test_batches_from_shards_are_those_from_memory(kind, tmp_path):
    texts = [text * (1 + n % 3) for n, text in enumerate(["Mia", "Tom lost it.", "球", "A"] * 5)]
    shards = write_shards(tmp_path / "train", texts, BYTE_TOKENIZER, tokens_per_shard=20)
    in_memory = Tokens.encode(texts, BYTE_TOKENIZER)
    runs = [
        draw(kind(tokens, batch_size=3, context_length=16), 9) for tokens in (shards, in_memory)
    ]
    assert runs[0] == runs[1]


@KIND
@pytest.mark.parametrize("change", [{"batch_size": 2}, {"context_length": 9}, {"seed": 1}])
def test_a_state_of_other_batches_is_refused_with_the_difference(kind, change):
    settings = {"batch_size": 4, "context_length": 8}
    state = kind(TEXT, **settings).state_dict()
    other = kind(TEXT, **(settings | change))
    with pytest.raises(ValueError, match=f"batches with {next(iter(change))}=.*make them as"):
        other.load_state_dict(state)


@KIND
def test_a_state_goes_on_among_more_processes_if_together_they_draw_as_much(kind):
    one = kind(TEXT, batch_size=4, context_length=8)
    next(one)
    state = one.state_dict()
    expected, _ = next(one)
    parts = []
    for rank in range(2):
        half = kind(TEXT, batch_size=2, context_length=8, rank=rank, world_size=2)
        half.load_state_dict(state)
        parts.append(next(half)[0])
    assert torch.equal(torch.cat(parts), expected)
    with pytest.raises(ValueError, match="batches with batch_size=4, and these have batch_size=8"):
        kind(TEXT, batch_size=4, context_length=8, world_size=2).load_state_dict(state)


def test_a_state_of_another_kind_or_of_other_documents_is_refused():
    settings = {"batch_size": 4, "context_length": 8}
    state = RandomBatches(TEXT, **settings).state_dict()
    with pytest.raises(ValueError, match="batches with kind='RandomBatches', and these have"):
        DocumentBatches(TEXT, **settings).load_state_dict(state)
    with pytest.raises(ValueError, match="batches with num_documents=39, and these have"):
        RandomBatches(Tokens([range(50)]), **settings).load_state_dict(state)


@KIND
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"context_length": 0}, "context_length=0 must be at least 1"),
        ({"rank": 1}, "rank=1 is none of world_size=1 processes"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(TEXT, **({"batch_size": 4, "context_length": 8} | change))


def test_a_window_longer_than_the_row_is_refused_by_random_windows():
    with pytest.raises(ValueError, match=r"row of 4 tokens holds no window of 4 .*smaller"):
        RandomBatches(Tokens([[1, 2]], end_of_text=0), batch_size=1, context_length=4)
    batches = RandomBatches(Tokens([[1, 2]], end_of_text=0), batch_size=1, context_length=3)
    assert next(batches)[1].tolist() == [[1, 2, 0]]
