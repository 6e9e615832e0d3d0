"""The methods of compression by name, and what one level of one method removes.

A method looks at a model and at lists of passages, and plans cuts of growing size (`Method.plan`); a cut is plain JSON,
so that a plan can be kept and applied again (`Cut.apply`). Depth methods remove layers, width methods feed-forward
neurons or attention heads, weight methods set single weights to zero or store them in fewer bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from thresher.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker

Axis = Literal["layers", "neurons", "heads", "weights"]
_APPLYING = {
    "layers": "thresher.compress.depth",
    "neurons": "thresher.compress.width",
    "heads": "thresher.compress.width",
    "weights": "thresher.compress.weights",
}


@dataclass(frozen=True, slots=True)
class Cut:
    """What one level of a method removes.

    Attributes:
        axis: `layers`, `neurons`, `heads` or `weights`.
        removed: share of the layers, neurons, heads or weights that go, 0 to 1; of bits for quantisation.
        label: the level as tables show it: `4 of 6 layers`.
        spec: which ones, in plain JSON; its keys depend on the axis.
    """

    axis: Axis
    removed: float
    label: str
    spec: dict[str, Any]

    def apply(self, ranker: Ranker, lists: Sequence[Candidates]) -> None:
        """Compress `ranker` in place; `lists` calibrate what depends on activations.

        Raises:
            ConfigError: the cut does not fit the model.
        """
        import_module(_APPLYING[self.axis]).apply(ranker, self, lists)


class Method(Protocol):
    """Plans cuts of a model."""

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """Cuts of growing size, made by looking at `lists`; the model is left as it is."""


METHODS: Registry[Method] = Registry(
    "compression method",
    "thresher.compressors",
    {
        "block-influence": "thresher.compress.depth:BlockInfluence",
        "angular": "thresher.compress.depth:Angular",
        "loss": "thresher.compress.depth:LossOfLayers",
        "taylor-layers": "thresher.compress.depth:TaylorOfLayers",
        "early-exit": "thresher.compress.depth:EarlyExit",
        "greedy": "thresher.compress.depth:Greedy",
        "last": "thresher.compress.depth:LastLayers",
        "random-layers": "thresher.compress.depth:RandomLayers",
        "neurons": "thresher.compress.width:neurons",
        "heads": "thresher.compress.width:heads",
        "random-neurons": "thresher.compress.width:random_neurons",
        "random-heads": "thresher.compress.width:random_heads",
        "magnitude": "thresher.compress.weights:magnitude",
        "wanda": "thresher.compress.weights:wanda",
        "random-weights": "thresher.compress.weights:random_weights",
        "int8": "thresher.compress.weights:int8",
        "int4": "thresher.compress.weights:int4",
        "bfloat16": "thresher.compress.weights:bfloat16",
    },
    {
        "random-layers": "SEED",
        "neurons": "SCORE",
        "heads": "SCORE",
        "random-neurons": "SEED",
        "random-heads": "SEED",
        "random-weights": "SEED",
    },
)


def method_from_name(name: str) -> Method:
    """The method of that name, such as `block-influence` or `random-layers:3`.

    Raises:
        ConfigError: there is none.
    """
    return METHODS.make(name)
