"""Which sentences are kept together, on texts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.context.pruned import ScoredPassage, Scores, join_passages
from thresher.context.select import select_by_gain, select_by_score
from thresher.context.structure import find_ties
from thresher.text.sentences import split_sentences


def kept(text, **scores):
    """What is kept at .5 where each sentence that holds a key, underscores read as blanks, has that score."""
    spans = tuple(split_sentences(text))
    given = [
        max([x for k, x in scores.items() if k.replace("_", " ") in text[s.start : s.end]], default=0.01) for s in spans
    ]
    row = ScoredPassage("d", text, spans, tuple(given))
    (pruned,) = select_by_score(Scores((row,)), len, threshold=0.5)
    return pruned.text


LISTS = {
    "markdown": "There are three ways to set it:\n\n- a flag\n- a variable\n- a file\n\nNothing else works.",
    "stars": "There are three ways to set it:\n* a flag\n* a variable\n* a file\n\nNothing else works.",
    "numbers": "There are three ways to set it:\n\n1. a flag\n2. a variable\n3. a file\n\nNothing else works.",
    "no-colon": "There are three ways to set it\n\n- a flag\n- a variable\n- a file\n\nNothing else works.",
    "following": "Use the following three ways to set it.\n\n- a flag\n- a variable\n- a file\n\nNothing else works.",
    "rst-definitions": "There are three ways to set it:\n\n``flag``\n  a flag\n\n``var``\n  a variable\n\n``file``\n"
    "  a file\n\nNothing else works.",
    "indented": "There are three ways to set it:\n\n    a flag\n\n    a variable\n\n    a file\n\nNothing else works.",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_list_is_kept_with_the_sentence_that_announces_it(text):
    found = kept(text, three_ways=0.9)
    assert all(item in found for item in ("a flag", "a variable", "a file"))
    assert "Nothing else" not in found


@pytest.mark.parametrize("name", ["markdown", "stars", "numbers", "no-colon", "following", "indented"])
def test_an_item_is_kept_with_the_sentence_that_announces_it_and_without_the_others(name):
    found = kept(LISTS[name], a_variable=0.9)
    assert "three ways" in found
    assert "a variable" in found
    assert "a flag" not in found
    assert "a file" not in found


HEADINGS = {
    "atx": "# Guide\n\nWelcome here.\n\n## Install it\n\nRun the script. It is short.\n\n## Remove it\n\nDelete it.",
    "setext": "Guide\n=====\n\nWelcome here.\n\n"
    "Install it\n----------\n\nRun the script. It is short.\n\nRemove it\n---------\n\nDelete it.",
    "plain": "Guide\n\nWelcome here.\n\nInstall it\n\nRun the script. It is short.\n\nRemove it\n\nDelete it.",
}


@pytest.mark.parametrize("text", HEADINGS.values(), ids=HEADINGS)
def test_a_heading_is_kept_with_what_stands_under_it_and_never_alone(text):
    assert "Install it" in kept(text, Run_the_script=0.9)
    found = kept(text, Install_it=0.9)
    assert "Install it" in found
    assert "Run the script." in found
    assert "Remove" not in found
    assert "Delete" not in found


CODE = {
    "fence": "To see the help, run:\n\n```bash\ntool --help\n```\n\nIt prints a page.",
    "no-colon": "To see the help, run\n\n```bash\ntool --help\n```\n\nIt prints a page.",
    "heading": "## See the help\n\n```bash\ntool --help\n```\n\nIt prints a page.",
    "rst": "To see the help, run:\n\n.. code-block:: console\n\n  $ tool --help\n\nIt prints a page.",
    "prompt": "To see the help, run:\n\n$ tool --help\n\nIt prints a page.",
    "doctest": "To see the help, run:\n\n>>> tool --help\n\nIt prints a page.",
    "indented": "To see the help, run::\n\n    tool --help\n\nIt prints a page.",
}


@pytest.mark.parametrize("text", CODE.values(), ids=CODE)
def test_code_is_kept_with_what_introduces_it(text):
    assert "tool --help" in kept(text, he_help=0.9)
    assert "he help" in kept(text, tool_=0.9)


def test_a_description_is_kept_with_its_option():
    text = "Options\n\n.. option:: --quiet\n\n Print nothing.\n\n.. option:: --all\n\n Print everything."
    assert "option:: --all" in kept(text, everything=0.9)
    found = kept(text, __quiet=0.0, quiet=0.9)
    assert "Print nothing." in found
    assert "everything" not in found


@pytest.mark.parametrize(
    "text",
    [
        "Is it free of charge?\n\nNo. It costs ten pounds.\n\nWhere is it?\n\nIn a drawer.",
        "## Is it free of charge?\n\nNo. It costs ten pounds.\n\n## Where is it?\n\nIn a drawer.",
        "Q: Is it free of charge?\n\nA: No. It costs ten pounds.\n\nQ: Where is it?\n\nA: In a drawer.",
        "Is it free of charge? No. It costs ten pounds. Where is it? In a drawer.",
    ],
)
def test_an_answer_is_kept_with_its_question(text):
    found = kept(text, free_of_charge=0.9)
    assert "No." in found
    assert "ten pounds" in found
    assert "drawer" not in found
    if "\n" in text:
        assert "free of charge" in kept(text, ten_pounds=0.9)


@pytest.mark.parametrize("pronoun", ["This", "It", "These", "That", "Such a thing", "She"])
def test_a_sentence_that_begins_with_a_pronoun_brings_the_one_before_it(pronoun):
    text = f"Cats sleep. The comet is bright. {pronoun} appears in May. Dogs bark."
    assert kept(text, appears=1.0) == f"The comet is bright. {pronoun} appears in May."


@pytest.mark.parametrize(
    "text",
    [
        *("Text here. More.\n\nOther\n-----\n", "Text here. More.\n\n=====\nOther\n=====", "# Other", "== Other"),
        *("Text here. More.\n\n## Other\n\n### Other things\n", "Text here.\n\nOther\n~~~~~\n\n-----\n"),
    ],
)
def test_a_marked_heading_with_nothing_under_it_is_dropped(text):
    assert kept(text, Other=0.9) == ""


@pytest.mark.parametrize("rule", ["-----", "=====", "* * *", "***", "~~~~", '"""'])
def test_a_line_of_marks_is_not_kept_by_itself_and_is_no_antecedent(rule):
    scores = {rule.replace(" ", "_"): 0.9}
    assert kept(f"Text here.\n\n{rule}\n\nIt is another.", **scores) == ""
    assert kept(f"Text here.\n\n{rule}\n\nIt is another.", another=0.9) == "Text here.\n\nIt is another."


