"""From labelled queries to a trained and calibrated model: what `thresher context train` does.

Queries are parted by family, near-duplicates of held-out passages leave the training part, each answered query
meets a passage that looks like an answer to it and holds none, and the presets' thresholds are chosen on the
calibration part.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.context.calibrate import GOALS, calibrate
from thresher.context.scorers import SplitPassage
from thresher.context.sentence_head import FEATURES
from thresher.errors import DataNotFoundError, InputError, require
from thresher.models import two_headed
from thresher.text.analyzer import analyzer
from training.context import model as model_files
from training.context.collections import without_kin
from training.context.fit import FitConfig, Group, LabelledPassage, Trainer
from training.context.learners import fit_perceptron

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thresher.context.calibrate import Calibration, LabelledQuery
    from thresher.context.model import TwoHeadedScorer


def make_groups(rows: Sequence[LabelledQuery], *, seed: int = 7) -> list[Group]:
    """A group for each query: its passage, and one of the most similar ones that hold no answer of it.

    A passage is similar when it shares the query's rarer terms; it holds no answer when no answer's text is in it.
    """
    chooser = random.Random(seed)  # noqa: S311  (an example, not a secret)
    terms = analyzer("english")
    texts = list(dict.fromkeys(row.passage for row in rows))
    sentences = {row.passage: row.sentences for row in rows}
    holders: dict[str, set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for term in set(terms(text)):
            holders[term].add(number)
    groups = []
    for row in rows:
        passages = [LabelledPassage(row.passage, row.sentences, row.labels)]
        score: Counter[int] = Counter()
        for term in sorted(set(terms(row.query))):
            for number in holders.get(term, ()):
                score[number] += 1 / len(holders[term])  # type: ignore[assignment]  # Counter adds any number
        answers = [row.passage[a.start : a.end].lower() for a in row.answers]
        likely = [
            texts[n]
            for n, _ in sorted(score.items(), key=lambda item: (-item[1], item[0]))[:10]
            if texts[n] != row.passage and not any(a in texts[n].lower() for a in answers)
        ]
        if row.answers and likely:
            text = chooser.choice(likely)
            passages.append(LabelledPassage(text, sentences[text], tuple(0 for _ in sentences[text])))
        targets = (3.0, 0.0) if len(passages) > 1 else None
        groups.append(Group(row.query, tuple(passages), targets))
    return groups


def fit_sentence_head(scorer: TwoHeadedScorer, groups: Sequence[Group], *, most: int = 600) -> dict[str, Any]:
    """A sentence head on the labelled passages of the first groups, as `config.json` keeps it."""
    passages = [(g.query, p) for g in groups[:most] for p in g.passages if p.labels is not None]
    pairs = [(query, SplitPassage(p.text, p.sentences)) for query, p in passages]
    features: list[Any] = []
    labels: list[int] = []
    for (query, passage), (_, labelled_one), reading in zip(pairs, passages, scorer.read(pairs), strict=True):
        if reading.sentences:
            features.append(scorer.features(query, passage, reading))
            labels += labelled_one.labels or ()
    head = fit_perceptron(np.concatenate(features), np.array(labels, dtype=np.float64))
    return {"features": list(FEATURES), **asdict(head)}


def calibrate_presets(rows: Sequence[LabelledQuery], scorer: TwoHeadedScorer) -> Mapping[str, Calibration]:
    """A calibration for each preset's goal."""
    answered = [row for row in rows if row.answers]
    scores = scorer.score([(row.query, SplitPassage(row.passage, row.sentences)) for row in answered])
    return {preset: calibrate(answered, scores, goal) for preset, goal in GOALS.items()}


def train_on(
    rows: Sequence[LabelledQuery],
    output: Path,
    *,
    steps: int = 500,
    start: str = "thresher-context",
    rate: float = 3e-4,
    seed: int = 7,
    progress: bool = False,
) -> Mapping[str, Calibration]:
    """Train a two-headed model on labelled queries, write it to `output`, and calibrate its presets.

    Args:
        rows: labelled queries; each is used in its own `part` (`test` is left alone).
        output: the model's directory. Checkpoints are kept in it under `checkpoint/` until training has ended, and an
            interrupted run continues from there.
        steps: optimiser steps.
        start: `thresher-context`, a directory of a model, or `none` for the embedded encoder as it is.
        rate: learning rate of the adapters.
        seed: of everything random.
        progress: show a bar.

    Returns:
        The calibration of each preset.

    Raises:
        InputError: the training or the calibration part has no answered query.
        DataNotFoundError: there is no model at `start`.
        MissingExtraError: torch is not installed.
    """
    from tqdm import tqdm

    from thresher.context.model import RARITY, TwoHeadedScorer
    from thresher.models.files import embedded_path
    from thresher.models.minilm import load_tokenizer
    from thresher.models.two_headed import SHIPPED

    torch = require("torch", extra="models", purpose="training a context pruner")
    safetensors = require("safetensors.torch", extra="models", purpose="training a context pruner")
    held = [row for row in rows if row.part != "train"]
    training = without_kin([row for row in rows if row.part == "train"], held)
    calibration = [row for row in held if row.part == "calibrate" and row.answers]
    if not any(row.answers for row in training) or not calibration:
        raise InputError(
            f"{len(training)} questions to train on and {len(calibration)} answered ones to calibrate on, "
            f"of {len(rows)}: give more passages (the part is drawn by passage, or by `family`)"
        )
    torch.manual_seed(seed)
    body = embedded_path()
    origin = None if start == "none" else SHIPPED if start == "thresher-context" else output.__class__(start)
    if origin is not None and not two_headed.is_saved(origin):
        raise DataNotFoundError(f"no two-headed model at {origin} to start from; give --start none to start afresh")
    shape = two_headed.JoinedBertConfig() if origin is None else two_headed.read_config(origin)[0]
    model = model_files.build(shape)
    model_files.load_body(model, safetensors.load_file(str(body / "model.safetensors")))
    tensors = {}
    if origin is not None:
        saved = safetensors.load_file(str(origin / "model.safetensors"))
        tensors = {name: saved.pop(name) for name in (RARITY,) if name in saved}
        model_files.load_trained(model, {name: tensor.float() for name, tensor in saved.items()})
    tokenizer = load_tokenizer(body)
    tokenizer.no_truncation()
    trainer = Trainer(model, tokenizer, make_groups(training, seed=seed), FitConfig(steps=steps, rate=rate, seed=seed))
    with tqdm(total=steps, disable=not progress, unit="step") as bar:
        trainer.run(output / "checkpoint", lambda parts: bar.update(int(parts["step"]) - bar.n))
    about: dict[str, Any] = {"name": output.name}
    if origin is not None:
        about |= {key: value for key, value in two_headed.read_config(origin)[1].items() if key == "rank_head"}
    model_files.save(model, output, about, tensors)
    about["sentence_head"] = fit_sentence_head(TwoHeadedScorer(output), trainer.groups)
    model_files.save(model, output, about, tensors)
    found = calibrate_presets(calibration, TwoHeadedScorer(output))
    about["presets"] = {name: one.threshold for name, one in found.items()}
    model_files.save(model, output, about, tensors)
    calibrations = {name: asdict(one) for name, one in found.items()}
    (output / "calibration.json").write_text(json.dumps(calibrations, indent=2) + "\n", encoding="utf-8")
    for file in (output / "checkpoint").iterdir():
        file.unlink()
    (output / "checkpoint").rmdir()
    return found
