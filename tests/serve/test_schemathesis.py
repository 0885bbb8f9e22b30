"""The whole API, attacked by a machine from its own description."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "use_after_free",
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="the API is attacked with schemathesis")
def test_nothing_that_the_description_allows_or_forbids_makes_a_500_or_an_undescribed_reply(
    process_server, tmp_path
):
    _, port = process_server
    # Its command, found without a PATH.
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    options = ["--checks", ",".join(CHECKS), "--max-examples", "10", "--max-time", "90", "--seed", "7"]
    options += ["--request-timeout", "60"]  # a machine that CI shares may stand still for a while
    ran = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/openapi.json", *options, "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert "Tested: 14" in ran.stdout
