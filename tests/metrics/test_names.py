"""The metrics by name, as a notebook uses them."""

import subprocess
import sys

import pytest

import medloom.metrics


@pytest.mark.parametrize("name", sorted(medloom.metrics.METRICS))
def test_each_is_a_documented_function(name):
    function = getattr(medloom.metrics, name)
    # A module of the same name would take its place once it is loaded.
    assert getattr(medloom.metrics, name) is function
    assert callable(function) and function.__doc__ and function.__name__ == name and name in dir(medloom.metrics)


def test_naming_them_loads_nothing_else():
    code = "import sys, medloom.metrics; medloom.metrics.frechet_distance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="has no 'fid'"):
        medloom.metrics.fid  # noqa: B018
