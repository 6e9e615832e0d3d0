"""The measurements of living indexes know what each commit holds, and their filters have the shares they say."""

from itertools import pairwise

import numpy as np
import pytest

from eval import living_readers as readers
from eval.living_data import Data, filters_of, where_of


def test_the_state_of_a_commit_is_what_its_writes_leave():
    held = dict.fromkeys(readers.live(1), 1)
    for commit in range(2, 200):
        changed = set(readers.replaced(commit))
        assert changed <= held.keys()
        held |= dict.fromkeys(changed, commit)
        held[commit - 2 + readers.WINDOW] = commit
        del held[commit - 2]
        assert readers.state(commit) == {f"d{number}": at for number, at in held.items()}


def test_weights_of_neighbouring_commits_differ_and_fit_an_impact():
    weights = [readers.weight(commit) for commit in range(1, 501)]
    assert all(a != b for a, b in pairwise(weights))
    assert 1 <= min(weights) <= max(weights) <= readers.MOST


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_filters_have_the_share_that_they_are_named_by(tmp_path, share):
    bucket = Data(tmp_path, 20_000).bucket
    new, known = filters_of(share, 50, known=False), filters_of(share, 50, known=True)
    assert len(set(new)) == 50
    assert len(set(known)) == 1
    for low, high in (*new, known[0]):
        assert np.mean((bucket >= low) & (bucket < high)) == pytest.approx(share, rel=0.2)
    assert where_of(known[0]) == {"bucket": {"gte": 0, "lt": round(1000 * share)}}
