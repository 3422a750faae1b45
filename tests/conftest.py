"""Small, repeatable and quick: the same examples each time, on one thread."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("book", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("book")


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Let wrong shapes and types through to our own error messages, as for any reader."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
