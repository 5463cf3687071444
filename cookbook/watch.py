"""A stream, seen: what arrives of a response, and when.

    stream = watch("http://127.0.0.1:8000/async/1")
    print(stream)  # a table; in a notebook the stream shows itself, with a picture

A client sees arrivals: what one read of the connection gave it. Over HTTP/1.1 a chunk
that the server sends is one arrival, also when several come in one packet. The client
reads at most 64 KiB at once: a chunk that is longer, or that the end of a read cuts,
arrives in pieces. A body with a `Content-Length`, or by HTTP/2, arrives as the network
cuts it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape as as_html
from math import ceil, log10

import httpx2

from cookbook.transcript import escape

WAIT = 30.0  # seconds without a byte before a server counts as silent
ROWS = 12  # arrivals that a table shows
TEXT = 60  # characters that a table shows of each
WIDTH, HEIGHT, EDGE = 640, 72, 20  # px: the picture's plot, and the labels around it
PALE = "opacity:0.65"  # of the page's own colour, so that it fits light and dark


@dataclass(frozen=True)
class Arrival:
    """One piece of the body, as the client read it."""

    seconds: float  # since the request
    gap: float  # seconds since the arrival before it, or since the request
    body: bytes

    @property
    def size(self) -> int:
        """How many bytes came."""
        return len(self.body)


@dataclass(frozen=True, repr=False)
class Stream:
    """A response as it arrived; `ending` says how it ended, after `seconds`."""

    url: str
    status: int
    headers: httpx2.Headers
    charset: str
    arrivals: tuple[Arrival, ...]
    seconds: float  # from the request until the end was known
    ending: str  # "complete", "left", "broken off" or "silent"

    @property
    def first_byte(self) -> float | None:
        """The time to first byte of the body, in seconds; None if none came."""
        return self.arrivals[0].seconds if self.arrivals else None

    @property
    def body(self) -> bytes:
        """All bytes that came, joined."""
        return b"".join(arrival.body for arrival in self.arrivals)

    @property
    def size(self) -> int:
        """How many bytes came in all."""
        return sum(arrival.size for arrival in self.arrivals)

    @property
    def events(self) -> list[httpx2.ServerSentEvent]:
        """What came as server-sent events.

        Raises httpx2.SSEError if the response is no `text/event-stream`.
        """
        request = httpx2.Request("GET", self.url)
        response = httpx2.Response(
            self.status, headers=self.headers, content=iter([self.body])
        )
        response.request = request
        return list(httpx2.EventSource(response))

    def __repr__(self) -> str:
        return f"<Stream {self.url}: {self.status}, {self.summary()}>"

    def __str__(self) -> str:
        lines = [f"GET {self.url}", f"{self.status} {self._kind()}", ""]
        lines.append("   #    time s     gap s      bytes  text")
        lines += [
            f"{n:4} {a.seconds:9.3f} {a.gap:9.3f} {a.size:10,}  {text}"
            for n, a, text in self._rows()
        ]
        return "\n".join([*lines, *self._rest(), "", self.summary()])

    def _repr_html_(self) -> str:
        """Show the stream in a notebook; every text of the server's stays text."""
        left = 'style="text-align:left"'
        head = "".join(f"<th>{name}</th>" for name in ("#", "time s", "gap s", "bytes"))
        rows = [
            f"<tr><td>{n}</td><td>{a.seconds:.3f}</td><td>{a.gap:.3f}</td>"
            f"<td>{a.size:,}</td><td {left}><code>{as_html(text)}</code></td></tr>"
            for n, a, text in self._rows()
        ]
        rows += [
            f'<tr><td colspan="5" {left}>{line.strip()}</td></tr>'
            for line in self._rest()
        ]
        title = as_html(f"GET {self.url} → {self.status} {self._kind()}")
        return (
            f"<div><code>{title}</code></div>{picture(self)}"
            f"<table><thead><tr>{head}<th {left}>text</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table><div>{self.summary()}</div>"
        )

    def summary(self) -> str:
        """Say in one line how it ended, how much came, and when it began."""
        said = f"{self.ending} after {self.seconds:.3f} s"
        if self.first_byte is None:
            return f"{said}: no body"
        noun = "arrival" if len(self.arrivals) == 1 else "arrivals"
        return (
            f"{said}: {len(self.arrivals):,} {noun}, {self.size:,} bytes, "
            f"time to first byte {self.first_byte:.3f} s"
        )

    def _kind(self) -> str:
        return escape(self.headers.get("content-type", "(no content type)"))

    def _rows(self) -> Iterator[tuple[int, Arrival, str]]:
        for n, arrival in enumerate(self.arrivals[:ROWS], start=1):
            # The first bytes are enough; escape() makes every control visible.
            start = arrival.body[: 4 * TEXT].decode(self.charset, "backslashreplace")
            text = escape(start)
            cut = len(text) > TEXT or arrival.size > 4 * TEXT
            yield n, arrival, text[: TEXT - 2] + " …" if cut else text

    def _rest(self) -> list[str]:
        more = len(self.arrivals) - ROWS
        return [f"   … {more:,} more"] if more > 0 else []


