"""A new commit is taken up while requests come in; each sees one commit from beginning to end."""

import shutil
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("prometheus_client")

from thresher import Index, Passage, build_index
from thresher.build.recipe import AskStep, load_recipe


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_new_commit_is_taken_up_without_a_dropped_request(small_index, serving, tmp_path):
    path, answers, stop = tmp_path / "grows", [], threading.Event()
    shutil.copytree(small_index, path)
    with serving({"grows": path}, refresh_seconds=0.05) as made:
        made.wait_until_ready()

        def ask():
            while not stop.is_set():
                body = {"query": "chaff", "k": 100, "facets": ["team"], "texts": False}
                answers.append(made.client.post("/search", json=body))
                stop.wait(0.02)

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
        until(lambda: failures in made.client.get("/metrics").text)
        assert len(made.client.post("/search", json={"query": "chaff", "k": 100}).json()["hits"]) == 40
        manifest.write_bytes(kept)


def test_an_index_that_is_built_again_in_another_way_gets_another_pipeline(small_index, serving, tmp_path):
    path = tmp_path / "rebuilt"
    shutil.copytree(small_index, path)
    recipe = load_recipe("bm25").model_copy(update={"ask": AskStep(context="", k=3)})
    with serving({"rebuilt": path}, refresh_seconds=0.05) as made:
        made.wait_until_ready()
        build_index(path, [Passage(f"n{n}", f"chaff again {n}", "") for n in range(6)], recipe=recipe, overwrite=True)
        until(lambda: made.client.get("/info").json()["indexes"][0]["passages"] == 6)
        (info,) = made.client.get("/info").json()["indexes"]
        assert (info["stages"], info["fields"]) == (["search"], {})
        answer = made.client.post("/ask", json={"query": "chaff"}).json()
        assert [one["docno"] for one in answer["passages"]] == ["n0", "n1", "n2"]


def test_models_that_fail_to_load_are_not_loaded_again_each_second(small_index, serving, tmp_path, monkeypatch, caplog):
    from thresher.errors import ModelError
    from thresher.serve import hosted

    path, opened, tries = tmp_path / "rebuilt", hosted.Hosted._opened, []
    shutil.copytree(small_index, path)
    recipe = load_recipe("bm25").model_copy(update={"ask": AskStep(context="", k=3)})

    def failing(self, index):
        tries.append(index.commit)
        raise ModelError(f"{self.path}: no weights")

    def built(number):
        passages = [Passage(f"n{n}", f"chaff again {n}", "") for n in range(number)]
        build_index(path, passages, recipe=recipe, overwrite=True)

    def told():
        return made.client.get("/info").json()["indexes"][0]

    monkeypatch.setattr(hosted, "_FIRST_WAIT", 1000.0)
    with serving({"rebuilt": path}, refresh_seconds=0.01) as made:
        made.wait_until_ready()
        assert "problem" not in told()
        monkeypatch.setattr(hosted.Hosted, "_opened", failing)
        built(6)
        until(lambda: "problem" in told())
        for _ in range(5):
            made.services.hosted["rebuilt"].refresh()
        assert told()["problem"] == "the last commit cannot be opened: rebuilt: no weights"
        assert len(made.client.post("/search", json={"query": "chaff", "k": 100}).json()["hits"]) == 40
        assert (len(tries), caplog.text.count("no weights")) == (1, 1)
        monkeypatch.setattr(hosted.Hosted, "_opened", opened)
        built(7)
        until(lambda: told()["passages"] == 7)
        assert "problem" not in told()


def test_the_wait_grows_with_each_failure_and_ends_when_the_index_is_another(monkeypatch):
    from thresher.serve import hosted

    now = [100.0]
    monkeypatch.setattr(hosted, "time", SimpleNamespace(monotonic=lambda: now[0]))
    failed, waits = hosted._Failed(), []
    assert not failed.waits("a")
    for _ in range(12):
        failed = failed.again("a")
        waits.append(failed.until - now[0])
        assert failed.waits("a") and not failed.waits("b")
        now[0] = failed.until
        assert not failed.waits("a")
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    assert failed.again("b").until == now[0] + 2
