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
