"""Answers to the exercises of chapter 19: right ones, and wrong ones that learners give."""

import math

import torch

from tests.answers import Answers


def attack_by_recursion(scores, near, text, max_changes):
    lower = [other for other in near[text] if scores[other] < scores[text]]
    if not lower or not max_changes:
        return text
    return attack_by_recursion(scores, near, min(lower, key=scores.get), max_changes - 1)


def attack_that_goes_on(scores, near, text, max_changes):
    for _ in range(max_changes):
        text = min(near[text], key=scores.get, default=text)
    return text


def attack_that_takes_the_first(scores, near, text, max_changes):
    for _ in range(max_changes):
        text = next((other for other in near[text] if scores[other] < scores[text]), text)
    return text


def attack_without_an_end(scores, near, text, max_changes):
    return attack_by_recursion(scores, near, text, 99)


def attack_that_goes_up(scores, near, text, max_changes):
    for _ in range(max_changes):
        text = max(near[text], key=scores.get, default=text)
    return text


def attack_that_stays(scores, near, text, max_changes):
    return text


def attack_as_a_path(scores, near, text, max_changes):
    return [text, attack_by_recursion(scores, near, text, max_changes)]


def projected_by_renorm(x, center, radius):
    return center + torch.renorm(x - center, 2, 0, radius)


def projected_row_by_row(x, center, radius):
    rows = []
    for point, middle in zip(x, center, strict=True):
        length = (point - middle).norm()
        rows.append(point if length <= radius else middle + radius / length * (point - middle))
    return torch.stack(rows)


def projected_into_a_box(x, center, radius):
    return center + (x - center).clamp(-radius, radius)


def projected_onto_the_shell(x, center, radius):
    change = x - center
    return center + radius * change / change.norm(dim=1, keepdim=True)


def projected_as_one_text(x, center, radius):
    change = x - center
    return center + change * min(1.0, radius / max(change.norm().item(), 1e-9))


def projected_without_the_center(x, center, radius):
    return torch.renorm(x - center, 2, 0, radius)


def projected_around_zero(x, center, radius):
    return torch.renorm(x, 2, 0, radius)


def calibration_by_loop(confidences, is_right, num_bins):
    total = 0.0
    for number in range(num_bins):
        here = [
            (c, r)
            for c, r in zip(confidences, is_right, strict=True)
            if min(int(c * num_bins + 1e-9), num_bins - 1) == number
        ]
        total += abs(sum(c for c, _ in here) - sum(r for _, r in here))
    return total / len(confidences)


def _gaps(confidences, is_right, num_bins):
    rows = {}
    for c, r in zip(confidences, is_right, strict=True):
        rows.setdefault(min(int(c * num_bins + 1e-9), num_bins - 1), []).append(c - r)
    return list(rows.values())


def calibration_of_equal_ranges(confidences, is_right, num_bins):
    gaps = [abs(sum(row) / len(row)) for row in _gaps(confidences, is_right, num_bins)]
    return sum(gaps) / len(gaps)


def calibration_over_all_ranges(confidences, is_right, num_bins):
    gaps = [abs(sum(row) / len(row)) for row in _gaps(confidences, is_right, num_bins)]
    return sum(gaps) / num_bins


def calibration_with_signs(confidences, is_right, num_bins):
    return abs(sum(confidences) - sum(is_right)) / len(confidences)


def calibration_of_single_answers(confidences, is_right, num_bins):
    pairs = zip(confidences, is_right, strict=True)
    return sum(abs(c - r) for c, r in pairs) / len(confidences)


def calibration_at_its_worst(confidences, is_right, num_bins):
    return max(abs(sum(row) / len(row)) for row in _gaps(confidences, is_right, num_bins))


def coverage_by_sorting(confidences, is_right, risk):
    pairs = sorted(zip(confidences, is_right, strict=True), reverse=True)
    best = wrong = 0
    for count, (confidence, ok) in enumerate(pairs, 1):
        wrong += not ok
        is_end = count == len(pairs) or pairs[count][0] != confidence
        if is_end and wrong / count <= risk + 1e-9:
            best = count
    return best / len(pairs)


def coverage_that_tears_equals_apart(confidences, is_right, risk):
    pairs = sorted(zip(confidences, is_right, strict=True), reverse=True)
    best = wrong = 0
    for count, (_, ok) in enumerate(pairs, 1):
        wrong += not ok
        if wrong / count <= risk + 1e-9:
            best = count
    return best / len(pairs)


