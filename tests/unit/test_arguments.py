"""Arguments are checked against their annotations, and the error names the parameter and the value."""

import gc
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from thresher.arguments import checked_call, parsed
from thresher.checks import shown
from thresher.errors import ConfigError, InputError


@checked_call(k=1)
def call(
    text: str = "",
    k: int = 1,
    share: float | None = None,
    *,
    path: str | Path = "",
    folder: Path = Path(),
    names: Sequence[str] = (),
    several: Iterable[str] = (),
    grades: Mapping[str, Mapping[str, int]] | None = None,
    how: Literal["one", "other"] = "one",
    pair: tuple[str, int] = ("", 0),
    row: NDArray[np.floating] | None = None,
    values: ArrayLike | None = None,
    flag: bool = False,
):
    return locals()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": 3}, "text must be text, got 3"),
        ({"text": "a\ud800"}, r"text must be valid Unicode, got the lone surrogate '\\ud800' at character 1"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": True}, "k must be a whole number, got True"),
        ({"k": 1.5}, "k must be a whole number, got 1.5"),
        ({"k": 10**20}, "k must be a number of at most 63 bits, got one of 67 bits"),
        ({"share": "1"}, "share must be a number or None, got '1'"),
        ({"share": float("nan")}, "share must be a number, got nan"),
        ({"path": "a\0"}, "path must be a path without NUL characters"),
        ({"path": None}, "path must be a path, got None"),
        ({"names": "word"}, r"names must be a list \(not one text\), got 'word'"),
        ({"names": ["a", None]}, r"names\[1\] must be text, got None"),
        ({"names": np.array([1.0])}, r"names\[0\] must be text"),
        ({"several": 5}, "several must be iterable, got 5"),
        ({"grades": {"q": {"d": 1.5}}}, r"grades\['q'\]\['d'\] must be a whole number, got 1.5"),
        ({"pair": ("a", 1, 2)}, "pair must be a tuple of 2"),
        ({"row": [1.0]}, "row must be a numpy array"),
        ({"row": np.array(["a"])}, "row must be a numpy array of floatings, got one of <U1"),
        ({"values": [[1], [2, 3]]}, "values must be an array of numbers or None"),
        ({"flag": 1}, "flag must be True or False, got 1"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(given, message):
    with pytest.raises(InputError, match=message):
        call(**given)


def test_a_choice_that_does_not_exist_is_a_wrong_setting():
    with pytest.raises(ConfigError, match="unknown how 'none'; choose one of one, other"):
        call(how="none")


def test_numbers_of_numpy_arrive_as_those_of_python():
    made = call(k=np.uint8(255), share=np.float32(0.5), flag=np.bool_(True), folder="here")
    assert [type(made[name]) for name in ("k", "share", "flag")] == [int, float, bool]
    assert made["folder"] == Path("here")


def test_items_of_an_iterator_are_checked_when_they_are_reached():
    items = call(several=iter(["a", 2]))["several"]
    assert next(items) == "a"
    with pytest.raises(InputError, match="item 1 must be text, got 2"):
        next(items)


def test_a_wrong_signature_stays_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword"):
        call(unknown=1)


def test_a_value_is_shown_short_and_on_one_line():
    class Silent:
        def __repr__(self):
            raise RuntimeError

    assert shown(Silent()) == "a Silent that cannot be shown"
    assert len(shown("x" * 10_000)) <= 80
    assert shown("a\x1b\u202e") == r"'a\x1b\u202e'"


def test_an_array_is_taken_where_a_list_of_texts_or_an_array_is_wanted():
    from thresher.prune.policy import Policy, decide

    decision = decide(Policy(keep=0.5, floor=1), ["a", "b"], np.array([1.0, 2.0]), groups=np.array([0, 1]))
    assert len(decision.tiers) == 2
    with pytest.raises(InputError, match="groups"):
        decide(Policy(keep=0.5, floor=1), ["a", "b"], np.array([1.0, 2.0]), groups=[0, 1])


def test_calls_that_several_threads_make_first_are_checked_in_each():
    source = "\n".join(f"from a.b import c{n} as d{n}" for n in range(50))

    def switch(*_):
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(switch)  # what lets another thread run while a tree is made
    gc.set_threshold(5)
    try:
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(parsed, [source] * 24))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(switch)
    assert {len(tree.body) for tree in trees} == {50}
