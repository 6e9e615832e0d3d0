"""Real tiny models in this process: what the backend reads off them is what plain transformers computes."""

import asyncio
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from thresher.errors import ModelError
from thresher.llm.budget import Budget
from thresher.llm.local import TransformersModel
from thresher.llm.model import Message, Request
from thresher.records import Hit
from thresher.rerank.model_judge import ModelJudge
from thresher.rerank.reranker import Reranker

pytestmark = pytest.mark.models

PROMPTS = ["why is the sky blue", "cat", "the cat sat . what is the question of the rain and the sky ?"]
HITS = [Hit(f"d{i}", float(-i), i + 1, text=" ".join(PROMPTS[i % 3].split()[: 1 + i]) + f" {i}") for i in range(8)]


@pytest.fixture(scope="module")
def causal(causal_dir):
    model = TransformersModel(causal_dir, batch_size=8)
    yield model
    model.close()


@pytest.fixture(scope="module")
def t5(t5_dir):
    model = TransformersModel(t5_dir, batch_size=8)
    yield model
    model.close()


def ask(model, *requests):
    return asyncio.run(model.complete(list(requests)))


def chat(text, **wanted):
    return Request((Message("user", text),), **wanted)


def first_logits(directory, text, seq2seq):
    """The first answer token's logits, one prompt at a time, without padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    if seq2seq:
        model = AutoModelForSeq2SeqLM.from_pretrained(directory).eval()
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            return tokenizer, model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    ids = tokenizer(f"<|user|> {text} <|end|> <|assistant|> ", return_tensors="pt").input_ids
    with torch.no_grad():
        return tokenizer, model(input_ids=ids).logits[0, -1]


@pytest.mark.parametrize("kind", ["causal", "t5"])
def test_label_log_probabilities_of_a_batch_are_those_of_each_prompt_alone(kind, request, causal_dir, t5_dir):
    model = request.getfixturevalue(kind)
    labels = ("yes", "no", "A", "5")
    completions = ask(model, *(chat(text, labels=labels) for text in PROMPTS))
    for text, completion in zip(PROMPTS, completions, strict=True):
        tokenizer, logits = first_logits({"causal": causal_dir, "t5": t5_dir}[kind], text, kind == "t5")
        logs = logits.log_softmax(-1)
        vocabulary = tokenizer.get_vocab()
        for label in labels:
            spelled = [i for token, i in vocabulary.items() if token in {label, label.title(), label.lower()}
                       and (len(label) > 1 or token == label)]  # fmt: skip
            assert completion.labels[label] == pytest.approx(float(logs[spelled].logsumexp(0)), abs=1e-4)


@pytest.mark.parametrize("kind", ["causal", "t5"])
def test_the_likelihood_of_a_continuation_is_the_sum_over_its_tokens(kind, request):
    """Two tokens: log P(first) + log P(second | first), against two one-token requests."""
    model = request.getfixturevalue(kind)
    both, alone = ask(model, chat("rain", continuation=" sky blue"), chat("rain", continuation=" sky"))
    (label,) = ask(model, chat("rain", labels=("sky",)))
    assert alone.continuation == pytest.approx(label.labels["sky"], abs=1e-4)
    assert both.continuation < alone.continuation
    padded = ask(model, chat("rain", continuation=" sky blue"), chat(PROMPTS[2], continuation=" cat"))
    assert padded[0].continuation == pytest.approx(both.continuation, abs=1e-4)


@pytest.mark.parametrize("kind", ["causal", "t5"])
def test_text_is_generated_greedily_and_cut_at_the_limit(kind, request):
    model = request.getfixturevalue(kind)
    one, again, _ = ask(model, *(chat(text, max_tokens=5) for text in (PROMPTS[0], PROMPTS[0], PROMPTS[2])))
    assert one.text == again.text
    assert 0 < one.usage.answer_tokens <= 5
    assert one.usage.prompt_tokens == model.prompt_bound(chat(PROMPTS[0]))


@pytest.mark.parametrize("kind", ["causal", "t5"])
@pytest.mark.parametrize(
    ("plan", "asking"),
    [
        ("pointwise", {"rating": "yes-no"}),
        ("pointwise", {"rating": "graded"}),
        ("pointwise", {"rating": "likelihood"}),
        ("pointwise", {"rating": "monot5"}),
        ("pairwise-heap", {}),
        ("setwise-heap", {}),
        ("setwise-insertion:children=2", {"order": "logits"}),
        ("sliding:window=4,stride=2", {"order": "logits"}),
        ("sliding:window=4,stride=2", {"order": "generate"}),
        ("instupr-pairs:head=4", {}),
    ],
)
def test_every_way_of_asking_ranks_with_a_real_model(kind, plan, asking, request):
    model = request.getfixturevalue(kind)
    reranker = Reranker(ModelJudge(model, **asking), plan, k=3)
    results = reranker.rank_batch([("why is the sky blue", HITS), ("what is rain", HITS[::-1])])
    again = reranker.rank_batch([("why is the sky blue", HITS), ("what is rain", HITS[::-1])])
    for result in results:
        assert sorted(hit.docno for hit in result) == sorted(hit.docno for hit in HITS)
        assert result.complete
        assert not result.usage.repaired  # random weights, and yet no permutation is malformed
        assert result.usage.prompt_tokens > 0
        assert result.usage.calls <= reranker.plan.bound(8, 3).calls
    assert [[h.docno for h in r] for r in results] == [[h.docno for h in r] for r in again]


def test_ratings_sort_by_the_models_own_log_odds(t5, t5_dir):
    """monoT5's recipe by hand: log P(true) - log P(false) at the decoder's first step."""
    result = Reranker(ModelJudge(t5, rating="monot5"), "pointwise").rank("why is rain", HITS)
    expected = {}
    for hit in HITS:
        tokenizer, logits = first_logits(t5_dir, f"Query: why is rain Document: {hit.text} Relevant:", True)
        vocabulary = tokenizer.get_vocab()
        expected[hit.docno] = float(logits[vocabulary["true"]] - logits[vocabulary["false"]])
    assert [hit.docno for hit in result] == sorted(expected, key=lambda d: -expected[d])
    assert [hit.score for hit in result] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)


def test_token_budgets_hold_exactly_with_the_models_own_tokenizer(causal):
    reranker = Reranker(ModelJudge(causal), "pointwise", budget=Budget(tokens=600), concurrency=4)
    result = reranker.rank("why is the sky blue", HITS)
    usage = result.usage
    assert usage.prompt_tokens + usage.answer_tokens <= 600
    assert result.stopped == "tokens"
    assert usage.calls > 0


def test_passages_are_cut_by_the_models_tokens_and_counted(causal):
    long = Hit("long", 0.0, 1, text="cat " * 500)
    judge = ModelJudge(causal, passage_tokens=20)
    result = Reranker(judge, "pointwise").rank("why", [long, HITS[0]])
    assert result.usage.truncated == 1
    small = TransformersModel(causal.name, context=400)
    result = Reranker(ModelJudge(small, choice="logits"), "setwise-heap").rank("why", [long, HITS[0], HITS[1]])
    assert result.usage.truncated >= 1
    assert result.complete
    tight = TransformersModel(causal.name, context=60)
    with pytest.raises(ModelError, match="choose a smaller window"):
        Reranker(ModelJudge(tight, order="logits"), "single").rank("why", HITS)
    small.close()
    tight.close()


def test_a_label_no_token_spells_is_an_error(causal):
    with pytest.raises(ModelError, match="no single token"):
        ask(causal, chat("rain", labels=("umbrella",)))


def test_logits_that_are_no_numbers_are_an_error(causal_dir):
    import torch

    model = TransformersModel(causal_dir)
    with torch.no_grad():
        model._model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        Reranker(ModelJudge(model), "pointwise").rank("why", HITS)
    model.close()


def test_a_directory_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        TransformersModel(tmp_path)


def test_a_cross_encoder_rates_as_it_predicts(tmp_path_factory, causal_dir):
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification

    from thresher.rerank.cross_encoder import CrossEncoderJudge

    from .conftest import build_tokenizer

    directory = tmp_path_factory.mktemp("tiny-cross-encoder")
    size = build_tokenizer(directory, "")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(directory)
    judge = CrossEncoderJudge(directory, batch_size=4)
    result = Reranker(judge, "pointwise").rank("why is rain", HITS)
    model = CrossEncoder(str(directory), device="cpu")
    raw = model.predict([("why is rain", hit.text) for hit in HITS], activation_fn=torch.nn.Identity())
    assert [hit.docno for hit in result] == [HITS[i].docno for i in np.argsort(-raw, kind="stable")]
    assert result.usage.calls == 2
    with pytest.raises(Exception, match="use the plan `pointwise`"):
        Reranker(judge, "sliding").rank("why", HITS)
    loaded = Reranker(CrossEncoderJudge(model), "pointwise").rank("why is rain", HITS)
    assert [hit.docno for hit in loaded] == [hit.docno for hit in result]
    judge.close()


def test_a_pair_longer_than_the_models_positions_is_cut_to_them(tmp_path, causal_dir):
    """As in models of RoBERTa's family, whose tokenizers allow two tokens more than there are positions."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    from thresher.rerank.cross_encoder import CrossEncoderJudge

    from .conftest import build_tokenizer

    size = build_tokenizer(tmp_path, "")
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=34, num_labels=1, pad_token_id=1, type_vocab_size=2,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 34}))
    hits = [replace(HITS[0], text="rain falls " * 300), *HITS[1:]]
    judge = CrossEncoderJudge(tmp_path)
    assert len(Reranker(judge, "pointwise").rank("why is rain", hits)) == len(hits)
    judge.close()


