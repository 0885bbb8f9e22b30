import pytest

from openferret.data.files.run_folder import run_folder
from openferret.errors import InputError


def test_the_same_run_goes_on_and_another_is_refused(tmp_path):
    for _ in range(2):
        with run_folder(tmp_path / "run", {"model": "a", "seed": 1}):
            pass
    with (
        pytest.raises(InputError, match="another run \\(model a, seed 1\\)"),
        run_folder(tmp_path / "run", {"model": "b", "seed": 1}),
    ):
        pass


def test_two_at_a_time_are_refused(tmp_path):
    with (
        run_folder(tmp_path, {}),
        pytest.raises(InputError, match="at work"),
        run_folder(tmp_path, {}),
    ):
        pass


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="cannot be used"), run_folder(tmp_path / "run", {}):
        pass
