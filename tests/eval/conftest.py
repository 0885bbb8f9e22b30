"""A scripted model, a scripted server, and small files of the published layouts."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openferret.answer import Answer, parse_answer
from openferret.eval.models import ModelCard
from openferret.eval.questions import Reply

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session")
def shared():
    """The genuine samples and parity figures that stand beside the repository in the project's own checks."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with genuine samples is not here")
    return SHARED


@dataclass
class FakeModel:
    """Answers by a function of the question; counts what it is asked and may be killed on the way."""

    say: object
    asked: list = field(default_factory=list)
    looked: int = 0
    dies_after: int | None = None

    def card(self):
        return ModelCard("fake", "test", "abc")

    def look(self, image):
        self.looked += 1
        return image

    def answer(self, view, questions):
        replies = []
        for question in questions:
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(question.id)
            said = self.say(question)
            replies.append(said if isinstance(said, Reply) else Reply(parse_answer(said, *view.size)))
        return replies


@pytest.fixture
def fake_model():
    return FakeModel


@pytest.fixture
def reply():
    """A reply as a model would write it, about a picture of 1000 x 1000."""

    def make(text, raw=False, scores=()):
        return Reply(parse_answer(text, 1000, 1000, scores=scores), text if raw else None)

    return make


@pytest.fixture
def picture():
    def write(path, size=(60, 40), seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


SENTENCES = {
    "7": "[/EN#1/people A child] in [/EN#2/clothing a pink dress] near [/EN#0/notvisual it] .\n"
    "[/EN#1/people A child] by [/EN#3/vehicles/scene a red car] .\n",
    "8": "[/EN#5/animals Two dogs] run .\n",
}
BOXES = {
    "7": {"1": [(20, 10, 60, 50), (100, 20, 160, 90)], "3": [(0, 0, 200, 100)]},
    "8": {"5": [(10, 10, 50, 90)]},
}


def annotation(boxes):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, several in boxes.items()
        for x1, y1, x2, y2 in several
    )
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


@pytest.fixture
def entities(tmp_path, picture):
    """Flickr30k Entities of two pictures, as keyword arguments of a task."""
    for name, text in SENTENCES.items():
        for folder, file, content in (
            ("Sentences", f"{name}.txt", text),
            ("Annotations", f"{name}.xml", annotation(BOXES[name])),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / file).write_text(content)
        picture(tmp_path / "images" / f"{name}.jpg", seed=int(name))
    (tmp_path / "split.txt").write_text("7\n8\n7\n")
    return {"root": tmp_path, "images": tmp_path / "images", "split_file": tmp_path / "split.txt"}


@pytest.fixture
def coco(tmp_path, picture):
    """COCO instances of three pictures and five classes."""
    classes = ["person", "dog", "car", "kite", "cup"]
    instances = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (2, 4), (3, 5)]
    content = {
        "images": [
            {"id": one, "file_name": f"{one:012d}.jpg", "width": 60, "height": 40} for one in (1, 2, 3)
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(classes)],
        "annotations": [
            {
                "id": index,
                "image_id": image,
                "category_id": kind,
                "bbox": [10, 5, 20, 20],
                "segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]],
                "iscrowd": 0,
            }
            for index, (image, kind) in enumerate(instances)
        ],
    }
    content["annotations"] += [
        {"id": 90, "image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": {}},
        {"id": 91, "image_id": 3, "category_id": 1, "bbox": [5, 5, 0, 9], "iscrowd": 0, "segmentation": []},
    ]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    for one in (1, 2, 3):
        picture(tmp_path / "images" / f"{one:012d}.jpg", seed=one)
    return {"images": tmp_path / "images", "annotations": file}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body), self.headers.get("Authorization")))
        said = self.server.script(len(self.server.requests) - 1, json.loads(body))
        if isinstance(said, int):
            self.send_response(said)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            return
        content = (
            said
            if isinstance(said, bytes)
            else json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """A server on loopback that says what a script tells it: text, bytes of a whole body, or a status."""

    @contextmanager
    def start(script):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.script, server.requests = script, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", server.requests
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return start


@pytest.fixture
def empty_answer():
    return Answer("", (), 10, 10)
