"""Let `python -m cookbook` do what the `cookbook` command does."""

from cookbook.cli import app

if __name__ == "__main__":
    app(prog_name="cookbook")
