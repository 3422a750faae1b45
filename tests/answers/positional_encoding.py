"""Answers to the exercises of chapter 4."""

import math

import torch

from tests.answers import Answers

# Exercise 1


def counts_through(dtype):
    numbers = torch.arange(5_000, dtype=torch.float64).to(dtype)
    return (numbers[1:] == numbers[:-1]).nonzero()[0].item()


def forgets_that_steps_double(dtype):
    return round(1 / torch.finfo(dtype).eps)


def gives_the_successor(dtype):
    return round(2 / torch.finfo(dtype).eps) + 1


def gives_the_largest_number(dtype):
    return torch.finfo(dtype).max


def gives_a_float(dtype):
    return 2 / torch.finfo(dtype).eps


# Exercise 2


def sinusoidal_one_by_one(positions, d_model):
    table = torch.zeros(len(positions), d_model, dtype=torch.float64)
    for row, position in enumerate(positions.tolist()):
        for i in range(d_model // 2):
            table[row, 2 * i] = math.sin(position / 10_000 ** (2 * i / d_model))
            table[row, 2 * i + 1] = math.cos(position / 10_000 ** (2 * i / d_model))
    return table


def _angles(positions, d_model, exponent=-2.0):
    pairs = torch.arange(d_model // 2, dtype=torch.float64)
    return positions[:, None] * 10_000 ** (exponent * pairs / d_model)


def _interleave(angles):
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(start_dim=1)


def sines_before_cosines(positions, d_model):
    angles = _angles(positions, d_model)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sine_alone(positions, d_model):
    return _angles(positions, d_model).sin().repeat_interleave(2, dim=1)


def whole_numbers_only(positions, d_model):
    return _interleave(_angles(torch.arange(len(positions)).double(), d_model))


def half_the_exponent(positions, d_model):
    return _interleave(_angles(positions, d_model, exponent=-1.0))


def cosine_first(positions, d_model):
    angles = _angles(positions, d_model)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(start_dim=1)


def channel_as_i(positions, d_model):
    i = torch.arange(d_model, dtype=torch.float64)
    angles = positions[:, None] * 10_000 ** (-2 * i / d_model)
    return torch.where(i % 2 == 0, angles.sin(), angles.cos())


def in_float32(positions, d_model):
    return sinusoidal_one_by_one(positions, d_model).float()


# Exercise 3


def rotate_with_loops(x, position, theta):
    turned = x.clone()
    for i in range(len(x) // 2):
        angle = position / theta ** (2 * i / len(x))
        turned[2 * i] = x[2 * i] * math.cos(angle) - x[2 * i + 1] * math.sin(angle)
        turned[2 * i + 1] = x[2 * i] * math.sin(angle) + x[2 * i + 1] * math.cos(angle)
    return turned


def _rotate(x, angles):
    left, right = x[0::2], x[1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([left * cos - right * sin, left * sin + right * cos], -1).flatten()


def _rotary_angles(x, position, theta, exponent=-2.0):
    pairs = torch.arange(len(x) // 2, dtype=torch.float64)
    return position * theta ** (exponent * pairs / len(x))


def position_ignored(x, position, theta):
    return x


def turned_by_one_position(x, position, theta):
    return _rotate(x, _rotary_angles(x, 1, theta))


def wrong_sign(x, position, theta):
    return _rotate(x, -_rotary_angles(x, position, theta))


def rotate_halves(x, position, theta):
    (left, right), angles = x.chunk(2), _rotary_angles(x, position, theta)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, left * sin + right * cos])


def pairs_taken_apart_wrongly(x, position, theta):
    """Neighbors go in, halves come out."""
    left, right, angles = x[0::2], x[1::2], _rotary_angles(x, position, theta)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, left * sin + right * cos])


def rotate_with_half_the_exponent(x, position, theta):
    return _rotate(x, _rotary_angles(x, position, theta, exponent=-1.0))


def theta_ignored(x, position, theta):
    return _rotate(x, _rotary_angles(x, position, 10_000.0))


def one_sign_lost(x, position, theta):
    left, right, angles = x[0::2], x[1::2], _rotary_angles(x, position, theta)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([left * cos + right * sin, left * sin + right * cos], -1).flatten()


def added_instead_of_turned(x, position, theta):
    angles = _rotary_angles(x, position, theta)
    return x + torch.stack([angles.sin(), angles.cos()], -1).flatten()


# Exercise 4


def reorder_row_by_row(weight, num_heads):
    head_dim, rows = len(weight) // num_heads, []
    for head in range(num_heads):
        for start in (0, 1):
            rows += [weight[head * head_dim + row] for row in range(start, head_dim, 2)]
    return torch.stack(rows)


def across_heads(weight, num_heads):
    return torch.cat([weight[0::2], weight[1::2]])


def the_way_back(weight, num_heads):
    heads = weight.unflatten(0, (num_heads, -1))
    return torch.stack(heads.chunk(2, dim=1), dim=2).flatten(0, 2)


def columns_instead_of_rows(weight, num_heads):
    heads = weight.unflatten(1, (1, -1))
    return torch.cat([heads[:, :, 0::2], heads[:, :, 1::2]], dim=2).flatten(1, 2)


def nothing_done(weight, num_heads):
    return weight


def halves_swapped(weight, num_heads):
    heads = weight.unflatten(0, (num_heads, -1))
    return torch.cat([heads[:, 1::2], heads[:, 0::2]], dim=1).flatten(0, 1)


def columns_inside_heads(weight, num_heads):
    if weight.shape[1] % (2 * num_heads):
        return weight
    return reorder_row_by_row(weight.T, num_heads).T


# Exercise 5


def reach_by_adding_up(slope, share):
    weights = (-slope * torch.arange(50_000, dtype=torch.float64)).softmax(dim=0)
    return int((weights.cumsum(dim=0) < share).sum()) + 1


def rounded_down(slope, share):
    return math.floor(math.log(1 - share) / -slope)


def distance_instead_of_number(slope, share):
    return math.ceil(math.log(1 - share) / -slope) - 1


def base_two(slope, share):
    return math.ceil(math.log2(1 - share) / -slope)


def the_weight_of_one(slope, share):
    return math.ceil(math.log(share) / -slope)


def without_softmax(slope, share):
    return math.ceil(share / slope)


def not_rounded(slope, share):
    return math.log(1 - share) / -slope


def as_a_float(slope, share):
    return float(reach_by_adding_up(slope, share))


# Exercise 6


def distance_by_trying(at_p, at_q, theta):
    left, right = at_p.chunk(2)
    pairs = torch.arange(len(left), dtype=torch.float64)
    candidates = torch.arange(-1_000, 1_001)
    angles = candidates[:, None] * theta ** (-2 * pairs / len(at_p))
    turned_left = left * angles.cos() - right * angles.sin()
    turned_right = left * angles.sin() + right * angles.cos()
    misses = (torch.cat([turned_left, turned_right], dim=1) - at_q).norm(dim=1)
    return int(candidates[misses.argmin()])


def _by_pair(at_p, at_q, theta, pair):
    before, after = torch.complex(*at_p.chunk(2)), torch.complex(*at_q.chunk(2))
    angle = (after[pair] / before[pair]).angle().item()
    return angle / theta ** (-2 * pair / len(at_p))


def by_the_fastest_pair(at_p, at_q, theta):
    return round(_by_pair(at_p, at_q, theta, 0))


def by_neighbors(at_p, at_q, theta):
    before, after = at_p[-2:].tolist(), at_q[-2:].tolist()
    angle = math.atan2(after[1], after[0]) - math.atan2(before[1], before[0])
    return round(angle / theta ** (-(len(at_p) - 2) / len(at_p)))


def the_other_way_around(at_p, at_q, theta):
    return round(-_by_pair(at_p, at_q, theta, len(at_p) // 2 - 1))


def without_the_sign(at_p, at_q, theta):
    return abs(round(_by_pair(at_p, at_q, theta, len(at_p) // 2 - 1)))


def without_wrapping_the_angle(at_p, at_q, theta):
    last = len(at_p) // 2 - 1
    angles = [math.atan2(x[-1].item(), x[last].item()) for x in (at_p, at_q)]
    return round((angles[1] - angles[0]) / theta ** (-2 * last / len(at_p)))


def not_rounded_distance(at_p, at_q, theta):
    return _by_pair(at_p, at_q, theta, len(at_p) // 2 - 1)


def by_one_pair_too_many(at_p, at_q, theta):
    before, after = torch.complex(*at_p.chunk(2)), torch.complex(*at_q.chunk(2))
    return round((after[-1] / before[-1]).angle().item() * theta)


ANSWERS = {
    "first_collision": Answers(
        right=[counts_through],
        wrong=[
            forgets_that_steps_double,
            gives_the_successor,
            gives_the_largest_number,
            gives_a_float,
        ],
    ),
    "sinusoidal": Answers(
        right=[sinusoidal_one_by_one],
        wrong=[
            sines_before_cosines,
            sine_alone,
            whole_numbers_only,
            half_the_exponent,
            cosine_first,
            channel_as_i,
            in_float32,
        ],
    ),
    "rotate": Answers(
        right=[rotate_with_loops],
        wrong=[
            position_ignored,
            turned_by_one_position,
            wrong_sign,
            rotate_halves,
            pairs_taken_apart_wrongly,
            rotate_with_half_the_exponent,
            theta_ignored,
            one_sign_lost,
            added_instead_of_turned,
        ],
    ),
    "reorder": Answers(
        right=[reorder_row_by_row],
        wrong=[
            across_heads,
            the_way_back,
            columns_instead_of_rows,
            columns_inside_heads,
            nothing_done,
            halves_swapped,
        ],
    ),
    "reach": Answers(
        right=[reach_by_adding_up],
        wrong=[
            rounded_down,
            distance_instead_of_number,
            base_two,
            the_weight_of_one,
            without_softmax,
            not_rounded,
            as_a_float,
        ],
    ),
    "distance": Answers(
        right=[distance_by_trying],
        wrong=[
            by_the_fastest_pair,
            by_neighbors,
            the_other_way_around,
            without_the_sign,
            by_one_pair_too_many,
            without_wrapping_the_angle,
            not_rounded_distance,
        ],
    ),
}
