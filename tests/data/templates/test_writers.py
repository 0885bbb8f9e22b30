import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.data.marks import find_marks, grounded_phrases, plain_text
from openferret.data.outlines import RunLengths
from openferret.data.records import (
    AnnotatedObject,
    Caption,
    Category,
    Dialogue,
    Expression,
    Phrase,
    QuestionAnswer,
    Record,
    RegionDescription,
    Relationship,
    Vocabulary,
)
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.data.templates.writers import TASKS, make_settings, write_record
from openferret.errors import InputError
from openferret.regions import Box

SETTINGS = make_settings()
OUTLINE = RunLengths.from_dict({"size": [240, 320], "counts": [9, 9, 76782]})
DOG, DOG2, MAN, BIKE = Box(0, 0, 50, 50), Box(60, 0, 99, 50), Box(100, 0, 200, 200), Box(90, 100, 220, 240)


def full_record():
    caption = "A man riding a bike past two dogs ."
    return Record(
        PictureReference("1.jpg", 320, 240, "mine", "1"),
        "CC0",
        objects=(
            AnnotatedObject("1", DOG, ("dog",), ("brown",)),
            AnnotatedObject("2", DOG2, ("dog",), ("wet", "white")),
            AnnotatedObject("3", MAN, ("man",)),
            AnnotatedObject(
                "4",
                BIKE,
                ("bike",),
                outline=RunLengths.from_dict({"size": [240, 320], "counts": [9, 9, 76782]}),
            ),
        ),
        relationships=(Relationship(2, "riding", 3, "r1"), Relationship(0, "next to", 1, "r2")),
        descriptions=(RegionDescription(MAN, "a man on a bike .", "d1"),),
        captions=(
            Caption(
                caption,
                (
                    Phrase("A man", (0, 5), (MAN,), "people", "1"),
                    Phrase("a bike", (13, 19), (BIKE,), "vehicles", "2"),
                    Phrase("two dogs", (25, 33), (DOG, DOG2), "animals", "3"),
                ),
                "c1",
            ),
        ),
        questions=(QuestionAnswer("What is the man riding?", "A bike.", (2,), (3,), "q1"),),
        expressions=(Expression("left dog", 0, "e1"),),
        dialogues=(Dialogue((Turn("user", "Hi?"), Turn("assistant", "Hello.")), "h1"),),
        vocabulary=Vocabulary(
            tuple(Category(n, name) for n, name in enumerate(("dog", "man", "bike", "piano"))), True
        ),
    )


def written(tasks=None, seed=0, record=None):
    return [*write_record(record or full_record(), make_settings(seed), tasks)]


def test_every_task_is_written():
    tasks = {one.task for seed in range(6) for one in written(seed=seed)}
    assert tasks == set(TASKS)


@pytest.mark.parametrize("seed", range(6))
def test_samples_hold_and_never_have_a_box_without_its_phrase(seed):
    samples = written(seed=seed)
    assert len({one.id for one in samples}) == len(samples)
    for one in samples:
        assert Sample.from_dict(one.to_dict()) == one
        assert one.provenance.template
        answer = one.turns[1].text
        phrases = [*grounded_phrases(answer)]
        assert sum(len(found.regions) for found in phrases) == len(find_marks(answer))
        assert all(found.phrase.strip(" .,") for found in phrases)
        assert answer.count("<phrase>") == len(phrases)
        assert one.turns[0].text[0].isupper()
        assert " ." not in plain_text(answer)


def test_a_relation_is_mined_from_a_caption():
    answers = {
        one.turns[1].text
        for seed in range(20)
        for one in written({"relationship"}, seed)
        if "caption" in one.id
    }
    assert "The man is riding a bike." in answers
    assert "<phrase>A bike <box:0>." in answers


def test_who_is_in_clothes_wears_them():
    text = "A girl in a red coat ."
    phrases = (
        Phrase("A girl", (0, 6), (DOG,), "people", "1"),
        Phrase("a red coat", (10, 20), (MAN,), "clothing", "2"),
    )
    record = Record(PictureReference("1.jpg", 320, 240, "mine", "1"), captions=(Caption(text, phrases),))
    said = {one.turns[1].text for seed in range(12) for one in written({"relationship"}, seed, record)}
    assert said == {"The girl is wearing a red coat.", "<phrase>A red coat <box:0>."}


