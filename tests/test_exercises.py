"""What the graders promise: right answers pass, the mistakes learners make do not."""

import importlib
import re

import pytest
import torch

from gptbook.exercises import Exercise, check, compare, exercise_names
from tests.notebooks import NAMES, calls, read

EXERCISES = exercise_names()
CHAPTERS = {name[3:]: name for name in NAMES}


def answers(name):
    chapter, exercise = name.split(".")
    return importlib.import_module(f"tests.answers.{chapter}").ANSWERS[exercise]


def published_solution(name):
    """Run the solution that the chapter prints in its fold, and take its last function."""
    chapter, _ = name.split(".")
    text = ""
    for cell in read(CHAPTERS[chapter]).cells:
        if cell.cell_type == "markdown":
            text = cell.source
        elif f'check("{name}"' in cell.source:
            break
    fold = text[text.index("<summary>Solution</summary>") :]
    code = re.search(r"^```python\n(.*?)^```", fold, re.DOTALL | re.MULTILINE).group(1)
    namespace: dict = {}
    exec(code, namespace)
    return [value for value in namespace.values() if getattr(value, "__module__", 0) is None][-1]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_published_solution_is_right(name):
    namespace = published_solution(name)
    report = check(name, namespace)
    assert report.right, report


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_answer_written_differently_is_right(name):
    assert len(answers(name).right) >= 1
    for candidate in answers(name).right:
        report = check(name, candidate)
        assert report.right, report


@pytest.mark.parametrize("name", EXERCISES)
def test_wrong_answers_that_learners_give_are_rejected(name):
    assert len(answers(name).wrong) >= 3
    for number, candidate in enumerate(answers(name).wrong):
        report = check(name, candidate)
        assert report.right is False, f"wrong answer {number} passed: {report}"
        assert "for the input (" in report.message


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_counts_as_not_attempted(name):
    def stub(*arguments): ...

    assert check(name, stub).right is None

    def unwritten(*arguments):
        raise NotImplementedError

    assert repr(check(name, unwritten)) == f"{name}: not attempted yet"


def test_every_exercise_stands_in_its_chapter_once_and_is_printed_as_not_attempted():
    for chapter, notebook in CHAPTERS.items():
        found = calls("check", notebook)
        names = [name for name in EXERCISES if name.startswith(f"{chapter}.")]
        assert [call.first_argument for call in found] == names
        for call in found:
            shown = call.cell.outputs[0].data["text/plain"]
            assert shown == f"{call.first_argument}: not attempted yet"


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (lambda x: x + 1, r"wrong: 6 was expected, but 4 came\n  for the input \(3\)"),
        (lambda x: [].append(2 * x), "it returned None; is the return missing"),
        (lambda x: "six", r"a number was expected, but 'six' came"),
        (lambda x: 1 / 0, "it raised ZeroDivisionError"),
        (lambda x: torch.ones(2), r"a number was expected, but a tensor of shape \(2,\) came"),
    ],
)
def test_a_report_says_what_is_wrong_for_which_input(candidate, message):
    double = Exercise(lambda x: 2 * x, cases=lambda: [(3,)])
    assert re.search(message, double.grade("double", candidate).message)


def test_an_answer_that_changes_its_input_is_wrong():
    def spoil(x):
        return x.mul_(2)

    double = Exercise(lambda x: 2 * x, cases=lambda: [(torch.ones(2),)])
    assert "changed its own input" in double.grade("double", spoil).message


def test_an_answer_must_refuse_what_the_exercise_says_it_must():
    root = Exercise(lambda x: x**0.5, cases=lambda: [(4,), (-1,)], raises=(ValueError,))

    def careful(x):
        if x < 0:
            raise ValueError(x)
        return x**0.5

    assert root.grade("root", careful).right
    assert "should raise ValueError" in root.grade("root", lambda x: abs(x) ** 0.5).message


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0]]), r"at index \(1, 0\), but 1"),
        (torch.zeros(2), [0, 0], "a tensor was expected"),
        (torch.ones(1, dtype=torch.bool), torch.ones(1), "values of torch.bool were expected"),
        ([1, 2], [1, 3], "at index 1, 2 was expected, but 3 came"),
        ([1, 2], [1], "2 elements were expected"),
        (True, 1, "True was expected, but 1 came"),
        (torch.tensor([True]), torch.tensor([False]), r"True was expected at index \(0,\)"),
        (b"a", "a", "b'a' was expected, but 'a' came"),
        (1.0, True, "a number was expected, but True came"),
    ],
)
def test_kinds_shapes_and_values_must_agree(expected, got, message):
    assert re.search(message, compare(expected, got))


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1.0, 1.0 + 1e-9), (2, torch.tensor(2.0)), ([1.0], (1.0,)), (torch.zeros(1), torch.zeros(1))],
)
def test_rounding_is_forgiven(expected, got):
    assert compare(expected, got) is None


def test_unknown_exercises_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no exercises for chapter 'cooking'"):
        check("cooking.soup", len)
    with pytest.raises(ValueError, match=r"chapter attention has attention\."):
        check("attention.soup", len)


def test_a_called_function_instead_of_the_function_is_explained(without_shape_checks):
    with pytest.raises(TypeError, match="without calling it"):
        check(EXERCISES[0], 7)
