import pytest

from openferret.errors import InputError
from openferret.flickr30k import development_names, read_caption, read_entities

SENTENCE = "[/EN#1/people A child] in [/EN#2/clothing a pink dress] near [/EN#0/notvisual it] .\n"
ANNOTATION = """<annotation><size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>1</name><name>3</name><bndbox><xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>100</xmin><ymin>20</ymin><xmax>220</xmax><ymax>90</ymax></bndbox></object>
<object><name>2</name><scene>0</scene><nobndbox>1</nobndbox></object></annotation>"""


@pytest.fixture
def root(tmp_path):
    for folder, name, text in (("Sentences", "7.txt", SENTENCE), ("Annotations", "7.xml", ANNOTATION)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return tmp_path


def test_boxes_are_divided_by_the_files_own_size_and_clipped(root):
    (picture,) = read_entities(root, ["7"])
    child, dress, it = picture.captions[0].phrases
    assert child.boxes == ((0.1, 0.1, 0.3, 0.5), (0.5, 0.2, 1.0, 0.9))
    assert child.hull == (0.1, 0.1, 1.0, 0.9)
    assert dress.boxes == ()
    assert it.boxes == ()


def test_spans_point_at_the_phrase_in_the_plain_caption(root):
    (picture,) = read_entities(root, ["7"])
    caption = picture.captions[0]
    assert caption.text == "A child in a pink dress near it ."
    assert [caption.text[slice(*phrase.span)] for phrase in caption.phrases] == [
        "A child",
        "a pink dress",
        "it",
    ]


def test_a_caption_without_markup_has_no_phrases():
    assert read_caption("A dog runs.", {}).phrases == ()


def test_missing_files_are_named(root):
    with pytest.raises(InputError, match=r"Annotations/8\.xml"):
        list(read_entities(root, ["8"]))


@pytest.mark.parametrize(
    "content",
    ["<annotation>", ANNOTATION.replace("<width>200", "<width>0"), ANNOTATION.replace(">20<", ">many<")],
)
def test_malformed_annotations_are_named(root, content):
    (root / "Annotations" / "7.xml").write_text(content)
    with pytest.raises(InputError, match=r"7\.xml"):
        list(read_entities(root, ["7"]))


def test_development_pictures_do_not_depend_on_the_order_of_the_split():
    names = [str(number) for number in range(50)]
    assert development_names(names, 5) == development_names(names[::-1], 5)
