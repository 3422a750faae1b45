"""Right and wrong answers to the exercises of chapter 13."""

import json
import struct
from itertools import pairwise

import torch

from tests.answers import Answers


def shapes_by_struct(data):
    try:
        (length,) = struct.unpack_from("<Q", data)
    except struct.error as error:
        raise ValueError("no length") from error
    if len(data[8:]) < length:
        raise ValueError("no whole header")
    found = {}
    for name, entry in json.loads(data[8:][:length].decode()).items():
        if not name.startswith("__"):
            found[name] = tuple(entry["shape"])
    return found


def shapes_big_endian(data):
    length = int.from_bytes(data[:8], "big")
    header = json.loads(data[8 : 8 + length])
    return {name: tuple(it["shape"]) for name, it in header.items() if name != "__metadata__"}


def shapes_with_metadata(data):
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return {name: tuple(it.get("shape", ())) for name, it in header.items()}


def shapes_as_lists(data):
    return {name: list(shape) for name, shape in shapes_by_struct(data).items()}


def shapes_of_one_byte(data):
    header = json.loads(data[8 : 8 + data[0]])
    return {name: tuple(it["shape"]) for name, it in header.items() if name != "__metadata__"}


def shapes_of_whatever_is_there(data):
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])  # JSON's own error is a ValueError
    return {name: tuple(it["shape"]) for name, it in header.items() if name != "__metadata__"}


def shapes_forgetting_metadata(data):
    shapes_by_struct(data)
    length = int.from_bytes(data[:8], "little")
    return {name: tuple(it["shape"]) for name, it in json.loads(data[8 : 8 + length]).items()}


def shapes_unchecked(data):
    if len(data) < 16:
        return {}
    return shapes_by_struct(data)


