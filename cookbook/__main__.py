"""The `cookbook` command, also as `python -m cookbook`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C ends it without a traceback, also while it is loaded."""
    try:
        from cookbook.cli import app
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="cookbook")


if __name__ == "__main__":
    main()
