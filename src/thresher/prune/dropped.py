"""What an index keeps of the passages that are in none of its tiers, and how it answers for them.

Beside the decision (`thresher.prune.decision`) the `pruning/` of a segment holds, for the passages that were dropped,
in the order of their positions:

keys, contents    uint64 each: hashes of docno and content (`thresher.index.records`)
folded            plain string store: the passages that were folded into another one, as `passages` of a layout has
                  them; they return when that one is deleted
elsewhere.json    position of a folded passage to the docno of the passage that represents it, where that one is in
                  another segment; `canonical.i8` then has the folded passage's own position

So the passages of a segment are numbered on behind its tiers: n1 of the first, n2 of the second, n3 dropped ones.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.artifact import read_manifest
from thresher.corpus.spool import docno_keys
from thresher.durable import write_atomic
from thresher.errors import DamagedArtifactError, InputError
from thresher.index.arrays import StringStore, StringWriter
from thresher.index.collection import read_mask
from thresher.index.packing import pack_passage, unpack_fields
from thresher.index.records import RecordWriter, content_keys, open_records
from thresher.mapping import map_file
from thresher.prune.decision import FOLDER, FORMAT, KIND, REASONS, TIER_DROPPED, TIER_ONE, TIER_TWO
from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.corpus.spool import Spool
    from thresher.index.collection import Collection
    from thresher.prune.decision import Decision

FOLDED = "folded"
ELSEWHERE = "elsewhere.json"
_DUPLICATE = REASONS.index("duplicate")
_OUTCOMES = {"junk": "was pruned as junk", "score": "was pruned for its score"}


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is kept of dropped passages.

    Attributes:
        keys, contents: uint64[n], hashes of docno and content, by position.
        folded: the folded ones among them, packed as a layout's passages; read once.
        elsewhere: position of a folded passage to the docno of its representative in another segment.
    """

    keys: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    folded: Iterable[bytes]
    elsewhere: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spool: Spool, decision: Decision, elsewhere: Mapping[int, str] | None = None) -> Dropped:
        """Those of a spooled corpus."""
        rows = np.flatnonzero(decision.tiers == TIER_DROPPED)
        keys, contents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for chunk in spool.rows(rows).chunks():
            keys.append(docno_keys(passage.docno for passage in chunk))
            contents.append(content_keys(chunk))
        folded = rows[decision.reasons[rows] == _DUPLICATE]
        packed = (pack_passage(passage) for passage in spool.rows(folded))
        return cls(np.concatenate(keys), np.concatenate(contents), packed, elsewhere or {})

    def write(self, directory: Path) -> None:
        """Write the files into `directory`."""
        records = RecordWriter(directory)
        records.copy(self.keys, self.contents)
        records.close()
        texts = StringWriter(directory, FOLDED)
        for packed in self.folded:
            texts.extend([packed])
        texts.close()
        write_atomic(directory / ELSEWHERE, json.dumps({str(row): docno for row, docno in self.elsewhere.items()}))


