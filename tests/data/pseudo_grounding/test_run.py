from PIL import Image

from openferret.data.pseudo_grounding.detectors import Located
from openferret.data.pseudo_grounding.run import estimate_run, ground_records, read_grounded
from openferret.data.records import Dialogue, Record
from openferret.data.schema import PictureReference, Turn
from openferret.regions import Box


class Everywhere:
    name = "everywhere"

    def locate(self, image, phrases):
        return [[Located(Box(1, 1, 9, 9), 0.9)] for _ in phrases]


def test_a_dialogue_whose_picture_was_mended_is_grounded_by_the_next_run(tmp_path):
    said = Dialogue((Turn("user", "What is there?"), Turn("assistant", "A dog.")), "7")
    record = Record(PictureReference("1.jpg", 40, 30, "llava", "1"), dialogues=(said,))
    pictures, folder = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    for _ in range(2):  # it is still missing, and still told
        assert ground_records([record], pictures, folder, Everywhere()).failed == 1
    Image.new("RGB", (40, 30)).save(pictures / "1.jpg")
    assert estimate_run([record], pictures, folder).dialogues == 1
    summary = ground_records([record], pictures, folder, Everywhere())
    assert (summary.grounded, summary.failed, summary.known) == (1, 0, 0)
    assert ground_records([record], pictures, folder, Everywhere()).known == 1
    assert len(list(read_grounded(folder))) == 1
