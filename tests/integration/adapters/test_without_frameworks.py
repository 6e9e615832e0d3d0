"""Without the framework, importing an adapter says which extra installs it."""

import subprocess
import sys

import pytest

ADAPTERS = {
    "dspy": ("dspy", "dspy"),
    "haystack": ("haystack", "haystack"),
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index", "llama-index"),
    "pyterrier": ("pyterrier", "pyterrier"),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_importing_an_adapter_without_its_framework_names_the_extra(adapter):
    package, extra = ADAPTERS[adapter]
    script = f"import sys; sys.modules[{package!r}] = None; import thresher.integrations.{adapter}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    (last,) = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 1
    assert last.startswith("thresher.errors.MissingExtraError: the ")
    assert f"pip install 'thresher[{extra}]'" in last
