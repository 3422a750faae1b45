"""What chapter 13 promises about weights that others published, and ours for others."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.utils import HfHubHTTPError
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from gptbook import pretrained
from gptbook.generation import generate
from gptbook.model import GPT, PUBLISHED, GPT1Config, GPT2Config, ModernConfig, outline
from gptbook.models import NAMES, load
from gptbook.pretrained import (
    GPT2_NAMES,
    find_gpt2,
    load_gpt2,
    load_hugging_face,
    save_hugging_face,
)
from gptbook.tokenizer import (
    BYTES,
    END_OF_TEXT,
    GPT2_PATTERN,
    GPT4_PATTERN,
    GPT4O_PATTERN,
    Tokenizer,
    published_encodings,
)
from tests.test_model import make_exact

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

USUAL = {"rope_type": "default", "rope_theta": 7e5}
SIZES = {"vocab_size": 60, "context_length": 12, "d_model": 16, "num_heads": 4, "num_layers": 2}
CONFIGS = {
    "gpt2": GPT2Config(**SIZES, dropout=0.1),
    "gpt2, narrow": GPT2Config(**SIZES, d_ff=20),
    "modern": ModernConfig(**SIZES),
    "modern, grouped and untied": ModernConfig(
        **SIZES, d_ff=24, num_kv_heads=2, tied_head=False, rope_theta=5e5, norm_eps=1e-5
    ),
    "modern, one head of keys": ModernConfig(**SIZES, num_kv_heads=1),
}
each_composition = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
ARCHITECTURES = {GPT2Config: GPT2LMHeadModel, ModernConfig: LlamaForCausalLM}


def shaken(model, seed=0):
    """In float64, with every weight and constant away from its start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.double().parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3, generator=generator)
    return model.eval()


def logits_of(theirs):
    """In float64 throughout: transformers' Llama rounds its norms and angles to float32."""
    if isinstance(theirs, LlamaForCausalLM):
        weights = theirs.state_dict()
        make_exact(theirs)
        theirs.double().load_state_dict(weights)
    with torch.no_grad():
        return theirs(random_ids()).logits


def random_ids(vocab_size=60, length=12):
    return torch.randint(vocab_size, (3, length), generator=torch.Generator().manual_seed(1))


def theirs_gpt2(**changes):
    sizes = {"vocab_size": 60, "n_positions": 12, "n_embd": 16, "n_head": 4, "n_layer": 2}
    tokens = {"bos_token_id": None, "eos_token_id": None}
    return shaken(GPT2LMHeadModel(transformers.GPT2Config(**(sizes | tokens | changes))))


def theirs_llama(**changes):
    sizes = {
        "vocab_size": 60,
        "max_position_embeddings": 12,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5,
    }
    return shaken(LlamaForCausalLM(LlamaConfig(**(sizes | changes))))


THEIRS = {
    "gpt2": theirs_gpt2,
    "gpt2, narrow": lambda: theirs_gpt2(n_inner=20),
    "llama": theirs_llama,
    "llama, tied": lambda: theirs_llama(tie_word_embeddings=True),
    "llama, a head each": lambda: theirs_llama(num_key_value_heads=None),
    "llama, slow": lambda: theirs_llama(rope_parameters=USUAL),
}


def change_json(path, **changes):
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | changes))


@pytest.fixture
def folder(tmp_path):
    """A small GPT-2 as transformers saves it."""
    theirs_gpt2().save_pretrained(tmp_path)
    return tmp_path


# --- the same logits, in both directions --------------------------------------------------------


