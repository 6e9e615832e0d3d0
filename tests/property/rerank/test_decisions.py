"""Whatever a decision server answers, it is read as a possible decision or as a problem."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from thresher.llm.decisions import Question, read
from thresher.rerank.decisions import ordered
from thresher.rerank.plans.plan import Order

NAMES = ("a", "b", "c")
QUESTIONS = (
    Question("predicate", "?"),
    Question("choice", "?", NAMES),
    Question("score", "?", NAMES),
)
numbers = st.one_of(st.floats(), st.integers(-1, 2), st.booleans(), st.none(), st.sampled_from((0.0, 0.5, 1.0)))
names = st.sampled_from((*NAMES, "d", "0", "1", "2", 1, None, True))
anything = st.recursive(
    st.one_of(numbers, names), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)  # fmt: skip
rows = st.lists(st.fixed_dictionaries({"probability": numbers}, optional={"value": names, "label": names}), max_size=4)
answers = st.one_of(
    anything,
    st.fixed_dictionaries({}, optional={
        "type": names, "probability": st.one_of(numbers, anything), "noul": numbers, "score": numbers,
        "choice": st.one_of(names, anything),
        "probabilities": st.one_of(rows, st.dictionaries(st.sampled_from((*NAMES, "0", "1", "2")), numbers), anything),
    }),
)  # fmt: skip


@given(st.sampled_from(QUESTIONS), answers)
def test_an_answer_is_a_possible_decision_or_a_problem(question, answer):
    found = read(question, answer)
    if found.problem:
        assert found.value is None
        return
    top = 1 if question.kind == "predicate" else 2
    assert math.isfinite(found.value)
    assert 0 <= found.value <= top
    assert all(p is None or 0 <= p <= 1 for p in found.probabilities)
    if question.kind == "choice":
        order = ordered(Order((5, 3, 9)), found)
        order.check(Order((5, 3, 9)))
        assert order.named >= 1
        json.dumps(found.probabilities, allow_nan=False)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda ps: sum(ps) > 0.1))
def test_a_whole_distribution_is_the_order_of_its_probabilities(weights):
    shares = [weight / sum(weights) for weight in weights]
    found = read(QUESTIONS[1], {"probabilities": dict(zip(NAMES, shares, strict=True))})
    order = ordered(Order((0, 1, 2)), found)
    places = {item: place for place, tier in enumerate(order.tiers) for item in tier}
    assert all((shares[i] > shares[j]) == (places[i] < places[j]) for i in range(3) for j in range(3))
