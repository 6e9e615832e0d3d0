"""A build in shards gives what a build in one piece gives, whoever does the work and however often it is killed."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from thresher import Index, build_index
from thresher.build.recipe import Recipe
from thresher.corpus.open import open_corpus
from thresher.corpus.parts import cut, part_of, sources_of, to_count
from thresher.corpus.spool import Spool
from thresher.distributed import shared_folder, task
from thresher.distributed.building import build_shards, plan_shards
from thresher.distributed.executors import LocalExecutor, executor_named
from thresher.distributed.shared_folder import FolderExecutor
from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.index.commit import read_commit

WORDS = (
    "grain chaff mill stone flour bread oven scythe field barley oats wheat harvest river wheel miller sack cart"
).split()
PRUNED = Recipe.model_validate({"prune": {"keep": 0.6, "estimator": "embedded", "similarity": 0.8}})


def lines(count, seed=1):
    """JSON lines of passages: some twice, some nearly so, one junk, with metadata."""
    chosen = random.Random(seed)
    texts = [" ".join(chosen.choices(WORDS, k=chosen.randint(4, 40))) for _ in range(count)]
    for place in range(5, count, 17):
        texts[place] = texts[place - 5] + (" again" if place % 2 else "")
    return [
        json.dumps({"docno": f"d{n}", "text": text, "year": 1900 + n % 50, "kind": WORDS[n % 7]})
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    file.write_text("\n".join(lines(300)) + "\n")
    return file


class Here:
    """Runs tasks in this process, in a random order."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.ran = []

    def map(self, function, tasks):
        order = list(tasks)
        self.random.shuffle(order)
        for one in order:
            function(one)
            self.ran.append(one.name)
            yield one


def segments_of(index):
    folder = index / "segments"
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def answers(path):
    with Index.open(path) as index:
        return answers_of(index)


def answers_of(index, count=40):
    chosen = random.Random(7)
    queries = [" ".join(chosen.choices(WORDS, k=chosen.randint(1, 5))) for _ in range(count)]
    found = [index.search(query, 20, tiers=tiers) for query in queries for tiers in ("first", "both")]
    return [(one.docnos, np.asarray(one.scores).tolist()) for one in found]


@pytest.mark.parametrize("recipe", [Recipe(), PRUNED], ids=["bm25", "pruned"])
@pytest.mark.parametrize("shards", [1, 3, 7])
def test_a_build_in_shards_answers_as_one_in_one_piece(corpus, tmp_path, recipe, shards):
    build_index(tmp_path / "one", corpus, recipe)
    report = build_shards(tmp_path / "many", corpus, recipe, shards=shards, executor=Here())
    assert answers(tmp_path / "many") == answers(tmp_path / "one")
    one, many = read_commit(tmp_path / "one"), read_commit(tmp_path / "many")
    assert len(many.segments) == shards
    assert (
        many.live == one.live
        and many.schema == one.schema
        and report.counts["passages"] == one.fields["counts"]["passages"]
    )
    frozen = dict(many.frozen)
    assert frozen == one.frozen
    assert not (tmp_path / ".many.shards").exists()


def test_an_index_of_shards_takes_new_passages(corpus, tmp_path):
    build_shards(tmp_path / "index", corpus, PRUNED, shards=3, executor=Here())
    again = tmp_path / "again.jsonl"
    again.write_text(
        "\n".join(json.dumps({**json.loads(line), "docno": f"n{n}"}) for n, line in enumerate(lines(20, 2)))
    )
    with Index.open(tmp_path / "index") as index:
        with index.writer() as writer:
            writer.add(again)
        index.refresh()
        with index.writer() as writer:
            writer.merge(all=True)
    assert len(read_commit(tmp_path / "index").segments) == 1


def test_the_segments_are_the_same_whatever_the_order(corpus, tmp_path):
    for seed in range(3):
        build_shards(tmp_path / str(seed), corpus, PRUNED, shards=4, executor=Here(seed))
    assert segments_of(tmp_path / "0") == segments_of(tmp_path / "1") == segments_of(tmp_path / "2")


class StoppedError(Exception):
    """What a task is killed with."""


