"""What `openferret serve` hands to the server, and what it refuses before a model is loaded."""

import socket
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from openferret.cli import session
from openferret.serve import running


@pytest.fixture
def served(run, monkeypatch):
    """Runs the command with a server that only keeps what it is given; its backend and settings."""
    kept = []
    monkeypatch.setattr(session, "load_model", lambda settings: SimpleNamespace(loaded=None))
    monkeypatch.setattr(running, "run_server", lambda *given: kept.append(given))

    def serve(*words):
        result = run("serve", "--port", "0", *words)
        assert result.exit_code == 0, result.stderr
        return kept[-1][:2]

    return serve


def test_folders_for_label_studio_and_the_size_of_the_cache_are_handed_on(served, tmp_path):
    backend, settings = served("--picture-folder", str(tmp_path), "--cache-megabytes", "5")
    assert settings.picture_folders == (tmp_path.resolve(),)
    assert backend._scenes.size == 5_000_000


@pytest.mark.parametrize(("host", "name"), [("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "localhost")])
def test_it_answers_to_the_address_that_it_listens_on(served, host, name):
    _, settings = served("--host", host)
    assert name in settings.hosts


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(session, "load_model", lambda settings: pytest.fail("the model is loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be listened on (address already in use)" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--picture-folder", "missing"],
        ["--replicas", "2"],
        ["--engine", "ray", "--replicas", "3-1"],
        ["--engine", "ray", "--replicas", "0"],
        ["--engine", "ray", "--replicas", "many"],
        ["--engine", "steam"],
        ["--cache-megabytes", "-1"],
    ],
)
def test_what_cannot_be_is_refused_in_one_line(refuse, words):
    refuse("serve", *words)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_replicas_without_ray_say_what_to_install(run):
    result = run("serve", "--engine", "ray")
    assert result.exit_code == 2
    assert "openferret[ray]" in result.stderr
