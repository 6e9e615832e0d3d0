"""Stored states of passages: what a two-headed model computes of a passage before it knows the query.

The layers of such a model below its join read a passage alone, so their output can be made when the index is built and
looked up when the passage is read (PreTTR; MacAvaney and others, SIGIR 2020, arXiv 2004.14255). A state is stored in
int8 with a scale of its own; its largest number, which is far beyond the others, is kept beside it in float32, and
marked by -128 among the int8 numbers: `width + 8` bytes a token.

A passage is read through windows (`thresher.models.windows`); each has its states, and the hash of the word pieces they
were made of. Whoever reads a window whose word pieces are others computes its states.

A segment of an index keeps the states of its first tier's passages in `states/`: `codes.bin`, int8[tokens, width];
`scales.bin`, float32[tokens, 2], scale and largest number; `tokens.npy`, int64[windows + 1], where each window's tokens
start; `keys.npy`, uint64[windows]; `windows.npy`, int64[passages + 1], where each passage's windows start.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from thresher.artifact import read_manifest, writing
from thresher.errors import ConfigError, DamagedArtifactError
from thresher.mapping import map_file
from thresher.models.kernels import Rows, quantise
from thresher.publish import MANIFEST
from thresher.vectors.codecs import load_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.manifest import Manifest

FOLDER = "states"
"""Where a segment keeps its states."""
KIND, FORMAT = "states", 1
MARK = f"{FOLDER}/{MANIFEST}"
"""What the manifest of a segment lists if it has states."""
_LARGEST = -128


def key_of(ids: Sequence[int]) -> int:
    """The hash of a window's word pieces, 64 bits."""
    content = np.asarray(ids, "<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


class PassageStates:
    """The stored states of one passage.

    Args:
        store: where they are.
        number: the passage's, in the store.
    """

    __slots__ = ("_number", "_store")

    def __init__(self, store: StateStore, number: int) -> None:
        self._store, self._number = store, number

    @property
    def model(self) -> str:
        """Name and fingerprint of the model that made them."""
        return self._store.model

    def find(self, ids: Sequence[int]) -> NDArray[np.float32] | None:
        """The states of the window that reads these word pieces, float32[len(ids), width]; None where it has none."""
        store = self._store
        low, high = store.windows[self._number : self._number + 2].tolist()
        places = np.flatnonzero(store.keys[low:high] == key_of(ids))
        if not len(places):
            return None
        first, after = store.tokens[low + places[0] : low + places[0] + 2].tolist()
        return store.decode(first, after) if after - first == len(ids) else None


class StateStore:
    """States of a segment's passages. Open one with `StateStore.open`; `StateWriter` writes one.

    Attributes:
        manifest: the artifact's manifest.
        codes: int8[tokens, width].
        scales: float32[tokens, 2].
        tokens: int64[windows + 1].
        keys: uint64[windows].
        windows: int64[passages + 1].
    """

    def __init__(
        self,
        manifest: Manifest,
        codes: NDArray[np.int8],
        scales: NDArray[np.float32],
        places: tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]],
    ) -> None:
        self.manifest, self.codes, self.scales = manifest, codes, scales
        self.tokens, self.keys, self.windows = places

    def __len__(self) -> int:
        return len(self.windows) - 1

    @property
    def model(self) -> str:
        """Name and fingerprint of the model that made them."""
        return str(self.manifest.fields["model"])

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(int(entry["bytes"]) for entry in self.manifest.files.values())

    def of(self, number: int) -> PassageStates | None:
        """The states of a passage, None where it has none."""
        has = number < len(self) and self.windows[number] < self.windows[number + 1]
        return PassageStates(self, number) if has else None

    def decode(self, first: int, after: int) -> NDArray[np.float32]:
        """The states of the tokens from `first` to `after` (exclusive), float32[n, width]."""
        codes, scales = self.codes[first:after], self.scales[first:after]
        states = codes.astype(np.float32)
        states *= scales[:, :1]
        states[np.arange(len(codes)), codes.argmin(1)] = scales[:, 1]
        return states

    @classmethod
    def open(cls, path: Path) -> StateStore:
        """Open the states at `path`; they stay on disk until they are looked up.

        Raises:
            ArtifactError: there are none, or a newer release wrote them.
            DamagedArtifactError: a file is missing or inconsistent.
        """
        manifest = read_manifest(path, kind=KIND, format=FORMAT)
        try:
            names = ("passages", "windows", "tokens", "width")
            passages, count, tokens, width = (int(manifest.fields[name]) for name in names)
            str(manifest.fields["model"])
        except (KeyError, TypeError, ValueError) as err:
            problem = f"does not describe states ({type(err).__name__}: {err}); build the index again"
            raise DamagedArtifactError(str(path / "manifest.json"), problem) from err
        codes: NDArray[np.int8] = _mapped(path / "codes.bin", np.int8, tokens * width)
        scales: NDArray[np.float32] = _mapped(path / "scales.bin", np.float32, tokens * 2)
        starts = np.asarray(load_array(path / "tokens.npy", np.int64, (count + 1,)), np.int64)
        keys = np.asarray(load_array(path / "keys.npy", np.uint64, (count,)), np.uint64)
        windows = np.asarray(load_array(path / "windows.npy", np.int64, (passages + 1,)), np.int64)
        for name, array, last in (("tokens.npy", starts, tokens), ("windows.npy", windows, count)):
            if array[0] != 0 or array[-1] != last or bool((np.diff(array) < 0).any()):
                raise DamagedArtifactError(str(path / name), f"does not divide {last} of them; build the index again")
        return cls(manifest, codes.reshape(tokens, width), scales.reshape(tokens, 2), (starts, keys, windows))


