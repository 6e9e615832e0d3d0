"""Errors say what, where and how to mend it, and survive a process pool."""

import pickle
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

import thresher
from thresher import errors
from thresher.errors import DamagedArtifactError, InputError, MissingExtraError, ThresherError, require


def test_messages_name_the_place():
    assert str(InputError("weight is -1", "corpus.jsonl", 7)) == "corpus.jsonl:7: weight is -1"
    assert str(InputError("weight is -1", "corpus.jsonl")) == "corpus.jsonl: weight is -1"
    assert str(InputError("weight is -1")) == "weight is -1"
    assert str(DamagedArtifactError("a/b.bin", "cut short")) == "a/b.bin: cut short"


@pytest.mark.parametrize(
    "error", [InputError("m", "s", 3), DamagedArtifactError("f", "p"), errors.ConfigError("c"), MissingExtraError("x")]
)
def test_errors_cross_process_boundaries(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (what multiprocessing does)
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_every_error_is_a_thresher_error():
    for name in errors.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(errors, name), ThresherError)


def test_a_missing_module_names_its_extra():
    with pytest.raises(MissingExtraError, match=r"pip install 'thresher\[models\]'"):
        require("no_such_module_anywhere", extra="models", purpose="encoding")
    with pytest.raises(MissingExtraError):
        require("json.no_such_submodule", extra="models", purpose="encoding")


def test_a_broken_module_keeps_its_own_traceback(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import something_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs") as caught:
        require("broken_module", extra="models", purpose="encoding")
    assert not isinstance(caught.value, MissingExtraError)


def test_every_extra_the_source_names_is_declared():
    declared = set(metadata("thresher").get_all("Provides-Extra"))
    named = set()
    for file in Path(thresher.__file__).parent.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        named |= set(re.findall(r'require\([^)]*extra="([a-z-]+)"', source)) | set(
            re.findall(r"thresher\[([a-z-]+)\]", source)
        )
    assert named <= declared
