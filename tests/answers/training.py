"""Answers to the exercises of chapter 9: right ones, and wrong ones that learners give."""

import torch

from tests.answers import Answers


def packed_by_loop(token_ids, end):
    targets = torch.full_like(token_ids, -100)
    for place in range(len(token_ids) - 1):
        if token_ids[place] != end:
            targets[place] = token_ids[place + 1]
    return targets


def packed_without_borders(token_ids, end):
    return torch.cat([token_ids[1:], torch.tensor([-100])])


def packed_unshifted(token_ids, end):
    targets = token_ids.clone()
    targets[-1] = -100
    return torch.where(token_ids == end, -100, targets)


def packed_rolled(token_ids, end):
    return torch.where(token_ids == end, -100, token_ids.roll(-1))


def packed_that_never_ends(token_ids, end):
    targets = torch.cat([token_ids[1:], torch.tensor([-100])])
    return torch.where(targets == end, -100, targets)


def packed_in_place(token_ids, end):
    token_ids[token_ids == end] = -100
    return torch.cat([token_ids[1:], torch.tensor([-100])])


def shares_by_tensor(num_targets):
    counts = torch.tensor(num_targets, dtype=torch.float64)
    if not counts.any():
        raise ValueError("nothing to learn")
    return (counts / counts.sum()).tolist()


def shares_alike(num_targets):
    if not any(num_targets):
        raise ValueError("nothing to learn")
    return [1 / len(num_targets)] * len(num_targets)


def shares_of_nothing(num_targets):
    total = sum(num_targets) or 1
    return [count / total for count in num_targets]


def shares_unnormalized(num_targets):
    if not any(num_targets):
        raise ValueError("nothing to learn")
    return [float(count) for count in num_targets]


def shares_by_largest(num_targets):
    if not any(num_targets):
        raise ValueError("nothing to learn")
    return [count / max(num_targets) for count in num_targets]


def trapezoid_by_cases(step, peak, num_steps, warmup, cooldown):
    rate = peak
    if step < warmup:
        rate = min(rate, peak * (step + 1) / warmup)
    if step >= num_steps - cooldown:
        rate = min(rate, peak * (num_steps - step) / cooldown)
    return rate


def trapezoid_from_zero(step, peak, num_steps, warmup, cooldown):
    if step < warmup:
        return peak * step / warmup
    if step >= num_steps - cooldown:
        return peak * (num_steps - step) / cooldown
    return peak


def trapezoid_to_zero(step, peak, num_steps, warmup, cooldown):
    rising = (step + 1) / warmup if warmup else 1.0
    falling = (num_steps - 1 - step) / cooldown if cooldown else 1.0
    return peak * min(1.0, rising, falling)


def trapezoid_without_end(step, peak, num_steps, warmup, cooldown):
    return peak * min(1.0, (step + 1) / warmup if warmup else 1.0)


def trapezoid_that_divides_by_zero(step, peak, num_steps, warmup, cooldown):
    return peak * min(1.0, (step + 1) / warmup, (num_steps - step) / cooldown)


def clip_by_concatenation(gradients, limit):
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [g * limit / norm if norm > limit else g.clone() for g in gradients]


def clip_always(gradients, limit):
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [gradient * limit / (norm + 1e-12) for gradient in gradients]


def clip_each(gradients, limit):
    return [g * min(1.0, limit / (g.norm().item() + 1e-12)) for g in gradients]


def clip_values(gradients, limit):
    return [gradient.clamp(-limit, limit) for gradient in gradients]


def clip_without_root(gradients, limit):
    norm = sum(gradient.square().sum().item() for gradient in gradients)
    return [g * min(1.0, limit / norm) if norm else g.clone() for g in gradients]


def clip_in_place(gradients, limit):
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for gradient in gradients:
        if norm > limit:
            gradient.mul_(limit / norm)
    return gradients


def adamw_by_torch(parameter, gradient, m, v, t, rate, decay):
    weight = torch.nn.Parameter(parameter.clone())
    weight.grad = gradient.clone()
    optimizer = torch.optim.AdamW([weight], lr=rate, betas=(0.9, 0.95), weight_decay=decay)
    state = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.state[weight] = state
    optimizer.step()
    return weight.detach(), state["exp_avg"], state["exp_avg_sq"]


def moments(gradient, m, v):
    return 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2


def adamw_with_eps_inside(parameter, gradient, m, v, t, rate, decay):
    m, v = moments(gradient, m, v)
    direction = m / (1 - 0.9**t) / (v / (1 - 0.95**t) + 1e-8).sqrt()
    return parameter - rate * (direction + decay * parameter), m, v


def adamw_uncorrected(parameter, gradient, m, v, t, rate, decay):
    m, v = moments(gradient, m, v)
    return parameter - rate * (m / (v.sqrt() + 1e-8) + decay * parameter), m, v


def adam_with_decay_in_the_gradient(parameter, gradient, m, v, t, rate, decay):
    m, v = moments(gradient + decay * parameter, m, v)
    direction = m / (1 - 0.9**t) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
    return parameter - rate * direction, m, v


def adamw_counting_from_zero(parameter, gradient, m, v, t, rate, decay):
    m, v = moments(gradient, m, v)
    t = t + 1
    direction = m / (1 - 0.9**t) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
    return parameter - rate * (direction + decay * parameter), m, v


def adamw_with_corrected_state(parameter, gradient, m, v, t, rate, decay):
    m, v = moments(gradient, m, v)
    m, v = m / (1 - 0.9**t), v / (1 - 0.95**t)
    return parameter - rate * (m / (v.sqrt() + 1e-8) + decay * parameter), m, v


ANSWERS = {
    "packed_targets": Answers(
        right=[packed_by_loop],
        wrong=[
            packed_without_borders,
            packed_unshifted,
            packed_rolled,
            packed_that_never_ends,
            packed_in_place,
        ],
    ),
    "shares": Answers(
        right=[shares_by_tensor],
        wrong=[shares_alike, shares_of_nothing, shares_unnormalized, shares_by_largest],
    ),
    "trapezoid": Answers(
        right=[trapezoid_by_cases],
        wrong=[
            trapezoid_from_zero,
            trapezoid_to_zero,
            trapezoid_without_end,
            trapezoid_that_divides_by_zero,
        ],
    ),
    "clip": Answers(
        right=[clip_by_concatenation],
        wrong=[clip_always, clip_each, clip_values, clip_without_root, clip_in_place],
    ),
    "adamw_step": Answers(
        right=[adamw_by_torch],
        wrong=[
            adamw_with_eps_inside,
            adamw_uncorrected,
            adam_with_decay_in_the_gradient,
            adamw_counting_from_zero,
            adamw_with_corrected_state,
        ],
    ),
}
