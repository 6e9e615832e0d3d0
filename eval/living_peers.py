"""Embedded engines that hold sparse vectors and filter them, each in a process of its own that answers by lines.

    PYTHON -m eval.living_peers ENGINE FOLDER PASSAGES.npz

`living` starts it with the Python that has the engines (`eval/search/living-requirements.txt`); it needs numpy and
the engine alone. It loads the rows of PASSAGES.npz with two fields: `bucket`, a whole number from 0 to 999, and `tag`,
a text. Then it reads a JSON object a line, {"query": NUMBER, "filter": FILTER, "k": K}, and answers {"ms": ...,
"ids": [...], "scores": [...]}. FILTER is null, "three" (the tag that three passages have), or [LOW, HIGH] for
LOW <= bucket < HIGH. Only the call of the engine is timed; query and filter are made ready before it, the ids are read
after it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

TAG = "three"
"""The tag that three passages have; the others have none of it."""
BATCH = 500


class Peer:
    """One engine: load rows, make a query ready, ask it, read the answer."""

    package = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, rows: Any) -> None:
        """Store every row with its fields, and build what searches and filters use."""
        raise NotImplementedError

    def open(self) -> None:
        """Open what `load` stored in an earlier process."""
        raise NotImplementedError

    def close(self) -> None:
        """Write everything to disk."""

    def ready(self, terms: list[int], weights: list[float], where: Any, k: int) -> Any:
        """A query in the engine's own form."""
        raise NotImplementedError

    def ask(self, query: Any) -> Any:
        """The engine's answer."""
        raise NotImplementedError

    def read(self, found: Any) -> tuple[list[int], list[float]]:
        """Numbers and scores of the passages found."""
        raise NotImplementedError


