"""Tiny real models, made here: random weights over forty word pieces, saved as sentence-transformers saves them."""

import pytest

WORDS = (
    "the a of in dog cat bird fish house tree river sea city road king queen red green blue old new "
    "run sing swim burn grow ##s ##ing ##ed how what does is"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def torch():
    module = pytest.importorskip("torch", reason="the models extra is not installed")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory):
    """A BERT tokenizer and a masked language model with one layer of sixteen dimensions."""
    torch = pytest.importorskip("torch", reason="the models extra is not installed")
    transformers = pytest.importorskip("transformers", reason="the models extra is not installed")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, initializer_range=1.0,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def splade_dir(tokenizer_dir, tmp_path_factory):
    """A SPLADE model: masked language model head, log-saturated, maximum over tokens."""
    library = pytest.importorskip("sentence_transformers", reason="the models extra is not installed")
    from sentence_transformers.sentence_transformer.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    folder = tmp_path_factory.mktemp("splade")
    modules = [Transformer(str(tokenizer_dir), transformer_task="fill-mask"), SpladePooling()]
    library.SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def router_dir(tokenizer_dir, tmp_path_factory):
    """An inference-free model: SPLADE for passages, a table of weights for queries."""
    torch = pytest.importorskip("torch", reason="the models extra is not installed")
    library = pytest.importorskip("sentence_transformers", reason="the models extra is not installed")
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    folder = tmp_path_factory.mktemp("router")
    document = Transformer(str(tokenizer_dir), transformer_task="fill-mask")
    weights = torch.rand(len(document.tokenizer), generator=torch.Generator().manual_seed(1)) + 0.1
    query = SparseStaticEmbedding(tokenizer=document.tokenizer, weight=weights, frozen=True)
    router = Router.for_query_document(query_modules=[query], document_modules=[document, SpladePooling()])
    library.SparseEncoder(modules=[router], device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def dense_dir(tokenizer_dir, tmp_path_factory):
    """A dense encoder: mean pooling."""
    library = pytest.importorskip("sentence_transformers", reason="the models extra is not installed")
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("dense")
    transformer = Transformer(str(tokenizer_dir))
    modules = [transformer, Pooling(transformer.get_embedding_dimension())]
    model = library.SentenceTransformer(modules=modules, device="cpu", prompts={"query": "what is ", "document": ""})
    model.save_pretrained(str(folder))
    return folder
