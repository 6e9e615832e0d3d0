"""Single weights set to zero, and weights in fewer bits: magnitude and Wanda scores, 2:4 patterns, int8, int4, bf16.

Only the linear maps of the layers change; embeddings and heads stay. Zeros are stored as zeros, so that bytes and
milliseconds of a sparse model are those of the whole one: what is measured is the effect on ranking, and a runtime for
sparse weights could build on it. `int8` is torch's dynamic quantisation: activations are quantised as they come. It
exists in memory only, since transformers has no format for it. `int4` rounds weights to 4 bits by torchao, in groups of
32 inputs with a scale each; a processor multiplies with what they are rounded to, so it is not quicker, and exists in
memory only, too. `bfloat16` halves the bytes and loads everywhere.
"""

from __future__ import annotations

import logging
import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from thresher.compress.data import few
from thresher.compress.depth import seed_of
from thresher.compress.methods import Cut
from thresher.errors import ConfigError, ModelError, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import nn

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker

SHARES = (0.3, 0.5, 0.7)
"""Shares of each map's weights that become zero."""
PATTERN = "2:4"
GROUP = 32
"""Inputs that share a scale in `int4`, at most."""
_BITS = {"int4": 4, "int8": 8, "bfloat16": 16}


class Sparse:
    """Sets the weights with the lowest score to zero.

    Args:
        score: `magnitude` (|w|, of each map), `wanda` (|w| times the norm of what enters at that place, of each output;
            Sun and others, arXiv 2306.11695) or `random`.
        pattern: empty for any pattern, or `2:4`: of four weights in a row, the two with the lower score.
        seed: of random removal.
    """

    def __init__(self, score: str, pattern: str = "", seed: int = 0) -> None:
        if pattern not in ("", PATTERN):
            raise ConfigError(f"unknown pattern {pattern!r} of zeros; use {score} or {score}:{PATTERN}")
        self.score, self.pattern, self.seed = score, pattern, seed

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut for each share; nothing is looked at yet."""
        _maps(ranker)
        cuts = []
        for share in (0.5,) if self.pattern else SHARES:
            spec = {"score": self.score, "pattern": self.pattern, "seed": self.seed}
            label = f"{1 - share:.0%} of weights" + (f", {PATTERN}" if self.pattern else "")
            cuts.append(Cut("weights", share, label, spec))
        return cuts


class Stored:
    """Stores weights in fewer bits.

    Args:
        form: `int4`, `int8` or `bfloat16`.

    Raises:
        MissingExtraError: for `int4`: torchao is not installed.
    """

    def __init__(self, form: str) -> None:
        self.form = form
        if form == "int4":
            _torchao()

    def plan(self, ranker: Ranker, lists: Sequence[Candidates]) -> list[Cut]:
        """One cut; its share is that of the bits of float32. Neither argument matters."""
        return [Cut("weights", 1 - _BITS[self.form] / 32, self.form, {"stored": self.form})]


def magnitude(argument: str = "") -> Sparse:
    """`magnitude` or `magnitude:2:4`."""
    return Sparse("magnitude", argument)


def wanda(argument: str = "") -> Sparse:
    """`wanda` or `wanda:2:4`."""
    return Sparse("wanda", argument)


def random_weights(argument: str = "") -> Sparse:
    """`random-weights:SEED`: the baseline."""
    return Sparse("random", seed=seed_of(argument))


def int8(argument: str = "") -> Stored:
    """`int8`."""
    return _no_argument("int8", argument)


def int4(argument: str = "") -> Stored:
    """`int4`."""
    return _no_argument("int4", argument)


def bfloat16(argument: str = "") -> Stored:
    """`bfloat16`."""
    return _no_argument("bfloat16", argument)


def _no_argument(form: str, argument: str) -> Stored:
    if argument:
        raise ConfigError(f"the compression method {form} takes no argument; got {argument!r}")
    return Stored(form)


def apply(ranker: Ranker, cut: Cut, lists: Sequence[Candidates]) -> None:
    """Zero or store the weights as the cut says; `lists` calibrate Wanda.

    Raises:
        ModelError: a 2:4 pattern does not fit the width of a map.
    """
    if "stored" in cut.spec:
        _store(ranker, str(cut.spec["stored"]))
        return
    maps = _maps(ranker)
    norms = _norms(ranker, maps, lists) if cut.spec["score"] == "wanda" else {}
    prune = require("torch.nn.utils.prune", extra="models", purpose="setting weights to zero")
    draws = ranker.torch.Generator().manual_seed(int(cut.spec["seed"]))
    for name, one in maps.items():
        weight = one.weight.detach()
        score = weight.abs().float()
        if cut.spec["score"] == "random":
            score = ranker.torch.rand(weight.shape, generator=draws).to(weight.device)
        if name in norms:
            score = score * norms[name]
        prune.custom_from_mask(one, "weight", _mask(ranker, name, score, cut))
        prune.remove(one, "weight")


def _mask(ranker: Ranker, name: str, score: torch.Tensor, cut: Cut) -> torch.Tensor:
    """1 for the weights that stay."""
    library = ranker.torch
    if cut.spec["pattern"] == PATTERN:
        if score.shape[1] % 4:
            raise ModelError(f"{name} has {score.shape[1]} inputs, which do not divide into fours; leave out {PATTERN}")
        fours = score.reshape(-1, 4)
        mask = library.zeros_like(fours).scatter_(1, fours.topk(2, dim=1).indices, 1.0)
        whole: torch.Tensor = mask.reshape(score.shape)
        return whole
    rows = score if cut.spec["score"] == "wanda" else score.reshape(1, -1)
    gone = round(cut.removed * rows.shape[1])
    mask = library.ones_like(rows).scatter_(1, rows.topk(gone, dim=1, largest=False).indices, 0.0)
    found: torch.Tensor = mask.reshape(score.shape)
    return found


def _maps(ranker: Ranker) -> dict[str, nn.Linear]:
    """The linear maps of the layers, by layer and name."""
    found = {
        f"layer {number} {name}": one
        for number, layer in enumerate(ranker.layers)
        for name, one in layer.named_modules()
        if isinstance(one, ranker.torch.nn.Linear)
    }
    if not found:
        raise ModelError(f"{ranker.name} has no linear maps in its layers, so no weights to remove")
    return found


def _norms(ranker: Ranker, maps: dict[str, nn.Linear], lists: Sequence[Candidates]) -> dict[str, torch.Tensor]:
    """float[in] by map: the norm over real tokens of what enters at each place."""
    squares = {name: ranker.torch.zeros(one.in_features) for name, one in maps.items()}
    with _entering(ranker, maps, squares), ranker.torch.inference_mode():
        for one in lists:
            small = few(one)
            ranker.score(small.query, small.texts)
    return {name: total.sqrt().to(maps[name].weight.device) for name, total in squares.items()}


@contextmanager
def _entering(ranker: Ranker, maps: dict[str, nn.Linear], squares: dict[str, torch.Tensor]) -> Iterator[None]:
    masks: list[torch.Tensor] = []

    def watch(name: str) -> Any:
        def entering(_: Any, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0].detach().float()
            if x.shape[:-1] == masks[-1].shape:
                x = x * masks[-1].unsqueeze(-1)
            squares[name] += x.reshape(-1, x.shape[-1]).square().sum(0).cpu()

        return entering

    def starting(_: Any, args: tuple[dict[str, torch.Tensor], ...]) -> None:
        masks.append(args[0]["attention_mask"].float())

    hooks = [one.register_forward_pre_hook(watch(name)) for name, one in maps.items()]
    hooks.append(ranker.library[0].register_forward_pre_hook(starting))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _store(ranker: Ranker, form: str) -> None:
    torch = ranker.torch
    if form == "bfloat16":
        ranker.network.to(torch.bfloat16)
        return
    if form == "int4":
        _to_int4(ranker)
        return
    ranker.dtype = "float32"  # of the states that int8 maps take
    quantization = require("torch.ao.quantization", extra="models", purpose="int8 weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the successor
        for layer in ranker.layers:
            quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    ranker.in_memory_only = "int8"


def _to_int4(ranker: Ranker) -> None:
    """Symmetric 4-bit weights in groups of `GROUP` inputs, or of the largest divisor that the width allows."""
    library = _torchao()
    groups = require("torchao.quantization.granularity", extra="int4", purpose="int4 weights")
    for one in _maps(ranker).values():
        group = groups.PerGroup(math.gcd(one.in_features, GROUP))
        config = library.IntxWeightOnlyConfig(weight_dtype=ranker.torch.int4, granularity=group)
        library.quantize_(one, config)
    ranker.in_memory_only = "int4"


def _torchao() -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it tells of kernels for graphics cards that it cannot load
    try:
        return require("torchao.quantization", extra="int4", purpose="int4 weights")
    finally:
        logging.disable(before)
