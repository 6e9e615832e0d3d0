"""Terms counted in one pass and weighed later get the weights of fitting first and encoding then, bit for bit."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thresher.encode.bm25 import Bm25Encoder, TermCounts

TEXT = st.lists(st.sampled_from("grain grains chaff wind mill the of flour river zebra".split()), max_size=12).map(
    " ".join
)


@given(
    st.lists(TEXT, max_size=20),
    st.integers(1, 7),
    st.sampled_from(["exact", "lucene"]),
    st.floats(0, 2),
    st.floats(0, 1),
    st.data(),
)
def test_weights_of_counts_are_those_of_the_texts(texts, chunk, lengths, k1, b, data):
    settings = {"k1": k1, "b": b, "lengths": lengths}
    expected = Bm25Encoder.fit(texts, **settings)
    with TemporaryDirectory() as folder:
        counts = TermCounts(Path(folder, "counts"))
        for first in range(0, len(texts), chunk):
            counts.add(texts[first : first + chunk])
        encoder = counts.encoder(**settings)
        assert encoder.fingerprint == expected.fingerprint
        assert list(encoder.vocabulary) == list(expected.vocabulary)
        if not texts:
            return
        numbers = np.array(sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=1))))
        found, wanted = counts.rows(encoder, numbers), expected.encode_passages([texts[i] for i in numbers])
    for name in ("indptr", "terms", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