class StoredDecision:
    """The decision of a segment, mapped: what became of the passages that its tiers lack.

    It stays readable when the index is closed or the segment removed.

    Args:
        path: the decision.
        sizes: passages of each tier.
        forgotten: bool[n3], dropped passages that were deleted since, or returned; None for none.

    Attributes:
        path: the decision.
        sizes: passages of each tier.
        folds: whether anything was folded.

    Raises:
        ArtifactError: there is no decision.
        DamagedArtifactError: a file is missing or has the wrong size.
    """

    def __init__(self, path: Path, sizes: Sequence[int], forgotten: NDArray[np.bool_] | None = None) -> None:
        counts = read_manifest(path, kind=KIND, format=FORMAT).fields.get("counts")
        counts = counts if isinstance(counts, dict) else {}
        self.folds = counts.get("duplicate") != 0
        self.path, self.sizes = path, tuple(sizes)
        self.forgotten = forgotten
        self._count = int(counts.get("dropped", 0))
        self._docnos, self._tiers, self._reasons, self._canonical, self._elsewhere = (
            map_file(path / name) for name in ("docnos.txt", "tiers.u1", "reasons.u1", "canonical.i8", ELSEWHERE)
        )
        self.keys, self.contents = open_records(path, self._count)

    def __len__(self) -> int:
        """Dropped passages, forgotten ones included."""
        return self._count

    @cached_property
    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
        """Tiers, reasons and canonical positions by position, checked.

        Raises:
            DamagedArtifactError: they do not fit each other or the segment.
        """
        n = len(self._tiers)
        if len(self._reasons) != n or len(self._canonical) != 8 * n:
            raise DamagedArtifactError(str(self.path), "its files do not fit together; rebuild the index")
        tiers, reasons = np.frombuffer(self._tiers, np.uint8), np.frombuffer(self._reasons, np.uint8)
        canonical = np.frombuffer(self._canonical, "<i8")
        in_tiers = [int((tiers == tier).sum()) for tier in (TIER_ONE, TIER_TWO, TIER_DROPPED)]
        if in_tiers != [*[*self.sizes, 0][:2], self._count] or (n and reasons.max() >= len(REASONS)):
            raise DamagedArtifactError(str(self.path), "does not fit the index; rebuild it")
        if n and not 0 <= int(canonical.min()) <= int(canonical.max()) < n:
            raise DamagedArtifactError(str(self.path / "canonical.i8"), "points outside the corpus; rebuild the index")
        return tiers, reasons, canonical

    @cached_property
    def junk(self) -> dict[int, str]:
        """Position of a junk passage to the name of the rule that matched it."""
        return {int(row): str(rule) for row, rule in json.loads(bytes(map_file(self.path / "junk.json"))).items()}

    @cached_property
    def elsewhere(self) -> dict[int, str]:
        """Position of a folded passage to the docno of its representative in another segment."""
        try:
            return {int(row): str(docno) for row, docno in json.loads(bytes(self._elsewhere)).items()}
        except (ValueError, AttributeError, RecursionError) as err:
            problem = f"names no passages ({err}); rebuild the index"
            raise DamagedArtifactError(str(self.path / ELSEWHERE), problem) from err

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Positions of the dropped passages, int64[n3]."""
        return np.flatnonzero(self.arrays[0] == TIER_DROPPED)

    @cached_property
    def _folded(self) -> NDArray[np.int64]:
        """Places of all folded passages among the dropped ones, in the order of the store of their texts."""
        return np.flatnonzero(self.arrays[1][self.positions] == _DUPLICATE)

    @cached_property
    def folded(self) -> NDArray[np.int64]:
        """Places of the folded passages among the dropped ones, int64[m]; forgotten ones are left out."""
        return self._folded if self.forgotten is None else self._folded[~self.forgotten[self._folded]]

    def representatives(self) -> list[str]:
        """The docno of the passage that each of `folded` is folded into."""
        rows = self.positions[self.folded].tolist()
        canonical, elsewhere = self.arrays[2], self.elsewhere
        return [elsewhere[row] if row in elsewhere else self.docno(int(canonical[row])) for row in rows]

    def passage(self, place: int) -> Passage | None:
        """A folded passage, by its place among the dropped ones; None where it was not folded, and no text is kept."""
        number = int(np.searchsorted(self._folded, place))
        if number >= len(self._folded) or self._folded[number] != place:
            return None
        store = StringStore(self.path, FOLDED, len(self._folded))
        try:
            title, text, metadata = unpack_fields(store.raw(number))
            return Passage(self.docno(int(self.positions[place])), text, title, metadata)
        except (ValueError, TypeError, RecursionError, InputError) as err:
            problem = f"passage {number} cannot be read ({err}); rebuild the index"
            raise DamagedArtifactError(str(self.path / f"{FOLDED}.bytes"), problem) from err

    def packed(self) -> Iterable[bytes]:
        """The folded passages that are not forgotten, packed, in order."""
        store = StringStore(self.path, FOLDED, len(self._folded))
        for number in np.flatnonzero(np.isin(self._folded, self.folded)).tolist():
            yield store.raw(number)

    def docno(self, position: int) -> str:
        """The docno of the passage at this position, dropped or not."""
        end = int(self._ends[position])
        start = int(self._ends[position - 1]) + 1 if position else 0
        try:
            return bytes(self._docnos[start:end]).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as err:
            problem = f"is not UTF-8 ({err.reason}); rebuild the index"
            raise DamagedArtifactError(str(self.path / "docnos.txt"), problem) from err

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where the line of each docno ends, int64[n]."""
        ends = np.flatnonzero(np.frombuffer(self._docnos, np.uint8) == 10)
        if len(ends) != len(self._tiers):
            raise DamagedArtifactError(str(self.path / "docnos.txt"), "has not one docno a line; rebuild the index")
        return ends

    def outcome(self, docno: str) -> tuple[str, str]:
        """Why a passage was dropped, and the docno that stands for it; empty where it was not, or is forgotten."""
        wanted = docno.encode("utf-8", "surrogatepass") + b"\n"
        starts = (found.start() for found in re.finditer(re.escape(wanted), self._docnos))
        start = next((at for at in starts if bytes(self._docnos[at - 1 : at]) in (b"", b"\n")), None)
        if start is None:
            return "", ""
        row = int(np.count_nonzero(np.frombuffer(self._docnos, np.uint8)[:start] == 10))
        tiers, reasons, canonical = self.arrays
        place = int(np.searchsorted(self.positions, row))
        if tiers[row] != TIER_DROPPED or (self.forgotten is not None and self.forgotten[place]):
            return "", ""
        reason = REASONS[reasons[row]]
        if reason != "duplicate":
            return reason, ""
        return reason, self.elsewhere[row] if row in self.elsewhere else self.docno(int(canonical[row]))


