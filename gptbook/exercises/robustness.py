"""Exercises of chapter 19: an attack, its radius, rightly sure, safe answers, secrets, twins."""

import math
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare
from gptbook.robustness import calibration_error as error_of
from gptbook.robustness import project, reliability


def _attack(
    scores: dict[str, float], near: dict[str, list[str]], text: str, max_changes: int
) -> str:
    """Go to the least suspicious text nearby, as long as that is less suspicious."""
    for _ in range(max_changes):
        best = min(near[text], key=scores.__getitem__, default=text)
        if scores[best] >= scores[text]:
            break
        text = best
    return text


def _attack_cases() -> list[tuple[Any, ...]]:
    """Straight down, beside a deeper pit, too few changes, nothing nearby, none better."""
    scores = {"ugly": 0.9, "ugy": 0.7, "uly": 0.6, "ulgy": 0.8, "ug": 0.2, "ul": 0.5, "u": 0.3}
    near = {
        "ugly": ["ugy", "uly", "ulgy"],
        "ugy": ["ug", "ugly"],
        "uly": ["ul", "ugly"],
        "ulgy": ["ugly", "ugy"],
        "ug": ["u", "ugy"],
        "ul": ["u", "uly"],
        "u": [],
    }
    return [
        (scores, near, "ugly", 1),
        (scores, near, "ugly", 3),
        (scores, near, "ugly", 2),
        (scores, near, "ulgy", 9),
        (scores, near, "u", 2),
        (scores, near, "ug", 5),
    ]


def _judge_attack(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a step too many, a step uphill, a first instead of the best, and a whole path."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, str):
        return difference
    scores, near, text, max_changes = arguments
    if got not in scores:
        return f"{got!r} is none of the texts ({difference})"
    if got == text:
        return f"something nearby is less suspicious; go there ({difference})"
    if scores[got] > scores[expected] and got in near[expected]:
        return f"the last step made it more suspicious; stop before ({difference})"
    if _attack(scores, near, text, max_changes + 1) == got:
        return f"that took more than {max_changes} changes ({difference})"
    return f"go to the least suspicious of all that are nearby, each time ({difference})"


def _project(x: Tensor, center: Tensor, radius: float) -> Tensor:
    """Bring each row back to within the radius of its center."""
    return project(x, center, radius)


def _project_cases() -> list[tuple[Any, ...]]:
    """One outside, some inside, rows of different lengths, a center far from zero, no change."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    center = 5 + draw(3, 4)
    return [
        (torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), 1.0),
        (torch.tensor([[0.3, 0.4], [6.0, 8.0]]), torch.zeros(2, 2), 2.0),
        (center + torch.tensor([[0.1], [1.0], [3.0]]) * draw(3, 4), center, 1.0),
        (torch.ones(2, 3), torch.ones(2, 3), 0.5),
    ]


def _judge_project(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize boxes, rows that were all stretched, batches taken for one text, and zero."""
    difference = compare(expected, got)
    if difference is None or not isinstance(got, Tensor) or got.shape != expected.shape:
        return difference
    x, center, radius = arguments
    change = x - center
    if not got.isfinite().all():
        return f"a row that has not moved has the length 0; do not divide by it ({difference})"
    if compare(expected - center, got) is None:
        return f"that is the change; add the center again ({difference})"
    if compare(center + change.clamp(-radius, radius), got) is None:
        return f"that holds every number, not the length of the row ({difference})"
    inside = change.norm(dim=1) <= radius
    if inside.any() and compare(x[inside], got[inside]) is not None:
        return f"a row that is within the radius stays where it is ({difference})"
    return difference


def _calibration_error(confidences: list[float], is_right: list[bool], num_bins: int) -> float:
    """Average over the answers how far confidence and accuracy lie apart in their range."""
    return error_of(reliability(torch.tensor(confidences), torch.tensor(is_right), num_bins))


def _calibration_cases() -> list[tuple[Any, ...]]:
    """Perfect, too sure, ranges of different sizes, gaps that cancel, a confidence of 1."""
    return [
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 5),
        ([0.95, 0.95, 0.85, 0.55], [True, False, False, True], 10),
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.3], [True, True, False, True, False, True], 4),
        ([0.7, 0.65, 0.3, 0.35], [False, False, True, True], 2),
        ([1.0, 1.0, 0.96, 0.1], [True, False, True, False], 10),
        ([0.8, 0.6], [True, False], 1),
    ]


