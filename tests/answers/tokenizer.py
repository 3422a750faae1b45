"""Answers to the exercises of chapter 1."""

import codecs
import re
from functools import cache
from itertools import pairwise

from tests.answers import Answers


def utf8_by_python(code_point):
    return len(chr(code_point).encode())


def utf8_by_lookup(code_point):
    ranges = (range(0x80), range(0x80, 0x800), range(0x800, 0x10000), range(0x10000, 0x110000))
    return next(size for size, held in enumerate(ranges, start=1) if code_point in held)


def utf8_by_bits(code_point):
    bits = code_point.bit_length()
    return 1 if bits <= 7 else 2 if bits <= 11 else 3 if bits <= 16 else 4


def utf8_limits_one_off(code_point):
    return 1 if code_point < 0x7F else 2 if code_point < 0x7FF else 3 if code_point < 0xFFFF else 4


def utf8_without_the_fourth(code_point):
    return 1 if code_point < 0x80 else 2 if code_point < 0x800 else 3


def utf8_by_whole_bytes(code_point):
    return max(1, (code_point.bit_length() + 7) // 8)


def utf8_latin_is_one(code_point):
    return 1 if code_point < 0x100 else 2 if code_point < 0x800 else 3 if code_point < 65536 else 4


def utf8_as_utf16(code_point):
    return len(chr(code_point).encode("utf-16-le"))


def number_by_pattern(digits):
    return re.findall(r"\d{1,3}(?=(?:\d{3})*$)", digits)


def number_backwards(digits):
    groups = []
    while digits:
        digits, group = digits[:-3], digits[-3:]
        groups.insert(0, group)
    return groups


def number_from_the_front(digits):
    return re.findall(r"\d{1,3}", digits)


def number_by_formatting(digits):
    return f"{int(digits):,}".split(",") if digits else []


def number_of_integers(digits):
    return [int(group) for group in number_by_pattern(digits)]


def number_with_an_empty_head(digits):
    first = len(digits) % 3
    return [digits[:first]] + [digits[i : i + 3] for i in range(first, len(digits), 3)]


def number_in_reverse_order(digits):
    return [digits[max(0, i - 3) : i] for i in range(len(digits), 0, -3)]


def number_digits_mirrored(digits):
    return [digits[::-1][i : i + 3] for i in range(0, len(digits), 3)][::-1]


def conversation_by_comprehension(turns, special, vocabulary):
    ids = {token: i for i, token in enumerate(vocabulary)}
    return [
        i
        for speaker, text in turns
        for i in (
            special["<|" + speaker + "|>"],
            *(ids[bytes([b])] for b in text.encode("utf-8")),
            special["<|end|>"],
        )
    ]


def _encode_all(text, special, vocabulary):
    ids = []
    for piece in re.split("(" + "|".join(map(re.escape, special)) + ")", text):
        if piece in special:
            ids.append(special[piece])
        else:
            ids += [vocabulary.index(bytes([b])) for b in piece.encode()]
    return ids


def conversation_that_can_be_forged(turns, special, vocabulary):
    text = "".join(f"<|{speaker}|>{text}<|end|>" for speaker, text in turns)
    return _encode_all(text, special, vocabulary)


def conversation_without_ends(turns, special, vocabulary):
    ids = []
    for speaker, text in turns:
        ids += [special[f"<|{speaker}|>"], *(vocabulary.index(bytes([b])) for b in text.encode())]
    return ids


def conversation_with_one_end(turns, special, vocabulary):
    return [*conversation_without_ends(turns, special, vocabulary), special["<|end|>"]]


def conversation_of_code_points(turns, special, vocabulary):
    ids = []
    for speaker, text in turns:
        ids += [special[f"<|{speaker}|>"], *map(ord, text), special["<|end|>"]]
    return ids


def conversation_of_raw_bytes(turns, special, vocabulary):
    ids = []
    for speaker, text in turns:
        ids += [special[f"<|{speaker}|>"], *text.encode(), special["<|end|>"]]
    return ids


def conversation_that_deletes(turns, special, vocabulary):
    clean = [(speaker, re.sub(r"<\|\w+\|>", "", text)) for speaker, text in turns]
    return conversation_by_comprehension(clean, special, vocabulary)


def stream_by_codec(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]


def stream_by_prefixes(tokens):
    lengths = [len(b"".join(tokens[:i]).decode(errors="ignore")) for i in range(len(tokens) + 1)]
    text = b"".join(tokens).decode()
    return [text[a:b] for a, b in pairwise(lengths)]


def stream_token_by_token(tokens):
    return [token.decode(errors="replace") for token in tokens]


def stream_ignoring(tokens):
    return [token.decode(errors="ignore") for token in tokens]


def stream_at_the_end(tokens):
    return [""] * (len(tokens) - 1) + [b"".join(tokens).decode()] if tokens else []


def stream_all_or_nothing(tokens):
    shown, waiting = [], b""
    for token in tokens:
        waiting += token
        try:
            shown.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            shown.append("")
    return shown


def stream_of_prefixes(tokens):
    return [b"".join(tokens[: i + 1]).decode(errors="ignore") for i in range(len(tokens))]


def stream_without_the_empty(tokens):
    return [text for text in stream_by_codec(tokens) if text]


def fewest_by_recursion(word, vocabulary):
    @cache
    def rest(start):
        if start == len(word):
            return 0
        stops = range(start + 1, len(word) + 1)
        return min(1 + rest(stop) for stop in stops if word[start:stop] in vocabulary)

    return rest(0)


def fewest_by_trying_all(word, vocabulary):
    if not word:
        return 0
    cuts = range(1, len(word) + 1)
    return 1 + min(
        fewest_by_trying_all(word[c:], vocabulary) for c in cuts if word[:c] in vocabulary
    )


def fewest_by_every_cut(word, vocabulary):
    if not word:
        return 0
    ways = []
    for cut in range(1, len(word) + 1):
        rest = fewest_by_every_cut(word[cut:], vocabulary)
        if word[:cut] in vocabulary:
            ways.append(1 + rest)
    return min(ways)


def fewest_by_levels(word, vocabulary):
    reached, steps = {0}, 0
    while len(word) not in reached:
        reached = {
            stop
            for start in reached
            for stop in range(start + 1, len(word) + 1)
            if word[start:stop] in vocabulary
        }
        steps += 1
    return steps


def fewest_greedy_from_the_left(word, vocabulary):
    count = start = 0
    while start < len(word):
        start = max(s for s in range(start + 1, len(word) + 1) if word[start:s] in vocabulary)
        count += 1
    return count


def fewest_greedy_from_the_right(word, vocabulary):
    count, stop = 0, len(word)
    while stop > 0:
        stop = min(s for s in range(stop) if word[s:stop] in vocabulary)
        count += 1
    return count


def fewest_of_both_greedy_ways(word, vocabulary):
    ways = (fewest_greedy_from_the_left, fewest_greedy_from_the_right)
    return min(way(word, vocabulary) for way in ways)


def fewest_longest_token_first(word, vocabulary):
    for token in sorted(vocabulary, key=len, reverse=True):
        if token in word:
            before, after = word.split(token, 1)
            return (
                1
                + fewest_longest_token_first(before, vocabulary)
                + fewest_longest_token_first(after, vocabulary)
            )
    return 0


def fewest_never_less_than_one(word, vocabulary):
    return max(1, fewest_by_levels(word, vocabulary))


ANSWERS = {
    "utf8_length": Answers(
        right=[utf8_by_lookup, utf8_by_bits],
        wrong=[
            utf8_by_python,
            utf8_limits_one_off,
            utf8_without_the_fourth,
            utf8_by_whole_bytes,
            utf8_latin_is_one,
            utf8_as_utf16,
        ],
    ),
    "split_number": Answers(
        right=[number_by_pattern, number_backwards],
        wrong=[
            number_from_the_front,
            number_by_formatting,
            number_of_integers,
            number_with_an_empty_head,
            number_in_reverse_order,
            number_digits_mirrored,
        ],
    ),
    "encode_conversation": Answers(
        right=[conversation_by_comprehension],
        wrong=[
            conversation_that_can_be_forged,
            conversation_without_ends,
            conversation_with_one_end,
            conversation_of_code_points,
            conversation_of_raw_bytes,
            conversation_that_deletes,
        ],
    ),
    "stream_text": Answers(
        right=[stream_by_codec, stream_by_prefixes],
        wrong=[
            stream_token_by_token,
            stream_ignoring,
            stream_at_the_end,
            stream_all_or_nothing,
            stream_of_prefixes,
            stream_without_the_empty,
        ],
    ),
    "fewest_tokens": Answers(
        right=[fewest_by_recursion, fewest_by_levels, fewest_by_trying_all, fewest_by_every_cut],
        wrong=[
            fewest_greedy_from_the_left,
            fewest_greedy_from_the_right,
            fewest_of_both_greedy_ways,
            fewest_longest_token_first,
            fewest_never_less_than_one,
        ],
    ),
}
