"""Which feed-forward neurons and attention heads of a model can go: six ways to score them, and their removal.

A neuron is one input of the linear map that leads out of a feed-forward layer, a head one block of inputs of the map
that leads out of an attention layer. Every layer loses the same number, because configurations of transformers have one
width for all layers. Neurons are really removed: the matrices shrink. Heads are really removed where the configuration
has a width of heads of its own (`head_dim`, as in Llama and Qwen), there with the keys and values that they share; in
BERT and its relatives, whose heads divide the width of the states, they are set to zero, which measures what they are
worth and saves neither bytes nor time.
"""

from __future__ import annotations

import random
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thresher.compress.data import few
from thresher.compress.depth import seed_of
from thresher.compress.loss import ranking_loss, ranking_score
from thresher.compress.methods import Cut
from thresher.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import nn

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker

Part = Literal["neurons", "heads"]
SHARES = (0.1, 0.25, 0.5, 0.75)
"""Shares that are removed of each layer's neurons or heads."""
STEPS = 4
"""Points of the path of integrated gradients."""
_WORDS = 8
_OUT = re.compile(r"(attention\.output\.dense|o_proj|attn\.o|out_lin|out_proj)$")
_IN = re.compile(r"(query|key|value|[qkv]_proj|attn\.[qkv]|[qkv]_lin)$")


@dataclass(frozen=True, slots=True)
class Units:
    """The neurons or heads of one layer.

    Attributes:
        down: the linear map whose inputs they are.
        count: how many there are.
        ups: the maps whose outputs make them.
    """

    down: nn.Linear
    count: int
    ups: tuple[nn.Linear, ...]

    @property
    def width(self) -> int:
        """Inputs of `down` that one unit has."""
        return int(self.down.in_features) // self.count


def units_of(ranker: Ranker, part: Part) -> list[Units]:
    """The neurons or the heads of every layer.

    Raises:
        ModelError: the layers have another structure than is known here.
    """
    found = [_neurons(ranker, layer) if part == "neurons" else _heads(ranker, layer) for layer in ranker.layers]
    if any(one is None for one in found):
        raise ModelError(
            f"the {part} of {type(ranker.network).__name__} cannot be told apart: its layers have other linear maps "
            "than those of BERT, MPNet, DistilBERT, Llama and their relatives"
        )
    return [one for one in found if one is not None]


def _linear(ranker: Ranker, layer: nn.Module) -> dict[str, nn.Linear]:
    return {name: one for name, one in layer.named_modules() if isinstance(one, ranker.torch.nn.Linear)}


def _neurons(ranker: Ranker, layer: nn.Module) -> Units | None:
    config = ranker.network.config
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
    maps = _linear(ranker, layer).values()
    down = [one for one in maps if one.in_features == inner and one.out_features != inner]
    ups = [one for one in maps if one.out_features == inner and one.in_features != inner]
    return Units(down[0], int(inner), tuple(ups)) if inner and len(down) == 1 and ups else None


def _heads(ranker: Ranker, layer: nn.Module) -> Units | None:
    maps = _linear(ranker, layer)
    out = [one for name, one in maps.items() if _OUT.search(name)]
    into = [one for name, one in maps.items() if _IN.search(name)]
    return Units(out[0], groups_of_heads(ranker), tuple(into)) if len(out) == 1 and len(into) == 3 else None


def groups_of_heads(ranker: Ranker) -> int:
    """Units of attention: groups of heads that share keys and values, where heads can be removed; else heads."""
    config = ranker.network.config
    heads = getattr(config, "num_attention_heads", None) or config.n_heads
    return int(getattr(config, "num_key_value_heads", None) or heads) if _shrinks(ranker) else int(heads)


def _shrinks(ranker: Ranker) -> bool:
    return isinstance(getattr(ranker.network.config, "head_dim", None), int)


