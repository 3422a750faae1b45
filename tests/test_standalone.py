"""What a chapter promises in Colab: one file in an empty folder is all it needs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

from tests.notebooks import ROOT, repository_url

CHAPTER = "02_attention"
LOAD = """
import time
import gptbook.models
start = time.process_time()
model, tokenizer = gptbook.models.load("littletown")
print(gptbook.models.__file__, time.process_time() - start, sep="\\n")
"""
PACKAGE = ("gptbook", "pyproject.toml", "README.md", "LICENSE")


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """The package as it stands here, in a repository of its own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in PACKAGE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "package")
    return folder


@pytest.fixture
def bare_python(tmp_path):
    """An environment that has all that this one has, except the package itself."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", query], capture_output=True, text=True, check=True)
    path_file = os.path.join(theirs.stdout.strip(), "everything_else.pth")  # noqa: PTH118
    with open(path_file, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(sysconfig.get_path("purelib"))  # its own .pth files are not followed
    return python


@pytest.mark.slow
def test_a_chapter_alone_in_an_empty_folder_installs_what_it_needs(
    repository, bare_python, tmp_path
):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(ROOT / "notebooks" / f"{CHAPTER}.ipynb", alone)
    environment = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository_url(),
    }
    environment.pop("PYTHONPATH", None)
    find = [bare_python, "-c", "import gptbook"]
    before = subprocess.run(find, cwd=alone, env=environment, capture_output=True, text=True)
    assert "No module named 'gptbook'" in before.stderr

    command = [bare_python, "-m", "pytest", "-q", "--nbval", "--nbval-current-env"]
    done = subprocess.run(
        [*command, f"{CHAPTER}.ipynb"], cwd=alone, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    after = subprocess.run(find, cwd=alone, env=environment, capture_output=True, text=True)
    assert after.returncode == 0, after.stderr
    assert sys.prefix not in str(bare_python)

    loaded = subprocess.run(
        [bare_python, "-c", LOAD], cwd=alone, capture_output=True, text=True, check=True
    )
    where, seconds = loaded.stdout.split("\n")[:2]
    assert str(ROOT) not in where
    assert float(seconds) < 1
