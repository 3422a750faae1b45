"""What the ledger of claims promises: each claim decided once, by a cell or by a source."""

import re

import numpy as np
import pytest
import torch

from gptbook import articles
from gptbook.articles import (
    Claim,
    LedgerDisagreementError,
    chapter_claims,
    decide,
    load_claims,
    parse_claims,
)
from gptbook.model import PUBLISHED, count_parameters
from tests.notebooks import NAMES, ROOT, calls

CLAIMS = load_claims()
CHAPTERS = {name[3:]: name for name in NAMES}
FIELDS = {
    "id": "s000-x",
    "article": "A",
    "section": "1",
    "chapter": "attention",
    "claim": "A claim.",
    "verdict": "wrong",
    "correction": "A correction.",
    "source": "A paper",
    "evidence": "02_attention.ipynb#here",
}
DECIDED = [call for name in NAMES for call in calls("decide", name)]


def entry(**changes: str) -> Claim:
    return Claim(**{**FIELDS, **changes})


@pytest.fixture
def ledger(monkeypatch):
    """A ledger of one claim for each verdict."""
    claims = {
        verdict: entry(id=verdict, verdict=verdict)
        for verdict in ("true", "imprecise", "wrong", "unverifiable")
    }
    claims["sourced"] = entry(id="sourced", verdict="true", evidence="source")
    monkeypatch.setattr(articles, "_ledger", lambda: claims)


def test_every_claim_is_decided_by_one_cell_or_by_a_source():
    decided = [call.first_argument for call in DECIDED]
    by_cell = [claim.id for claim in CLAIMS.values() if claim.evidence != "source"]
    assert sorted(decided) == sorted(by_cell)


def test_every_decision_stands_where_the_ledger_says():
    stands = {call.first_argument: f"{call.notebook}.ipynb#{call.heading}" for call in DECIDED}
    said = {claim.id: claim.evidence for claim in CLAIMS.values() if claim.evidence != "source"}
    assert stands == said


def test_every_decision_was_shown_when_the_notebook_ran():
    for call in DECIDED:
        shown = "".join(
            str(output.get("data", {}).get("text/markdown", "")) for output in call.cell.outputs
        )
        assert CLAIMS[call.first_argument].correction in shown, call.first_argument


def test_no_decision_is_typed_instead_of_computed():
    for call in DECIDED:
        literal = re.search(r"(holds|amended)\s*=\s*(not\s+)?(True|False)\b", call.cell.source)
        assert literal is None, call.first_argument


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_closes_with_the_table_of_its_claims(chapter):
    shown = calls("chapter_claims", CHAPTERS[chapter])
    assert [call.first_argument for call in shown] == [chapter]
    table = shown[0].cell.outputs[0].data["text/markdown"]
    assert shown[0].heading == "what-the-articles-say"
    assert all(claim.claim in table for claim in chapter_claims(chapter).claims)


def test_the_ledger_holds_the_claims_of_the_first_chapters():
    counts = {chapter: len(chapter_claims(chapter).claims) for chapter in CHAPTERS}
    first = ("tokenizer", "attention", "multi_head_attention", "positional_encoding")
    assert sum(counts[chapter] for chapter in first) == 58


def test_the_page_on_the_evolution_counts_as_the_package_does():
    page = (ROOT / "book" / "evolution.md").read_text(encoding="utf-8")
    for name, config in PUBLISHED.items():
        assert f"| {count_parameters(config):,} counted" in page, name
        shape = f"{config.num_layers} / {config.d_model:,} / {config.num_heads}"
        assert f"| {shape} (" in page, name
        assert re.search(rf"\| {config.context_length:,} \(", page), name


def test_every_address_of_that_page_is_used_and_given():
    page = (ROOT / "book" / "evolution.md").read_text(encoding="utf-8")
    used, given = set(re.findall(r"\]\[(\w+)\]", page)), re.findall(r"^\[(\w+)\]: h", page, re.M)
    assert used == set(given)
    assert len(given) == len(set(given))