class Width:
    """Removes the units that a score finds least important, the same share of each layer.

    Args:
        part: `neurons` or `heads`.
        score: `taylor`, `fisher`, `integrated-gradients`, `aligned`, `magnitude` or `random`.
        seed: of random removal.
    """

    def __init__(self, part: Part, score: str, seed: int = 0) -> None:
        if score not in SCORES:
            raise ConfigError(f"unknown score {score!r} of {part}; choose one of {', '.join(SCORES)}")
        self.part, self.score, self._seed = part, score, seed

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut for each share."""
        units = units_of(ranker, self.part)
        if self.score == "random":
            draw = random.Random(self._seed)  # noqa: S311
            importance = [np.array([draw.random() for _ in range(one.count)]) for one in units]
        else:
            importance = SCORES[self.score](ranker, units, lists)
        cuts: dict[int, Cut] = {}
        for share in SHARES:
            count = units[0].count
            gone = min(count - 1, round(share * count))
            if not gone:
                continue
            kept = [sorted(np.argsort(-values, kind="stable")[: count - gone].tolist()) for values in importance]
            label = f"{count - gone} of {count} {self.part}"
            cuts.setdefault(gone, Cut(self.part, gone / count, label, {"kept": kept}))
        return list(cuts.values())


def neurons(argument: str = "") -> Width:
    """`neurons:SCORE`; Taylor scores by default."""
    return Width("neurons", argument or "taylor")


def heads(argument: str = "") -> Width:
    """`heads:SCORE`; Taylor scores by default."""
    return Width("heads", argument or "taylor")


def random_neurons(argument: str = "") -> Width:
    """`random-neurons:SEED`: the baseline."""
    return Width("neurons", "random", seed_of(argument))


def random_heads(argument: str = "") -> Width:
    """`random-heads:SEED`: the baseline."""
    return Width("heads", "random", seed_of(argument))


def apply(ranker: Ranker, cut: Cut, lists: Sequence[Candidates]) -> None:
    """Remove the units that the cut does not keep; `lists` is not looked at.

    Raises:
        ConfigError: the cut is of a model with other layers.
    """
    part: Part = "neurons" if cut.axis == "neurons" else "heads"
    units, kept = units_of(ranker, part), cut.spec["kept"]
    if len(kept) != len(units) or any(rows[-1] >= one.count for rows, one in zip(kept, units, strict=True)):
        raise ConfigError(
            f"the cut of {len(kept)} layers does not fit a model with {len(units)} of {units[0].count} {part}"
        )
    for rows, one in zip(kept, units, strict=True):
        if part == "heads" and not _shrinks(ranker):
            _silence(ranker, one, rows)
        else:
            _shrink(ranker, one, rows)
    config = ranker.network.config
    if part == "neurons":
        setattr(config, "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size", len(kept[0]))
    elif _shrinks(ranker):
        config.num_attention_heads = config.num_attention_heads * len(kept[0]) // units[0].count
        config.num_key_value_heads = len(kept[0])


def _places(rows: Sequence[int], width: int) -> list[int]:
    return [row * width + place for row in rows for place in range(width)]


def _shrink(ranker: Ranker, one: Units, rows: Sequence[int]) -> None:
    torch, count = ranker.torch, one.count
    with torch.no_grad():
        for up in one.ups:
            places = _places(rows, up.out_features // count)
            up.weight = torch.nn.Parameter(up.weight[places].clone())
            if up.bias is not None:
                up.bias = torch.nn.Parameter(up.bias[places].clone())
            up.out_features = len(places)
        places = _places(rows, one.width)
        one.down.weight = torch.nn.Parameter(one.down.weight[:, places].clone())
        one.down.in_features = len(places)


def _silence(ranker: Ranker, one: Units, rows: Sequence[int]) -> None:
    gone = _places([row for row in range(one.count) if row not in set(rows)], one.width)
    with ranker.torch.no_grad():
        one.down.weight[:, gone] = 0.0


@contextmanager
def _inputs(units: Sequence[Units]) -> Iterator[list[list[torch.Tensor]]]:
    """What enters each unit's map, layer by layer and forward pass by forward pass, with gradients kept."""
    seen: list[list[torch.Tensor]] = [[] for _ in units]

    def watch(layer: int) -> Any:
        def entering(_: Any, args: tuple[torch.Tensor, ...]) -> None:
            if args[0].requires_grad:
                args[0].retain_grad()
                seen[layer].append(args[0])

        return entering

    hooks = [one.down.register_forward_pre_hook(watch(number)) for number, one in enumerate(units)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _per_unit(values: torch.Tensor, one: Units) -> torch.Tensor:
    """Sums over tokens and over the inputs of a unit: float[count] from [..., in_features]."""
    found: torch.Tensor = values.float().reshape(-1, one.count, one.width).sum((0, 2))
    return found


def products(ranker: Ranker, units: Sequence[Units], one: Candidates) -> list[torch.Tensor]:
    """By layer, float[count]: activation times gradient of the ranking loss, summed over the tokens of a list."""
    ranker.network.zero_grad(set_to_none=True)
    with _inputs(units) as seen:
        loss = ranking_loss(ranker.score(one.query, one.texts), one)
        loss.backward()  # type: ignore[no-untyped-call]
        found = []
        for layer, unit in zip(seen, units, strict=True):
            rows = [_per_unit(x.detach() * x.grad, unit) for x in layer if x.grad is not None]
            found.append(ranker.torch.stack(rows).sum(0))
    return found


def taylor(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """|activation * gradient| of the ranking loss, summed over lists (Molchanov and others, ICLR 2017)."""
    return _summed(ranker, units, lists, lambda value: value.abs())


def fisher(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """(activation * gradient) squared, summed over lists (Theis and others, arXiv 1801.05787)."""
    return _summed(ranker, units, lists, lambda value: value**2)


def _summed(
    ranker: Ranker,
    units: Sequence[Units],
    lists: Sequence[Candidates],
    form: Callable[[torch.Tensor], torch.Tensor],
) -> list[NDArray[np.float64]]:
    totals = [np.zeros(one.count) for one in units]
    for one in lists:
        found = products(ranker, units, few(one))
        totals = [total + form(value).double().cpu().numpy() for total, value in zip(totals, found, strict=True)]
    ranker.network.zero_grad(set_to_none=True)
    return totals


def integrated(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """Integrated gradients of the ranking score along a path from zero word embeddings to the real ones.

    The attribution of a unit is the sum along the path of its change times the gradient, over tokens, as in "Which
    Neurons Matter in IR?" with conductance for hidden units (Sundararajan and others, ICML 2017; Dhamdhere and others,
    ICLR 2019). Its absolute value is summed over lists.
    """
    words, scale = ranker.network.get_input_embeddings(), [0.0]
    hook = words.register_forward_hook(lambda _, __, out: out * scale[0])
    totals = [np.zeros(one.count) for one in units]
    try:
        for whole in lists:
            one = few(whole)
            before: list[list[torch.Tensor]] = []
            sums = [ranker.torch.zeros(unit.count) for unit in units]
            for step in range(STEPS + 1):
                scale[0] = step / STEPS
                ranker.network.zero_grad(set_to_none=True)
                with _inputs(units) as seen:
                    score = ranking_score(ranker.score(one.query, one.texts), one)
                    score.backward()  # type: ignore[no-untyped-call]
                    now = [[x.detach() for x in layer] for layer in seen]
                    for number, unit in enumerate(units if before else ()):
                        for x, old in zip(seen[number], before[number], strict=True):
                            if x.grad is not None:
                                sums[number] += _per_unit((x.detach() - old) * x.grad, unit).cpu()
                before = now
            totals = [total + value.abs().double().numpy() for total, value in zip(totals, sums, strict=True)]
    finally:
        hook.remove()
    ranker.network.zero_grad(set_to_none=True)
    return totals


def aligned(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """Fisher score on the lists times 1 + the cosine of the gradients of the lists and of general text.

    After GAPrune (Tang and Yang, arXiv 2509.10844), by unit instead of by weight, without its other terms. General text
    is the same passages with their own first words for a query; gradients are those of a unit's outgoing weights.
    """
    general = [replace(one, query=" ".join(one.texts[0].split()[:_WORDS]), grades={one.docnos[0]: 1}) for one in lists]
    importance = fisher(ranker, units, lists)
    cosines = []
    for domain, other in zip(_gradients(ranker, units, lists), _gradients(ranker, units, general), strict=True):
        cosines.append(ranker.torch.nn.functional.cosine_similarity(domain, other, dim=1).double().cpu().numpy())
    return [values * (1.0 + cosine) for values, cosine in zip(importance, cosines, strict=True)]


def _gradients(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[torch.Tensor]:
    """By layer, float[count, n]: the mean gradient of a unit's outgoing weights."""
    ranker.network.zero_grad(set_to_none=True)
    for one in lists:
        small = few(one)
        loss = ranking_loss(ranker.score(small.query, small.texts), small)
        loss.backward()  # type: ignore[no-untyped-call]
    found = []
    for unit in units:
        grad = unit.down.weight.grad
        found.append((unit.down.weight * 0 if grad is None else grad).detach().T.reshape(unit.count, -1).clone())
    ranker.network.zero_grad(set_to_none=True)
    return found


def magnitude(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """Norm of a unit's outgoing weights times the norm of those that lead to it; `ranker` and `lists` do not matter."""
    found = []
    for one in units:
        out = one.down.weight.detach().float().T.reshape(one.count, -1).norm(dim=1)
        for up in one.ups:
            out = out * up.weight.detach().float().reshape(one.count, -1).norm(dim=1)
        found.append(out.double().cpu().numpy())
    return found


def no_score(ranker: Ranker, units: Sequence[Units], lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
    """Stands for the random order, which `Width` draws."""
    return []


SCORES: dict[str, Callable[..., list[NDArray[np.float64]]]] = {
    "taylor": taylor,
    "fisher": fisher,
    "integrated-gradients": integrated,
    "aligned": aligned,
    "magnitude": magnitude,
    "random": no_score,
}
