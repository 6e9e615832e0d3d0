"""Healing: a short low-rank fine-tuning of a compressed model on the scores that the whole model gives.

Low-rank adapters (LoRA; Hu and others, ICLR 2022) on the linear maps of the remaining layers are trained so that the
softmax over a list's passages is the whole model's (`loss.agreement_loss`), and merged into the weights, so that the
model keeps its shape. No judgments are needed. Wants the package peft (extra `train`).
"""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING

from thresher.compress.loss import agreement_loss
from thresher.errors import InputError, ModelError, require
from thresher.models.hf import quiet_loading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel

    from thresher.compress.data import Candidates
    from thresher.compress.ranker import Ranker


def heal(
    ranker: Ranker,
    whole: Ranker,
    lists: Sequence[Candidates],
    *,
    steps: int,
    passages: int = 8,
    rank: int = 8,
    rate: float = 5e-4,
    seed: int = 0,
) -> None:
    """Train `ranker`, a compressed copy of `whole`, in place.

    Args:
        ranker: the model to train.
        whole: the model whose scores are the target.
        lists: calibration lists; a step takes one, and some of its passages.
        steps: gradient steps.
        passages: of a list, drawn at random for a step.
        rank: of the adapters.
        rate: largest learning rate of AdamW; it falls to 0 in a straight line.
        seed: of the order and the draws.

    Raises:
        MissingExtraError: peft is not installed.
        InputError: there is no list.
        ModelError: the model has no linear maps to adapt, or the loss is not finite.
    """
    if not lists:
        raise InputError("healing needs calibration lists: give queries with a run and their corpus, or a corpus")
    torch = ranker.torch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = _adapted(ranker, rank)
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    draws = random.Random(seed)  # noqa: S311
    for step in range(steps):
        one = lists[draws.randrange(len(lists))]
        texts = draws.sample(one.texts, min(passages, len(one.texts)))
        with torch.no_grad():
            wanted = whole.score(one.query, texts).float()
        for group in optimiser.param_groups:
            group["lr"] = rate * (1.0 - step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss = agreement_loss(ranker.score(one.query, texts), wanted)
        if not torch.isfinite(loss):
            raise ModelError(
                f"healing {ranker.name} failed at step {step + 1}: the loss is not finite; use fewer steps"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with quiet_loading():
        adapted.merge_and_unload()
    for weight in ranker.network.parameters():
        weight.requires_grad_(True)


def _adapted(ranker: Ranker, rank: int) -> PeftModel:
    """Put adapters on the linear maps of the layers; only these train."""
    peft = require("peft", extra="train", purpose="healing a compressed model")
    names = {
        name.rpartition(".")[2]
        for layer in ranker.layers
        for name, module in layer.named_modules()
        if isinstance(module, ranker.torch.nn.Linear)
    }
    if not names:
        raise ModelError(f"{ranker.name} has no linear maps in its layers, so that no adapter fits")
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=sorted(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of an attribute that peft asks transformers for
        return peft.get_peft_model(ranker.network, settings)
