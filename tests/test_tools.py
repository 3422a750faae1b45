"""What the tools of the workshop promise."""

import json
import shutil
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.notebooks import ROOT
from tools import dev, run_notebooks
from tools.set_repository import set_repository

OURS = "https://github.com/gptbook/gptbook"
FORK = "https://git.example.org/somebody/their-book"


def write(folder, *sources):
    path = folder / "01_example.ipynb"
    cells = [new_markdown_cell("# Title"), *(new_code_cell(source) for source in sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_running_a_notebook_again_changes_no_byte(tmp_path):
    path = write(tmp_path, "import random\nprint('one')\nprint('two')", "40 + 2")
    assert run_notebooks.run(path)
    first = path.read_bytes()
    assert not run_notebooks.run(path)
    assert path.read_bytes() == first
    cells = json.loads(first)["cells"]
    assert [cell.get("execution_count") for cell in cells] == [None, 1, 2]
    assert cells[2]["outputs"][0]["data"]["text/plain"] == ["42"]


@pytest.mark.slow
def test_a_figure_of_measured_times_stays_until_its_cell_changes(tmp_path):
    path = write(tmp_path, "import time\ntime.perf_counter_ns()")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["measures-time"]
    nbformat.write(notebook, path)
    assert run_notebooks.run(path)
    first = path.read_bytes()
    assert not run_notebooks.run(path)
    assert path.read_bytes() == first
    path.write_text(path.read_text().replace("time.perf_counter_ns()", "-time.perf_counter_ns()"))
    assert run_notebooks.run(path)


@pytest.mark.slow
def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = write(tmp_path, "print('before')", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(run_notebooks.CellExecutionError, match="ZeroDivisionError"):
        run_notebooks.run(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_fork_changes_the_address_everywhere_and_back(tmp_path):
    for name in ("_config.yml", "README.md", "book", "notebooks"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    changed = set_repository(tmp_path, FORK + ".git")

    assert {path.name for path in changed} >= {"_config.yml", "02_attention.ipynb"}
    for path in changed:
        text = path.read_text(encoding="utf-8")
        assert OURS not in text
        assert FORK in text
        if path.suffix == ".ipynb":  # a cell's id follows from its source, so it has to change too
            notebook = nbformat.reads(text, as_version=4)
            ids = [cell.id for cell in notebook.cells]
            run_notebooks.normalize(notebook)
            assert [cell.id for cell in notebook.cells] == ids
    set_repository(tmp_path, OURS)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize("url", ["gptbook", "http://github.com/a/b", "https://github.com/a"])
def test_an_address_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(ValueError, match="give the page of your fork"):
        set_repository(tmp_path, url)


def test_installing_happens_once_until_what_is_asked_for_changes(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(dev.venv, "create", lambda path, **_: path.mkdir(exist_ok=True))
    monkeypatch.setattr(dev.subprocess, "run", lambda command, **_: done.append(command))
    (tmp_path / "requirements.txt").write_text("torch==1")
    (tmp_path / "pyproject.toml").write_text("")

    dev.install()
    assert len(done) == 2
    dev.install()
    assert len(done) == 2
    (tmp_path / "requirements.txt").write_text("torch==2")
    dev.install()
    assert len(done) == 4


def test_one_failing_step_fails_the_whole_test_but_hides_no_other(monkeypatch, capsys):
    ran = []

    def pretend(module, output=None, **_):
        ran.append(module[0])
        if output is not None:
            output.write("841 cells\n")
        return 1 if module == dev.TYPES else 0

    monkeypatch.setattr(dev, "run", pretend)
    assert dev.test() == 1
    assert len(ran) == 7
    shown = capsys.readouterr().out
    assert "== notebooks ==\n841 cells\n" in shown
    assert "steps: 6 passed, 1 failed" in shown
    assert [line.split()[-1] for line in shown.splitlines() if "FAILED" in line] == ["types"]


def test_what_a_step_prints_goes_where_it_is_sent(tmp_path):
    with (tmp_path / "kept.txt").open("w+", encoding="utf-8") as kept:
        assert dev.run(["json.tool", "--help"], kept) == 0
        assert dev.run(["json.tool", "no such file"], kept) != 0
        kept.seek(0)
        shown = kept.read()
    assert "usage" in shown
    assert "no such file" in shown


def test_a_failed_install_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "PYTHON", sys.executable and tmp_path / "python")
    monkeypatch.setattr(dev.venv, "create", lambda path, **_: path.mkdir(exist_ok=True))
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("")

    def fail(command, **_):
        raise dev.subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(dev.subprocess, "run", fail)
    for _ in range(2):
        with pytest.raises(dev.subprocess.CalledProcessError):
            dev.install()
    assert not (tmp_path / ".venv" / "installed.sha256").exists()
