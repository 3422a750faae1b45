"""Pretrained models: weights that others published read into our GPT, and ours written for others.

Chapter 13 takes the two apart. The published layouts hold the same numbers as ours under other
names: GPT-2's matrices lie on their side, and Llama's projections are cut where ours are joined.
Nothing is ever unpickled, and what is read is checked to the last tensor: a name too many, one
missing, or another shape is an error that lists them.

References:
    Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    Touvron et al. (2023), "LLaMA: Open and Efficient Foundation Language Models".
    https://arxiv.org/abs/2302.13971
    The names are those of Hugging Face's `transformers`, models/gpt2 and models/llama.
    https://github.com/huggingface/transformers
"""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from gptbook.layers import usual_gated_d_ff
from gptbook.model import (
    GPT,
    GPT2Config,
    GPTConfig,
    ModernConfig,
    differences,
    from_weights,
    outline,
    read_tensors,
    write_whole,
)
from gptbook.tokenizer import (
    END_OF_TEXT,
    GPT2_PATTERN,
    GPT4_PATTERN,
    GPT4O_PATTERN,
    Tokenizer,
    gpt2_byte_characters,
)

GPT2_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
"""The four sizes that OpenAI published, from 124 million to 1.6 billion parameters."""

_OWNER = "openai-community/"  # under this name they lie on the Hugging Face Hub
_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_USUAL_DROPOUT = 0.1  # of GPT-2, where its config does not say
_USUAL_THETA = 10_000.0  # of Llama, where its config does not say


# --- reading ------------------------------------------------------------------------------------


def load_gpt2(name_or_folder: str | Path = "gpt2", *, dtype: torch.dtype = torch.float32) -> GPT:
    """Read one of the published GPT-2 models, or one in a folder of the same layout.

    A folder of that name is read as it is; otherwise `find_gpt2` gets one.

    Args:
        name_or_folder: A folder, or one of `GPT2_NAMES`.
        dtype: What the weights become, whatever they were stored as.

    Returns:
        The model, on the CPU, ready for reading (`eval()`). Its dropout is that of the file.

    Raises:
        FileNotFoundError: If there is no such folder or name, or no network to get it from.
        ImportError: If a name came and `huggingface_hub` is not installed.
        ValueError: If the files are none of GPT-2's, damaged or pickled, or a tensor is missing,
            too many or of another shape.

    >>> from gptbook.models import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hugging_face(load("littletown-gpt2")[0], folder)
    ...     load_gpt2(folder).num_parameters()
    1261952
    """
    folder = Path(name_or_folder)
    if not folder.is_dir():
        folder = find_gpt2(str(name_or_folder))
    kind = _kind(_read_json(folder / _CONFIG), folder / _CONFIG)
    if kind.composition is not GPT2Config:
        raise ValueError(
            f"{folder} holds a model of type {kind.model_type!r}, not a GPT-2; read it with "
            "load_hugging_face"
        )
    return load_hugging_face(folder, dtype=dtype)


