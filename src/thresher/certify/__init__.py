"""A pruning put to the test, and the certificate that an index carries.

    from thresher.certify import certify, certify_runs

    made = certify("pruned", "unpruned", queries, qrels, margin=0.02, measures="nDCG@10")
    made.certified, made.largest("sparse")
    made.write("pruned")
    certify_runs({"new": "new.run"}, "full.run", qrels, margin=0.02)    # of anything that makes a run

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.certify.certificate import Certificate
    from thresher.certify.certifying import certify, certify_runs
    from thresher.certify.shadow import Shadow

_HOMES = {
    "Certificate": "certificate",
    "Shadow": "shadow",
    "certify": "certifying",
    "certify_runs": "certifying",
}

__all__ = ["Certificate", "Shadow", "certify", "certify_runs"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
