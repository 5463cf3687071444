"""A service that costs as little as it can: `/n` gives n lines of 1,000 bytes.

It prints its address and serves each connection in a thread. With `--until-eof` it ends
with its input, and then deletes the folders that the command line names.
"""

import shutil
import socket
import sys
import threading
from contextlib import suppress

LINE = b"x" * 999 + b"\n"
BLOCK = LINE * 1024


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection."""
    with suppress(OSError), connection, connection.makefile("rb") as stream:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        last = False
        while not last and (first := stream.readline()):
            last = b"HTTP/1.0" in first
            while (field := stream.readline()) not in {b"\r\n", b""}:
                last |= field.lower().startswith(b"connection: close")
            lines = int(first.split(b" ")[1].strip(b"/"))
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {lines * len(LINE)}\r\n\r\n"
            if lines < 1024:
                connection.sendall(head.encode() + LINE * lines)
                continue
            connection.sendall(head.encode())
            for _ in range(lines // 1024):
                connection.sendall(BLOCK)
            connection.sendall(LINE * (lines % 1024))


def accept(listener: socket.socket) -> None:
    """Serve whoever comes."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def main() -> None:
    """Serve until the input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    if "--until-eof" not in sys.argv:
        threading.Event().wait()
    sys.stdin.read()
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