def load_hugging_face(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> GPT:
    """Read a GPT-2 or a Llama in the layout of `transformers` from a folder.

    Args:
        folder: Holds config.json, and model.safetensors or several such files with their index.
        dtype: What the weights become, whatever they were stored as.

    Returns:
        The model, on the CPU, ready for reading (`eval()`). Its dropout is that of the file.

    Raises:
        FileNotFoundError: If the config or the weights are not there.
        ValueError: If the model is of another kind, has parts that ours has not, is damaged or
            pickled, or a tensor is missing, too many or of another shape.

    >>> from gptbook.models import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hugging_face(load("littletown")[0], folder)
    ...     type(load_hugging_face(folder).config).__name__
    'ModernConfig'
    """
    folder = Path(folder)
    fields = _read_json(folder / _CONFIG)
    kind = _kind(fields, folder / _CONFIG)
    config = kind.read_config(fields, folder / _CONFIG)
    pieces = kind.pieces(config)
    tensors = _only_parameters(_read_all(folder), config, pieces)
    ours = dict(outline(config).named_parameters())
    wanted = {name: piece.cut(ours[piece.ours]) for name, piece in pieces.items()}
    faults = differences(tensors, wanted)
    if faults:
        raise ValueError(f"{folder} does not fit its {_CONFIG}:\n" + "\n".join(faults))
    return from_weights(config, _joined(tensors, pieces), source=folder, dtype=dtype)


def find_gpt2(name: str = "gpt2", *, download: bool = True) -> Path:
    """Find a published GPT-2 in the cache of the Hugging Face Hub, or download it there.

    Only its config and its weights are downloaded, 548 MB for the smallest and 6.4 GB for the
    largest. This needs `huggingface_hub`, which comes with `pip install gptbook[pretrained]`.

    Args:
        name: One of `GPT2_NAMES`.
        download: Whether to download what is not in the cache.

    Returns:
        The folder in the cache.

    Raises:
        FileNotFoundError: If there is no GPT-2 of that name, or it is not in the cache and is not
            to be, or cannot be, downloaded.
        ImportError: If `huggingface_hub` is not installed.
    """
    short = name.removeprefix(_OWNER)
    if short not in GPT2_NAMES:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and no published GPT-2 of that name; give a folder, or "
            f"one of {', '.join(GPT2_NAMES)}"
        )
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.utils import HfHubHTTPError
    except ImportError as error:
        raise ImportError(
            f"to find {short} in the cache of the Hugging Face Hub, or to download it there, "
            "install huggingface_hub, or give a folder that holds it"
        ) from error
    for repository in (_OWNER + short, short):  # the short one is how transformers often asks
        found = [try_to_load_from_cache(repository, file) for file in (_CONFIG, _WEIGHTS)]
        if all(isinstance(path, str) for path in found):
            return Path(str(found[0])).parent
    files = f"{_CONFIG} and {_WEIGHTS} of {_OWNER}{short}"
    advice = f"copy {files} into a folder and give load_gpt2 its name"
    if not download:
        raise FileNotFoundError(
            f"{short} is not in the cache of the Hugging Face Hub; let find_gpt2 download it, or "
            f"{advice}"
        )
    unreachable: Any = (OSError, *HfHubHTTPError.__bases__)  # the last, of what it asks with
    try:
        for file in (_WEIGHTS, _CONFIG):
            path = hf_hub_download(_OWNER + short, file)
    except unreachable as error:
        raise FileNotFoundError(
            f"{short} is not in the cache of the Hugging Face Hub, and cannot be downloaded "
            f"({type(error).__name__}); connect to the network once, or {advice}"
        ) from error
    return Path(path).parent


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file of named settings."""
    try:
        fields = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; get it again") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} is damaged: it holds no settings; get it again")
    return fields


def _read_all(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of one file, or of all that an index names."""
    if (folder / _WEIGHTS).is_file():
        return read_tensors(folder / _WEIGHTS)[0]
    if not (folder / _INDEX).is_file():
        pickled = sorted(path.name for ending in _PICKLED for path in folder.glob(f"*{ending}*"))
        if pickled:
            raise _refused(folder, pickled[0])
        raise FileNotFoundError(f"{folder} holds neither {_WEIGHTS} nor {_INDEX}")
    places = _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise ValueError(f"{folder / _INDEX} does not say which file each tensor is in")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        if file.endswith(_PICKLED):
            raise _refused(folder, file)
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(
                f"{folder / _INDEX} points to {file!r}, but may only name safetensors files "
                "beside it; get the folder again, from someone you trust"
            )
        part = read_tensors(folder / file)[0]
        told = {name for name, place in places.items() if place == file}
        if told != part.keys():
            raise ValueError(
                f"{folder / file} and {_INDEX} disagree on {', '.join(sorted(told ^ part.keys()))};"
                " get both again"
            )
        tensors |= part
    return tensors


_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def _refused(folder: Path, file: str) -> ValueError:
    """Say why a pickle is not opened."""
    return ValueError(
        f"{folder} holds its weights in {file}, a pickle, and reading one may run whatever is in "
        f"it; get {_WEIGHTS} instead"
    )


