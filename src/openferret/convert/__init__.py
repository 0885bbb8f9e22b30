"""Checkpoints of the reference implementation: read, converted to this package's layout, and written back."""

from openferret.convert.apple import convert_apple
from openferret.convert.back import convert_to_apple
from openferret.convert.release import Sources

__all__ = ["Sources", "convert_apple", "convert_to_apple"]