def test_the_ledger_is_written_in_whole_sentences():
    for claim in CLAIMS.values():
        assert claim.claim.endswith("."), claim.id
        assert claim.correction.endswith("."), claim.id
        assert "TODO" not in repr(vars(claim)), claim.id


def test_every_source_says_where_to_look():
    for claim in CLAIMS.values():
        assert re.search(r"\b(19|20)\d\d\b", claim.source), claim.id
        assert "http" in claim.source, claim.id


def test_sources_name_a_paper_always_in_the_same_words():
    """An address stands for one title: a slip in one entry shows against the others."""
    titles: dict[str, set[str]] = {}
    for claim in CLAIMS.values():
        for title, url in re.findall(r'"([^"]+)"[^"]*?(https?://[^\s;,)]+)', claim.source):
            titles.setdefault(url.rstrip("."), set()).add(title.rstrip(",."))
    assert {url: names for url, names in titles.items() if len(names) > 1} == {}


@pytest.mark.parametrize("verdict", ["true", "wrong"])
def test_a_result_that_agrees_with_the_verdict_is_shown_with_it(ledger, verdict):
    decision = decide(verdict, holds=verdict == "true")
    assert verdict in decision._repr_markdown_()
    assert "A correction." in repr(decision)


@pytest.mark.parametrize("verdict", ["true", "wrong"])
def test_a_result_that_disagrees_is_an_error(ledger, verdict):
    with pytest.raises(LedgerDisagreementError, match=f"verdict is '{verdict}'"):
        decide(verdict, holds=verdict != "true")


def test_an_imprecise_claim_fails_as_worded_and_holds_as_amended(ledger):
    assert "≈ imprecise" in repr(decide("imprecise", holds=False, amended=True))
    with pytest.raises(LedgerDisagreementError, match="contradicts the ledger's correction"):
        decide("imprecise", holds=False, amended=False)
    with pytest.raises(LedgerDisagreementError, match="the claim holds"):
        decide("imprecise", holds=True, amended=True)
    with pytest.raises(ValueError, match=r"pass amended=\.\.\."):
        decide("imprecise", holds=False)


@pytest.mark.parametrize("claim_id", ["sourced", "unverifiable"])
def test_what_only_a_source_can_decide_no_cell_decides(ledger, claim_id):
    with pytest.raises(ValueError, match="decided by its source"):
        decide(claim_id, holds=True)


def test_an_unknown_claim_is_answered_with_the_ones_like_it(ledger):
    with pytest.raises(ValueError, match="did you mean imprecise"):
        decide("imprecisely", holds=True)


@pytest.mark.parametrize("value", [np.bool_(True), torch.tensor(True), True])
def test_truth_values_of_numpy_and_torch_are_truth_values(ledger, value):
    assert decide("true", holds=value).claim.verdict == "true"


@pytest.mark.parametrize("value", [1, None, "yes", torch.ones(2, dtype=torch.bool), [True]])
def test_what_is_no_truth_value_is_refused(ledger, without_shape_checks, value):
    with pytest.raises(TypeError, match="holds must be True or False"):
        decide("true", holds=value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "false"}, "verdict must be one of true, imprecise"),
        ({"article": "F"}, "article must be one of A, B"),
        ({"evidence": "somewhere"}, "evidence must be 'source' or"),
        ({"claim": " "}, "claim must be text"),
    ],
)
def test_a_damaged_entry_says_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        entry(**changes)


def test_a_ledger_with_an_unknown_or_missing_field_or_a_double_id_is_refused():
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        parse_claims("- {id: x, colour: red}")
    one = "- " + repr(FIELDS)
    assert list(parse_claims(one)) == ["s000-x"]
    with pytest.raises(ValueError, match="stands twice"):
        parse_claims(f"{one}\n{one}")


def test_a_chapter_without_claims_says_which_chapters_have_some():
    with pytest.raises(ValueError, match=r"no claims for chapter 'cooking'.*'attention'"):
        chapter_claims("cooking")
