"""The same model twice: ours, and the one of `transformers` with the same weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config as TheirGPT2Config,
)
from transformers import (
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from gptbook.layers import usual_gated_d_ff
from gptbook.model import GPT, GPT2Config, ModernConfig

_GPT2 = {
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


@dataclass(frozen=True)
class Shape:
    """The sizes of a model: layers x width x vocabulary x context."""

    num_layers: int
    d_model: int
    vocab_size: int
    context_length: int
    num_heads: int

    def __str__(self) -> str:
        sizes = (self.num_layers, self.d_model, self.vocab_size, self.context_length)
        return " x ".join(f"{size:,}" for size in sizes)


def gpt2_pair(shape: Shape) -> tuple[GPT, GPT2LMHeadModel]:
    """Build GPT-2 in a shape, ours and theirs, without dropout."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        TheirGPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context_length,
            n_embd=shape.d_model,
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    ours = GPT(
        GPT2Config(
            vocab_size=shape.vocab_size,
            context_length=shape.context_length,
            d_model=shape.d_model,
            num_heads=shape.num_heads,
            num_layers=shape.num_layers,
        )
    )
    _copy(ours, _from_gpt2(theirs))
    return ours, theirs


def llama_like(ours: GPT) -> LlamaForCausalLM:
    """Build their model of the modern composition, with our weights."""
    config = ours.config
    if not isinstance(config, ModernConfig) or not config.has_tied_head:
        raise ValueError(f"Llama with a tied head is no {type(config).__name__}")
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.d_ff or usual_gated_d_ff(config.d_model),
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads or config.num_heads,
            max_position_embeddings=config.context_length,
            rope_theta=config.rope_theta,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        )
    )
    weights = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(_for_llama(name, weights, config))
    return theirs


def _from_gpt2(theirs: nn.Module) -> dict[str, Tensor]:
    """Translate GPT-2's weights into our names; its matrices lie on their side."""
    tensors = dict(theirs.transformer.named_parameters())
    names = {
        "token_embedding.weight": "wte.weight",
        "positions.weight": "wpe.weight",
        "final_norm.weight": "ln_f.weight",
        "final_norm.bias": "ln_f.bias",
    }
    for i in range(len(theirs.transformer.h)):
        for our, its in _GPT2.items():
            for kind in ("weight", "bias"):
                names[f"blocks.{i}.{our}.{kind}"] = f"h.{i}.{its}.{kind}"
    turned = {our: tensors[its] for our, its in names.items()}
    return {
        our: tensor.T if ".c_" in names[our] and tensor.dim() == 2 else tensor
        for our, tensor in turned.items()
    }


def _copy(ours: GPT, weights: dict[str, Tensor]) -> None:
    """Give our model these weights, every one of them."""
    parameters = dict(ours.named_parameters())
    if parameters.keys() != weights.keys():
        raise ValueError(f"not the same names: {sorted(parameters.keys() ^ weights.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _for_llama(name: str, weights: dict[str, Tensor], config: ModernConfig) -> Tensor:
    """Find what Llama calls `name` among our weights; some of ours are several of its."""
    if name.startswith("model.embed_tokens"):
        return weights["token_embedding.weight"]
    if name == "model.norm.weight":
        return weights["final_norm.weight"]
    _, _, layer, part = name.split(".", maxsplit=3)
    shared = (config.num_kv_heads or config.num_heads) * config.head_dim
    cuts = [config.d_model, shared, shared]
    block = f"blocks.{layer}."
    for kind, which in (("q", 0), ("k", 1), ("v", 2)):
        if part == f"self_attn.{kind}_proj.weight":
            return weights[block + "attention.query_key_value.weight"].split(cuts)[which]
    for kind, which in (("gate", 0), ("up", 1)):
        if part == f"mlp.{kind}_proj.weight":
            return weights[block + "feed_forward.expand.weight"].chunk(2)[which]
    whole = {
        "self_attn.o_proj.weight": "attention.output.weight",
        "mlp.down_proj.weight": "feed_forward.contract.weight",
        "input_layernorm.weight": "attention_norm.weight",
        "post_attention_layernorm.weight": "feed_forward_norm.weight",
    }
    return weights[block + whole[part]]