class Rows:
    """Rows of a collection, as lists in batches."""

    def __init__(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as arrays:
            self.indptr, self.terms, self.weights = (arrays[f"documents/{x}"] for x in ("indptr", "terms", "weights"))
            self.bucket, self.three = arrays["bucket"], set(arrays["three"].tolist())
            self.queries = tuple(arrays[f"queries/{x}"] for x in ("indptr", "terms", "weights"))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[list[int], list[float]]:
        """Terms and weights of a passage."""
        part = slice(self.indptr[i], self.indptr[i + 1])
        return self.terms[part].tolist(), self.weights[part].astype(float).tolist()

    def query(self, i: int) -> tuple[list[int], list[float]]:
        """Terms and weights of a query."""
        indptr, terms, weights = self.queries
        part = slice(indptr[i], indptr[i + 1])
        return terms[part].tolist(), weights[part].astype(float).tolist()

    def tag(self, i: int) -> str:
        """A passage's tag."""
        return TAG if i in self.three else "other"

    def batches(self) -> Any:
        """Numbers of the passages, some hundreds at a time."""
        for first in range(0, len(self), BATCH):
            yield range(first, min(first + BATCH, len(self)))


def condition(where: Any, equal: str = "=", both: str = "AND") -> str:
    """A filter as the languages of the engines write it."""
    if where is None:
        return ""
    return f"tag {equal} '{TAG}'" if where == TAG else f"bucket >= {where[0]} {both} bucket < {where[1]}"


class QdrantEdge(Peer):
    """Qdrant Edge: exact search of an inverted index in memory, payload indexes on both fields."""

    package = "qdrant-edge-py"

    def load(self, rows: Rows) -> None:
        import qdrant_edge as q

        self.folder.mkdir(parents=True)
        self.shard = q.EdgeShard.create(str(self.folder), self._config())
        for field, kind in (("bucket", q.PayloadSchemaType.Integer), ("tag", q.PayloadSchemaType.Keyword)):
            self.shard.update(q.UpdateOperation.create_field_index(field, kind))
        for batch in rows.batches():
            points = [
                q.Point(i, {"s": q.SparseVector(*rows.row(i))}, {"bucket": int(rows.bucket[i]), "tag": rows.tag(i)})
                for i in batch
            ]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        self.shard.optimize()

    @staticmethod
    def _config() -> Any:
        import qdrant_edge as q

        return q.EdgeConfig(sparse_vectors={"s": q.EdgeSparseVectorParams(on_disk=False)}, max_search_threads=1)

    def open(self) -> None:
        import qdrant_edge as q

        self.shard = q.EdgeShard.load(str(self.folder), self._config())

    def close(self) -> None:
        self.shard.close()

    def ready(self, terms: list[int], weights: list[float], where: Any, k: int) -> Any:
        import qdrant_edge as q

        if where is None:
            wanted = None
        elif where == TAG:
            wanted = q.Filter(must=[q.FieldCondition("tag", match=q.MatchValue(TAG))])
        else:
            bounds = q.RangeFloat(gte=float(where[0]), lt=float(where[1]))
            wanted = q.Filter(must=[q.FieldCondition("bucket", range=bounds)])
        nearest = q.Query.Nearest(q.SparseVector(terms, weights), using="s")
        return q.QueryRequest(query=nearest, limit=k, filter=wanted)

    def ask(self, query: Any) -> Any:
        return self.shard.query(query)

    def read(self, found: Any) -> tuple[list[int], list[float]]:
        return [int(hit.id) for hit in found], [float(hit.score) for hit in found]


class MilvusLite(Peer):
    """milvus-lite through pymilvus: SPARSE_INVERTED_INDEX, inner product, indexes on both fields."""

    package = "milvus-lite"

    def load(self, rows: Rows) -> None:
        from pymilvus import DataType, MilvusClient

        self.folder.mkdir(parents=True)
        self.client = client = MilvusClient(str(self.folder / "milvus.db"))
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("s", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_field("bucket", DataType.INT64)
        schema.add_field("tag", DataType.VARCHAR, max_length=16)
        client.create_collection("c", schema=schema)
        for batch in rows.batches():
            client.insert("c", [
                {"id": i, "s": dict(zip(*rows.row(i), strict=True)), "bucket": int(rows.bucket[i]), "tag": rows.tag(i)}
                for i in batch
            ])  # fmt: skip
        client.flush("c")
        params = client.prepare_index_params()
        params.add_index("s", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        params.add_index("bucket", index_type="INVERTED")
        params.add_index("tag", index_type="INVERTED")
        client.create_index("c", params)
        client.load_collection("c")

    def open(self) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(self.folder / "milvus.db"))
        self.client.load_collection("c")

    def close(self) -> None:
        self.client.close()

    def ready(self, terms: list[int], weights: list[float], where: Any, k: int) -> Any:
        return {"data": [dict(zip(terms, weights, strict=True))], "limit": k, "filter": condition(where, "==", "and")}

    def ask(self, query: Any) -> Any:
        return self.client.search("c", anns_field="s", search_params={"metric_type": "IP"}, **query)

    def read(self, found: Any) -> tuple[list[int], list[float]]:
        return [int(hit["id"]) for hit in found[0]], [float(hit["distance"]) for hit in found[0]]


class Zvec(Peer):
    """zvec: a flat index of sparse vectors (its exact one), inverted indexes on both fields."""

    package = "zvec"

    def load(self, rows: Rows) -> None:
        import zvec as z

        z.init(query_threads=1)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        flat = z.FlatIndexParam(metric_type=z.MetricType.IP)
        fields = [
            z.FieldSchema("bucket", z.DataType.INT32, index_param=z.InvertIndexParam(enable_range_optimization=True)),
            z.FieldSchema("tag", z.DataType.STRING, index_param=z.InvertIndexParam()),
        ]
        vectors = [z.VectorSchema("s", z.DataType.SPARSE_VECTOR_FP32, index_param=flat)]
        self.collection = z.create_and_open(str(self.folder), z.CollectionSchema("c", fields=fields, vectors=vectors))
        for batch in rows.batches():
            self.collection.insert([
                z.Doc(id=str(i), vectors={"s": dict(zip(*rows.row(i), strict=True))},
                      fields={"bucket": int(rows.bucket[i]), "tag": rows.tag(i)})
                for i in batch
            ])  # fmt: skip
        self.collection.optimize()

    def open(self) -> None:
        import zvec as z

        z.init(query_threads=1)
        self.collection = z.open(str(self.folder))

    def close(self) -> None:
        self.collection.close()

    def ready(self, terms: list[int], weights: list[float], where: Any, k: int) -> Any:
        import zvec as z

        query = z.Query(field_name="s", vector=dict(zip(terms, weights, strict=True)))
        return {"queries": query, "topk": k, "filter": condition(where) or None, "output_fields": []}

    def ask(self, query: Any) -> Any:
        return self.collection.query(**query)

    def read(self, found: Any) -> tuple[list[int], list[float]]:
        return [int(hit.id) for hit in found], [float(hit.score) for hit in found]


class Seekdb(Peer):
    """seekdb in its own process: a sparse vector index (SINDI), SQL with a condition."""

    package = "pylibseekdb"

    def load(self, rows: Rows) -> None:
        self.folder.mkdir(parents=True)
        self.open()
        cursor = self.cursor
        cursor.execute(
            "CREATE TABLE c (id INT PRIMARY KEY, s SPARSEVECTOR, bucket INT, tag VARCHAR(16), "
            "KEY b (bucket), KEY t (tag), "
            "VECTOR INDEX v (s) WITH (DISTANCE=inner_product, TYPE=sindi, LIB=vsag)) ORGANIZATION = HEAP"
        )
        for batch in rows.batches():
            values = ",".join(
                f"({i},'{self._text(*rows.row(i))}',{int(rows.bucket[i])},'{rows.tag(i)}')" for i in batch
            )
            cursor.execute(f"INSERT INTO c VALUES {values}")

    def open(self) -> None:
        import pylibseekdb as s

        s.open(db_dir=str(self.folder))
        self.cursor = s.connect(database="test", autocommit=True).cursor()

    @staticmethod
    def _text(terms: list[int], weights: list[float]) -> str:
        return "{" + ",".join(f"{t}:{w!r}" for t, w in zip(terms, weights, strict=True)) + "}"

    def ready(self, terms: list[int], weights: list[float], where: Any, k: int) -> Any:
        distance = f"negative_inner_product(s, '{self._text(terms, weights)}')"
        wanted = f"WHERE {condition(where)}" if where else ""
        return f"SELECT id, {distance} AS d FROM c {wanted} ORDER BY {distance} APPROXIMATE LIMIT {k}"

    def ask(self, query: Any) -> Any:
        self.cursor.execute(query)
        return self.cursor.fetchall()

    def read(self, found: Any) -> tuple[list[int], list[float]]:
        return [int(row[0]) for row in found], [-float(row[1]) for row in found]


PEERS: dict[str, type[Peer]] = {
    "qdrant-edge": QdrantEdge,
    "milvus-lite": MilvusLite,
    "zvec": Zvec,
    "seekdb": Seekdb,
}


def main(name: str, folder: str, file: str) -> None:
    """Load, or open what an earlier process loaded; say so, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")  # engines print
    os.dup2(2, 1)
    rows = Rows(Path(file))
    peer = PEERS[name](Path(folder))
    done = Path(f"{folder}.done")
    clock = time.perf_counter()
    if done.exists():
        peer.open()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        peer.load(rows)
    print(
        json.dumps({"load_s": time.perf_counter() - clock, "version": version(peer.package)}), file=answers, flush=True
    )
    for line in sys.stdin:
        asked = json.loads(line)
        query = peer.ready(*rows.query(asked["query"]), asked["filter"], asked["k"])
        clock = time.perf_counter()
        found = peer.ask(query)
        spent = time.perf_counter() - clock
        ids, scores = peer.read(found)
        print(json.dumps({"ms": spent * 1e3, "ids": ids, "scores": scores}), file=answers, flush=True)
    peer.close()
    done.touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
