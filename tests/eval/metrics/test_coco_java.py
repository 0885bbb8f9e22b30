"""Against a stand-in for Java that speaks as the three programs do; one slow test runs the real ones."""

import math
import shutil
import sys
from importlib.util import find_spec

import pytest

from openferret.errors import InputError
from openferret.eval.metrics import coco_java
from openferret.eval.metrics.coco_java import CocoJava, find_coco_java
from openferret.eval.tasks import load

JAVA = """#!{python}
import json, sys
words = sys.argv[1:]
lines = sys.stdin.read().split("\\n")[:-1]
if "fail" in open("mode").read():
    sys.exit("first line\\nout of memory")
if "short" in open("mode").read():
    lines = lines[:-1]
if "-lowerCase" in words:
    print("\\n".join(line.lower().replace(".", " .") for line in lines))
elif "-stdio" in words:
    for line in lines:
        kind, *rest = line.split(" ||| ")
        if kind == "SCORE":
            print(len(set(rest[-1].split()) & set(" ".join(rest[:-1]).split())), len(rest[-1].split()))
        else:
            pairs = [[float(n) for n in one.split()] for one in rest]
            print("\\n".join(str(a / b if b else 0.0) for a, b in pairs))
            print(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
else:
    items = json.load(open(words[words.index("spice-1.0.jar") + 1]))
    scores = [dict(image_id=one["image_id"], scores=dict(All=dict(f=None if not one["test"] else 0.5)))
              for one in items]
    json.dump(scores[::-1], open(words[words.index("-out") + 1], "w"))
"""


@pytest.fixture
def tools(tmp_path):
    folder, java = tmp_path / "pycocoevalcap", tmp_path / "java"
    for part in ("tokenizer", "meteor", "spice/lib"):
        (folder / part).mkdir(parents=True)
        (folder / part.partition("/")[0] / "mode").write_text("")
    (folder / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").touch()
    java.write_text(JAVA.format(python=sys.executable))
    java.chmod(0o755)
    return CocoJava(str(java), folder)


def test_lines_stay_with_their_captions(tools):
    said = tools.tokenize(["A dog\nruns .", "", "Two\u2028dogs."])
    assert said == [["a", "dog", "runs"], [], ["two", "dogs"]]


def test_meteor_of_all_is_not_the_mean(tools):
    references = [[["a", "dog"]], [["a", "cat"], ["two", "cats"]]]
    together, each = tools.meteor([["a", "dog"], ["two", "cats", "run", "now"]], references)
    assert each == [1.0, 0.5]
    assert together == pytest.approx(4 / 6)


def test_spice_keeps_the_order_and_knows_of_nothing(tools):
    first, second = tools.spice([["a"], []], [[["a"]], [["b"]]])
    assert first == 0.5
    assert math.isnan(second)


@pytest.mark.parametrize(("mode", "said"), [("fail", "out of memory"), ("short", "gave")])
def test_a_java_that_fails_is_one_line(tools, mode, said):
    (tools.folder / "tokenizer" / "mode").write_text(mode)
    with pytest.raises(InputError, match=said) as error:
        tools.tokenize(["a", "b", "c"])
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(tools, monkeypatch):
    (tools.folder / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").unlink()
    with pytest.raises(InputError, match="CoreNLP"):
        tools.spice([["a"]], [[["a"]]])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="no `java`"):
        find_coco_java()
    monkeypatch.setattr(shutil, "which", lambda _: "java")
    monkeypatch.setattr(coco_java, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install pycocoevalcap"):
        find_coco_java()


@pytest.mark.parametrize("parser", [True, False])
def test_a_captions_score_with_java(tools, monkeypatch, entities, reply, parser):
    if not parser:
        (tools.folder / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").unlink()
    monkeypatch.setattr("openferret.eval.tasks.grounded_caption.find_coco_java", lambda: tools)
    benchmark = load("grounded-caption", {**entities, "java": True})
    score = benchmark.score(benchmark.questions, {one.id: reply("a child") for one in benchmark.questions})
    figures = {one.name: one for one in score.figures}
    meteor = figures["METEOR (1.5)"].estimate
    assert meteor.value == pytest.approx(0.5)
    assert meteor.low <= meteor.value <= meteor.high
    assert ("SPICE" in figures) == parser
    assert any("SPICE is not given" in note for note in score.notes) != parser


@pytest.mark.slow
def test_the_real_tools_agree_with_their_own_package():
    if not shutil.which("java") or not find_spec("pycocoevalcap"):
        pytest.skip("no Java, or no pycocoevalcap")
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = ["A man's T-shirt, blue.", "Two dogs run fast (very)!", "It is 3:30 -- late..."]
    real = find_coco_java()
    tokens = real.tokenize(captions)
    theirs = PTBTokenizer().tokenize({index: [{"caption": one}] for index, one in enumerate(captions)})
    assert [" ".join(one) for one in tokens] == [theirs[index][0] for index in range(len(captions))]
    references = [[tokens[1], tokens[0]], [tokens[2]], [tokens[2], ["late"]]]
    together, each = real.meteor(tokens, references)
    expected = Meteor().compute_score(
        {index: [" ".join(one) for one in several] for index, several in enumerate(references)},
        {index: [" ".join(one)] for index, one in enumerate(tokens)},
    )
    assert (together, each) == pytest.approx(expected)
