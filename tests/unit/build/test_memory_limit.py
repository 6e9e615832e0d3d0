"""`memory_gb` and `--memory-gb`: the same index in less memory, or an error that says what is enough."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import pytest

from thresher import Index, Passage, build_index
from thresher.build import stream
from thresher.errors import ConfigError

WORDS = "grain chaff mill flour bread harvest scythe barn thresher straw".split()


def passages(count, start=0):
    return [Passage(f"d{i}", " ".join(WORDS[(i * j) % 10] for j in range(1, 2 + i % 7))) for i in range(start, count)]


def files(path):
    return {file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*")) if file.is_file() and file.suffix != ".json"}  # fmt: skip


def test_builds_changes_and_merges_are_the_same_under_a_limit(tmp_path):
    for name, limit in (("free", None), ("held", 4.0)):
        build_index(tmp_path / name, passages(300), "bm25", memory_gb=limit)
        with Index.open(tmp_path / name) as index, index.writer(memory_gb=limit, merge=False) as writer:
            writer.add(passages(400, 300))
            writer.commit()
            writer.merge(all=True)
    free, held = files(tmp_path / "free"), files(tmp_path / "held")
    assert [*free.values()] == [*held.values()]  # segments are named by chance


def test_a_limit_below_what_python_takes_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"limit is 0.02 GB; allow"):
        build_index(tmp_path / "index", passages(20), "bm25", memory_gb=0.02)
    assert not (tmp_path / "index").exists()


def test_the_command_stays_below_its_limit(tmp_path):
    corpus, target = tmp_path / "corpus.jsonl", tmp_path / "index"
    corpus.write_text("".join(json.dumps({"docno": p.docno, "text": p.text}) + "\n" for p in passages(2000)))
    code = (
        "import resource, sys\n"
        "from thresher.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)\n"
    )
    command = ["build", str(corpus), "--recipe", "bm25", "-o", str(target), "--memory-gb", "1.5", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.splitlines()[-1]) < 1.5e9
    assert json.loads(done.stdout)["counts"]["passages"] == 2000


def test_a_corpus_that_the_disk_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"docno": "d1", "text": "grain"}\n' * 50)
    free = stream.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda path: free)
    with pytest.raises(OSError, match="copy of the corpus") as caught:
        build_index(tmp_path / "index", corpus, "bm25")
    assert caught.value.errno == errno.ENOSPC
