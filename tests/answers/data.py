"""Answers to the exercises of chapter 8."""

import hashlib
import math
import random
import re

import torch

from tests.answers import Answers


def side_by_hexadecimal(group, validation_share):
    number = int(hashlib.sha256(group.encode("utf-8")).hexdigest()[:16], 16)
    return ["train", "validation"][number / 16**16 < validation_share]


def side_by_pythons_hash(group, validation_share):
    return "validation" if hash(group) % 1000 / 1000 < validation_share else "train"


def side_little_endian(group, validation_share):
    digest = hashlib.sha256(group.encode()).digest()
    number = int.from_bytes(digest[:8], "little") / 2**64
    return "validation" if number < validation_share else "train"


def side_by_chance(group, validation_share):
    return "validation" if random.Random(group).random() < validation_share else "train"


def side_swapped(group, validation_share):
    return "train" if side_by_hexadecimal(group, validation_share) == "validation" else "validation"


def side_up_to_the_share(group, validation_share):
    number = int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) / 2**64
    return "validation" if number <= validation_share else "train"


def side_by_the_last_bytes(group, validation_share):
    number = int.from_bytes(hashlib.sha256(group.encode()).digest()[-8:], "big") / 2**64
    return "validation" if number < validation_share else "train"


def contaminated_by_lists(train, tests, num_words):
    def runs(text):
        words = re.findall(r"[^\W_]+", text.casefold())
        return [words[i : i + num_words] for i in range(len(words) - num_words + 1)]

    seen = [run for text in train for run in runs(text)]
    return [n for n, text in enumerate(tests) if any(run in seen for run in runs(text))]


def contaminated_as_text(train, tests, num_words):
    """Wrong: a run inside longer words counts."""

    def clean(text):
        return " ".join(re.findall(r"\w+", text.lower()))

    found = []
    for number, text in enumerate(tests):
        words = clean(text).split()
        runs = [" ".join(words[i : i + num_words]) for i in range(len(words) - num_words + 1)]
        if any(run in clean(other) for run in runs for other in train):
            found.append(number)
    return found


def contaminated_with_case(train, tests, num_words):
    def runs(text):
        words = text.split()
        return {tuple(words[i : i + num_words]) for i in range(len(words) - num_words + 1)}

    seen = set().union(*map(runs, train))
    return [n for n, text in enumerate(tests) if runs(text) & seen]


def contaminated_by_any_words(train, tests, num_words):
    def words(text):
        return set(re.findall(r"\w+", text.lower()))

    return [
        n for n, t in enumerate(tests) if any(len(words(t) & words(o)) >= num_words for o in train)
    ]


def contaminated_with_short_ones(train, tests, num_words):
    def runs(text):
        words = re.findall(r"\w+", text.lower())
        last = max(1, len(words) - num_words + 1)
        return {tuple(words[i : i + num_words]) for i in range(last)}

    seen = {word for text in train for run in runs(text) for word in run}
    full = set().union(*map(runs, train)) if train else set()
    return [
        n
        for n, t in enumerate(tests)
        if runs(t) & full or (len(t.split()) < num_words and set(t.lower().split()) & seen)
    ]


def contaminated_one_run_short(train, tests, num_words):
    def runs(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + num_words]) for i in range(len(words) - num_words)}

    seen = set().union(*map(runs, train))
    return [n for n, text in enumerate(tests) if runs(text) & seen]


def contaminated_with_underscores(train, tests, num_words):
    def runs(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + num_words]) for i in range(len(words) - num_words + 1)}

    seen = set().union(*map(runs, train))
    return [n for n, text in enumerate(tests) if runs(text) & seen]


def contaminated_across_documents(train, tests, num_words):
    return contaminated_by_lists([" ".join(train)], tests, num_words)


def contaminated_the_texts(train, tests, num_words):
    return [tests[n] for n in contaminated_by_lists(train, tests, num_words)]


def mask_by_loops(document_ids):
    size = len(document_ids)
    mask = torch.zeros(size, size, dtype=torch.bool)
    for query in range(size):
        for key in range(query + 1):
            same = document_ids[query] == document_ids[key]
            mask[query, key] = bool(same) and bool(document_ids[key] != -1)
    return mask


def mask_by_tril(document_ids):
    real = document_ids != -1
    same = document_ids.unsqueeze(1).eq(document_ids.unsqueeze(0))
    return same.tril() & real & real[:, None]


def mask_causal_alone(document_ids):
    size = len(document_ids)
    real = document_ids >= 0
    return torch.ones(size, size, dtype=torch.bool).tril() & real & real[:, None]


def mask_same_alone(document_ids):
    return (document_ids[:, None] == document_ids) & (document_ids >= 0)


def mask_that_sees_padding(document_ids):
    return (document_ids[:, None] == document_ids).tril()