def _only_parameters(
    tensors: dict[str, Tensor], config: GPTConfig, pieces: Mapping[str, "_Piece"]
) -> dict[str, Tensor]:
    """Leave out what files hold beside parameters: a prefix, masks, a copy of a tied matrix."""
    if type(config) is GPT2Config:  # published without a prefix, saved by transformers with one
        short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        tensors = short if len(short) == len(tensors) else tensors
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name in pieces or not _follows(name, tensor, config)
    }
    if config.has_tied_head and "lm_head.weight" in kept:
        [embedding] = [name for name, p in pieces.items() if p.ours == "token_embedding.weight"]
        if embedding in kept and _equal(kept["lm_head.weight"], kept[embedding]):
            del kept["lm_head.weight"]
    return kept


def _equal(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold the same numbers in the same way."""
    return one.dtype == other.dtype and torch.equal(one, other)


def _follows(name: str, tensor: Tensor, config: GPTConfig) -> bool:
    """Recognize a table that follows from the config, by its name and by what is in it."""
    length = config.context_length
    if re.fullmatch(r"h\.\d+\.attn\.bias", name):  # the causal mask
        lower = torch.ones(length, length).tril()[None, None]
        return _equal(tensor.to(lower.dtype), lower)
    if re.fullmatch(r"h\.\d+\.attn\.masked_bias", name):  # what hidden scores became
        return tensor.numel() == 1 and tensor.item() == -1e4
    if re.fullmatch(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", name):
        assert isinstance(config, ModernConfig)
        pairs = torch.arange(0, config.head_dim, 2) / config.head_dim
        speeds = config.rope_theta**-pairs
        close = tensor.shape == speeds.shape and tensor.is_floating_point()
        return close and torch.allclose(tensor.float(), speeds, rtol=0.01)
    return False


def _joined(tensors: Mapping[str, Tensor], pieces: Mapping[str, "_Piece"]) -> dict[str, Tensor]:
    """Make our tensors of theirs; the pieces of one stand in the order of its rows."""
    parts = defaultdict(list)
    for name, piece in pieces.items():
        theirs = tensors[name]
        parts[piece.ours].append(theirs.T.contiguous() if piece.on_its_side else theirs)
    return {ours: torch.cat(rows) if len(rows) > 1 else rows[0] for ours, rows in parts.items()}


# --- writing ------------------------------------------------------------------------------------


def save_hugging_face(
    model: GPT,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model in the layout that `transformers` reads, and its tokenizer, if one is given.

    A `GPT2Config` becomes a `GPT2LMHeadModel`, a `ModernConfig` a `LlamaForCausalLM` (which drops
    nothing in training but attention weights, so `dropout` is not written down). The tokenizer
    gives the same ids there; names of special tokens in a text become their ids, as with
    `encode(text, allowed_special="all")`. Either all files appear or none.

    Args:
        model: What to save.
        folder: Where; made if need be.
        tokenizer: What the model reads with. Its split pattern must be one of the three that
            `gptbook.tokenizer` names, for other programs read regular expressions by other rules.
        dtype: What to round to, such as torch.float16 for half the bytes; as it is by default.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If the model is of a composition without such a layout, or was changed since it
            was built; or if the tokenizer does not fit it, or cannot be written down.

    >>> from gptbook.models import load
    >>> model, tokenizer = load("littletown")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_hugging_face(model, folder, tokenizer)
    ...     print(*sorted(path.name for path in Path(folder).iterdir()))
    config.json merges.txt model.safetensors tokenizer.json tokenizer_config.json vocab.json
    """
    kind = _BY_COMPOSITION.get(type(model.config))
    if kind is None:
        raise ValueError(
            f"a {type(model.config).__name__} has no layout that transformers reads; only a "
            f"{' or a '.join(c.__name__ for c in _BY_COMPOSITION)} has. gptbook.model.save keeps "
            "the others for this book"
        )
    ours = dict(model.named_parameters())
    faults = differences(ours, dict(outline(model.config).named_parameters()))
    if faults:
        raise ValueError("the model is not what its config builds:\n" + "\n".join(faults))
    tensors = {
        name: _copied(piece.cut(ours[piece.ours].detach()).to("cpu", dtype))
        for name, piece in kind.pieces(model.config).items()
    }
    end = None if tokenizer is None else tokenizer.special_tokens.get(END_OF_TEXT)
    fields = kind.write_config(model.config) | {
        "architectures": [kind.architecture],
        "model_type": kind.model_type,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
    }
    texts = {} if tokenizer is None else _tokenizer_files(tokenizer, model.config)
    texts[_CONFIG] = _as_json(fields)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        place = Path(partial)
        write_whole(
            place / _WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"})
        )
        for name, text in texts.items():
            write_whole(place / name, _writer(text))
        for name in (_WEIGHTS, *texts):
            (place / name).replace(folder / name)


def _copied(tensor: Tensor) -> Tensor:
    """Give a tensor memory of its own, row by row, as files have it."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _writer(text: str) -> Callable[[Path], object]:
    """Write a text, with the same line ends on every system."""
    return lambda path: path.write_text(text, encoding="utf-8", newline="\n")


def _as_json(fields: Mapping[str, Any]) -> str:
    """Write down settings so that people can read them, too."""
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


# --- two layouts --------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Where a tensor of theirs stands in ours."""

    ours: str
    """The name of our tensor."""
    rows: slice = slice(None)
    """Which of its rows."""
    on_its_side: bool = False
    """Whether theirs is stored input by output."""

    def cut(self, tensor: Tensor) -> Tensor:
        """Cut theirs out of ours."""
        return tensor[self.rows].T if self.on_its_side else tensor[self.rows]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A layout of `transformers`, and what it is to us."""

    model_type: str
    architecture: str
    composition: type[GPTConfig]
    read_config: Callable[[Mapping[str, Any], Path], GPTConfig]
    write_config: Callable[[GPTConfig], dict[str, Any]]
    pieces: Callable[[GPTConfig], dict[str, _Piece]]


def _kind(fields: Mapping[str, Any], path: Path) -> _Kind:
    """Find out what a config describes."""
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in _BY_TYPE:
        raise ValueError(
            f"{path} describes a model of type {model_type!r}; this gptbook reads "
            f"{' and '.join(_BY_TYPE)}"
        )
    return _BY_TYPE[model_type]


def _gpt2_pieces(config: GPTConfig) -> dict[str, _Piece]:
    """List GPT-2's tensors. Its linear layers are stored input by output."""
    pieces = {
        "wte.weight": _Piece("token_embedding.weight"),
        "wpe.weight": _Piece("positions.weight"),
    }
    parts = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.query_key_value",
        "attn.c_proj": "attention.output",
        "ln_2": "feed_forward_norm",
        "mlp.c_fc": "feed_forward.expand",
        "mlp.c_proj": "feed_forward.contract",
    }
    for i in range(config.num_layers):
        for its, our in parts.items():
            name, ours = f"h.{i}.{its}", f"blocks.{i}.{our}"
            pieces[f"{name}.weight"] = _Piece(f"{ours}.weight", on_its_side=".c_" in its)
            pieces[f"{name}.bias"] = _Piece(f"{ours}.bias")
    pieces["ln_f.weight"] = _Piece("final_norm.weight")
    pieces["ln_f.bias"] = _Piece("final_norm.bias")
    return pieces


