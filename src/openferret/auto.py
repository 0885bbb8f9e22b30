"""Ferret for transformers' Auto classes: importing this is all that `AutoProcessor` and `AutoModel...` need.

Example:
    >>> import openferret.auto
    >>> from transformers import AutoModelForImageTextToText, AutoProcessor
    >>> AutoProcessor.from_pretrained("FOLDER")  # doctest: +SKIP
"""

from transformers import AutoProcessor

from openferret.model.configuration import FerretConfig
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.processing.processor import FerretProcessor

__all__ = ["FerretConfig", "FerretForConditionalGeneration", "FerretProcessor"]

AutoProcessor.register(FerretConfig, FerretProcessor, exist_ok=True)
