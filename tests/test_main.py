"""What the command line promises: a newcomer can train, stop, go on and generate."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from gptbook.__main__ import _parser, main

SMALL = [
    "--num-steps=6",
    "--d-model=16",
    "--num-layers=1",
    "--num-heads=2",
    "--batch-size=2",
    "--context-length=32",
    "--vocab-size=280",
    "--report-every=3",
    "--save-every=2",
]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A text of our own, long enough to set some aside."""
    path = tmp_path_factory.mktemp("text") / "book.txt"
    lines = [f"On day {day} the miller ground {day % 7} sacks of grain.\n" for day in range(3_000)]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def run(capsys):
    """Run the command line; give exit status, output and errors."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def assert_one_line(error: str, message: str) -> None:
    assert re.fullmatch(rf"gptbook: [^\n]*{message}[^\n]*\n", error), error
    assert "Traceback" not in error


def results(folder):
    names = ("model.safetensors", "config.json", "tokenizer.json", "settings.json", "log.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_text_becomes_a_model_that_writes(run, book, tmp_path):
    out = tmp_path / "mine"
    status, said, _ = run("train", "--data", book, "--out", out, *SMALL)
    assert status == 0
    assert "tokens to learn from" in said
    assert re.search(r"untrained: unseen text 5\.\d+ nats a token, \d\.\d+ bits a byte", said)
    assert re.search(r"step +3 of 6: loss \d", said)
    assert re.search(r"step +6 of 6: loss \d", said)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["loss"] < log[0]["loss"]

    first = run("generate", "--model", out, "--prompt", "On day 7", "--num-tokens", 12)
    again = run("generate", "--model", out, "--prompt", "On day 7", "--num-tokens", 12)
    other = run("generate", "--model", out, "--prompt", "On day 7", "--num-tokens", 12, "--seed", 1)
    assert first[0] == 0
    assert first[1].startswith("On day 7")
    assert len(first[1]) > len("On day 7\n")
    assert first == again
    assert first[1] != other[1]


@pytest.mark.parametrize("composition", ["modern", "gpt2"])
def test_the_same_seed_gives_the_same_words_and_files(run, book, tmp_path, composition):
    outputs = []
    for name in ("one", "two"):
        options = ("--composition", composition, "--dropout=0.1", *SMALL)
        status, said, _ = run("train", "--data", book, "--out", tmp_path / name, *options)
        assert status == 0
        outputs.append((said.replace(name, ""), results(tmp_path / name)))
    assert outputs[0] == outputs[1]


def test_a_stopped_run_goes_on_to_where_the_unbroken_one_ends(run, book, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = ("--dropout=0.1", *SMALL)
    run("train", "--data", book, "--out", whole, *options)
    status, said, _ = run("train", "--data", book, "--out", broken, "--minutes=0", *options)
    assert status == 0
    assert "stopped after 0 minutes; go on with --resume" in said
    status, said, _ = run("train", "--resume", "--out", broken)
    assert status == 0
    assert "going on after step 1" in said
    assert results(broken) == results(whole)


def test_a_run_that_has_ended_can_be_resumed_and_changes_nothing(run, book, tmp_path):
    run("train", "--data", book, "--out", tmp_path / "x", *SMALL)
    before = results(tmp_path / "x")
    status, said, _ = run("train", "--resume", "--out", tmp_path / "x")
    assert status == 0
    assert "going on after step 6" in said
    assert results(tmp_path / "x") == before


def test_other_settings_cannot_be_smuggled_into_a_run(run, book, tmp_path):
    run("train", "--data", book, "--out", tmp_path / "x", *SMALL)
    status, _, error = run("train", "--resume", "--out", tmp_path / "x", "--learning-rate=0.1")
    assert status == 2
    assert_one_line(error, r"learning_rate was 0\.002 there and is 0\.1 here")


def test_a_folder_with_something_in_it_is_not_written_over(run, book, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    status, _, error = run("train", "--data", book, "--out", tmp_path, *SMALL)
    assert status == 2
    assert_one_line(error, "is not empty; go on with its run with --resume, or choose another")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.toml", "num_steps = 4\nd_model = 24\n"),
        ("run.json", '{"num_steps": 4, "d_model": 24}'),
    ],
)
def test_settings_come_from_a_file_and_the_command_line_wins(run, book, tmp_path, name, text):
    config = tmp_path / name
    config.write_text(text)
    small = [option for option in SMALL if "num-steps" not in option and "d-model" not in option]
    out = tmp_path / "out"
    status, _, _ = run(
        "train", "--config", config, "--data", book, "--out", out, "--num-steps=5", *small
    )
    assert status == 0
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["num_steps"], settings["d_model"]) == (5, 24)
    assert json.loads((out / "config.json").read_text())["d_model"] == 24


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate = 0.1", "a setting 'lerning_rate', which is unknown; did you mean learning"),
        ("zebra = 1", "it may be one of .*num_steps"),
        ("num_steps = ", "cannot be read as .toml"),
        ("num_steps = [1]", r"num_steps must be a number or a word, not \[1\]"),
        ("resume = true", "a setting 'resume', which is unknown"),
    ],
)
def test_a_slip_in_a_settings_file_is_named(run, tmp_path, text, message):
    config = tmp_path / "run.toml"
    config.write_text(text)
    status, _, error = run("train", "--config", config)
    assert status == 2
    assert_one_line(error, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "no/such/file"], "no/such/file"),
        (["train", "--config", "nowhere.toml"], "nowhere.toml"),
        (["train", "--report-every=0"], "report-every must be at least 1"),
        (["train", "--threads=0"], "threads must be at least 1"),
        (["generate", "--model", "shakespeare"], "neither a folder nor a model of the book"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = run(*arguments)
    assert status == 2
    assert_one_line(error, message)


def test_a_text_too_short_to_set_some_aside_is_refused(run, tmp_path):
    (tmp_path / "short.txt").write_text("Too short.")
    status, _, error = run("train", "--data", tmp_path / "short.txt", "--out", tmp_path / "out")
    assert status == 2
    assert_one_line(error, "holds 10 characters, too few to learn from")


def test_a_context_that_is_full_is_an_error_or_slides(run, book, tmp_path):
    run("train", "--data", book, "--out", tmp_path / "x", *SMALL)
    long = ("generate", "--model", tmp_path / "x", "--num-tokens", 40)
    status, _, error = run(*long)
    assert status == 2
    assert_one_line(error, "context_length")
    status, said, _ = run(*long, "--slide")
    assert status == 0
    assert said.strip()


def test_temperature_zero_is_the_most_probable_token(run, book, tmp_path):
    run("train", "--data", book, "--out", tmp_path / "x", *SMALL)
    cold = ("generate", "--model", tmp_path / "x", "--temperature=0", "--num-tokens=9")
    assert run(*cold, "--seed=1") == run(*cold, "--seed=2")


def test_a_folder_without_a_model_yet_says_so(run, tmp_path):
    status, _, error = run("generate", "--model", tmp_path)
    assert status == 2
    assert_one_line(error, "there is no model in .* yet")


def test_wrong_options_end_with_status_two(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--num-steps=many"])
    assert caught.value.code == 2
    assert "invalid int value: 'many'" in capsys.readouterr().err


@pytest.mark.slow
def test_littletown_is_trained_on_beside_its_floor(run, tmp_path):
    options = [option for option in SMALL if "context" not in option and "vocab" not in option]
    status, said, _ = run(
        "train", "--out", tmp_path / "town", "--num-stories=300", "--vocab-size=512", *options
    )
    assert status == 0
    found = re.findall(r"unseen stories ([\d.]+) nats a token, the floor is ([\d.]+)", said)
    assert len(found) == 3
    losses, floors = zip(*[map(float, pair) for pair in found], strict=True)
    assert 0.3 < floors[0] < 3
    assert len(set(floors)) == 1
    assert losses[0] > losses[1] > losses[2] > floors[0]


@pytest.mark.parametrize("command", ["train", "generate"])
def test_help_has_examples_and_explains_every_option(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"python -m gptbook {command}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    (commands,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    for action in commands.choices[command]._actions:
        assert action.help, action.dest


@pytest.mark.parametrize("command", ["train", "generate"])
def test_the_examples_in_the_help_are_understood(command):
    (commands,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    text = commands.choices[command].epilog
    examples = re.findall(r"python -m gptbook (\w.*)", text)
    assert len(examples) >= 3
    for example in examples:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', example)]
        assert _parser().parse_args(words).run


@pytest.mark.slow
def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "gptbook", "--help"], capture_output=True, text=True, check=True
    )
    assert "train" in done.stdout
    assert "generate" in done.stdout
