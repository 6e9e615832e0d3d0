"""Which layers of a model can go: seven ways to choose them, and their removal.

Every method plans one cut for each number of layers that can be removed, 1 to all but one. `L` is the number of layers,
X_i the states that enter layer i and X_(i+1) those that leave it; means are over the real tokens of the calibration
lists, for a causal model over the last token of each text.
"""

from __future__ import annotations

import math
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.compress.data import few, ndcg
from thresher.compress.loss import disagreement, ranking_loss
from thresher.compress.methods import Cut
from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker

_WALKED = 16
"""Passages of a list whose states are looked at."""


def apply(ranker: Ranker, cut: Cut, lists: Sequence[Candidates]) -> None:
    """Keep the layers that the cut names.

    Raises:
        ConfigError: the model has no such layer.
    """
    ranker.keep_layers(cut.spec["kept"])


def layer_cut(kept: Sequence[int], layers: int) -> Cut:
    """The cut that keeps these of `layers` layers."""
    label = f"{len(kept)} of {layers} layers"
    return Cut("layers", 1.0 - len(kept) / layers, label, {"kept": [int(number) for number in kept]})


def by_importance(importance: Sequence[float]) -> list[Cut]:
    """Cuts that remove the least important layers first; of equal ones the later."""
    layers = len(importance)
    order = sorted(range(layers), key=lambda number: (importance[number], -number))
    return [layer_cut(sorted(order[count:]), layers) for count in range(1, layers)]


class _Depth:
    """A depth method that takes no argument."""

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise ConfigError(f"the compression method {type(self).__name__} takes no argument; got {argument!r}")


class BlockInfluence(_Depth):
    """1 - mean cosine(X_i, X_(i+1)): layers that change little go first (ShortGPT, arXiv 2403.03853)."""

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """Cuts by the influence of each layer."""
        return by_importance(influence(ranker, lists).tolist())


