"""Compare every stored output, except what needs vocabularies that this machine cannot have.

Cells tagged `needs-vocabulary` show GPT-2's and GPT-4's published vocabularies, which tiktoken
downloads once or reads from TIKTOKEN_CACHE_DIR. Where neither is possible those cells still run,
and say what is missing, but their outputs cannot be the stored ones.

Cells tagged `needs-weights` are the other way round: the stored outputs say that GPT-2's weights
are missing, and where the cache of the Hugging Face Hub has them, the cells show more.
"""

import functools

import pytest

VOCABULARIES = ("gpt2", "cl100k_base", "o200k_base")


@functools.cache
def missing_vocabularies() -> tuple[str, ...]:
    """Name the published vocabularies that can be neither read nor downloaded here."""
    from gptbook.tokenizer import published_encodings

    return tuple(name for name in VOCABULARIES if name not in published_encodings(VOCABULARIES))


@functools.cache
def has_weights() -> bool:
    """Say whether GPT-2's weights are on this machine; nothing is downloaded."""
    from gptbook.pretrained import find_gpt2

    try:
        return find_gpt2("gpt2", download=False).is_dir()
    except (FileNotFoundError, ImportError):
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave uncompared what shows a vocabulary that is missing, or weights that are here."""
    cells = [item for item in items if "needs-vocabulary" in _tags(item)]
    if not missing_vocabularies():
        cells = []
    real = [item for item in items if "needs-weights" in _tags(item)]
    if real and has_weights():
        cells += real
    for item in cells:
        item.options["check"] = False  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not compared, and why."""
    if missing_vocabularies():
        names = ", ".join(missing_vocabularies())
        terminalreporter.write_line(
            f"Not compared: cells that need {names}, which are not on this machine. "
            "Connect it once, or set TIKTOKEN_CACHE_DIR."
        )


def _tags(item: pytest.Item) -> list[str]:
    """Read the tags of a notebook's cell."""
    cell = getattr(item, "cell", None)
    return [] if cell is None else cell.metadata.get("tags", [])
