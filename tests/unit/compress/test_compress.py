"""Compression on tiny models with random weights: what is removed is gone, figures are the formulas', results load."""

# ruff: noqa: S106  (special tokens are no passwords)

import json
import math
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import ArtifactError, ConfigError, DataNotFoundError, InputError, MissingExtraError, ModelError

pytestmark = pytest.mark.models
torch = pytest.importorskip("torch", reason="the models extra is not installed")
transformers = pytest.importorskip("transformers", reason="the models extra is not installed")
library = pytest.importorskip("sentence_transformers", reason="the models extra is not installed")

from thresher.compress.compressor import Wanted, compress  # noqa: E402
from thresher.compress.curve import Kept, Level, quick_enough, smallest_equivalent  # noqa: E402
from thresher.compress.data import Candidates, Task, few, groups_of, read_task, split  # noqa: E402
from thresher.compress.depth import by_importance, influence, layer_cut, only_layers, walked  # noqa: E402
from thresher.compress.loss import ranking_loss, ranking_score, standardised  # noqa: E402
from thresher.compress.methods import METHODS, Cut, method_from_name  # noqa: E402
from thresher.compress.ranker import Ranker  # noqa: E402
from thresher.compress.width import SCORES, products, units_of  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


WORDS = ["grain", "chaff", "wind", "the", "of", "is", "blown", "away", "mill", "stone", "flour", "bread", "yes", "no"]
LAYERS = 4
DEPTH = ("block-influence", "angular", "loss", "taylor-layers", "early-exit", "greedy", "last", "random-layers")
WIDTH = ("neurons", "heads", "random-neurons", "random-heads")
WEIGHTS = ("magnitude", "wanda", "random-weights", "int8", "int4", "bfloat16")


def tokenizer(path):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=32,
    )  # fmt: skip
    fast.save_pretrained(path)
    return len(words)


def shape(size, layers=LAYERS):
    return transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("dense")
    torch.manual_seed(0)
    transformers.BertModel(shape(tokenizer(plain))).eval().save_pretrained(plain)
    inner = Transformer(str(plain))
    modules = [inner, Pooling(inner.get_embedding_dimension())]
    library.SentenceTransformer(modules=modules, device="cpu", prompts={"query": "the "}).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    torch.manual_seed(1)
    transformers.BertForMaskedLM(shape(tokenizer(folder))).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross")
    torch.manual_seed(2)
    config = shape(tokenizer(folder))
    config.num_labels = 1
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer(folder), hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=24, max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(params=["dense", "sparse", "cross", "causal"])
def model(request):
    return request.getfixturevalue(request.param)


def lists(count=6, seed=0):
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        texts = tuple(" ".join(draw.choice(WORDS, size=draw.integers(2, 9))) for _ in range(5))
        docnos = tuple(f"d{number}-{place}" for place in range(5))
        query = " ".join(draw.choice(WORDS, size=3))
        made.append(Candidates(f"q{number}", query, docnos, texts, {docnos[int(draw.integers(5))]: 1}))
    return tuple(made)


LISTS = lists()
TASK = Task(LISTS[:3], LISTS[3:], "three and three lists")


def flat(ranker, some=LISTS):
    return np.concatenate(ranker.scores(some))