def watch(
    url: str,
    *,
    chunks: int | None = None,
    headers: dict[str, str] | None = None,
    seen: Callable[[Arrival], object] | None = None,
) -> Stream:
    """Send a GET request and note what arrives, until the end or for `chunks` arrivals.

    `headers` are sent along; `seen` is called with each arrival at once. A stream that
    breaks off, or is silent for 30 s, is returned as far as it came.

    Raises ValueError if `url` is none or `chunks` is below 1, ConnectionError if
    nothing answers there, and TimeoutError if no response begins within 30 s.
    """
    if chunks is not None and chunks < 1:
        raise ValueError(
            f"chunks={chunks}: at least one has to arrive before you leave"
        )
    # Compressed, neither sizes nor text would be those of the application.
    asked = {"Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
    # The client is made first: reading certificates is no part of the request.
    with httpx2.Client(timeout=WAIT, headers=asked, trust_env=False) as client:
        started = time.perf_counter()
        try:
            with client.stream("GET", url) as response:
                arrivals, ending = _read(response, started, chunks, seen)
                seconds = time.perf_counter() - started
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise ValueError(f"{url} is no address to watch: {error}") from None
        except httpx2.TimeoutException:
            message = f"{url} did not answer within {WAIT:.0f} s. Is the server busy?"
            raise TimeoutError(message) from None
        except httpx2.TransportError as error:
            hint = "Is the server running, and is the port right? `cookbook run <slug>`"
            message = f"No response from {url} ({error}). {hint} starts a recipe."
            raise ConnectionError(message) from None
    return Stream(
        str(response.url),
        response.status_code,
        response.headers,
        response.encoding or "utf-8",
        arrivals,
        seconds,
        ending,
    )


def _read(
    response: httpx2.Response,
    started: float,
    chunks: int | None,
    seen: Callable[[Arrival], object] | None,
) -> tuple[tuple[Arrival, ...], str]:
    arrivals = list[Arrival]()
    before = 0.0
    try:
        for body in response.iter_raw():
            now = time.perf_counter() - started
            arrivals.append(Arrival(now, now - before, body))
            before = now
            if seen is not None:
                seen(arrivals[-1])
            if len(arrivals) == chunks:
                return tuple(arrivals), "left"
    except httpx2.TimeoutException:
        return tuple(arrivals), "silent"
    except httpx2.TransportError:
        return tuple(arrivals), "broken off"
    return tuple(arrivals), "complete"


def picture(stream: Stream) -> str:
    """Draw a stream as SVG: time across, a bar for each arrival, its size upwards."""
    span, ticks = axis(stream.seconds)
    largest = max((arrival.size for arrival in stream.arrivals), default=0)
    # By pixel, so that a million arrivals make no larger picture than a hundred.
    columns = dict[int, int]()  # px from the left: bytes
    last = -4
    for arrival in stream.arrivals:
        x = round(arrival.seconds / span * WIDTH)
        # Arrivals of one moment stand side by side, at most 16 px from the truth.
        last = max(x, min(last + 4, x + 16))
        columns[last] = max(columns.get(last, 0), arrival.size)
    floor = EDGE + HEIGHT
    bars = "".join(
        f"M{x + 2} {floor}v-{max(2, round(size / largest * HEIGHT))}"
        for x, size in columns.items()
        if size
    )
    grid = f"M0 {floor + 0.5}H{WIDTH + EDGE}" + "".join(
        f"M{round(tick / span * WIDTH) + 0.5} {floor}v4" for tick in ticks
    )
    labels = "".join(
        f'<text x="{round(tick / span * WIDTH)}" y="{floor + 16}" '
        f'text-anchor="{"middle" if tick else "start"}">{tick:g} s</text>'
        for tick in ticks
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {WIDTH + 2 * EDGE} {HEIGHT + 2 * EDGE}" '
        f'width="{WIDTH + 2 * EDGE}" style="max-width:100%;display:block" '
        f'font-family="sans-serif" font-size="11" fill="currentColor" '
        f'aria-label="Arrivals over {stream.seconds:.3f} seconds">'
        f'<g style="{PALE}"><text x="0" y="12">{largest:,} bytes</text>{labels}'
        f'<path d="{grid}" stroke="currentColor" fill="none"/></g>'
        f'<path d="{bars}" stroke="#0d9488" stroke-width="3" fill="none"/></svg>'
    )


def axis(seconds: float) -> tuple[float, list[float]]:
    """Give the length of a time axis in seconds, and four to ten round ticks on it."""
    rough = max(seconds, 0.001) / 8
    size = 10.0 ** (ceil(log10(rough)) - 1)
    step = next(step for n in (1, 2, 5, 10) if (step := n * size) >= rough)
    count = ceil(max(seconds, 0.001) / step)
    return step * count, [round(step * n, 6) for n in range(count + 1)]
