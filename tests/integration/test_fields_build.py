"""Builds write columns of metadata fields, with their types declared or inferred."""

import json

import pytest

import thresher
from thresher.build import build_index, load_recipe
from thresher.build.recipe import Recipe
from thresher.build.writer import IndexWriter
from thresher.errors import ConfigError, InputError
from thresher.index.collection import open_collection, verify
from thresher.index.filters import Where

ROWS = [
    {"id": "a", "text": "grain and chaff", "year": 2019, "lang": "en", "published": "2024-05-01", "url": "u1"},
    {"id": "b", "text": "grain in the wind", "year": 2021, "lang": "de", "published": "2024-05-02T10:00:00+02:00"},
    {"id": "c", "text": "the threshing floor", "year": 2023, "lang": "en", "groups": ["x", "y"], "url": "u3"},
]


def corpus(tmp_path, rows=ROWS):
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def recipe(**fields):
    return Recipe.model_validate({"fields": fields})


def columns_of(path, tier=1):
    """The columns of a tier of an index of one segment."""
    (columns,) = [part.columns for part in open_collection(path).parts if part.tier == tier]
    return columns


def test_columns_are_part_of_the_index_and_of_its_bytes(tmp_path):
    report = build_index(tmp_path / "index", corpus(tmp_path), recipe(published="date", url="none"))
    assert {name.partition("/")[0] for name in report.counts["bytes"] if "/" in name} == {"fields"}
    verify(tmp_path / "index")


def test_types_are_declared_or_inferred_and_values_can_be_filtered_and_counted(tmp_path):
    build_index(tmp_path / "index", corpus(tmp_path), recipe(published="date", url="none"))
    columns = columns_of(tmp_path / "index")
    inferred = {"year": "integer", "lang": "string", "groups": "strings"}
    assert columns.schema == {"published": "date", "url": "none", **inferred}
    assert columns.mask(Where.parse("published = 2024-05-01 or groups any (y)")).tolist() == [True, False, True]
    assert columns.mask(Where.parse({"lang": "en", "year": {"gt": 2019}})).tolist() == [False, False, True]
    assert columns.counts("published") == {"2024-05-01": 1, "2024-05-02": 1}
    assert columns.counts("lang") == {"en": 2, "de": 1}
    with pytest.raises(InputError, match="the recipe declares it as none"):
        columns.mask(Where.parse("url = u1"))
    found = thresher.Index.open(tmp_path / "index").passage("c").metadata
    assert found == {"year": 2023, "lang": "en", "groups": ["x", "y"], "url": "u3"}


def test_both_tiers_have_columns_in_the_order_of_their_passages(tmp_path):
    passages = [
        thresher.Passage(f"d{n}", " ".join(f"w{n}x{i}" for i in range(n + 2)), metadata={"n": n}) for n in range(40)
    ]
    build_index(
        tmp_path / "index", passages, Recipe.model_validate({"prune": {"keep": 0.5, "fold": False, "junk": False}})
    )
    found = []
    for tier in (1, 2):
        columns = columns_of(tmp_path / "index", tier)
        numbers = list(columns.counts("n"))
        assert len(numbers) == columns.passages
        assert columns.mask(Where.parse("n >= 0")).all()
        found += numbers
    assert sorted(found) == list(range(40))


def test_a_corpus_without_metadata_has_no_columns(tmp_path):
    report = build_index(tmp_path / "index", [thresher.Passage("a", "grain")], "bm25")
    assert not [name for name in report.counts["bytes"] if "/" in name]


def test_a_declared_field_of_another_type_is_refused_with_file_and_line(tmp_path):
    rows = [*ROWS, {"id": "d", "text": "x", "year": "soon"}]
    file = corpus(tmp_path, rows)
    with pytest.raises(InputError, match=r"field 'year' of docno 'd' is 'soon' .*declares it as integer") as caught:
        build_index(tmp_path / "index", file, recipe(year="integer"))
    assert (caught.value.source, caught.value.line) == (str(file), 4)
    with pytest.raises(InputError, match=r"memory:1: field 'year' of docno 'e'"):
        build_index(tmp_path / "index", [thresher.Passage("e", "x", metadata={"year": [1]})], recipe(year="integer"))
    skipping = Recipe.model_validate({"fields": {"year": "integer"}, "corpus": {"on_error": "skip"}})
    assert build_index(tmp_path / "index", file, skipping).skipped == {"wrong-type": 1}


def test_a_field_of_an_unknown_type_is_refused_with_the_types_there_are(tmp_path):
    (tmp_path / "recipe.toml").write_text('[fields]\nyear = "int"\n')
    with pytest.raises(ConfigError, match=r"recipe\.toml: .*'fields\.year' is 'int'.*'integer'"):
        load_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize("name", ["corpus.csv", "corpus.tsv"])
def test_a_declared_type_is_read_from_the_text_of_a_table(tmp_path, name):
    sign = "\t" if name.endswith("tsv") else ","
    lines = [["id", "text", "year", "open"], ["a", "grain", "2019", "true"], ["b", "chaff", "", "false"]]
    (tmp_path / name).write_text("\n".join(sign.join(line) for line in lines) + "\n")
    build_index(tmp_path / "index", tmp_path / name, recipe(year="integer", open="boolean"))
    columns = columns_of(tmp_path / "index")
    assert columns.mask(Where.parse("year = 2019 and open = true")).tolist() == [True, False]
    assert columns.mask(Where.parse("not exists year")).tolist() == [False, True]


def masks_of(path, where):
    """The docnos of live passages that fit a filter."""
    with open_collection(path) as collection:
        wanted = Where.parse(where)
        wanted.check(collection.schema)
        return [
            part.layout.docnos[number]
            for part in collection.parts
            for number, fits in enumerate(part.columns.mask(wanted).tolist())
            if fits and (part.deleted is None or not part.deleted[number])
        ]


def test_later_segments_extend_the_schema_and_merges_keep_every_value(tmp_path):
    path = tmp_path / "index"
    build_index(path, corpus(tmp_path), recipe(published="date"))
    added = tmp_path / "added.jsonl"
    added.write_text('{"id": "d", "text": "a mill", "year": 2025, "stars": 4.5, "groups": "y", "odd": [1]}\n')
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"id": "e", "text": "a mill"}\n{"id": "f", "text": "a mill", "lang": 3}\n')
    with IndexWriter.open(path) as writer:
        writer.add(added)
        with pytest.raises(
            InputError, match=r"wrong\.jsonl:2: field 'lang' of docno 'f' is 3 .*the index has it as str"
        ):
            writer.add(wrong)
    with open_collection(path) as collection:
        assert collection.schema["stars"] == "float"
        assert collection.schema["odd"] == "mixed"
    asked = ["stars > 4", "not stars > 4", "groups any (y)", "year >= 2021", "published < 2024-05-02", "not exists url"]
    before = [masks_of(path, where) for where in asked]
    assert before == [["d"], ["a", "b", "c"], ["c", "d"], ["b", "c", "d"], ["a"], ["b", "d"]]
    with IndexWriter.open(path) as writer:
        assert writer.delete(where="lang = de").deleted == ("b",)
        writer.commit()
        writer.merge(all=True)
    assert [masks_of(path, where) for where in asked] == [[one for one in found if one != "b"] for found in before]
    with open_collection(path) as collection:
        assert len(collection.parts) == 1
        assert collection.parts[0].columns.counts("groups") == {"y": 2, "x": 1}
