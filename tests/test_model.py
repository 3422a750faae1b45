"""What chapter 6 promises about the model."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    GPT2Config as TheirGPT2Config,
)
from transformers import (
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from gptbook.layers import PostNormBlock, TransformerBlock
from gptbook.model import (
    GPT,
    PUBLISHED,
    GPT1Config,
    GPT2Config,
    GPTConfig,
    ModernConfig,
    count_parameters,
    from_weights,
    load,
    save,
)

SMALL = {"vocab_size": 11, "context_length": 8, "d_model": 8, "num_heads": 4, "num_layers": 2}
CONFIGS = {
    "gpt1": GPT1Config(**SMALL),
    "gpt2": GPT2Config(**SMALL),
    "modern": ModernConfig(**SMALL),
    "modern, grouped and untied": ModernConfig(**SMALL, num_kv_heads=2, tied_head=False),
}
each_composition = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())

seeds = st.integers(min_value=0, max_value=2**32 - 1)


@st.composite
def sizes(draw) -> dict[str, int]:
    """Random shapes, small enough to compare in float64."""
    num_heads = draw(st.integers(1, 4))
    return {
        "vocab_size": draw(st.integers(1, 30)),
        "context_length": draw(st.integers(1, 12)),
        "d_model": num_heads * 2 * draw(st.integers(1, 4)),
        "num_heads": num_heads,
        "num_layers": draw(st.integers(1, 3)),
        "d_ff": draw(st.integers(1, 20)),
    }


def random_ids(config: GPTConfig, num_tokens: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    length = config.context_length if num_tokens is None else num_tokens
    return torch.randint(config.vocab_size, (3, length), generator=generator)


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with every weight and constant away from its start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.double().parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.3, generator=generator)
    return model.eval()


# --- the same as everyone's ---------------------------------------------------------------------


def from_gpt2(theirs: dict[str, Tensor], num_layers: int, stem: str = "transformer.") -> dict:
    """Translate weights, or gradients, of GPT-2 into our names; its matrices lie on their side."""
    ours = {"token_embedding": "wte.weight", "positions": "wpe.weight"}
    tensors = {f"{name}.weight": theirs[stem + its] for name, its in ours.items()}
    parts = {
        "attention_norm": "ln_1",
        "attention.query_key_value": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward.expand": "mlp.c_fc",
        "feed_forward.contract": "mlp.c_proj",
    }
    pairs = {f"blocks.{i}.{a}": f"h.{i}.{b}" for i in range(num_layers) for a, b in parts.items()}
    for name, its in (pairs | {"final_norm": "ln_f"}).items():
        if f"{stem}{its}.weight" in theirs:
            weight = theirs[f"{stem}{its}.weight"]
            tensors[f"{name}.weight"] = weight.mT if weight.dim() == 2 else weight
            tensors[f"{name}.bias"] = theirs[f"{stem}{its}.bias"]
    return tensors


def from_gpt1(theirs: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Translate weights, or gradients, of GPT-1 into our names."""
    renamed = {name.replace("tokens_embed", "wte"): tensor for name, tensor in theirs.items()}
    renamed = {name.replace("positions_embed", "wpe"): it for name, it in renamed.items()}
    return from_gpt2(renamed, num_layers)


