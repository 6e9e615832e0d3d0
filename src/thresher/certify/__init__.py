"""A pruning put to the test, and the certificate that an index carries.

    from thresher.certify import certify

    made = certify("pruned", "unpruned", queries, qrels, margin=0.02, measures="nDCG@10")
    made.certified, made.largest("sparse")
    made.write("pruned")

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.certify.certificate import Certificate
    from thresher.certify.certifying import certify
    from thresher.certify.shadow import Shadow

_HOMES = {"Certificate": "certificate", "Shadow": "shadow", "certify": "certifying"}

__all__ = ["Certificate", "Shadow", "certify"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
