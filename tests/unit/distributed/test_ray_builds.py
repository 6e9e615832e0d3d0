"""Builds and searches on a Ray cluster are those of one process, and a lost node loses nothing; one small cluster."""

import threading
import time

import pytest

from tests.unit.distributed.test_building_shards import PRUNED, Here, answers_of, lines, segments_of
from thresher import Index
from thresher.distributed.building import build_shards
from thresher.distributed.sharded import ShardedIndex
from thresher.distributed.splitting import split_index
from thresher.errors import ArtifactError, InputError

ray = pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")

from ray.cluster_utils import Cluster  # noqa: E402

from thresher.distributed.ray_cluster import RayExecutor  # noqa: E402


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    file.write_text("\n".join(lines(200)) + "\n")
    return file


@pytest.fixture(scope="module")
def cluster():
    size = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster()
    try:
        for _ in range(3):
            made.add_node(**size)
    except Exception as err:  # Ray waits 30 seconds for a node and raises a plain Exception
        if "timed out during startup" not in str(err):
            raise
        made.shutdown()
        pytest.skip("a node of Ray did not start in 30 seconds on this busy machine")
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_cluster_makes_the_same_segments_and_a_lost_node_loses_nothing(cluster, corpus, tmp_path):
    build_shards(tmp_path / "here", corpus, PRUNED, shards=4, executor=Here())
    executor = RayExecutor()
    assert executor.in_flight == 16

    class Losing:
        """Removes a node while the first shards are scored."""

        lost = False

        def map(self, function, tasks):
            if tasks and tasks[0].stage == "read" and not self.lost:
                self.lost = True
                node = sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0]
                threading.Thread(target=lambda: (time.sleep(1), cluster.remove_node(node)), daemon=True).start()
            yield from executor.map(function, tasks)

    losing = Losing()
    build_shards(tmp_path / "index", corpus, PRUNED, shards=4, executor=losing)
    assert losing.lost and segments_of(tmp_path / "index") == segments_of(tmp_path / "here")


def test_what_a_task_raises_comes_out_of_the_build(cluster, tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join([*lines(9), "no JSON"]) + "\n")
    with pytest.raises(InputError, match="not a JSON object"):
        build_shards(tmp_path / "index", file, shards=2, executor=RayExecutor())


def test_shards_in_actors_answer_as_one_index(cluster, corpus, tmp_path):
    build_shards(tmp_path / "index", corpus, PRUNED, shards=2, executor=Here())
    shards = split_index(tmp_path / "index", tmp_path / "shards", 3)
    with Index.open(tmp_path / "index") as one, ShardedIndex.open(shards.path, run="ray", on_missing="partial") as many:
        assert answers_of(many, 10) == answers_of(one, 10)
        assert many.passages(["d1", "d2"]) == one.passages(["d1", "d2"])
        with pytest.raises(InputError, match="no field 'colour'"):
            many.search("grain", where="colour = red")
        with Index.open(shards.shards[0]) as shard, shard.writer() as writer:
            writer.delete(docnos=many.search("grain", 300).docnos)
        many.refresh()
        assert len(many) < len(one)
        (lost,) = many.shards[1].replicas
        lost.close()
        assert many.search("bread grain", 8).missing_shards == (lost.name,)
    with pytest.raises(ArtifactError, match="nowhere"):
        ShardedIndex.open([tmp_path / "nowhere"], run="ray")