def from_llama(theirs: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Translate weights, or gradients, of Llama into our names, laying side by side what is one."""
    tensors = {
        "token_embedding.weight": theirs["model.embed_tokens.weight"],
        "final_norm.weight": theirs["model.norm.weight"],
    }
    parts = {
        "attention_norm": ["input_layernorm"],
        "attention.query_key_value": [f"self_attn.{part}_proj" for part in "qkv"],
        "attention.output": ["self_attn.o_proj"],
        "feed_forward_norm": ["post_attention_layernorm"],
        "feed_forward.expand": ["mlp.gate_proj", "mlp.up_proj"],
        "feed_forward.contract": ["mlp.down_proj"],
    }
    for i in range(num_layers):
        for name, its in parts.items():
            weights = [theirs[f"model.layers.{i}.{part}.weight"] for part in its]
            tensors[f"blocks.{i}.{name}.weight"] = torch.cat(weights)
    if "lm_head.weight" in theirs:
        tensors["head.weight"] = theirs["lm_head.weight"]
    return tensors


def assert_same(ours: GPT, theirs: nn.Module, translate, seed: int) -> None:
    """Same logits, loss and gradient of every parameter, once ours has their weights."""
    num_layers = ours.config.num_layers
    shaken(theirs, seed)
    weights = translate(dict(theirs.named_parameters()), num_layers)
    parameters = dict(ours.double().eval().named_parameters())
    assert parameters.keys() == weights.keys()
    for name, parameter in parameters.items():
        parameter.data.copy_(weights[name])
    token_ids, targets = random_ids(ours.config, seed=seed), random_ids(ours.config, seed=seed + 1)
    targets[0, 0] = -100
    logits = theirs(token_ids).logits
    torch.testing.assert_close(ours(token_ids), logits)
    their_loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    our_loss = ours.loss(token_ids, targets)
    torch.testing.assert_close(our_loss, their_loss)
    their_loss.backward()
    our_loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in translate(gradients, num_layers).items():
        torch.testing.assert_close(parameters[name].grad, gradient, msg=lambda m, n=name: n + m)


@settings(max_examples=15)
@given(shape=sizes(), seed=seeds)
def test_logits_and_gradients_are_those_of_gpt2(shape, seed):
    theirs = GPT2LMHeadModel(
        TheirGPT2Config(
            vocab_size=shape["vocab_size"],
            n_positions=shape["context_length"],
            n_embd=shape["d_model"],
            n_head=shape["num_heads"],
            n_layer=shape["num_layers"],
            n_inner=shape["d_ff"],
        )
    )
    assert_same(GPT(GPT2Config(**shape)), theirs, from_gpt2, seed)


@settings(max_examples=8)
@given(shape=sizes(), seed=seeds)
def test_logits_and_gradients_are_those_of_gpt1(shape, seed):
    shape["d_ff"] = 4 * shape["d_model"]
    theirs = OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(
            vocab_size=shape["vocab_size"],
            n_positions=shape["context_length"],
            n_embd=shape["d_model"],
            n_head=shape["num_heads"],
            n_layer=shape["num_layers"],
        )
    )
    assert_same(GPT(GPT1Config(**shape)), theirs, from_gpt1, seed)


@settings(max_examples=15)
@given(
    shape=sizes(),
    tied=st.booleans(),
    theta=st.sampled_from([100.0, 10_000.0, 5e5]),
    eps=st.sampled_from([1e-6, 1e-5, 0.5]),
    data=st.data(),
    seed=seeds,
)
def test_logits_and_gradients_are_those_of_llama(shape, tied, theta, eps, data, seed):
    num_heads = shape["num_heads"]
    divisors = [n for n in range(1, num_heads + 1) if num_heads % n == 0]
    num_kv_heads = data.draw(st.sampled_from(divisors))
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape["vocab_size"],
            max_position_embeddings=shape["context_length"],
            hidden_size=shape["d_model"],
            intermediate_size=shape["d_ff"],
            num_hidden_layers=shape["num_layers"],
            num_attention_heads=num_heads,
            num_key_value_heads=num_kv_heads,
            rms_norm_eps=eps,
            rope_parameters={"rope_type": "default", "rope_theta": theta},
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    make_exact(theirs)
    ours = {"num_kv_heads": num_kv_heads, "rope_theta": theta, "tied_head": tied, "norm_eps": eps}
    assert_same(GPT(ModernConfig(**shape, **ours)), theirs, from_llama, seed)


def make_exact(llama: LlamaForCausalLM) -> None:
    """Keep float64 where transformers' Llama rounds to float32: in its norms and its angles."""

    class ExactNorm(nn.RMSNorm):
        pass

    for module in list(llama.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                setattr(module, name, ExactNorm(child.weight.shape, eps=child.variance_epsilon))
    rotary = llama.model.rotary_emb

    def angles(x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        theta = rotary.config.rope_parameters["rope_theta"]
        width = llama.config.hidden_size // llama.config.num_attention_heads
        frequencies = theta ** (-torch.arange(0, width, 2).double() / width)
        angle = position_ids[..., None].double() * frequencies.repeat(2)
        return angle.cos(), angle.sin()

    rotary.forward = angles


# --- sizes --------------------------------------------------------------------------------------


@given(
    shape=sizes(),
    with_d_ff=st.booleans(),
    composition=st.sampled_from([GPT1Config, GPT2Config, ModernConfig]),
    tied=st.booleans(),
    one_kv_head=st.booleans(),
)
def test_the_formula_counts_what_is_there(shape, with_d_ff, composition, tied, one_kv_head):
    if not with_d_ff:
        del shape["d_ff"]
    modern = {"tied_head": tied, "num_kv_heads": 1 if one_kv_head else None}
    config = composition(**shape, **(modern if composition is ModernConfig else {}))
    with torch.device("meta"):
        model = GPT(config)
    in_all = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(config) == model.num_parameters() == in_all
    counted = config.count()
    assert counted["token embedding"] == model.token_embedding.weight.numel()
    assert counted["norms"] == sum(
        parameter.numel() for name, parameter in model.named_parameters() if "norm" in name
    )
    assert counted["feed-forward"] == sum(
        parameter.numel() for name, parameter in model.named_parameters() if "feed_forward." in name
    )


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("gpt1", 116_534_784),
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
        ("gpt3", 174_604_259_328),
    ],
)
def test_the_published_models_have_the_published_sizes(name, num_parameters):
    with torch.device("meta"):
        model = GPT(PUBLISHED[name])
    assert count_parameters(PUBLISHED[name]) == model.num_parameters() == num_parameters


@pytest.mark.parametrize("name", ["gpt1", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_the_published_shapes_are_those_of_transformers(name):
    config = PUBLISHED[name]
    of, settings = (
        (OpenAIGPTLMHeadModel, OpenAIGPTConfig)
        if name == "gpt1"
        else (GPT2LMHeadModel, TheirGPT2Config)
    )
    with torch.device("meta"):
        theirs = of(
            settings(n_embd=config.d_model, n_head=config.num_heads, n_layer=config.num_layers)
        )
    assert theirs.num_parameters() == count_parameters(config)


def test_a_composition_builds_what_it_says():
    gpt1, gpt2, modern = (GPT(CONFIGS[name]) for name in ("gpt1", "gpt2", "modern"))
    assert {type(block) for block in gpt1.blocks} == {PostNormBlock}
    assert {type(block) for block in gpt2.blocks} == {TransformerBlock}
    assert modern.positions is None
    assert len({id(block.attention.rotary) for block in modern.blocks}) == 1
    assert modern.head.weight is modern.token_embedding.weight
    names = [name for name, _ in modern.named_parameters()]
    assert not any("bias" in name or "head" in name or "position" in name for name in names)


def test_another_composition_is_another_subclass():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class WideFirst(GPT2Config):
        def make_blocks(self):
            wider = dataclasses.replace(self, d_ff=64)
            return [GPT2Config.make_blocks(wider)[0], *GPT2Config.make_blocks(self)[1:]]

    model = GPT(WideFirst(**SMALL))
    assert [block.feed_forward.expand.out_features for block in model.blocks] == [64, 32]
    with pytest.raises(ValueError, match="COMPOSITIONS"):
        save(model, "nowhere")


# --- beginnings ---------------------------------------------------------------------------------


def test_weights_start_as_gpt2_s():
    torch.manual_seed(0)
    shape = {**SMALL, "d_model": 256, "vocab_size": 500, "context_length": 200, "num_layers": 8}
    model = GPT(GPT2Config(**shape))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            adds = "output" in name or "contract" in name
            std = 0.02 / math.sqrt(16) if adds else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.03), name
            assert parameter.mean().item() == pytest.approx(0, abs=0.0005), name


@each_composition
def test_the_seed_decides_the_weights(config):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in GPT(config).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@each_composition
def test_untrained_it_is_as_good_as_guessing(config):
    torch.manual_seed(0)
    config = dataclasses.replace(config, vocab_size=1_000, d_model=64, context_length=100)
    model = GPT(config)
    loss = model.loss(random_ids(config), random_ids(config, seed=1)).item()
    assert loss == pytest.approx(math.log(1_000), abs=0.1)


@each_composition
def test_it_learns_one_batch_by_heart(config):
    torch.manual_seed(0)
    model = GPT(dataclasses.replace(config, d_model=32))
    token_ids, targets = random_ids(config), random_ids(config, seed=1)
    token_ids[:, 0] = torch.arange(3)  # or the first target could not be told apart
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model.loss(token_ids, targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert torch.equal(model(token_ids).argmax(-1), targets)


# --- what it sees -------------------------------------------------------------------------------


@each_composition
def test_it_never_sees_the_future(config):
    model = shaken(GPT(config))
    token_ids = random_ids(config)
    embedded = []
    model.token_embedding.register_forward_hook(lambda _, __, out: embedded.append(out) or out)
    logits = model(token_ids)
    for position in range(config.context_length):
        (gradient,) = torch.autograd.grad(
            logits[:, position].square().sum(), embedded[0], retain_graph=True
        )
        reached = gradient.abs().sum(-1) > 0
        assert reached[:, : position + 1].all()
        assert not reached[:, position + 1 :].any()


@each_composition
@given(seed=seeds, position=st.integers(1, 7))
def test_another_future_changes_no_score_of_the_past(config, seed, position):
    model = shaken(GPT(config), seed)
    token_ids = random_ids(config, seed=seed)
    other = token_ids.clone()
    other[:, position:] = random_ids(config, seed=seed + 1)[:, position:]
    torch.testing.assert_close(model(token_ids)[:, :position], model(other)[:, :position])


@each_composition
@given(cuts=st.sets(st.integers(1, 7)), seed=seeds)
def test_with_caches_the_parts_give_what_the_whole_gives(config, cuts, seed):
    model = shaken(GPT(config), seed)
    token_ids = random_ids(config, seed=seed)
    caches = model.new_caches(3)
    with torch.no_grad():
        parts = [model(part, caches) for part in token_ids.tensor_split(sorted(cuts), dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(token_ids))
    assert [len(cache) for cache in caches] == [8, 8]


@each_composition
def test_greedy_decoding_with_caches_writes_what_it_writes_without(config):
    torch.manual_seed(0)
    config = dataclasses.replace(config, context_length=40)
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data *= 5  # an untrained model would repeat one token
    plain = cached = random_ids(config, num_tokens=4)
    caches = model.new_caches(3)
    with torch.no_grad():
        scores = model(cached, caches)
        for _ in range(36):
            plain = torch.cat([plain, model(plain)[:, -1:].argmax(-1)], dim=1)
            cached = torch.cat([cached, scores[:, -1:].argmax(-1)], dim=1)
            scores = model(cached[:, -1:], caches) if len(caches[0]) < 40 else scores
    assert torch.equal(plain, cached)
    assert len(plain.unique()) > 3


@each_composition
def test_hidden_and_head_make_the_logits(config):
    model = shaken(GPT(config))
    token_ids = random_ids(config)
    hidden = model.hidden(token_ids)
    assert hidden.shape == (3, 8, 8)
    torch.testing.assert_close(model.logits(hidden), model(token_ids))
    torch.testing.assert_close(hidden @ model.head.weight.T, model(token_ids))


@each_composition
@given(seed=seeds, ignored=st.sets(st.integers(0, 7), max_size=7))
def test_the_loss_is_the_mean_over_what_is_to_be_predicted(config, seed, ignored):
    model = shaken(GPT(config), seed)
    token_ids, targets = random_ids(config, seed=seed), random_ids(config, seed=seed + 1)
    counted = [position for position in range(8) if position not in ignored]
    log_probabilities = model(token_ids).log_softmax(-1)
    picked = log_probabilities.gather(-1, targets[..., None])[..., 0]
    for ignore_index in (-100, -1):
        hidden_targets = targets.clone()
        hidden_targets[:, list(ignored)] = ignore_index
        loss = model.loss(token_ids, hidden_targets, ignore_index)
        torch.testing.assert_close(loss, -picked[:, counted].mean())


@each_composition
def test_dropout_acts_in_training_only_and_on_all_that_is_embedded(config):
    torch.manual_seed(0)
    plain = GPT(config)
    dropping = GPT(dataclasses.replace(config, dropout=0.5))
    dropping.load_state_dict(plain.state_dict())
    token_ids = random_ids(config)
    torch.testing.assert_close(dropping.eval()(token_ids), plain(token_ids))
    streams = []
    dropping.train().blocks[0].register_forward_pre_hook(lambda _, args: streams.append(args[0]))
    dropping(token_ids)
    assert (streams[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.15)
    assert all(block.dropout == block.attention.dropout == 0.5 for block in dropping.blocks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@each_composition
def test_it_runs_where_it_is_sent(config):
    model = GPT(config).cuda().bfloat16()
    token_ids = random_ids(config).cuda()
    model.loss(token_ids, token_ids).backward()
    with torch.no_grad():
        logits = model(token_ids, model.new_caches(3))
    assert logits.device.type == "cuda"
    assert logits.isfinite().all()


@each_composition
def test_it_runs_in_bfloat16(config):
    torch.manual_seed(0)
    exact = GPT(config)
    rounded = GPT(config).bfloat16()
    rounded.load_state_dict(exact.state_dict())
    token_ids = random_ids(config)
    torch.testing.assert_close(rounded(token_ids).float(), exact(token_ids), atol=0.02, rtol=0.05)
    with torch.no_grad():
        assert rounded(token_ids, rounded.new_caches(3)).dtype == torch.bfloat16


# --- saving -------------------------------------------------------------------------------------


@each_composition
def test_what_was_saved_is_loaded_to_the_last_bit(config, tmp_path):
    torch.manual_seed(0)
    model = GPT(config)
    save(model, tmp_path / "new" / "folder")
    loaded = load(tmp_path / "new" / "folder")
    assert loaded.config == config
    assert not loaded.training
    ours, theirs = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    tied = loaded.head.weight is loaded.token_embedding.weight
    assert tied is config.has_tied_head
    loaded.train().loss(random_ids(config), random_ids(config)).backward()
    written = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {"config.json", "model.safetensors"}


def test_whoever_may_read_other_new_files_may_read_a_saved_model(tmp_path):
    config = GPT2Config(vocab_size=5, context_length=4, d_model=8, num_heads=2, num_layers=1)
    save(GPT(config), tmp_path)
    (tmp_path / "other").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@each_composition
def test_half_the_bytes_can_be_kept(config, tmp_path):
    torch.manual_seed(0)
    model = GPT(config)
    save(model, tmp_path / "full")
    save(model, tmp_path / "half", dtype=torch.float16)
    full, half = load(tmp_path / "full"), load(tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert sum(tensor.numel() for tensor in stored.values()) == count_parameters(config)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    for name, parameter in half.named_parameters():
        torch.testing.assert_close(parameter, full.get_parameter(name).half().float())
    assert next(model.parameters()).dtype == torch.float32  # the model itself stays as it was


def test_a_model_is_loaded_in_the_dtype_that_is_asked_for(tmp_path):
    model = shaken(GPT(CONFIGS["gpt2"]))
    save(model, tmp_path)
    loaded = load(tmp_path, dtype=torch.float64)
    assert torch.equal(loaded(random_ids(model.config)), model(random_ids(model.config)))


def test_the_config_can_be_read_by_people(tmp_path):
    save(GPT(CONFIGS["modern"]), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["composition"] == "ModernConfig"
    assert content["d_model"] == 8
    assert content["tied_head"] is True


def test_a_config_from_before_a_field_was_there_is_read(tmp_path):
    """The models that come with the book were saved before norms could be told their epsilon."""
    save(GPT(CONFIGS["modern"]), tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    assert '"norm_eps": 1e-06' in config.read_text()
    fields = json.loads(config.read_text())
    del fields["norm_eps"]
    config.write_text(json.dumps(fields))
    save_file(load_file(weights), weights, metadata={"config": config.read_text()})
    assert load(tmp_path).config == CONFIGS["modern"]


def test_a_pickle_under_another_name_is_refused(tmp_path):
    save(GPT(CONFIGS["gpt2"]), tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is a pickle under another name"):
        load(tmp_path)


def test_weights_of_whole_numbers_are_refused():
    model = GPT(CONFIGS["gpt2"])
    tensors = dict(model.named_parameters()) | {"final_norm.bias": torch.ones(8, dtype=torch.int8)}
    with pytest.raises(ValueError, match=r"^here does not .*\nfinal_norm\.bias holds torch\.int8"):
        from_weights(model.config, tensors, source="here")


def test_weights_that_do_not_fit_are_listed(tmp_path):
    save(GPT(CONFIGS["gpt2"]), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["final_norm.bias"]
    tensors["surplus"] = torch.zeros(1)
    tensors["positions.weight"] = torch.zeros(9, 8)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="does not fit") as caught:
        load(tmp_path)
    assert str(caught.value).splitlines()[1:] == [
        "final_norm.bias is missing",
        "surplus belongs to no part",
        "positions.weight has shape (9, 8), not (8, 8)",
    ]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_refused(tmp_path, kept):
    save(GPT(CONFIGS["gpt2"]), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"model.safetensors is damaged: .*; copy or save it again"
    ):
        load(tmp_path)


def test_two_files_of_two_saves_are_refused(tmp_path):
    save(GPT(CONFIGS["modern"]), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_heads": 4', '"num_heads": 2'))
    with pytest.raises(ValueError, match="are not of one save; save again"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ('{"composition": "GPT2Config"', "is damaged"),
        ("[]", "names the composition None"),
        ('{"composition": "GPT5Config"}', "'GPT5Config', but this gptbook knows GPT1Config, "),
        ('{"composition": "GPT2Config", "depth": 3}', "describes no GPT2Config: "),
        ('{"composition": "GPT2Config"}', "describes no GPT2Config: .*'vocab_size'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(tmp_path, text, message):
    save(GPT(CONFIGS["gpt2"]), tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load(tmp_path)
    save(GPT(CONFIGS["gpt2"]), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load(tmp_path)


def test_an_interrupted_save_leaves_the_old_model(tmp_path, monkeypatch):
    old, new = GPT(CONFIGS["gpt2"]), GPT(CONFIGS["modern"])
    save(old, tmp_path)

    def run_out_of_disk(tensors, path, metadata):
        path.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr("gptbook.model.save_file", run_out_of_disk)
    with pytest.raises(OSError, match="No space left"):
        save(new, tmp_path)
    assert torch.equal(load(tmp_path)(random_ids(old.config)), old(random_ids(old.config)))
    assert len(list(tmp_path.iterdir())) == 2


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size must be at least 1, not 0"),
        ({"num_layers": -1}, ValueError, "num_layers must be at least 1, not -1"),
        ({"context_length": 1.5}, TypeError, "context_length must be a whole number, not 1.5"),
        ({"d_ff": 0}, ValueError, "d_ff must be at least 1, not 0"),
        ({"d_model": 9}, ValueError, "d_model=9 is not a multiple of num_heads=4; the next one"),
        ({"dropout": 1.0}, ValueError, r"dropout is a probability in \[0, 1\), not 1.0"),
        ({"num_kv_heads": 3}, ValueError, r"cannot share num_kv_heads=3 evenly; choose one of"),
        ({"d_model": 12}, ValueError, "head_dim=3 is odd"),
        ({"rope_theta": 0.5}, ValueError, "theta must be above 1"),
        ({"norm_eps": 0.0}, ValueError, "keeps a norm from dividing by zero, so it cannot be 0.0"),
        ({"norm_eps": math.inf}, ValueError, "cannot be inf"),
        ({"norm_eps": "small"}, TypeError, "norm_eps must be a number such as 1e-6, not 'small'"),
        ({"norm_eps": True}, TypeError, "norm_eps must be a number such as 1e-6, not True"),
    ],
)
def test_a_config_says_which_size_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        ModernConfig(**{**SMALL, **change})


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("token_ids", "error", "message"),
    [
        ([[1, 2]], TypeError, "must be a tensor of whole numbers, not list"),
        (torch.zeros(1, 3), TypeError, r"not torch.float32; use torch.tensor\(\[tokenizer.encode"),
        (torch.zeros(3, dtype=torch.long), ValueError, r"batch axis with token_ids.unsqueeze\(0\)"),
        (torch.zeros(1, 0, dtype=torch.long), ValueError, r"shape \(1, 0\) came"),
        (
            torch.zeros(1, 9, dtype=torch.long),
            ValueError,
            r"9 tokens do not fit in context_length=8; keep the last ones with token_ids\[:, -8:\]",
        ),
        (torch.tensor([[3, 11]]), ValueError, "token_ids run from 3 to 11, but .* knows 0 to 10"),
        (torch.tensor([[3, -1]]), ValueError, "use the tokenizer that it was trained with"),
    ],
)
@each_composition
def test_the_model_says_what_it_reads(config, token_ids, error, message):
    with pytest.raises(error, match=message):
        GPT(config)(token_ids)


@pytest.mark.usefixtures("without_shape_checks")
@each_composition
def test_the_model_says_what_its_caches_must_be(config):
    model, token_ids = GPT(config), random_ids(config, num_tokens=5)
    with torch.no_grad():
        caches = model.new_caches(3)
        with pytest.raises(ValueError, match="1 caches with"):
            model(token_ids, caches[:1])
        model(token_ids, caches)
        with pytest.raises(ValueError, match=r"10 tokens do not fit .* start with new caches"):
            model(token_ids, caches)
        caches[1].truncate(3)
        with pytest.raises(ValueError, match=r"2 caches with \[3, 5\] positions came"):
            model(token_ids, caches)
        with pytest.raises(ValueError, match=r"0 caches with \[\] positions"):
            model(token_ids, [])


@pytest.mark.usefixtures("without_shape_checks")
def test_the_loss_says_what_its_targets_must_be():
    model = GPT(CONFIGS["gpt2"])
    message = r"targets of shape \(3, 4\) came for token_ids of shape \(3, 5\); give each token"
    with pytest.raises(ValueError, match=message):
        model.loss(torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 4, dtype=torch.long))


def test_int32_ids_read_like_int64():
    model = shaken(GPT(CONFIGS["gpt2"]))
    token_ids = random_ids(model.config)
    torch.testing.assert_close(model(token_ids.int()), model(token_ids))
