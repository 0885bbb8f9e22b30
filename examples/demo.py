"""Ask Kit about three photographs: a point, a box, a scribble and a grounding question each.

Prints what is asked and answered, and writes every answer drawn on its picture to a folder.

    python examples/demo.py [FOLDER]
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from openferret import Box, Ferret, Point, Scribble
from openferret.drawing import draw_answer

PICTURES = Path(__file__).parent / "pictures"


@dataclass(frozen=True)
class Tour:
    """What is asked about one picture: regions in its pixels, and phrases to find."""

    regions: Mapping[str, Point | Box | Scribble]
    phrases: tuple[str, ...]


TOURS = {
    "astronaut": Tour(
        regions={
            "point": Point(225, 90),
            "box": Box(278, 343, 500, 512),
            "scribble": Scribble([(60, 360), (150, 300), (330, 290), (250, 400), (130, 470)]),
        },
        phrases=("a woman", "an orange suit", "a flag", "a dog"),
    ),
    "chelsea": Tour(
        regions={
            "point": Point(172, 115),
            "box": Box(30, 0, 400, 300),
            "scribble": Scribble([(70, 150), (150, 60), (250, 60), (330, 100), (260, 200)]),
        },
        phrases=("a cat", "the eyes", "a bicycle"),
    ),
    "coffee": Tour(
        regions={
            "point": Point(285, 150),
            "box": Box(172, 17, 410, 308),
            "scribble": Scribble([(110, 210), (160, 310), (270, 360), (400, 330)]),
        },
        phrases=("a cup", "a spoon", "a wooden table", "a man"),
    ),
}


def main() -> None:
    """Answer every question of the tour."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
    folder.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    ferret = Ferret.load()
    print(f"{ferret.name} loaded in {perf_counter() - started:.1f} s")
    for name, tour in TOURS.items():
        scene = ferret.encode(PICTURES / f"{name}.jpg")
        print(f"\n{name}.jpg, {scene.width} x {scene.height}")
        asked = [(kind, f"What is this? ({kind})", [region]) for kind, region in tour.regions.items()]
        for kind, question, regions in [*asked, ("ground", f"Where is {', '.join(tour.phrases)}?", [])]:
            started = perf_counter()
            answer = scene.refer(regions[0]) if regions else scene.ground(list(tour.phrases))
            seconds = perf_counter() - started
            drawing = folder / f"{name}-{kind}.png"
            draw_answer(scene.image, answer, regions, title=question).save(drawing)
            print(f"  {question}\n    {answer.text}  [{seconds:.1f} s, {drawing}]")
            for mention in answer.mentions:
                for box in mention.boxes:
                    corners = ", ".join(f"{value:.0f}" for value in box.pixels)
                    score = "" if box.score is None else f", score {box.score:.2f}"
                    print(f"      {mention.phrase}: {corners}{score}")
    print("\nPoint at pictures of your own: `.venv/bin/openferret serve`, then open http://127.0.0.1:8000")


if __name__ == "__main__":
    main()
