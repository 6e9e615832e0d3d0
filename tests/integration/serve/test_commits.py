"""A new commit is taken up while requests come in; each sees one commit from beginning to end."""

import shutil
import threading

import pytest

pytest.importorskip("prometheus_client")

from thresher import Index, Passage


def test_a_new_commit_is_taken_up_without_a_dropped_request(small_index, serving, tmp_path):
    path, answers, stop = tmp_path / "grows", [], threading.Event()
    shutil.copytree(small_index, path)
    with serving({"grows": path}, refresh_seconds=0.05) as made:
        made.wait_until_ready()

        def ask():
            while not stop.is_set():
                body = {"query": "chaff", "k": 100, "facets": ["team"], "texts": False}
                answers.append(made.client.post("/search", json=body))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        with Index.open(path) as index, index.writer() as writer:
            for number in range(2):
                new = [Passage(f"new-{number}-{n}", "more chaff", "", {"team": "green"}) for n in range(5)]
                writer.add(new)
                writer.commit()
                wanted = 40 + 5 * (number + 1)
                while len(answers) < 10_000 and (not answers or len(answers[-1].json()["hits"]) < wanted):
                    stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join(20)
    assert {one.status_code for one in answers} == {200}
    sizes = set()
    for one in (answer.json() for answer in answers):
        counted = sum(value["count"] for value in one["facets"]["team"])
        assert counted == len(one["hits"]) == 40 + 5 * (one["commit"] - 1)
        sizes.add(counted)
    assert {40, 50} <= sizes


def test_a_commit_that_cannot_be_opened_leaves_the_one_before(small_index, serving, tmp_path):
    path = tmp_path / "breaks"
    shutil.copytree(small_index, path)
    with serving({"breaks": path}, refresh_seconds=0.05) as made:
        made.wait_until_ready()
        manifest = path / "manifest.json"
        kept = manifest.read_bytes()
        manifest.write_bytes(b"{")
        failures = 'thresher_refresh_failures_total{index="breaks"}'
        while failures not in made.client.get("/metrics").text:
            pass
        assert len(made.client.post("/search", json={"query": "chaff", "k": 100}).json()["hits"]) == 40
        manifest.write_bytes(kept)
