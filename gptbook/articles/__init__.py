"""What five popular articles say about GPT, and whether it holds.

`claims.yaml` beside this file is the ledger: every claim in our words, with its verdict, the
correction, and either the section of the chapter whose cell decides it or the source that does.
The articles are called A to E. A chapter decides a claim where its evidence is computed:

    decide("s003-attention-no-softmax", holds=rows_sum_to_one)

That cell fails if the computed result and the ledger ever disagree.
"""

import difflib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

VERDICTS = {"true": "✓", "imprecise": "≈", "wrong": "✗", "unverifiable": "?"}
ARTICLES = ("A", "B", "C", "D", "E")


class LedgerDisagreementError(AssertionError):
    """A computed result contradicts the verdict in the ledger."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of one article.

    `evidence` is "notebook.ipynb#heading" where a cell decides the claim, or "source" where only
    the named source can.
    """

    id: str
    article: str
    section: str
    chapter: str
    claim: str
    verdict: str
    correction: str
    source: str
    evidence: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{self.id}: {field.name} must be text, not {value!r}")
        for name, allowed in (("verdict", tuple(VERDICTS)), ("article", ARTICLES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{self.id}: {name} must be one of {', '.join(allowed)}, "
                    f"not {getattr(self, name)!r}"
                )
        if self.evidence != "source" and ".ipynb#" not in self.evidence:
            raise ValueError(
                f"{self.id}: evidence must be 'source' or 'notebook.ipynb#heading', "
                f"not {self.evidence!r}"
            )

    @property
    def label(self) -> str:
        """Verdict as an icon and a word, so that neither color nor shape alone carries it."""
        return f"{VERDICTS[self.verdict]} {self.verdict}"

    @property
    def place(self) -> str:
        """Article and section: sections have a number in some articles, a name in others."""
        mark = " §" if self.section[0].isdigit() else ", "
        return f"{self.article}{mark}{self.section}"


@dataclass(frozen=True)
class Decision:
    """A claim that a cell has just decided, as the ledger says."""

    claim: Claim

    def __repr__(self) -> str:
        claim = self.claim
        return f"{claim.place}: {claim.label}: {claim.claim} {claim.correction}"

    def _repr_markdown_(self) -> str:
        claim = self.claim
        return f"**{claim.place} · {claim.label}** · *{claim.claim}* {claim.correction}"


@dataclass(frozen=True)
class ClaimTable:
    """The claims of one chapter, in the order of the articles."""

    claims: tuple[Claim, ...]

    def __repr__(self) -> str:
        return "\n".join(f"{claim.place}: {claim.label}: {claim.claim}" for claim in self.claims)

    def _repr_markdown_(self) -> str:
        rows = [
            "| article | what it says | verdict | what holds | decided by |",
            "|---|---|---|---|---|",
        ]
        for claim in self.claims:
            cells = (
                claim.place,
                claim.claim,
                claim.label,
                claim.correction,
                _decided_by(claim),
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(rows)


def load_claims() -> dict[str, Claim]:
    """Read the ledger: every claim by its id, in the order of the articles.

    Raises:
        ValueError: If an entry lacks a field, has an unknown one, or an id stands twice.

    >>> load_claims()["s000-attention-formula"].verdict
    'true'
    """
    return dict(_ledger())


def parse_claims(text: str) -> dict[str, Claim]:
    """Read claims from the text of a ledger file.

    Raises:
        ValueError: If an entry lacks a field, has an unknown one, or an id stands twice.
    """
    claims: dict[str, Claim] = {}
    for entry in yaml.safe_load(text):
        claim = _claim(entry)
        if claim.id in claims:
            raise ValueError(f"claim {claim.id!r} stands twice in the ledger; keep one")
        claims[claim.id] = claim
    return claims


def decide(claim_id: str, *, holds: object, amended: object = None) -> Decision:
    """Set a computed result against the ledger's verdict on a claim.

    A true claim must hold and a wrong one must not. An imprecise one must not hold as the article
    words it, while the amended statement in the ledger's correction must.

    Args:
        claim_id: Id in the ledger.
        holds: Whether the cell found the claim, as worded, to hold: Python's True or False, or
            NumPy's or PyTorch's.
        amended: Whether the cell found the correction to hold. Needed for an imprecise claim.

    Raises:
        ValueError: If the id is unknown, or the claim cannot be decided in this way.
        TypeError: If `holds` or `amended` is anything but True or False.
        LedgerDisagreementError: If result and verdict disagree.
    """
    claim = _find(claim_id)
    _check_truth_value("holds", holds)
    if amended is not None:
        _check_truth_value("amended", amended)
    if claim.evidence == "source" or claim.verdict == "unverifiable":
        raise ValueError(
            f"{claim_id} is decided by its source ({claim.source}), not by a cell; "
            "give the ledger the heading of this section as evidence first"
        )
    if claim.verdict == "imprecise" and amended is None:
        raise ValueError(
            f"{claim_id} is imprecise: pass amended=..., whether the correction in the ledger holds"
        )
    expected = claim.verdict == "true"
    if bool(holds) != expected:
        raise LedgerDisagreementError(
            f"{claim_id}: the ledger's verdict is {claim.verdict!r}, but the computed result says "
            f"that the claim {'holds' if holds else 'does not hold'}; one of the two is mistaken"
        )
    if amended is not None and not amended:
        raise LedgerDisagreementError(
            f"{claim_id}: the computed result contradicts the ledger's correction: "
            f"{claim.correction}"
        )
    return Decision(claim)


def chapter_claims(chapter: str) -> ClaimTable:
    """Collect what the articles say on a chapter's subject, for its closing section.

    Raises:
        ValueError: If the ledger has no claim for that chapter.
    """
    claims = tuple(claim for claim in _ledger().values() if claim.chapter == chapter)
    if not claims:
        known = sorted({claim.chapter for claim in _ledger().values()})
        raise ValueError(f"no claims for chapter {chapter!r}; there are some for {known}")
    return ClaimTable(claims)


@cache
def _ledger() -> dict[str, Claim]:
    """Read the ledger once."""
    text = files("gptbook.articles").joinpath("claims.yaml").read_text(encoding="utf-8")
    return parse_claims(text)


def _claim(entry: dict[str, Any]) -> Claim:
    """Turn one entry of the ledger into a claim, or say what is wrong with it."""
    expected, came = {field.name for field in fields(Claim)}, set(entry)
    if expected != came:
        raise ValueError(
            f"claim {entry.get('id', '?')!r}: missing fields {sorted(expected - came)}, "
            f"unknown fields {sorted(came - expected)}"
        )
    return Claim(**entry)


def _find(claim_id: str) -> Claim:
    """Look a claim up, or name those with ids like it."""
    ledger = _ledger()
    if claim_id not in ledger:
        near = difflib.get_close_matches(claim_id, ledger, n=3)
        raise ValueError(
            f"no claim {claim_id!r} in the ledger; "
            + (f"did you mean {' or '.join(near)}?" if near else "see gptbook/articles/claims.yaml")
        )
    return ledger[claim_id]


def _check_truth_value(name: str, value: object) -> None:
    """Accept Python's and NumPy's truth values, and a one-element tensor of them."""
    kind = type(value).__name__
    one_bool = getattr(value, "shape", None) == () and "bool" in str(getattr(value, "dtype", ""))
    if not isinstance(value, bool) and not one_bool:
        raise TypeError(f"{name} must be True or False, not a {kind}; reduce it with .all()")


def _decided_by(claim: Claim) -> str:
    """Link to the section that decides the claim, or name the source that does."""
    if claim.evidence == "source":
        return claim.source
    notebook, heading = claim.evidence.split("#")
    here = notebook.endswith(f"_{claim.chapter}.ipynb")
    return f"[a cell above](#{heading})" if here else f"[a cell there]({claim.evidence})"
