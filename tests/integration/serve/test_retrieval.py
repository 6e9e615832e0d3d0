"""`/retrieval`: golden answers in the contract of Dify and RAGFlow, and each of its comparison operators."""

import json
from pathlib import Path

import httpx2
import pytest

from thresher import Index, Passage, build_index
from thresher.errors import InputError
from thresher.serve.conditions import OPERATORS, MetadataCondition, as_filter

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "retrieval").glob("*.json"))
DOCUMENTS = {
    "a": {"team": "red", "year": 2001, "tags": ["grain", "mill"], "when": "2024-05-01", "open": True, "weight": 1.5},
    "b": {"team": "Redder", "year": 2002, "tags": ["chaff"], "when": "2024-06-01T12:00:00Z", "open": False},
    "c": {"team": "blue", "year": 2003, "tags": [], "when": "2025-01-01", "weight": 2.5},
    "d": {"team": "", "tags": ["grain-free"]},
    "e": {},
}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_answers_are_the_golden_ones(reading, file):
    golden = json.loads(file.read_text(encoding="utf-8"))
    answer = reading.client.post("/retrieval", json=golden["request"])
    assert (answer.status_code, answer.json()) == (golden["status"], golden["response"])


def test_records_are_the_answers_passages(reading):
    query = "which team keeps the grain of field 3?"
    body = {"knowledge_id": "reading", "query": query, "retrieval_setting": {"top_k": 4, "score_threshold": 0}}
    records = reading.client.post("/retrieval", json=body).json()["records"]
    passages = reading.client.post("/ask", json={"query": query, "k": 4}).json()["passages"]
    assert [one["content"] for one in records] == [one["text"] for one in passages if one["text"]]
    assert [one["score"] for one in records] == [one["confidence"] for one in passages if one["text"]]
    assert all(0 <= one["score"] <= 1 and isinstance(one["metadata"], dict) and one["title"] for one in records)
    assert records[0]["metadata"]["team"] in ("red", "blue")
    whole = reading.client.post("/expand", json={"handle": records[0]["metadata"]["handle"]}).json()
    assert whole["docno"] == records[0]["metadata"]["docno"]


def test_without_a_scorer_of_sentences_scores_are_shares_of_the_best(serving, reading_index, monkeypatch):
    from thresher.pipeline.open import Parts

    monkeypatch.setattr(Parts, "_select", lambda *_: None)
    with serving({"plain": reading_index}) as made:
        body = {"knowledge_id": "plain", "query": "grain of field 3", "retrieval_setting": {"top_k": 9}}
        records = made.client.post("/retrieval", json=body).json()["records"]
    scores = [one["score"] for one in records]
    assert max(scores) == 1 and min(scores) > 0 and len(set(scores)) > 1


def test_errors_are_in_the_contracts_shape(reading):
    body = {"knowledge_id": "reading", "query": "grain", "retrieval_setting": {"top_k": 1, "score_threshold": 0}}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
        answer = httpx2.post(f"{reading.url}/retrieval", json=body, headers=headers, timeout=600)
        assert (answer.status_code, answer.json()["error_code"]) == (403, 1002)
    for key, team in (("red", "red"), ("blue", "blue")):
        headers = {"authorization": f"Bearer {key}"}
        found = httpx2.post(f"{reading.url}/retrieval", json=body, headers=headers, timeout=600).json()
        assert found["records"][0]["metadata"]["team"] == team
    many = {"conditions": [{"name": "team", "comparison_operator": "contains", "value": "r"}] * 101}
    refused = httpx2.post(
        f"{reading.url}/retrieval", json={**body, "metadata_condition": many}, headers=headers, timeout=600
    )
    assert (refused.status_code, refused.json()["error_code"]) == (422, 422)


def test_an_empty_knowledge_id_means_no_index(reading):
    answer = reading.client.post("/retrieval", json={"knowledge_id": "", "query": "grain"})
    assert (answer.status_code, answer.json()["error_code"]) == (404, 2001)


def test_the_docno_of_a_record_is_that_of_its_passage(serving, tmp_path):
    build_index(tmp_path / "index", [Passage("a", "Chaff is light.", metadata={"docno": "other"})], "bm25")
    with serving({"named": tmp_path / "index"}) as made:
        (record,) = made.client.post("/retrieval", json={"knowledge_id": "named", "query": "chaff"}).json()["records"]
    assert record["metadata"]["docno"] == "a"


