"""`python -m openferret` is the same command as `openferret`."""

from openferret.cli.main import app

if __name__ == "__main__":
    app(prog_name="openferret")
