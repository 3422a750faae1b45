"""Right and wrong answers to the exercises of chapter 3."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.answers import Answers


def split_by_slices(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def split_by_permute(x, num_heads):
    batch_size, num_tokens, d_model = x.shape
    return x.view(batch_size, num_tokens, num_heads, d_model // num_heads).permute(0, 2, 1, 3)


def split_by_view_alone(x, num_heads):
    batch_size, num_tokens, d_model = x.shape
    return x.reshape(batch_size, num_heads, num_tokens, d_model // num_heads)


def split_without_swap(x, num_heads):
    return x.unflatten(-1, (num_heads, -1))


def split_every_hth(x, num_heads):
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


def split_wrong_axes_swapped(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).permute(0, 2, 3, 1)


def share_by_index(x, num_heads):
    group_size = num_heads // x.shape[1]
    return x[:, [head // group_size for head in range(num_heads)]]


def share_by_expand(x, num_heads):
    batch_size, num_kv_heads, num_keys, head_dim = x.shape
    copies = x[:, :, None].expand(-1, -1, num_heads // num_kv_heads, -1, -1)
    return copies.reshape(batch_size, num_heads, num_keys, head_dim)


def share_by_repeat(x, num_heads):
    return x.repeat(1, num_heads // x.shape[1], 1, 1)


def share_num_heads_times(x, num_heads):
    return x.repeat_interleave(num_heads, dim=1)


def share_first_only(x, num_heads):
    return x[:, :1].expand(-1, num_heads, -1, -1)


def share_over_tokens(x, num_heads):
    return x.repeat_interleave(num_heads // x.shape[1], dim=2).reshape(
        x.shape[0], num_heads, x.shape[2], x.shape[3]
    )


def _by_loop(x, w_query, w_key, w_value, w_output, num_heads, *, scale=None, causal=True):
    head_dim = x.shape[-1] // num_heads
    heads = []
    for part in torch.arange(x.shape[-1]).split(head_dim):
        query, key, value = x @ w_query[:, part], x @ w_key[:, part], x @ w_value[:, part]
        scores = query @ key.mT / (scale or math.sqrt(head_dim))
        if causal:
            future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            scores = scores.masked_fill(future, -math.inf)
        heads.append(scores.softmax(-1) @ value)
    return torch.cat(heads, dim=-1) @ w_output


def multi_head_by_loop(*arguments):
    return _by_loop(*arguments)


def multi_head_by_torch(x, w_query, w_key, w_value, w_output, num_heads):
    layer = nn.MultiheadAttention(x.shape[-1], num_heads, bias=False, batch_first=True)
    layer.in_proj_weight.data = torch.cat([w_query.T, w_key.T, w_value.T])
    layer.out_proj.weight.data = w_output.T.contiguous()
    mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    return layer(x, x, x, attn_mask=mask)[0].detach()


def multi_head_scaled_by_the_whole_width(*arguments):
    return _by_loop(*arguments, scale=math.sqrt(arguments[0].shape[-1]))


def multi_head_that_sees_the_future(*arguments):
    return _by_loop(*arguments, causal=False)


def multi_head_with_one_softmax(x, w_query, w_key, w_value, w_output, num_heads):
    return _by_loop(x, w_query, w_key, w_value, w_output, 1)


def multi_head_without_output_matrix(x, w_query, w_key, w_value, w_output, num_heads):
    return _by_loop(x, w_query, w_key, w_value, torch.eye(x.shape[-1]), num_heads)


def multi_head_with_transposed_output(x, w_query, w_key, w_value, w_output, num_heads):
    return _by_loop(x, w_query, w_key, w_value, w_output.T, num_heads)


def multi_head_with_transposed_matrices(x, w_query, w_key, w_value, w_output, num_heads):
    return _by_loop(x, w_query.T, w_key.T, w_value.T, w_output.T, num_heads)


def multi_head_unscaled(*arguments):
    return _by_loop(*arguments, scale=1.0)


def multi_head_merged_by_reshape(x, w_query, w_key, w_value, w_output, num_heads):
    def split(y):
        return y.unflatten(-1, (num_heads, -1)).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        split(x @ w_query), split(x @ w_key), split(x @ w_value), is_causal=True
    )
    return mixed.reshape(x.shape) @ w_output


def texts_by_counting(free, num_layers, d_model, num_heads, num_kv_heads, context_length, width):
    one_layer = 2 * num_kv_heads * (d_model / num_heads) * context_length * width
    return math.floor(free / sum(one_layer for _ in range(num_layers)))


def texts_of_keys_alone(free, num_layers, d_model, num_heads, num_kv_heads, context_length, width):
    return free // (num_layers * num_kv_heads * (d_model // num_heads) * context_length * width)


def texts_without_sharing(
    free, num_layers, d_model, num_heads, num_kv_heads, context_length, width
):
    return free // (2 * num_layers * d_model * context_length * width)


def texts_with_wide_heads(
    free, num_layers, d_model, num_heads, num_kv_heads, context_length, width
):
    wide = d_model // num_kv_heads
    return free // (2 * num_layers * num_kv_heads * wide * context_length * width)


def texts_of_one_layer(free, num_layers, d_model, num_heads, num_kv_heads, context_length, width):
    return free // (2 * num_kv_heads * (d_model // num_heads) * context_length * width)


def texts_in_parts(free, num_layers, d_model, num_heads, num_kv_heads, context_length, width):
    one_text = 2 * num_layers * num_kv_heads * (d_model // num_heads) * context_length * width
    return free / one_text


def texts_rounded_up(*arguments):
    return math.ceil(texts_in_parts(*arguments))


def mask_by_comparison(num_queries, num_keys, window=None):
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    key = torch.arange(num_keys)[None, :]
    near = torch.ones_like(query == key) if window is None else query - key < window
    return (key <= query) & near


def mask_by_loops(num_queries, num_keys, window=None):
    mask = torch.zeros(num_queries, num_keys, dtype=torch.bool)
    for row in range(num_queries):
        position = num_keys - num_queries + row
        first = 0 if window is None else max(0, position - window + 1)
        mask[row, first : position + 1] = True
    return mask


def mask_without_offset(num_queries, num_keys, window=None):
    mask = torch.ones(num_queries, num_keys).tril()
    return (mask if window is None else mask.triu(1 - window)).bool()


def mask_window_one_too_wide(num_queries, num_keys, window=None):
    return mask_by_comparison(num_queries, num_keys, None if window is None else window + 1)


def mask_that_ignores_the_window(num_queries, num_keys, window=None):
    return mask_by_comparison(num_queries, num_keys)


def mask_that_hides(num_queries, num_keys, window=None):
    return ~mask_by_comparison(num_queries, num_keys, window)


def mask_of_floats(num_queries, num_keys, window=None):
    return mask_by_comparison(num_queries, num_keys, window).float()


def mask_window_on_both_sides(num_queries, num_keys, window=None):
    if window is None:
        return mask_by_comparison(num_queries, num_keys)
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    return (query - torch.arange(num_keys)).abs() < window


def step_by_kernel(query, key, value, past_keys, past_values):
    keys, values = torch.cat([past_keys, key], 1), torch.cat([past_values, value], 1)
    return F.scaled_dot_product_attention(query, keys, values), keys, values


def step_head_by_head(query, key, value, past_keys, past_values):
    mixed, keys, values = [], [], []
    for head in range(len(query)):
        keys.append(torch.cat([past_keys[head], key[head]]))
        values.append(torch.cat([past_values[head], value[head]]))
        scores = keys[-1] @ query[head, 0] / query.shape[-1] ** 0.5
        mixed.append((scores.softmax(0) @ values[-1])[None])
    return torch.stack(mixed), torch.stack(keys), torch.stack(values)


def step_blind_to_itself(query, key, value, past_keys, past_values):
    mixed = F.scaled_dot_product_attention(query, past_keys, past_values)
    _, keys, values = step_by_kernel(query, key, value, past_keys, past_values)
    return mixed, keys, values


def step_that_sees_only_the_first_key(query, key, value, past_keys, past_values):
    keys, values = torch.cat([past_keys, key], 1), torch.cat([past_values, value], 1)
    return F.scaled_dot_product_attention(query, keys, values, is_causal=True), keys, values


def step_that_puts_the_new_token_first(query, key, value, past_keys, past_values):
    keys, values = torch.cat([key, past_keys], 1), torch.cat([value, past_values], 1)
    return F.scaled_dot_product_attention(query, keys, values), keys, values


def step_that_forgets_to_remember(query, key, value, past_keys, past_values):
    return step_by_kernel(query, key, value, past_keys, past_values)[0], past_keys, past_values


def step_unscaled(query, key, value, past_keys, past_values):
    keys, values = torch.cat([past_keys, key], 1), torch.cat([past_values, value], 1)
    return F.scaled_dot_product_attention(query, keys, values, scale=1.0), keys, values


def step_of_the_mixture_alone(*arguments):
    return step_by_kernel(*arguments)[0]


def step_with_keys_and_values_exchanged(query, key, value, past_keys, past_values):
    mixed, keys, values = step_by_kernel(query, key, value, past_keys, past_values)
    return mixed, values, keys


ANSWERS = {
    "split_heads": Answers(
        right=[split_by_slices, split_by_permute],
        wrong=[split_by_view_alone, split_without_swap, split_every_hth, split_wrong_axes_swapped],
    ),
    "share_heads": Answers(
        right=[share_by_index, share_by_expand],
        wrong=[share_by_repeat, share_num_heads_times, share_first_only, share_over_tokens],
    ),
    "multi_head": Answers(
        right=[multi_head_by_loop, multi_head_by_torch],
        wrong=[
            multi_head_scaled_by_the_whole_width,
            multi_head_that_sees_the_future,
            multi_head_with_one_softmax,
            multi_head_without_output_matrix,
            multi_head_with_transposed_output,
            multi_head_with_transposed_matrices,
            multi_head_unscaled,
            multi_head_merged_by_reshape,
        ],
    ),
    "num_texts": Answers(
        right=[texts_by_counting],
        wrong=[
            texts_of_keys_alone,
            texts_without_sharing,
            texts_with_wide_heads,
            texts_of_one_layer,
            texts_in_parts,
            texts_rounded_up,
        ],
    ),
    "chunk_mask": Answers(
        right=[mask_by_comparison, mask_by_loops],
        wrong=[
            mask_without_offset,
            mask_window_one_too_wide,
            mask_that_ignores_the_window,
            mask_that_hides,
            mask_of_floats,
            mask_window_on_both_sides,
        ],
    ),
    "cached_step": Answers(
        right=[step_by_kernel, step_head_by_head],
        wrong=[
            step_blind_to_itself,
            step_that_sees_only_the_first_key,
            step_that_puts_the_new_token_first,
            step_that_forgets_to_remember,
            step_unscaled,
            step_with_keys_and_values_exchanged,
            step_of_the_mixture_alone,
        ],
    ),
}
