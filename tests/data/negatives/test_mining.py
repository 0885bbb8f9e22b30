import random

import pytest

from openferret.data.negatives.mining import (
    Absent,
    TableAnalogies,
    absent_analogies,
    absent_category,
    changed_attributes,
)
from openferret.data.records import (
    AnnotatedObject,
    Caption,
    Category,
    Phrase,
    Record,
    RegionDescription,
    Vocabulary,
)
from openferret.data.schema import PictureReference
from openferret.data.templates.writers import make_settings, write_record
from openferret.data.things import Things
from openferret.data.words.lexicon import load_lexicon
from openferret.regions import Box

LEXICON = load_lexicon()
PICTURE = PictureReference("1.jpg", 640, 480, "mine", "1")
BOX = Box(10, 10, 60, 90)
NAMES = ("person", "man", "woman", "dog", "cat", "car", "vehicle", "chair", "cup", "mug", "banana", "piano")
LOOKED_FOR = Vocabulary(tuple(Category(n, name) for n, name in enumerate(NAMES)), exhaustive=True)


def thing(name, x=10.0, attributes=(), crowd=False):
    return AnnotatedObject(f"{name}{x}", Box(x, 10, x + 50, 90), (name,), attributes, is_crowd=crowd)


def caption(text, *phrases):
    found = []
    for number, (words, *boxes) in enumerate(phrases):
        start = text.index(words)
        found.append(Phrase(words, (start, start + len(words)), tuple(boxes), "", str(number + 1)))
    return Caption(text, tuple(found))


def test_what_is_there_without_a_box_that_can_be_used_is_not_absent():
    record = Record(PICTURE, objects=(thing("cat"),), vocabulary=LOOKED_FOR, not_exhaustive=("dog",))
    names = {one.name for one in absents(record)}
    assert "dog" not in names
    assert "piano" in names


def absents(record, tries=80):
    return {one for n in range(tries) if (one := absent_category(Things(record, LEXICON), random.Random(n)))}


def analogies(record, tries=40):
    table = TableAnalogies(LEXICON)
    return {
        one
        for n in range(tries)
        for one in absent_analogies(Things(record, LEXICON), table, random.Random(n))
    }


def test_a_person_is_not_absent_where_a_man_is():
    record = Record(PICTURE, objects=(thing("man"), thing("mug")), vocabulary=LOOKED_FOR)
    assert {one.name for one in absents(record)} == {
        "woman",
        "dog",
        "cat",
        "car",
        "vehicle",
        "chair",
        "banana",
        "piano",
    }


def test_captions_veto_too():
    record = Record(
        PICTURE, objects=(thing("dog"),), captions=(Caption("A dog sits in a taxi."),), vocabulary=LOOKED_FOR
    )
    names = {one.name for one in absents(record)}
    assert not names & {"car", "vehicle", "dog"}
    assert "cat" in names


def test_crowds_veto_and_are_not_offered_instead():
    record = Record(PICTURE, objects=(thing("person", crowd=True), thing("dog")), vocabulary=LOOKED_FOR)
    found = absents(record)
    assert not {one.name for one in found} & {"person", "man", "woman"}
    assert {one.instead[0] for one in found if one.instead} == {"dog"}


def test_only_what_a_source_is_sure_of_is_absent():
    """LVIS: a category is absent where its negative list says so, and nowhere else."""
    federated = Vocabulary(LOOKED_FOR.categories, exhaustive=False)
    record = Record(
        PICTURE,
        objects=(thing("dog"),),
        vocabulary=federated,
        absent=("piano", "puppy"),
        not_exhaustive=("dog",),
    )
    assert {one.name for one in absents(record)} == {"piano"}
    assert absents(Record(PICTURE, objects=(thing("dog"),), vocabulary=federated)) == set()


def test_what_is_like_it_is_offered_instead():
    record = Record(PICTURE, objects=(thing("dog"),), vocabulary=LOOKED_FOR)
    assert Absent("cat", "category", ("dog", (Box(10, 10, 60, 90),))) in absents(record)


MAN, SHIRT, DOGS = Box(0, 0, 90, 200), Box(10, 50, 80, 120), (Box(200, 0, 250, 50), Box(300, 0, 350, 50))


