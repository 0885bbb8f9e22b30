"""A built data set, opened: its samples in order, and its pictures wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from openferret.data.building.manifest import read_manifest
from openferret.data.files.regular import is_regular
from openferret.data.schema import PictureReference, Sample
from openferret.data.sources.reading import inside
from openferret.data.storage.parquet import read_picture_references, read_samples
from openferret.data.storage.pictures import PictureShards
from openferret.errors import InputError
from openferret.images import load_image


@dataclass(frozen=True)
class Dataset:
    """What `openferret data build` has written.

    Args:
        place: its folder.
        manifest: its manifest.
    """

    place: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, place: str | Path) -> Dataset:
        """Opens a folder.

        Raises:
            InputError: it holds no finished data set.
        """
        return cls(Path(place), read_manifest(Path(place)))

    @property
    def shards(self) -> list[Path]:
        """The files of samples, in order."""
        return [self.place / str(shard["file"]) for shard in self.manifest["shards"]]

    def samples(self) -> Iterator[Sample]:
        """All samples in order.

        Raises:
            InputError: a file is missing or damaged.
        """
        for shard in self.shards:
            yield from read_samples(shard)

    def pictures(self) -> Iterator[PictureReference]:
        """Every picture of the samples once, by its first sample; the samples themselves are not read.

        Raises:
            InputError: a file is missing or damaged.
        """
        seen: set[str] = set()
        for shard in self.shards:
            for picture in read_picture_references(shard):
                if picture.file not in seen:
                    seen.add(picture.file)
                    yield picture

    def picture_path(self, picture: PictureReference) -> Path:
        """Where a picture lies that is kept by path: the folder of its source is in the manifest.

        Raises:
            InputError: its source is not in the manifest, or its name leads out of the folder.
        """
        source, _, name = picture.file.partition("/")
        entry = self.manifest["sources"].get(source)
        path = None if entry is None else inside(Path(entry["pictures"]), name)
        if path is None:
            raise InputError(f"{picture.file} is not a picture of this data set's sources")
        return path

    def has_picture(self, picture: PictureReference) -> bool:
        """Whether a picture is where it should be; it is not decoded.

        Raises:
            InputError: it is kept by path, and its name is none of this data set's.
        """
        if not self.manifest["picture_files"]:
            return is_regular(self.picture_path(picture))
        try:
            return bool(self._packed.read(picture.file))
        except InputError:
            return False

    def load_picture(self, picture: PictureReference) -> Image.Image:
        """A picture, upright RGB, from its tar shard or its place.

        Raises:
            InputError: it is missing or damaged.
        """
        if self.manifest["picture_files"]:
            return load_image(self._packed.read(picture.file))
        return load_image(self.picture_path(picture))

    @cached_property
    def _packed(self) -> PictureShards:
        return PictureShards(self.place)
