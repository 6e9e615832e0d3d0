"""Public names load when they are asked for, and mean the same afterwards."""

import importlib
import pkgutil

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
