"""The examples in the docstrings of every module are run."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import metrics

MODULES = ["metrics"] + [m.name for m in pkgutil.walk_packages(metrics.__path__, "metrics.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    module = import_module(name)
    assert doctest.testmod(module, extraglobs={"np": __import__("numpy")}).failed == 0
