"""Right and wrong answers to the exercises of chapter 12."""

import math

import torch

from tests.answers import Answers


def choices_by_loop(logits, temperature):
    weights = [math.exp(x) for x in ((logits - logits.max()) / temperature).tolist()]
    shares = [weight / sum(weights) for weight in weights]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def choices_by_torch(logits, temperature):
    return torch.distributions.Categorical(logits=logits / temperature).perplexity().item()


def choices_in_nats(logits, temperature):
    return math.log(choices_by_loop(logits, temperature))


def choices_in_bits(logits, temperature):
    return math.log2(choices_by_loop(logits, temperature))


def choices_multiplied(logits, temperature):
    return choices_by_loop(logits, 1 / temperature)


def choices_nan(logits, temperature):
    p = (logits / temperature).softmax(-1)
    return (-(p * p.log()).sum()).exp().item()


def choices_unsafe(logits, temperature):
    p = (logits / temperature).exp()
    p = p / p.sum()
    return (-(p * (p + 1e-9).log()).sum()).exp().item()


def choices_without_temperature(logits, temperature):
    return choices_by_loop(logits, 1.0)


def nucleus_by_loop(logits, p):
    total = 0.0
    for number, share in enumerate(sorted(logits.softmax(0).tolist(), reverse=True), start=1):
        total += share
        if total >= p - 1e-6:
            return number
    return len(logits)


def nucleus_one_short(logits, p):
    return int((logits.softmax(0).sort(descending=True).values.cumsum(0) <= p).sum())


def nucleus_at_least_one(logits, p):
    return max(1, nucleus_one_short(logits, p))


def nucleus_unsorted(logits, p):
    return int((logits.softmax(0).cumsum(0) < p).sum()) + 1


def nucleus_ascending(logits, p):
    return min(int((logits.softmax(0).sort().values.cumsum(0) < p).sum()) + 1, len(logits))


def nucleus_of_logits(logits, p):
    return int((logits.sort(descending=True).values.cumsum(0) < p).sum()) + 1


def nucleus_by_threshold(logits, p):
    return int((logits.softmax(0) >= 1 - p).sum())


def gumbel_by_race(logits, uniforms):
    return int((-uniforms.log() / logits.exp()).argmin())


def gumbel_by_loop(logits, uniforms):
    scores = [
        x - math.log(-math.log(u)) for x, u in zip(logits.tolist(), uniforms.tolist(), strict=True)
    ]
    return scores.index(max(scores))


def gumbel_minus(logits, uniforms):
    return int((logits + (-uniforms.log()).log()).argmax())


def gumbel_greedy(logits, uniforms):
    return int(logits.argmax())


def gumbel_on_probabilities(logits, uniforms):
    return int((logits.softmax(0) - (-uniforms.log()).log()).argmax())


def gumbel_one_logarithm(logits, uniforms):
    return int((logits - uniforms.log()).argmax())


def gumbel_by_line(logits, uniforms):
    return int(torch.searchsorted(logits.softmax(0).cumsum(0), uniforms[0]))


def typical_by_loop(logits, p):
    log_probs = logits.double().log_softmax(0)
    entropy = -(log_probs.exp() * log_probs).sum()
    kept, total = [], 0.0
    for token_id in sorted(range(len(logits)), key=lambda i: abs(-log_probs[i] - entropy).item()):
        kept.append(token_id)
        total += log_probs[token_id].exp().item()
        if total >= p:
            break
    return torch.tensor([x if i in kept else -math.inf for i, x in enumerate(logits.tolist())])


def typical_top_p(logits, p):
    order = logits.argsort(descending=True)
    size = int((logits.softmax(0)[order].cumsum(0) < p).sum()) + 1
    kept = torch.full_like(logits, -math.inf)
    kept[order[:size]] = logits[order[:size]]
    return kept


def typical_one_short(logits, p):
    full = typical_by_loop(logits, p)
    log_probs = logits.log_softmax(0)
    entropy = -(log_probs.exp() * log_probs).sum()
    distance = (-log_probs - entropy).abs().masked_fill(full == -math.inf, -1.0)
    full[distance.argmax()] = -math.inf
    return full


def typical_as_log_probs(logits, p):
    return typical_by_loop(logits, p) - logits.logsumexp(0)


def typical_signed(logits, p):
    log_probs = logits.log_softmax(0)
    entropy = -(log_probs.exp() * log_probs).sum()
    order = (-log_probs - entropy).argsort()
    size = int((log_probs.exp()[order].cumsum(0) < p).sum()) + 1
    kept = torch.full_like(logits, -math.inf)
    kept[order[:size]] = logits[order[:size]]
    return kept


