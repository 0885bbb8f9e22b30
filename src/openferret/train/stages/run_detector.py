"""Runs a detector of COCO's classes over the train pictures (and dev), once: a teacher for what captions leave out.

    pip install opencv-python-headless
    python -m openferret.train.stages.run_detector --data DIR --graph frozen_inference_graph.pb \
        --config ssd_mobilenet_v2_coco_2018_03_29.pbtxt --out detected.jsonl

The detector is a TensorFlow SSD that OpenCV's `dnn` reads; neither it nor OpenCV is a part of this package, and nothing
of it is shipped. Every picture is seen upright and mirrored: what only one view shows counts half. Class numbers are
those of the categories in `instances_train2017.json`. Output: `openferret.train.stages.detected.read_detections`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openferret.errors import InputError
from openferret.eval.leaks import picture_id
from openferret.eval.metrics.boxes import intersection_over_union
from openferret.images import load_image
from openferret.train.stages.detected import Detection
from openferret.train.stages.states import plain_errors

INPUT_SIDE = 300
LEAST = 0.025
"""Boxes whose mean score is less are not written."""
_SMALLEST = 0.01  # side of a box, as a share of the picture's
_SAME = 0.5  # IoU from which both views are taken to show the same thing


@dataclass(frozen=True)
class Detector:
    """A network that OpenCV has read, and the names of its classes by number."""

    network: Any
    names: Mapping[int, str]

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        """What it sees on RGB pixels uint8 [h, w, 3], upright and mirrored."""
        mirrored = [
            Detection(one.name, one.score, (1 - one.box[2], one.box[1], 1 - one.box[0], one.box[3]))
            for one in self._look(np.ascontiguousarray(pixels[:, ::-1]))
        ]
        return merged_views(self._look(pixels), mirrored)

    def _look(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        import cv2

        self.network.setInput(cv2.dnn.blobFromImage(pixels, size=(INPUT_SIDE, INPUT_SIDE)))
        found = []
        for _, number, score, *sides in self.network.forward()[0, 0].tolist():
            x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in sides)
            if int(number) in self.names and x2 - x1 >= _SMALLEST and y2 - y1 >= _SMALLEST:
                found.append(Detection(self.names[int(number)], score, (x1, y1, x2, y2)))
        return found


def merged_views(upright: Sequence[Detection], mirrored: Sequence[Detection]) -> list[Detection]:
    """Two views of one picture as one: mean scores, boxes weighted by them; what one view lacks scores 0 there.

    Args:
        upright: as the picture is.
        mirrored: with their boxes turned back.

    Example:
        >>> box = (0.0, 0.0, 1.0, 1.0)
        >>> [one.score for one in merged_views([Detection("cat", 0.8, box)], [Detection("cat", 0.4, box)])]
        [0.6000000000000001]
    """
    left = sorted(mirrored, key=lambda one: -one.score)
    merged = []
    for one in sorted(upright, key=lambda one: -one.score):
        shared = [intersection_over_union(other.box, one.box) * (other.name == one.name) for other in left]
        if max(shared, default=0) < _SAME:
            merged.append(Detection(one.name, one.score / 2, one.box))
            continue
        other = left.pop(shared.index(max(shared)))
        total = max(one.score + other.score, 1e-9)
        x1, y1, x2, y2 = (
            (one.score * mine + other.score * its) / total
            for mine, its in zip(one.box, other.box, strict=True)
        )
        merged.append(Detection(one.name, (one.score + other.score) / 2, (x1, y1, x2, y2)))
    return merged + [Detection(one.name, one.score / 2, one.box) for one in left]


def open_detector(graph: Path, config: Path, annotations: Path) -> Detector:
    """Reads a detector.

    Args:
        graph: TensorFlow's frozen graph.
        config: its text graph, as OpenCV wants it.
        annotations: a COCO file, for the classes' names.

    Raises:
        InputError: OpenCV is not installed, or a file is missing or is not what it should be.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError("run_detector needs OpenCV: pip install opencv-python-headless") from error
    for path in (graph, config, annotations):
        if not path.is_file():
            raise InputError(f"{path} does not exist")
    try:
        network = cv2.dnn.readNetFromTensorflow(str(graph), str(config))
    except cv2.error as error:
        raise InputError(f"OpenCV cannot read {graph} with {config}: {error}") from error
    categories = json.loads(annotations.read_text(encoding="utf-8"))["categories"]
    return Detector(network, {int(one["id"]): str(one["name"]) for one in categories})


@plain_errors
def main() -> None:
    """Writes one line for each box, picture after picture; stopped and started again, it begins anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    detector = open_detector(options.graph, options.config, options.data / "instances_train2017.json")
    names = (options.data / "train.txt").read_text().split()
    partial = options.out.with_suffix(".partial")
    began = time.monotonic()
    with partial.open("w", encoding="utf-8") as file:
        for count, name in enumerate(names):
            pixels = np.asarray(load_image(options.data / "flickr30k-images" / f"{name}.jpg"))
            for one in detector(pixels):
                if one.score >= LEAST:
                    line = {
                        "picture": f"flickr30k:{picture_id(name)}",
                        "class": one.name,
                        "score": round(one.score, 3),
                        "box": [round(side, 4) for side in one.box],
                    }
                    file.write(json.dumps(line) + "\n")
            if count % 500 == 0:
                print({"pictures": count, "seconds": round(time.monotonic() - began)}, flush=True)
    partial.rename(options.out)


if __name__ == "__main__":
    main()
