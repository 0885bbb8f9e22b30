"""A command whose model is a fake that remembers what it was asked."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from openferret.answer import Answer, LocatedBox, Mention
from openferret.cli import session
from openferret.cli.main import app
from openferret.regions import Box


@dataclass
class FakeFerret:
    """Stands for Ferret, Scene and Chat at once; every call is kept in `calls`."""

    calls: list[tuple] = field(default_factory=list)
    loads: list = field(default_factory=list)
    size: tuple[int, int] = (60, 40)
    fails: Exception | None = None

    def load(self, settings):
        self.loads.append(settings)
        if self.fails:
            raise self.fails
        return self

    def encode(self, image):
        self.size = image.size
        self.calls.append(("encode", image.size))
        return self

    def chat(self):
        return self

    def answer(self, *phrases, boxes=1):
        text, mentions = "", []
        for phrase in phrases:
            start = len(text)
            text += phrase + " "
            located = tuple(LocatedBox.of(Box(1, 2, 30, 20), *self.size, 0.75) for _ in range(boxes))
            mentions.append(
                Mention(phrase, (start, start + len(phrase)), located if "unicorn" not in phrase else ())
            )
        return Answer(text.strip(), tuple(mentions), *self.size, "fake", {"total": 0.5})

    def refer(self, region, question=None, **options):
        self.calls.append(("refer", region, question, options))
        return self.answer(f"a {type(region).__name__.lower()}")

    def ground(self, phrases, **options):
        self.calls.append(("ground", phrases, options))
        return self.answer(*phrases)

    def describe(self, **options):
        self.calls.append(("describe", options))
        return self.answer("a man", "a bike")

    def detect(self, **options):
        self.calls.append(("detect", options))
        return self.answer("a man", "a bike")

    def ask(self, question, regions=(), **options):
        self.calls.append(("ask", question, list(regions), options))
        return self.answer("yes")

    def say(self, text, regions=(), **options):
        self.calls.append(("say", text, list(regions), options))
        return self.answer("a cat")


@pytest.fixture
def ferret(monkeypatch):
    fake = FakeFerret()
    monkeypatch.setattr(session, "load_model", fake.load)
    return fake


@pytest.fixture
def run(ferret):
    """Run the command; the model is the fake `ferret`."""

    def invoke(*words, typed=None):
        result = CliRunner().invoke(app, [str(word) for word in words], input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def refuse(run, ferret):
    """Run the command and expect one line of error and exit status 2, before a model is loaded."""

    def invoke(*words, typed=None):
        result = run(*words, typed=typed)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert ferret.loads == []
        return result.stderr

    return invoke


@pytest.fixture
def photo(tmp_path):
    """Write a picture of 60 x 40 pixels, or of another size, and give its path."""

    def write(name="cat.png", size=(60, 40)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)
        return path

    return write