def _judge_calibration(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize ranges that all count the same, gaps with their sign, and single answers."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    confidences, is_right, num_bins = arguments
    bins = reliability(torch.tensor(confidences), torch.tensor(is_right), num_bins)
    gaps = [row.confidence - row.accuracy for row in bins]
    singles = [abs(c - r) for c, r in zip(confidences, is_right, strict=True)]
    if compare(sum(singles) / len(singles), got) is None:
        return f"average confidence and accuracy within a range first ({difference})"
    if compare(sum(map(abs, gaps)) / len(gaps), got) is None:
        return f"a range with more answers counts more ({difference})"
    if compare(sum(map(abs, gaps)) / num_bins, got) is None:
        return f"average over the answers, not over the ranges ({difference})"
    return difference


def _safe_coverage(confidences: list[float], is_right: list[bool], risk: float) -> float:
    """Give the largest share that one threshold answers at that risk."""
    best = 0.0
    for threshold in set(confidences):
        given = [ok for c, ok in zip(confidences, is_right, strict=True) if c >= threshold]
        if given.count(False) <= risk * len(given) + 1e-9:
            best = max(best, len(given) / len(confidences))
    return best


def _coverage_cases() -> list[tuple[Any, ...]]:
    """None will do, all will, ties, risk that rises and falls again, and answers out of order."""
    return [
        ([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.0),
        ([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.25),
        ([0.6, 0.9, 0.8, 0.7], [True, False, True, True], 0.3),
        ([0.9, 0.5, 0.5, 0.5], [True, True, False, False], 0.34),
        ([0.9, 0.8], [False, False], 0.4),
        ([0.9, 0.8, 0.7, 0.6], [True, False, True, False], 0.25),
        ([0.3, 0.2, 0.1], [True, True, True], 0.0),
    ]


def _judge_coverage(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize equal confidences torn apart, a search that gave up, and counts."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    confidences = arguments[0]
    reachable = {sum(c >= t for c in confidences) / len(confidences) for t in confidences} | {0.0}
    if got > 1:
        return f"give a share of all questions, not a number of them ({difference})"
    if all(abs(got - share) > 1e-6 for share in reachable):
        return f"no threshold answers that share; equal confidences go together ({difference})"
    if got < expected:
        return f"more can be answered; the risk may fall again further down ({difference})"
    return f"too many of those are wrong ({difference})"


def _exposure(log_probabilities: list[float], place: int) -> float:
    """Count the bits by which the search for a candidate is shortened."""
    rank = 1 + sum(row > log_probabilities[place] for row in log_probabilities)
    return math.log2(len(log_probabilities) / rank)


def _exposure_cases() -> list[tuple[Any, ...]]:
    """First, last, in the middle, one of equals, and the only one."""
    rows = [-3.0, -1.0, -2.5, -7.0, -4.0, -1.5, -9.0, -2.0]
    return [
        (rows, 1),
        (rows, 6),
        (rows, 2),
        ([-2.0, -2.0, -2.0, -1.0], 1),
        ([-5.0], 0),
        ([-1.0, -2.0, -3.0], 0),
    ]


def _judge_exposure(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize nats, ranks from the wrong end, and equals that were counted."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    rows, place = arguments
    if compare(expected * math.log(2), got) is None:
        return f"that is in nats; take the logarithm to base 2 ({difference})"
    below = 1 + sum(row < rows[place] for row in rows)
    if compare(math.log2(len(rows) / below), got) is None:
        return f"rank 1 is the most probable candidate ({difference})"
    equal = sum(row >= rows[place] for row in rows)
    if compare(math.log2(len(rows) / equal), got) is None:
        return f"only candidates more probable than the secret stand before it ({difference})"
    return difference


def _twins_needed(share: float, wanted: float) -> float:
    """Say which part of the texts needs a twin, for the share to fall as far as wanted."""
    return (share - wanted) / (wanted - (1 - share))


def _twins_cases() -> list[tuple[Any, ...]]:
    """All of them, none, and in between."""
    return [(0.9, 0.5), (0.9, 0.9), (0.9, 0.6), (0.8, 0.75), (0.99, 0.6), (1.0, 0.8)]


def _judge_twins(expected: Any, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a corpus that does not grow, and texts that were exchanged for their twins."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int | float):
        return difference
    share, wanted = arguments
    if share > 0.5 and compare((share - wanted) / (2 * share - 1), got) is None:
        return f"twins are added, and the texts stay; the corpus grows ({difference})"
    reached = (share + got * (1 - share)) / (1 + got) if got > -1 else math.nan
    return f"with that the share becomes {reached:.4f}, not {wanted} ({difference})"


EXERCISES = {
    "attack": Exercise(_attack, _attack_cases, _judge_attack),
    "project": Exercise(_project, _project_cases, _judge_project),
    "calibration_error": Exercise(_calibration_error, _calibration_cases, _judge_calibration),
    "safe_coverage": Exercise(_safe_coverage, _coverage_cases, _judge_coverage),
    "exposure": Exercise(_exposure, _exposure_cases, _judge_exposure),
    "twins_needed": Exercise(_twins_needed, _twins_cases, _judge_twins),
}
