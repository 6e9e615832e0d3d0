"""One check of the texts that a request brings along, for every route."""

import pytest

from thresher.errors import InputError
from thresher.serve.bodies import check_documents
from thresher.serve.dialects.faults import EMPTY
from thresher.serve.settings import ServeSettings

SETTINGS = ServeSettings(max_documents=2, max_document_characters=3)


@pytest.mark.parametrize(
    ("texts", "how", "told"),
    [
        ([], {"some": True}, f"{EMPTY} text"),
        (["a"] * 3, {}, "there are 3 texts; at most 2 texts are allowed"),
        (["abc", "abcd"], {}, "text 1 has 4 characters; at most 3 are allowed"),
    ],
)
def test_what_is_wrong_is_said(texts, how, told):
    with pytest.raises(InputError, match=told):
        check_documents(SETTINGS, "text", texts, **how)


def test_a_caller_may_take_none_or_read_a_part():
    check_documents(SETTINGS, "text", [])
    check_documents(SETTINGS, "text", ["abcd"], whole=False)
