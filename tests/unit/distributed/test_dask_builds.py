"""The executor for Dask that docs/distributed.md shows makes the same segments; run where Dask is installed."""

import re
from pathlib import Path

import pytest

from tests.unit.distributed.test_building_shards import Here, lines, segments_of
from thresher.distributed.building import build_shards
from thresher.errors import InputError

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
PAGE = Path(__file__).parents[3] / "docs" / "distributed.md"


@pytest.fixture
def executor():
    source = re.search(r"^class DaskExecutor:\n(?:(?: .*)?\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {"as_completed": distributed.as_completed}
    exec(source[0], shown)  # noqa: S102
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield shown["DaskExecutor"](client)


def test_dask_makes_the_same_segments_and_raises_what_a_task_raised(executor, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines(60)) + "\n")
    build_shards(tmp_path / "here", corpus, "bm25", shards=3, executor=Here())
    build_shards(tmp_path / "index", corpus, "bm25", shards=3, executor=executor)
    assert segments_of(tmp_path / "index") == segments_of(tmp_path / "here")
    corpus.write_text("no JSON\n")
    with pytest.raises(InputError, match="not a JSON object"):
        build_shards(tmp_path / "other", corpus, "bm25", shards=3, executor=executor)