class StateWriter:
    """Writes the states of a segment's passages, in the order of their numbers; used in a `with` block.

    Args:
        target: the directory to make.
        model: name and fingerprint of the model that makes them.
        width: numbers in a state.
    """

    def __init__(self, target: Path, model: str, width: int) -> None:
        self.model, self.width = model, width
        self._writing = writing(target, kind=KIND, format=FORMAT)
        self._tokens, self._windows = [0], [0]
        self._keys: list[int] = []

    def __enter__(self) -> Self:
        self._draft = self._writing.__enter__()
        self._codes = (self._draft.path / "codes.bin").open("wb")
        self._scales = (self._draft.path / "scales.bin").open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._codes.close()
        self._scales.close()
        if error is None:
            folder = self._draft.path
            np.save(folder / "tokens.npy", np.array(self._tokens, np.int64), allow_pickle=False)
            np.save(folder / "keys.npy", np.array(self._keys, np.uint64), allow_pickle=False)
            np.save(folder / "windows.npy", np.array(self._windows, np.int64), allow_pickle=False)
            counts = {"passages": len(self._windows) - 1, "windows": len(self._keys), "tokens": self._tokens[-1]}
            self._draft.fields |= {**counts, "width": self.width, "model": self.model}
        self._writing.__exit__(kind, error, trace)

    def add(self, windows: Iterable[tuple[Sequence[int], NDArray[np.float32]]]) -> None:
        """Add a passage: of each of its windows the word pieces, and their states, float32[len(ids), width]."""
        for ids, states in windows:
            n = len(ids)
            rows = Rows(
                np.zeros((n, self.width), np.int8), np.zeros(n, np.float32), np.zeros(n, np.float32),
                np.zeros(n, np.int32),
            )  # fmt: skip
            quantise(np.array(states, np.float32, order="C"), rows, 0)
            rows.numbers[np.arange(n), rows.places] = _LARGEST
            self._append(rows.numbers, np.stack([rows.scales, rows.largest], axis=1), [n], [key_of(ids)])
        self._windows.append(len(self._keys))

    def copy(self, store: StateStore | None, numbers: NDArray[np.int64]) -> None:
        """Add stored passages, bit for bit; without states where there is no store.

        Raises:
            ConfigError: the store is of another model.
        """
        if store is None:
            self._windows += [len(self._keys)] * len(numbers)
            return
        if (store.model, store.codes.shape[1]) != (self.model, self.width):
            raise ConfigError(
                f"the segments' states are of {store.model} and of {self.model}, and cannot be merged; build the index "
                "again"
            )
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else ():
            own = store.windows[run[0] : run[-1] + 2]
            low, high = int(own[0]), int(own[-1])
            tokens = store.tokens[low : high + 1]
            first, after = int(tokens[0]), int(tokens[-1])
            before = len(self._keys)
            self._append(
                store.codes[first:after], store.scales[first:after], np.diff(tokens).tolist(),
                store.keys[low:high].tolist(),
            )  # fmt: skip
            self._windows += (own[1:] - low + before).tolist()

    def _append(
        self, codes: NDArray[np.int8], scales: NDArray[np.float32], lengths: Sequence[int], keys: Sequence[int]
    ) -> None:
        self._codes.write(np.ascontiguousarray(codes).data)
        self._scales.write(np.ascontiguousarray(scales).data)
        for length in lengths:
            self._tokens.append(self._tokens[-1] + length)
        self._keys += keys


def _mapped(file: Path, dtype: type[Any], count: int) -> NDArray[Any]:
    """A file of bare numbers, mapped.

    Raises:
        DamagedArtifactError: it has another size.
    """
    held = map_file(file)
    if held.nbytes != count * np.dtype(dtype).itemsize:
        raise DamagedArtifactError(str(file), f"has {held.nbytes} bytes for {count} numbers; build the index again")
    return np.frombuffer(held, dtype) if count else np.zeros(0, dtype)
