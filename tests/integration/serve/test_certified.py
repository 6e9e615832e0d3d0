"""The certificate of an index, on each face that tells of it, and for whom."""

import asyncio
import json
import shutil

import pytest

from thresher import Index, build_index
from thresher.certify import certify
from thresher.index.filters import Where
from thresher.records import Qrels, Query
from thresher.serve import ServeSettings
from thresher.serve.hosted import Hosted
from thresher.serve.keys import Caller, key_of
from thresher.serve.metrics import Metrics

KEYS = (
    key_of("all", Caller("all")),
    key_of("red", Caller("red", where=Where.parse("team = red"))),
    key_of("plain", Caller("plain", indexes=("plain",))),
)


def certified(path, baseline):
    """A certificate in the index at `path`: as it is it is shown, without most of its passages it is not."""
    queries = [Query(f"q{n}", f"grain in field {n}") for n in range(0, 40, 2)]
    qrels = Qrels({query.qid: {f"d{2 * place}": 1} for place, query in enumerate(queries)})
    made = certify(path, baseline, queries, qrels, margin=0.02, pipelines=["lexical"], fractions=[0.1, 0.75],
                   scores="length")  # fmt: skip
    made.write(path)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_index):
    folder = tmp_path_factory.mktemp("certified")
    for name in ("fields", "plain", "kept"):
        shutil.copytree(small_index, folder / name)
    for name in ("fields", "kept"):
        certified(folder / name, small_index)
    return folder


@pytest.fixture(scope="module")
def made(serving, folder):
    indexes = {"fields": folder / "fields", "plain": folder / "plain"}
    with serving(indexes, keys=KEYS, refresh_seconds=0.05) as server:
        server.client.headers["authorization"] = "Bearer all"
        yield server


def state(made, name="fields"):
    return next(one for one in made.client.get("/info").json()["indexes"] if one["name"] == name).get("certificate")


def test_it_is_told_without_paths_and_says_when_it_is_stale(made, folder, until):
    whole = made.client.get("/indexes/fields").json()["certificate"]
    assert (whole["state"], whole["certified"], whole["kind"], whole["margin"]) == ("certified", True, "judged", 0.02)
    assert whole["verdict"].startswith("Certified: fields (as it is) is not worse by 0.02 or more compared with fields")
    assert (whole["system"]["path"], whole["system"]["commit"], whole["baseline"]["passages"]) == ("fields", 1, 40)
    assert whole["tested"] == {"lexical": [0.1, 0.75]} and len(whole["claims"]) == 3
    assert whole["since"] == "the certificate is of the index as it is"
    assert str(folder.parent) not in json.dumps(whole)
    assert state(made) == {name: whole[name] for name in ("state", "verdict", "since")}
    assert state(made, "plain") is None and made.client.get("/indexes/plain").json()["certificate"] is None
    gauge = made.client.get("/metrics").text
    assert 'thresher_certificate{index="fields",state="certified"} 1.0' in gauge
    assert 'thresher_certificate{index="plain",state="none"} 1.0' in gauge
    with Index.open(folder / "fields") as index, index.writer() as writer:
        writer.delete(docnos=["d1", "d3"])
    assert state(made)["state"] == "stale"
    assert state(made)["since"] == "stale: 1 commit since the certificate, passages 2 deleted"
    changed = made.client.get("/indexes/fields").json()["certificate"]["changed"]
    assert (changed["stale"], changed["commits"], changed["deleted"]) == (True, 1, 2)
    stale = 'thresher_certificate{index="fields",state="stale"} 1.0'
    until(lambda: stale in made.client.get("/metrics").text, 20)
    (folder / "fields" / "certificate.json").write_text("{")
    whole = made.client.get("/indexes/fields").json()["certificate"]
    assert whole["state"] == state(made)["state"] == "unreadable" and "log has the cause" in whole["verdict"]


def test_who_may_see_only_a_part_is_told_nothing_of_it(made):
    for key in ("red", "plain"):
        answer = made.client.get("/info", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200 and "ertif" not in answer.text
        assert made.client.get("/indexes/fields", headers={"authorization": f"Bearer {key}"}).status_code in (403, 404)


def test_one_of_another_build_is_stale(folder, small_index, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(folder / "kept", path)
    hosted = Hosted("mine", path, Metrics())
    assert hosted.certificate.now().state == "certified"
    with Index.open(small_index) as index:
        build_index(path, index.passages_at(range(10)), recipe="bm25", overwrite=True)
    now = hosted.certificate.now()
    assert (now.state, now.document["changed"]["other"]) == ("stale", True)
    assert now.sentence.endswith("The certificate is of another index.")


def test_a_model_is_told_the_verdict_unless_it_may_see_only_a_part(folder):
    pytest.importorskip("mcp.server.mcpserver", reason="the extra mcp is not installed")
    from thresher.serve.mcp.toolbox import Toolbox

    box = Toolbox(folder / "kept", "kept", ServeSettings())
    whole = asyncio.run(box.run(box.index_info, KEYS[0].caller, None))
    said = "Certified: kept (as it is) is not worse by 0.02 or more compared with"
    assert whole.structured["certificate"].startswith(said) and f"Certificate. {said}" in whole.text
    part = asyncio.run(box.run(box.index_info, KEYS[1].caller, None))
    assert part.structured["certificate"] == "" and "ertif" not in part.text
