"""Serve the same files by nginx, with sendfile; this process becomes nginx."""

import os
import socket
import sys
import tempfile
from pathlib import Path

from benchmarks.versions.file_samples import FOLDER, make_files
from cookbook.proxy import nginx as program

CONF = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    server {{ listen 127.0.0.1:{port}; location /files/ {{ alias {files}/; }} }}
}}
"""


def main() -> None:
    """Write the configuration, say the address, and start nginx in this process."""
    make_files()
    folder = Path(tempfile.mkdtemp(prefix="streaming-cookbook-nginx-"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(CONF.format(folder=folder, port=port, files=FOLDER), "utf-8")
    nginx = program()
    if nginx is None:
        sys.exit("nginx is not installed")
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    os.execv(nginx, [nginx, "-p", str(folder), "-c", str(conf)])  # noqa: S606


if __name__ == "__main__":
    main()