def head_by_view(weight, num_heads, head):
    d_model = weight.shape[0]
    return list(weight.view(d_model, 3, num_heads, d_model // num_heads)[:, :, head].unbind(dim=1))


def head_together(weight, num_heads, head):
    d_model = weight.shape[0]
    return list(weight.view(d_model, num_heads, 3, d_model // num_heads)[:, head].unbind(dim=1))


def head_as_in_pytorch(weight, num_heads, head):
    return [part.T for part in head_by_view(weight, num_heads, head)]


def head_of_rows(weight, num_heads, head):
    turned = weight.T
    width = weight.shape[0] // num_heads
    return [part[head * width : (head + 1) * width] for part in turned.chunk(3)]


def head_all(weight, num_heads, head):
    return list(weight.chunk(3, dim=1))


def head_strided(weight, num_heads, head):
    return [part[:, head::num_heads] for part in weight.chunk(3, dim=1)]


def head_first(weight, num_heads, head):
    return head_by_view(weight, num_heads, 0)


def faults_by_sets(came, wanted):
    both = came.keys() & wanted.keys()
    return [
        sorted(wanted.keys() - came.keys()),
        sorted(came.keys() - wanted.keys()),
        sorted(name for name in both if tuple(came[name]) != tuple(wanted[name])),
    ]


def faults_swapped(came, wanted):
    missing, extra, misshapen = faults_by_sets(came, wanted)
    return [extra, missing, misshapen]


def faults_without_extra(came, wanted):
    missing, _, misshapen = faults_by_sets(came, wanted)
    return [missing, [], misshapen]


def faults_by_size(came, wanted):
    both = came.keys() & wanted.keys()
    odd = [n for n in both if torch.empty(came[n]).numel() != torch.empty(wanted[n]).numel()]
    return [*faults_by_sets(came, wanted)[:2], sorted(odd)]


def faults_unsorted(came, wanted):
    missing, extra, misshapen = faults_by_sets(came, wanted)
    return [missing[::-1], extra[::-1], misshapen]


def faults_in_order_of_files(came, wanted):
    return [
        [name for name in wanted if name not in came],
        [name for name in came if name not in wanted],
        [name for name in wanted if name in came and came[name] != wanted[name]],
    ]


def faults_missing_twice(came, wanted):
    odd = sorted(name for name in wanted if came.get(name) != wanted[name])
    return [*faults_by_sets(came, wanted)[:2], odd]


def merges_by_ranks(tokens):
    ranks = {token: i for i, token in enumerate(tokens)}
    found = []
    for token in tokens:
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            best = min(
                (ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks
            )[1]
            parts = [*parts[:best], parts[best] + parts[best + 1], *parts[best + 2 :]]
        if len(parts) == 2:
            found.append(tuple(parts))
    return found


def cuts(tokens, token):
    earlier = tokens[: tokens.index(token)]
    pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
    return [pair for pair in pairs if set(pair) <= set(earlier)]


def merges_first_cut(tokens):
    return [cuts(tokens, token)[0] for token in tokens if len(token) > 1]


def merges_last_cut(tokens):
    return [cuts(tokens, token)[-1] for token in tokens if len(token) > 1]


def merges_rightmost(tokens):
    ranks = {token: i for i, token in enumerate(tokens)}
    found = []
    for token in tokens:
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            rank, i = min(
                (ranks[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks
            )
            parts[-i : -i + 2] = [tokens[rank]]
        if len(parts) == 2:
            found.append(tuple(parts))
    return found


def merges_sorted(tokens):
    return sorted(merges_by_ranks(tokens))


def merges_halves(tokens):
    return [(t[: len(t) // 2], t[len(t) // 2 :]) for t in tokens if len(t) > 1]


def merges_last_byte(tokens):
    return [(token[:-1], token[-1:]) for token in tokens if len(token) > 1]


def merges_with_bytes(tokens):
    return [(t, b"") for t in tokens if len(t) == 1] + merges_by_ranks(tokens)


def options_step_by_step(options, prompt_length):
    fixed = {k: v for k, v in options.items() if k not in ("max_length", "temperature")}
    if options.get("max_length") is not None and "max_new_tokens" not in options:
        room = options["max_length"] - prompt_length
        if room <= 0:
            raise ValueError("no room")
        fixed["max_new_tokens"] = room
    if "temperature" in options:
        fixed["do_sample"] = options["temperature"] > 0 and options.get("do_sample") is not False
        if fixed["do_sample"]:
            fixed["temperature"] = options["temperature"]
    return fixed


def options_in_place(options, prompt_length):
    fixed = options_step_by_step(options, prompt_length)
    options.clear()
    options.update(fixed)
    return options


def options_same_length(options, prompt_length):
    fixed = options_step_by_step(options, prompt_length)
    if "max_length" in options:
        fixed["max_new_tokens"] = options["max_length"]
    return fixed


def options_always_sampling(options, prompt_length):
    return options_step_by_step(options, prompt_length) | {"do_sample": True}


def options_only_length(options, prompt_length):
    fixed = dict(options)
    if "max_length" in fixed:
        fixed["max_new_tokens"] = fixed.pop("max_length") - prompt_length
    return fixed


def options_sampling_at_zero(options, prompt_length):
    fixed = options_only_length(options, prompt_length)
    if "temperature" in fixed:
        fixed["do_sample"] = True
    return fixed


def options_sampling_against_the_word(options, prompt_length):
    fixed = options_step_by_step(options, prompt_length)
    if options.get("temperature"):
        fixed |= {"temperature": options["temperature"], "do_sample": True}
    return fixed


def options_keeping_the_temperature(options, prompt_length):
    fixed = options_step_by_step(options, prompt_length)
    if options.get("temperature"):
        fixed["temperature"] = options["temperature"]
    return fixed


def options_of_max_length(options, prompt_length):
    fixed = options_step_by_step(options, prompt_length)
    if "max_length" in options:
        fixed["max_new_tokens"] = options["max_length"] - prompt_length
    return fixed


def options_no_check(options, prompt_length):
    try:
        return options_step_by_step(options, prompt_length)
    except ValueError:
        return {"max_new_tokens": 0}


ANSWERS = {
    "shapes": Answers(
        right=[shapes_by_struct],
        wrong=[
            shapes_big_endian,
            shapes_with_metadata,
            shapes_as_lists,
            shapes_of_one_byte,
            shapes_unchecked,
            shapes_of_whatever_is_there,
            shapes_forgetting_metadata,
        ],
    ),
    "head": Answers(
        right=[head_by_view],
        wrong=[
            head_together,
            head_as_in_pytorch,
            head_of_rows,
            head_all,
            head_strided,
            head_first,
        ],
    ),
    "faults": Answers(
        right=[faults_by_sets],
        wrong=[
            faults_swapped,
            faults_without_extra,
            faults_by_size,
            faults_unsorted,
            faults_in_order_of_files,
            faults_missing_twice,
        ],
    ),
    "merges": Answers(
        right=[merges_by_ranks],
        wrong=[
            merges_first_cut,
            merges_last_cut,
            merges_rightmost,
            merges_sorted,
            merges_halves,
            merges_last_byte,
            merges_with_bytes,
        ],
    ),
    "options": Answers(
        right=[options_step_by_step],
        wrong=[
            options_in_place,
            options_same_length,
            options_always_sampling,
            options_only_length,
            options_sampling_at_zero,
            options_no_check,
            options_sampling_against_the_word,
            options_keeping_the_temperature,
            options_of_max_length,
        ],
    ),
}
