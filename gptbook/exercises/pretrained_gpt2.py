"""Exercises of chapter 13: files read by hand, names compared, merges found, calls put right."""

import json
import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare

Shape = tuple[int, ...]


def _file(
    tensors: dict[str, Shape], metadata: dict[str, str] | None = None, *, num_spaces: int = 0
) -> bytes:
    """Write a safetensors file of zeros, with spaces behind its header."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (num_spaces + -len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(end)


def _cut_among_spaces() -> bytes:
    """End a file where the JSON of its header is complete and the header is not."""
    whole = _file({"wte.weight": (3, 2)}, num_spaces=16)
    return whole[: whole.rindex(b"}") + 4]


def _shapes(data: bytes) -> dict[str, Shape]:
    """Read names and shapes from the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length or len(data) < 8:
        raise ValueError("the file ends before its header does")
    header = json.loads(data[8 : 8 + length])
    return {name: tuple(it["shape"]) for name, it in header.items() if name != "__metadata__"}


def _judge_shapes(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize metadata taken for a tensor, and shapes left as lists."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, dict):
        return difference
    if "__metadata__" in got:
        return f"__metadata__ is no tensor; {difference}"
    if {name: tuple(shape) for name, shape in got.items()} == expected:
        return f"make each shape a tuple; {difference}"
    return difference


def _head(weight: Tensor, num_heads: int, head: int) -> list[Tensor]:
    """Cut one head's three matrices out of GPT-2's c_attn."""
    d_model = weight.shape[0]
    head_dim = d_model // num_heads
    columns = slice(head * head_dim, (head + 1) * head_dim)
    return [part[:, columns] for part in weight.split(d_model, dim=1)]


def _judge_head(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a matrix that was turned, and three of one head standing together."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 3:
        return difference
    weight, num_heads, head = arguments
    if not compare(_head(weight, num_heads, 0), got) and head:
        return f"that is head 0; {difference}"
    width = weight.shape[1] // num_heads
    together = list(weight[:, head * width : (head + 1) * width].chunk(3, dim=1))
    if not compare(together, got):
        return f"first come the queries of all heads, then all keys, then all values; {difference}"
    if not compare([part.T for part in expected], got):
        return f"each row of c_attn is one number that comes in; {difference}"
    parts = weight.split(weight.shape[0], dim=1)
    if not compare([part[:, head::num_heads] for part in parts], got):
        return f"the columns of a head stand side by side; {difference}"
    if not compare(list(parts), got):
        return f"these are the columns of all heads; {difference}"
    if any(isinstance(came, Tensor) and came.shape != expected[0].shape for came in got):
        return f"a matrix of one head has D rows and K = D / H columns; {difference}"
    return difference


def _faults(came: dict[str, Shape], wanted: dict[str, Shape]) -> list[list[str]]:
    """List the names that are missing, too many, and of another shape."""
    missing = sorted(name for name in wanted if name not in came)
    extra = sorted(name for name in came if name not in wanted)
    misshapen = sorted(name for name in wanted if came.get(name, wanted[name]) != wanted[name])
    return [missing, extra, misshapen]


def _judge_faults(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize lists in the wrong order, and matrices excused because they are as large."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 3:
        return difference
    if not compare([expected[1], expected[0], expected[2]], got):
        return (
            "the first list is what the model wants and the file lacks, the second what only it has"
        )
    if not got[2] and expected[2] and not compare(expected[:2], list(got[:2])):
        return f"a turned matrix has as many numbers, and yet another shape; {difference}"
    for kind, wanted, came in zip(("missing", "too many", "misshapen"), expected, got, strict=True):
        if wanted != came:
            unsorted = isinstance(came, list) and set(came) == set(wanted) != set()
            hint = ", sorted and once each," if unsorted else ""
            return f"{kind}: {wanted}{hint} was expected, but {came} came"
    return difference


def _merges(tokens: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Find for each longer token the two that byte-pair encoding joins last to make it."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for token in tokens:
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [ranks.get(parts[i] + parts[i + 1], math.inf) for i in range(len(parts) - 1)]
            i = pairs.index(min(pairs))
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def _judge_merges(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize cuts that are possible but not those that encoding makes."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list):
        return difference
    if len(got) > len(expected):
        return f"a single byte is made of nothing; {difference}"
    if sorted(map(str, got)) == sorted(map(str, expected)):
        return f"the right pairs, but not in the order of the tokens; {difference}"
    tokens = set(arguments[0])
    for wanted, came in zip(expected, got, strict=False):
        whole = isinstance(came, tuple) and len(came) == 2 and {*map(type, came)} == {bytes}
        if wanted != came and whole and b"".join(came) == b"".join(wanted) and {*came} <= tokens:
            if set(came[0] + came[1]) == set(came[0][:1]):
                return f"where two joins are the same token, the leftmost is made; {difference}"
            return f"two tokens that fit, but its bytes merge in another order; {difference}"
    return difference


def _options(options: dict[str, Any], prompt_length: int) -> dict[str, Any]:
    """Say what an article's options mean in words that cannot be misread."""
    fixed = dict(options)
    if "max_length" in fixed:
        fixed.setdefault("max_new_tokens", fixed["max_length"] - prompt_length)
        del fixed["max_length"]
        if fixed["max_new_tokens"] < 1:
            raise ValueError("the prompt leaves no room")
    if "temperature" in fixed:
        fixed["do_sample"] = fixed["temperature"] != 0 and fixed.get("do_sample", True)
        if not fixed["do_sample"]:
            del fixed["temperature"]
    return fixed


def _judge_options(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a length that was not reduced, and sampling where no one asked for it."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, dict):
        return difference
    options, _ = arguments
    if "max_length" in got:
        return f"max_length should be gone; {difference}"
    if {"max_length", "max_new_tokens"} <= options.keys() and (
        got.get("max_new_tokens") != expected["max_new_tokens"]
    ):
        return f"where both lengths are given, max_new_tokens is the one that counts; {difference}"
    if got.get("max_new_tokens") == options.get("max_length") is not None:
        return f"max_length counts the prompt, too; {difference}"
    if options.get("temperature") == 0:
        return f"dividing by zero is no sampling: at 0, take the most probable token; {difference}"
    if options.get("do_sample") is False and "temperature" in options:
        return f"who says do_sample=False wants no temperature; {difference}"
    if "temperature" in options and not got.get("do_sample"):
        return f"without do_sample the temperature does nothing; {difference}"
    if "do_sample" in got and "do_sample" not in expected:
        return f"nobody asked for sampling here; {difference}"
    return difference


def _token_lists() -> list[tuple[Any, ...]]:
    """Give vocabularies in which the first cut that fits is not always the right one."""
    single = [bytes([value]) for value in range(97, 105)]
    return [
        ([*single, b"ab", b"abc"],),
        ([*single, b"bc", b"ab", b"abc"],),
        ([*single, b"cd", b"ab", b"abcd", b"bc", b"abc"],),
        ([*single, b"aa", b"aaa", b"aaaa"],),
        ([*single, b"ef", b"de", b"def", b"gh", b"defgh"],),
    ]


EXERCISES = {
    "shapes": Exercise(
        _shapes,
        cases=lambda: [
            (_file({"wte.weight": (300, 8), "ln_f.bias": (8,)}),),
            (_file({"h.0.attn.c_attn.weight": (64, 192)}, {"format": "pt"}),),
            (_file({"scale": ()}, {"made by": "us"}),),
            (_file({f"h.{i}.mlp.c_fc.weight": (2, 8) for i in range(12)}),),
            (_file({"wte.weight": (3, 2)})[:40],),
            (_cut_among_spaces(),),
            (b"\x08\x00\x00",),
        ],
        judge=_judge_shapes,
        raises=(ValueError, ValueError, ValueError),
    ),
    "head": Exercise(
        _head,
        cases=lambda: [
            (torch.arange(6 * 18.0).reshape(6, 18), 3, 1),
            (torch.arange(8 * 24.0).reshape(8, 24), 2, 0),
            (torch.arange(8 * 24.0).reshape(8, 24), 4, 3),
            (torch.arange(4 * 12.0).reshape(4, 12), 1, 0),
        ],
        judge=_judge_head,
    ),
    "faults": Exercise(
        _faults,
        cases=lambda: [
            ({"a": (2, 3)}, {"a": (2, 3)}),
            ({"a": (2, 3), "c": (1,)}, {"a": (2, 3), "b": (4,)}),
            ({"a": (3, 2), "b": (6,)}, {"a": (2, 3), "b": (2, 3)}),
            ({"z": (1,), "y": (1,), "x": (2,)}, {"x": (1,), "w": (1,), "v": (1,)}),
            ({}, {"b": (1,), "a": (1,)}),
        ],
        judge=_judge_faults,
    ),
    "merges": Exercise(_merges, cases=_token_lists, judge=_judge_merges),
    "options": Exercise(
        _options,
        cases=lambda: [
            ({"max_length": 100, "temperature": 0.7}, 4),
            ({"max_length": 50, "num_return_sequences": 1, "no_repeat_ngram_size": 2}, 4),
            ({"max_new_tokens": 20, "temperature": 1.5, "top_p": 0.9}, 7),
            ({"max_length": 30, "temperature": 0}, 10),
            ({"temperature": 0.0, "do_sample": True, "max_new_tokens": 8}, 3),
            ({"temperature": 0.7, "do_sample": False, "max_length": 20}, 5),
            ({"max_length": 100, "max_new_tokens": 20, "temperature": 0.7}, 4),
            ({"max_length": 5, "max_new_tokens": 6}, 8),
            ({"num_return_sequences": 1}, 3),
            ({"do_sample": True, "top_p": 0.9}, 3),
            ({"max_length": 4, "temperature": 0.7}, 4),
        ],
        judge=_judge_options,
        raises=(ValueError,),
    ),
}