class Angular(_Depth):
    """The n consecutive layers whose end is nearest to their start: least mean arccos(cosine(X_l, X_(l+n))) / pi.

    "The Unreasonable Ineffectiveness of the Deeper Layers" (Gromov and others, arXiv 2403.17887).
    """

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut for each length of block."""
        layers = len(ranker.layers)
        totals, count = np.zeros((layers + 1, layers + 1)), 0
        for states in walked(ranker, lists):
            cosines = _cosines(states)
            totals += np.arccos(np.clip(cosines, -1.0, 1.0)).sum(2) / math.pi
            count += cosines.shape[2]
        distance = totals / count
        cuts = []
        for length in range(1, layers):
            start = min(range(layers - length + 1), key=lambda at: (distance[at, at + length], -at))
            cuts.append(layer_cut([*range(start), *range(start + length, layers)], layers))
        return cuts


class LossOfLayers(_Depth):
    """How far scores move from the whole model's when a layer alone is missing.

    As the perplexity criterion of Shortened LLaMA (Kim and others, arXiv 2402.02834), with a loss for rankers.
    """

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """Cuts by the loss without each layer."""
        whole, layers = ranker.scores(lists), len(ranker.layers)
        if layers == 1:
            return []
        losses = []
        for number in range(layers):
            with only_layers(ranker, [other for other in range(layers) if other != number]):
                losses.append(disagreement(ranker, lists, whole))
        return by_importance(losses)


class TaylorOfLayers(_Depth):
    """Sum over a layer's weights of |weight * gradient of the ranking loss| (the Taylor criterion of Shortened LLaMA).

    Here over rows of weight matrices: the gradient of a list's loss times the weight, summed over each row (Kim and
    others, arXiv 2402.02834, eq. 3 with output neurons), summed over lists without sign.
    """

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """Cuts by the score of each layer."""
        found = [0.0] * len(ranker.layers)
        for one in map(few, lists):
            ranker.network.zero_grad(set_to_none=True)
            loss = ranking_loss(ranker.score(one.query, one.texts), one)
            loss.backward()  # type: ignore[no-untyped-call]
            for number, layer in enumerate(ranker.layers):
                for weight in layer.parameters():
                    if weight.grad is not None and weight.ndim == 2:
                        found[number] += float((weight * weight.grad).detach().sum(1).abs().sum())
        ranker.network.zero_grad(set_to_none=True)
        return by_importance(found)


class EarlyExit(_Depth):
    """Keep the first layers only, at the depths where the loss has a minimum first (L3Prune's two cuts, in front).

    The loss of each depth is that of the model without the layers above it. The first cut is the best depth of the
    upper half, the second the best of the lower half (L3Prune, arXiv 2410.14578, its large and its small model).
    """

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """At most two cuts."""
        layers, whole = len(ranker.layers), ranker.scores(lists)
        losses: dict[int, float] = {}
        for depth in range(1, layers):
            with only_layers(ranker, range(depth)):
                losses[depth] = disagreement(ranker, lists, whole)
        halves = (range((layers + 1) // 2, layers), range(1, (layers + 1) // 2))
        return [layer_cut(range(min(half, key=lambda d: losses[d])), layers) for half in halves if half]


class Greedy(_Depth):
    """Remove, one after another, the layer without which nDCG@10 of the calibration lists is highest.

    Where nothing is judged, the layer without which scores stay nearest to the whole model's.
    """

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut a step."""
        layers, whole = len(ranker.layers), ranker.scores(lists)
        judged = any(any(one.relevance()) for one in lists)
        kept, cuts = list(range(layers)), []
        while len(kept) > 1:
            worth = {}
            for number in kept:
                left = [other for other in kept if other != number]
                with only_layers(ranker, left):
                    if judged:
                        worth[number] = ndcg(lists, ranker.scores(lists))
                    else:
                        worth[number] = -disagreement(ranker, lists, whole)
            kept.remove(max(kept, key=lambda number: (worth[number], number)))
            cuts.append(layer_cut(kept, layers))
        return cuts


class LastLayers(_Depth):
    """Remove the last layers: the simple cut that every other method has to beat."""

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut for each number of layers."""
        layers = len(ranker.layers)
        return [layer_cut(range(layers - count), layers) for count in range(1, layers)]


class RandomLayers:
    """Remove layers in a random order: the baseline.

    Args:
        argument: the seed, 0 by default.
    """

    def __init__(self, argument: str = "") -> None:
        self._seed = seed_of(argument)

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut for each number of layers; each holds the one before."""
        order = list(range(len(ranker.layers)))
        random.Random(self._seed).shuffle(order)  # noqa: S311
        return by_importance([float(order.index(number)) for number in range(len(order))])


def seed_of(argument: str) -> int:
    """The seed of a random method.

    Raises:
        ConfigError: it is not a whole number, negative, or beyond 63 bits.
    """
    try:
        seed = int(argument or "0")
    except ValueError:
        raise ConfigError(f"the seed of a random method must be a whole number; got {argument!r}") from None
    if not 0 <= seed < 2**63:
        raise ConfigError(f"the seed of a random method must be from 0 to {2**63 - 1}; got {seed}")
    return seed


def influence(ranker: Ranker, lists: Sequence[Candidates]) -> NDArray[np.float64]:
    """float64[L]: 1 - mean cosine of what enters and what leaves each layer."""
    layers = len(ranker.layers)
    totals, count = np.zeros(layers), 0
    for states in walked(ranker, lists):
        cosines = _cosines(states)
        totals += np.array([cosines[number, number + 1].sum() for number in range(layers)])
        count += cosines.shape[2]
    return 1.0 - totals / count


def _cosines(states: torch.Tensor) -> NDArray[np.float64]:
    """[L+1, L+1, n]: cosines of the states of n tokens after every pair of layers; from [L+1, n, width]."""
    unit = states.float() / states.float().norm(dim=2, keepdim=True).clamp_min(1e-12)
    found: NDArray[np.float64] = (unit.transpose(0, 1) @ unit.permute(1, 2, 0)).permute(1, 2, 0).double().cpu().numpy()
    return found


def walked(ranker: Ranker, lists: Sequence[Candidates]) -> Iterator[torch.Tensor]:
    """The states of real tokens between layers, [L+1, n, width], for one forward pass after another."""
    library, architectures = ranker.torch, getattr(ranker.network.config, "architectures", None) or [""]
    causal = str(architectures[0]).endswith("ForCausalLM")
    masks: list[torch.Tensor] = []
    states: list[list[torch.Tensor]] = []

    def entering(_: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        states[-1].append(args[0] if args else options["hidden_states"])

    def leaving(_: Any, __: Any, out: Any) -> None:
        states[-1].append(out[0] if isinstance(out, tuple) else out)

    def starting(_: Any, args: tuple[Any, ...]) -> None:
        masks.append(args[0]["attention_mask"])
        states.append([])

    layers = ranker.layers
    hooks = [layer.register_forward_pre_hook(entering, with_kwargs=True) for layer in layers]
    hooks.append(layers[-1].register_forward_hook(leaving))
    hooks.append(ranker.library[0].register_forward_pre_hook(starting))
    try:
        for one in lists:
            small = few(one, _WALKED)
            with library.inference_mode():
                ranker.score(small.query, small.texts)
            while states:
                mask, stacked = masks.pop().bool(), library.stack(states.pop())
                if causal:
                    last = library.zeros_like(mask)
                    last[library.arange(len(mask)), mask.shape[1] - 1 - mask.flip(1).int().argmax(1)] = True
                    mask = last
                yield stacked[:, mask]
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def only_layers(ranker: Ranker, kept: Sequence[int]) -> Iterator[None]:
    """Inside the block the model has these layers only; its weights are not copied."""
    parent, attribute, layers = ranker.place_of_layers()
    config = ranker.network.config
    before = {key: value for key, value in config.to_dict().items() if isinstance(value, int | list)}
    ranker.keep_layers(list(kept))
    try:
        yield
    finally:
        setattr(parent, attribute, layers)
        for number, layer in enumerate(layers):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = number  # type: ignore[assignment]
        for key, value in before.items():
            if getattr(config, key, value) != value:
                setattr(config, key, value)
