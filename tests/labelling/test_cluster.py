"""Labelling on a Ray cluster that is started here."""

import tarfile
from pathlib import Path

import pytest

from openferret.answer import Answer
from openferret.cli.results import open_results
from openferret.errors import InputError
from openferret.labelling.cluster import label_on_ray
from openferret.labelling.job import Labelling, read_labelled
from openferret.labelling.sources import find_sources

CATS = Labelling(("cat", "dog"), None, {"model": "kit", "seed": 0})


class Eyes:
    """Finds everything everywhere, and counts the pictures it read in a file."""

    def __init__(self, log):
        self.log = log

    def encode(self, image):
        with Path(self.log).open("a") as stream:
            stream.write("x")
        return self

    def ground(self, names, threshold=None):
        box = {"pixels": [0, 0, 6, 4], "normalized": [0, 0, 0.1, 0.1], "score": 0.9}
        mentions = [{"phrase": name, "span": [0, 0], "boxes": [box]} for name in names]
        return Answer.from_dict({"text": "", "image": {"width": 60, "height": 40}, "mentions": mentions})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_a_folder_and_a_tar_are_labelled_and_a_run_goes_on_where_it_was_broken_off(labelled, tmp_path):
    ray = pytest.importorskip(
        "ray", reason="labelling on a cluster needs Ray (pip install 'openferret[ray]')"
    )
    import cloudpickle

    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    folder = labelled("0.png", {}).source.parent
    for number in range(1, 6):
        labelled(f"{number}.png", {})
    (folder / "bad.png").write_text("no picture")
    archive = tmp_path / "more.tar"
    with tarfile.open(archive, "w") as opened:
        for number in range(4):
            opened.add(folder / f"{number}.png", f"deep/{number}.png")
    pictures = find_sources([folder, archive])
    out, log = tmp_path / "labels.jsonl", str(tmp_path / "log")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _system_config={"worker_niceness": 0})
    try:
        with open_results(out) as results:
            work = label_on_ray(pictures, CATS, results, lambda: Eyes(log), 1)
            begun = [next(work) for _ in range(3)]
            work.close()
        kept = len(out.read_text().splitlines())
        with open_results(out) as results:
            rest = list(label_on_ray(pictures, CATS, results, lambda: Eyes(log), 2))
    finally:
        ray.shutdown()
    assert len(begun) == kept == 3
    assert len(rest) == len(pictures) == 11
    assert sum(outcome is None for _, outcome in rest) == 3 - sum(
        isinstance(one, InputError) for _, one in begun
    )
    assert sum(isinstance(outcome, InputError) for _, outcome in rest) == 1
    found = list(read_labelled(out, pictures, CATS))
    assert [one.name for one in found if "deep" in one.name] == [f"more/deep/{n}.png" for n in range(4)]
    assert len(found) == 10


def test_without_ray_it_is_said_what_to_install(labelled, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        open_results(tmp_path / "labels.jsonl") as results,
        pytest.raises(InputError, match=r"openferret\[ray\]"),
    ):
        list(label_on_ray([labelled("0.png", {}).source], CATS, results, lambda: None, 1))
