import json
import re
from html.parser import HTMLParser

import pytest

from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.report import write_report
from openferret.eval.tasks import load


class Page(HTMLParser):
    """Every tag and address of a page; complains of nothing but unclosed tags."""

    VOID = frozenset({"meta", "br", "img", "rect", "line", "circle", "path", "polyline"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "xlink:href", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture
def run(entities, fake_model, tmp_path):
    def go(said, task="calibration", place="out", **options):
        benchmark = load(task, {**entities, **options})
        folder = tmp_path / place
        runner.run(benchmark, runner.plan(benchmark), lambda: fake_model(lambda _: said), folder)
        return folder

    return go


def test_the_page_stands_alone(run, reply, tmp_path):
    places = [
        run("a dog [0, 0, 999, 999]", "flickr30k-entities"),
        run(reply("a dog [0, 0, 999, 999]", scores=[0.8]), "calibration", "second"),
    ]
    page, text = write_report(places, tmp_path / "report")
    html = page.read_text()
    parsed = Page(html)
    assert parsed.open == []
    assert all(address.startswith(("data:image/jpeg;base64,", "#run")) for address in parsed.addresses)
    assert "script" not in parsed.tags
    assert not re.search(r"https?://", html)
    assert {"svg", "figure", "img", "circle"} <= set(parsed.tags)
    markdown = text.read_text()
    assert "| R@1, merged boxes | strict |" in markdown
    assert "published, Ferret-13B" in markdown


def test_a_models_words_are_text_and_nothing_else(run, tmp_path):
    evil = '<script>alert(1)</script> <img src=x onerror=alert(1)> | "quoted" [0, 0, 9, 9]'
    page, text = write_report([run(evil, "refer-caption")], tmp_path / "report")
    parsed = Page(page.read_text())
    assert "script" not in parsed.tags
    assert all(address.startswith(("data:", "#run")) for address in parsed.addresses)
    assert "<script>" not in text.read_text()


def test_only_verified_figures_are_printed(run, tmp_path):
    page, _ = write_report([run("a dog [0, 0, 9, 9]", "grounded-caption")], tmp_path / "report")
    html = page.read_text()
    assert "76.1" in html
    assert "15.02" not in html  # recalled, never verified


@pytest.mark.parametrize(
    "content", ["{}", "[]", "not json", '{"task": "x", "figures": [], "n": 1, "format": 99}']
)
def test_what_is_no_results_file_is_named(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        write_report([tmp_path], tmp_path / "report")


def test_a_results_file_with_other_content_is_an_error_of_one_line(tmp_path):
    content = {"task": "x", "figures": [{"name": 1}], "n": 1, "format": 1}
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not as `openferret eval` writes it"):
        write_report([tmp_path], tmp_path / "report")


def test_runs_of_one_task_are_told_apart_by_the_options_in_which_they_differ(run, tmp_path):
    places = [
        run("a dog [0, 0, 9, 9]", "absent", "few", each=1),
        run("a dog [0, 0, 9, 9]", "absent", "many", each=2),
        run("a dog [0, 0, 9, 9]", "calibration", "other"),
    ]
    page, text = write_report(places, tmp_path / "report")
    html, markdown = page.read_text(), text.read_text()
    for name in ("absent, each 1", "absent, each 2", "calibration"):
        assert f">{name}</a>" in html
        assert f">{name}: fake</h2>" in html
        assert f"## {name}: fake" in markdown
    assert markdown.count("seed 0, each ") == 2  # what both have stands with the facts


def test_a_run_tells_its_options_but_no_folder(run, entities):
    options = json.loads((run("a dog", "absent", seed=3) / "results.json").read_text())["options"]
    assert options == {"split_file": entities["split_file"].name, "seed": 3, "each": 4}


def test_results_without_options_are_shown_beside_newer_ones(run, tmp_path):
    places = [run("a dog", "absent", f"each {each}", each=each) for each in (1, 2, 3)]
    file = places[2] / "results.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "options"}))
    _, text = write_report(places, tmp_path / "report")
    titles = [line for line in text.read_text().splitlines() if line.startswith("## ")]
    assert titles == ["## absent, each 1: fake", "## absent, each 2: fake", "## absent: fake"]
