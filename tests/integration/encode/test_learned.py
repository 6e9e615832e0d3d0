import json

import numpy as np
import pytest

from thresher.errors import DataNotFoundError, InputError, ModelError

pytestmark = pytest.mark.models
TEXTS = ["the dog sings in the old house", "", "a red fish", "kings and queens burn the sea " * 3, "what is new how"]


@pytest.fixture(scope="module", autouse=True)
def _needs(torch):
    pytest.importorskip("sentence_transformers", reason="the models extra is not installed")


def dense_rows(batch, width):
    out = np.zeros((len(batch), width), np.float32)
    for i in range(len(batch)):
        row = slice(batch.indptr[i], batch.indptr[i + 1])
        assert (np.diff(batch.terms[row].astype(int)) > 0).all()
        out[i, batch.terms[row]] = batch.weights[row]
    return out


def special(folder):
    words = (folder / "vocab.txt").read_text().split() if (folder / "vocab.txt").exists() else None
    return [i for i, word in enumerate(words or []) if word.startswith("[")]


def test_passages_get_the_models_weights_without_special_tokens(splade_dir, tokenizer_dir):
    from sentence_transformers import SparseEncoder

    from thresher.encode.learned import LearnedSparseEncoder

    encoder = LearnedSparseEncoder(splade_dir, device="cpu", batch_size=2, dtype="float32")
    theirs = SparseEncoder(str(splade_dir), device="cpu").encode_document(TEXTS, convert_to_sparse_tensor=False)
    expected = theirs.numpy().copy()
    assert expected[:, special(tokenizer_dir)].sum() > 0  # they do get weight
    expected[:, special(tokenizer_dir)] = 0
    found = dense_rows(encoder.encode_passages(TEXTS), expected.shape[1])
    assert np.allclose(found, expected, atol=1e-5)
    assert encoder.vocabulary[:6] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the")


def test_logits_are_reduced_text_by_text_wherever_the_form_is_splades(splade_dir, router_dir):
    from thresher.encode.learned import LearnedSparseEncoder

    exact = LearnedSparseEncoder(splade_dir, device="cpu", dtype="float32")
    assert set(exact._fused) == {"document", "query"}
    assert set(LearnedSparseEncoder(router_dir, device="cpu")._fused) == {"document"}
    width = len(exact.vocabulary)
    expected = dense_rows(exact.encode_passages(TEXTS), width)
    for backend, least in (("torch-bf16", 0.99), ("torch-int8", 0.95)):
        encoder = LearnedSparseEncoder(splade_dir, device="cpu", backend=backend)
        found = dense_rows(encoder.encode_passages(TEXTS), width)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert ((found * expected).sum(1) >= least * lengths).all()


def test_the_heaviest_terms_stay(splade_dir):
    from thresher.encode.learned import LearnedSparseEncoder

    everything = LearnedSparseEncoder(splade_dir, device="cpu", dtype="float32").encode_passages(TEXTS)
    few = LearnedSparseEncoder(splade_dir, device="cpu", max_active_terms=3, dtype="float32").encode_passages(TEXTS)
    assert np.diff(few.indptr).max() <= 3
    for i in range(len(TEXTS)):
        all_weights = everything.weights[everything.indptr[i] : everything.indptr[i + 1]]
        kept = few.weights[few.indptr[i] : few.indptr[i + 1]]
        assert np.allclose(np.sort(kept), np.sort(all_weights)[-3:], atol=1e-5)


def test_a_saved_query_side_answers_as_the_model_does(splade_dir, router_dir, tmp_path):
    from sentence_transformers import SparseEncoder

    from thresher.encode.encoder import load_query_encoder
    from thresher.encode.learned import LearnedSparseEncoder

    for folder, kind in ((splade_dir, "sentence-transformers"), (router_dir, "inference-free")):
        encoder = LearnedSparseEncoder(folder, device="cpu", dtype="float32")
        encoder.save(tmp_path / kind)
        document = json.loads((tmp_path / kind / "encoder.json").read_text())
        assert document["type"] == kind
        again = load_query_encoder(tmp_path / kind)
        assert again.fingerprint == encoder.fingerprint
        width = len(encoder.vocabulary)
        found = dense_rows(again.encode_queries(TEXTS), width)
        assert np.array_equal(found, dense_rows(encoder.encode_queries(TEXTS), width))
        theirs = SparseEncoder(str(folder), device="cpu").encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
        named = [i for i, word in enumerate(encoder.vocabulary) if word.startswith("[")]
        theirs[:, named] = 0
        assert np.allclose(found, theirs, atol=1e-5)