@pytest.mark.parametrize("make", THEIRS.values(), ids=THEIRS.keys())
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "8KB"}], ids=["whole", "in shards"])
def test_what_transformers_saves_gives_the_same_logits_here(make, shards, tmp_path):
    theirs = make()
    theirs.save_pretrained(tmp_path, **shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == bool(shards)
    ours = load_hugging_face(tmp_path, dtype=torch.float64)
    assert not ours.training
    with torch.no_grad():
        torch.testing.assert_close(ours(random_ids()), logits_of(theirs), rtol=0, atol=1e-10)
    assert ours.num_parameters() == theirs.num_parameters()


@each_composition
def test_what_we_save_gives_the_same_logits_in_transformers(config, tmp_path):
    ours = shaken(GPT(config))
    save_hugging_face(ours, tmp_path / "new" / "folder")
    theirs, report = ARCHITECTURES[type(config)].from_pretrained(
        tmp_path / "new" / "folder", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.dtype == torch.float64
    with torch.no_grad():
        torch.testing.assert_close(ours(random_ids()), logits_of(theirs), rtol=0, atol=1e-10)
    assert (
        type(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "folder"))
        is (ARCHITECTURES[type(config)])
    )


@each_composition
def test_the_round_trip_changes_no_bit(config, tmp_path):
    torch.manual_seed(0)
    ours = GPT(config)
    save_hugging_face(ours, tmp_path)
    back = load_hugging_face(tmp_path)
    filled_in = dataclasses.asdict(config) | {
        name: getattr(back.config, name)
        for name in ("d_ff", "num_kv_heads")
        if getattr(config, name, 0) is None
    }
    assert dataclasses.asdict(back.config) == filled_in
    parameters = dict(ours.named_parameters())
    assert parameters.keys() == dict(back.named_parameters()).keys()
    assert all(torch.equal(parameters[name], p) for name, p in back.named_parameters())
    assert all(p.is_contiguous() for p in back.parameters())
    back.train().loss(random_ids(), random_ids()).backward()  # and goes on learning


def test_the_parameters_of_a_saved_model_are_its_own(tmp_path):
    model = GPT(CONFIGS["modern"])
    save_hugging_face(model, tmp_path)
    one, two = load_hugging_face(tmp_path), load_hugging_face(tmp_path)
    with torch.no_grad():
        one.blocks[0].attention.query_key_value.weight.zero_()
    assert two.blocks[0].attention.query_key_value.weight.any()
    assert model.blocks[0].attention.query_key_value.weight.any()


@each_composition
def test_half_the_bytes_can_be_kept(config, tmp_path):
    model = GPT(config)
    save_hugging_face(model, tmp_path, dtype=torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float16"
    assert {p.dtype for p in load_hugging_face(tmp_path).parameters()} == {torch.float32}
    assert ARCHITECTURES[type(config)].from_pretrained(tmp_path).dtype == torch.float16
    assert next(model.parameters()).dtype == torch.float32  # the model itself stays as it was


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_book_goes_round_the_loop(name, tmp_path):
    ours, tokenizer = load(name)
    save_hugging_face(ours, tmp_path, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    reader = AutoTokenizer.from_pretrained(tmp_path)
    prompt = END_OF_TEXT + "On a cloudy morning, the bored teacher Mia"
    token_ids = tokenizer.encode(prompt, allowed_special="all")
    assert reader.encode(prompt) == token_ids
    end = tokenizer.special_tokens[END_OF_TEXT]
    with torch.no_grad():
        expected = ours(torch.tensor([token_ids]))
        got = theirs(torch.tensor([token_ids])).logits
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        again = load_hugging_face(tmp_path)(torch.tensor([token_ids]))
        assert torch.equal(again, expected)
        written = theirs.generate(torch.tensor([token_ids]), max_new_tokens=60, do_sample=False)
    [greedy] = generate(ours, [token_ids], max_new_tokens=60, stop=[end])
    assert written[0, len(token_ids) :].tolist() == greedy
    text = reader.decode(written[0], skip_special_tokens=True)
    assert text == tokenizer.decode(token_ids[1:] + [i for i in greedy if i != end])


@pytest.mark.parametrize("name", GPT2_NAMES)
def test_names_and_shapes_are_those_of_the_published_sizes(name, tmp_path):
    config = PUBLISHED[name]
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(
            transformers.GPT2Config(
                n_embd=config.d_model, n_head=config.num_heads, n_layer=config.num_layers
            )
        )
    expected = {name.removeprefix("transformer."): p.shape for name, p in theirs.named_parameters()}
    ours = dict(outline(config).named_parameters())
    pieces = pretrained._gpt2_pieces(config)
    assert {name: piece.cut(ours[piece.ours]).shape for name, piece in pieces.items()} == expected
    assert {piece.ours for piece in pieces.values()} == ours.keys()
    theirs.config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds neither model\.safetensors nor"):
        load_gpt2(tmp_path)  # so its config was read


# --- what files hold beside parameters ----------------------------------------------------------


def published(folder):
    """Bring a saved GPT-2 into the form of the published file: no prefix, a mask in each block."""
    path = folder / "model.safetensors"
    tensors = {k.removeprefix("transformer."): t for k, t in load_file(path).items()}
    for i in range(2):
        tensors[f"h.{i}.attn.bias"] = torch.ones(12, 12).tril()[None, None]
    return tensors


def test_the_published_file_has_no_prefix_and_a_mask_in_each_block(folder):
    expected = load_gpt2(folder)(random_ids())
    tensors = published(folder)
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(load_gpt2(folder)(random_ids()), expected)
    older = {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    masks = {name: t.bool() for name, t in tensors.items() if name.endswith(".attn.bias")}
    save_file(tensors | older | masks, folder / "model.safetensors")
    assert torch.equal(load_gpt2(folder)(random_ids()), expected)
    prefixed = {f"transformer.{name}": tensor for name, tensor in (tensors | older).items()}
    save_file(prefixed, folder / "model.safetensors")
    assert torch.equal(load_gpt2(folder)(random_ids()), expected)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("h.0.attn.bias", torch.ones(1, 1, 12, 12)),  # everything may be seen
        ("h.0.attn.bias", torch.ones(1, 1, 11, 11).tril()),
        ("h.0.attn.bias", torch.ones(48)),
        ("h.0.attn.masked_bias", torch.tensor(0.0)),
        ("h.0.attn.masked_bias", torch.tensor([-1e4, -1e4])),
        ("h.0.attn.mask", torch.ones(1, 1, 12, 12).tril()),
        ("h.0.mlp.bias", torch.ones(1, 1, 12, 12).tril()),
    ],
)
def test_what_only_looks_like_a_mask_is_too_many(name, tensor, folder):
    save_file(published(folder) | {name: tensor}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"does not fit its config\.json:\n{name} belongs to no"):
        load_gpt2(folder)


@pytest.mark.parametrize("make", [theirs_gpt2, lambda: theirs_llama(tie_word_embeddings=True)])
def test_a_head_that_is_the_embedding_may_stand_in_the_file_and_another_may_not(make, tmp_path):
    make().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    [embedding] = [t for name, t in tensors.items() if "wte" in name or "embed_tokens" in name]
    expected = load_hugging_face(tmp_path)(random_ids())
    save_file(tensors | {"lm_head.weight": embedding.clone()}, path)
    assert torch.equal(load_hugging_face(tmp_path)(random_ids()), expected)
    for other in (embedding + 1e-9, embedding[:-1].clone(), embedding.float()):
        save_file(tensors | {"lm_head.weight": other}, path)
        with pytest.raises(ValueError, match=r"lm_head\.weight belongs to no part"):
            load_hugging_face(tmp_path)


def test_the_turning_speeds_that_old_llamas_store_are_left_out_if_they_are_right(tmp_path):
    theirs_llama().save_pretrained(tmp_path)
    path, name = tmp_path / "model.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors = load_file(path)
    expected = load_hugging_face(tmp_path)(random_ids())
    save_file(tensors | {name: torch.tensor([1.0, 0.01]).half()}, path)
    assert torch.equal(load_hugging_face(tmp_path)(random_ids()), expected)
    for other in ([1.0, 0.02], [1.0], [1, 0]):
        save_file(tensors | {name: torch.tensor(other)}, path)
        with pytest.raises(ValueError, match=f"{name} belongs to no part"):
            load_hugging_face(tmp_path)


# --- what does not fit is listed ----------------------------------------------------------------


def test_weights_that_do_not_fit_are_listed_by_their_own_names(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    weight = tensors["transformer.h.0.attn.c_attn.weight"]
    tensors["transformer.h.0.attn.c_attn.weight"] = weight.T.contiguous()
    tensors["transformer.h.2.ln_1.weight"] = torch.ones(16)
    tensors["transformer.wpe.weight"] = torch.zeros(12, 16, dtype=torch.int8)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_gpt2(folder)
    assert str(caught.value).splitlines() == [
        f"{folder} does not fit its config.json:",
        "h.1.mlp.c_fc.bias is missing",
        "h.2.ln_1.weight belongs to no part",
        "h.0.attn.c_attn.weight has shape (48, 16), not (16, 48)",
        "wpe.weight holds torch.int8, not numbers with a fraction",
    ]


def test_a_llama_without_the_head_that_it_should_have_is_refused(tmp_path):
    theirs_llama().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["lm_head.weight"]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"config\.json:\nlm_head\.weight is missing$"):
        load_hugging_face(tmp_path)


def test_two_names_for_one_tensor_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"ln_f.bias": torch.zeros(16)}, path)
    with pytest.raises(ValueError, match=r"transformer\.wte\.weight belongs to no part"):
        load_gpt2(folder)


