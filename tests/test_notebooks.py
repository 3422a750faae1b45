"""What every chapter promises, whatever it teaches."""

import re

import pytest
import yaml

from tests.notebooks import (
    NAMES,
    ROOT,
    calls,
    code_cells,
    headings,
    markdown_cells,
    read,
    repository_url,
    slug,
    tags,
)
from tools.run_notebooks import METADATA, normalize
from tools.set_repository import INSTALL_TAGS, install_cell

CLOSING = ["Summary", "What the articles say", "Exercises", "Further reading"]
chapters = pytest.mark.parametrize("name", NAMES)


def test_the_book_holds_every_notebook_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [file for file in files if file.startswith("notebooks/")] == [
        f"notebooks/{name}" for name in NAMES
    ]
    assert all((ROOT / f"{file}.md").exists() for file in files if file.startswith("book/"))


@chapters
def test_was_run_from_top_to_bottom(name):
    """nbval passes a notebook without outputs, so this one must not."""
    counts = [cell.execution_count for cell in code_cells(name)]
    assert counts == list(range(1, len(counts) + 1))


@chapters
def test_stored_no_error_and_no_warning(name):
    for cell in code_cells(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


@chapters
def test_stores_nothing_of_the_machine_it_ran_on(name):
    stored = read(name).copy()
    assert stored.metadata == METADATA
    normalized = read(name).copy()
    normalize(normalized)
    assert [cell.id for cell in stored.cells] == [cell.id for cell in normalized.cells]
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert not re.search(r"/(home|root|Users|tmp|work)/", path.read_text(encoding="utf-8"))


@chapters
def test_installs_the_package_in_its_first_cell(name):
    first = code_cells(name)[0]
    assert first.source == install_cell(repository_url())
    assert tags(first) == INSTALL_TAGS


@chapters
def test_hardly_any_output_goes_uncompared(name):
    cells = code_cells(name)
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    assert len(ignored) <= 3
    assert not any("nbval-skip" in tags(cell) for cell in cells)
    directives = re.compile(r"#\s*(NBVAL|PYTEST)_", re.IGNORECASE)
    assert not any(directives.search(cell.source) for cell in cells)
    for cell in ignored[1:]:
        later = cells[cells.index(cell) + 1 :]
        assert any("assert " in other.source for other in later[:2]), cell.source


@chapters
def test_never_shows_three_cells_of_code_in_a_row(name):
    kinds = [cell.cell_type for cell in read(name).cells]
    assert ("code", "code", "code") not in zip(kinds, kinds[1:], kinds[2:], strict=False)


@chapters
def test_code_cells_are_short(name):
    setup, *others = code_cells(name)[1:]
    assert len(setup.source.splitlines()) <= 30
    for cell in others:
        assert len(cell.source.splitlines()) <= 20, cell.source


@chapters
def test_every_figure_says_in_words_what_is_seen(name):
    for cell in code_cells(name):
        figures = [out for out in cell.outputs if "image/png" in out.get("data", {})]
        if figures:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 8, cell.source
            assert not any("<Figure" in str(out) and "png" not in str(out) for out in figures)


@chapters
def test_uses_only_markdown_that_colab_shows_too(name):
    for cell in markdown_cells(name):
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", cell.source, flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"^\s*(:::|\+\+\+|\(\S+\)=$)|\{[a-z:-]+\}`", prose, re.MULTILINE)
        assert not re.search(r"^```\{", cell.source, re.MULTILINE)


@chapters
def test_checks_its_prose_and_warns_about_numbers(name):
    asserting = [cell for cell in code_cells(name) if "assert" in cell.source]
    assert len(asserting) >= 5
    boxes = ("> **Will my numbers match?**", "> **What do the articles say?**")
    for box in boxes:
        assert any(box in cell.source for cell in markdown_cells(name)), box


@chapters
def test_closes_as_every_chapter_does(name):
    found = [h for cell in markdown_cells(name) for h in headings(cell.source)]
    assert [heading for heading in found if heading in CLOSING] == CLOSING
    exercises = [heading for heading in found if heading.startswith("Exercise ")]
    assert 4 <= len(exercises) <= 6
    assert [calls("check", name)[i].cell.source.count("check(") for i in range(len(exercises))] == [
        1
    ] * len(exercises)


@chapters
def test_links_lead_to_headings_that_exist(name):
    anchors = {
        other: {slug(h) for cell in markdown_cells(other) for h in headings(cell.source)}
        for other in NAMES
    }
    for cell in markdown_cells(name):
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if target.startswith(("http://", "https://")):
                continue
            file, _, heading = target.partition("#")
            if file and not file.endswith(".ipynb"):
                assert (ROOT / "notebooks" / file).resolve().exists(), target
                continue
            other = file.removesuffix(".ipynb") or name
            assert other in anchors, target
            assert not heading or heading in anchors[other], target


@chapters
def test_is_titled_once(name):
    titles = re.findall(r"^# .+$", read(name).cells[0].source, re.MULTILINE)
    assert len(titles) == 1


@chapters
def test_has_no_slip_of_the_pen(name):
    banned = re.compile(r"\b(simply|obviously|TODO|FIXME|trivially)\b", re.IGNORECASE)
    for cell in read(name).cells:
        assert not banned.search(cell.source), banned.search(cell.source)