@pytest.mark.parametrize("after", [0, 2, 9, 13])
def test_a_build_that_was_stopped_goes_on_where_it_was(corpus, tmp_path, after):
    class Stopping(Here):
        def map(self, function, tasks):
            for one in super().map(function, tasks):
                if len(self.ran) > after:
                    raise StoppedError
                yield one

    first = Stopping()
    with pytest.raises(StoppedError):
        build_shards(tmp_path / "index", corpus, PRUNED, shards=3, executor=first)
    second, whole = Here(), Here()
    build_shards(tmp_path / "index", corpus, PRUNED, shards=3, executor=second)
    build_shards(tmp_path / "whole", corpus, PRUNED, shards=3, executor=whole)
    assert len(first.ran) == after + 1 and not set(first.ran) & set(second.ran)
    assert len(first.ran) + len(second.ran) == len(whole.ran)
    assert segments_of(tmp_path / "index") == segments_of(tmp_path / "whole")


def test_a_build_that_is_done_is_not_done_again(corpus, tmp_path):
    work, first, second = tmp_path / "work", FolderExecutor(tmp_path / "work"), FolderExecutor(tmp_path / "work")
    build_shards(tmp_path / "index", corpus, shards=2, executor=first)
    made = read_commit(tmp_path / "index").sha256
    build_shards(tmp_path / "index", corpus, shards=2, executor=second)
    assert read_commit(tmp_path / "index").sha256 == made
    assert not list((work / shared_folder.LOCKS).iterdir()) and not list((work / task.UNFINISHED).iterdir())
    with pytest.raises(ArtifactError, match="exists already"):
        build_shards(tmp_path / "index", corpus, shards=3, executor=Here())


def test_local_processes_that_die_lose_nothing(corpus, tmp_path):
    build_shards(tmp_path / "here", corpus, PRUNED, shards=3, executor=Here())
    with LocalExecutor(2, threads=1) as executor:
        killed = []

        class Killing:
            def map(self, function, tasks):
                for one in executor.map(function, tasks):
                    if one.stage in ("read", "index") and one.stage not in killed:
                        killed.append(one.stage)
                        os.kill(next(iter(executor._pool._processes)), signal.SIGKILL)
                    yield one

        build_shards(tmp_path / "index", corpus, PRUNED, shards=3, executor=Killing())
    assert killed == ["read", "index"]
    assert segments_of(tmp_path / "index") == segments_of(tmp_path / "here")


def test_a_script_that_does_not_guard_its_build_is_told_how(corpus, tmp_path):
    script = tmp_path / "script.py"
    call = f"build_shards({str(tmp_path / 'made')!r}, {str(corpus)!r}, 'bm25', shards=2, executor='local:1')"
    script.write_text(f"from thresher.distributed.building import build_shards\n{call}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    assert done.stderr.count("for the reason above. Worker") == 1
    assert not (tmp_path / "made").exists()


def test_processes_on_a_folder_that_are_killed_lose_nothing(corpus, tmp_path):
    build_shards(tmp_path / "here", corpus, PRUNED, shards=6, executor=Here())
    script = (
        "import sys; from thresher.build.recipe import Recipe; from thresher.distributed.building import build_shards;"
        "from thresher.distributed.shared_folder import FolderExecutor;"
        f"build_shards({str(tmp_path / 'index')!r}, {str(corpus)!r}, Recipe.model_validate_json(sys.argv[1]), shards=6,"
        f" executor=FolderExecutor({str(tmp_path / 'work')!r}, lease=1.0))"
    )
    command, chosen = [sys.executable, "-c", script, PRUNED.model_dump_json(exclude_defaults=True)], random.Random(3)
    running = [subprocess.Popen(command) for _ in range(3)]
    for _ in range(2):
        time.sleep(chosen.uniform(1.5, 2.5))
        one = running.pop(0)
        one.kill()
        one.wait()
    assert [one.wait(240) for one in running] == [0]
    assert segments_of(tmp_path / "index") == segments_of(tmp_path / "here")


def test_a_lock_that_was_left_behind_is_taken_once(tmp_path):
    one, other = FolderExecutor(tmp_path, lease=0.2), FolderExecutor(tmp_path, lease=0.2)
    (tmp_path / shared_folder.LOCKS).mkdir()
    lock = tmp_path / shared_folder.LOCKS / "a"
    assert one._make(lock) and not other._make(lock)
    assert not other._is_left(lock)
    time.sleep(0.3)
    assert other._is_left(lock) and other._take_away(lock) and not one._take_away(lock)
    assert other._make(lock)
    assert not one._take_away(lock) and lock.exists()  # it is fresh, and stays


def test_a_docno_in_two_parts_is_refused(tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join([*lines(40), lines(40)[3]]) + "\n")
    with pytest.raises(InputError, match="docno 'd3' is in two parts of the corpus"):
        build_shards(tmp_path / "index", file, shards=3, executor=Here())


def test_an_error_names_the_line_of_the_file(tmp_path):
    file = tmp_path / "corpus.jsonl"
    written = lines(60)
    for line in (48, 2):  # of the last part, and of the first, where the line is that of the file
        file.write_text("\n".join([*written[: line - 1], "no JSON", *written[line:]]) + "\n")
        with pytest.raises(InputError) as caught:
            build_shards(tmp_path / "index", file, shards=4, executor=Here())
        assert (caught.value.source, caught.value.line) == (str(file), line)
        assert caught.value.__cause__ is not caught.value


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"encode": {"source": "x"}}, "encode.source"),
        ({"prune": {"budget": "2 MB"}}, "prune.rate"),
        ({"prune": {"estimator": "kl+length"}}, "prune.estimator"),
    ],
)
def test_what_belongs_to_a_corpus_in_one_piece_is_refused(corpus, tmp_path, table, named):
    with pytest.raises(ConfigError, match=named):
        build_shards(tmp_path / "index", corpus, Recipe.model_validate(table), executor=Here())