# --- files that are refused ---------------------------------------------------------------------


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_a_pickle_is_never_opened(folder, name, protocol):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(folder / "sprung"), protocol=protocol))
    with pytest.raises(ValueError, match=rf"{name}.* a pickle.* run whatever is in it; get"):
        load_gpt2(folder)
    assert not (folder / "sprung").exists()


def test_pytorch_s_own_files_are_pickles_under_any_name(folder):
    torch.save({"wte.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is a pickle under another name"):
        load_gpt2(folder)


def test_an_index_of_pickles_is_refused(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": "pytorch_model-00001-of-00002.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"in pytorch_model-00001-of-00002\.bin, a pickle"):
        load_gpt2(folder)
    (folder / "model.safetensors.index.json").rename(folder / "pytorch_model.bin.index.json")
    with pytest.raises(ValueError, match=r"in pytorch_model\.bin\.index\.json, a pickle"):
        load_gpt2(folder)


@pytest.mark.parametrize(
    "place", ["../other/model.safetensors", "/etc/passwd", "..", "", "sub/model.safetensors", "x"]
)
def test_an_index_may_not_point_elsewhere(folder, place):
    outside = folder / "model.safetensors"
    tensors = load_file(outside)
    for target in (folder / "sub", folder.parent / "other"):
        target.mkdir(exist_ok=True)
        shutil.copy(outside, target)
    outside.unlink()
    index = {"weight_map": dict.fromkeys(tensors, place)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"may only name safetensors files beside it"):
        load_gpt2(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"index\.json is damaged"),
        ("[]", r"index\.json is damaged: it holds no settings"),
        ("{}", "does not say which file each tensor is in"),
        ('{"weight_map": ["a"]}', "does not say which file each tensor is in"),
        ('{"weight_map": {"a": 1}}', "does not say which file each tensor is in"),
    ],
)
def test_a_damaged_index_is_refused(folder, text, message):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_gpt2(folder)