def test_entities_attributes_and_quantities_are_changed():
    record = Record(
        PICTURE,
        captions=(
            caption(
                "A man in a blue shirt walks two dogs .",
                ("A man", MAN),
                ("a blue shirt", SHIRT),
                ("two dogs", *DOGS),
            ),
        ),
    )
    found = {(one.name, one.kind) for one in analogies(record)}
    assert {("woman", "entity"), ("yellow shirt", "attribute"), ("three dogs", "quantity")} <= found
    assert not {("black shirt", "attribute"), ("puppies", "entity"), ("boy", "entity")} & found


@pytest.mark.parametrize(
    ("text", "phrases", "never"),
    [
        ("A man and his wife .", (("A man", MAN), ("his wife",)), "woman"),
        ("A man before a crowd .", (("A man", MAN), ("a crowd",)), "woman"),
        ("A red car by a car .", (("A red car", MAN), ("a car", SHIRT)), "blue car"),
        ("Two dogs chase a dog .", (("Two dogs", *DOGS), ("a dog", MAN)), "three dogs"),
        ("Two dogs run .", (("Two dogs", MAN),), "three dogs"),
        ("A dog looks at cats .", (("A dog", MAN),), "cat"),
    ],
)
def test_doubt_vetoes(text, phrases, never):
    assert never not in {one.name for one in analogies(Record(PICTURE, captions=(caption(text, *phrases),)))}


def test_only_attributes_of_the_thing_itself_are_changed():
    assert changed_attributes("young boy pedals", LEXICON) == []
    assert ("young", "old", "old black dog") in changed_attributes("young black dog", LEXICON)


def test_objects_change_their_colour_if_they_are_alone():
    red, other = thing("bench", attributes=("red",)), thing("bench", 100.0)
    found = analogies(Record(PICTURE, objects=(red,)))
    assert {one.kind for one in found} == {"attribute"}
    assert all(one.instead == ("red bench", (red.box,)) and one.name != "orange bench" for one in found)
    assert analogies(Record(PICTURE, objects=(red, other))) == set()


def test_a_colour_that_is_told_of_such_a_thing_is_not_denied():
    told = (RegionDescription(Box(1, 1, 9, 9), "a woman in a red shirt"), RegionDescription(BOX, "blue sky"))
    record = Record(PICTURE, objects=(thing("shirt", attributes=("white",)),), descriptions=told)
    names = {one.name for one in analogies(record, 200)}
    assert "red shirt" not in names
    assert {"blue shirt", "green shirt"} <= names


def test_numbers_that_captions_disagree_about_are_not_denied():
    dogs = (Box(1, 1, 20, 20), Box(30, 1, 50, 20))
    both = [caption(f"{number} dogs run.", (f"{number} dogs", *dogs)) for number in ("Two", "Three")]
    said = {one.name for one in analogies(Record(PICTURE, captions=tuple(both[:1])))}
    assert {"three dogs", "four dogs"} <= said
    assert not {one for one in analogies(Record(PICTURE, captions=tuple(both))) if one.kind == "quantity"}


def test_yes_and_no_are_balanced():
    record = Record(
        PICTURE, objects=(thing("dog"), thing("chair", 90.0), thing("dog", 200.0)), vocabulary=LOOKED_FOR
    )
    for wanted, ratio in ((1.0, 1), (2.0, 2), (0.0, 0)):
        samples = [*write_record(record, make_settings(negatives=wanted), {"presence"})]
        said_no = [one for one in samples if one.negative]
        assert len(said_no) == ratio * (len(samples) - len(said_no))
        assert all(one.turns[1].text.startswith("No") == one.negative for one in samples)


def test_no_names_what_is_there_with_its_box():
    record = Record(PICTURE, objects=(thing("dog"), thing("dog", 200.0)), vocabulary=LOOKED_FOR)
    answers = {
        one.turns[1].text
        for seed in range(60)
        for one in write_record(record, make_settings(seed), {"presence"})
        if one.negative
    }
    assert "No, but there are <phrase>two dogs <box:0> <box:1> in the image." in answers
    assert "No." in answers
