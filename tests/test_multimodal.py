"""What chapter 17 promises: pictures whose words are known, eyes for a GPT, and words for them."""

import random
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTModel

from gptbook.evaluation import IGNORED
from gptbook.generation import Sampling, generate
from gptbook.littletown.pictures import (
    COLORS,
    FORMS,
    KINDS,
    NEVER_PAIRED,
    PEOPLE,
    PLACES,
    SIZE,
    SPLITS,
    Group,
    Scene,
    Shapes,
    paint,
    pictures,
)
from gptbook.littletown.wordings import recognize, words_of
from gptbook.littletown.words import NAMES
from gptbook.littletown.words import PLACES as TOWN_PLACES
from gptbook.model import GPT, GPT2Config, GPTConfig, ModernConfig
from gptbook.multimodal import (
    PatchEncoder,
    PictureGPT,
    cut_patches,
    describe,
    encode_view,
    load,
    save,
    view_batch,
)
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import TrainingConfig, train
from tests.test_model import from_llama, make_exact

SIZES = {"vocab_size": 60, "context_length": 24, "d_model": 16, "num_heads": 4, "num_layers": 2}
CONFIGS: list[GPTConfig] = [GPT2Config(**SIZES), ModernConfig(**SIZES, num_kv_heads=2)]
both = pytest.mark.parametrize("config", CONFIGS, ids=["gpt2", "modern"])


def a_model(config: GPTConfig = CONFIGS[1], seed: int = 0) -> PictureGPT:
    """Make a model for pictures of 12 by 12 pixels, whose numbers are large enough to matter."""
    torch.manual_seed(seed)
    encoder = PatchEncoder(size=12, patch_size=4, d_model=8, num_heads=2, num_layers=2)
    model = PictureGPT(GPT(config), encoder).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def some_pictures(num: int = 2, side: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, side, side, generator=generator, dtype=torch.float64)