def test_passages_in_memory_and_unknown_executors_are_refused(tmp_path):
    with pytest.raises((ConfigError, InputError)):
        build_shards(tmp_path / "index", ["passage"], executor=Here())
    for name in ("slurm", "folder", "local:0", "local:x"):
        with pytest.raises(ConfigError, match="known are"):
            executor_named(name)


@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "jsonl.gz", "csv", "header.tsv"])
@pytest.mark.parametrize("parts", [1, 2, 5, 64])
def test_the_parts_of_a_corpus_are_the_corpus(tmp_path, suffix, parts):
    import gzip

    rows = [json.loads(line) for line in lines(23)]
    rows[4]["text"] = "é" * 50
    file = tmp_path / f"corpus.{suffix}"
    if suffix.startswith("jsonl"):
        text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    elif suffix == "csv":
        text = "docno,text\n" + "\n".join(f'{row["docno"]},"{row["text"]}\n more"' for row in rows)
    else:
        head = "docno\ttext\n" if suffix == "header.tsv" else ""
        text = head + "\r\n".join(f"{row['docno']}\t{row['text']}" for row in rows) + "\r\n"
    file.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    names = ("", "", "")
    sources = sources_of(file, "", names)
    counts = {one.file: len(rows) for one in to_count(sources, parts)}
    pieces = cut(sources, counts, parts)
    read = [
        (p.docno, p.text, dict(p.metadata))
        for part in pieces
        for p in part_of(open_corpus(file), part, "", names)
        if part
    ]
    assert read == [(p.docno, p.text, dict(p.metadata)) for p in open_corpus(file)]
    assert len(pieces) == parts


def test_a_folder_of_documents_is_built_in_shards(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.md").write_text(f"# {WORDS[number]}\n\n" + " ".join(WORDS[: number + 4]) + "\n")
    build_index(tmp_path / "one", folder, Recipe())
    build_shards(tmp_path / "many", folder, Recipe(), shards=3, executor=Here())
    assert answers(tmp_path / "many") == answers(tmp_path / "one")
    assert read_commit(tmp_path / "many").schema == read_commit(tmp_path / "one").schema


def test_a_spool_is_opened_by_another_process(tmp_path, corpus):
    spool = Spool(tmp_path / "spool", "name")
    for _ in spool.fill(open_corpus(corpus)):
        pass
    again = Spool.open(tmp_path / "spool", spool.about())
    assert list(again) == list(spool) and again.fingerprint() == spool.fingerprint()


def test_a_plan_says_what_would_be_done(corpus, tmp_path):
    plan = plan_shards(tmp_path / "index", corpus, PRUNED, shards=4)
    assert dict(plan.stages) == {
        "read": 4, "facts": 1, "features": 4, "estimator": 1, "score": 4, "prune": 1, "index": 4, "commit": 1
    }  # fmt: skip
    assert [part[0].after for part in plan.parts][-1] == Path(corpus).stat().st_size
    assert not plan.work.exists()
