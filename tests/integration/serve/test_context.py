"""`/context` and `/expand`: pruned as the library prunes, and given back."""

import pytest

from thresher import ContextPruner, Index, Passage
from thresher.pipeline.deadline import AbandonedError, abandoned_if

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from thresher.serve.served import scores_of

QUERY = "which team keeps grain?"
TEXTS = ["The red team keeps grain. Rain falls. \U0001f33e Straw burns.", "Nothing of it is here.", ""]


def test_texts_are_pruned_as_the_library_does(reading):
    body = {"query": QUERY, "texts": TEXTS, "threshold": 0.3, "max_tokens": 30}
    found = reading.client.post("/context", json=body).json()
    wanted = ContextPruner("lexical").prune(QUERY, TEXTS, threshold=0.3, max_tokens=30)
    assert found["scorer"].startswith("lexical") and found["threshold"] == 0.3
    for one, other in zip(found["passages"], wanted, strict=True):
        assert (one["docno"], one["text"], one["tokens"]) == (other.docno, other.text, other.tokens)
        assert one["spans"] == [[span.start, span.end] for span in other.spans]
        assert [sentence["kept"] for sentence in one["sentences"]] == list(other.keep)
    assert found["context"] == wanted[0].text
    assert found["tokens"] <= 30 < found["original_tokens"] + 20


def test_many_texts_are_pruned_as_few_are(reading):
    body = {"query": QUERY, "texts": [f"{TEXTS[0]} Row {n}." for n in range(70)], "threshold": 0.3}
    found = reading.client.post("/context", json=body).json()["passages"]
    wanted = ContextPruner("lexical").prune(QUERY, body["texts"], threshold=0.3)
    assert [one["docno"] for one in found] == [str(n) for n in range(70)]
    assert [one["text"] for one in found] == [one.text for one in wanted]


def test_texts_that_nobody_waits_for_are_not_read_to_the_end(reading):
    class Scorer:
        read = 0

        def score(self, query, passages):
            self.read += len(passages)
            return ContextPruner("lexical").score(query, passages)

    scorer = Scorer()
    with abandoned_if(lambda: True), pytest.raises(AbandonedError):
        scores_of(scorer, QUERY, TEXTS * 20)
    assert scorer.read == 32


def test_what_was_dropped_of_a_posted_text_comes_back(reading):
    body = {"query": QUERY, "passages": [{"docno": "any name", "title": "T", "text": TEXTS[0]}], "min_keep": 1}
    one = reading.client.post("/context", json=body).json()["passages"][0]
    assert (one["docno"], one["title"], one["text"]) == ("any name", "T", "The red team keeps grain.")
    found = reading.client.post("/expand", json={"handle": one["handle"]}).json()
    assert found == {
        "index": None, "docno": "any name", "title": "T", "text": TEXTS[0], "kept": [[0, 25]],
        "dropped": [{"start": 25, "end": len(TEXTS[0]), "text": TEXTS[0][25:]}],
    }  # fmt: skip


def test_passages_of_the_index_are_named_by_docno(reading, reading_index):
    found = reading.client.post("/context", json={"query": QUERY, "docnos": ["d3", "d0"]}).json()
    passages = Index.open(reading_index).passages(["d3", "d0"])
    wanted = ContextPruner("lexical").prune(QUERY, passages, threshold=0.12)  # as the index's settings say
    assert [one["text"] for one in found["passages"]] == [one.text for one in wanted]
    whole = reading.client.post("/expand", json={"handle": found["passages"][0]["handle"]}).json()
    assert (whole["index"], whole["text"]) == ("reading", passages[0].text)
    assert reading.client.post("/expand", json={"docno": "d3", "spans": whole["kept"]}).json() == whole
    nothing = reading.client.post("/expand", json={"docno": "d3"}).json()
    assert [one["text"] for one in nothing["dropped"]] == [passages[0].text]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/context", {"query": QUERY}, 422, "give one of texts, passages and docnos"),
        ("/context", {"query": QUERY, "texts": ["a"], "docnos": ["d1"]}, 422, "give one of"),
        ("/context", {"query": QUERY, "docnos": ["d99"]}, 400, "d99"),
        ("/context", {"query": QUERY, "texts": ["a"], "threshold": "bold"}, 400, "'bold'"),
        ("/context", {"query": QUERY, "texts": ["a"], "threshold": 2}, 400, "threshold"),
        ("/context", {"query": QUERY, "texts": ["x"] * 1001}, 400, "1,001"),
        ("/context", {"query": QUERY, "texts": ["a", "x" * 200_001]}, 400, "text 1 has 200,001"),
        (
            "/context",
            {"query": QUERY, "passages": [{"text": "a", "title": "x" * 200_000}]},
            400,
            "passage 0 has 200,001",
        ),
        ("/expand", {}, 422, "give a handle, or a docno"),
        ("/expand", {"handle": "x", "docno": "d1"}, 422, "give a handle, or a docno"),
        ("/expand", {"handle": "x"}, 404, "'x' is not a handle"),
        ("/expand", {"docno": "d1", "spans": [[5, 900]]}, 400, "'d1'"),
        ("/expand", {"docno": "d1", "spans": [[5, 2]]}, 400, "5"),
        ("/expand", {"docno": "d1", "index": "other"}, 404, "other"),
    ],
)
def test_what_is_wrong_is_said(reading, path, body, status, message):
    answer = reading.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]


def test_a_handle_tells_that_its_passage_has_changed_or_is_gone(serving, reading_index, tmp_path):
    import shutil

    path = tmp_path / "index"
    shutil.copytree(reading_index, path)
    with serving({"changing": path}, refresh_seconds=1000, handle_seconds=0.001) as made:
        asked = made.client.post("/context", json={"query": QUERY, "docnos": ["d1", "d2", "d4"]}).json()
        posted = made.client.post("/context", json={"query": QUERY, "texts": ["It is short."]}).json()
        handles = [one["handle"] for one in asked["passages"] + posted["passages"]]
        with Index.open(path).writer() as writer:
            writer.replace([Passage("d1", "Other text.", metadata={"team": "red", "year": 2001})])
            writer.delete(docnos=["d2"])
        made.services.hosted["changing"].refresh()
        answers = [made.client.post("/expand", json={"handle": handle}) for handle in handles]
    assert [one.status_code for one in answers] == [409, 410, 200, 410]
    messages = [one.json().get("error", {}).get("message", "") for one in answers]
    assert "Other text" not in messages[0] and "changed" in messages[0]
    assert "gone" in messages[1] and "no longer kept" in messages[3]