def decisions_of(collection: Collection) -> StoredDecisions | None:
    """The decisions of an open index, mapped; None where nothing was pruned.

    Raises:
        ArtifactError: a decision is missing.
        DamagedArtifactError: a file is missing, or has the wrong size.
    """
    found = []
    for entry in collection.commit.segments:
        folder = collection.path / entry.folder / FOLDER
        if folder.is_dir():
            forgotten = list(read_mask(collection.path / entry.masks[0], entry))[-1] if entry.deletes else None
            found.append(StoredDecision(folder, entry.passages, forgotten))
    return StoredDecisions(found) if found else None


class StoredDecisions:
    """The decisions of all segments of an index: which passages stand for which, over segments.

    What is held is 36 bytes for each folded passage, once the first one is asked for.

    Args:
        decisions: those of the segments that have one, oldest first.

    Attributes:
        folds: whether anything was folded.
    """

    def __init__(self, decisions: Sequence[StoredDecision]) -> None:
        self.decisions = tuple(decisions)
        self.folds = any(one.folds for one in self.decisions)

    def aliases(self, docno: str) -> tuple[str, ...]:
        """The docnos of the duplicates that were folded into the passage with this docno, in the order they came."""
        return tuple(self._docno(place) for place in self.members(docno))

    def members(self, docno: str) -> list[tuple[int, int]]:
        """Decision, and place among its dropped passages, of each passage folded into this one, in order."""
        keys, order, places = self._by_representative
        key = docno_keys([docno])
        low, high = int(np.searchsorted(keys, key)[0]), int(np.searchsorted(keys, key, "right")[0])
        return [(int(places[i, 0]), int(places[i, 1])) for i in sorted(order[low:high].tolist())]

    def representative(self, docno: str) -> str:
        """The docno of the passage that `docno` was folded into; empty where it was not folded."""
        for decision in reversed(self.decisions):
            if decision.folds:
                reason, other = decision.outcome(docno)
                if reason:
                    return other
        return ""

    def outcome(self, docno: str) -> str:
        """What became of a passage that the index lacks, as a sentence says it; empty where nothing is known of it."""
        for decision in reversed(self.decisions):
            reason, other = decision.outcome(docno)
            if reason in _OUTCOMES:
                return _OUTCOMES[reason]
            if reason == "duplicate":
                pruned = self.outcome(other) if other != docno else ""
                return f"was folded into its duplicate {other!r}" + (", which was pruned" if pruned else "")
        return ""

    @cached_property
    def _by_representative(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
        """Keys of the representatives, sorted, uint64[m]; the order that sorts them; [m, 2] decision and place."""
        keys, places = [np.zeros(0, np.uint64)], [np.zeros((0, 2), np.int32)]
        for number, decision in enumerate(self.decisions):
            if decision.folds:
                keys.append(docno_keys(decision.representatives()))
                own = decision.folded.astype(np.int32)
                places.append(np.stack([np.full(len(own), number, np.int32), own], axis=1))
        joined = np.concatenate(keys)
        order = np.argsort(joined, kind="stable")
        return joined[order], order, np.concatenate(places)

    def _docno(self, place: tuple[int, int]) -> str:
        decision = self.decisions[place[0]]
        return decision.docno(int(decision.positions[place[1]]))
