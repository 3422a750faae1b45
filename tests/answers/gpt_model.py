"""Right and wrong answers to the exercises of chapter 6."""

import torch

from tests.answers import Answers


def audit_by_filter(rows):
    odd = filter(lambda row: row[2] / row[3] != row[4], rows)
    return [row[0] for row in odd]


def audit_of_good_rows(rows):
    return [name for name, _, d_model, heads, head_dim in rows if heads * head_dim == d_model]


def audit_by_remainder(rows):
    return [name for name, _, d_model, heads, _ in rows if d_model % heads != 0]


def audit_by_floor(rows):
    return [name for name, _, d_model, heads, head_dim in rows if d_model // heads != head_dim]


def audit_of_layers(rows):
    return [name for name, layers, d_model, _, head_dim in rows if layers * head_dim != d_model]


def audit_of_whole_rows(rows):
    return [row for row in rows if row[3] * row[4] != row[2]]


def count(d_model, num_layers, vocab_size, context_length):
    total = vocab_size * d_model + context_length * d_model
    for _ in range(num_layers):
        total += d_model * 3 * d_model + 3 * d_model + d_model * d_model + d_model
        total += d_model * 4 * d_model + 4 * d_model + 4 * d_model * d_model + d_model
        total += 2 * (d_model + d_model)
    return total + 2 * d_model


def layers_by_trying(num_parameters, vocab_size, context_length, d_model):
    layers = 1
    while count(d_model, layers, vocab_size, context_length) < num_parameters:
        layers += 1
    if count(d_model, layers, vocab_size, context_length) != num_parameters:
        raise ValueError("no such model")
    return layers


def layers_by_the_rule(num_parameters, vocab_size, context_length, d_model):
    return (num_parameters - (vocab_size + context_length) * d_model) // (12 * d_model**2)


def layers_rounded(num_parameters, vocab_size, context_length, d_model):
    around = (vocab_size + context_length + 2) * d_model
    return round((num_parameters - around) / (12 * d_model**2 + 13 * d_model))


def layers_without_final_norm(num_parameters, vocab_size, context_length, d_model):
    around = (vocab_size + context_length) * d_model
    layers, rest = divmod(num_parameters - around, 12 * d_model**2 + 13 * d_model)
    if rest:
        raise ValueError(rest)
    return layers


def layers_from_none(num_parameters, vocab_size, context_length, d_model):
    around = (vocab_size + context_length + 2) * d_model
    layers, rest = divmod(num_parameters - around, 12 * d_model**2 + 13 * d_model)
    if rest:
        raise ValueError(rest)
    return layers  # no blocks at all pass


def layers_untied(num_parameters, vocab_size, context_length, d_model):
    around = (2 * vocab_size + context_length + 2) * d_model
    return (num_parameters - around) // (12 * d_model**2 + 13 * d_model)


def layers_as_a_fraction(num_parameters, vocab_size, context_length, d_model):
    around = (vocab_size + context_length + 2) * d_model
    layers = (num_parameters - around) / (12 * d_model**2 + 13 * d_model)
    if layers != int(layers) or layers < 1:
        raise ValueError(layers)
    return layers


def widest_from_above(budget, num_layers, vocab_size, context_length):
    widths = range(64 * 40, 0, -64)
    return next(
        (d for d in widths if count(d, num_layers, vocab_size, context_length) <= budget), 0
    )


def widest_by_the_rule(budget, num_layers, vocab_size, context_length):
    return int((budget / (12 * num_layers)) ** 0.5) // 64 * 64


def widest_below(budget, num_layers, vocab_size, context_length):
    d_model = 0
    while count(d_model + 64, num_layers, vocab_size, context_length) < budget:
        d_model += 64
    return d_model


def widest_one_too_far(budget, num_layers, vocab_size, context_length):
    d_model = 0
    while count(d_model, num_layers, vocab_size, context_length) <= budget:
        d_model += 64
    return d_model


def widest_any(budget, num_layers, vocab_size, context_length):
    d_model = 0
    while count(d_model + 1, num_layers, vocab_size, context_length) <= budget:
        d_model += 1
    return d_model


def widest_at_least_64(budget, num_layers, vocab_size, context_length):
    return max(64, widest_from_above(budget, num_layers, vocab_size, context_length))


def fold_by_diagonal(weight, bias, head):
    return head @ torch.diag(weight), (head * bias).sum(dim=1)


def fold_divided(weight, bias, head):
    return head / weight, head @ bias


def fold_bias_scaled(weight, bias, head):
    return head * weight, (head * weight) @ bias


def fold_bias_as_it_is(weight, bias, head):
    return head * weight, bias


def fold_transposed(weight, bias, head):
    return (head * weight).T, head @ bias


def fold_without_weight(weight, bias, head):
    return head.clone(), head @ bias


def fold_matrix_alone(weight, bias, head):
    return head * weight


def looks_ahead_by_gradient_of_cuts(model, vocab_size, num_tokens):
    torch.manual_seed(1)
    for _ in range(20):
        text = torch.randint(vocab_size, (1, num_tokens))
        whole = model(text)
        for length in range(1, num_tokens):
            other = text.clone()
            other[:, length:] = (other[:, length:] + 1) % vocab_size
            if (whole[:, :length] - model(other)[:, :length]).abs().max() > 1e-5:
                return True
    return False


def looks_only_at_the_last_token(model, vocab_size, num_tokens):
    text = torch.arange(num_tokens)[None] % vocab_size
    other = text.clone()
    other[0, -1] = (other[0, -1] + 1) % vocab_size
    return not torch.allclose(model(text)[:, :-1], model(other)[:, :-1], atol=1e-6)


def looks_only_at_the_first_place(model, vocab_size, num_tokens):
    text = torch.arange(num_tokens)[None] % vocab_size
    other = text.clone()
    other[0, 1:] = (other[0, 1:] + 1) % vocab_size
    return not torch.allclose(model(text)[:, 0], model(other)[:, 0], atol=1e-6)


def looks_at_the_changed_place_too(model, vocab_size, num_tokens):
    text = torch.arange(num_tokens)[None] % vocab_size
    for place in range(1, num_tokens):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % vocab_size
        if not torch.allclose(model(text)[:, : place + 1], model(other)[:, : place + 1]):
            return True
    return False


def looks_far_ahead_only(model, vocab_size, num_tokens):
    text = torch.arange(num_tokens)[None] % vocab_size
    for place in range(2, num_tokens):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % vocab_size
        if not torch.allclose(model(text)[:, : place - 1], model(other)[:, : place - 1], atol=1e-6):
            return True
    return False


def looks_at_the_largest_logit(model, vocab_size, num_tokens):
    text = torch.arange(num_tokens)[None] % vocab_size
    for place in range(1, num_tokens):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % vocab_size
        before, after = model(text)[:, :place], model(other)[:, :place]
        if not torch.equal(before.argmax(-1), after.argmax(-1)):
            return True
    return False


def looks_with_one_text_of_odd_tokens(model, vocab_size, num_tokens):
    text = torch.ones(1, num_tokens, dtype=torch.long)
    for place in range(1, num_tokens):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % vocab_size
        if not torch.allclose(model(text)[:, :place], model(other)[:, :place], atol=1e-6):
            return True
    return False


ANSWERS = {
    "audit": Answers(
        right=[audit_by_filter],
        wrong=[
            audit_of_good_rows,
            audit_by_remainder,
            audit_by_floor,
            audit_of_layers,
            audit_of_whole_rows,
        ],
    ),
    "num_layers": Answers(
        right=[layers_by_trying],
        wrong=[
            layers_by_the_rule,
            layers_rounded,
            layers_without_final_norm,
            layers_from_none,
            layers_untied,
            layers_as_a_fraction,
        ],
    ),
    "widest": Answers(
        right=[widest_from_above],
        wrong=[
            widest_by_the_rule,
            widest_below,
            widest_one_too_far,
            widest_any,
            widest_at_least_64,
        ],
    ),
    "fold": Answers(
        right=[fold_by_diagonal],
        wrong=[
            fold_divided,
            fold_bias_scaled,
            fold_bias_as_it_is,
            fold_transposed,
            fold_without_weight,
            fold_matrix_alone,
        ],
    ),
    "looks_ahead": Answers(
        right=[looks_ahead_by_gradient_of_cuts],
        wrong=[
            looks_only_at_the_last_token,
            looks_only_at_the_first_place,
            looks_at_the_changed_place_too,
            looks_far_ahead_only,
            looks_at_the_largest_logit,
            looks_with_one_text_of_odd_tokens,
        ],
    ),
}
