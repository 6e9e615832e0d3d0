# ruff: noqa: E402, S106
"""Provence, XProvence and OpenProvence checkpoints, as tiny random ones with the same parameter names."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the models extra")
transformers = pytest.importorskip("transformers", reason="needs the models extra")

from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from thresher.context import ContextPruner, SplitPassage
from thresher.context.provence import ProvenceScorer, share_score
from thresher.context.scorers import SentenceScorer
from thresher.errors import DataNotFoundError, ModelError
from thresher.text.sentences import split_sentences

pytestmark = pytest.mark.models

WORDS = "the first prize was awarded in 1901 who won it water ice caves are blue . ? !".split()
TEXT = "The first prize was awarded in 1901. Who won it? Ice caves are blue! " * 6
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_tokenizer(directory):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    return len(vocabulary)


def write_provence(directory, kind):
    vocabulary = write_tokenizer(directory)
    torch.manual_seed(3)
    if kind == "deberta":
        config = transformers.DebertaV2Config(
            vocab_size=vocabulary, max_position_embeddings=64, relative_attention=True, position_buckets=8,
            pos_att_type=["p2c", "c2p"], **SIZE,
        )  # fmt: skip
        encoder, heads = transformers.DebertaV2Model(config), {"pooler.dense": (16, 16), "classifier": (2, 16)}
    else:
        config = transformers.XLMRobertaConfig(
            vocab_size=vocabulary, max_position_embeddings=66, pad_token_id=0, **SIZE
        )
        encoder = transformers.XLMRobertaModel(config, add_pooling_layer=False)
        heads = {"classifier.dense": (16, 16), "classifier.out_proj": (1, 16)}
    state = {f"{kind}.{name}": value.clone() for name, value in encoder.state_dict().items()}
    for name, shape in {**heads, "token_classifier": (2, 16)}.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape) * 0.5, torch.randn(shape[0]) * 0.1
    save_file(state, str(directory / "model.safetensors"))
    document = config.to_dict() | {"model_type": "Provence", "auto_map": {"AutoModel": "modeling_provence.Provence"}}
    (directory / "config.json").write_text(json.dumps(document, default=str))
    return config, state


def write_open_provence(directory):
    vocabulary = write_tokenizer(directory)
    torch.manual_seed(4)
    config = transformers.ModernBertConfig(
        vocab_size=vocabulary, max_position_embeddings=64, num_labels=1, pad_token_id=0, cls_token_id=2, sep_token_id=3,
        bos_token_id=2, eos_token_id=3, **SIZE,
    )  # fmt: skip
    ranking = transformers.ModernBertForSequenceClassification(config)
    state = {f"ranking_model.{name}": value.clone() for name, value in ranking.state_dict().items()}
    state["pruning_head.classifier.weight"], state["pruning_head.classifier.bias"] = torch.randn(2, 16), torch.randn(2)
    save_file(state, str(directory / "model.safetensors"))
    document = {
        "model_type": "open_provence",
        "base_model_config": config.to_dict(),
        "max_length": 64,
        "default_threadshold": 0.2,
        "pruning_config": {"hidden_size": 16},
        "auto_map": {"AutoModel": "modeling_open_provence.OpenProvence"},
    }
    (directory / "config.json").write_text(json.dumps(document, default=str))
    return config, state, ranking.eval()


def split(text):
    return SplitPassage(text, tuple(split_sentences(text)))


@pytest.mark.parametrize("kind", ["deberta", "roberta"])
def test_provence_scores_equal_a_forward_pass_by_hand(tmp_path, kind):
    config, state = write_provence(tmp_path, kind)
    scorer = ProvenceScorer(tmp_path)
    text = "The first prize was awarded in 1901. Ice caves are blue!"
    (scores,) = scorer.score([("who won it", split(text))])

    cls = transformers.DebertaV2Model if kind == "deberta" else transformers.XLMRobertaModel
    encoder = cls(config) if kind == "deberta" else cls(config, add_pooling_layer=False)
    encoder.load_state_dict({k.removeprefix(f"{kind}."): v for k, v in state.items() if k.startswith(f"{kind}.")})
    encoded = scorer.tokenizer("who won it", text, return_tensors="pt", return_offsets_mapping=True)
    with torch.inference_mode():
        states = encoder.eval()(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])[0][0]
        keep = torch.softmax(states @ state["token_classifier.weight"].T + state["token_classifier.bias"], -1)[
            :, 1
        ].tolist()
        if kind == "deberta":
            pooled = torch.nn.functional.gelu(states[0] @ state["pooler.dense.weight"].T + state["pooler.dense.bias"])
            logit = (pooled @ state["classifier.weight"].T + state["classifier.bias"])[0]
        else:
            pooled = torch.tanh(states[0] @ state["classifier.dense.weight"].T + state["classifier.dense.bias"])
            logit = (pooled @ state["classifier.out_proj.weight"].T + state["classifier.out_proj.bias"])[0]
    assert scores.relevance == pytest.approx(float(logit), abs=1e-5)
    # [CLS] who won it [SEP] = 5 tokens; the first sentence has 8, the second 5
    assert scores.sentences == pytest.approx((share_score(keep[5:13]), share_score(keep[13:18])), abs=1e-5)


def test_open_provence_scores_are_means_and_relevance_a_logistic(tmp_path):
    _, state, ranking = write_open_provence(tmp_path)
    scorer = ProvenceScorer(tmp_path)
    text = "The first prize was awarded in 1901. Ice caves are blue!"
    (scores,) = scorer.score([("who won it", split(text))])
    encoded = scorer.tokenizer("who won it", text, return_tensors="pt")
    with torch.inference_mode():
        ids = encoded["input_ids"]
        out = ranking(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        logits = (
            out.hidden_states[-1][0] @ state["pruning_head.classifier.weight"].T + state["pruning_head.classifier.bias"]
        )
        keep = torch.softmax(logits, -1)[:, 1]
    assert scores.relevance == pytest.approx(float(torch.sigmoid(out.logits[0, 0])), abs=1e-5)
    assert scores.sentences == pytest.approx((float(keep[5:13].mean()), float(keep[13:18].mean())), abs=1e-5)
    assert scorer.presets["conservative"] == 0.2


@pytest.mark.parametrize("kind", ["deberta", "roberta", "open"])
def test_long_passages_batches_and_odd_text(tmp_path, kind):
    write_open_provence(tmp_path) if kind == "open" else write_provence(tmp_path, kind)
    scorer = SentenceScorer.from_name(str(tmp_path))
    pairs = [("who won it", split(t)) for t in (TEXT, "", "🙂 é\u0301 \x00", "blue")] + [("water " * 50, split(TEXT))]
    together = scorer.score(pairs)
    assert [len(s.sentences) for s in together] == [len(p.sentences) for _, p in pairs]
    assert scorer.score(pairs[::-1]) == together[::-1]
    (pruned,) = ContextPruner(scorer).prune("who won it", [TEXT], threshold="strong")
    assert pruned.text == "".join(TEXT[s.start : s.end] for s in pruned.spans)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_the_share_score_is_provences_rule_at_every_threshold(probabilities, threshold):
    kept_by_rule = sum(p > threshold for p in probabilities) / len(probabilities) > threshold
    assert (share_score(probabilities) > threshold) == kept_by_rule


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        ProvenceScorer(tmp_path)
    write_provence(tmp_path, "deberta")
    config = json.loads((tmp_path / "config.json").read_text()) | {"intermediate_size": 48}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="another shape"):
        ProvenceScorer(tmp_path)
    save_file({"x": torch.zeros(1)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(ModelError, match="token_classifier"):
        ProvenceScorer(tmp_path)
    with pytest.raises(DataNotFoundError):
        SentenceScorer.from_name("no-such-org/no-such-model")