def some_text(num: int = 2, length: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(60, (num, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes and an end of text."""
    return Tokenizer.train("a", 257, special_tokens=[END_OF_TEXT])


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "split"), [*product(KINDS, SPLITS)])
def test_a_seed_draws_the_same_pictures_again(kind, split):
    first, again, other = (list(islice(pictures(kind, split, s), 20)) for s in (1, 1, 2))
    assert first == again != other
    assert {picture.split for picture in first} == {split}
    assert torch.equal(first[0].paint(5), again[0].paint(5))
    assert not torch.equal(first[0].paint(5), first[0].paint(6))


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_things_are_said_of_what_looks_alike(kind):
    """One caption a picture, and one picture a caption: what is exact can be counted."""
    drawn = {next(pictures(kind, split, seed)) for split in SPLITS for seed in range(150)}
    assert len({picture.caption for picture in drawn}) == len(drawn) > 200


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_from_training_is_kept_by_the_caption_alone(kind):
    drawn = list(islice(pictures(kind, "seen"), 400))
    assert not any(picture.pairs & NEVER_PAIRED for picture in drawn)
    seen = {pair for picture in drawn for pair in picture.pairs}
    for picture in islice(pictures(kind, "new"), 200):
        assert picture.pairs <= seen  # each color came with each form
    assert not {p.caption for p in drawn} & {p.caption for p in islice(pictures(kind, "new"), 400)}
    every = [KINDS[kind](random.Random(i)).split for i in range(2_000)]
    kept = every.count("new") / (every.count("new") + every.count("seen"))
    assert 0.15 < kept < 0.25


def test_pairs_kept_from_training_leave_every_color_and_every_form_to_be_seen():
    colors, forms = zip(*NEVER_PAIRED, strict=True)
    assert len(set(colors)) == len(colors) < len(COLORS)
    assert sorted(forms) == sorted(FORMS)


def test_the_clothes_that_are_always_worn_are_none_of_the_pairs_kept_from_training():
    assert not {(looks.color, looks.clothes) for looks in PEOPLE.values()} & NEVER_PAIRED


def test_a_scene_is_told_in_sentences_of_the_town():
    """Its people, places and pronouns are the town's, and so are the questions."""
    assert {*PEOPLE} <= {name.english for name in NAMES}
    assert {*PLACES} <= {place.at.english for place in sum(TOWN_PLACES, ())}
    for name in NAMES:
        if name.english in PEOPLE:
            assert PEOPLE[name.english].pronoun.lower() == name.pronoun
    for picture in islice(pictures("scene", "seen"), 30):
        found = recognize(words_of(picture.caption))
        assert found is not None
        assert found[0].kind.name == "show"
        for question, answer in picture.questions:
            said = recognize(words_of(question[0].lower() + question[1:]))
            assert said is not None
            assert said[0].kind.group == "question"
            first = answer if answer.split()[0] in PEOPLE else answer[0].lower() + answer[1:]
            told = recognize(words_of(first))
            assert told is not None
            assert told[0].kind.name in said[0].kind.answers


def test_a_sheet_can_be_read_off_what_is_drawn():
    """The line says which sides there are; who looks has no choice what to say."""
    for seed, sheet in enumerate(islice(pictures("shapes", "seen"), 200)):
        (line, *_), *marks = sheet.marks(random.Random(seed))
        sides = {"upright": ("left", "right"), "level": ("top", "bottom")}[line]
        groups = []
        for number, side in enumerate(sides):
            there = [
                (form, next(name for name in COLORS if COLORS[name] == color))
                for form, color, x, y, _ in marks
                if ((x, y)[line == "level"] > SIZE / 2) == bool(number)
            ]
            if there:
                [(form, color)] = {*there}
                groups.append(Group(len(there), color, form, side))
        assert Shapes(tuple(groups)) == sheet
        painted = sheet.paint(seed)
        assert (painted[:, 1, SIZE // 2] < 0.5).all() == (line == "upright")
        assert (painted[:, SIZE // 2, 1] < 0.5).all() == (line == "level")


def test_the_answers_about_a_sheet_follow_from_it():
    sheet = Shapes((Group(2, "red", "ring", "left"), Group(1, "blue", "ring", "right")))
    assert dict(sheet.questions) == {
        "What is on the left?": "Two red rings.",
        "What is on the right?": "A blue ring.",
        "How many rings are there?": "Three.",
    }
    single = Shapes((Group(1, "orange", "cross", "top"),))
    assert single.caption == "At the top is an orange cross."
    assert ("What color is the cross?", "It is orange.") in single.questions
    assert ("How many crosses are there?", "One.") in single.questions


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("color", ["red", "pink"])
def test_a_form_is_painted_in_its_color_where_it_is_and_nowhere_else(form, color):
    canvas = torch.ones(3, SIZE, SIZE)
    paint(canvas, form, COLORS[color], 30.0, 14.0, 6.0)
    inked = (canvas < 0.999).any(dim=0)
    rows, columns = inked.nonzero().T
    assert 14 - 8 <= rows.min() <= 14 - 4 < 14 + 4 <= rows.max() <= 14 + 8
    assert 30 - 8 <= columns.min() <= 30 - 4 < 30 + 4 <= columns.max() <= 30 + 8
    plain = torch.tensor(COLORS[color])[:, None]
    painted = canvas[:, inked]
    share = (painted - plain).abs().amax(dim=0).lt(0.01).float().mean()
    assert share > 0.25  # the rest is edge
    assert (canvas >= 0).all()
    assert (canvas <= 1).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("x", "y", "radius"), [(30, 14, 6), (3, 60, 8), (32, 20, 80), (90, 5, 9)])
def test_a_form_reaches_to_the_last_pixel_that_its_edge_touches(form, x, y, radius):
    """Also one that lies in part, or as a whole, outside of the picture."""
    middles = torch.arange(SIZE) + 0.5
    away = FORMS[form]((middles[None] - x) / radius, (middles[:, None] - y) / radius) * radius
    canvas = torch.ones(3, SIZE, SIZE)
    paint(canvas, form, (0.0, 0.0, 0.0), float(x), float(y), float(radius))
    clear = (away - 1.5).abs() > 1e-3  # elsewhere rounding decides
    assert torch.equal((canvas[0] < 1)[clear], (away < 1.5)[clear])


def test_no_two_forms_cover_the_same_pixels():
    covers = []
    for form in FORMS:
        canvas = torch.ones(3, SIZE, SIZE)
        paint(canvas, form, (0.0, 0.0, 0.0), 24.0, 24.0, 6.0)
        covers.append(canvas[0] < 0.5)
    for i, j in product(range(len(covers)), repeat=2):
        assert i == j or (covers[i] ^ covers[j]).sum() > 8


@settings(max_examples=20)
@given(number=st.integers(1, 3), side=st.sampled_from(["left", "right", "top", "bottom"]))
def test_a_group_stays_on_its_side(number, side):
    for seed in range(5):
        sheet = Shapes((Group(number, "black", "square", side),)).paint(seed)
        inked = (sheet < 0.9).any(dim=0)
        middle = slice(SIZE // 2 - 2, SIZE // 2 + 2)
        (inked[:, middle] if side in ("left", "right") else inked[middle]).fill_(False)  # the line
        halves = {
            "left": inked[:, :32],
            "right": inked[:, 32:],
            "top": inked[:32],
            "bottom": inked[32:],
        }
        assert halves[side].sum() == inked.sum() > 0


def test_a_holder_is_nearer_to_the_thing_than_the_other():
    for seed in range(40):
        scene = Scene("Mia", "Tom", "pink", "ball", "in the park")
        marks = scene.marks(random.Random(seed))
        at = {form: x for form, color, x, *_ in marks if color == COLORS["pink"]}
        mia = next(
            x for form, color, x, *_ in marks if (form, color) == ("triangle", COLORS["red"])
        )
        tom = next(
            x for form, color, x, *_ in marks if (form, color) == ("square", COLORS["green"])
        )
        assert abs(at["circle"] - mia) < abs(at["circle"] - tom) - 4


def test_unknown_kinds_and_parts_are_answered_with_the_known_ones():
    with pytest.raises(
        ValueError, match="kind 'photo' and part 'new'; choose one of shapes, scene"
    ):
        next(pictures("photo", "new"))
    with pytest.raises(ValueError, match=r"part 'test'.* seen, new, never paired"):
        next(pictures("scene", "test"))


# --- looking ------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(num=st.integers(1, 4), size=st.integers(1, 5), batch=st.integers(1, 3))
def test_patches_hold_every_number_once_in_the_order_of_a_convolution(num, size, batch):
    x = torch.rand(batch, 3, num * size, num * size, dtype=torch.float64)
    patches = cut_patches(x, size)
    assert patches.shape == (batch, num**2, 3 * size**2)
    assert torch.equal(patches.flatten(1).sort().values, x.flatten(1).sort().values)
    kernel = torch.rand(7, 3, size, size, dtype=torch.float64)
    convolved = nn.functional.conv2d(x, kernel, stride=size).flatten(2).mT
    torch.testing.assert_close(patches @ kernel.flatten(1).mT, convolved)


@settings(max_examples=10)
@given(num_heads=st.integers(1, 3), num_layers=st.integers(1, 3), seed=st.integers(0, 99))
def test_vectors_and_gradients_are_those_of_transformers_vit(num_heads, num_layers, seed):
    """From the pixels to the last norm, without the class token that theirs adds."""
    torch.manual_seed(seed)
    width = 4 * num_heads
    encoder = PatchEncoder(
        size=12, patch_size=4, d_model=width, num_heads=num_heads, num_layers=num_layers
    ).double()
    theirs = ViTModel(
        ViTConfig(
            hidden_size=width,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * width,
            image_size=12,
            patch_size=4,
            layer_norm_eps=1e-5,
        ),
        add_pooling_layer=False,
    )
    theirs = theirs.double().eval()
    shared = [(encoder.embed, [theirs.embeddings.patch_embeddings.projection])]
    shared.append((encoder.final_norm, [theirs.layernorm]))
    for block, layer in zip(encoder.blocks, theirs.layers, strict=True):
        shared += [
            (block.attention_norm, [layer.layernorm_before]),
            (block.attention.query, [layer.attention.q_proj]),
            (block.attention.key_value, [layer.attention.k_proj, layer.attention.v_proj]),
            (block.attention.output, [layer.attention.o_proj]),
            (block.feed_forward_norm, [layer.layernorm_after]),
            (block.feed_forward.expand, [layer.mlp.fc1]),
            (block.feed_forward.contract, [layer.mlp.fc2]),
        ]
    with torch.no_grad():
        for ours, parts in shared:
            for name in ("weight", "bias"):
                whole = getattr(ours, name).normal_(std=0.5)
                for part, piece in zip(parts, whole.chunk(len(parts)), strict=True):
                    getattr(part, name).copy_(piece.view_as(getattr(part, name)))
        encoder.positions.normal_()
        theirs.embeddings.position_embeddings[0, 1:] = encoder.positions
    x = some_pictures(seed=seed)
    expected = theirs.embeddings(2 * x - 1)[:, 1:]
    for layer in theirs.layers:
        expected = layer(expected, None)
    expected = theirs.layernorm(expected)
    found = encoder(x)
    torch.testing.assert_close(found, expected)
    for vectors in (found, expected):
        vectors.sin().sum().backward()
    for ours, parts in shared:
        for name in ("weight", "bias"):
            gradient = torch.cat([getattr(part, name).grad for part in parts])
            torch.testing.assert_close(
                getattr(ours, name).grad, gradient.view_as(getattr(ours, name))
            )
    torch.testing.assert_close(
        encoder.positions.grad, theirs.embeddings.position_embeddings.grad[0, 1:]
    )


def test_every_patch_hears_of_every_pixel():
    model = a_model()
    x = some_pictures(1)
    before = model.encoder(x)
    x[0, 1, 11, 11] = 1 - x[0, 1, 11, 11]
    assert (model.encoder(x) - before).abs().amax(dim=-1).min() > 1e-6


def test_patches_know_where_they_are():
    """The same patch everywhere, and yet no two vectors are the same."""
    vectors = a_model().encoder(torch.full((1, 3, 12, 12), 0.5, dtype=torch.float64))[0]
    assert torch.cdist(vectors, vectors).fill_diagonal_(1).min() > 1e-3


# --- looking and reading ------------------------------------------------------------------------


@both
def test_a_patch_that_is_a_word_s_vector_is_read_as_that_word(config):
    """The GPT makes no difference between what it sees and what it reads."""
    model = a_model(config)
    words, text = some_text(length=9, seed=1), some_text()
    model.see = lambda pictures: model.gpt.token_embedding(words)
    expected = model.gpt(torch.cat([words, text], dim=1))[:, 9:]
    torch.testing.assert_close(model(some_pictures(), text), expected)


def test_logits_are_those_of_llama_that_is_given_the_same_vectors():
    """What the projection puts out, before the text: so LLaVA is composed."""
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            max_position_embeddings=24,
            hidden_size=16,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).double()
    make_exact(theirs)
    theirs = theirs.double().eval()
    model = a_model(ModernConfig(**SIZES, num_kv_heads=2, d_ff=12))
    weights = from_llama(dict(theirs.named_parameters()), 2)
    for name, parameter in model.gpt.named_parameters():
        parameter.data.copy_(weights[name])
    x, text = some_pictures(), some_text()
    seen = model.projection(model.encoder(x))
    vectors = torch.cat([seen, theirs.get_input_embeddings()(text)], dim=1)
    expected = theirs(inputs_embeds=vectors).logits[:, 9:]
    torch.testing.assert_close(model(x, text), expected)


@both
def test_words_see_the_whole_picture_and_only_their_own_past(config):
    model = a_model(config)
    x, text = some_pictures(1), some_text(1)
    before = model(x, text)
    later = text.clone()
    later[0, 3] = (text[0, 3] + 1) % 60
    changed = (model(x, later) - before).abs().amax(dim=-1)[0] > 1e-9
    assert changed.tolist() == [False] * 3 + [True] * 2
    x[0, 2, 11, 11] = 1 - x[0, 2, 11, 11]
    assert ((model(x, text) - before).abs().amax(dim=-1) > 1e-9).all()


@both
def test_the_loss_is_that_of_the_logits_where_something_is_to_be_said(config):
    model = a_model(config)
    pixels = torch.randint(256, (2, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    text, targets = some_text(), some_text(seed=1)
    targets[0, :3] = IGNORED
    logits = model(pixels.double() / 255, text)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    model.float()  # as pixels are divided
    rows = torch.cat([pixels.flatten(1), text], dim=1)
    found = model.loss(rows, targets)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


def test_looks_are_the_attention_that_the_model_pays():
    """With what goes to the text, each token's weights sum to 1; hiding a patch changes nothing."""
    model = a_model()
    x, text = some_pictures(), some_text()
    looks = model.looks(x, text)
    assert looks.shape == (2, 2, 4, 5, 9)
    assert ((looks > 0) & (looks < 1)).all()
    stream, block = model.join(x, text), model.gpt.blocks[0]
    weights = block.attention.weights(block.attention_norm(stream))
    torch.testing.assert_close(looks[0], weights[:, :, 9:, :9])
    own = weights[:, :, 9:, 9:].sum(dim=-1)
    torch.testing.assert_close(looks[0].sum(dim=-1) + own, torch.ones_like(own))


# --- speaking -----------------------------------------------------------------------------------


@both
def test_generation_with_caches_says_what_reading_all_again_would(config):
    model = a_model(config)
    x = some_pictures(3)
    prompts = [[1, 2, 3], [4], [5, 6]]
    said = generate(model.viewing(x), prompts, max_new_tokens=6)
    for picture, prompt, new in zip(x, prompts, said, strict=True):
        text = list(prompt)
        for _ in range(6):
            text.append(int(model(picture[None], torch.tensor([text]))[0, -1].argmax()))
        assert text == prompt + new


@both
@torch.no_grad()
def test_a_text_that_is_taken_back_leaves_the_picture_in_the_cache(config):
    model = a_model(config)
    x, text = some_pictures(), some_text(length=6)
    viewing = model.viewing(x)
    caches = viewing.new_caches(2, 10)
    viewing(text.flip(1), caches)
    assert [len(cache) for cache in caches] == [6, 6]
    for cache in caches:
        cache.truncate(0)
    torch.testing.assert_close(viewing(text, caches), model(x, text))


def test_rows_keep_their_pictures_when_others_are_at_their_end():
    """A row that stops early leaves the batch; what the others see must not move up."""
    model = a_model(seed=3)
    x = some_pictures(6, seed=2)
    whole = generate(model.viewing(x), [[1]] * 6, max_new_tokens=8)
    stop = whole[0][0]
    cut = generate(model.viewing(x), [[1]] * 6, max_new_tokens=8, stop=[stop])
    for row, short in zip(whole, cut, strict=True):
        assert short == (row[: row.index(stop) + 1] if stop in row else row)
    assert {len(row) for row in cut} != {8}
    drawn = generate(model.viewing(x), [[1]] * 6, max_new_tokens=8, sampling=Sampling(), seed=1)
    alone = generate(model.viewing(x[2:3]), [[1]], max_new_tokens=8, sampling=Sampling(), seed=3)
    assert drawn[2] == alone[0]


def test_a_question_is_not_learned_and_its_answer_is(tokenizer):
    row = encode_view(tokenizer, "It is red.", "What color?")
    assert tokenizer.decode(row.token_ids) == f"{END_OF_TEXT}What color? It is red.{END_OF_TEXT}"
    learned = [i for i, is_learned in zip(*row, strict=True) if is_learned]
    assert tokenizer.decode(learned) == f" It is red.{END_OF_TEXT}"
    caption = encode_view(tokenizer, "A ring.")
    assert tokenizer.decode(caption.token_ids) == f"{END_OF_TEXT}A ring.{END_OF_TEXT}"
    assert caption.is_learned == [False] + [True] * 8


def test_a_batch_holds_the_pixels_and_then_the_tokens(tokenizer):
    x = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 12, 12)[None]
    rows, targets = view_batch(x, [encode_view(tokenizer, "ab", "?")])
    assert rows.shape == (1, 3 * 144 + 5)
    assert rows[0, [0, 143, 144, 288, 431]].tolist() == [0, 0, 128, 255, 255]
    assert tokenizer.decode(rows[0, 432:].tolist()) == f"{END_OF_TEXT}? ab"
    assert targets.tolist() == [[IGNORED, 32, 97, 98, 256]]


def test_a_model_learns_what_it_is_shown(tokenizer):
    """Four pictures by heart, with their captions and a question each; before, it is guessing."""
    torch.manual_seed(0)
    config = ModernConfig(vocab_size=257, context_length=80, d_model=32, num_heads=4, num_layers=2)
    encoder = PatchEncoder(size=12, patch_size=4, d_model=32, num_heads=4, num_layers=1)
    model = PictureGPT(GPT(config), encoder)
    x = torch.rand(4, 3, 12, 12)
    captions, answers = ["one", "two", "three", "four"], ["I", "II", "III", "IV"]
    rows = [encode_view(tokenizer, caption) for caption in captions]
    rows += [encode_view(tokenizer, answer, "which?") for answer in answers]
    batch = view_batch(torch.cat([x, x]), rows)
    recipe = TrainingConfig(num_steps=60, learning_rate=1e-2, optimizer="muon", warmup_steps=5)
    losses = [step.loss for step in train(model, [batch] * 60, recipe)]
    assert 4.5 < losses[0] < 6.5
    assert describe(model, tokenizer, x) == captions
    assert describe(model, tokenizer, x, ["which?"] * 4) == answers
    order = torch.tensor([2, 0, 3, 1])
    assert describe(model, tokenizer, x[order]) == [captions[i] for i in order]


# --- files --------------------------------------------------------------------------------------


def test_a_model_is_saved_and_comes_back(tmp_path: Path, tokenizer):
    model = a_model().float()
    save(model, tokenizer, tmp_path, dtype=torch.float32)
    again, its_tokenizer = load(tmp_path)
    x = some_pictures().float()
    torch.testing.assert_close(again(x, some_text()), model(x, some_text()), rtol=0, atol=0)
    assert its_tokenizer.encode("ab") == tokenizer.encode("ab")
    assert not again.training


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, tokenizer):
    save(a_model().float(), tokenizer, tmp_path, dtype=torch.float32)
    path = tmp_path / "eyes.safetensors"
    tensors = load_file(path)
    tensors["projection.weight"] = tensors["projection.weight"][:5].clone()
    told = {"encoder": '{"size": 12, "patch_size": 4, "d_model": 8, "num_heads": 2}'}
    save_file(tensors, path, metadata=told)
    with pytest.raises(ValueError, match=r"does not fit:\nprojection.weight has shape \(5, 8\)"):
        load(tmp_path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="does not say how its encoder is built; save again"):
        load(tmp_path)


# --- what is refused ----------------------------------------------------------------------------


def test_what_is_no_picture_for_this_model_is_refused(without_shape_checks):
    """The message says what came and what to do."""
    model, text = a_model(), some_text()
    with pytest.raises(ValueError, match=r"16 by 16 pixels came, .* look at 12 by 12; resize it"):
        model(some_pictures(side=16), text)
    with pytest.raises(
        ValueError, match=r"patches of 4 by 4 .* picture of 13 by 13; choose a size"
    ):
        model(some_pictures(side=13), text)
    with pytest.raises(ValueError, match=r"shape \(3, 12, 12\) came.* with picture\[None\]"):
        model(some_pictures()[0], text)
    with pytest.raises(ValueError, match=r"shape \(2, 12, 12, 3\) came.*put the colors first"):
        model(some_pictures().permute(0, 2, 3, 1), text)
    with pytest.raises(ValueError, match="not from 0 to 1; of bytes, write pictures / 255"):
        model(255 * some_pictures(), text)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        model(some_pictures() * torch.nan, text)
    with pytest.raises(
        TypeError, match=r"floats from 0 to 1, not torch.uint8; write pictures / 255"
    ):
        model((255 * some_pictures()).to(torch.uint8), text)
    with pytest.raises(ValueError, match="patches of 5 by 5 pixels do not fill a picture of 12"):
        PatchEncoder(size=12, patch_size=5)


def test_what_is_no_text_for_these_pictures_is_refused(without_shape_checks, tokenizer):
    model, x = a_model(), some_pictures()
    with pytest.raises(ValueError, match="2 pictures came with 3 texts; give each text one"):
        model(x, some_text(3))
    with pytest.raises(ValueError, match=r"16 tokens do not fit .* 9 patches leave room for 15"):
        model(x, some_text(length=16))
    with pytest.raises(ValueError, match="use the tokenizer that it was trained with"):
        model(x, some_text() + 60)
    with pytest.raises(ValueError, match="3 prompts came for 2 pictures; begin one for each"):
        generate(model.viewing(x), [[1]] * 3, max_new_tokens=2)
    with pytest.raises(ValueError, match="context_length=15; ask for at most 14 new ones"):
        generate(model.viewing(x), [[1, 2]] * 2, max_new_tokens=20)
