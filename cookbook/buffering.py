"""An nginx in front of the site that holds streams back, for the panels' switch.

with buffering.running(8080) as address:
    print(address)  # where it listens, or None if there is no nginx
"""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cookbook import proxy

# The site's pages alone may ask: whoever else does gets a 403. A recipe then sees the
# request as one of the site's own.
CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ }}
http {{
    access_log off;
    {folders}
    map $http_origin $page {{
        default "";
        "~^http://(127\\.0\\.0\\.1|localhost):{site}$" $http_origin;
    }}
    server {{
        listen 127.0.0.1:{port};
        gzip on;
        gzip_types *;
        gzip_min_length 0;
        set $asked $http_access_control_request_headers;
        add_header Access-Control-Allow-Origin $page always;
        add_header Access-Control-Allow-Methods "GET, POST, PUT, DELETE" always;
        add_header Access-Control-Allow-Headers $asked always;
        add_header Vary Origin always;
        location ~ /live/ {{
            if ($page = "") {{ return 403; }}
            if ($request_method = OPTIONS) {{ return 204; }}
            proxy_pass http://127.0.0.1:{site};
            proxy_buffering on;
            proxy_ignore_headers X-Accel-Buffering;
            proxy_hide_header Access-Control-Allow-Origin;
            proxy_set_header Host $http_host;
            proxy_set_header Origin "";
            proxy_set_header Sec-Fetch-Site same-origin;
        }}
        location / {{ return 404; }}
    }}
}}
"""
# It ends with this process, however that ends: then nobody holds its input open.
WHILE_READ = '"$@" & read -r _; kill $!; wait'


@contextmanager
def running(site: int) -> Iterator[str | None]:
    """Run it in front of `site`, a port of this machine, until the block ends.

    Gives its address, or None if there is no nginx.
    """
    found = proxy.nginx()
    if found is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        config = Path(folder) / "nginx.conf"
        config.write_text(
            CONFIG.format(folders=proxy.folders(), port=port, site=site), "utf-8"
        )
        command = [found, "-e", "stderr", "-p", folder, "-c", str(config)]
        process = subprocess.Popen(
            ["/bin/sh", "-c", WHILE_READ, "sh", *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.communicate()
