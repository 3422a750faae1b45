"""Right and wrong answers to the exercises of chapter 17."""

import math

import torch

from tests.answers import Answers


def together_by_loop(patches, size):
    num = round(len(patches) ** 0.5)
    picture = torch.zeros(3, num * size, num * size)
    for number, patch in enumerate(patches):
        row, column = divmod(number, num)
        rows, columns = slice(row * size, (row + 1) * size), slice(column * size, None)
        picture[:, rows, columns][:, :, :size] = patch.view(3, size, size)
    return picture


def together_by_fold(patches, size):
    side = round(len(patches) ** 0.5) * size
    return torch.nn.functional.fold(patches.T[None], side, kernel_size=size, stride=size)[0]


def together_reshaped(patches, size):
    side = round(len(patches) ** 0.5) * size
    return patches.reshape(3, side, side)


def together_by_columns(patches, size):
    num = round(len(patches) ** 0.5)
    return together_by_loop(patches.view(num, num, -1).transpose(0, 1).flatten(0, 1), size)


def together_transposed(patches, size):
    return together_by_loop(patches, size).mT


def together_colors_last(patches, size):
    num = round(len(patches) ** 0.5)
    grid = patches.view(num, num, size, size, 3)
    return grid.permute(4, 0, 2, 1, 3).reshape(3, num * size, num * size)


def patch_by_divisors(side, num_tokens, context_length):
    sizes = [n for n in range(1, side + 1) if side % n == 0]
    fitting = [n for n in sizes if (side // n) ** 2 <= context_length - num_tokens]
    if not fitting:
        raise ValueError("nothing fits")
    return fitting[0]


def patch_with_a_rest(side, num_tokens, context_length):
    for size in range(1, side + 1):
        if (side // size) ** 2 + num_tokens <= context_length:
            return size
    raise ValueError("nothing fits")


def patch_too_careful(side, num_tokens, context_length):
    for size in range(1, side + 1):
        if side % size == 0 and (side // size) ** 2 + num_tokens < context_length:
            return size
    raise ValueError("nothing fits")


def patch_without_text(side, num_tokens, context_length):
    for size in range(1, side + 1):
        if side % size == 0 and (side // size) ** 2 <= context_length:
            return size
    raise ValueError("nothing fits")


def patch_counted_along_a_side(side, num_tokens, context_length):
    for size in range(1, side + 1):
        if side % size == 0 and side // size + num_tokens <= context_length:
            return size
    raise ValueError("nothing fits")


def patch_largest(side, num_tokens, context_length):
    if 1 + num_tokens > context_length:
        raise ValueError("nothing fits")
    return side


def part_by_loop(picture, shown):
    if any(list(other) == list(picture) for other in shown):
        return "seen"
    for pair in picture:
        if all(pair not in other for other in shown):
            return "never paired"
    return "new"


def part_by_words(picture, shown):
    colors = {color for other in shown for color, _ in other}
    forms = {form for other in shown for _, form in other}
    if picture in shown:
        return "seen"
    known = all(color in colors and form in forms for color, form in picture)
    return "new" if known else "never paired"


def part_never_seen(picture, shown):
    known = {pair for other in shown for pair in other}
    return "new" if known.issuperset(picture) else "never paired"


def part_by_any(picture, shown):
    if picture in shown:
        return "seen"
    known = {pair for other in shown for pair in other}
    return "new" if known & set(picture) else "never paired"


def part_without_order(picture, shown):
    if set(picture) in [set(other) for other in shown]:
        return "seen"
    known = {pair for other in shown for pair in other}
    return "new" if known.issuperset(picture) else "never paired"


def part_within_one(picture, shown):
    if picture in shown:
        return "seen"
    return "new" if any(set(picture) <= set(other) for other in shown) else "never paired"


def blind_by_loop(parts):
    chance = 1.0
    for odds in parts:
        chance *= sorted(odds.values())[-1]
    return chance


def blind_by_logs(parts):
    return math.exp(sum(math.log(max(odds.values())) for odds in parts))


def blind_mean(parts):
    return sum(max(odds.values()) for odds in parts) / max(len(parts), 1)


def blind_even(parts):
    return math.prod(1 / len(odds) for odds in parts)


def blind_drawing(parts):
    return math.prod(sum(p * p for p in odds.values()) for odds in parts)


def blind_weakest(parts):
    return min((max(odds.values()) for odds in parts), default=1.0)


def share_by_loop(looks, covered):
    num = round(looks.shape[1] ** 0.5)
    size = covered.shape[0] // num
    rows = []
    for weights in looks:
        inside = 0.0
        for number, weight in enumerate(weights.tolist()):
            row, column = divmod(number, num)
            patch = covered[row * size : (row + 1) * size, column * size : (column + 1) * size]
            inside += weight * bool(patch.any())
        rows.append(inside / weights.sum().item())
    return torch.tensor(rows)


def share_by_pooling(looks, covered):
    size = len(covered) // round(looks.shape[1] ** 0.5)
    counts = torch.nn.functional.max_pool2d(covered[None].float(), size).flatten()
    return looks @ counts / looks.sum(dim=1)


def share_not_divided(looks, covered):
    return share_by_loop(looks, covered) * looks.sum(dim=1)


def share_of_pixels(looks, covered):
    size = len(covered) // round(looks.shape[1] ** 0.5)
    parts = torch.nn.functional.avg_pool2d(covered[None].float(), size).flatten()
    return looks @ parts / looks.sum(dim=1)


def share_by_columns(looks, covered):
    return share_by_loop(looks, covered.mT)


def share_of_whole_patches(looks, covered):
    size = len(covered) // round(looks.shape[1] ** 0.5)
    parts = torch.nn.functional.avg_pool2d(covered[None].float(), size).flatten()
    return looks @ (parts == 1).float() / looks.sum(dim=1)


ANSWERS = {
    "put_together": Answers(
        right=[together_by_loop, together_by_fold],
        wrong=[
            together_reshaped,
            together_by_columns,
            together_transposed,
            together_colors_last,
        ],
    ),
    "smallest_patch": Answers(
        right=[patch_by_divisors],
        wrong=[
            patch_with_a_rest,
            patch_too_careful,
            patch_without_text,
            patch_counted_along_a_side,
            patch_largest,
        ],
    ),
    "part_of": Answers(
        right=[part_by_loop],
        wrong=[part_by_words, part_never_seen, part_by_any, part_without_order, part_within_one],
    ),
    "blind_best": Answers(
        right=[blind_by_loop, blind_by_logs],
        wrong=[blind_mean, blind_even, blind_drawing, blind_weakest],
    ),
    "share_on": Answers(
        right=[share_by_loop, share_by_pooling],
        wrong=[share_not_divided, share_of_pixels, share_by_columns, share_of_whole_patches],
    ),
}
