"""Write the golden files of the bulk formats: a small index as each engine takes it, and a query of it.

    python -m tests.golden.engines.regenerate

They are what the engines' documentation asks for, checked by eye when they were made; a change of a byte is a change of
what an engine is given.
"""

import tempfile
from pathlib import Path

from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.index.exchange.bulk import as_file
from thresher.index.exchange.folder import export_index
from thresher.records import Passage, Query
from thresher.search import Index
from thresher.search.requests import search_requests

HERE = Path(__file__).parent
FORMATS = ("qdrant", "milvus", "elasticsearch", "opensearch", "opensearch:ann", "vespa", "vespa:weightedset")
PASSAGES = [
    Passage("wheat", "Threshing separates grain of 3.5 tons.", "Wheat", {"year": 2020, "tags": ["farm"]}),
    Passage("radium", "The Curies found radium.\nIt glows, 100%."),
    Passage("naïve-日本", "A bell \x07 rings: naïve 日本 grain."),
    Passage("no-terms", "of the"),
]
QUERY = Query("q1", "grain of radium 3.5")
BESIDE = {"manifest.json", "vocabulary.txt", "tokens.npy"}


def folder_of(name):
    return name.replace(":", "-")


def write(target):
    """The files of every format, under `target`."""
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary) / "index"
        build_index(index, PASSAGES, Recipe(encode={"encoder": "bm25"}))
        for name in FORMATS:
            made = Path(temporary) / folder_of(name)
            export_index(index, made, format=name)
            folder = target / folder_of(name)
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(made.iterdir()):
                if file.is_file() and file.name not in BESIDE:
                    (folder / file.name).write_bytes(file.read_bytes())
            ((_, body),) = search_requests(Index.open(index), made, [QUERY], k=3)
            (folder / "request.json").write_bytes(as_file(body))


if __name__ == "__main__":
    write(HERE)
