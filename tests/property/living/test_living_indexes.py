"""Any sequence of writes, in one or two processes, killed or not, leaves what a fresh index of the survivors holds.

Hypothesis draws the steps: transactions of several calls, merges, refits, readers that are opened, asked again later
and refreshed, pickles, writers that give up, and writers that fail or are killed at a random operation on a file.
After each step the index is compared with a fresh one (`living_model`) in everything that users see, scores bit for
bit; filters and facets also with their definition.
"""

import gc
import os
import pickle
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from living_jobs import apply, merge
from living_model import (
    FILTERS,
    NAMES,
    VARIANTS,
    Model,
    RefusedError,
    by_definition,
    document,
    empty,
    fresh,
    snapshot,
    write,
)

from eval.living_kills import leftovers
from thresher.build.writer import IndexWriter
from thresher.errors import InputError
from thresher.index.collection import verify
from thresher.index.commit import read_commit
from thresher.search import Index

NIGHTLY = (os.environ.get("THRESHER_PROFILE") or os.environ.get("HYPOTHESIS_PROFILE")) == "nightly"
STEPS = int(os.environ.get("THRESHER_STEPS") or (10_000 if NIGHTLY else 48))
"""Steps over all variants."""
SEQUENCE = 50 if NIGHTLY else 8
"""Steps of a sequence."""

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file")  # of writes that an error ended
PHASES = [one for one in Phase if one not in (Phase.shrink, Phase.explain)]
"""A sequence that fails is shown as it was drawn: making it shorter takes minutes, and its steps are few."""