def test_two_things_that_would_be_asked_for_in_the_same_words_are_not():
    text = "One man pushes another man ."
    phrases = (
        Phrase("One man", (0, 7), (DOG,), "people", "1"),
        Phrase("another man", (15, 26), (MAN,), "people", "2"),
    )
    record = Record(PictureReference("1.jpg", 320, 240, "mine", "1"), captions=(Caption(text, phrases),))
    assert not [one for seed in range(9) for one in written({"phrase"}, seed, record) if not one.negative]


def test_singular_and_plural_have_their_boxes():
    texts = " ".join(one.turns[1].text for seed in range(10) for one in written({"all_instances"}, seed))
    assert "<phrase>two dogs <box:0> <box:1>" in texts
    assert "<phrase>a man <box:0>" in texts


def test_a_caption_is_grounded_phrase_by_phrase():
    (sample,) = written({"grounded_caption"})
    assert sample.turns[1].text == (
        "<phrase>A man <box:0> riding <phrase>a bike <box:1> past <phrase>two dogs <box:2> <box:3>."
    )
    assert sample.regions == (MAN, BIKE, DOG, DOG2)


def test_a_question_of_the_source_gets_regions():
    both = {
        (one.turns[0].text, one.turns[1].text)
        for seed in range(9)
        for one in written({"question_answer"}, seed)
    }
    assert ("What is the man riding?", "<phrase>A bike <box:0>.") in both
    assert ("What is the man <region:0> riding?", "<phrase>A bike <box:1>.") in both


def test_an_outline_goes_where_somebody_points():
    by_id = {one.id: one for one in written({"object"})}
    assert by_id["mine:1:object:4"].masks[0].counts
    assert by_id["mine:1:object:3"].masks == ()


def test_instances_are_not_counted_where_some_are_missing():
    record = full_record()
    for change in ({"not_exhaustive": ("dog",)}, {"vocabulary": None}):
        changed = Record(
            **{**{name: getattr(record, name) for name in record.__dataclass_fields__}, **change}
        )
        assert not [one for one in written({"all_instances"}, record=changed) if "dog" in one.id]


def test_choices_depend_on_seed_and_id_alone():
    alone = {one.id: one for one in written({"phrase"})}
    together = {one.id: one for one in written()}
    assert all(together[name] == one for name, one in alone.items())
    assert {one.turns[0].text for one in written(seed=1)} != {one.turns[0].text for one in written(seed=2)}


def test_without_a_size_only_dialogues_are_written():
    picture = PictureReference("1.jpg", 0, 0, "mine", "1")
    record = Record(picture, dialogues=full_record().dialogues)
    assert [one.task for one in written(record=record)] == ["dialogue"]


def test_an_unknown_task_is_named():
    with pytest.raises(InputError, match="did you mean 'relationship'"):
        written({"relationships"})


WORDS = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())
HOSTILE = st.one_of(
    WORDS, st.sampled_from(["<box:0>", "<region:9> x", "<phrase>", "{name}", "a [1, 2]", "<image>"])
)


@settings(max_examples=25, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_any_words_of_a_source_make_samples_or_none(name, predicate, text):
    record = Record(
        PictureReference("1.jpg", 320, 240, "mine", "1"),
        objects=(AnnotatedObject("1", DOG, (name,), (text,)), AnnotatedObject("2", MAN, (text,))),
        relationships=(Relationship(0, predicate, 1),),
        descriptions=(RegionDescription(MAN, text),),
        captions=(Caption(text, (Phrase(text, (0, len(text)), (DOG,)),)),),
        questions=(QuestionAnswer(text, name, (1,), (0,)),),
        expressions=(Expression(text, 0),),
    )
    for sample in write_record(record, SETTINGS):
        assert Sample.from_dict(sample.to_dict()) == sample
