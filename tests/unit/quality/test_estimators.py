"""The lexical estimators, junk rules, combinations, and keeping estimators on disk."""

import math

import numpy as np
import pytest

from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.quality.estimator import Combined, QualityEstimator, RandomEstimator, quantiles
from thresher.quality.junk import JunkRules
from thresher.quality.lexical import LEXICAL, CollectionStatistics, LexicalEstimator, words_of

TEXTS = [
    "The chaff is blown away by the wind, and the grain falls down.",
    "grain grain grain",
    "A threshing floor is a flat surface where grain is threshed.",
    "",
    "§§§ ---",
]


def test_words_are_lower_cased_runs_of_letters_and_digits_of_any_script():
    assert words_of("Über-Naïve x_y 3rd 東京") == ["über", "naïve", "x", "y", "3rd", "東京"]


def test_kl_is_the_negated_divergence_written_out():
    estimator = LexicalEstimator.fit("kl", ["a a b", "b c"])
    p = {"a": 2 / 3, "b": 1 / 3}
    collection = {"a": 2 / 5, "b": 2 / 5, "c": 1 / 5}
    expected = -sum(v * math.log(v / collection[w]) for w, v in p.items())
    assert estimator.score(["a a b"])[0] == pytest.approx(expected, rel=1e-6)


def test_kl_of_the_whole_collection_as_one_passage_is_zero():
    estimator = LexicalEstimator.fit("kl", ["a a b", "b c"])
    assert estimator.score(["a a b b c"])[0] == pytest.approx(0, abs=1e-6)


def test_unigram_length_and_itn_are_what_their_formulas_say():
    stats = CollectionStatistics.of(["a a b", "b c"])
    assert LexicalEstimator("unigram", stats).score(["a c"])[0] == pytest.approx(
        (math.log(2 / 5) + math.log(1 / 5)) / 2
    )
    assert LexicalEstimator("length").score(["a b c"])[0] == pytest.approx(math.log(3))
    assert LexicalEstimator("itn").score(["a a b b"])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("name", [*LEXICAL, "junk", "random:7", "kl+length"])
def test_every_estimator_gives_finite_scores_that_do_not_depend_on_the_batch(name):
    estimator = QualityEstimator.from_name(name, texts=TEXTS)
    assert isinstance(estimator, QualityEstimator)
    together = estimator.score(TEXTS)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    alone = np.array([estimator.score([text])[0] for text in TEXTS])
    np.testing.assert_array_equal(together, alone)
    assert estimator.score([]).shape == (0,)


@pytest.mark.parametrize("name", [*LEXICAL, "junk", "random:7", "kl+length"])
def test_an_estimator_comes_back_from_disk_as_it_was(name, tmp_path):
    estimator = QualityEstimator.from_name(name, texts=TEXTS)
    estimator.save(tmp_path)
    again = QualityEstimator.load(tmp_path)
    assert again.fingerprint == estimator.fingerprint
    np.testing.assert_array_equal(again.score(TEXTS), estimator.score(TEXTS))


def test_an_estimator_with_changed_numbers_is_refused(tmp_path):
    LexicalEstimator.fit("kl", TEXTS).save(tmp_path)
    words = tmp_path / "words.tsv"
    words.write_text(words.read_text().replace("grain\t", "grain\t9"))
    with pytest.raises(DamagedArtifactError, match="differ from those that were saved"):
        QualityEstimator.load(tmp_path)


def test_the_fingerprint_knows_the_collection():
    assert LexicalEstimator.fit("kl", ["a b"]).fingerprint != LexicalEstimator.fit("kl", ["a c"]).fingerprint
    assert LexicalEstimator.fit("length", ["a"]).fingerprint == LexicalEstimator.fit("length", ["b"]).fingerprint


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'tfidf'.*choose one of embedded, kl"):
        QualityEstimator.from_name("tfidf", texts=TEXTS)
    with pytest.raises(ConfigError, match="give texts="):
        QualityEstimator.from_name("kl")
    with pytest.raises(InputError, match="unknown lexical measure"):
        LexicalEstimator("bm25")  # type: ignore[arg-type]


def test_random_scores_depend_on_text_and_seed_alone():
    a, b = RandomEstimator(1), RandomEstimator(2)
    assert a.score(["x", "x"])[0] == a.score(["x"])[0]
    assert a.score(["x"])[0] != b.score(["x"])[0]
    many = a.score([str(i) for i in range(4000)])
    assert abs(many.mean() - 0.5) < 0.02
    assert abs(many.std() - 12**-0.5) < 0.02


def test_a_combination_weighs_standardised_scores():
    parts = [LexicalEstimator("length"), LexicalEstimator("itn")]
    combined = Combined.of(parts, TEXTS, [1.0, 0.0])
    only = parts[0].score(TEXTS)
    np.testing.assert_allclose(combined.score(TEXTS), (only - only.mean()) / only.std(), rtol=1e-5)
    with pytest.raises(InputError, match="one weight per estimator"):
        Combined.of(parts, TEXTS, [1.0])


def test_quantiles_share_ties_and_average_one_half():
    q = quantiles(np.array([3.0, 1.0, 1.0, 2.0], np.float32))
    np.testing.assert_allclose(q, [0.875, 0.25, 0.25, 0.625])
    assert q.mean() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" … — ", "empty"),
        ("1.0 2.5 3.75 4.125 5.0625 6.03125", "no-letters"),
        ('<div class="a"><span id="b"></span></div> hello', "markup"),
        ("Log in | Sign up | Privacy policy | Terms of use | Contact us", "boilerplate"),
        ("buy " * 30, "repeated"),
        ("The committee met on Tuesday. All rights reserved, it said, and the meeting went on for hours.", ""),
        ("Photosynthesis turns light into chemical energy.", ""),
        ("光合成は光エネルギーを化学エネルギーに変える。", ""),
        ("7 years", ""),
        ("| Key | Action |\n|---|---|\n| `Ctrl+\\\\` | {split} |\n| `<leader>[` | previous |", ""),
        ("split [<local-commit>] [<repository>] [<remote-ref>] [<prefix>]", ""),
        ('```json\n{"a": {"b": [{}, {}]}}\n```', ""),
        (
            "- [1.2](https://example.org/v1.2) - [1.3](https://example.org/v1.3)\n- https://example.org/notes/changes",
            "",
        ),
        ("<dependency><groupId>org.junit</groupId><artifactId>junit</artifactId></dependency>", ""),
        ("\\\\begin{tabular}{ll} a & b \\\\\\\\ \\\\end{tabular}", ""),
        ("year 1990 1991 1992 1993 1994 1995 1996 1997 1998 1999 2000 2001 2002", ""),
        ("&nbsp;&nbsp;&nbsp;&nbsp;&gt;&nbsp;&nbsp;ok", "markup"),
    ],
)
def test_junk_rules_fire_where_they_say(text, reason):
    assert JunkRules().reason(text) == reason


def test_script_and_truncation_rules_are_off_until_asked_for():
    text = "Фотосинтез преобразует свет"
    assert JunkRules().reason(text) == ""
    assert JunkRules(scripts=("LATIN",)).reason(text) == "script"
    assert JunkRules(scripts=("CYRILLIC",)).reason(text) == ""
    assert JunkRules(least_words=5).reason("and then the") == "truncated"
    assert JunkRules(least_words=5).reason("It did.") == ""
    with pytest.raises(InputError, match="upper-case"):
        JunkRules(scripts=("latin",))