def _llama_pieces(config: GPTConfig) -> dict[str, _Piece]:
    """List Llama's tensors. Ours joins queries, keys and values, and the two halves of SwiGLU."""
    assert isinstance(config, ModernConfig)
    width, d_ff = config.d_model, config.d_ff or usual_gated_d_ff(config.d_model)
    shared = (config.num_kv_heads or config.num_heads) * config.head_dim
    parts = {
        "input_layernorm": _Piece("attention_norm"),
        "self_attn.q_proj": _Piece("attention.query_key_value", slice(0, width)),
        "self_attn.k_proj": _Piece("attention.query_key_value", slice(width, width + shared)),
        "self_attn.v_proj": _Piece("attention.query_key_value", slice(width + shared, None)),
        "self_attn.o_proj": _Piece("attention.output"),
        "post_attention_layernorm": _Piece("feed_forward_norm"),
        "mlp.gate_proj": _Piece("feed_forward.expand", slice(0, d_ff)),
        "mlp.up_proj": _Piece("feed_forward.expand", slice(d_ff, None)),
        "mlp.down_proj": _Piece("feed_forward.contract"),
    }
    pieces = {"model.embed_tokens.weight": _Piece("token_embedding.weight")}
    for i in range(config.num_layers):
        for its, (ours, rows, _) in parts.items():
            pieces[f"model.layers.{i}.{its}.weight"] = _Piece(f"blocks.{i}.{ours}.weight", rows)
    pieces["model.norm.weight"] = _Piece("final_norm.weight")
    if not config.has_tied_head:
        pieces["lm_head.weight"] = _Piece("head.weight")
    return pieces


