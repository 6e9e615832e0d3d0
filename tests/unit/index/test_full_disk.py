"""A full disk is an error of the system that names it, never a signal: on a small file system of the test's own."""

import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import errno, os, subprocess, sys
from pathlib import Path
import numpy as np
from thresher.mapping import reserve
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.index import arrays
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.vectors import VectorStore, codecs

disk = Path(sys.argv[1])
words = np.random.default_rng(0).integers(0, 400, (1500, 12))
passages = [Passage(f"d{i}", " ".join(f"w{w}" for w in row)) for i, row in enumerate(words.tolist())]
vectors = np.random.default_rng(0).normal(size=(1500, 32)).astype(np.float32)
recipe = Recipe(prune=PruneStep(estimator="length", keep=0.5))


def full(size, make):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)], check=True)
    try:
        make()
    except OSError as err:
        assert err.errno == errno.ENOSPC, err
        assert "o space left" in str(err) and str(disk) in str(err), str(err)
        assert not [file for file in disk.iterdir() if not file.name.startswith(".")], "something was left"
        return True
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return False


for make in (
    lambda: arrays.create_array(disk / ".x", np.uint16, (100_000,)).fill(1),
    lambda: codecs.create_array(disk / ".x", np.float16, (1000, 100)).fill(1),
    lambda: reserve(disk / ".x", 200_000),
):
    assert full(100, make)
    assert not full(400, make)
posix_fallocate = os.posix_fallocate
del os.posix_fallocate
assert full(100, lambda: reserve(disk / ".x", 200_000))
os.posix_fallocate = posix_fallocate
for make in (
    lambda: build_index(disk / "x", passages, recipe),
    lambda: VectorStore.build(disk / "x", [vectors], storage="float16", sketch=8),
):
    failed = [full(size, make) for size in (60, 120, 180, 240, 300, 400, 500, 700, 4000)]
    assert failed.count(True) > 3 and not failed[-1], failed
print("done")
"""


def test_a_disk_that_fills_up_is_an_error_at_every_size(tmp_path):
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a private mount namespace is not permitted here")
    command = ["unshare", "-m", sys.executable, "-c", SCRIPT, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, (run.returncode, run.stderr[-2000:])
    assert run.stdout == "done\n"
