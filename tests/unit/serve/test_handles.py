"""Handles give back what was dropped, to whom they were given, and say so where they cannot."""

import pytest

from thresher.errors import InputError
from thresher.records import Passage, Span
from thresher.serve.handles import Expanded, Handles, expanded
from thresher.serve.refusals import RefusedError

TEXT = "Grain falls. \U0001f33e Chaff flies.  The mill is shut."
KEPT = (Span(0, 12), Span(29, 46))
INDEX = {"d1": Passage("d1", TEXT, "On grain"), "é/2": Passage("é/2", "Kurz. \ud83d", "")}


def passage_of(name, docno):
    if name != "docs" or docno not in INDEX:
        raise InputError(f"no passage {docno}")
    return INDEX[docno]


def status(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.status, str(caught.value)


@pytest.fixture
def handles():
    return Handles()


def test_a_passage_comes_back_whole_with_what_was_dropped(handles):
    handle = handles.of_passage("docs", "d1", TEXT, KEPT, "red")
    assert len(handle) < 60
    found = handles.open(handle, "red", passage_of)
    assert found == Expanded("d1", TEXT, "On grain", KEPT, "docs")
    assert found.dropped == (Span(12, 29),)
    document = found.as_json()
    assert document["dropped"] == [{"start": 12, "end": 29, "text": " \U0001f33e Chaff flies.  "}]
    assert document["kept"] == [[0, 12], [29, 46]]


def test_no_store_is_needed_for_a_passage_of_an_index(handles):
    handle = handles.of_passage("docs", "é/2", INDEX["é/2"].text, (), "")
    assert Handles().open(handle, "", passage_of).dropped == (Span(0, 7),)


def test_a_handle_opens_for_its_owner_only(handles):
    of_passage = handles.of_passage("docs", "d1", TEXT, KEPT, "red")
    of_text = handles.of_text("0", "", TEXT, KEPT, "red")
    assert status(lambda: handles.open(of_passage, "blue", passage_of))[0] == 404
    assert status(lambda: handles.open(of_text, "blue", passage_of))[0] == 410
    assert handles.open(of_text, "red", passage_of).text == TEXT


def test_a_passage_that_changed_or_went_is_not_given(handles):
    changed = handles.of_passage("docs", "d1", TEXT + " More.", KEPT)
    code, message = status(lambda: handles.open(changed, "", passage_of))
    assert code == 409 and "'d1'" in message and "changed" in message
    gone = handles.of_passage("docs", "d9", TEXT, KEPT)
    assert status(lambda: handles.open(gone, "", passage_of)) == (
        410, "the passage that this handle stands for is gone: no passage d9"
    )  # fmt: skip


def test_what_is_no_handle_is_refused(handles):
    handle = handles.of_passage("docs", "d1", TEXT, KEPT)
    wrong = ["", "x", "é", "A" * 40, handle[:-1], handle + "AA", "B" + handle[1:], handle.swapcase(), "=" * 9, "-" * 99]
    for text in wrong:
        assert status(lambda text=text: handles.open(text, "", passage_of))[0] == 404, text


def test_a_text_is_kept_for_its_time():
    now = [0.0]
    handles = Handles(seconds=10, clock=lambda: now[0])
    handle = handles.of_text("0", "Title", TEXT, KEPT)
    now[0] = 9.9
    assert handles.open(handle, "", passage_of) == Expanded("0", TEXT, "Title", KEPT)
    now[0] = 10.0
    code, message = status(lambda: handles.open(handle, "", passage_of))
    assert code == 410 and "10 seconds" in message
    assert handles._bytes == 0


def test_texts_are_kept_within_their_bytes():
    handles = Handles(max_bytes=5000)
    given = [handles.of_text(str(n), "", "x" * 1000, ()) for n in range(10)]
    there = []
    for handle in given:
        try:
            there.append(handles.open(handle, "", passage_of).docno)
        except RefusedError as err:
            assert err.status == 410
    assert there == ["7", "8", "9"]
    assert status(lambda: handles.of_text("big", "", "ü" * 3000, ()))[0] == 413


def test_spans_are_checked():
    for spans in ((Span(5, 5),), (Span(3, 9), Span(8, 12)), (Span(0, 99),)):
        with pytest.raises(InputError, match="d1"):
            expanded("docs", INDEX["d1"], spans)
