"""What a model said, and what is made of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.rerank.parsing import PARSERS, get_parser, label_letters, read_choice, read_order, strip_reasoning

SHOWN = (10, 11, 12, 13)


def order(text, parser="brackets-v1", labels=()):
    answer = read_order(text, SHOWN, get_parser(parser), labels)
    return None if answer is None else (answer.tiers, answer.repairs, answer.named)


def row(*items):
    return tuple((item,) for item in items)


@pytest.mark.parametrize(
    ("text", "tiers", "repairs"),
    [
        ("[2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[2] > [1]", row(11, 10, 12, 13), ("missing",)),
        ("[2] > [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("duplicate",)),
        ("[2] > [9] > [1] > [4] > [3]", row(11, 10, 13, 12), ("unknown",)),
        ("2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("2 > 1 > 4 > 3", row(11, 10, 13, 12), ("format",)),
        ("Here are my 3 favourites: [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("[2] [1] [4] [3]", row(11, 10, 13, 12), ("format",)),
        ("[2] > [1] [4] > [3]", row(11, 10, 13, 12), ("format",)),
        ("<think>[1] > [2], no: 3 is better</think>\n[2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("the passage [1] seems ... </think> [2] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[2] = [1] > [4] = [3]", ((10, 11), (12, 13)), ()),
        ("[2, 1, 4, 3]", row(11, 10, 13, 12), ()),
        ('["2", "1", "4", "3"]', row(11, 10, 13, 12), ()),
        ('{"ranking": [2, 1, 4, 3]}', row(11, 10, 13, 12), ()),
        ('```json\n{"ranking": [2, 1, 4, 3]}\n```', row(11, 10, 13, 12), ()),
        ('{"1": 2, "2": 1, "3": 4, "4": 3}', row(11, 10, 13, 12), ()),
        ('{"1": 1, "2": 1, "3": 4, "4": 3}', ((10, 11), (13,), (12,)), ()),
        ("[２] > [１] > [٤] > [３]", row(11, 10, 13, 12), ()),
        ("【2】＞【1】＞【4】＞【3】", row(11, 10, 13, 12), ("format",)),
        ("[02] > [1] > [4] > [3]", row(11, 10, 13, 12), ()),
        ("[1] = [2] [3] > [4]", ((10, 11), (12,), (13,)), ("format",)),
        ("[1] = [2] [3] [4]", ((10, 11), (12,), (13,)), ("format",)),
        ('{"ranking": [2, 1]}', row(11, 10, 12, 13), ("missing",)),
        ("[3, 4]", row(12, 13, 10, 11), ("missing",)),
    ],
)
def test_an_order_is_read_and_repaired_by_the_stated_rule(text, tiers, repairs):
    assert order(text)[:2] == (tiers, repairs)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot rank these.",
        "There are 4 passages, and 3 of them are about cats.",
        "relevance > 2",
        "the best = 3",
        "<think>[1] > [2] and then",
        "1. The first passage says 2. things",
        "[1] is about cats, [2] > 3 dogs",
        '{"error": "overloaded"}',
        "[99] > [98]",
    ],
)
def test_an_answer_without_ids_is_no_information(text):
    assert order(text) is None


def test_appended_ids_are_not_named():
    assert order("[2] > [1]")[2] == 2


def test_the_digit_rule_reads_every_run_of_digits():
    assert order("There are 4 passages, [2] > [1]", "digits-v1")[0] == row(13, 11, 10, 12)
    assert order("no digits", "digits-v1") is None


def test_letters_count_where_letters_are_the_labels():
    labels = label_letters(4)
    assert order("[B] > [A] > [D] > [C]", labels=labels)[:2] == (row(11, 10, 13, 12), ())
    assert order("b > a > d > c", labels=labels)[0] == row(11, 10, 13, 12)
    assert order("A passage about cats", labels=labels) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"), ("b", "B"), ("[B]", "B"), ("(B)", "B"), ("B.", "B"), ("Passage B", "B"), ('{"best": "B"}', "B"),
        ("Passage B is better than the other.", "B"), ("The answer is: B", "B"), ("<think>A?</think>B", "B"),
        ("B: it names the drug", "B"), ("", None), ("neither", None), ("A passage that answers both", None),
        ("Passage A and Passage B", None), ("Z", None), ("[A] or [B]", None),
    ],
)  # fmt: skip
def test_a_choice_is_one_label_or_none(text, label):
    assert read_choice(text, ["A", "B"]) == label


@given(text=st.text(), parser=st.sampled_from(sorted(PARSERS)), n=st.integers(1, 20))
def test_any_text_is_a_permutation_or_no_information(text, parser, n):
    shown = tuple(range(100, 100 + n))
    answer = read_order(text, shown, get_parser(parser))
    assert answer is None or sorted(answer.order) == list(shown)


@given(text=st.text(alphabet='[]0123456789>= \n{},"', max_size=60), parser=st.sampled_from(sorted(PARSERS)))
def test_any_near_miss_is_a_permutation_or_no_information(text, parser):
    answer = read_order(text, SHOWN, get_parser(parser))
    assert answer is None or sorted(answer.order) == list(SHOWN)


@given(st.permutations(range(1, 21)))
def test_what_is_well_formed_is_read_as_written(ids):
    answer = read_order(" > ".join(f"[{i}]" for i in ids), tuple(range(1, 21)), get_parser("brackets-v1"))
    assert list(answer.order) == ids
    assert not answer.repairs


def test_a_thought_that_never_ends_leaves_nothing():
    assert strip_reasoning("<think> hm [1] > [2]") == ""


def test_an_unknown_parser_is_an_error_that_names_the_known():
    with pytest.raises(InputError, match="brackets-v1, digits-v1"):
        get_parser("guess")


def test_more_labels_than_letters_are_refused():
    with pytest.raises(InputError):
        label_letters(27)


WRAPPINGS = [  # around a chain; whatever is said, the chain alone is the answer
    "{}", "{}.", "Final ranking: {}.", "**Ranking:** {}", "Sure! {}", "{} (by relevance)", "`{}`", "```\n{}\n```",
    "The ranking is {}.", "Rangfolge: {}", "\u6392\u5e8f\uff1a{}", "Top 3: {}", "I would rank them as follows: {}",
    "In 2024, 3 of these matter: {}", "Result: {}", "Final rank {}", "Ranking in the requested format: {}",
    "{}\n\nPassage 1 is last because it names 3 things.", "{}\nLet me know if passage 1 should be compared with 2.",
    "{}\n\nExplanation:\n1. [1] is about cats\n2. [2] is about dogs\n3. [3] is about birds", "Answer:\n\n> {}",
    "<answer>{}</answer>", "<answer>I think {}</answer> I hope so.", "\\boxed{{{}}}", "**Final Answer**\n{}",
    "Draft: [1] > [2] > [3]\nFinal: {}", "[1] > [2] > [3]\n\nWait, no.\n\nFinal ranking: {}",
    "The input order [1] > [2] > [3] is wrong; better is:\n{}", "{}<|im_end|>\n<|im_start|>user\n[1] > [2] > [3]",
    "1. {}", "{} > [1] > [2", '{{"thought": "[1] is bad", "ranking": "{}"}}',
]  # fmt: skip
THOUGHTS = [
    "<think>{}</think>", "<Thinking>\n{}\n</Thinking>\n", "[THINK]{}[/THINK]", "<seed:think>{}</seed:think>",
    "<|begin_of_thought|>{}<|end_of_thought|>\n", "{}</think>", "<|START_THINKING|>{}<|END_THINKING|>",
    "\u25c1think\u25b7{}\u25c1/think\u25b7", "<reasoning>{}</reasoning>", "```thinking\n{}\n```\n",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "analysisWe see {}.assistantfinal",
    "Reasoning: {}\n\nFinal answer: ", "### Analysis\n\n{}\n\n### Ranking\n", "<think>a</think><think>{}</think>",
    "Here is my thought process: {}\n\nHere is my response: ", "<unused94>thought\n{}<unused95>", "",
]  # fmt: skip
ITEMS = [
    "[{}]", "{}", "**[{}]**", "Passage {}", "Document [{}]", "[Passage {}]", "#{}", "({})", "doc{}", "\uff3b{}\uff3d",
    "\u3010{}\u3011", "<b>[{}]</b>", "[{}] (partly relevant)", "`{}`",
]  # fmt: skip
SEPARATORS = [" > ", ">", " >\n", "\n> ", " \uff1e ", " -> ", " \u2192 ", " >> ", " &gt; ", " \u227b "]
LISTS = [  # of all labels, best first
    lambda ids: "\n".join(f"{place}. [{label}]" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"{place}. Passage {label}" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"{place}) {label}" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"Rank {place}: [{label}]" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"{place}. [{label}]" for place, label in reversed(list(enumerate(ids, 1)))),
    lambda ids: "\n".join(f"{place}. **[{label}]** \u2013 better than [1]" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"{p}. **Passage {label}**\n   - Reason: 3 facts" for p, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"{place}. The next best is [{label}]" for place, label in enumerate(ids, 1)),
    lambda ids: "\n".join(f"- [{label}]" for label in ids),
    "\n".join,
    lambda ids: "| Rank | Passage |\n|---|---|\n" + "\n".join(f"| {p} | [{label}] |" for p, label in enumerate(ids, 1)),
    lambda ids: ", ".join(f"[{label}]" for label in ids),
    ", ".join,
    lambda ids: ", then ".join(f"[{label}]" for label in ids),
    lambda ids: " ".join(f"{place}. [{label}]" for place, label in enumerate(ids, 1)),
    json.dumps,
    lambda ids: json.dumps({"ranking": [int(label) for label in ids]}),
    lambda ids: json.dumps({"ranking": [f"Passage {label}" for label in ids], "scores": [1] * len(ids)}),
    lambda ids: json.dumps([{"id": label, "score": -place} for place, label in enumerate(ids)]),
    lambda ids: json.dumps([{"passage": label, "rank": ids.index(label) + 1} for label in sorted(ids)]),
    lambda ids: json.dumps({label: place for place, label in enumerate(ids, 1)}),
    lambda ids: json.dumps({"name": "rank", "arguments": json.dumps({"ranking": ids})}),
    lambda ids: f"<tool_call>\n{json.dumps({'name': 'rank', 'arguments': {'order': ids}})}\n</tool_call>",
    lambda ids: f"Here it is:\n```json\n{json.dumps({'ranking': ids}, indent=2)}\n```\nAll {len(ids)} are ranked.",
    str,
]  # fmt: skip
LIST_WRAPPINGS = ["{}", "Ranking:\n{}", "## Final ranking\n\n{}", "<answer>\n{}\n</answer>", "{}\n\nAll 3 are ranked."]
MUSINGS = [
    "",
    "Hm, [1] > [2] > [3] at first sight.",
    "[1] fits. [2] does not.",
    "The user wants 1, 2, 3 ranked.",
    "1. [1]\n2. [2]",
]


def permuted(text, ids):
    """Whether the order read from the text is the true one; None where nothing is read."""
    answer = read_order(text, tuple(range(1, len(ids) + 1)), get_parser("brackets-v1"))
    return None if answer is None else answer.order == tuple(ids)


@settings(max_examples=400)
@given(
    ids=st.integers(3, 8).flatmap(lambda n: st.permutations(range(1, n + 1))),
    item=st.sampled_from(ITEMS), separator=st.sampled_from(SEPARATORS), wrapping=st.sampled_from(WRAPPINGS),
    thought=st.sampled_from(THOUGHTS), musing=st.sampled_from(MUSINGS),
)  # fmt: skip
def test_a_chain_in_any_wrapping_is_read_as_it_is_or_not_at_all(ids, item, separator, wrapping, thought, musing):
    chain = separator.join(item.format(label) for label in ids)
    assert permuted(thought.format(musing) + wrapping.format(chain), ids) is not False


@settings(max_examples=300)
@given(
    ids=st.integers(3, 8).flatmap(lambda n: st.permutations(range(1, n + 1))),
    listing=st.sampled_from(LISTS), wrapping=st.sampled_from(LIST_WRAPPINGS),
    thought=st.sampled_from(THOUGHTS), musing=st.sampled_from(MUSINGS),
)  # fmt: skip
def test_a_list_in_any_wrapping_is_read_as_it_is_or_not_at_all(ids, listing, wrapping, thought, musing):
    said = thought.format(musing) + wrapping.format(listing([str(label) for label in ids]))
    assert permuted(said, ids) is not False


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_of_a_chain_is_understood(wrapping):
    assert permuted(wrapping.format("[2] > [3] > [1]"), [2, 3, 1])


@pytest.mark.parametrize("thought", THOUGHTS)
def test_reasoning_in_any_wrapping_is_no_part_of_the_answer(thought):
    assert permuted(thought.format("[1] > [2] > [3], or rather [3] first") + "[2] > [3] > [1]", [2, 3, 1])
    label = read_choice(thought.format("A is better at first sight") + "B", ["A", "B"])
    assert label == "B"


@pytest.mark.parametrize("item", ITEMS)
def test_every_way_to_write_a_label_is_understood_in_a_chain(item):
    assert permuted(" > ".join(item.format(label) for label in (2, 3, 1)), [2, 3, 1])


@pytest.mark.parametrize("listing", LISTS)
def test_every_form_of_a_list_is_understood(listing):
    assert permuted(listing(["2", "3", "1"]), [2, 3, 1])


@pytest.mark.parametrize(
    "text",
    [
        "The order [1] > [2] > [3] is wrong.", "I am sorry, I cannot rank [2] > [3] > [1].", "Example: [2] > [3] > [1]",
        "Name each identifier once, in this form: [2] > [3] > [1]. Answer with the order alone.",
        "[1] is about cats. [2] is about dogs. [3] is about birds.", "[1] - relevant\n[2] - irrelevant\n[3] - partly",
        "1. relevant\n2. irrelevant\n3. relevant", "1: 3\n2: 1\n3: 2", "[1]: 3\n[2]: 1\n[3]: 2",
        "Ranking:\n[3]: 2\n[1]: 1\n[2]: 3", '{"1": 0.9, "2": 0.1, "3": 0.5}', '{"scores": [3, 1, 2]}',
        "ranks: [2, 3, 1]", "[0] > [2] > [1]", "[1, 0, 2]", "1 < 2 < 3", "From least to most relevant: [1] > [3] > [2]",
        "Least relevant first: 1, 3, 2", "not [1], not [2], but [3]", "[2] > [1] > [3] or [3] > [2] > [1]",
        "<think>[2] > [3] > [1]", "<think>[2] > [3] > [1]</thi", "<|channel|>analysis<|message|>[2] > [3] > [1]",
        "<think><reasoning>x</reasoning> [1] > [2] > [3] but", "[1] > [2] > [3]\nHmm, better [3] > [2] > [1]",
        "The passages [1], [2] and [3] are all relevant.", "Passages 1, 2, 3 were provided.",
        "I read passages 1, 2 and 3.",
        "3 passages", "2", "I rank 3 passages for 2 users in 1 list", "The wheat one > 3 > 1", "Final: second > 3 > 1",
        "Passage 2 is not better than Passage 1 and 3 > 1 of them", "[2] > not [1] > [3]", "[1] = 3, [2] = 1, [3] = 2",
        "Irrelevant: [1]\nRelevant: [2]\nSomewhat: [3]", '{"relevant": [2, 1], "irrelevant": [3]}',
        "1. Not [2]\n2. [3]\n3. [1]",
        "[2] > [1]. [3] is out of place.", "Draft: [1] > [3] > [2]\nFinal: [2] > [3", "1\u00b2 > 3",
        "[1] The Government of the",
        "[" * 2000, '{"a":' * 2000, "1" + " " * 40_000 + "x", "[2] > [3] > [1]" + " " * 1_000_001, "9" * 5000,
    ],
)  # fmt: skip
def test_what_cannot_be_read_for_sure_is_no_information(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None


@pytest.mark.parametrize("text", ["[" * 2000, "9" * 5000, '{"a":' * 2000, "\ud83d"])
def test_hostile_answers_end_in_no_information_under_every_parser(text):
    for parser in PARSERS:
        assert read_order(text, (1, 2), get_parser(parser)) is None
    assert read_choice(text, ["A", "B"]) is None


def test_half_a_surrogate_pair_does_not_hide_the_ranking():
    assert permuted("\ud83d [2] > [1] > [3]", [2, 1, 3])


@pytest.mark.parametrize(
    ("text", "letters", "label"),
    [
        ("The answer is a bit unclear; both passages miss the point.", "AB", None),
        ("The best option is a document about wheat.", "AB", None), ("The passage I would pick is C", "ABCDEFGHI", "C"),
        ("Passage B is better than Passage A.", "AB", "B"), ("B is more relevant to the query than A", "AB", "B"),
        ("Passage A is not relevant, so B.", "AB", None), ("A discusses wheat. B discusses rye.\nAnswer: B", "AB", "B"),
        ("A", "AB", "A"), ("A.", "AB", "A"), ("**B**", "AB", "B"), ("I choose B because it fits", "AB", "B"),
        ("I pick A because it fits", "AB", "A"), ("Neither A nor B", "AB", None), ("Both A and B", "AB", None),
        ("Option I", "ABCDEFGHI", "I"), ("Passage I would not help, nor would any", "ABCDEFGHI", None),
        ("It is a tie", "AB", None), ("Passage B is worse than A", "AB", None), ("The answer is not A but B",
        "AB", None),
        ("Sure! B", "AB", "B"), ("Explained above.\n\nB", "AB", "B"), ("Between A and B, B is better", "AB", None),
        ("I would say A passage like this is fine", "AB", None), ("B\n\nA talks about wheat only.", "AB", "B"),
        ("Passage A: wheat. Passage B: rye.", "AB", None), ("As an AI, I cannot decide.", "ABCDEFGHI", None),
        ("A passage that names B", "AB", None), ("Tie between A and B", "AB", None), ("\\boxed{B}", "AB", "B"),
        ("yes", ("yes", "no"), "yes"), ("No, it does not.", ("yes", "no"), "no"), ("**Yes**", ("yes", "no"), "yes"),
        ("There is no answer in it", ("yes", "no"), None), ('{"relevant": true}', ("yes", "no"), "yes"),
        ("Yes and no", ("yes", "no"), None), ("The answer is no.", ("yes", "no"), "no"),
        ("<think>no</think>Yes.", ("yes", "no"), "yes"), ("Yes, there is no doubt", ("yes", "no"), None),
        ("4", "12345", "4"), ("Score: 4/5", "12345", "4"), ("4 out of 5", "12345", "4"), ('{"score": 4}', "12345", "4"),
        ("4.5", "12345", None), ("3-4", "12345", None), ("On a scale of 1 to 5: 4", "12345", None), ("45",
        "12345", None),
        ("The grade is 4.", "12345", "4"), ("Score: 4.5", "12345", None), ("3, maybe 4", "12345", None),
    ],
)  # fmt: skip
def test_a_choice_is_read_by_the_stated_rule(text, letters, label):
    assert read_choice(text, list(letters)) == label


@pytest.mark.parametrize(
    "text",
    [
        '{"scores": {"1": 2, "2": 3, "3": 1}}', '{"stars": {"1": 2, "2": 3, "3": 1}}', '{"weights": [3, 1, 2]}',
        '{"passages": [1, 2, 3], "ranks": [3, 1, 2]}', '{"rank_of_each_passage": [3, 1, 2]}', '{"excluded": [2, 1, 3]}',
        '{"ranking": {"1": 3, "2": 1, "3": 2}}', '{"worst_first": [2, 1, 3]}',
        '{"order": "ascending", "ranking": [2, 1, 3]}',
        '[{"id": 3, "relevanceScore": 2}, {"id": 1, "relevanceScore": 3}, {"id": 2, "relevanceScore": 1}]',
        '[{"id": 1, "reason": "bad"}, {"id": 2, "reason": "worse"}, {"id": 3, "reason": "good"}]',
        '[{"id": 1, "grade": "low"}, {"id": 2, "grade": "mid"}, {"id": 3, "grade": "high"}]',
        "Scores:\n1. 2\n2. 3\n3. 1", "[3] (20%), [1] (90%), [2] (50%)", "[3] (irrelevant), [1] (relevant), [2] (low)",
        "1. Passage 3 (score 2)\n2. Passage 1 (score 9)\n3. Passage 2 (score 5)",
    ],
)  # fmt: skip
def test_scores_and_accounts_are_not_taken_for_an_order(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Most relevant passage at the end: [3], [1], [2]", "From bottom to top: [3], [1], [2]",
        "Starting with the least useful: [3], [1], [2]", "[3], [1], [2], where the last one is the most relevant.",
        "\u6309\u76f8\u5173\u6027\u4ece\u4f4e\u5230\u9ad8\u6392\u5e8f\uff1a[3] > [1] > [2]",
        "Vom unwichtigsten zum wichtigsten: [3] > [1] > [2]", "Du moins pertinent au plus pertinent : [3] > [1] > [2]",
        "De menos relevante a m\u00e1s relevante: [3] > [1] > [2]",
    ],
)  # fmt: skip
def test_an_order_that_begins_with_the_worst_is_unreadable_in_other_words_and_languages(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        'Passage [2] says "3 > 2 > 1".', "Is it [1] > [2] > [3]?", "If dates mattered, [1] > [2] > [3].",
        "Alphabetical order: [1], [2], [3]", "Length: [3] > [2] > [1]",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>1st: [1] > [2] > [3]",
    ],
)  # fmt: skip
def test_an_order_that_is_quoted_asked_or_of_something_else_is_unreadable(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None
    assert read_order("[2] > [3] > ... > [4]", (1, 2, 3, 4), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Sure:\n```json\n[2, 3, 1]\n```", "1. [2](https://example.org/2?y=2017)\n2. [3](#3)\n3. [1](/p/1)",
        "\u6700\u7ec8\u6392\u5e8f\uff1a[2]\u3001[3]\u3001[1]",
        "1\u3001\u6bb5\u843d[2]\n2\u3001\u6bb5\u843d[3]\n3\u3001\u6bb5\u843d[1]",
        "\u7b2c1\u540d\uff1a[2]\n\u7b2c2\u540d\uff1a[3]\n\u7b2c3\u540d\uff1a[1]",
        "1\u4f4d\uff1a[2]\n2\u4f4d\uff1a[3]\n3\u4f4d\uff1a[1]",
        "~~[1] > [2] > [3]~~ [2] > [3] > [1]", "[2] (90%), [3] (50%), [1] (20%)",
        '{"ranking": [{"id": "2", "score": 0.9, "note": "x"}, {"id": "3", "score": 0.5}, {"id": "1", "score": 0.1}]}',
    ],
)  # fmt: skip
def test_links_fences_strikes_and_lists_in_other_scripts_are_read(text):
    assert permuted(text, [2, 3, 1])


@pytest.mark.parametrize(
    ("text", "letters", "label"),
    [
        ("**Answer:** B", "AB", "B"), ("\\boxed{\\mathbf{B}}", "AB", "B"), ("Most relevant passage: D", "ABCD", "D"),
        ("A, because B does not answer", "AB", "A"), ("The answer is B because A lacks details", "AB", "B"),
        ('{"worst": "A"}', "AB", None), ('{"rejected": "A", "chosen": "B"}', "AB", "B"), ("A\n\nB", "AB", None),
        ("Vitamin B is discussed", "AB", None), ("Although B is longer, A answers it.", "AB", None),
        ("B is longer than A", "AB", None), ("Passage B is off-topic", "AB", None),
        ("Passage A: off topic", "AB", None),
        ("A is about wheat", "AB", None), ("Passage A: This passage discusses wheat", "AB", None),
        ("A vs. B", "AB", None),
        ("First, consider Passage A:", "AB", None), ("C or A", "AB", None), ("Answer: A, B", "AB", None),
        ("The answer is A. Actually, B.", "AB", None), ("I am unable to answer. A", "AB", None),
        ("Grade A", "AB", None),
        ("The answer is E. coli", "ABCDE", None), ("Passage E.coli", "ABCDE", None), ("Eliminate A.", "AB", None),
        ('{"irrelevant": true}', ("yes", "no"), None), ('{"contains_error": false}', ("yes", "no"), None),
        ("Yes, I can help with that. The passage is not relevant.", ("yes", "no"), None),
        ("Yes, I understand. No.", ("yes", "no"), None), ("Yes.\n\nNo.", ("yes", "no"), None),
        ("No. 1 answer", ("yes", "no"), None), ("3/10", "12345", None), ("Score: 3 out of 10", "12345", None),
        ("Grade: 3 / 4", "12345", None),
    ],
)  # fmt: skip
def test_a_choice_that_is_described_denied_or_withdrawn_is_none(text, letters, label):
    assert read_choice(text, list(letters)) == label


@pytest.mark.parametrize("unit", ["[1, 2, 3] ", "[1] > [2]. ", "1, 2, 3\n"])
def test_an_answer_of_a_thousand_orders_is_not_read(unit):
    assert read_order(unit * 1_000, (1, 2, 3), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Okay, so the user wants me to rank. [1] > [2] > [3]? No.\n</think>\n\n[2] > [3] > [1]",
        "[2] > [3] > [1]\n\nReasoning: [1] > [3] is false.", "### Answer: [2] > [3] > [1]",
        "Answer: [2] > [3] > [1]. Passage [1] is last since [1] > [3] does not hold.",
        "The final ranking is: Passage 2 > Passage 3 > Passage 1", "Ranked: [2], [3], [1]", "Best to worst: 2, 3, 1",
        "Most relevant to least relevant: [2] > [3] > [1]", "In order of relevance: [2], [3], [1].", "Order: 2 3 1",
        "2 3 1", "[2][3][1]", "[2], [3], and [1]", "2, 3 and 1", "[2] > [3] > [1] > ", "> [2] > [3] > [1]",
        "`2` > `3` > `1`", '"[2] > [3] > [1]"', "(2 > 3 > 1)", "{2} > {3} > {1}", "<2> > <3> > <1>",
        "Passage [2] is the most relevant, followed by Passage [3] and Passage [1].",
        "[2] is most relevant, then [3], then [1].", "1st place: [2]\n2nd place: [3]\n3rd place: [1]",
        "#1: [2]\n#2: [3]\n#3: [1]", "1. ID 2\n2. ID 3\n3. ID 1",
        "1. [2] (score: 9)\n2. [3] (score: 5)\n3. [1] (score: 1)",
        "1. Passage [2]: Radium was found in 1898\n2. Passage [3]: Foo\n3. Passage [1]: Bar 3",
        "1. [2] > 2. [3] > 3. [1]", "[2] >[3]> [1]", "[2]>\u00a0[3]>\u00a0[1]", "[2] &gt; [3] &gt; [1]",
        "[ 2 ] > [ 3 ] > [ 1 ]", "2) > 3) > 1)", "A: 2 > 3 > 1", "Sorted by relevance (descending): 2 > 3 > 1",
        "```text\nRanking: [2] > [3] > [1]\n```", "<output>[2] > [3] > [1]</output>",
        "<ranking>\n[2]\n[3]\n[1]\n</ranking>", "<final_answer>2,3,1</final_answer>",
        '{"final_ranking": [2,3,1], "confidence": 0.9}',
        '{"ranking": "2 > 3 > 1", "scores": {"1": 0, "2": 3, "3": 2}}',
        '{"ranked_passages": [{"passage_id": "[2]", "reason": "x"}, {"passage_id": "[3]"}, {"passage_id": "[1]"}]}',
        '[{"rank": 1, "id": 2}, {"rank": 2, "id": 3}, {"rank": 3, "id": 1}]',
        '```\n{\n  "order": [\n    2,\n    3,\n    1\n  ]\n}\n```', "[[2,3,1]]", "[\n  2,\n  3,\n  1\n]",
        "Thus: 2>3>1.", "So the order should be 2, 3, 1.", "**2 > 3 > 1**", "- 2 > 3 > 1", "1) [2] > [3] > [1]",
        "<|assistant|>[2] > [3] > [1]", "assistant: [2] > [3] > [1]",
        "<|start_header_id|>assistant<|end_header_id|>\n\n[2] > [3] > [1]", "[2] > [3] > [1]</s>",
        "[2] > [3] > [1]\n\n[2] > [3] > [1]",
        "[2] > [3] > [1]. I hope this helps! Let me know if you'd like me to rank 1, 2, 3 again",
        "<details><summary>Thought</summary>[1] > [2] > [3]</details>\n[2] > [3] > [1]",
        "Thinking Process:\n\n1. [1] looks ok\n2. [2] best\n3. [3] fine\n\nFinal Answer:\n[2] > [3] > [1]",
        "**Thought:** [1] > [2]\n\n**Answer:** [2] > [3] > [1]",
        "Thought: [1] is best? No.\nAction: rank\nAction Input: [2] > [3] > [1]",
        "First, [1] is about cats. Second, [2] is about dogs. Third, [3] birds.\n\n[2] > [3] > [1]",
        "Initially I thought [1] > [2] > [3], but [2] > [3] > [1] is better.",
        "My ranking: [2] > [3] > [1] (not [1] > [2] > [3])", "[2] > [3] > [1], not [1] > [2] > [3]",
        "~~[1] > [2] > [3]~~ [2] > [3] > [1]", "[1] > [2] > [3]\nCorrection: [2] > [3] > [1]",
        "[1] > [2] > [3]\n\nActually, [2] > [3] > [1]",
        "Initial ranking: [1] > [2] > [3]\nRevised ranking: [2] > [3] > [1]",
        "Ranking without thinking: [1] > [2] > [3]\nRanking after thinking: [2] > [3] > [1]",
        "<reflection>[1] > [2] > [3]</reflection><answer>[2] > [3] > [1]</answer>",
        "<plan>[1] > [2] > [3]</plan>[2] > [3] > [1]",
        "<internal_monologue>[1] > [2] > [3]</internal_monologue>[2] > [3] > [1]",
        "<|thought|>[1] > [2] > [3]<|/thought|>[2] > [3] > [1]",
        "<thought_process>[1] > [2] > [3]</thought_process>[2] > [3] > [1]",
        "<think time=5>[1] > [2] > [3]</think>[2] > [3] > [1]",
        "[Thinking]\n[1] > [2] > [3]\n[/Thinking]\n[2] > [3] > [1]",
        "(thinking) [1] > [2] > [3] (/thinking) [2] > [3] > [1]", "*thinks: [1] > [2] > [3]*\n[2] > [3] > [1]",
        "<chain_of_thought>[1] > [2] > [3]</chain_of_thought>\n[2] > [3] > [1]",
        "&lt;think&gt;[1] > [2] > [3]&lt;/think&gt;[2] > [3] > [1]",
        "<thinking>[1] > [2] > [3]</thinking>\n\n<result>[2] > [3] > [1]</result>",
        "::: thinking\n[1] > [2] > [3]\n:::\n[2] > [3] > [1]", "---\nthinking: [1] > [2] > [3]\n---\n[2] > [3] > [1]",
        "> Thinking: [1] > [2] > [3]\n\n[2] > [3] > [1]",
        "<|channel|>commentary<|message|>[1] > [2] > [3]<|end|><|channel|>final<|message|>[2] > [3] > [1]",
        '<|channel|>final <|constrain|>json<|message|>{"ranking":[2,3,1]}',
        "<scratchpad>\n1 > 2 > 3\n</scratchpad>\n2 > 3 > 1", "2 (highly relevant), 3 (partially), 1 (not)",
        "Relevance: 2 > 3 > 1", "Rank: 2, 3, 1", "Ranks: 2, 3, 1", "Top: [2]; next: [3]; last: [1]",
        "Passage 2: 1st, Passage 3: 2nd, Passage 1: 3rd", "2 is better than 3 which is better than 1",
        "\uff12\uff1e\uff13\uff1e\uff11", "\u4e8c > \u4e09 > \u4e00", "Passage two > Passage three > Passage one",
        "[2] is 1st, [3] is 2nd, and [1] is 3rd", "\u6700\u7ec8\u6392\u540d\uff1a[2] > [3] > [1]",
        "\u0420\u0430\u043d\u0436\u0438\u0440\u043e\u0432\u0430\u043d\u0438\u0435: [2] > [3] > [1]",
        "Le classement : [2] > [3] > [1]", "[2] > [3] > [1] \u2014 sorted by how well each answers the 2 questions",
        "[2] > [3] >[1] (3 passages, 2 relevant)",
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_read_as_it_is_or_not_at_all(text):
    assert permuted(text, [2, 3, 1]) is not False


@pytest.mark.parametrize(
    "text",
    [
        "[1] > [2] > [3] is the order in which they were given.", "The passages are listed as [1], [2], [3].",
        "Relevant: [1], [2], [3]", "Passages: [1], [2], [3]",
        "I have received passages [1], [2], [3]. Waiting for the query.",
        "Received passage [1]. Received passage [2]. Received passage [3].",
        "1. [1] Received\n2. [2] Received\n3. [3] Received", "Please rank [1], [2], [3].",
        "The identifiers are 1, 2, 3.", '{"passages": [1, 2, 3]}', '{"ids": [1,2,3], "ranking": null}',
        '{"relevance": [1, 2, 3]}', '{"1": "relevant", "2": "irrelevant", "3": "relevant"}',
        '{"1": true, "2": false, "3": true}', '{"1": 3, "2": 3, "3": 0}', "[3, 1, 2] are scores", "Scores: [3, 1, 2]",
        "Scores: 3, 1, 2", "[1]: 9/10\n[2]: 3/10\n[3]: 5/10", "[1] 0.9 [2] 0.3 [3] 0.5",
        "Passage 1: 3\nPassage 2: 1\nPassage 3: 2",
        "| Passage | Relevance |\n|---|---|\n| [1] | 3 |\n| [2] | 1 |\n| [3] | 2 |",
        "1. Passage 1 - 3/5\n2. Passage 2 - 5/5\n3. Passage 3 - 1/5", "[1]>[1]>[1]", "1 > 1",
        "[1] > [2]? [2] > [3]? [3] > [1]?", "Is [1] > [2] > [3]?", "If [1] > [2] > [3] then", "[1] vs [2] vs [3]",
        "Worst to best: [1] > [3] > [2]", "[1] (worst) > [3] > [2] (best)", "[1] < [3] < [2]",
        "Least relevant: [1], then [3], most relevant: [2]", "1. Least relevant: [1]\n2. [3]\n3. Most relevant: [2]",
        "Bottom: [1]\nMiddle: [3]\nTop: [2]", "[3] > [2] > [1] would be the reverse", "In ascending order: 1, 3, 2",
        "Relevance increases: 1, 3, 2", "<answer></answer>", "<answer>none</answer>\n[1] > [2] > [3]",
        "As per your example, [2] > [3] > [1]", "e.g. [2] > [1] > [3]", "[2] > [1] > [3] (example)",
        "Format: [2] > [1] > [3]", "Output: [x] > [y] > [z]", "Score(1) = 3 > Score(2) = 1", "P(1) > P(2) > P(3)",
        "x[1] > x[2] > x[3]", "10 > 3 > 2 degrees", "the price went 3 > 2 > 1", "3 > 2 is true and 2 > 1 is true",
        "1-3-2", "1/3/2", "version 3.2.1", "3.2.1", "2023-03-01", "call 1, 2, 3", "chapters 3, 1, 2 of the book",
        "Step 1: read. Step 2: compare. Step 3: rank.", "Passage 3 mentions Passage 1 and Passage 2.", "2. 3. 1.",
        "None of [1], [2], [3] is relevant.", "All passages tie: [1] = [2] = [3]?", "I'd say [2]", "[2]", "2 and 3",
        "[3] then maybe [1]",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_ranking_is_no_information(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Passage 1 is ranked 3rd, Passage 2 is ranked 1st, Passage 3 is ranked 2nd",
        "Rank of passage 1: 3\nRank of passage 2: 1\nRank of passage 3: 2", "[3] rank 2\n[1] rank 3\n[2] rank 1",
        "| Passage | Rank |\n|---|---|\n| 1 | 3 |\n| 2 | 1 |\n| 3 | 2 |", "[1] is third, [2] is first, [3] is second",
        "| Passage | Rank |\n|---|---|\n| [3] | 2 |\n| [1] | 3 |\n| [2] | 1 |",
        "| Rank | Passage | Why |\n| --- | --- | --- |\n| 1 | `2` | best |\n| 2 | `3` | - |\n| 3 | `1` | 1969 |",
        '{"rank_1": "[2]", "rank_2": "[3]", "rank_3": "[1]"}', '{"first": 2, "second": 3, "third": 1}',
        "{'ranking': [2, 3, 1,]}", "ranking = ['2', '3', '1']", 'Here:\n[{"rank": 2, "id": 3}, {"rank": 3, "id": 1}, '
        '{"rank": 1, "id": 2}]\nDone.', "[2] is the most relevant, followed by [3] and [1].",
        "Best: [2]; next: [3]; next: [1]",
        "The most relevant passage is [2]. Next is [3]. Next is [1].", "\u7b2c\u4e00\uff1a[2]\n\u7b2c\u4e8c\uff1a[3]\n"
        "\u7b2c\u4e09\uff1a[1]", "<details><summary>Thinking</summary>[1] > [2] > [3]</details>\n[2] > [3] > [1]",
        "- [2]: gives the definition\n- [3]: he won, 3 > 2 in the end\n- [1]: off topic", "2: 0.9\n3: 0.5\n1: 0.2",
        "Analysis:\n[1]: off topic\n[2]: fits\n[3]: partly\n\nIn order of relevance: [2], [3], [1]",
    ],
)  # fmt: skip
def test_places_tables_sentences_and_literals_are_read(text):
    assert permuted(text, [2, 3, 1])


def test_labels_in_parentheses_are_no_remarks_also_where_two_tie():
    answer = read_order("(2) > (5) = (3) > (4) > (1)", (1, 2, 3, 4, 5), get_parser("brackets-v1"))
    assert answer.tiers == ((2,), (3, 5), (4,), (1,))


@pytest.mark.parametrize(
    "text",
    [
        "Draft: [1] > [2] > [3]\n\n**Correction:** the final ranking is\n\n[2], then [3], then [1]",
        "+ [2]: 0.9\n+ [3]: 0.5\n+ [1]: 0.2\n\nPassage 2 directly answers the question, passage 3 does not.",
    ],
)
def test_what_stands_above_and_below_a_list_is_told_apart_from_it(text):
    assert permuted(text, [2, 3, 1])


def test_a_range_is_a_tie_at_the_end_of_a_chain():
    answer = read_order("[4] > [1]-[3]", (1, 2, 3, 4), get_parser("brackets-v1"))
    assert answer.tiers == ((4,), (1, 2, 3))
    assert read_order("[4] > [3]-[1]", (1, 2, 3, 4), get_parser("brackets-v1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Passage 1: rank 1, Passage 2: rank 1, Passage 3: rank 2", "[1]: rank 2, [2]: rank 1",
        "| Passage | Rank |\n|---|---|\n| 1 | 3 |\n| 2 | high |\n| 3 | 2 |", '{"rank_1": 2, "rank_3": 1}',
        "- [2]: off topic\n- [3]: partly relevant\n- [1]: relevant", "[1]: 0.9\n[2]: 0.2\n[3]: 0.5",
        "I received passages [2] > [3] > [1].", "3. foo\n2. bar\n1. baz",
        "<details><summary>Thoughts</summary>[2] > [3] > [1]",
    ],
)  # fmt: skip
def test_places_that_do_not_fit_and_remarks_that_rise_are_no_information(text):
    assert read_order(text, (1, 2, 3), get_parser("brackets-v1")) is None