def test_shards_and_their_index_must_agree(tmp_path):
    theirs_gpt2().save_pretrained(tmp_path, max_shard_size="8KB")
    index = tmp_path / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    file = fields["weight_map"].pop("transformer.wpe.weight")
    index.write_text(json.dumps(fields))
    with pytest.raises(
        ValueError, match=rf"{file} and .* disagree on transformer\.wpe\.weight; get"
    ):
        load_gpt2(tmp_path)
    fields["weight_map"] |= {"transformer.wpe.weight": file, "transformer.h.9.ln_1.bias": file}
    index.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"disagree on transformer\.h\.9\.ln_1\.bias; get"):
        load_gpt2(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load_gpt2(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*; copy or save it"):
        load_gpt2(folder)


@pytest.mark.parametrize("length", [640, 10**9])
def test_what_only_begins_like_a_pickle_is_none(folder, length):
    """640 is written b"\\x80\\x02", like the beginning of one; a billion is only too long."""
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{")
    with pytest.raises(ValueError, match="is damaged"):
        load_gpt2(folder)


def test_what_is_not_there_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor .*index\.json"):
        load_gpt2(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_gpt2(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"gpt2"', "\ud800", "[" * 100_000])
def test_a_damaged_config_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*; get it again"):
        load_gpt2(folder)


@pytest.mark.parametrize("kind", ["gpt_neox", "mistral", None, ["gpt2"], "<missing>"])
def test_a_model_of_another_kind_is_refused(folder, kind):
    change_json(folder / "config.json", model_type=kind)
    if kind == "<missing>":
        fields = json.loads((folder / "config.json").read_text())
        del fields["model_type"]
        (folder / "config.json").write_text(json.dumps(fields))
        kind = None
    with pytest.raises(ValueError, match=r"describes a model of type .*; this gptbook reads gpt2 "):
        load_hugging_face(folder)


def test_a_llama_is_no_gpt2(tmp_path):
    theirs_llama().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'llama', not a GPT-2; read it with load_hugging_face"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "gelu"}, "activation_function='gelu', but .* builds 'gelu_new'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06, but this gptbook builds 1e-05"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"add_cross_attention": True}, "add_cross_attention=True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"attn_pdrop": 0.0}, r"drops at the rates \[0\.1, 0\.0, 0\.1\] .* make them one there"),
        ({"resid_pdrop": "much"}, "one rate for all"),
        ({"n_head": 3}, "describes no model that can be built: .*num_heads=3"),
        ({"n_layer": "two"}, "num_layers must be a whole number, not 'two'"),
        ({"n_embd": None}, "d_model must be a whole number, not None"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_our_gpt2_does_not_have_is_refused(folder, change, message):
    change_json(folder / "config.json", **change)
    with pytest.raises(ValueError, match=message):
        load_gpt2(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act='gelu', but this gptbook builds 'silu'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"attention_dropout": 0.1}, r"attention_dropout=0\.1"),
        ({"head_dim": 8}, r"heads of width 8, but here they are 16 / 4 wide"),
        ({"rms_norm_eps": 0}, "norm_eps keeps a norm from dividing by zero, so it cannot be 0"),
        ({"rms_norm_eps": "1e-5"}, "norm_eps must be a number such as 1e-6, not '1e-5'"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "turns its positions in another way"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "in another way"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "in another way"),
        ({"rope_parameters": "default"}, "does not say how its positions turn, but 'default'"),
        ({"num_attention_heads": 0}, "num_heads must be at least 1, not 0"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_our_modern_composition_does_not_have_is_refused(tmp_path, change, message):
    theirs_llama().save_pretrained(tmp_path)
    change_json(tmp_path / "config.json", **change)
    with pytest.raises(ValueError, match=message):
        load_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("make", "name"), [(theirs_gpt2, "n_positions"), (theirs_llama, "intermediate_size")]
)
def test_a_setting_that_has_to_be_there_is_asked_for(make, name, tmp_path):
    make().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields[name]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=f"does not say {name}; get it again"):
        load_hugging_face(tmp_path)


def test_configs_of_older_versions_are_read(tmp_path):
    """Where a setting is not written down it is the usual, and theta stood by itself."""
    theirs = theirs_llama(rope_parameters=USUAL)
    theirs.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    for name in ("rope_parameters", "head_dim", "attention_bias", "tie_word_embeddings"):
        del fields[name]
    fields |= {"rope_theta": 7e5, "rope_scaling": None}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    ours = load_hugging_face(tmp_path, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(random_ids()), logits_of(theirs), rtol=0, atol=1e-10)
    del fields["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert load_hugging_face(tmp_path).config.rope_theta == 10_000


# --- the Hub ------------------------------------------------------------------------------------

ASK = """
import sys
from gptbook.pretrained import find_gpt2, load_gpt2
print("huggingface_hub" in sys.modules)
print(load_gpt2("gpt2").config.d_model, load_gpt2("openai-community/gpt2-large").config.d_model)
print(*(find_gpt2(name, download=False).name for name in ("gpt2", "gpt2-large")))
try:
    load_gpt2("gpt2-xl")
except FileNotFoundError as error:
    print(error)
"""


def test_a_published_name_is_found_in_the_cache_of_the_hub_without_a_network(folder, tmp_path):
    cache = tmp_path / "cache"
    for repository in ("models--gpt2", "models--openai-community--gpt2-large"):
        snapshot = cache / repository / "snapshots" / "0123abc"
        snapshot.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(folder / name, snapshot)
        (cache / repository / "refs").mkdir()
        (cache / repository / "refs" / "main").write_text("0123abc")
    offline = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=os.environ | offline,
        cwd=cache,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported, widths, snapshots, message = done.stdout.splitlines()
    assert (imported, widths, snapshots) == ("False", "16 16", "0123abc 0123abc")
    assert message.startswith("gpt2-xl is not in the cache of the Hugging Face Hub, and cannot be")
    assert message.endswith("openai-community/gpt2-xl into a folder and give load_gpt2 its name")


def test_a_published_name_that_is_not_there_is_downloaded(folder, monkeypatch):
    asked: list[tuple[str, str]] = []

    def download(repository, file):
        asked.append((repository, file))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match=r"not in the cache .*; let find_gpt2 download it"):
        find_gpt2("gpt2-medium", download=False)
    assert not asked
    assert load_gpt2("gpt2-medium").config.d_model == 16
    assert sorted(asked) == [
        ("openai-community/gpt2-medium", "config.json"),
        ("openai-community/gpt2-medium", "model.safetensors"),
    ]


@pytest.mark.parametrize("error", [*HfHubHTTPError.__bases__, OSError, ConnectionError])
def test_without_a_network_it_is_said_what_to_do(error, monkeypatch, tmp_path):
    def download(repository, file):
        raise error("no way out")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="connect to the network once, or copy config"):
        load_gpt2("gpt2")


def test_a_folder_comes_before_a_name(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it fails
    (folder / "gpt2").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "gpt2" / name)
    monkeypatch.chdir(folder)
    assert load_gpt2().config.d_model == 16
    with pytest.raises(ImportError, match=r"gpt2-medium in the cache .* install huggingface_hub"):
        load_gpt2("gpt2-medium")


@pytest.mark.parametrize("name", ["gpt3", "no/such/folder", "meta-llama/Llama-2-7b-hf"])
def test_another_name_is_answered_with_those_there_are(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"no folder '{name}'.* one of gpt2, gpt2-medium"):
        load_gpt2(name)


# --- writing ------------------------------------------------------------------------------------


def test_other_compositions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a GPT1Config has no layout .*; only a GPT2Config or a"):
        save_hugging_face(GPT(GPT1Config(**SIZES)), tmp_path / "new")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class OtherConfig(GPT2Config):
        pass

    with pytest.raises(ValueError, match="a OtherConfig has no layout"):
        save_hugging_face(GPT(OtherConfig(**SIZES)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_that_was_changed_is_refused(tmp_path):
    model = GPT(CONFIGS["gpt2"])
    model.blocks[1].attention.output = torch.nn.Linear(16, 16, bias=False)
    with pytest.raises(ValueError, match=r"config builds:\nblocks\.1\.attention\.output\.bias is"):
        save_hugging_face(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["model.safetensors", "merges.txt", "config.json"])
def test_an_interrupted_save_leaves_all_that_was_there(failing, tmp_path, monkeypatch):
    tokenizer = Tokenizer([*BYTES], special_tokens={END_OF_TEXT: 256})
    config = GPT2Config(**SIZES | {"vocab_size": 257})
    save_hugging_face(GPT(config), tmp_path, tokenizer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    whole = pretrained.write_whole

    def run_out_of_disk(path, write):
        if path.name == failing:
            path.write_bytes(b"half a fi")
            raise OSError("No space left on device")
        whole(path, write)

    monkeypatch.setattr(pretrained, "write_whole", run_out_of_disk)
    other = Tokenizer([*BYTES, b"th"])
    with pytest.raises(OSError, match="No space left"):
        save_hugging_face(GPT(dataclasses.replace(config, num_layers=1)), tmp_path, other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_whoever_may_read_other_new_files_may_read_a_saved_model(tmp_path):
    tokenizer = Tokenizer([*BYTES])
    save_hugging_face(GPT(GPT2Config(**SIZES | {"vocab_size": 256})), tmp_path, tokenizer)
    (tmp_path / "other").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


# --- the tokenizer ------------------------------------------------------------------------------

CORPUS = (
    "Mia has a red ball. Tom has a red hat, and Tom's hat isn't Mia's hat.\n\n  Mia gave Tom 1234 "
    "balls; he'll lose 123 of them!\tThe town's people own 12 hats.\r\n"
    "米娅有一个红球。汤姆有一顶帽子。红球红球红球帽子帽子 👍👍👍 déjà déjà vu "
    "aaaaaaaaaaaaaaaa    \n\n\n"
)
PATTERNS = {"gpt2": GPT2_PATTERN, "gpt4": GPT4_PATTERN, "gpt4o": GPT4O_PATTERN}
SPECIAL = (END_OF_TEXT, "<|user|>", "<|user|>s")
TOKENIZERS = {
    name: Tokenizer.train(CORPUS, 300, pattern, SPECIAL) for name, pattern in PATTERNS.items()
}
# Letters that every table of Unicode knows: younger ones may be cut differently.
letters = st.one_of(
    st.characters(max_codepoint=0x24F, exclude_categories=["Cs", "Cn"]),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5),
    st.sampled_from("\u3000\u2028\u0301。！？👍🙂👩‍🚀αβγжщдअआקאب²Ⅷ½"),
)
fragments = st.sampled_from([
    *["Mia", " hat", "'s", "'LL", "'ſ", "12345", " ", "  ", "\n", "\r\n", "\t", "a" * 90, "红球"],
    *[*SPECIAL, "<|", "endoftext", "|>", "s", "Ġ", "Ċ", "ĠMia"],
])
texts = st.lists(st.one_of(fragments, st.text(letters))).map("".join)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Each tokenizer as transformers reads it, by each of its classes that should read it."""
    found = {}
    for name, tokenizer in TOKENIZERS.items():
        folder = tmp_path_factory.mktemp(name)
        config = GPT2Config(**SIZES | {"vocab_size": 300})
        save_hugging_face(GPT(config), folder, tokenizer)
        found[name] = [
            AutoTokenizer.from_pretrained(folder),
            PreTrainedTokenizerFast.from_pretrained(folder),
            *([GPT2Tokenizer.from_pretrained(folder)] if name == "gpt2" else []),
        ]
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
@example("")
@example("12345 and 米娅在公园里丢了她的红球 👩‍🚀<|user|>s<|endoftext|>")
@example(" \n \r\n\t 'LL'll")
@given(text=texts)
def test_a_text_has_the_same_ids_in_transformers(name, readers, text):
    tokenizer = TOKENIZERS[name]
    expected = tokenizer.encode(text, allowed_special="all")
    for reader in readers[name]:
        token_ids = reader.encode(text)
        assert token_ids == expected
        assert reader.decode(token_ids) == text


def test_special_tokens_keep_their_ids_and_their_names(readers):
    for name, tokenizer in TOKENIZERS.items():
        for reader in readers[name]:
            assert len(reader) == tokenizer.vocab_size
            assert reader.eos_token == reader.bos_token == END_OF_TEXT
            assert reader.eos_token_id == tokenizer.special_tokens[END_OF_TEXT]
            for special, number in tokenizer.special_tokens.items():
                assert reader.convert_tokens_to_ids(special) == number
            assert reader.model_max_length == 12


@pytest.mark.parametrize("cls", [AutoTokenizer, GPT2Tokenizer])
def test_gaps_between_ids_and_a_missing_end_are_kept(tmp_path, cls):
    config = GPT2Config(**SIZES | {"vocab_size": 300})
    tokenizer = Tokenizer([*BYTES, b"th", b"the"], special_tokens={"<|a|>": 290, "<|b|>": 270})
    save_hugging_face(GPT(config), tmp_path, tokenizer)
    reader = cls.from_pretrained(tmp_path)
    text = "the<|a|> the<|b|>th<|endoftext|>"
    assert reader.encode(text) == tokenizer.encode(text, allowed_special="all")
    assert reader.eos_token is None
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["eos_token_id"] is fields["bos_token_id"] is None


def test_the_two_files_of_gpt2_are_written_as_gpt2_wrote_them(tmp_path):
    tokenizer = TOKENIZERS["gpt2"]
    save_hugging_face(GPT(GPT2Config(**SIZES | {"vocab_size": 300})), tmp_path, tokenizer)
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    assert Tokenizer.from_gpt2_files(vocab, merges, special_tokens=SPECIAL) == tokenizer


@pytest.mark.slow
def test_the_published_vocabularies_have_the_same_ids_in_transformers(tmp_path):
    sample = (
        CORPUS
        + "The quick brown fox; Ünïcödé. 今天天气 123456789 \n\n\t\tdef f(x):\n        return x"
    )
    for name, encoding in published_encodings(["gpt2", "cl100k_base"]).items():
        tokenizer = Tokenizer.from_tiktoken(encoding)
        config = GPT2Config(**SIZES | {"vocab_size": tokenizer.vocab_size})
        save_hugging_face(GPT(config), tmp_path / name, tokenizer)
        reader = AutoTokenizer.from_pretrained(tmp_path / name)
        for text in (sample, sample[::-1], END_OF_TEXT + sample):
            assert reader.encode(text) == encoding.encode(text, allowed_special="all")


def test_a_tokenizer_that_cannot_be_written_down_is_refused(tmp_path):
    model = GPT(GPT2Config(**SIZES | {"vocab_size": 260}))
    large = Tokenizer([*BYTES], special_tokens={END_OF_TEXT: 260})
    with pytest.raises(ValueError, match="the tokenizer has 261 ids, but the model knows only 260"):
        save_hugging_face(model, tmp_path, large)
    with pytest.raises(ValueError, match=r"pattern '\.' may be read otherwise .* GPT2_PATTERN"):
        save_hugging_face(model, tmp_path, Tokenizer([*BYTES], pattern="."))
    alike = Tokenizer([*BYTES, b" a"], special_tokens={"Ġa": 257})
    with pytest.raises(ValueError, match=r"special tokens \['Ġa'\] are written like ordinary ones"):
        save_hugging_face(model, tmp_path, alike)
    never = Tokenizer([*BYTES, b"bc", b"cd", b"ab", b"abcd"])
    with pytest.raises(ValueError, match=r"token 259, b'abcd', is the join of no two tokens"):
        save_hugging_face(model, tmp_path, never)
    assert not list(tmp_path.iterdir())