def test_dify_takes_the_endpoint(reading):
    """It posts nothing to it, and takes 403, 404 and 502 for a wrong key, a wrong address and a server that is down."""
    statuses = [
        httpx2.post(f"{reading.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=600).status_code
        for path, key in [("/retrieval", "all"), ("/retrieval", "wrong"), ("/v1/retrieval", "all")]
    ]
    assert statuses[0] not in (403, 404, 502)
    assert statuses[1:] == [403, 404]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    from thresher.build.recipe import load_recipe

    path = tmp_path_factory.mktemp("conditions") / "index"
    recipe = load_recipe("bm25").model_copy(update={"fields": {"when": "date"}})
    passages = [Passage(docno, "Grain.", metadata=fields) for docno, fields in DOCUMENTS.items()]
    build_index(path, passages, recipe=recipe)
    return Index.open(path)


def found(index, *conditions, operator="and"):
    made = MetadataCondition.model_validate(
        {
            "logical_operator": operator,
            "conditions": [{"name": n, "comparison_operator": c, "value": v} for n, c, v in conditions],
        }
    )
    return "".join(sorted(index.search("grain", 10, where=as_filter(made, index)).docnos))


CASES = [
    ("team", "contains", "ed", "ab"), ("team", "contains", ["lu", "Red"], "bc"), ("tags", "contains", "grain", "a"),
    ("team", "not contains", "ed", "cd"), ("tags", "not contains", "grain", "bd"), ("team", "contains", "x", ""),
    ("team", "start with", "red", "a"), ("tags", "start with", "gr", "ad"), ("team", "end with", "e", "c"),
    ("team", "is", "red", "a"), ("team", "is not", "red", "bcd"), ("year", "is", "2002", "b"),
    ("open", "is", "true", "a"), ("open", "is not", True, "b"), ("tags", "is", "mill", "a"),
    ("team", "in", ["red", "blue"], "ac"), ("team", "start with", ["Re", "b"], "bc"),
    ("team", "in", "red, blue", "ac"), ("year", "in", ["2001", 2003], "ac"), ("team", "not in", ["red"], "bcd"),
    ("tags", "in", ["chaff", "mill"], "ab"), ("tags", "not in", ["chaff"], "ad"), ("team", "empty", None, "de"),
    ("team", "not empty", None, "abc"), ("tags", "empty", None, "ce"), ("year", "empty", "", "de"),
    ("year", "=", 2001, "a"), ("year", "=", "2001.0", "a"), ("year", "≠", 2001, "bc"),
    ("year", ">", "2001", "bc"), ("year", "<", 2002, "a"),
    ("weight", "≥", 2.5, "c"), ("weight", "≤", "1.5", "a"), ("when", "before", "2024-06", "a"),
    ("when", "after", "2024-05-01", "bc"), ("when", "after", 1717243199, "bc"), ("when", "after", 1717243200, "c"),
    ("when", "is", "2024-06-01", "b"), ("year", "before", 2002, "a"), ("team", "before", "red", "bcd"),
    ("year", ">=", 2002, "bc"), ("year", "!=", 2001, "bc"), ("team", "not is", "red", "bcd"),
    ("year", "null", None, "de"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operator", "value", "wanted"), CASES)
def test_each_operator_finds_what_it_says(index, name, operator, value, wanted):
    assert found(index, (name, operator, value)) == wanted


def test_every_operator_of_the_contract_has_a_case():
    assert {operator for _, operator, _, _ in CASES} >= set(OPERATORS)


def test_a_condition_may_fit_more_values_than_a_filter_may_list(index, monkeypatch):
    from thresher.index import filters
    from thresher.serve import conditions

    monkeypatch.setattr(filters, "MOST_LISTED", 1)
    monkeypatch.setattr(conditions, "MOST_LISTED", 1)
    seen = index.restricted("exists team")
    for view in (index, seen):
        assert found(view, ("team", "contains", "e")) == "abc"
        assert found(view, ("team", "not contains", "lu"), ("team", "end with", ["d", "r"])) == "ab"
    with pytest.raises(InputError, match="at most 1 are allowed"):
        found(index, ("team", "in", ["red", "blue", "green"]))
    monkeypatch.setattr(conditions, "MOST_FITTING", 2)
    with pytest.raises(InputError, match=r"condition 0: 'contains' on field 'team'.*fits too many values"):
        found(index, ("team", "contains", "e"))


def test_conditions_are_joined(index):
    two = (("team", "contains", "ed"), ("year", ">", 2001))
    assert found(index, *two) == "b"
    assert found(index, *two, operator="or") == "abc"
    assert found(index, *two, operator=None) == "b"
    assert found(index, (["team", "tags"], "contains", "grain")) == "a"
    assert as_filter(MetadataCondition(conditions=[]), index) is None
    assert as_filter(None, index) is None


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (("team", "sounds like", "x"), "unknown comparison_operator 'sounds like'; use one of contains"),
        (("colour", "is", "x"), "no field 'colour'"),
        (("team", "is", None), "'is' on field 'team', which is of type string, needs a value"),
        (("year", "contains", "20"), "'contains' on field 'year'"),
        (("year", ">", "old"), "'old'"),
        (("year", ">", [1, 2]), "takes one value; got 2"),
        (("open", "is", "maybe"), "'maybe'"),
        (("tags", ">", "a"), "'tags' is of type strings"),
        (([], "is", "a"), "names no field"),
        (("when", "after", 10**18), "1000000000000000000"),
    ],
)
def test_what_is_wrong_is_named(index, condition, said):
    with pytest.raises(InputError) as caught:
        found(index, condition)
    assert said in str(caught.value)
