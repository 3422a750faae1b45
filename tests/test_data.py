"""What the chapters promise about the text they train on."""

import ast
import sysconfig
import tokenize
from pathlib import Path

import pytest

from gptbook.data import docstrings_of, python_english

STDLIB = Path(sysconfig.get_path("stdlib"))
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_the_english_of_python_is_two_megabytes_of_prose():
    text = python_english()
    assert 1_000_000 < len(text.encode()) < 5_000_000
    assert text.count(" the ") > 10_000
    assert "\r" not in text


def test_the_text_comes_in_the_same_order_each_time():
    first = python_english()
    python_english.cache_clear()
    assert python_english() == first


@pytest.mark.parametrize("name", ["argparse.py", "asyncio/base_events.py", "os.py", "typing.py"])
def test_the_scan_finds_the_docstrings_that_a_parser_finds(name):
    path = STDLIB / name
    with tokenize.open(path) as file:
        tree = ast.parse(file.read())
    parsed = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, KINDS)]
    assert sorted(docstrings_of(path)) == sorted(text for text in parsed if text)


def test_only_docstrings_are_taken(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "#!/usr/bin/env python\n"
        "# a comment\n\n"
        'r"""The module\'s \\d.\n\n    More of it."""\n'
        "text = '''not this'''\n"
        "def f(x='no',\n      y=1):  # why\n    # before\n    'One\\tline.'\n    'not this'\n"
        'def g(): return """not this"""\n'
        "async def h():\n    '''not this''' % x\n"
        'class C:\n\n    """Empty next."""\n    def m(self):\n        """"""\n'
    )
    assert docstrings_of(path) == [
        "The module's \\d.\n\nMore of it.",
        "One     line.",  # cleandoc expands the tab
        "Empty next.",
    ]


def test_a_file_that_is_no_text_is_passed_over(tmp_path):
    path = tmp_path / "broken.py"
    for data in (b'# coding: no-such\n"""Text."""\n', b'"""\xff"""\n'):
        path.write_bytes(data)
        assert docstrings_of(path) == []


def test_old_escapes_do_not_warn(tmp_path):
    path = tmp_path / "old.py"
    path.write_text('"""A \\d here."""\n')
    assert docstrings_of(path) == ["A \\d here."]
