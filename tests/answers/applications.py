"""Answers to the exercises of chapter 15: right ones, and wrong ones that learners give."""

import math
import statistics
from functools import cache

from tests.answers import Answers


def needed_by_trying(share, margin):
    num = 1
    while 1.96 * math.sqrt(share * (1 - share) / num) > margin:
        num += 1
    return num


def needed_rounded_down(share, margin):
    return max(1, int(1.96**2 * share * (1 - share) / margin**2))


def needed_one_more(share, margin):
    return math.ceil(1.96**2 * share * (1 - share) / margin**2) + 1


def needed_for_one_error(share, margin):
    return max(1, math.ceil(share * (1 - share) / margin**2))


def needed_without_the_square(share, margin):
    return max(1, math.ceil(1.96 * share * (1 - share) / margin**2))


def needed_for_a_half(share, margin):
    return max(1, math.ceil(1.96**2 / 4 / margin**2))


def needed_as_a_fraction(share, margin):
    return max(1.0, 1.96**2 * share * (1 - share) / margin**2)


def needed_perhaps_none(share, margin):
    return math.ceil(1.96**2 * share * (1 - share) / margin**2)


def rouge_by_recursion(words, right):
    @cache
    def common(i, j):
        if i == 0 or j == 0:
            return 0
        if words[i - 1] == right[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    length = common(len(words), len(right))
    precision, recall = length / len(words), length / len(right)
    return 2 * precision * recall / (precision + recall) if length else 0.0


def rouge_precision(words, right):
    return rouge_by_recursion(words, right) * (len(words) + len(right)) / 2 / len(words)


def rouge_recall(words, right):
    return rouge_by_recursion(words, right) * (len(words) + len(right)) / 2 / len(right)


def rouge_of_bags(words, right):
    bag = sum(min(words.count(word), right.count(word)) for word in {*words})
    return 2 * bag / (len(words) + len(right))


def rouge_of_runs(words, right):
    longest, row = 0, [0] * (len(right) + 1)
    for word in words:
        above, row = row, [0]
        row += [above[j] + 1 if word == other else 0 for j, other in enumerate(right)]
        longest = max(longest, *row)
    return 2 * longest / (len(words) + len(right))


def rouge_greedily(words, right):
    place, length = 0, 0
    for word in words:
        if word in right[place:]:
            place, length = right.index(word, place) + 1, length + 1
    return 2 * length / (len(words) + len(right))


def rouge_that_fails_on_strangers(words, right):
    length = rouge_by_recursion(words, right) * (len(words) + len(right)) / 2
    precision, recall = length / len(words), length / len(right)
    return 2 * precision * recall / (precision + recall)


def facts_by_loop(claimed, true):
    told, due, both = 0, 0, 0
    for mine, theirs in zip(claimed, true, strict=True):
        told, due = told + len(mine), due + len(theirs)
        both += sum(fact in theirs for fact in mine)
    return (1.0 if told == 0 else both / told, 1.0 if due == 0 else both / due)


def facts_exchanged(claimed, true):
    return facts_by_loop(claimed, true)[::-1]


def facts_by_mean(claimed, true):
    rows = [facts_by_loop([mine], [theirs]) for mine, theirs in zip(claimed, true, strict=True)]
    if not rows:
        return 1.0, 1.0
    return tuple(statistics.fmean(row) for row in zip(*rows, strict=True))


def facts_in_one_pile(claimed, true):
    return facts_by_loop([set().union(*claimed)], [set().union(*true)])


def facts_zero_for_nothing(claimed, true):
    precision, recall = facts_by_loop(claimed, true)
    return precision if any(claimed) else 0.0, recall if any(true) else 0.0


def facts_unguarded(claimed, true):
    both = sum(len(a & b) for a, b in zip(claimed, true, strict=True))
    return both / sum(map(len, claimed)), both / sum(map(len, true))


def threshold_from_above(suspicions, is_bad, precision):
    order = sorted(zip(suspicions, is_bad, strict=True), reverse=True)
    found, bad = None, 0
    for number, (row, is_so) in enumerate(order, 1):
        bad += is_so
        is_last = number == len(order) or order[number][0] != row
        if is_last and bad >= precision * number - 1e-9:
            found = row
    return found


def threshold_until_it_fails(suspicions, is_bad, precision):
    found = None
    for threshold in sorted(set(suspicions), reverse=True):
        held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row >= threshold]
        if sum(held) < precision * len(held):
            break
        found = threshold
    return found


