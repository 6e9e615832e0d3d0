"""A certificate in plain sentences: what was shown, what was not, and how many topics would decide it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thresher.certify.claims import FIRST_TIER
from thresher.evaluate.significance import unseen_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.certify.certificate import Certificate
    from thresher.certify.claims import Claim

WEAKER = (
    "There were no judgments: this says how much of the baseline's own rankings is kept, not whether what took a place "
    "is worse. It is weaker than a certificate from judgments: a passage that is as good counts as a loss."
)


def sentences(certificate: Certificate) -> list[str]:
    """The verdict, what is proven of each pipeline, what is not, and what to mind."""
    said = brief(certificate)
    said += [undecided(one, certificate) for one in certificate.claims if not one.proven]
    if any(one.proven for one in certificate.claims):
        said.append(_unseen(certificate))
    if certificate.kind == "reference":
        said.append(WEAKER)
    return said + ([certificate.note] if certificate.note else [])


def brief(certificate: Certificate) -> list[str]:
    """The verdict, that of the first tier alone, and what is proven of each pipeline: what an overview shows."""
    said = [verdict(certificate), _first_tier(certificate)]
    return [one for one in [*said, *(_fractions(certificate, name) for name in certificate.pipelines)] if one]


def _first_tier(certificate: Certificate) -> str:
    """Whether the first tier alone is not worse, where the verdict is about both tiers."""
    if any(one.setting == FIRST_TIER for one in certificate.decisive):
        return ""
    claims = [one for one in certificate.claims if one.setting == FIRST_TIER]
    failed = sum(not one.proven for one in claims)
    if not claims:
        return ""
    if not failed:
        return "The same is certified of its first tier alone."
    return f"It is not shown of its first tier alone{_unproven(failed, len(claims))}."


def _unseen(certificate: Certificate) -> str:
    """What these topics cannot show."""
    share = unseen_share(certificate.n, alpha=certificate.alpha)
    unit = "topics" if certificate.kind == "judged" else "queries"
    return (
        f"This holds for {unit} like these: a loss on fewer than {share:.1%} of all may have hit none of "
        f"these {certificate.n:,}."
    )


def verdict(certificate: Certificate) -> str:
    """Whether it is certified, of what, and by what."""
    claim, decisive = certificate.claim, certificate.decisive
    what = "not worse" if claim == "non-inferiority" else "equivalent"
    margin = f"by {certificate.margin:g} or more" if claim == "non-inferiority" else f"within {certificate.margin:g}"
    topics = f"{certificate.n:,} {'topics' if certificate.kind == 'judged' else 'queries'}"
    on = f"on {', '.join(certificate.measures)}, over {topics}, at a chance of error of {certificate.alpha:g} in all"
    path, other = certificate.system.path, certificate.baseline.path
    of = f"{path} ({names})" if (names := _settings(decisive)) else path
    if certificate.certified:
        return f"Certified: {of} is {what} {margin} compared with {other}, {on}."
    failed = sum(not one.proven for one in decisive)
    return f"Not shown: that {of} is {what} {margin} compared with {other}, {on}{_unproven(failed, len(decisive))}."


def _unproven(failed: int, tested: int) -> str:
    """How many of several claims failed."""
    return f"; {failed:,} of {tested:,} claims are not proven" if tested > 1 else ""


def _settings(claims: Sequence[Claim]) -> str:
    return ", ".join(dict.fromkeys(_setting(one) for one in claims if _setting(one)))


def _setting(claim: Claim) -> str:
    return f"{claim.fraction:.0%} left out" if claim.fraction is not None else claim.setting


def name_of(claim: Claim) -> str:
    """The system that a claim is about: `sparse, 30% left out`."""
    return ", ".join(filter(None, (claim.pipeline, _setting(claim))))


def _fractions(certificate: Certificate, pipeline: str) -> str:
    """The largest fraction that is certified, of those that were tested."""
    tested = sorted({one.fraction for one in certificate.claims if one.pipeline == pipeline and one.fraction})
    if not tested:
        return ""
    largest = certificate.largest(pipeline)
    of = f"(tested: {', '.join(f'{one:.0%}' for one in tested)})"
    if largest is None:
        return f"{pipeline}: no fraction is certified {of}."
    return f"{pipeline}: up to {largest:.0%} of the baseline's passages can be left out {of}."


def undecided(claim: Claim, certificate: Certificate) -> str:
    """Why a claim is not proven, and what would decide it."""
    margin, unit = certificate.margin, "topics" if certificate.kind == "judged" else "queries"
    start = f"{name_of(claim)}: {claim.measure} changes by {claim.difference:+.4f} (interval {claim.low:+.4f} to "
    start += f"{claim.high:+.4f})"
    if claim.high <= -margin:
        return f"{start}: it is worse, by more than {margin:g}."
    if claim.topics_needed is None or claim.topics_needed <= claim.n:
        return (
            f"{start}: {claim.topics_needed or 2:,} {unit} would show it if nothing were lost, and {claim.n:,} did "
            "not, so something probably is. Alone, a "
            f"margin of {_up(-claim.bound)} would have been shown."
        )
    if claim.high < 0:
        return (
            f"{start}: something is lost; whether it is less than {margin:g} is undecided, and showing that takes more "
            f"than {claim.topics_needed:,} {unit}. Alone, a margin of {_up(-claim.bound)} would have been shown."
        )
    return (
        f"{start}: undecided. If nothing is lost, {claim.topics_needed:,} {unit} would show it; {claim.n:,} can show a "
        f"margin of {_up(claim.provable)}."
    )


def _up(value: float) -> str:
    """A margin, rounded up to three decimals."""
    return f"{max(0.0, math.ceil(value * 1000 - 1e-9) / 1000):g}"
