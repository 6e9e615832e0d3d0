"""A budget in bytes is kept by the whole index, measured on a sample; a long build says what it will take."""

import errno
import io
import logging
import shutil
import sys

import numpy as np
import pytest
from tqdm import tqdm

import thresher
from thresher import artifact
from thresher.build import Recipe, build_index, stream, tiers
from thresher.encode.shards import encoding_bar
from thresher.errors import ConfigError
from thresher.models.hf import watched
from thresher.prune.plan import PruneStep
from thresher.records import SparseBatch


@pytest.fixture(scope="module")
def passages():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(2000)]
    return [thresher.Passage(f"d{i}", " ".join(rng.choice(words, rng.integers(20, 60)))) for i in range(3000)]


def bytes_of(path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def step(**settings) -> Recipe:
    return Recipe(prune=PruneStep(estimator="length", fold=False, junk=False, **settings))


def test_a_budget_in_bytes_needs_no_rate_and_is_kept_by_the_whole_index(tmp_path, passages):
    build_index(tmp_path / "whole", passages, "bm25")
    budget = bytes_of(tmp_path / "whole") * 6 // 10
    report = build_index(tmp_path / "index", passages, step(budget=f"{budget} B", rest="drop"))
    assert 0.6 * budget < bytes_of(tmp_path / "index") < 1.15 * budget
    assert 0 < report.counts["passages"] < len(passages)
    pruned = next(stage for stage in report.usage.stages if stage.stage == "prune")
    assert pruned.counts["bytes_saved"] > 0


def test_a_budget_that_the_second_tier_exceeds_says_so(tmp_path, passages):
    with pytest.raises(ConfigError, match=r"second tier would take about .* bytes; allow more, or drop"):
        build_index(tmp_path / "index", passages, step(budget="40 KB"))
    assert list(tmp_path.iterdir()) == []


def test_savings_are_never_negative(tmp_path, passages):
    report = build_index(tmp_path / "index", passages, step(keep=0.9))
    counts = next(stage for stage in report.usage.stages if stage.stage == "prune").counts
    assert counts["bytes_saved"] >= 0
    assert counts["bytes_saved"] == 0 or "bytes_added" not in counts


def test_a_disk_without_room_for_the_corpus_is_refused_before_the_work(tmp_path, monkeypatch, passages):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(stream._Build, "index", lambda self: pytest.fail("the work began"))
    with pytest.raises(
        OSError, match=r"no space left in .* will take about [\d,]+ bytes, but only 1,000 are free"
    ) as caught:
        build_index(tmp_path / "index", passages, "bm25")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


class Encoder:
    """A learned encoder that knows three terms."""

    name, fingerprint, vocabulary = "three", "f", ("a", "b", "c")

    def encode_passages(self, texts):
        for _ in watched([[n] for n in range(len(texts))]):
            pass
        n = len(texts)
        return SparseBatch(np.arange(n + 1), np.zeros(n, np.uint32), np.ones(n, np.float32))

    def save(self, directory):
        directory.mkdir()


def test_a_long_build_with_a_learned_encoder_says_what_it_will_take(tmp_path, monkeypatch, caplog, passages):
    monkeypatch.setattr(stream, "open_learned", lambda step, device: Encoder())
    monkeypatch.setattr(stream, "_LONG", 1000)
    with caplog.at_level(logging.INFO, "thresher.build.stream"):
        build_index(tmp_path / "index", passages, Recipe.model_validate({"encode": {"encoder": "three"}}))
    assert "3,000 passages: encoding will take about " in caplog.text
    artifact.verify(tmp_path / "index")


class SlowAtFirst(Encoder):
    """Takes 100 seconds for the first text, as a model that is loaded and compiled does, and one for each other."""

    def __init__(self):
        self.clock = self.texts = 0

    def encode_passages(self, texts):
        self.clock += len(texts) + (100 if not self.texts else 0)
        self.texts += len(texts)
        return super().encode_passages(texts)


def test_what_a_build_will_take_does_not_hold_the_time_to_load_a_model(tmp_path, monkeypatch, caplog, passages):
    encoder = SlowAtFirst()
    monkeypatch.setattr(stream, "open_learned", lambda step, device: encoder)
    monkeypatch.setattr(stream, "_LONG", 1000)
    monkeypatch.setattr(tiers.time, "perf_counter", lambda: float(encoder.clock))
    with caplog.at_level(logging.INFO, "thresher.build.stream"):
        build_index(tmp_path / "index", passages, Recipe.model_validate({"encode": {"encoder": "three"}}))
    assert "3,000 passages: encoding will take about 50 minutes" in caplog.text


def test_the_bar_moves_with_every_batch_and_a_resumed_run_counts_its_own_rate(monkeypatch):
    bars = []
    original = tqdm.__init__

    def remember(self, *arguments, **options):
        original(self, *arguments, **options)
        bars.append(self)

    monkeypatch.setattr(tqdm, "__init__", remember)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with encoding_bar(100, progress=True) as done:
        done(40)  # read back from an earlier run
        assert (bars[0].n, bars[0].initial, bars[0].total) == (40, 40, 100)
        seen = [bars[0].n for _ in watched([[1, 2], [3], [4, 5, 6]])]
        assert seen == [40, 42, 43]
        done(6)
        assert (bars[0].n, bars[0].initial) == (46, 40)
    with encoding_bar(None, progress=False) as done:
        done(3)