def _read_gpt2_config(fields: Mapping[str, Any], path: Path) -> GPTConfig:
    """Read what GPT-2's config says, and refuse what our GPT-2 does not have."""
    _check_fixed(
        path,
        fields,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    names = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
    rates = [fields.get(name, _USUAL_DROPOUT) for name in names]
    if any(rate != rates[0] for rate in rates):
        raise ValueError(
            f"{path} drops at the rates {rates} ({', '.join(names)}), but this gptbook has one "
            "rate for all; make them one there, which changes nothing but training"
        )
    return _build(
        path,
        GPT2Config,
        vocab_size=_need(path, fields, "vocab_size"),
        context_length=_need(path, fields, "n_positions"),
        d_model=_need(path, fields, "n_embd"),
        num_heads=_need(path, fields, "n_head"),
        num_layers=_need(path, fields, "n_layer"),
        d_ff=fields.get("n_inner"),
        dropout=rates[0],
    )


def _write_gpt2_config(config: GPTConfig) -> dict[str, Any]:
    """Say what our GPT-2 is in the words of `transformers`."""
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.d_model,
        "n_head": config.num_heads,
        "n_layer": config.num_layers,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": True,
    }


def _read_llama_config(fields: Mapping[str, Any], path: Path) -> GPTConfig:
    """Read what Llama's config says, and refuse what our modern composition does not have."""
    _check_fixed(
        path,
        fields,
        hidden_act="silu",
        attention_bias=False,
        attention_dropout=0.0,
        mlp_bias=False,
    )
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"{path} does not say how its positions turn, but {rope!r}; get it again")
    stretched = rope.get("rope_type", rope.get("type", "default"))
    if stretched != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(
            f"{path} turns its positions in another way ({rope}), which this gptbook does not; "
            "choose a model without"
        )
    theta = rope.get("rope_theta", fields.get("rope_theta"))
    config = _build(
        path,
        ModernConfig,
        vocab_size=_need(path, fields, "vocab_size"),
        context_length=_need(path, fields, "max_position_embeddings"),
        d_model=_need(path, fields, "hidden_size"),
        num_heads=_need(path, fields, "num_attention_heads"),
        num_layers=_need(path, fields, "num_hidden_layers"),
        num_kv_heads=fields.get("num_key_value_heads"),
        d_ff=_need(path, fields, "intermediate_size"),
        rope_theta=_USUAL_THETA if theta is None else theta,
        tied_head=fields.get("tie_word_embeddings", False),
        norm_eps=fields.get("rms_norm_eps", 1e-6),
    )
    if fields.get("head_dim") not in (None, config.head_dim):
        raise ValueError(
            f"{path} has heads of width {fields['head_dim']!r}, but here they are "
            f"{config.d_model} / {config.num_heads} wide; choose a model whose heads are"
        )
    return config


def _write_llama_config(config: GPTConfig) -> dict[str, Any]:
    """Say what our modern composition is in the words of `transformers`, the old and the new."""
    assert isinstance(config, ModernConfig)
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.head_dim,
        "num_hidden_layers": config.num_layers,
        "intermediate_size": config.d_ff or usual_gated_d_ff(config.d_model),
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied_head,
    }


