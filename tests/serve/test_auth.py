import base64

import pytest
from fastapi.routing import APIRoute
from typer.testing import CliRunner

from openferret.errors import InputError
from openferret.serve.app import ServerSettings
from openferret.serve.auth import OPEN_PATHS, read_keys

KEY = "k" * 20
OTHER = "o" * 20


def basic(password):
    return "Basic " + base64.b64encode(f"user:{password}".encode()).decode()


@pytest.fixture
def locked(new_client):
    return new_client(ServerSettings(keys=(KEY, OTHER)))


def routes(app):
    """Every method and path, also of nested routers."""
    found = []
    pending = list(app.routes)
    while pending:
        route = pending.pop()
        pending += list(getattr(getattr(route, "original_router", None), "routes", []))
        pending += list(getattr(route, "routes", []) or [])
        if isinstance(route, APIRoute):
            found += [(method, route.path) for method in route.methods]
    return found


def test_every_route_but_health_needs_the_key(locked, code):
    every = routes(locked.app)
    assert {path for _, path in every} >= {"/", "/docs", "/metrics", "/openapi.json", "/assets/{name:path}"}
    for method, path in [*every, ("GET", "/nowhere"), ("POST", "/v1/nowhere"), ("OPTIONS", "/v1/refer")]:
        reply = locked.request(method, path)
        if path in OPEN_PATHS:
            assert reply.status_code != 401
        else:
            assert code(reply) == (401, "invalid_key"), path
            assert reply.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "header",
    ["Digest x", "", "Bearer", "Bearer ", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", KEY, basic("wrong"), "Basic !!!"],
)  # fmt: skip
def test_wrong_keys_are_refused(locked, header):
    assert locked.get("/v1/models", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {OTHER}", basic(KEY)])
def test_right_keys_are_let_in(locked, header):
    assert locked.get("/v1/models", headers={"Authorization": header}).status_code == 200


def test_health_is_open_by_its_exact_path_only(locked):
    assert locked.get("/health/live").status_code == 200
    for path in ("/health/live/", "/health/livex", "/health//live", "/health/../metrics", "//health/live"):
        assert locked.get(path, follow_redirects=False).status_code == 401


def test_a_body_is_not_read_without_a_key(locked):
    huge = {"content-type": "image/png", "content-length": "9" * 14}
    assert locked.post("/v1/images", content=b"x", headers=huge).status_code == 401


def test_an_open_server_is_not_called_by_another_name(new_client, code):
    client = new_client(ServerSettings(hosts=("localhost", "[::1]")))
    assert code(client.get("/v1/models", headers={"Host": "evil.example"})) == (400, "unknown_host")
    assert client.get("/v1/models", headers={"Host": "localhost:8000"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "[::1]:8000"}).status_code == 200


def test_keys_are_read_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# mine\n\n{KEY}\n {OTHER} \n")
    assert read_keys(file) == (KEY, OTHER)


@pytest.mark.parametrize("text", ["", "# only\n", "short\n", "ключключключключключ\n"])
def test_files_without_good_keys_are_refused(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InputError):
        read_keys(file)


@pytest.mark.parametrize(
    ("options", "served"),
    [
        ([], True),
        (["--host", "localhost"], True),
        (["--host", "::1"], True),
        (["--host", "127.0.0.2"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "::"], False),
        (["--host", "192.168.1.5"], False),
        (["--host", "example.com"], False),
        (["--host", ""], False),
        (["--host", "0.0.0.0", "--api-key-file", "KEYS"], True),
        (["--api-key-file", "MISSING"], False),
    ],
)
def test_no_public_bind_without_a_key(monkeypatch, tmp_path, options, served):
    import typer

    from openferret.cli import serve, session
    from openferret.cli.commands import OneLineErrors
    from openferret.serve import running

    (tmp_path / "KEYS").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr(session, "load_model", lambda settings: type("Loaded", (), {"loaded": None}))
    monkeypatch.setattr(running, "run_server", lambda *given: started.append(given))
    app = typer.Typer(cls=OneLineErrors)
    app.command()(serve.serve)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["serve", *options])
    assert bool(started) == served, result.output
    assert result.exit_code == (0 if served else 2)
    assert served or result.output.count("\n") <= 1
