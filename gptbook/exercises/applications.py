"""Exercises of chapter 15: how many cases, what two texts share, facts, thresholds, two models."""

import math
from typing import Any

from gptbook.exercises import Exercise, compare


def needed_cases(share: float, margin: float) -> int:
    """Find how many cases make 1.96 standard errors of a share at most the margin."""
    return max(1, math.ceil(1.96**2 * share * (1 - share) / margin**2))


def rouge_l(words: list[str], right: list[str]) -> float:
    """Score how much of two texts is the same, in the same order."""
    row = [0] * (len(right) + 1)
    for word in words:
        above, row = row, [0]
        for j, other in enumerate(right):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    return 2 * row[-1] / (len(words) + len(right))


def fact_scores(claimed: list[set[str]], true: list[set[str]]) -> tuple[float, float]:
    """Give precision and recall over the facts of all summaries together."""
    num_both = sum(len(a & b) for a, b in zip(claimed, true, strict=True))
    num_claimed, num_true = sum(map(len, claimed)), sum(map(len, true))
    precision = num_both / num_claimed if num_claimed else 1.0
    return precision, num_both / num_true if num_true else 1.0


def threshold_for(suspicions: list[float], is_bad: list[bool], precision: float) -> float | None:
    """Find the lowest threshold at which enough of what is held back is bad."""
    for threshold in sorted(set(suspicions)):
        held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row >= threshold]
        if sum(held) >= precision * len(held) - 1e-9:
            return threshold
    return None


def gap(first: list[bool], second: list[bool]) -> tuple[float, float]:
    """Compare two models case by case: the difference of their shares, and its standard error."""
    differences = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / len(differences)
    variance = sum((row - mean) ** 2 for row in differences) / len(differences)
    return mean, math.sqrt(variance / len(differences))


def _needed_cases() -> list[tuple[Any, ...]]:
    """A half, shares near the ends, and margins so wide that hardly any cases are needed.

    None comes out even, where the last digit of a division would decide.
    """
    pairs = [(0.5, 0.05), (0.99, 0.01), (0.2, 0.1), (0.97, 0.005), (0.5, 2.0), (1.0, 0.1)]
    return [*pairs, (0.5, 0.1), (0.5, 0.47), (0.2, 0.19), (0.1, 0.06), (0.5, 0.2)]