def coverage_that_gives_up(confidences, is_right, risk):
    pairs = sorted(zip(confidences, is_right, strict=True), reverse=True)
    wrong = 0
    for count, (_, ok) in enumerate(pairs):
        wrong += not ok
        if wrong / (count + 1) > risk + 1e-9:
            return count / len(pairs)
    return 1.0


def coverage_as_a_count(confidences, is_right, risk):
    return coverage_by_sorting(confidences, is_right, risk) * len(confidences)


def coverage_in_the_given_order(confidences, is_right, risk):
    best = 0
    for count in range(1, len(is_right) + 1):
        if is_right[:count].count(False) / count <= risk + 1e-9:
            best = count
    return best / len(is_right)


def coverage_of_the_risk_of_all(confidences, is_right, risk):
    best = 0.0
    for t in confidences:
        given = [ok for c, ok in zip(confidences, is_right, strict=True) if c >= t]
        if given.count(False) / len(confidences) <= risk + 1e-9:
            best = max(best, len(given) / len(confidences))
    return best


def exposure_by_sorting(log_probabilities, place):
    ordered = sorted(log_probabilities, reverse=True)
    rank = ordered.index(log_probabilities[place]) + 1
    return math.log2(len(ordered)) - math.log2(rank)


def exposure_in_nats(log_probabilities, place):
    return exposure_by_sorting(log_probabilities, place) * math.log(2)


def exposure_from_below(log_probabilities, place):
    rank = sorted(log_probabilities).index(log_probabilities[place]) + 1
    return math.log2(len(log_probabilities) / rank)


def exposure_with_equals(log_probabilities, place):
    rank = sum(row >= log_probabilities[place] for row in log_probabilities)
    return math.log2(len(log_probabilities) / rank)


def exposure_as_surprise(log_probabilities, place):
    return -log_probabilities[place] / math.log(2)


def exposure_of_the_rank_alone(log_probabilities, place):
    return math.log2(1 + sum(row > log_probabilities[place] for row in log_probabilities))


def twins_by_halving(share, wanted):
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if (share + middle * (1 - share)) / (1 + middle) > wanted
            else (low, middle)
        )
    return low


def twins_in_exchange(share, wanted):
    return (share - wanted) / (2 * share - 1)


def twins_as_a_difference(share, wanted):
    return share - wanted


def twins_relative(share, wanted):
    return (share - wanted) / wanted


def twins_of_the_marked_alone(share, wanted):
    return share / wanted - 1


def twins_doubled(share, wanted):
    return 2 * (share - wanted)


ANSWERS = {
    "attack": Answers(
        right=[attack_by_recursion],
        wrong=[
            attack_that_goes_on,
            attack_that_takes_the_first,
            attack_without_an_end,
            attack_that_goes_up,
            attack_that_stays,
            attack_as_a_path,
        ],
    ),
    "project": Answers(
        right=[projected_by_renorm, projected_row_by_row],
        wrong=[
            projected_into_a_box,
            projected_onto_the_shell,
            projected_as_one_text,
            projected_without_the_center,
            projected_around_zero,
        ],
    ),
    "calibration_error": Answers(
        right=[calibration_by_loop],
        wrong=[
            calibration_of_equal_ranges,
            calibration_over_all_ranges,
            calibration_with_signs,
            calibration_of_single_answers,
            calibration_at_its_worst,
        ],
    ),
    "safe_coverage": Answers(
        right=[coverage_by_sorting],
        wrong=[
            coverage_that_tears_equals_apart,
            coverage_that_gives_up,
            coverage_as_a_count,
            coverage_in_the_given_order,
            coverage_of_the_risk_of_all,
        ],
    ),
    "exposure": Answers(
        right=[exposure_by_sorting],
        wrong=[
            exposure_in_nats,
            exposure_from_below,
            exposure_with_equals,
            exposure_as_surprise,
            exposure_of_the_rank_alone,
        ],
    ),
    "twins_needed": Answers(
        right=[twins_by_halving],
        wrong=[
            twins_in_exchange,
            twins_as_a_difference,
            twins_relative,
            twins_of_the_marked_alone,
            twins_doubled,
        ],
    ),
}
