"""A share of the requests is also asked of an unpruned index, which takes the place of the pruned one if that loses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx2
import pytest

pytest.importorskip("prometheus_client")

from thresher import Index
from thresher.certify.running import Running
from thresher.certify.shadow_report import ShadowSettings
from thresher.cli import main
from thresher.errors import ConfigError, InputError
from thresher.index.filters import Where
from thresher.serve import ServeSettings, create_app
from thresher.serve.keys import Caller, key_of
from thresher.serve.shadowing import ShadowPlan

QUERY = "chaff in field 8 of team red"
BOSS = {"authorization": "Bearer boss"}
KEYS = (
    key_of("boss", Caller("boss", admin=True)),
    key_of("red-only", Caller("red", where=Where.parse("team = red"))),
)


@pytest.fixture(scope="module")
def halved(small_index, tmp_path_factory):
    """The small index without the passages of even number."""
    path = tmp_path_factory.mktemp("shadow") / "halved"
    shutil.copytree(small_index, path)
    with Index.open(path) as index, index.writer() as writer:
        writer.delete(docnos=[f"d{n}" for n in range(0, 40, 2)])
        writer.commit()
    return path


def plan(baseline, state=None, **settings):
    return ShadowPlan(baseline, ShadowSettings(**{"margin": 0.05, "share": 1.0, **settings}), state)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)


def metrics(made):
    text = made.client.get("/metrics", headers=BOSS).text
    found = re.findall(r"^thresher_shadow_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return {(name, of): float(value) for name, of, value in found}


def report(made):
    return made.client.get("/indexes/pruned/shadow", headers=BOSS).json()


def sampled(made):
    found = made.services.hosted["pruned"].shadow.report()
    return found.sampled + found.dropped + found.failed


def test_a_loss_is_measured_shown_and_fallen_back_from_until_it_is_reset(
    small_index, halved, serving, tmp_path, monkeypatch, capsys
):
    shadows = {"pruned": plan(small_index, tmp_path / "pruned.json", policy="fall-back")}
    with serving({"pruned": halved}, shadows, keys=KEYS) as made:
        made.wait_until_ready()

        def found(key="boss", route="/search", **body):
            headers = {"authorization": f"Bearer {key}"}
            answer = made.client.post(route, json={"query": QUERY, "k": 40, **body}, headers=headers).json()
            return {one["docno"] for one in answer["hits" if route == "/search" else "passages"]}

        assert not {"d0", "d2"} & found()
        assert made.client.get("/info", headers=BOSS).json()["indexes"][0]["shadow"]["falls_back"] is False
        for number in range(30):
            if made.services.hosted["pruned"].shadow.falls_back:
                break
            found(route=("/search", "/ask")[number % 2])
            until(lambda wanted=number + 2: sampled(made) >= wanted)
        assert {"d0", "d2"} <= found()
        assert {"d0", "d2"} <= found(route="/ask")
        assert found("red-only") == {f"d{n}" for n in range(0, 40, 2)}, "a tenant sees its own of the baseline alone"
        shown = metrics(made)
        assert shown["outcome", 'index="pruned",outcome="lost"'] == 1
        assert shown["falls_back", 'index="pruned"'] == 1
        counted = [shown[f"{one}_total", 'index="pruned"'] for one in ("sampled", "dropped", "failed")]
        assert counted[0] >= 2
        assert counted[1:] == [0, 0]
        low, mean, high = (shown[f"loss_{one}", 'index="pruned"'] for one in ("low", "mean", "high"))
        assert 0.05 < low < mean < high
        told = made.client.get("/indexes/pruned/shadow", headers=BOSS).text
        assert str(halved.parent) not in told
        assert str(small_index.parent) not in told
        assert QUERY not in told + (tmp_path / "pruned.json").read_text()
        monkeypatch.setenv("SOME_KEY", "boss")
        monkeypatch.setattr(sys, "argv", ["thresher", "shadow", made.url, "--api-key-env", "SOME_KEY", "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, json.loads(capsys.readouterr().out)["outcome"]) == (3, "lost")
        refused = made.client.post("/admin/shadow/reset", json={}, headers={"authorization": "Bearer red-only"})
        assert refused.status_code == 403
        monkeypatch.setattr(sys, "argv", [*sys.argv, "--reset"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert not {"d0", "d2"} & found()
        assert report(made)["history"][0]["outcome"] == "lost"
    assert Running.read(tmp_path / "pruned.json").history[0].outcome == "lost"


def test_a_restricted_key_is_compared_within_what_it_may_see(small_index, serving):
    with serving({"pruned": small_index}, {"pruned": plan(small_index)}, keys=KEYS) as made:
        made.wait_until_ready()
        red = {"authorization": "Bearer red-only"}
        for number in range(4):
            route = ("/search", "/ask")[number % 2]
            assert made.client.post(route, json={"query": QUERY, "k": 5}, headers=red).status_code == 200
        body = {"knowledge_id": "pruned", "query": QUERY}
        assert made.client.post("/retrieval", json=body, headers=red).status_code == 200
        until(lambda: sampled(made) == 5)
        assert (report(made)["sampled"], report(made)["mean"], report(made)["failed"]) == (5, 0.0, 0)
    with pytest.raises(ConfigError, match="cannot be restricted as a key is"):
        keys = (key_of("odd", Caller("odd", where=Where.parse("colour = red"))),)
        create_app({"a": small_index}, ServeSettings(keys=keys), shadows={"a": plan(small_index)})
    with pytest.raises(ConfigError, match="no index 'b'"):
        create_app({"a": small_index}, shadows={"b": plan(small_index)})
    with pytest.raises(InputError, match="margin"):
        plan(small_index, margin=2.0)


def test_no_comparison_runs_while_there_is_no_core_to_spare(small_index, serving):
    with serving({"pruned": small_index}, {"pruned": plan(small_index)}, keys=KEYS) as made:
        made.wait_until_ready()
        busy, free = threading.Event(), threading.Event()
        work, loop = made.services.work, made.server.loop
        most = max(1, (os.cpu_count() or 1) // 2)

        def hold():
            busy.set()
            free.wait(30)

        import asyncio

        held = [asyncio.run_coroutine_threadsafe(work.run(hold), loop) for _ in range(most)]
        assert busy.wait(30)
        until(lambda: not work.spare)
        for _ in range(3):
            made.client.post("/search", json={"query": QUERY}, headers=BOSS)
        time.sleep(0.2)
        assert report(made)["sampled"] == 0
        free.set()
        for one in held:
            one.result(30)
        until(lambda: report(made)["sampled"] == 3)


def test_a_commit_of_either_index_starts_the_test_anew(small_index, serving, tmp_path):
    pruned, full = (shutil.copytree(small_index, tmp_path / name) for name in ("pruned", "full"))
    with serving({"pruned": pruned}, {"pruned": plan(full)}, keys=KEYS, refresh_seconds=0.05) as made:
        made.wait_until_ready()
        for number, path in enumerate((pruned, full)):
            made.client.post("/search", json={"query": QUERY}, headers=BOSS)
            until(lambda: report(made)["sampled"] == 1)
            with Index.open(path) as index, index.writer() as writer:
                writer.delete(docnos=["d0"])
                writer.commit()
            until(lambda wanted=number + 1: len(report(made)["history"]) == wanted)
            assert report(made)["sampled"] == 0
        why = [one["why"] for one in report(made)["history"]]
        assert why == [f"the {side} went from commit 1 to 2 (1 passages changed)" for side in ("baseline", "system")]


def test_the_command_keeps_the_test_between_starts_and_stops_at_once(small_index, tmp_path):
    command = [sys.executable, "-m", "thresher", "serve", f"pruned={small_index}", "--port", "0", "--no-access-log"]
    command += ["--shadow", f"pruned={small_index}", "--shadow-share", "1", "--shadow-state", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("listening on "):
                break
        assert f"pruned: 1 of the requests are also asked of {small_index}; margin 0.05, policy report" in lines
        with httpx2.Client(base_url=lines[-1].split()[-1], timeout=60) as client:
            until(lambda: client.get("/ready").status_code == 200)
            assert client.post("/search", json={"query": QUERY}).status_code == 200
            until(lambda: client.get("/indexes/pruned/shadow").json()["sampled"] == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    kept = Running.read(tmp_path / "pruned.json")
    assert (kept.sampled, kept.mean, kept.settings.share) == (1, 0.0, 1.0)


def test_a_shadow_of_no_index_is_wrong_usage(small_index, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["thresher", "serve", f"a={small_index}", "--shadow", f"b={small_index}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "once for each of a" in capsys.readouterr().err
