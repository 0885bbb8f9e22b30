from pathlib import Path

import pytest
import yaml

from openferret.data.building.recipe import TaskRule, load_recipe, path_variables, recipe_names
from openferret.errors import InputError

SMALL = {"name": "mine", "sources": {"a": {"kind": "coco", "root": "${DATA}/coco"}}}


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        file = tmp_path / "recipe.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    return to_file


def with_source(**changes):
    return {**SMALL, "sources": {"a": {**SMALL["sources"]["a"], **changes}}}


def test_a_recipe_is_read_with_its_variables(write):
    recipe = load_recipe(write(SMALL), paths={"DATA": "/d"})
    assert recipe.sources[0].root == Path("/d/coco")
    assert (recipe.seed, recipe.bad_records, recipe.pictures) == (0, "skip", "path")
    stated = load_recipe(write({**SMALL, "variables": {"DATA": "/e"}}))
    assert stated.sources[0].root == Path("/e/coco")


def test_settings_of_the_command_line_win(write):
    settings = ["seed=7", "sources.a.tasks.object.cap=5", "leaks.near=2", "sources.a.root=here"]
    recipe = load_recipe(write(SMALL), settings)
    assert recipe.seed == 7
    assert recipe.sources[0].tasks == {"object": TaskRule(cap=5)}
    assert recipe.leaks.near == 2


def test_a_source_can_be_taken_out(write):
    content = with_source(root="r")
    content["sources"]["b"] = {"kind": "coco", "root": "${ELSEWHERE}"}
    recipe = load_recipe(write(content), ["sources.b=null"])
    assert [one.name for one in recipe.sources] == ["a"]


def test_its_digest_is_that_of_its_words_not_of_a_machine(write):
    first = load_recipe(write(SMALL), paths={"DATA": "/one"})
    assert load_recipe(write(SMALL), paths={"DATA": "/two"}).digest == first.digest
    assert load_recipe(write(SMALL), ["seed=1"], {"DATA": "/one"}).digest != first.digest


def test_tasks_as_a_list_as_weights_and_in_full(write):
    listed = load_recipe(write(with_source(root="r", tasks=["object", "phrase"])))
    assert listed.sources[0].tasks == {"object": TaskRule(), "phrase": TaskRule()}
    full = load_recipe(
        write(with_source(root="r", tasks={"object": 0.2, "phrase": {"weight": 3, "each": 2}}))
    )
    assert full.sources[0].tasks == {"object": TaskRule(0.2), "phrase": TaskRule(3.0, each=2)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**SMALL, "sede": 1}, "did you mean 'seed'"),
        (with_source(pictres="x"), "sources.a has no key 'pictres'; did you mean 'pictures'"),
        (with_source(tasks={"object": {"wieght": 1}}), "did you mean 'weight'"),
        (with_source(split={"holdout": True}), "did you mean 'held_out'"),
        ({**SMALL, "leaks": {"sets": {"pope": {"of": "coco"}}}}, "`names`, `pictures` or `hashes`"),
        ({**SMALL, "bad_records": "ignore"}, "one of skip, refuse"),
        ({**SMALL, "shard_size": 0}, "1 or more"),
        ({**SMALL, "seed": -1}, "seed"),
        (with_source(tasks={"object": 1000}), "between 0 and 100"),
        (with_source(root="r", tasks={"object": 0, "phrase": {"weight": 0}}), "nothing would be built"),
        (with_source(tasks={"object": {"cap": 1.5}}), "whole number"),
        ({"name": "x", "sources": {}}, "no sources"),
        ({"sources": SMALL["sources"]}, "name"),
        ({"name": "x", "sources": {"A B": {"kind": "coco", "root": "r"}}}, "not a source's name"),
        ({"name": "x", "sources": {"a": ["coco"]}}, "a mapping"),
        (with_source(root=3), "sources.a.root must be a path"),
        ("name: [", "line 1"),
        ("name: a\nname: b\n", "stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("- name", "a mapping"),
        ("name: !!python/object/apply:os.system [ls]", "not YAML that can be used"),
        ("[" * 5000, "not YAML that can be used"),
    ],
)
def test_what_cannot_be_used_is_said(write, content, said):
    with pytest.raises(InputError) as refused:
        load_recipe(write(content), paths={"DATA": "/d"})
    assert said in str(refused.value)


def test_a_variable_without_a_value(write):
    with pytest.raises(InputError, match="--path DATA=FOLDER"):
        load_recipe(write(SMALL))
    with pytest.raises(InputError, match="is not a setting"):
        path_variables(["DATA"])


@pytest.mark.parametrize("setting", ["seed", "=1", "a..b=1", "name.x=1", "seed=[", "seed=*a"])
def test_settings_that_are_none(write, setting):
    with pytest.raises(InputError):
        load_recipe(write(SMALL), [setting], {"DATA": "/d"})


def test_the_recipes_that_ship_can_be_read():
    assert recipe_names() == ["grit", "grit-mini"]
    names = (
        "DATA",
        "PICTURES",
        "VG",
        "COCO",
        "OBJECTS365",
        "REFCOCO",
        "FLICKR30K",
        "LLAVA",
        "ASSISTED",
        "EVAL",
    )
    for name in recipe_names():
        recipe = load_recipe(name, paths=dict.fromkeys(names, "/nowhere"))
        assert recipe.name == name
        assert recipe.leaks.sets
    with pytest.raises(InputError, match="grit-mini"):
        load_recipe("grit-max")