def threshold_through_ties(suspicions, is_bad, precision):
    order = sorted(zip(suspicions, is_bad, strict=True), reverse=True)
    found, bad = None, 0
    for number, (row, is_so) in enumerate(order, 1):
        bad += is_so
        if bad >= precision * number:
            found = row
    return found


def threshold_above(suspicions, is_bad, precision):
    for threshold in sorted(set(suspicions)):
        held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row > threshold]
        if held and sum(held) >= precision * len(held):
            return threshold
    return None


def threshold_highest(suspicions, is_bad, precision):
    for threshold in sorted(set(suspicions), reverse=True):
        held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row >= threshold]
        if sum(held) >= precision * len(held):
            return threshold
    return None


def threshold_by_recall(suspicions, is_bad, precision):
    bad = sorted(
        (row for row, is_so in zip(suspicions, is_bad, strict=True) if is_so), reverse=True
    )
    return bad[math.ceil(precision * len(bad)) - 1]


def gap_by_library(first, second):
    rows = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    return statistics.fmean(rows), statistics.pstdev(rows) / math.sqrt(len(rows))


def gap_turned_round(first, second):
    return gap_by_library(second, first)


def gap_of_separate_models(first, second):
    shares = [sum(row) / len(row) for row in (first, second)]
    variance = sum(share * (1 - share) for share in shares) / len(first)
    return shares[0] - shares[1], math.sqrt(variance)


def gap_with_the_deviation(first, second):
    mean, error = gap_by_library(first, second)
    return mean, error * math.sqrt(len(first))


def gap_squared(first, second):
    mean, error = gap_by_library(first, second)
    return mean, error**2


def gap_around_zero(first, second):
    rows = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    spread = sum(row**2 for row in rows) / len(rows)
    return sum(rows) / len(rows), math.sqrt(spread / len(rows))


def gap_with_one_less(first, second):
    rows = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    mean = sum(rows) / len(rows)
    spread = sum((row - mean) ** 2 for row in rows) / max(1, len(rows) - 1)
    return mean, math.sqrt(spread / len(rows))


ANSWERS = {
    "needed_cases": Answers(
        right=[needed_by_trying],
        wrong=[
            needed_rounded_down,
            needed_one_more,
            needed_for_one_error,
            needed_without_the_square,
            needed_for_a_half,
            needed_as_a_fraction,
            needed_perhaps_none,
        ],
    ),
    "rouge_l": Answers(
        right=[rouge_by_recursion],
        wrong=[
            rouge_precision,
            rouge_recall,
            rouge_of_bags,
            rouge_of_runs,
            rouge_greedily,
            rouge_that_fails_on_strangers,
        ],
    ),
    "fact_scores": Answers(
        right=[facts_by_loop],
        wrong=[
            facts_exchanged,
            facts_by_mean,
            facts_in_one_pile,
            facts_zero_for_nothing,
            facts_unguarded,
        ],
    ),
    "threshold_for": Answers(
        right=[threshold_from_above],
        wrong=[
            threshold_until_it_fails,
            threshold_through_ties,
            threshold_above,
            threshold_highest,
            threshold_by_recall,
        ],
    ),
    "gap": Answers(
        right=[gap_by_library],
        wrong=[
            gap_turned_round,
            gap_of_separate_models,
            gap_with_the_deviation,
            gap_squared,
            gap_around_zero,
            gap_with_one_less,
        ],
    ),
}