def mask_the_other_way_round(document_ids):
    return mask_by_tril(document_ids).mT


def mask_without_the_diagonal(document_ids):
    return mask_by_tril(document_ids).tril(-1)


def mask_of_numbers(document_ids):
    return mask_by_tril(document_ids).float()


def mask_where_hidden(document_ids):
    return ~mask_by_tril(document_ids)


def rows_by_search(num_hashes, similarity, recall):
    best = 1
    for rows in range(1, num_hashes + 1):
        bands, rest = divmod(num_hashes, rows)
        missed = math.prod([1 - math.prod([similarity] * rows)] * bands)
        if rest == 0 and 1 - missed >= recall:
            best = rows
    return best


def rows_that_do_not_divide(num_hashes, similarity, recall):
    fit = [
        rows
        for rows in range(1, num_hashes + 1)
        if 1 - (1 - similarity**rows) ** (num_hashes // rows) >= recall
    ]
    return max(fit, default=1)


def rows_swapped(num_hashes, similarity, recall):
    return num_hashes // rows_by_search(num_hashes, similarity, recall)


def rows_of_one_band(num_hashes, similarity, recall):
    fit = [r for r in range(1, num_hashes + 1) if num_hashes % r == 0 and similarity**r >= recall]
    return max(fit, default=1)


def rows_more_often_than_asked(num_hashes, similarity, recall):
    fit = [
        rows
        for rows in range(1, num_hashes + 1)
        if num_hashes % rows == 0 and 1 - (1 - similarity**rows) ** (num_hashes // rows) > recall
    ]
    return max(fit, default=1)


def rows_the_shortest(num_hashes, similarity, recall):
    return 1


def rows_by_the_threshold(num_hashes, similarity, recall):
    divisors = [rows for rows in range(1, num_hashes + 1) if num_hashes % rows == 0]
    return min(divisors, key=lambda r: abs((r / num_hashes) ** (1 / r) - similarity))


def entropy_by_stories(tree):
    def stories(tree, probability=1.0):
        if not tree:
            yield probability
        for chance, after in tree.values():
            yield from stories(after, probability * chance)

    return -sum(p * math.log(p) for p in stories(tree) if p)


def entropy_by_queue(tree):
    total, waiting = 0.0, [(1.0, tree)]
    while waiting:
        reached, here = waiting.pop()
        for probability, after in here.values():
            if probability:
                total -= reached * probability * math.log(probability)
                waiting.append((reached * probability, after))
    return total


def entropy_in_bits(tree):
    return entropy_by_stories(tree) / math.log(2)


def entropy_not_weighted(tree):
    return sum(entropy_not_weighted(after) - p * math.log(p) for p, after in tree.values() if p)


def entropy_of_the_first_choice(tree):
    return -sum(p * math.log(p) for p, _ in tree.values() if p)


def entropy_that_fails_at_zero(tree):
    return sum(p * (entropy_that_fails_at_zero(after) - math.log(p)) for p, after in tree.values())


def entropy_as_a_number_of_stories(tree):
    return math.exp(entropy_by_stories(tree))


def entropy_of_equal_stories(tree):
    def count(tree):
        return sum(count(after) for _, after in tree.values()) if tree else 1

    return math.log(count(tree))


ANSWERS = {
    "side": Answers(
        right=[side_by_hexadecimal],
        wrong=[
            side_by_pythons_hash,
            side_little_endian,
            side_by_chance,
            side_swapped,
            side_up_to_the_share,
            side_by_the_last_bytes,
        ],
    ),
    "contaminated": Answers(
        right=[contaminated_by_lists],
        wrong=[
            contaminated_as_text,
            contaminated_with_case,
            contaminated_by_any_words,
            contaminated_with_short_ones,
            contaminated_one_run_short,
            contaminated_with_underscores,
            contaminated_across_documents,
            contaminated_the_texts,
        ],
    ),
    "document_mask": Answers(
        right=[mask_by_loops, mask_by_tril],
        wrong=[
            mask_causal_alone,
            mask_same_alone,
            mask_that_sees_padding,
            mask_the_other_way_round,
            mask_without_the_diagonal,
            mask_of_numbers,
            mask_where_hidden,
        ],
    ),
    "rows_per_band": Answers(
        right=[rows_by_search],
        wrong=[
            rows_that_do_not_divide,
            rows_swapped,
            rows_of_one_band,
            rows_more_often_than_asked,
            rows_the_shortest,
            rows_by_the_threshold,
        ],
    ),
    "entropy": Answers(
        right=[entropy_by_stories, entropy_by_queue],
        wrong=[
            entropy_in_bits,
            entropy_not_weighted,
            entropy_of_the_first_choice,
            entropy_that_fails_at_zero,
            entropy_as_a_number_of_stories,
            entropy_of_equal_stories,
        ],
    ),
}
