"""How a file must be refused."""

import contextlib
import re

import pytest

from helpers.runtime import UserError


@contextlib.contextmanager
def refused(path, *words):
    """The block raises a UserError of one line that names `path`, holds `words`, and ends in a remedy."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message
    assert re.search(r": (train|check|give|delete|update|get|free|choose|change) ", message)