@pytest.mark.parametrize(
    "error", [IndexError("index out of range in self"), KeyError("x"), TypeError("x"), AssertionError()]
)
def test_whatever_a_cross_encoder_raises_is_a_model_error_that_on_failure_decides_about(causal_dir, tmp_path, error):
    from thresher.rerank.cross_encoder import CrossEncoderJudge

    judge = object.__new__(CrossEncoderJudge)

    class Broken:
        def predict(self, *arguments, **options):
            raise error

    judge._model, judge._name, judge._batch_size, judge._raw = Broken(), "broken", 4, None
    with pytest.raises(ModelError, match=f"broken failed on 1 passages: {type(error).__name__}"):
        judge._predict([[("q", "text")]])


def test_the_model_that_ships_rates_by_its_name():
    pytest.importorskip("torch")
    reranker = Reranker.from_name("thresher-context", device="cpu")
    result = reranker.rank(
        "why does rain fall", [HITS[0], replace(HITS[1], text="Clouds cool, drops grow, and rain falls.")]
    )
    assert result.docnos[0] == HITS[1].docno
    assert (result.usage.plan, result.usage.calls) == ("pointwise", 1)
    reranker.close()


def test_a_causal_reranker_is_a_cross_encoder_too(causal_dir, tmp_path):
    """The log-odds of two tokens at the last position, as Qwen3 and mxbai rerankers score."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore, Transformer
    from transformers import AutoTokenizer

    from thresher.rerank.cross_encoder import CrossEncoderJudge

    vocabulary = AutoTokenizer.from_pretrained(causal_dir).get_vocab()
    made = CrossEncoder(
        modules=[
            Transformer(str(causal_dir), transformer_task="text-generation"),
            LogitScore(vocabulary["yes"], vocabulary["no"]),
        ],
        device="cpu",
    )
    made.save_pretrained(str(tmp_path / "reranker"))
    judge = CrossEncoderJudge(tmp_path / "reranker")
    result = Reranker(judge, "pointwise").rank("why is rain", HITS)
    raw = made.predict([("why is rain", hit.text) for hit in HITS], activation_fn=torch.nn.Identity())
    assert [hit.docno for hit in result] == [HITS[i].docno for i in np.argsort(-raw, kind="stable")]
    judge.close()


@pytest.mark.parametrize("words", ["System role not supported", "Conversation roles must alternate"])
def test_a_template_without_a_system_role_gets_its_words_in_the_users_turn(causal_dir, tmp_path, words):
    directory = tmp_path / "model"
    shutil.copytree(causal_dir, directory)
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('" + words + "') }}{% endif %}"
    template += "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (directory / "chat_template.jinja").write_text(template)
    model = TransformersModel(directory)
    request = Request((Message("system", "the cat"), Message("user", "sat")))
    assert model.prompt_bound(request) == model.prompt_bound(Request((Message("user", "the cat\n\nsat"),)))
    assert ask(model, request)[0].usage.prompt_tokens == 3
    (directory / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    with pytest.raises(ModelError, match="never"):
        TransformersModel(directory).prompt_bound(request)
    model.close()


def test_a_thought_of_a_model_in_this_process_is_closed_and_the_verdict_read_off_the_next_token(causal):
    judge = ModelJudge(causal, rating="rank1", reasoning_tokens=12)
    ranked = Reranker(judge, "pointwise").rank("why is the sky blue", HITS[:4])
    assert ranked.complete
    assert ranked.usage.calls == 8
    assert len({hit.score for hit in ranked}) > 1


def test_an_order_of_a_model_in_this_process_is_asked_for_after_its_thought(causal):
    thought = "the cat sat .\n</think>"
    request = chat("what", max_tokens=40, opening=f"{thought}\n\n", permutation=("1", "2", "3"))
    (found,) = ask(causal, request)
    assert sorted(part.strip("[] ") for part in found.text.split(">")) == ["1", "2", "3"]
