"""Where the parts of test collections are, by name; `thresher.evaluate.collections` opens them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Location:
    """Where a collection's parts are.

    Attributes:
        corpus: passages (a file or a folder), relative to THRESHER_DATA; empty where there is no layout for them.
        queries: queries, TSV.
        qrels: judgments, TREC format.
        ir_datasets: the dataset that holds all of it, empty where there is none.
        relevant: lowest grade that counts as relevant in binary measures (TREC DL passages: 2).
        empty_texts: the corpus is known to hold passages without text, which are skipped and counted.
        excluded: passages that are taken out of the results of a query before they are measured, TSV (qid, docno).
        nuggets: facts that a good answer has, JSON lines (qid, nuggets).
        language: of the passages, ISO 639-1.
        passages: how many there are; 0 where it is not recorded here.
        topics: queries with judgments; 0 where it is not recorded here.
        download: bytes that `ir_datasets` fetches, roughly; 0 where it is not recorded here.
        parquet: `ir_datasets` reads it with pyarrow.
        source: where the files come from, where `ir_datasets` does not have them.
    """

    corpus: str
    queries: str
    qrels: str
    ir_datasets: str = ""
    relevant: int = 1
    empty_texts: bool = False
    excluded: str = ""
    nuggets: str = ""
    language: str = "en"
    passages: int = 0
    topics: int = 0
    download: int = 0
    parquet: bool = False
    source: str = ""


def _small(name: str, ir_datasets: str = "", split: str = "") -> Location:
    part, packed = (f".{split}", ".gz") if split else ("", "")
    folder = f"collections/{name}"
    return Location(
        f"{folder}/corpus.jsonl.gz",
        f"{folder}/queries{part}.tsv{packed}",
        f"{folder}/qrels{part}.txt{packed}",
        ir_datasets,
    )


def _trec_dl(year: int, mini: str, *, covered: bool = False) -> Location:
    short = f"dl{year % 100}"
    qrels = f"trec-dl/qrels.{short}{'.covered' if covered else ''}.txt"
    return Location(f"trec-dl/{mini}.jsonl.gz", f"trec-dl/queries.{short}.tsv", qrels, relevant=2)


def _trec_rag(qrels: str, topics: int) -> Location:
    """TREC RAG 2024: the segments of MS MARCO v2.1; judgments by NIST, or by UMBRELA for all topics."""
    folder = "collections/trec-rag-2024"
    return Location(
        f"{folder}/msmarco_v2.1_doc_segmented", f"{folder}/topics.rag24.test.txt", f"{folder}/{qrels}",
        nuggets=f"{folder}/nuggets.jsonl", passages=113_520_750, topics=topics,
        source="https://trec-rag.github.io (the segmented corpus, unpacked), and topics and qrels of "
        "https://github.com/castorini/anserini-tools",
    )  # fmt: skip


def _bright(subset: str, passages: int, topics: int, download: int) -> Location:
    folder = f"collections/bright-{subset}"
    return Location(
        f"{folder}/corpus.jsonl.gz", f"{folder}/queries.tsv", f"{folder}/qrels.txt", f"bright/{subset}",
        excluded=f"{folder}/excluded.tsv", passages=passages, topics=topics, download=download, parquet=True,
    )  # fmt: skip


_BRIGHT = {
    f"bright-{subset}": _bright(subset, *counts)
    for subset, counts in {
        "biology": (57_359, 103, 11_246_700),
        "earth-science": (121_249, 116, 23_268_764),
        "economics": (50_220, 103, 11_189_139),
        "psychology": (52_835, 101, 11_614_422),
        "robotics": (61_961, 101, 8_053_006),
        "stackoverflow": (107_081, 117, 39_743_775),
        "sustainable-living": (60_792, 108, 11_938_210),
        "leetcode": (413_932, 142, 210_679_218),
        "pony": (7_894, 112, 1_152_762),
        "aops": (188_002, 111, 66_640_242),
        "theoremqa-questions": (188_002, 194, 66_796_273),
        "theoremqa-theorems": (23_839, 76, 7_756_857),
    }.items()
}
"""Su et al., arXiv 2407.12883. Queries that need reasoning; counts and sizes as of ir_datasets 0.6.3."""


COLLECTIONS = {
    "trec-dl-2019": _trec_dl(2019, "msmarco-v1-mini"),
    "trec-dl-2021": _trec_dl(2021, "msmarco-v2-mini", covered=True),
    "trec-dl-2023": _trec_dl(2023, "msmarco-v2-mini", covered=True),
    "trec-dl-2019-full": Location("", "", "", "msmarco-passage/trec-dl-2019/judged", relevant=2),
    "trec-dl-2020-full": Location("", "", "", "msmarco-passage/trec-dl-2020/judged", relevant=2),
    "msmarco-dev-full": Location("", "", "", "msmarco-passage/dev/small"),
    "scifact": _small("scifact", "beir/scifact/test"),
    "scifact/train": _small("scifact", "beir/scifact/train", "train"),
    "nfcorpus": _small("nfcorpus", "beir/nfcorpus/test"),
    "nfcorpus/train": _small("nfcorpus", "beir/nfcorpus/train", "train"),
    "nfcorpus/dev": _small("nfcorpus", "beir/nfcorpus/dev", "dev"),
    "cranfield": replace(_small("cranfield", "cranfield"), empty_texts=True),
    "med": _small("med"),
    "npl": _small("npl"),
    "time": _small("time"),
    "adi": _small("adi"),
    **_BRIGHT,
    "dl-hard": Location(
        "collections/dl-hard/corpus.jsonl.gz", "collections/dl-hard/queries.tsv", "collections/dl-hard/qrels.txt",
        "msmarco-passage/trec-dl-hard", relevant=2, passages=8_841_823, topics=50, download=1_057_717_952,
    ),
    "miracl-zh": Location(
        "collections/miracl-zh/corpus.jsonl.gz", "collections/miracl-zh/queries.tsv", "collections/miracl-zh/qrels.txt",
        "miracl/zh/dev", language="zh", passages=4_934_368, topics=393, download=733_528_420,
    ),
    "t2ranking": Location(
        "collections/t2ranking/collection.tsv", "collections/t2ranking/queries.dev.tsv",
        "collections/t2ranking/qrels.dev.tsv", relevant=2, language="zh", passages=2_303_643, topics=24_832,
        source="https://huggingface.co/datasets/THUIR/T2Ranking, the files of its folder data",
    ),
    "trec-rag-2024": _trec_rag("qrels.rag24.test.txt", 89),
    "trec-rag-2024/umbrela": _trec_rag("qrels.rag24.test-umbrela-all.txt", 301),
}  # fmt: skip