def _build(path: Path, composition: Callable[..., GPTConfig], **sizes: Any) -> GPTConfig:
    """Make a config of what a file says, and name the file if none can be made."""
    try:
        return composition(**sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes no model that can be built: {error}") from error


def _check_fixed(path: Path, fields: Mapping[str, Any], **expected: Any) -> None:
    """Refuse a setting that our composition does not have; one that is not there is the usual."""
    for name, value in expected.items():
        if fields.get(name, value) != value:
            raise ValueError(
                f"{path} says {name}={fields[name]!r}, but this gptbook builds {value!r}; "
                "choose a model that was made so"
            )


def _need(path: Path, fields: Mapping[str, Any], name: str) -> Any:
    """Read a setting that has to be there."""
    if name not in fields:
        raise ValueError(f"{path} does not say {name}; get it again")
    return fields[name]


_KINDS = (
    _Kind(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        composition=GPT2Config,
        read_config=_read_gpt2_config,
        write_config=_write_gpt2_config,
        pieces=_gpt2_pieces,
    ),
    _Kind(
        model_type="llama",
        architecture="LlamaForCausalLM",
        composition=ModernConfig,
        read_config=_read_llama_config,
        write_config=_write_llama_config,
        pieces=_llama_pieces,
    ),
)
_BY_TYPE = {kind.model_type: kind for kind in _KINDS}
_BY_COMPOSITION = {kind.composition: kind for kind in _KINDS}


# --- the tokenizer ------------------------------------------------------------------------------


_THEIR_PATTERNS = {
    GPT2_PATTERN: GPT2_PATTERN,
    # In their regular expressions {1,3}+ is not possessive, but "groups of one to three, repeated".
    GPT4_PATTERN: GPT4_PATTERN.replace("{1,3}+", "{1,3}"),
    GPT4O_PATTERN: GPT4O_PATTERN,
}
_CHARACTERS = gpt2_byte_characters()


def _tokenizer_files(tokenizer: Tokenizer, config: GPTConfig) -> dict[str, str]:
    """Write a tokenizer for `transformers`: what its files are to hold, by their names."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows only "
            f"{config.vocab_size}; give the tokenizer that it was trained with"
        )
    if tokenizer.pattern not in _THEIR_PATTERNS:
        raise ValueError(
            f"the split pattern {tokenizer.pattern!r} may be read otherwise by other programs; "
            "train with GPT2_PATTERN, GPT4_PATTERN or GPT4O_PATTERN"
        )
    vocabulary = {_visible(token): i for i, token in enumerate(tokenizer.tokens)}
    special = tokenizer.special_tokens
    if special.keys() & vocabulary.keys():
        raise ValueError(
            f"special tokens {sorted(special.keys() & vocabulary.keys())} are written like "
            "ordinary ones, and these files could not tell them apart; give them other names"
        )
    merges = [" ".join(map(_visible, pair)) for pair in tokenizer.merges()]
    vocabulary |= special
    content = _tokenizer_json(vocabulary, merges, _THEIR_PATTERNS[tokenizer.pattern], special)
    end = END_OF_TEXT if END_OF_TEXT in special else None
    as_gpt2 = tokenizer.pattern == GPT2_PATTERN
    return {
        "tokenizer.json": _as_json(content),
        "tokenizer_config.json": _as_json({
            "tokenizer_class": "GPT2Tokenizer" if as_gpt2 else "PreTrainedTokenizerFast",
            "model_max_length": config.context_length,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "bos_token": end,
            "eos_token": end,
            "unk_token": end,
        }),
        "vocab.json": _as_json(vocabulary),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }


def _tokenizer_json(
    vocabulary: Mapping[str, int], merges: Iterable[str], pattern: str, special: Mapping[str, int]
) -> dict[str, Any]:
    """Lay out a byte-level BPE for Hugging Face's `tokenizers`."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True} for name, i in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, as_bytes | {"use_regex": False}],
        },
        "post_processor": as_bytes | {"use_regex": False},
        "decoder": as_bytes | {"use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(vocabulary),
            "merges": list(merges),
        },
    }


def _visible(token: bytes) -> str:
    """Write each byte of a token as GPT-2's files do."""
    return "".join(map(_CHARACTERS.__getitem__, token))