@settings(max_examples=6, deadline=None)
@given(kept=st.sets(st.integers(0, LAYERS - 1), min_size=1).map(sorted))
def test_a_model_without_layers_scores_as_one_built_of_the_others(dense, kept):
    cut = Ranker.load(dense, device="cpu")
    whole = transformers.BertModel.from_pretrained(dense).eval()
    cut.keep_layers(kept)
    built = transformers.BertModel(shape(whole.config.vocab_size, len(kept))).eval()
    state = {}
    for name, value in whole.state_dict().items():
        if name.startswith("encoder.layer."):
            number, _, rest = name.removeprefix("encoder.layer.").partition(".")
            if int(number) in kept:
                state[f"encoder.layer.{kept.index(int(number))}.{rest}"] = value
        else:
            state[name] = value
    built.load_state_dict(state)
    assert cut.network.config.num_hidden_layers == len(kept)
    features = cut.library.tokenizer(["grain of the mill"], return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(
            cut.network(**features).last_hidden_state, built(**features).last_hidden_state, rtol=0, atol=0
        )


def test_scores_are_the_library_s(dense, sparse, cross, causal):
    one = LISTS[0]
    encoder = library.SentenceTransformer(str(dense), device="cpu")
    asked, found = encoder.encode_query([one.query]), encoder.encode_document(list(one.texts))
    expected = encoder.similarity(asked, found)[0].numpy()
    np.testing.assert_allclose(Ranker.load(dense, device="cpu").scores([one])[0], expected, atol=1e-5)
    encoder = library.SparseEncoder(str(sparse), device="cpu")
    asked, found = (encoder.encode(texts).to_dense().numpy() for texts in ([one.query], list(one.texts)))
    found[:, :5] = 0.0  # special tokens have no weight here
    np.testing.assert_allclose(Ranker.load(sparse, device="cpu").scores([one])[0], (asked @ found.T)[0], rtol=1e-4)
    for folder in (cross, causal):
        ranker = library.CrossEncoder(str(folder), device="cpu")
        pairs = [(one.query, text) for text in one.texts]
        expected = ranker.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        np.testing.assert_allclose(Ranker.load(folder, device="cpu").scores([one])[0], expected, atol=1e-4)


def test_scores_do_not_depend_on_the_other_lists(model):
    ranker = Ranker.load(model, device="cpu")
    together = ranker.scores(LISTS)
    for one, scores in zip(LISTS, together, strict=True):
        np.testing.assert_allclose(ranker.scores([one])[0], scores, atol=1e-4)
        with torch.inference_mode():
            np.testing.assert_allclose(ranker.score(one.query, one.texts).float().numpy(), scores, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "dense") for name in DEPTH]
    + [(name, kind) for name in DEPTH[:4] for kind in ("sparse", "cross", "causal")],
)
def test_a_depth_method_plans_growing_cuts_and_leaves_the_model_as_it_was(name, kind, request):
    ranker = Ranker.load(request.getfixturevalue(kind), device="cpu")
    before, config = flat(ranker), ranker.network.config.to_dict()
    cuts = method_from_name(name).plan(ranker, LISTS[:2])
    np.testing.assert_array_equal(flat(ranker), before)
    assert ranker.network.config.to_dict() == config
    sizes = [len(cut.spec["kept"]) for cut in cuts]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes == [3, 2, 1] or name == "early-exit"
    for cut in cuts:
        assert cut.removed == 1 - len(cut.spec["kept"]) / LAYERS
        assert cut.spec["kept"] == sorted(set(cut.spec["kept"]))
        assert Cut(**json.loads(json.dumps({slot: getattr(cut, slot) for slot in Cut.__slots__}))) == cut


def test_every_method_is_in_the_registry():
    assert set(METHODS.kinds()) == {*DEPTH, *WIDTH, *WEIGHTS}
    for name, message in {
        "neurons:nothing": "choose one of taylor, fisher",
        "magnitude:1:2": "unknown pattern '1:2'",
        "int8:4": "takes no argument",
        "random-heads:x": "must be a whole number",
    }.items():
        with pytest.raises(ConfigError, match=message):
            method_from_name(name)
    with pytest.raises(ConfigError, match="unknown compression method 'nothing'; choose one of block-influence"):
        method_from_name("nothing")
    with pytest.raises(ConfigError, match="takes no argument"):
        method_from_name("last:2")
    with pytest.raises(ConfigError, match="must be a whole number; got 'x'"):
        method_from_name("random-layers:x")


def test_block_influence_is_one_less_the_mean_cosine_over_real_tokens(dense):
    ranker, one = Ranker.load(dense, device="cpu"), LISTS[0]
    texts = ["the " + one.query, *one.texts]  # with the prompt of a query
    totals, count = np.zeros(LAYERS), 0
    for text in texts:
        features = ranker.library.tokenizer([text], return_tensors="pt")
        with torch.inference_mode():
            states = ranker.network(**features, output_hidden_states=True).hidden_states
        for number in range(LAYERS):
            a, b = states[number][0].double().numpy(), states[number + 1][0].double().numpy()
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            totals[number] += ((a * b).sum(1) / norms).sum()
        count += states[0].shape[1]
    np.testing.assert_allclose(influence(ranker, [one]), 1 - totals / count, atol=1e-5)