def _judge_needed(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize rounding down, a missing root or square, and a missing 1.96."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    share, margin = arguments
    if got != int(got):
        return f"a number of cases is a whole number ({difference})"
    if got == 0 < expected:
        return f"at least one case is needed ({difference})"
    if abs(got - expected) == 1:
        near = "too few" if got < expected else "one more than needed"
        return f"that is {near}: round up to the next whole number ({difference})"
    if abs(got - share * (1 - share) / margin**2) <= 1:
        return f"1.96 standard errors are to fit into the margin, not one ({difference})"
    if abs(got - 1.96 * share * (1 - share) / margin**2) <= 1:
        return f"solved for the number of cases, the 1.96 is squared ({difference})"
    if abs(got - 1.96**2 * share * (1 - share) / margin) <= 1:
        return f"solved for the number of cases, the margin is squared ({difference})"
    if abs(got - 1.96**2 / 4 / margin**2) <= 1:
        return f"that is for the worst share, one half; the share is known ({difference})"
    return difference


def _rouge_cases() -> list[tuple[Any, ...]]:
    """Equal, nothing common, another order, gaps, a word twice, and texts of different lengths."""
    right = ["the", "cook", "Mia", "got", "the", "hat"]
    return [
        (right, right),
        (["nobody"], right),
        (["the", "hat", "got", "Mia", "the", "cook"], right),
        (["the", "cook", "Leo", "got", "the", "red", "hat"], right),
        (["the", "the", "the", "the"], right),
        (["hat"], right),
        (["a", "b", "c", "a", "b", "c"], ["c", "a", "b"]),
    ]


def _judge_rouge(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize precision or recall alone, a bag of words, and runs without gaps."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    words, right = arguments
    length = expected * (len(words) + len(right)) / 2
    bag = sum(min(words.count(word), right.count(word)) for word in {*words})
    run = max(
        (
            size
            for size in range(1, len(words) + 1)
            for i in range(len(words) - size + 1)
            for j in range(len(right) - size + 1)
            if words[i : i + size] == right[j : j + size]
        ),
        default=0,
    )
    for number, advice in (
        (length / len(words), "this is the precision; the score takes both"),
        (length / len(right), "this is the recall; the score takes both"),
        (length, "this is the length of what they have in common; divide it"),
        (2 * bag / (len(words) + len(right)), "words count in the same order only"),
        (2 * run / (len(words) + len(right)), "gaps are allowed between common words"),
    ):
        if compare(number, got) is None:
            return f"{advice} ({difference})"
    return difference


def _fact_cases() -> list[tuple[Any, ...]]:
    """All right, some invented, some left out, sizes that differ, and nothing at all."""
    return [
        ([{"a", "b"}], [{"a", "b"}]),
        ([{"a", "b", "c"}], [{"a"}]),
        ([{"a"}], [{"a", "b", "c", "d"}]),
        ([{"a", "b", "c", "d"}, {"x"}], [{"a", "b", "c", "e", "f"}, {"y"}]),
        ([set(), {"a"}], [{"b"}, {"a"}]),
        ([{"a"}, {"b", "c"}], [{"b"}, {"a", "c"}]),
        ([set(), set()], [{"a"}, {"b", "c"}]),
        ([{"a"}], [set()]),
        ([], []),
    ]


def _judge_facts(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize exchanged numbers, means over summaries, and facts of other summaries."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 2:
        return difference
    claimed, true = arguments
    if compare(expected[::-1], got) is None:
        return f"precision comes first, then recall ({difference})"
    shares = [
        (len(a & b) / len(a) if a else 1.0, len(a & b) / len(b) if b else 1.0)
        for a, b in zip(claimed, true, strict=True)
    ]
    if (
        shares
        and compare(tuple(sum(row) / len(shares) for row in zip(*shares, strict=True)), got) is None
    ):
        return f"this is the mean over summaries; count over all facts together ({difference})"
    piles = (set().union(*claimed), set().union(*true))
    num_both = len(piles[0] & piles[1])
    if all(piles) and compare((num_both / len(piles[0]), num_both / len(piles[1])), got) is None:
        return f"a fact counts in its own summary only, not in another ({difference})"
    if not any(claimed) and got[0] == 0:
        return f"who claims nothing has invented nothing: precision 1 ({difference})"
    if not any(true) and got[1] == 0:
        return f"where there was nothing to say, nothing was left out: recall 1 ({difference})"
    return difference


def _threshold_cases() -> list[tuple[Any, ...]]:
    """In order and out of order, ties, a precision that rises again, all bad, none that will do."""
    return [
        ([0.9, 0.6, 0.2, 0.1], [True, False, True, False], 0.6),
        ([0.1, 0.8, 0.5, 0.7], [False, True, True, False], 0.65),
        ([0.9, 0.5, 0.5, 0.1], [True, True, False, False], 0.9),
        ([0.9, 0.8, 0.7, 0.6, 0.1], [False, True, True, True, False], 0.75),
        ([0.3, 0.2], [True, True], 1.0),
        ([0.9, 0.8, 0.4], [False, False, True], 0.5),
        ([0.9, 0.5, 0.5, 0.5, 0.2], [True, True, True, False, False], 0.75),
    ]


def _judge_threshold(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize thresholds that are too high, such as miss the bound, and torn ties."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        if got is None and expected is not None:
            return f"there is one: precision may rise again below a first failure ({difference})"
        return difference
    suspicions, is_bad, precision = arguments
    if got not in suspicions:
        return f"choose one of the suspicions ({difference})"
    held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row >= got]
    reached = sum(held) / len(held)
    if reached < precision - 1e-9:
        together = "equal suspicions are held back together"
        why = together if suspicions.count(got) > 1 else f"{got} itself is held back, too"
        return (
            f"from {got} on, {sum(held)} of {len(held)} held back are bad, which is too few; "
            f"{why} ({difference})"
        )
    return f"a lower threshold finds more and will do as well ({difference})"


def _gap_cases() -> list[tuple[Any, ...]]:
    """Equal models, one better, one worse, alike and unlike in where they fail, and one case."""
    yes, no = True, False
    return [
        ([yes, yes, no, yes], [yes, yes, no, yes]),
        ([yes] * 8 + [no] * 2, [yes] * 6 + [no] * 4),
        ([yes, yes, yes, yes], [yes, no, yes, yes]),
        ([no, no, yes, no], [yes, yes, yes, no]),
        ([yes, no, yes, no, yes, yes], [no, yes, no, yes, yes, yes]),
        ([yes], [no]),
    ]


def _judge_gap(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize the other direction, separate errors, and a variance that is not divided."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, list | tuple) or len(got) != 2:
        return difference
    first, second = (sum(row) / len(row) for row in arguments)
    num = len(arguments[0])
    apart = math.sqrt((first * (1 - first) + second * (1 - second)) / num)
    mean, error = expected
    for numbers, advice in (
        ((-mean, error), "it is the share of the first minus that of the second"),
        ((mean, apart), "compare case by case: the models may fail at the same ones"),
        ((mean, error * math.sqrt(num)), "divide the variance by the number of cases"),
        ((mean, error**2), "this is the square of the standard error; take its root"),
        ((mean, math.sqrt(error**2 + mean**2 / num)), "take off the mean before squaring"),
        ((mean, error * math.sqrt(num / max(1, num - 1))), "the mean of n squares divides by n"),
    ):
        if compare(numbers, tuple(got)) is None:
            return f"{advice} ({difference})"
    return difference


EXERCISES = {
    "needed_cases": Exercise(needed_cases, _needed_cases, _judge_needed),
    "rouge_l": Exercise(rouge_l, _rouge_cases, _judge_rouge),
    "fact_scores": Exercise(fact_scores, _fact_cases, _judge_facts),
    "threshold_for": Exercise(threshold_for, _threshold_cases, _judge_threshold),
    "gap": Exercise(gap, _gap_cases, _judge_gap),
}
