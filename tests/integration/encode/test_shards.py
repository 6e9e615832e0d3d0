"""A killed encode goes on where it stopped, and nothing shows that it was killed."""

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thresher.encode.shards import dense_shards, sparse_shards
from thresher.errors import ArtifactError
from thresher.records import Passage

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from letters import Letters
from thresher.encode.shards import sparse_shards
from thresher.records import Passage

passages = [Passage(f"d{i}", "the dog sings in an old house"[: 3 + i % 25]) for i in range(230)]
for done, _ in sparse_shards(Letters(), passages, Path(sys.argv[2]), shard_size=25):
    print(len(done), flush=True)
    time.sleep(float(sys.argv[3]))
"""

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("letters", HERE / "letters.py")
letters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(letters)
Letters = letters.Letters


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def test_a_killed_encode_resumes_at_the_last_finished_shard_byte_for_byte(tmp_path):
    (tmp_path / "encode.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "encode.py"), str(HERE)]
    subprocess.run([*command, str(tmp_path / "whole"), "0"], check=True, stdout=subprocess.DEVNULL)

    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed), "60"], stdout=subprocess.PIPE)
    process.stdout.readline()  # the first shard is on disk, and the process sleeps before the second
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = files(killed)
    stamps = {p.name: p.stat().st_mtime_ns for p in killed.iterdir()}
    assert "shard-000000.npz" in before
    assert len(before) < len(files(tmp_path / "whole"))

    time.sleep(0.01)
    subprocess.run([*command, str(killed), "0"], check=True, stdout=subprocess.DEVNULL)
    assert files(killed) == files(tmp_path / "whole")
    assert (killed / "shard-000000.npz").stat().st_mtime_ns == stamps["shard-000000.npz"]  # not encoded again


def passages(n, text="text"):
    return [Passage(f"d{i}", f"{text} {chr(97 + i % 26)}") for i in range(n)]


def collect(shards):
    return [(p.docno, b.terms[b.indptr[i] : b.indptr[i + 1]].tolist()) for s, b in shards for i, p in enumerate(s)]


def test_finished_shards_are_not_encoded_again(tmp_path):
    encoder = Letters()
    first = collect(sparse_shards(encoder, passages(10), tmp_path, shard_size=4))
    assert len(encoder.encoded) == 10
    assert collect(sparse_shards(encoder, passages(10), tmp_path, shard_size=4)) == first
    assert len(encoder.encoded) == 10


def test_a_changed_passage_has_its_shard_encoded_anew(tmp_path):
    encoder = Letters()
    collect(sparse_shards(encoder, passages(10), tmp_path, shard_size=4))
    changed = passages(10)
    changed[5] = Passage("d5", "other")
    assert collect(sparse_shards(encoder, changed, tmp_path, shard_size=4))[5] == ("d5", sorted({14, 19, 7, 4, 17}))
    assert len(encoder.encoded) == 14


def test_a_damaged_shard_is_encoded_anew(tmp_path):
    encoder = Letters()
    first = collect(sparse_shards(encoder, passages(10), tmp_path, shard_size=4))
    shard = tmp_path / "shard-000001.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert collect(sparse_shards(encoder, passages(10), tmp_path, shard_size=4)) == first
    assert shard.read_bytes() == whole


def test_a_shorter_corpus_leaves_no_shards_of_the_longer_one(tmp_path):
    collect(sparse_shards(Letters(), passages(10), tmp_path, shard_size=4))
    collect(sparse_shards(Letters(), passages(3), tmp_path, shard_size=4))
    assert sorted(p.name for p in tmp_path.glob("shard-*")) == ["shard-000000.npz"]


def test_shards_of_another_encoder_are_not_mixed_in(tmp_path):
    collect(sparse_shards(Letters(), passages(3), tmp_path))
    other = Letters()
    other.fingerprint = "letters-2"
    with pytest.raises(ArtifactError, match="another encoder"):
        collect(sparse_shards(other, passages(3), tmp_path))


@pytest.mark.models
def test_shards_of_a_model_do_not_depend_on_where_a_run_stopped(splade_dir, tmp_path):
    from thresher.encode.learned import LearnedSparseEncoder

    corpus = [Passage(f"d{i}", "the dog sings in a old house red fish"[: 3 + i % 30]) for i in range(20)]
    encoder = LearnedSparseEncoder(splade_dir, device="cpu", batch_size=4)
    collect(sparse_shards(encoder, corpus, tmp_path / "whole", shard_size=6))
    stopped = sparse_shards(encoder, corpus, tmp_path / "stopped", shard_size=6)
    next(stopped)
    stopped.close()
    fresh = LearnedSparseEncoder(splade_dir, device="cpu", batch_size=4)
    collect(sparse_shards(fresh, corpus, tmp_path / "stopped", shard_size=6))
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


@pytest.mark.models
def test_dense_vectors_resume_too(dense_dir, tmp_path):
    from thresher.encode.dense import TransformerEncoder

    encoder = TransformerEncoder(dense_dir, device="cpu")
    corpus = [Passage(f"d{i}", f"the dog {i % 3}") for i in range(7)]
    once = [v for _, v in dense_shards(encoder, corpus, tmp_path, shard_size=3)]
    again = [v for _, v in dense_shards(encoder, corpus, tmp_path, shard_size=3)]
    assert [v.shape for v in once] == [(3, 16), (3, 16), (1, 16)]
    assert all((a == b).all() for a, b in zip(once, again, strict=True))


def test_an_interrupted_corpus_becomes_the_same_artifact(tmp_path):
    from thresher.artifact import verify
    from thresher.encode.encoded import EncodedPassages, encode_corpus

    class Interrupted(Letters):
        def encode_passages(self, texts):
            if len(self.encoded) >= 8:
                raise KeyboardInterrupt
            return super().encode_passages(texts)

    corpus = passages(22)
    counts = encode_corpus(corpus, Letters(), tmp_path / "whole", shard_size=4)
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(corpus, Interrupted(), tmp_path / "stopped", shard_size=4)
    assert not (tmp_path / "stopped").exists()
    encoder = Letters()
    assert encode_corpus(corpus, encoder, tmp_path / "stopped", shard_size=4)["passages"] == counts["passages"] == 22
    assert len(encoder.encoded) == 14  # two shards were there
    whole = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
    for file in whole:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()
    assert not list(tmp_path.glob(".*.encoding"))
    verify(tmp_path / "stopped")
    encoded = EncodedPassages(tmp_path / "stopped")
    assert [p.docno for shard, _ in encoded for p in shard] == [p.docno for p in corpus] == encoded.docnos
    assert sum(len(batch.terms) for _, batch in encoded) == counts["postings"]
    with pytest.raises(ArtifactError, match="exists already"):
        encode_corpus(corpus, Letters(), tmp_path / "whole", shard_size=4)