@pytest.mark.parametrize("between", ["\n", "\n\n", " "])
def test_an_answer_after_a_letter_is_kept_with_the_question_before_it(between):
    text = between.join(["Q: Is it free?", "A: Yes. Students pay nothing.", "Q: Where is it?", "A: In a drawer."])
    for answer in ("Yes", "Students"):
        found = kept(text, **{answer: 0.9})
        assert "Q: Is it free?" in found
        assert "Where" not in found


@pytest.mark.parametrize("answer", ["Yes.", "Marie Curie.", "In 1903."])
@pytest.mark.parametrize("between", ["\n\n", " "])
def test_a_short_answer_is_kept_with_its_question(answer, between):
    text = between.join(["It rains all day.", "Who or when was it?", answer, "Nobody knows any more about this."])
    assert kept(text, **{answer.removesuffix("."): 0.9}).split() == f"Who or when was it? {answer}".split()


def test_a_name_alone_is_kept_with_the_heading_over_it():
    assert kept("# Author\n\nMarie Curie\n\n# Year\n\n1903", Marie=0.9) == "# Author\n\nMarie Curie"


def test_a_line_indented_under_a_heading_is_not_another_heading():
    text = "Removing a package\n\n  pip uninstall foo\n\nInstalling one\n\n  pip install foo\n"
    assert kept(text, uninstall=0.9) == "Removing a package\n\n  pip uninstall foo"


def test_an_option_is_kept_with_the_heading_in_capitals_and_without_the_others():
    text = "NAME\n       ls - list\n\nOPTIONS\n       -a     all files\n\n       -b     escape signs\n"
    assert kept(text, escape=0.9) == "OPTIONS\n       -b     escape signs"


def test_an_entry_is_kept_with_its_label_and_without_the_others():
    text = "Do it.\n\nArgs:\n    a: The first. It is long.\n    b: The second.\n\nReturns:\n    A sum."
    assert kept(text, second=0.9) == "Args:\n    b: The second."