def test_states_of_a_causal_model_are_those_of_last_tokens(causal):
    ranker, one = Ranker.load(causal, device="cpu"), LISTS[0]
    assert [states.shape[:2] for states in walked(ranker, [one])] == [(LAYERS + 1, len(one.texts))]


def test_angular_distance_removes_the_block_whose_end_is_nearest_to_its_start(dense):
    ranker = Ranker.load(dense, device="cpu")
    states = torch.cat(list(walked(ranker, LISTS[:2])), dim=1).double()
    cosine = torch.nn.functional.cosine_similarity
    for cut in method_from_name("angular").plan(ranker, LISTS[:2]):
        length = LAYERS - len(cut.spec["kept"])
        distances = [
            float(cosine(states[at], states[at + length], dim=1).clip(-1, 1).arccos().mean()) / math.pi
            for at in range(LAYERS - length + 1)
        ]
        start = int(np.argmin(distances))
        assert cut.spec["kept"] == [*range(start), *range(start + length, LAYERS)]


def test_the_greedy_choice_is_the_best_single_removal(cross):
    from thresher.compress.data import ndcg

    ranker = Ranker.load(cross, device="cpu")
    first = method_from_name("greedy").plan(ranker, LISTS)[0]
    worth = []
    for number in range(LAYERS):
        with only_layers(ranker, [other for other in range(LAYERS) if other != number]):
            worth.append(ndcg(LISTS, ranker.scores(LISTS)))
    with only_layers(ranker, first.spec["kept"]):
        assert ndcg(LISTS, ranker.scores(LISTS)) == max(worth)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_least_important_layers_go_first(importance):
    for cut in by_importance(importance):
        gone = set(range(len(importance))) - set(cut.spec["kept"])
        assert max(importance[number] for number in gone) <= min(importance[number] for number in cut.spec["kept"])


def test_what_is_written_loads_and_scores_alike(model, tmp_path):
    ranker = Ranker.load(model, device="cpu")
    found = compress(ranker, tmp_path / "small", task=TASK, wanted=Wanted(keep_layers=(0, 2)), baselines=1)
    again = Ranker.load(tmp_path / "small", device="cpu")
    assert again.kind == ranker.kind
    assert len(again.layers) == 2
    expected = Ranker.load(model, device="cpu")
    expected.keep_layers([0, 2])
    np.testing.assert_array_equal(flat(again), flat(expected))
    assert found.chosen.bytes < found.whole.bytes
    assert found.chosen.bytes == again.bytes()
    record = json.loads((tmp_path / "small" / "compression.json").read_text())
    assert record["chosen"]["spec"] == {"kept": [0, 2]}
    assert {row["level"] for row in record["rows"]} == {"whole", "2 of 4 layers"}
    assert {row["method"] for row in record["rows"]} == {"none", "given layers", "random-layers:0"}
    assert "three and three lists" in (tmp_path / "small" / "README.md").read_text()


def test_transformers_and_sentence_transformers_load_the_result(dense, tmp_path):
    compress(Ranker.load(dense, device="cpu"), tmp_path / "small", wanted=Wanted(keep_layers=(1, 3)))
    inner = transformers.AutoModel.from_pretrained(tmp_path / "small")
    assert inner.config.num_hidden_layers == 2
    encoder = library.SentenceTransformer(str(tmp_path / "small"), device="cpu")
    assert encoder.prompts["query"] == "the "
    expected = Ranker.load(dense, device="cpu")
    expected.keep_layers([1, 3])
    vectors = expected.library.encode_document(list(LISTS[0].texts))
    np.testing.assert_array_equal(encoder.encode_document(list(LISTS[0].texts)), vectors)


def test_nothing_but_an_earlier_result_is_replaced(dense, tmp_path):
    ranker = Ranker.load(dense, device="cpu")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("kept")
    wanted = Wanted(keep_layers=(0,))
    with pytest.raises(ArtifactError, match="was not written by `thresher compress`"):
        compress(ranker, tmp_path / "other", wanted=wanted, overwrite=True)
    compress(ranker, tmp_path / "small", wanted=wanted)
    with pytest.raises(ArtifactError, match="replace it with --overwrite"):
        compress(ranker, tmp_path / "small", wanted=wanted)
    compress(ranker, tmp_path / "small", wanted=Wanted(keep_layers=(0, 1)), overwrite=True)
    assert len(Ranker.load(tmp_path / "small", device="cpu").layers) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "small"]


