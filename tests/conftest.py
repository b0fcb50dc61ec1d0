"""What every test shares: no display, one thread, and none of the user's own settings."""

import os

os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"  # the tests run in two processes beside each other; kernels take it over

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def bare_environment(monkeypatch):
    """No BSS_* variable is set, whatever the shell that runs the tests has."""
    for name in [name for name in os.environ if name.startswith("BSS_")]:
        monkeypatch.delenv(name)
    return monkeypatch


LONGEST = "test_it_runs_offline"  # executes a notebook


def pytest_collection_modifyitems(items):
    """The notebooks come first: begun late, they would leave the other process without work."""
    items.sort(key=lambda item: LONGEST not in item.name)  # stable


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file is one process's, as its fixtures are shared; a notebook is whichever's is free."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if LONGEST in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)
