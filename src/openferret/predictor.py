"""What a user holds: `Ferret.load().encode(image)` gives a scene that is asked by pointing and in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch

from openferret.answer import Answer
from openferret.generation.prefix import encode_prefix
from openferret.images import load_image
from openferret.loading import LoadedModel, load_model
from openferret.processing.preparing import Picture
from openferret.regions import Region
from openferret.scene import Chat, Scene

__all__ = ["Chat", "Ferret", "Scene"]


class Ferret:
    """A model with its processor, ready to be asked.

    Args:
        loaded: the model and its processor.

    Example:
        >>> from openferret import Box, Ferret
        >>> ferret = Ferret.load()  # doctest: +SKIP
        >>> print(ferret.refer("dog.jpg", Box(10, 20, 200, 220)))  # doctest: +SKIP
        a brown dog
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    @property
    def name(self) -> str:
        """Of the model, as answers give it."""
        return self.loaded.name

    @classmethod
    def load(
        cls,
        model: str | Path = "kit",
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        seed: int = 0,
        engine: str | None = None,
    ) -> Ferret:
        """Opens a model.

        Args:
            model: "kit", which is fetched and put together the first time, or a model folder.
            device: "cpu", "cuda", "cuda:1", "mps", ...
            dtype: of the weights; None for float32 on a CPU and bfloat16 elsewhere.
            seed: of the points drawn in regions: the same seed gives the same answers.
            engine: "fast" (4- or 8-bit weights, on a CPU), "reference" (transformers), or "auto": fast where it
                can be had and no dtype is given. None: what OPENFERRET_ENGINE says, else "auto".

        Raises:
            InputError: a device or an engine that this machine does not have, or a seed or dtype that is none.
            WeightsError: weights that are missing, damaged or of another kind.
        """
        return cls(load_model(model, device, dtype, seed, engine))

    def encode(self, image: Picture) -> Scene:
        """Reads a picture once, so that it can be asked many times.

        Args:
            image: path, bytes of a file, PIL picture or array.

        Raises:
            InputError: not a picture, or one that cannot be used.
        """
        started = perf_counter()
        upright = load_image(image)
        prefix = encode_prefix(self.loaded.model, self.loaded.processor, upright)
        return Scene(self.loaded, upright, prefix, perf_counter() - started)

    def refer(self, image: Picture, region: Region, question: str | None = None, **length: int) -> Answer:
        """`Scene.refer` of a picture that is asked once."""
        return self.encode(image).refer(region, question, **length)

    def ground(
        self,
        image: Picture,
        phrases: str | Sequence[str],
        merge: bool = False,
        threshold: float | None = None,
        **length: int,
    ) -> Answer:
        """`Scene.ground` of a picture that is asked once."""
        return self.encode(image).ground(phrases, merge, threshold, **length)

    def describe(self, image: Picture, drafts: int = 1, **length: int) -> Answer:
        """`Scene.describe` of a picture that is asked once."""
        return self.encode(image).describe(drafts=drafts, **length)

    def detect(self, image: Picture, threshold: float | None = None, **length: int) -> Answer:
        """`Scene.detect` of a picture that is asked once."""
        return self.encode(image).detect(threshold, **length)

    def ask(self, image: Picture, question: str, regions: Sequence[Region] = (), **length: int) -> Answer:
        """`Scene.ask` of a picture that is asked once."""
        return self.encode(image).ask(question, regions, **length)
