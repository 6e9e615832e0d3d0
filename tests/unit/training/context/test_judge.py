"""Sentences judged by a language model, and labels made of its citations."""

import math

import pytest

from thresher.context import ContextPruner, SplitPassage
from thresher.errors import ModelError
from thresher.llm.model import Completion
from thresher.text.sentences import split_sentences
from training.context.judge import LanguageModelScorer, cited_sentences, label

TEXT = "Radium was found in 1898. Curie found it. It glows."


class Rule:
    """A language model that follows a rule about the prompt."""

    name, parameters, tokens, context = "rule", {}, None, None

    def __init__(self, rule):
        self.rule, self.seen = rule, []

    def prompt_bound(self, request):
        return len(request.messages[0].content)

    async def complete(self, requests):
        self.seen += requests
        return [self.rule(request) for request in requests]


def split(text):
    return SplitPassage(text, tuple(split_sentences(text)))


def says_yes_to(word):
    def rule(request):
        sentence = request.messages[0].content.split("Sentence from the passage:\n")[1].split("\n\n")[0]
        yes = 0.9 if word in sentence else 0.1
        return Completion(labels={"Yes": math.log(yes), "No": math.log(1 - yes)})

    return Rule(rule)


def test_a_sentence_scores_yes_against_no_and_the_passage_its_best_sentence():
    model = says_yes_to("Curie")
    (scores,) = LanguageModelScorer(model, batch_size=2).score([("who found radium", split(TEXT))])
    assert scores.sentences == pytest.approx((0.1, 0.9, 0.1))
    assert scores.relevance == pytest.approx(0.9)
    assert all(TEXT in request.messages[0].content for request in model.seen)
    (pruned,) = ContextPruner(LanguageModelScorer(model)).prune("who found radium", [TEXT])
    assert pruned.text == "Curie found it."


def test_a_label_the_model_did_not_list_is_no_likelier_than_its_floor():
    rule = Rule(lambda _: Completion(labels={"No": math.log(0.5)}, floor=math.log(0.01)))
    (scores,) = LanguageModelScorer(rule).score([("q", split("One sentence."))])
    assert scores.sentences[0] == pytest.approx(0.01 / 0.51)
    with pytest.raises(ModelError, match="neither Yes nor No"):
        LanguageModelScorer(Rule(lambda _: Completion())).score([("q", split("One sentence."))])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("It was Curie [1].", {1}),
        ("In 1898 [0][1], or so [0, 2]", {0, 1, 2}),
        ("No answer", set()),
        ('"No answer."', set()),
        ("Curie, I believe.", "uncited"),
        ("See [7].", "out_of_range"),
        ("No answer is complete, but see [2]", {2}),
        ("", "uncited"),
    ],
)
def test_citations_are_read_and_never_guessed_at(answer, found):
    assert cited_sentences(answer, 3) == found


def test_silver_labels_come_with_an_account_of_what_was_dropped():
    answers = iter(["Curie [1]", "No answer", "I do not cite", "[9]"])
    model = Rule(lambda _: Completion(text=next(answers)))
    groups, account = label(model, [("who", [split(TEXT), split("Caves are blue.")]), ("what", [split(TEXT)] * 2)])
    assert [p.labels for p in groups[0].passages] == [(0, 1, 0), (0,)]
    assert groups[0].targets == (3.0, 0.0)
    assert len(groups) == 1
    assert (account.labelled, account.nothing, account.uncited, account.out_of_range) == (2, 1, 1, 1)