def typical_farthest(logits, p):
    log_probs = logits.log_softmax(0)
    entropy = -(log_probs.exp() * log_probs).sum()
    order = (-log_probs - entropy).abs().argsort(descending=True)
    size = int((log_probs.exp()[order].cumsum(0) < p).sum()) + 1
    kept = torch.full_like(logits, -math.inf)
    kept[order[:size]] = logits[order[:size]]
    return kept


def draw(weights, chance):
    total, target = 0.0, chance * float(sum(weights))
    for token_id, weight in enumerate(weights):
        total += float(weight)
        if total > target:
            return token_id
    return len(weights) - 1


def step_by_ratio(wanted, guessed_from, guess, chance, other_chance):
    ratio = min(1.0, (wanted[guess] / guessed_from[guess]).item())
    if chance < ratio:
        return guess
    rest = torch.relu(wanted - guessed_from)
    return draw((rest / rest.sum()).tolist(), other_chance)


def step_from_wanted(wanted, guessed_from, guess, chance, other_chance):
    if chance * guessed_from[guess] < wanted[guess]:
        return guess
    return draw(wanted.tolist(), other_chance)


def step_by_wanted_alone(wanted, guessed_from, guess, chance, other_chance):
    if chance < wanted[guess]:
        return guess
    return draw(torch.relu(wanted - guessed_from).tolist(), other_chance)


def step_always(wanted, guessed_from, guess, chance, other_chance):
    return guess


def step_only_if_better(wanted, guessed_from, guess, chance, other_chance):
    if wanted[guess] >= guessed_from[guess]:
        return guess
    return draw(torch.relu(wanted - guessed_from).tolist(), other_chance)


def step_wrong_way(wanted, guessed_from, guess, chance, other_chance):
    if chance * guessed_from[guess] < wanted[guess]:
        return guess
    return draw(torch.relu(guessed_from - wanted).tolist(), other_chance)


def step_not_scaled(wanted, guessed_from, guess, chance, other_chance):
    if chance * guessed_from[guess] < wanted[guess]:
        return guess
    line = torch.relu(wanted - guessed_from).cumsum(0)
    return min(int((line <= other_chance).sum()), len(wanted) - 1)


def speedup_closed(acceptance, num_draft, cost):
    if acceptance == 1:
        return (num_draft + 1) / (num_draft * cost + 1)
    tokens = (1 - acceptance ** (num_draft + 1)) / (1 - acceptance)
    return tokens / (num_draft * cost + 1)


def speedup_divides_by_zero(acceptance, num_draft, cost):
    return (1 - acceptance ** (num_draft + 1)) / (1 - acceptance) / (num_draft * cost + 1)


def speedup_without_own_token(acceptance, num_draft, cost):
    return sum(acceptance**i for i in range(1, num_draft + 1)) / (num_draft * cost + 1)


def speedup_independent(acceptance, num_draft, cost):
    return (1 + acceptance * num_draft) / (num_draft * cost + 1)


def speedup_tokens_only(acceptance, num_draft, cost):
    return sum(acceptance**i for i in range(num_draft + 1))


def speedup_forgets_large_pass(acceptance, num_draft, cost):
    return sum(acceptance**i for i in range(num_draft + 1)) / max(num_draft * cost, 1e-9)


ANSWERS = {
    "effective_choices": Answers(
        right=[choices_by_loop, choices_by_torch],
        wrong=[
            choices_in_nats,
            choices_in_bits,
            choices_multiplied,
            choices_nan,
            choices_unsafe,
            choices_without_temperature,
        ],
    ),
    "nucleus_size": Answers(
        right=[nucleus_by_loop],
        wrong=[
            nucleus_one_short,
            nucleus_at_least_one,
            nucleus_unsorted,
            nucleus_ascending,
            nucleus_of_logits,
            nucleus_by_threshold,
        ],
    ),
    "gumbel_choice": Answers(
        right=[gumbel_by_race, gumbel_by_loop],
        wrong=[
            gumbel_minus,
            gumbel_greedy,
            gumbel_on_probabilities,
            gumbel_one_logarithm,
            gumbel_by_line,
        ],
    ),
    "typical": Answers(
        right=[typical_by_loop],
        wrong=[
            typical_top_p,
            typical_one_short,
            typical_as_log_probs,
            typical_signed,
            typical_farthest,
        ],
    ),
    "speculative_step": Answers(
        right=[step_by_ratio],
        wrong=[
            step_from_wanted,
            step_by_wanted_alone,
            step_always,
            step_only_if_better,
            step_wrong_way,
            step_not_scaled,
        ],
    ),
    "speedup": Answers(
        right=[speedup_closed],
        wrong=[
            speedup_divides_by_zero,
            speedup_without_own_token,
            speedup_independent,
            speedup_tokens_only,
            speedup_forgets_large_pass,
        ],
    ),
}
