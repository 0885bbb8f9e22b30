import random
import re

import pytest

from openferret.data.templates.phrasings import SLOTS, fill, load_templates
from openferret.errors import InputError


def test_every_task_has_several_questions():
    templates = load_templates()
    assert set(templates.phrasings) == set(SLOTS)
    assert all(len(parts["ask"]) >= 5 for parts in templates.phrasings.values())


@pytest.mark.parametrize("task", sorted(SLOTS))
def test_every_phrasing_becomes_a_sentence(task):
    words = {}
    for required, optional in SLOTS[task].values():
        words |= {name: f"<{name}>" for one in required | optional for name in one.split("|")}
    for lines in load_templates().phrasings[task].values():
        for line in lines:
            filled = fill(line, **words)
            assert not re.search(r"[{}]|\s\s", filled)
            assert filled[0] == "<" or filled[0].isupper()
            assert len(set(lines)) == len(lines)


def test_each_sentence_begins_with_a_capital():
    assert fill("yes. {there_is} {grounded}.", there_is="there is", grounded="<phrase>a dog <box:0>") == (
        "Yes. There is <phrase>a dog <box:0>."
    )


def test_braces_in_a_sources_words_are_words():
    assert fill("{name}.", name="a {region} sign") == "A {region} sign."


def test_choices_are_named_and_can_avoid_a_slot():
    templates = load_templates()
    for seed in range(20):
        line, name = templates.choose("presence", "but", random.Random(seed), without="noun")
        assert "{noun}" not in line
        assert line == templates.phrasings["presence"]["but"][int(name.rsplit(".", 1)[1]) - 1]


def test_a_file_of_ones_own_replaces_the_tasks_it_has(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("object:\n  ask: ['Huh, {region}?']\n  answer: ['{name}!']\n")
    templates = load_templates(path)
    assert templates.phrasings["object"]["ask"] == ("Huh, {region}?",)
    assert templates.phrasings["phrase"] == load_templates().phrasings["phrase"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("objct: {}", "did you mean 'object'"),
        ("object: {asks: [a]}", "did you mean 'ask'"),
        ("object: {ask: ['What is {regoin}?'], answer: ['{name}']}", "did you mean {region}"),
        ("object: {ask: ['What?'], answer: ['{name}']}", "lacks {region}"),
        ("all_instances: {ask: ['All?'], answer: ['{grounded}'], none: ['{plural}'], but: ['x']}", "lacks"),
        ("object: {ask: ['{region}? <box:0>'], answer: ['{name}']}", "only written by words in braces"),
        ("object: {ask: ['{region'], answer: ['{name}']}", "lacks {region}"),
        ("object: {ask: ['{region}']}", "has no answer"),
        ("object: {ask: [{region}], answer: ['{name}']}", "must be text"),
        ("object: {ask: 'What is {region}?', answer: ['{name}']}", "list of phrasings"),
        ("object: []", "must be a mapping"),
        ("- a", "mapping"),
        ("object: *a", "line 1"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        load_templates(path)
    assert "mine.yaml" in str(error.value)
