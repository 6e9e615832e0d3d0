"""Public names load when they are asked for, and mean the same afterwards."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import thresher

PACKAGES = [
    name
    for name in ("thresher", *(f"thresher.{one.name}" for one in pkgutil.iter_modules(thresher.__path__) if one.ispkg))
    if hasattr(importlib.import_module(name), "_HOMES")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_is_what_its_home_defines(package):
    module = importlib.import_module(package)
    for name, home in module._HOMES.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"{package}.{home}"), name)
    assert set(module._HOMES) <= set(module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_that_of_a_submodule(package):
    module = importlib.import_module(package)
    assert set(module._HOMES).isdisjoint(one.name for one in pkgutil.iter_modules(module.__path__))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'thresher\.search' has no attribute 'Sercher'"):
        importlib.import_module("thresher.search").Sercher  # noqa: B018


READ_ONLY = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
import numba
import numpy as np
from thresher.search.kernels.processor import search_row
from thresher.vectors.kernels import best_dots
best = best_dots(np.ones((2, 2), np.float32), np.ones(2, np.float32), np.array([0, 2]))
print(best[0], numba.config.CACHE_DIR)
"""
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@pytest.mark.parametrize("folder", ["temporary", "nowhere"])
def test_kernels_run_where_neither_the_installation_nor_a_home_can_be_written(tmp_path, folder):
    private = ["unshare", "-m", "true"]
    if not shutil.which("unshare") or subprocess.run(private, capture_output=True, check=False).returncode:
        pytest.skip("a private mount namespace is not permitted here")
    package, temporary = tmp_path / "installed" / "thresher", tmp_path / "temporary"
    shutil.copytree(Path(thresher.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    temporary.mkdir()
    settings = {**os.environ, "PYTHONPATH": str(package.parent), "HOME": "/proc", "XDG_CACHE_HOME": "/proc"}
    settings.pop("NUMBA_CACHE_DIR", None)
    python = [sys.executable, "-B", "-c", READ_ONLY, str(tmp_path / folder)]
    command = ["unshare", "-m", "sh", "-c", MOUNT, str(package.parent), *python]
    run = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, cwd="/")
    assert run.returncode == 0, run.stderr
    best, _, kept = run.stdout.strip().partition(" ")
    assert best == "2.0"
    own = temporary / f"thresher-{os.getuid()}"
    assert kept == (str(own) if folder == "temporary" else "")
    assert own.is_dir() == (folder == "temporary")
