"""What a person is told when something is wrong.

Every message is one sentence or two: what was wrong, what was expected, what to do.
"""


class OpenFerretError(Exception):
    """Base of every error that OpenFerret raises on purpose."""


class InputError(OpenFerretError, ValueError):
    """A picture, region, phrase or option that cannot be used; the command exits with 2."""


class WeightsError(OpenFerretError, RuntimeError):
    """Model weights that are missing, damaged or of another kind; the command exits with 1."""
