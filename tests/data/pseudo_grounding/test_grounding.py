import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openferret.answer import Answer, LocatedBox, Mention
from openferret.data.pseudo_grounding.detectors import FerretDetector, GroundingDino, Located, Owl
from openferret.data.pseudo_grounding.grounding import Grounding, ground_dialogue
from openferret.data.records import Dialogue, Record
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.data.words.chunking import noun_phrases
from openferret.data.words.lexicon import load_lexicon
from openferret.errors import InputError, WeightsError
from openferret.regions import Box

LEXICON = load_lexicon()
IMAGE = Image.new("RGB", (100, 80))
RECORD = Record(PictureReference("1.jpg", 100, 80, "llava", "1"))
DOG, MAN = Box(0, 0, 20, 20), Box(30, 0, 60, 70)


class Scripted:
    name = "scripted"

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def locate(self, image, phrases):
        self.asked.append(list(phrases))
        return [self.answers.get(phrase, []) for phrase in phrases]


def ground(answer, found, how=None):
    dialogue = Dialogue((Turn("user", "What does the dog do?"), Turn("assistant", answer)), "7")
    return ground_dialogue(RECORD, dialogue, IMAGE, found, how)


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("The man throws a ball.", ["The man", "a ball"]),
        ("In the image, a black and white dog lies on the couch.", ["a black and white dog", "the couch"]),
        (
            "Three fire hydrants and a red car are near the street.",
            ["Three fire hydrants", "a red car", "the street"],
        ),
        ("It appears to be sunny in this scene.", []),
        ("She is wearing her green hat.", ["her green hat"]),
        ("man throws ball", ["man", "ball"]),
        ("", []),
    ],
)
def test_noun_phrases_are_found(text, phrases):
    chunks = [*noun_phrases(text, LEXICON)]
    assert [chunk.phrase for chunk in chunks] == phrases
    assert all(text[slice(*chunk.span)] == chunk.phrase for chunk in chunks)


@given(st.text(alphabet="ab dogmancrthe.,<>:0'-\n", max_size=120))
def test_phrases_never_overlap(text):
    end = 0
    for chunk in noun_phrases(text, LEXICON):
        assert end <= chunk.span[0] < chunk.span[1] <= len(text)
        end = chunk.span[1]


def test_boxes_stand_after_the_nouns_of_answers():
    found = Scripted({"man": [Located(MAN, 0.9)], "dog": [Located(DOG, 0.8)]})
    sample = ground("The man holds a dog on the beach. The dog is happy.", found)
    assert sample.turns[0].text == "What does the dog do?"
    assert sample.turns[1].text == (
        "<phrase>The man <box:0> holds <phrase>a dog <box:1> on the beach. <phrase>The dog <box:1> is happy."
    )
    assert sample.regions == (MAN, DOG)
    assert found.asked == [["man", "dog", "beach"]]
    assert "scripted" in sample.provenance.generator
    assert Sample.from_dict(sample.to_dict()) == sample


def test_several_get_several_boxes_and_one_the_best():
    boxes = [
        Located(DOG, 0.5),
        Located(MAN, 0.9),
        Located(Box(1, 1, 21, 21), 0.45),
        Located(Box(70, 0, 90, 20), 0.1),
    ]
    found = Scripted({"dogs": boxes, "dog": boxes})
    assert ground("Two dogs run.", found).regions == (DOG, MAN)
    assert ground("A dog runs.", found).regions == (MAN,)


def test_what_is_not_sure_or_not_on_the_picture_stays_text():
    answers = [
        [Located(DOG, 0.2)],
        [Located(Box(0, 0, 100, 80), 0.99)],
        [Located(Box(200, 200, 300, 300), 0.99)],
        [Located(Box(5, 5, 5, 9), 0.99)],
        [Located(DOG, math.nan)],
        [],
    ]
    for one in answers:
        assert ground("A dog runs.", Scripted({"dog": one})) is None


def test_boxes_are_clipped_to_the_picture():
    assert ground("A dog runs.", Scripted({"dog": [Located(Box(-5, -5, 20, 20), 0.9)]})).regions == (DOG,)


def test_marks_in_the_text_stay_words():
    sample = ground("A dog <\\box:3> runs.", Scripted({"dog": [Located(DOG, 0.9)]}))
    assert sample.turns[1].text == "<phrase>A dog <box:0> <\\box:3> runs."


def test_another_picture_is_refused():
    dialogue = Dialogue((Turn("user", "?"), Turn("assistant", "A dog.")))
    with pytest.raises(InputError, match="10 x 10"):
        ground_dialogue(RECORD, dialogue, Image.new("RGB", (10, 10)), Scripted({}))


def test_a_detector_that_forgets_a_phrase_is_noticed():
    class Forgetful(Scripted):
        def locate(self, image, phrases):
            return []

    with pytest.raises(InputError, match="answered 0 of 1"):
        ground("A dog.", Forgetful({}))


@pytest.mark.parametrize("wrong", [{"least": 2}, {"overlap": -1}, {"most": 0}])
def test_thresholds_are_checked(wrong):
    with pytest.raises(InputError):
        Grounding(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("detector", [GroundingDino, Owl])
def test_a_missing_model_is_one_line(tmp_path, detector):
    with pytest.raises(WeightsError, match="cannot be opened"):
        detector(str(tmp_path))


def test_our_own_ground_is_a_detector():
    class Scene:
        def ground(self, phrases):

            mentions = [
                Mention(one, (0, 0), (LocatedBox.of(DOG, 100, 80, 0.7),) if one == "dog" else ())
                for one in phrases
            ]
            return Answer("", tuple(mentions), 100, 80)

    class Ferret:
        name = "kit"

        def encode(self, image):
            return Scene()

    assert ground("A dog and a man.", FerretDetector(Ferret())).regions == (DOG,)
