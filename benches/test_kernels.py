"""Every selected case, checked and then timed. Run with `pytest --benchmark-only`; options: `pytest --help`."""

from gradrace.testing import test_kernel

__all__ = ["test_kernel"]