def test_levels_finished_before_an_interruption_are_not_measured_again(dense, tmp_path, monkeypatch):
    ranker, told = Ranker.load(dense, device="cpu"), []
    compress(ranker, tmp_path / "small", task=TASK, curve_only=True, baselines=0, tell=told.append)
    assert len(told) == LAYERS
    again = []
    found = compress(ranker, tmp_path / "small", task=TASK, curve_only=True, baselines=0, tell=again.append)
    assert again == []
    assert [level.label for level in found.levels] == ["3 of 4 layers", "2 of 4 layers", "1 of 4 layers"]
    other = Task(LISTS[:2], LISTS[2:], "other lists")
    compress(ranker, tmp_path / "small", task=other, curve_only=True, baselines=0, tell=again.append)
    assert len(again) == LAYERS


def level(removed, values, speedup=1.0):
    cut = Cut("layers", removed, f"{removed}", {})
    return Level("m", cut, 1, 1.0, speedup, {"nDCG@10": values, "R@10": values})


def test_the_smallest_equivalent_level_stops_at_the_first_that_is_not():
    whole = level(0.0, {f"q{n}": 0.5 for n in range(9)})
    near = {f"q{n}": 0.5 + 0.001 * (n % 3 - 1) for n in range(9)}
    far = {f"q{n}": 0.3 for n in range(9)}
    levels = [level(0.75, near), level(0.25, near), level(0.5, far)]
    assert smallest_equivalent(levels, whole, 0.02).removed == 0.25
    assert smallest_equivalent([levels[0], levels[1]], whole, 0.02).removed == 0.75
    assert smallest_equivalent([levels[2]], whole, 0.02) is None
    quick = [level(0.5, far, 2.0), level(0.75, near, 3.0)]
    assert quick_enough(quick, 1.5).removed == 0.75
    with pytest.raises(InputError, match=r"no level is 9 times as fast .* 3\.00 times"):
        quick_enough(quick, 9)


def test_queries_are_grouped_by_length_rare_words_and_negation():
    filler = [" ".join(["wheat"] * 3) + f" {number}" for number in range(300)]
    docnos = tuple(f"d{number}" for number in range(150))
    made = [
        Candidates("a", "wheat", docnos, tuple(filler[:150])),
        Candidates("b", "wheat without the chaff of a very old mill", docnos, tuple(filler[150:])),
    ]
    found = groups_of(made)
    assert found == {"all": ["a", "b"], "short": ["a"], "long": ["b"], "rare terms": ["b"], "negation": ["b"]}


@given(st.integers(4, 30))
def test_every_list_calibrates_or_measures(count):
    made = [Candidates(f"q{n}", "grain", ("d",), ("grain",)) for n in range(count)]
    calibration, measured = split(made)
    assert sorted(one.qid for one in (*calibration, *measured)) == sorted(one.qid for one in made)
    assert min(len(calibration), len(measured)) >= 2


