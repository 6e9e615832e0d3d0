"""What every test may ask for: the research collections where they are, and how Hypothesis looks for counterexamples.

Hypothesis has two profiles. `commit`, the default, tries the same 50 examples at every run; `nightly` tries 1,000
random ones. THRESHER_PROFILE or HYPOTHESIS_PROFILE names the one to use, THRESHER_EXAMPLES sets another number.

THRESHER_WITHOUT_EXTRAS=1 skips a test that fails because an optional dependency is missing; otherwise it fails.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from thresher.errors import MissingExtraError

COMMON = {
    "deadline": None,  # the first example of a kernel compiles it
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "print_blob": True,
}
EXAMPLES = os.environ.get("THRESHER_EXAMPLES")
PROFILE = os.environ.get("THRESHER_PROFILE") or os.environ.get("HYPOTHESIS_PROFILE") or "commit"

settings.register_profile("commit", derandomize=True, max_examples=int(EXAMPLES or 50), **COMMON)
settings.register_profile("nightly", derandomize=False, max_examples=int(EXAMPLES or 1000), **COMMON)
settings.load_profile(PROFILE)

collect_ignore_glob = ["*/training/*"] if os.environ.get("THRESHER_WITHOUT_EXTRAS") else []  # imports torch


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Report a missing extra as a skipped test, where extras are left out on purpose."""
    report = yield
    if report.failed and call.excinfo and os.environ.get("THRESHER_WITHOUT_EXTRAS"):
        missing = missing_extra(call.excinfo.value)
        if missing:
            file, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (file, (line or 0) + 1, f"Skipped: {missing}")
    return report


def missing_extra(error: BaseException | None) -> MissingExtraError | None:
    """The missing extra that an error, or an error it was raised from, reports."""
    while error is not None and not isinstance(error, MissingExtraError):
        error = error.__cause__ or error.__context__
    return error


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of research collections that THRESHER_DATA names; the test is skipped where there is none."""
    value = os.environ.get("THRESHER_DATA")
    if not value:
        pytest.skip("THRESHER_DATA is not set: the research collections are not on this machine")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"THRESHER_DATA={value} is not a directory")
    return path
