"""What a build or a writer reads: the corpus, as a recipe says, and the recipe with the artifacts named in the call."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from thresher.build.recipe import Recipe, best_recipe, load_recipe
from thresher.corpus.open import is_collection, open_corpus
from thresher.corpus.split import Splitter
from thresher.corpus.stream import RecordCorpus
from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thresher.corpus import Corpus
    from thresher.encode.preencoded import Encoding
    from thresher.records import Passage

    Source = str | Path | Corpus | Iterable[Passage]


_COMPRESSED = frozenset((".gz", ".zst", ".bz2", ".xz", ".parquet"))


def corpus_of(source: Source, recipe: Recipe, split_tokens: int = 0) -> Corpus | Iterable[Passage]:
    """The corpus that `source` names, read as the recipe says; passages given in memory are split as it says.

    Args:
        source: a file or data set, or passages.
        recipe: how to read it.
        split_tokens: where the recipe does not say, split documents of a file into passages of at most this many
            tokens, unless its docnos are known elsewhere.

    Raises:
        ConfigError: the recipe says how to read a corpus that was opened already.
    """
    keys = recipe.corpus.model_dump(exclude={"source"}, exclude_defaults=True)
    if isinstance(source, str | Path):
        if "split_tokens" not in keys and not recipe.names_docnos and not is_collection(source, recipe.corpus.format):
            keys["split_tokens"] = split_tokens or None
        return open_corpus(source, **keys)
    if not keys or keys == {"split_tokens": 0}:
        return source
    others = sorted(keys.keys() - {"split_tokens", "split_overlap"})
    if others or (isinstance(source, RecordCorpus) and not source.is_split):
        raise ConfigError(
            f"the recipe sets corpus.{(others or ['split_tokens'])[0]}, which only counts where a file is opened; give "
            "the corpus by its name, or pass the setting to open_corpus"
        )
    if isinstance(source, RecordCorpus):
        return source
    split = Splitter(recipe.corpus.split_tokens or 0, recipe.corpus.split_overlap)
    return (part for passage in source for part in split(passage))


def plain_bytes(path: Path) -> int:
    """Bytes of a corpus in one file that is not compressed; 0 of anything else."""
    try:
        found = path.stat() if path.suffix not in _COMPRESSED else None
    except (OSError, ValueError):  # the name of a data set, or of a pipe
        return 0
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0


def reading_bar(corpus: object, *, progress: bool) -> tqdm[None]:
    """A bar over passages while they are read; a folder of documents has its own, over files.

    Args:
        corpus: what is read.
        progress: show either.
    """
    folder = isinstance(corpus, RecordCorpus) and corpus.format == "files"
    if isinstance(corpus, RecordCorpus):
        corpus.progress = progress
    return tqdm(desc="reading", unit=" passages", disable=folder or not progress, mininterval=0.5, delay=1)


def expected_fields(corpus: object) -> Mapping[str, str] | None:
    """The types of metadata that a corpus of documents states, which values alone do not show."""
    return corpus.fields if isinstance(corpus, RecordCorpus) else None


def with_sources(
    recipe: Recipe | str | Path | None,
    encoded: Encoding | str | Path | None,
    decision: str | Path | None,
    vectors: str | Path | None,
) -> Recipe:
    """The recipe, with the artifacts that it is to use in place of those it names."""
    if recipe is None:
        recipe = Recipe() if encoded is not None else best_recipe()
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    named = encoded if encoded is None or isinstance(encoded, str | Path) else encoded.path
    return recipe.using(encoded=named, decision=decision, vectors=vectors)