def files(folder):
    passages = [{"id": docno, "text": text} for one in LISTS for docno, text in zip(one.docnos, one.texts, strict=True)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    (folder / "q.tsv").write_text("".join(f"{one.qid}\t{one.query}\n" for one in LISTS))
    rows = [f"{one.qid} Q0 {docno} {at} {9 - at} r\n" for one in LISTS for at, docno in enumerate(one.docnos, 1)]
    (folder / "bm25.run").write_text("".join(rows))
    judged = [f"{one.qid} 0 {docno} {grade}\n" for one in LISTS for docno, grade in one.grades.items()]
    (folder / "qrels.txt").write_text("".join(judged))
    return [folder / name for name in ("q.tsv", "bm25.run", "corpus.jsonl", "qrels.txt")]


def test_a_task_is_read_from_files(tmp_path):
    queries, run, corpus, qrels = files(tmp_path)
    task = read_task(queries, run, corpus, qrels, depth=4)
    assert len(task.calibration) == len(task.measured) == 3
    by_qid = {one.qid: one for one in LISTS}
    for one in (*task.calibration, *task.measured):
        assert (one.query, one.texts) == (by_qid[one.qid].query, by_qid[one.qid].texts[:4])
    assert read_task(queries, run, corpus).measured == ()
    with pytest.raises(InputError, match="queries need a run"):
        read_task(queries, None, corpus)
    with pytest.raises(InputError, match="need a corpus"):
        read_task(queries, run, None)
    with pytest.raises(InputError, match="has 0 passages of at least 24 words"):
        read_task(None, None, corpus)


def test_the_command_writes_a_model_and_tells_json(dense, tmp_path):
    from typer.testing import CliRunner

    from thresher.cli import _register, app

    _register()
    queries, run, corpus, qrels = map(str, files(tmp_path))
    data = ["--queries", queries, "--run", run, "--corpus", corpus, "--qrels", qrels]
    out = tmp_path / "small"
    asked = ["compress", str(dense), "-o", str(out), "--drop-layers", "1", "--device", "cpu", "--random", "1", "--json"]
    result = CliRunner().invoke(app, [*asked, *data])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["chosen"]["label"] == "3 of 4 layers"
    assert len(Ranker.load(out, device="cpu").layers) == 3
    kept = ", ".join(map(str, report["chosen"]["spec"]["kept"]))
    assert f"- Kept: 3 of 4 layers: {kept}\n" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "looks at data"),
        ({"wanted": Wanted(drop_layers=4), "method": "last"}, "no level for dropping 4 layers; it has: 1, 2, 3"),
        ({"wanted": Wanted(keep_layers=(0, 4))}, "must ascend from 0 to 3"),
        ({"wanted": Wanted(keep_layers=(2, 1))}, "must ascend from 0 to 3"),
        ({"method": "last"}, "nothing is judged"),
        ({"method": "last", "wanted": Wanted(keep_layers=(0,)), "heal": 1}, "looks at data"),
        ({"method": "last", "margin": 0.0}, "margin must be above 0"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(dense, tmp_path, options, message):
    with pytest.raises((InputError, ConfigError), match=message):
        compress(Ranker.load(dense, device="cpu"), tmp_path / "small", **options)
    assert not (tmp_path / "small").exists()
    with pytest.raises(ConfigError, match="give one of"):
        Wanted(keep_layers=(0,), speedup=2.0)


def test_healing_brings_scores_nearer_to_the_whole_model_s(dense):
    pytest.importorskip("peft", reason="the train extra is not installed")
    from thresher.compress.heal import heal
    from thresher.compress.loss import disagreement

    whole = Ranker.load(dense, device="cpu")
    cut = whole.copy()
    cut.keep_layers([0, 1, 2])
    target = whole.scores(LISTS)
    before, names = disagreement(cut, LISTS, target), set(cut.network.state_dict())
    heal(cut, whole, LISTS, steps=25, rate=5e-3)
    assert disagreement(cut, LISTS, target) < before
    assert set(cut.network.state_dict()) == names
    np.testing.assert_array_equal(np.concatenate(whole.scores(LISTS)), np.concatenate(target))


def test_the_levels_kept_under_another_key_do_not_count(tmp_path):
    kept = Kept(tmp_path / "levels.json", "one")
    assert kept.get("a", lambda: 1) == 1
    assert Kept(tmp_path / "levels.json", "one").get("a", lambda: 2) == 1
    assert Kept(tmp_path / "levels.json", "two").get("a", lambda: 2) == 2


def test_a_layer_cut_says_what_is_kept():
    cut = layer_cut([0, 3], 4)
    assert (cut.label, cut.removed, cut.spec) == ("2 of 4 layers", 0.5, {"kept": [0, 3]})


def cuts_of(name, ranker, some=LISTS[:2]):
    return method_from_name(name).plan(ranker, some)


@pytest.mark.parametrize("score", [score for score in SCORES if score != "random"])
def test_a_width_method_keeps_the_units_with_the_highest_scores(score, dense):
    ranker = Ranker.load(dense, device="cpu")
    before = flat(ranker)
    for part in ("neurons", "heads"):
        units = units_of(ranker, part)
        importance = SCORES[score](ranker, units, LISTS[:2])
        assert all(np.isfinite(values).all() for values in importance)
        for cut in cuts_of(f"{part}:{score}", ranker):
            for values, kept in zip(importance, cut.spec["kept"], strict=True):
                gone = sorted(set(range(len(values))) - set(kept))
                assert cut.removed == len(gone) / len(values)
                assert max(values[gone]) <= min(values[kept])
    np.testing.assert_array_equal(flat(ranker), before)


def test_a_model_without_neurons_scores_as_if_they_gave_nothing(model):
    for cut in cuts_of("random-neurons:1", Ranker.load(model, device="cpu")):
        smaller, silent = Ranker.load(model, device="cpu"), Ranker.load(model, device="cpu")
        cut.apply(smaller, ())
        for units, kept in zip(units_of(silent, "neurons"), cut.spec["kept"], strict=True):
            gone = sorted(set(range(units.count)) - set(kept))
            with torch.no_grad():
                units.down.weight[:, gone] = 0.0
        np.testing.assert_allclose(flat(smaller), flat(silent), atol=1e-4)
        assert smaller.bytes() < silent.bytes()
        assert smaller.network.config.intermediate_size == len(cut.spec["kept"][0])


@pytest.mark.parametrize("name", ["random-neurons:1", "random-heads:1", "magnitude", "wanda", "bfloat16"])
def test_what_width_and_weight_methods_leave_is_written_and_loads(name, dense, causal, tmp_path):
    for folder in (dense, causal):
        ranker, out = Ranker.load(folder, device="cpu"), tmp_path / folder.name
        cut = cuts_of(name, ranker)[-1]
        cut.apply(ranker, LISTS[:2])
        ranker.save(out)
        again = Ranker.load(out, device="cpu")
        saved = again.network.state_dict()
        for label, one in ranker.network.state_dict().items():
            torch.testing.assert_close(saved[label], one.float(), rtol=0, atol=0)
        if name != "bfloat16":  # which computes in bfloat16 in one case only
            np.testing.assert_array_equal(flat(again), flat(ranker))


def test_a_model_without_heads_scores_as_if_they_gave_nothing(dense, causal):
    for folder, count, per_head in ((dense, 4, 4), (causal, 2, 8)):  # the causal model has groups of two heads
        cut = cuts_of("random-heads:1", Ranker.load(folder, device="cpu"))[-1]
        smaller, silent = Ranker.load(folder, device="cpu"), Ranker.load(folder, device="cpu")
        cut.apply(smaller, ())
        for units, kept in zip(units_of(silent, "heads"), cut.spec["kept"], strict=True):
            assert (units.count, units.width) == (count, per_head)
            with torch.no_grad():
                for head in set(range(count)) - set(kept):
                    units.down.weight[:, head * per_head : (head + 1) * per_head] = 0.0
        np.testing.assert_allclose(flat(smaller), flat(silent), atol=1e-4)
    assert smaller.network.config.num_key_value_heads == 1
    assert smaller.network.config.num_attention_heads == 2


def test_the_product_of_a_unit_is_the_slope_of_the_loss_in_its_strength(dense):
    ranker, one = Ranker.load(dense, device="cpu"), LISTS[0]
    ranker.network.double()
    units = units_of(ranker, "neurons")
    found, layer, unit, small = products(ranker, units, one), 2, 5, 1e-3
    with torch.no_grad():
        whole = ranker.score(one.query, one.texts)
    target = torch.tensor(one.relevance(), dtype=torch.float32)

    def loss(strength):
        def scale(_, args):
            return (args[0] * (1 + (torch.arange(units[layer].count) == unit) * (strength - 1)),)

        hook = units[layer].down.register_forward_pre_hook(scale)
        try:
            with torch.no_grad():
                scores = standardised(ranker.score(one.query, one.texts), whole)  # whose scale is a constant
                return -float((target / target.sum() * (2 * scores).log_softmax(0)).sum())
        finally:
            hook.remove()

    slope = (loss(1 + small) - loss(1 - small)) / (2 * small)
    assert float(found[layer][unit]) == pytest.approx(slope, rel=0.02, abs=1e-4)


def test_losses_are_their_formulas():
    one = Candidates("q", "grain", ("a", "b", "c"), ("x", "y", "z"), {"a": 3, "c": 1, "other": 2})
    scores = torch.tensor([0.3, 0.9, 0.1])
    z = ((scores - scores.mean()) / scores.std(unbiased=False)).numpy()
    np.testing.assert_allclose(standardised(scores).numpy(), z, atol=1e-4)
    logs = 2 * z - np.log(np.exp(2 * z).sum())
    assert float(ranking_loss(scores, one)) == pytest.approx(-(0.75 * logs[0] + 0.25 * logs[2]), abs=1e-4)
    assert float(ranking_score(scores, one)) == pytest.approx(0.75 * z[0] + 0.25 * z[2], abs=1e-4)
    unjudged = Candidates("q", "grain", ("a", "b", "c"), ("x", "y", "z"))
    assert float(ranking_loss(scores, unjudged)) == pytest.approx(-logs[1], abs=1e-4)


@given(grades=st.lists(st.integers(0, 3), min_size=3, max_size=20), most=st.integers(2, 12))
def test_a_few_passages_hold_the_best_judged_in_the_order_found(grades, most):
    docnos = tuple(f"d{number}" for number in range(len(grades)))
    one = Candidates("q", "grain", docnos, docnos, dict(zip(docnos, grades, strict=True)))
    kept = few(one, most)
    assert len(kept.docnos) == min(most, len(docnos))
    assert kept.docnos == kept.texts == tuple(docno for docno in docnos if docno in kept.docnos)
    best = sorted(grades, reverse=True)[: most // 2]
    assert sorted(kept.relevance(), reverse=True)[: most // 2] == best


@pytest.mark.parametrize("name", ["magnitude", "magnitude:2:4", "wanda", "wanda:2:4", "random-weights:3"])
def test_the_weights_with_the_lowest_scores_become_zero(name, dense):
    whole = Ranker.load(dense, device="cpu")
    for cut in cuts_of(name, whole):
        ranker = Ranker.load(dense, device="cpu")
        cut.apply(ranker, LISTS[:2])
        for before, after in zip(whole.layers, ranker.layers, strict=True):
            old, new = before.intermediate.dense.weight.detach(), after.intermediate.dense.weight.detach()
            gone = new == 0
            torch.testing.assert_close(new[~gone], old[~gone], rtol=0, atol=0)
            assert float(gone.float().mean()) == pytest.approx(cut.removed, abs=0.05)
            if "2:4" in name:
                assert (gone.reshape(-1, 4).sum(1) == 2).all()
            elif name == "magnitude":
                assert old[gone].abs().max() <= old[~gone].abs().min()
            elif name == "wanda":
                assert set(gone.sum(1).tolist()) == {round(cut.removed * new.shape[1])}


def test_wanda_scores_are_weights_times_norms_of_what_enters(dense):
    from thresher.compress.weights import _maps, _norms

    ranker, one = Ranker.load(dense, device="cpu"), LISTS[0]
    found = _norms(ranker, _maps(ranker), [one])["layer 0 attention.self.query"]
    total = torch.zeros(16)
    for text in ["the " + one.query, *one.texts]:
        features = ranker.library.tokenizer([text], return_tensors="pt")
        with torch.inference_mode():
            total += ranker.network(**features, output_hidden_states=True).hidden_states[0][0].square().sum(0)
    torch.testing.assert_close(found, total.sqrt(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_is_measured_and_not_written(dense, tmp_path, dtype):
    ranker = Ranker.load(dense, device="cpu", dtype=dtype)
    found = compress(ranker, None, task=TASK, method="int8", curve_only=True)
    (level,) = found.levels
    assert level.bytes < found.whole.bytes
    assert {row["method"] for row in found.report["rows"]} == {"none", "int8"}
    with pytest.raises(ConfigError, match="int8 weights are made when a model loads"):
        compress(ranker, tmp_path / "small", task=TASK, method="int8", wanted=Wanted(remove=0.75))
    assert not (tmp_path / "small").exists()


def test_random_removal_of_as_much_is_measured_with_every_chosen_level(dense, tmp_path):
    ranker = Ranker.load(dense, device="cpu")
    wanted = Wanted(remove=0.5)
    found = compress(ranker, tmp_path / "small", task=TASK, method="neurons:fisher", wanted=wanted, baselines=2)
    assert [level.method for level in found.levels] == ["neurons:fisher", "random-neurons:0", "random-neurons:1"]
    assert {level.label for level in found.levels} == {"12 of 24 neurons"}
    assert Ranker.load(tmp_path / "small", device="cpu").network.config.intermediate_size == 12


def test_int4_rounds_weights_in_groups_and_counts_half_a_byte_each(dense, tmp_path):
    pytest.importorskip("torchao", reason="the int4 extra is not installed")
    ranker = Ranker.load(dense, device="cpu")
    whole = ranker.network.encoder.layer[0].attention.self.query.weight.detach().clone()
    found = compress(ranker, None, task=TASK, method="int4", curve_only=True)
    (level,) = found.levels
    saved = 0.0
    for one in ranker.layers.modules():
        if isinstance(one, torch.nn.Linear):
            saved += one.weight.numel() * (4 - 0.5 - 4 / math.gcd(one.in_features, 32))
    assert found.whole.bytes - level.bytes == saved
    copy = ranker.copy()
    level.cut.apply(copy, ())
    rounded = copy.network.encoder.layer[0].attention.self.query.weight.dequantize().detach()
    step = whole.abs().amax(1, keepdim=True) / 7.5  # one group: the tiny model is 16 wide
    assert ((rounded - whole).abs() <= step * 0.51).all()
    with pytest.raises(ConfigError, match="int4 weights are made when a model loads"):
        compress(ranker, tmp_path / "small", task=TASK, method="int4", wanted=Wanted(remove=0.875))


def test_int4_without_torchao_names_the_extra_before_anything_is_measured(dense, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    ranker = Ranker.load(dense, device="cpu")
    ranker.scores = None  # would fail
    with pytest.raises(MissingExtraError, match=r"thresher\[int4\]"):
        compress(ranker, None, task=TASK, method="int4", curve_only=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Candidates("q", "grain", (), ()), "at least one passage"),
        (lambda: Candidates("q", "grain", ("a",), ("x", "y")), "1 docnos .1 different. and 2 texts"),
        (lambda: Candidates("q", "grain", ("a", "a"), ("x", "y")), "2 docnos .1 different. and 2 texts"),
        (lambda: Candidates("q", None, ("a",), ("x",)), "query must be text, got None"),
        (lambda: Candidates("q", "grain", ("a",), (float("nan"),)), r"texts\[0\] must be text, got nan"),
        (lambda: Candidates("q", "grain", ("a",), ("x",), {"a": float("nan")}), "must be a whole number, got nan"),
        (lambda: Task(("x",), (), ""), r"calibration\[0\] must be a Candidates"),
        (lambda: Task((), (LISTS[0], LISTS[0]), ""), "1 of the 2 lists that measure repeat a qid"),
        (lambda: Wanted(remove=float("nan")), "remove must be a number, got nan"),
        (lambda: Wanted(remove=1.0), "above 0 and below 1, got 1"),
        (lambda: Wanted(speedup=0.0), "speedup must be above 0"),
        (lambda: Wanted(drop_layers=0), "drop_layers must be at least 1"),
        (lambda: Wanted(keep_layers=("a",)), r"keep_layers\[0\] must be a whole number"),
        (lambda: Wanted(keep_layers="01"), "must be a list"),
        (lambda: method_from_name("random-weights:-1"), "seed of a random method must be from 0"),
        (lambda: method_from_name(f"random-layers:{2**63}"), "seed of a random method must be from 0"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_where_it_is_given(build, message):
    with pytest.raises((InputError, ConfigError), match=message):
        build()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "modules.json", "tokenizer.json"])
def test_a_model_with_a_damaged_file_is_refused(dense, tmp_path, file):
    bad = tmp_path / "bad"
    shutil.copytree(dense, bad)
    (bad / file).write_bytes((bad / file).read_bytes()[:40])
    with pytest.raises(ModelError, match="cannot be loaded"):
        compress(bad, tmp_path / "small", wanted=Wanted(keep_layers=(0,)))


@pytest.mark.parametrize("text", [b"", b"\0\xff\n", b"x\n", b"q0\t\n", b"q0 0 d0-0 nan\n", b"q0 Q0 d0-0 1 nan a\n"])
@pytest.mark.parametrize("at", range(4))
def test_a_task_of_damaged_files_is_refused(tmp_path, at, text):
    paths = files(tmp_path)
    paths[at].write_bytes(text)
    with pytest.raises(InputError):
        read_task(*paths)
    paths[at].unlink()
    with pytest.raises(DataNotFoundError):
        read_task(*paths)


@pytest.mark.parametrize("method", ["", "nothing", "neurons:nothing", "last:3", "wanda:3:4", "random-layers:x"])
def test_a_method_that_does_not_exist_is_refused_before_anything_is_measured(dense, method):
    ranker = Ranker.load(dense, device="cpu")
    ranker.scores = None  # would fail
    with pytest.raises(ConfigError):
        compress(ranker, None, task=TASK, method=method, curve_only=True)