def test_a_row_set_by_spaces_is_kept_with_the_header():
    text = "NAME     STATE    PORT\nweb      running  80\ndb       stopped  5432"
    assert kept(text, stopped=0.9) == "NAME     STATE    PORT\ndb       stopped  5432"


def test_a_short_turn_is_kept_with_the_turn_before_it():
    text = "JANE: so how many will come in the end\nTOM: about four hundred\nJANE: and where would they all sleep then"
    assert kept(text, four_hundred=0.9) == "\n".join(text.split("\n")[:2])


def test_rows_of_a_table_are_kept_with_its_header():
    text = "Keys.\n\n| key | use of it |\n|---|---|\n| x | cut the line |\n| v | paste it |\n\nThe end."
    found = kept(text, paste=0.9)
    assert "use of it" in found
    assert "paste it" in found


PIECES = [
    *("# A\n\n", "## B\n\n", "Title\n=====\n\n", "Plain\n\n", "It does this:\n\n", "- item one. It is long.\n"),
    *("* item\n\n", "1. first\n", "  more of it\n", "``x``\n  y z.\n\n", "```\ncode\n```\n", ".. note::\n\n"),
    *("    indented\n\n", "Why? No. ", "Q: why?\n\n", "A: yes.\n\n", "| a | b |\n", "|---|---|\n", ">>> f()\n"),
    *("One. Two! ", "It is. ", "\n\n", "$ run\n", "é\r\n", "====\nOver\n====\n", "-----\n\n", "NAME\n    a b.\n"),
    *("Args:\n", "    x: an int. It is.\n", ":param y: it\n", "Q: why?\nA: no.\n", "ANN: um so\n", "a    b    c\n"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def rows_of(bodies, data):
    rows = []
    for number, text in enumerate(bodies):
        spans = tuple(split_sentences(text))
        scores = tuple(data.draw(st.lists(st.floats(0, 1), min_size=len(spans), max_size=len(spans))))
        rows.append(ScoredPassage(str(number), text, spans, scores, float(-number), "T"))
    return Scores(tuple(rows))


@given(texts, st.data())
def test_ties_only_raise_scores_and_put_nothing_before_what_it_needs(text, data):
    spans = split_sentences(text)
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(spans), max_size=len(spans)))
    ties = find_ties(text, spans)
    tied = ties.tied(scores)
    assert all(a >= b for a, b in zip(tied, scores, strict=True))
    assert set(tied) <= {0.0, 1.0} or max(tied, default=0) == max(scores, default=0)
    for number, need in enumerate(ties.needs):
        assert need < number
        assert need < 0 or tied[need] >= tied[number]
    assert all(bringer < number for number, bringer in enumerate(ties.brought_by))


@given(
    st.lists(texts, max_size=3), st.data(), st.integers(0, 60), st.sampled_from([len, lambda text: len(text.split())])
)
def test_a_budget_holds_for_the_text_handed_over_and_keeps_ties(bodies, data, budget, count):
    scores = rows_of(bodies, data)
    limit = data.draw(st.floats(0, 1))
    found = select_by_score(scores, count, threshold=limit, max_tokens=budget)
    gained = select_by_gain(select_by_score(scores, count, threshold=limit), count, max_tokens=budget, min_gain=limit)
    for pruned in (found, gained.pruned):
        assert count(join_passages(pruned)) <= budget
        for one in pruned:
            for place in (n for n, k in enumerate(one.keep) if k):
                assert one.ties.needs[place] < 0 or one.keep[one.ties.needs[place]], "kept without what it needs"
                under = [n for n, need in enumerate(one.ties.needs) if need == place and one.keep[n]]
                assert place not in one.ties.headings or under or (limit == 0 and all(one.keep)), "a heading alone"
                lean = one.ties.leans[place]
                assert lean < 0 or one.keep[lean] or lean in one.ties.headings, "a pronoun without its antecedent"


@given(st.lists(texts, min_size=1, max_size=2), st.data())
def test_a_higher_threshold_keeps_no_more_and_zero_keeps_all(bodies, data):
    scores = rows_of(bodies, data)
    low, high = sorted((data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))))
    for a, b in zip(
        select_by_score(scores, len, threshold=low), select_by_score(scores, len, threshold=high), strict=True
    ):
        assert all(x or not y for x, y in zip(a.keep, b.keep, strict=True))
    assert all(all(one.keep) for one in select_by_score(scores, len, threshold=0))
