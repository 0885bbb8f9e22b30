import gzip
import json
from importlib.resources import files

import pytest

from openferret.data.words.lexicon import load_lexicon
from openferret.errors import InputError

LEXICON = load_lexicon()


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        *[
            ("person", "man"),
            ("person", "young boy"),
            ("man", "people"),
            ("firefighter", "man"),
            ("boy", "man"),
        ],
        *[("vehicle", "car"), ("car", "vehicle"), ("car", "taxi"), ("animal", "brown dog"), ("mug", "cup")],
        *[
            ("couch", "sofa"),
            ("bike", "bicycle"),
            ("bicycle", "two bikes"),
            ("hot dog", "dog"),
            ("tv", "monitor"),
        ],
        *[
            ("woman", "guitar player"),
            ("girl", "child"),
            ("road", "street"),
            ("puppy", "dog"),
            ("dog", "dogs"),
        ],
        *[
            ("t-shirt", "red shirt"),
            ("truck", "pickup truck"),
            ("dining table", "table"),
            ("bird", "seagull"),
        ],
    ],
)
def test_what_might_be_the_same_thing_is_related(candidate, name):
    assert LEXICON.may_be(candidate, name)


@pytest.mark.parametrize(
    ("candidate", "name"),
    [("woman", "man"), ("girl", "boy"), ("cat", "dog"), ("car", "dog"), ("baby", "man"), ("piano", "guitar")],
)
def test_what_nobody_confuses_is_not(candidate, name):
    assert not LEXICON.may_be(candidate, name)
    assert not LEXICON.may_be(name, candidate)


def test_one_name_that_excludes_is_enough():
    assert LEXICON.is_absent("woman", [("man", "guitar player")])
    assert not LEXICON.is_absent("woman", [("man",), ("guitar player",)])
    assert not LEXICON.is_absent("woman", [("a group of people",)])


def test_analogies_are_never_what_is_there():
    for word in ["man", "dog", "car", "guitar", "shirt", "pizza", "street", "table"]:
        assert all(not LEXICON.may_be(other, word) for other in LEXICON.analogous(word))
    assert LEXICON.analogous("a brown dog")[0] == "cat"
    assert "woman" in LEXICON.analogous("man")


def test_the_table_that_ships_is_small_and_says_where_it_is_from():
    packed = (files("openferret.data.words") / "wordnet_relations.json.gz").read_bytes()
    assert len(packed) < 300_000
    table = json.loads(gzip.decompress(packed))
    assert "Princeton University" in table["source"]
    assert 2000 <= len(table["nouns"]) <= 3000
    assert all(noun["is"] in table["synsets"] for noun in table["nouns"].values())


def test_a_file_of_ones_own_is_checked(tmp_path):
    path = tmp_path / "alike.yaml"
    path.write_text("confusabel:\n  - a, b\n")
    with pytest.raises(InputError, match="did you mean 'confusable'"):
        load_lexicon(path)
    path.write_text("confusable: {a: b}\n")
    with pytest.raises(InputError, match="list of lines"):
        load_lexicon(path)