docnos = st.sampled_from(NAMES)
seeds = st.integers(0, 30)
versions = st.dictionaries(docnos, seeds, min_size=1, max_size=4).map(lambda found: tuple(found.items()))
calls = st.one_of(
    st.tuples(st.just("add"), versions),
    st.tuples(st.just("replace"), versions),
    st.tuples(st.just("replace"), versions),
    st.tuples(st.just("delete"), st.lists(docnos, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("where"), st.sampled_from(sorted(FILTERS))),
    st.tuples(st.just("sync"), st.dictionaries(docnos, seeds, min_size=5, max_size=12).map(lambda d: tuple(d.items()))),
)
transactions = st.lists(calls, min_size=1, max_size=3)
moments = st.integers(1, 220)
DONE = Counter()


class Living(RuleBasedStateMachine):
    """One index, its model, and readers of some of its commits."""

    variant = "bm25"
    place: Path
    forker: object

    @initialize()
    def copy(self):
        self.kind = VARIANTS[self.variant]
        self.folder = Path(tempfile.mkdtemp(dir=self.place))
        self.path = self.folder / "index"
        shutil.copytree(self.place / "built", self.path)
        self.template = self.place / "emptied"
        self.model = Model.of(self.kind, self.path)
        self.readers = []
        self.count = 0
        self.checked = None

    def teardown(self):
        for reader, _ in self.readers:
            reader.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # writing

    @rule(drawn=transactions, elsewhere=st.booleans())
    def transaction(self, drawn, elsewhere):
        given = self._given(drawn)
        pending = self.model.pending()
        try:
            expected = [pending.call(*call) for call in given]
        except RefusedError as refused:
            self._refuses(given, str(refused), elsewhere)
            return
        DONE["transactions in another process" if elsewhere else "transactions"] += 1
        before = read_commit(self.path).number
        if elsewhere:
            outcome = self.forker.run("living_jobs:apply", self.path, self.variant, given)
            assert not outcome.error, outcome.trace
            told, number, _ = outcome.value
        else:
            told, number, _ = apply(self.path, self.variant, given)
        if self.kind.whole:
            assert told == expected
        self.model = pending.commit()
        assert number <= read_commit(self.path).number
        if number > before:
            self._no_leftovers()
        self._check()

    def _refuses(self, given, docno, elsewhere):
        DONE["refused"] += 1
        if elsewhere:
            outcome = self.forker.run("living_jobs:apply", self.path, self.variant, given)
            assert (outcome.error, docno in outcome.message) == ("InputError", True), outcome
        else:
            with pytest.raises(InputError, match=docno):
                apply(self.path, self.variant, given)
        self._check()

    @rule(drawn=transactions, how=st.sampled_from(["killed", "failing"]), moment=moments)
    def disturbed_transaction(self, drawn, how, moment):
        given = self._given(drawn)
        pending = self.model.pending()
        try:
            for call in given:
                pending.call(*call)
        except RefusedError:
            return
        before = read_commit(self.path).number
        if how == "killed":
            outcome = self.forker.run("living_jobs:apply", self.path, self.variant, given, how, moment)
            ended = outcome.status == 0
            assert not outcome.error, outcome.trace
        else:
            ended = self._fails(lambda: apply(self.path, self.variant, given, how, moment))
        after = read_commit(self.path).number
        DONE[f"{how}: {'let through' if ended else 'before' if after == before else 'after'} the commit"] += 1
        assert not ended or after > before or pending.commit() == self.model
        if after > before:
            self.model = pending.commit()
        verify(self.path)
        self._check()

    @rule(every=st.booleans(), elsewhere=st.booleans())
    def merged(self, every, elsewhere):
        DONE["merges"] += 1
        if elsewhere:
            outcome = self.forker.run("living_jobs:merge", self.path, self.variant, every, False)
            assert not outcome.error, outcome.trace
        else:
            merge(self.path, self.variant, every, False)
        if every:
            assert len(read_commit(self.path).segments) <= 1
        self.checked = None
        self._check()

    @rule(how=st.sampled_from(["killed", "failing"]), moment=moments)
    def disturbed_merge(self, how, moment):
        if how == "killed":
            outcome = self.forker.run("living_jobs:merge", self.path, self.variant, True, False, how, moment)
            assert not outcome.error, outcome.trace
            ended = outcome.status == 0
        else:
            ended = self._fails(lambda: merge(self.path, self.variant, True, False, how, moment))
        DONE[f"merges {how}"] += not ended
        verify(self.path)
        self.checked = None
        self._check()

    @rule(elsewhere=st.booleans())
    def refit(self, elsewhere):
        """Afterwards a fresh index has the statistics that this one has now."""
        if self.kind.encoded:  # weights of an encoder have no statistics
            return
        DONE["refits"] += 1
        if elsewhere:
            outcome = self.forker.run("living_jobs:merge", self.path, self.variant, True, True)
            assert not outcome.error, outcome.trace
        else:
            merge(self.path, self.variant, True, True)
        self.template = self.folder / f"emptied-{self.count}"
        self.count += 1
        shutil.copytree(self.path, self.template)
        empty(self.template, self.kind)
        self.checked = None
        self._check()

    @rule(drawn=transactions)
    def given_up(self, drawn):
        """A writer that is left by an error, after calls that it took."""
        DONE["given up"] += 1
        given = self._given(drawn)
        with pytest.raises(ZeroDivisionError), IndexWriter.open(self.path, **self.kind.options()) as writer:
            for call in given:
                with suppress(InputError):
                    write(writer, self.kind, *call)
            1 / 0  # noqa: B018
        self._check()

    @staticmethod
    def _fails(call):
        """Whether the call ended well; it may only fail as the file system did."""
        try:
            call()
        except OSError:
            return False
        return True

    def _no_leftovers(self):
        """After a write that nothing disturbed, nothing is there that neither the commit nor a reader needs."""
        if not self.readers:
            gc.collect()
            assert leftovers(self.path) == []

    # reading

    @precondition(lambda self: len(self.readers) < 3)
    @rule(follow=st.booleans())
    def reader_opens(self, follow):
        self.readers.append([Index.open(self.path, follow=follow), None if follow else self.expected()])

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 2), what=st.sampled_from(["asked", "refreshed", "pickled", "closed"]))
    def reader(self, which, what):
        """An older reader sees its own commit until it is refreshed."""
        number = which % len(self.readers)
        index, expected = self.readers[number]
        DONE[f"readers {what}"] += 1
        if what == "refreshed":
            index.refresh()
            expected = self.readers[number][1] = self.expected() if expected is not None else None
        elif what == "pickled" and expected is not None:
            with pickle.loads(pickle.dumps(index)) as other:  # noqa: S301
                assert snapshot(other, self.kind, NAMES) == expected
        elif what == "closed":
            index.close()
            del self.readers[number]
            return
        assert snapshot(index, self.kind, NAMES) == (self.expected() if expected is None else expected)

    # comparing

    def _given(self, drawn):
        """Calls with documents in place of names and seeds."""
        return [
            (kind, what if kind in ("delete", "where") else [document(d, seed, self.kind.few) for d, seed in what])
            for kind, what in drawn
        ]

    def expected(self):
        """The snapshot of a fresh index of the model's documents."""
        if self.checked is None or self.checked[0] != self.model:
            place = self.folder / f"fresh-{self.count}"
            self.count += 1
            with fresh(self.model, self.kind, self.template, place) as index:
                self.checked = (self.model, snapshot(index, self.kind, NAMES))
            shutil.rmtree(place)
        return self.checked[1]

    def _check(self):
        DONE["steps"] += 1
        with Index.open(self.path) as index:
            found = snapshot(index, self.kind, NAMES)
        expected = self.expected()
        assert found == expected, difference(found, expected)
        if self.kind.whole and not self.kind.encoded:
            by_definition(self.model, found)


def difference(found, expected):
    """The first entry in which two snapshots differ."""
    return next((key, found.get(key), expected[key]) for key in expected if found.get(key) != expected[key])


@pytest.fixture(scope="module", autouse=True)
def what_ran():
    """Says at the end which steps there were; shown with -s."""
    yield
    print("\nsteps of the model test:", dict(DONE.most_common()))  # noqa: T201


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_sequence_of_writes_leaves_what_a_fresh_index_of_the_survivors_holds(variant, tmp_path, forker):
    kind = VARIANTS[variant]
    kind.build(tmp_path / "built")
    shutil.copytree(tmp_path / "built", tmp_path / "emptied")
    empty(tmp_path / "emptied", kind)
    machine = type("Machine", (Living,), {"variant": variant, "place": tmp_path, "forker": forker})
    steps = STEPS // len(VARIANTS)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=1 + steps // SEQUENCE,  # the first one has only the simplest steps
            stateful_step_count=SEQUENCE,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