def test_an_inference_free_query_loads_no_torch(router_dir, tmp_path):
    import subprocess
    import sys

    from thresher.encode.learned import LearnedSparseEncoder

    LearnedSparseEncoder(router_dir, device="cpu").save(tmp_path / "encoder")
    code = (
        "import sys; from pathlib import Path; from thresher.encode.lookup import LookupQueryEncoder\n"
        f"b = LookupQueryEncoder.load(Path({str(tmp_path / 'encoder')!r})).encode_queries(['the dog', 'zzz'])\n"
        "assert len(b.terms) == 2, b\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_changed_model_is_another_encoder(splade_dir, tmp_path):
    import shutil

    from thresher.encode.learned import LearnedSparseEncoder

    copy = tmp_path / "copy"
    shutil.copytree(splade_dir, copy)
    encoder = LearnedSparseEncoder(copy, device="cpu")
    encoder.save(tmp_path / "encoder")
    assert encoder.fingerprint != LearnedSparseEncoder(copy, device="cpu", max_active_terms=7).fingerprint
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    (copy / "config_sentence_transformers.json").write_text(json.dumps(config | {"max_active_dims": 5}))
    with pytest.raises(ModelError, match="not the one that encoded the passages"):
        LearnedSparseEncoder.load(tmp_path / "encoder")


def test_latent_dimensions_are_called_by_number(dense_dir, tmp_path):
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    from thresher.encode.learned import LearnedSparseEncoder

    transformer = Transformer(str(dense_dir))
    modules = [transformer, Pooling(16), SparseAutoEncoder(input_dim=16, hidden_dim=64, k=8, k_aux=8)]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(tmp_path / "csr"))
    encoder = LearnedSparseEncoder(tmp_path / "csr", device="cpu", max_active_terms=8)
    assert encoder.vocabulary == tuple(str(i) for i in range(64))
    assert np.diff(encoder.encode_passages(TEXTS).indptr).max() <= 8


def test_what_is_not_a_sparse_encoder_is_refused(tmp_path):
    from thresher.encode.learned import LearnedSparseEncoder

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded"):
        LearnedSparseEncoder(tmp_path / "empty", device="cpu")
    with pytest.raises(DataNotFoundError, match="hf download nobody/nothing"):
        LearnedSparseEncoder("nobody/nothing", device="cpu")
    with pytest.raises(InputError, match=r"batch_size must be .*got 0"):
        LearnedSparseEncoder(tmp_path / "empty", batch_size=0)


def test_dense_vectors_are_the_models(dense_dir):
    from sentence_transformers import SentenceTransformer

    from thresher.encode.dense import TransformerEncoder

    model = SentenceTransformer(str(dense_dir), device="cpu")
    encoder = TransformerEncoder(dense_dir, device="cpu", storage="float32")
    assert np.allclose(encoder.encode_queries(TEXTS), model.encode_query(TEXTS, normalize_embeddings=True), atol=1e-6)
    assert np.allclose(encoder.encode_passages(TEXTS), model.encode_document(TEXTS, normalize_embeddings=True))
    assert not np.allclose(encoder.encode_queries(TEXTS), encoder.encode_passages(TEXTS))  # the prompt counts
    other = TransformerEncoder(dense_dir, device="cpu", storage="float32", query_prompt="", passage_prompt="")
    assert np.allclose(other.encode_queries(TEXTS), other.encode_passages(TEXTS))


def test_truncated_dimensions_keep_unit_length(dense_dir):
    from thresher.encode.dense import TransformerEncoder

    full = TransformerEncoder(dense_dir, device="cpu", storage="float32")
    half = TransformerEncoder(dense_dir, device="cpu", dimensions=8)
    vectors = half.encode_passages(TEXTS)
    assert vectors.shape == (5, 8)
    assert vectors.dtype == np.float16
    assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1.0, atol=1e-3)
    head = full.encode_passages(TEXTS)[:, :8]
    assert np.allclose(vectors, head / np.linalg.norm(head, axis=1, keepdims=True), atol=1e-3)
    assert half.fingerprint != full.fingerprint
    assert half.encode_passages([]).shape == (0, 8)
    with pytest.raises(InputError, match="choose 1 to 16"):
        TransformerEncoder(dense_dir, device="cpu", dimensions=17)
