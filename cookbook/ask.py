"""Ask somebody's server, and note what arrives, for `cookbook watch`.

    seen = Seen(ask := Ask("http://127.0.0.1:8000/events"))
    await record(seen, seconds=10, arrived=lambda arrival: False)

What is kept is bounded, however much the server sends: counts, times, and the first
`START` bytes of the body. `watch.watch` keeps everything, for notebooks.
"""

import asyncio
import codecs
import ssl
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import httpx2

from cookbook.transcript import escape
from cookbook.watch import WAIT, Arrival

START = 65_536  # bytes of the body that are kept
READ = 65_536  # bytes that are unpacked at once of a compressed body
# Python's own, which no server means; some of them fail whatever they are told.
NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}
HOPS = 10  # redirects that are followed


class NoAnswerError(Exception):
    """Nobody answered; the message says why, in words for whoever typed the address."""


@dataclass(frozen=True)
class Ask:
    """What is sent. `follow` goes where a redirect says; `insecure` trusts anybody."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    follow: bool = False
    insecure: bool = False

    def having(self, name: str, value: str) -> "Ask":
        """Give the same request with one header set, in place of an earlier one."""
        others = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        return replace(self, headers=(*others, (name, value)))

    @property
    def can_be_repeated(self) -> bool:
        """Whether asking once more changes nothing on the server (RFC 9110, 9.2.1)."""
        return self.method in {"GET", "HEAD"} and not self.body


@dataclass
class Seen:
    """What is known of a response so far; times are seconds since the request."""

    ask: Ask
    url: str = ""  # as it was asked in the end, without name and password
    status: int = 0  # 0 until the head has come
    reason: str = ""
    version: str = ""
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    head: float = 0.0
    arrivals: int = 0
    size: int = 0  # bytes on the wire
    first: float | None = None
    last: float = 0.0
    longest: float = 0.0  # silence between two arrivals, or before the first
    start: bytearray = field(default_factory=bytearray)  # of the body, unpacked
    unpacked: float | None = None  # when the first unpacked byte came
    packed: str = ""  # why the body could not be unpacked
    ending: str = "left"  # "complete", "left", "broken off"
    seconds: float = 0.0

    @property
    def media(self) -> str:
        """The media type, without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The charset that the response names, or UTF-8 if Python has none such."""
        named = httpx2.Response(200, headers=self.headers).charset_encoding or "utf-8"
        try:
            known = codecs.lookup(named).name
            b"a".decode(known, "replace")
        except (LookupError, ValueError):
            return "utf-8"
        return "utf-8" if known in NO_CHARSETS else known

    @property
    def encoding(self) -> str:
        """The content coding, or nothing."""
        coding = self.headers.get("content-encoding", "").strip().lower()
        return "" if coding == "identity" else coding

    @property
    def silence(self) -> float:
        """The longest time without a byte; until the end, if the stream was left."""
        waited = self.seconds - (self.last if self.arrivals else self.head)
        return max(self.longest, waited)

    def note(self, arrival: Arrival) -> None:
        """Count one arrival."""
        self.arrivals += 1
        self.size += arrival.size
        if self.first is None:
            self.first = arrival.seconds
        self.longest = max(self.longest, arrival.seconds - (self.last or self.head))
        self.last = arrival.seconds


class Unpacker:
    """Unpacks gzip and deflate as it comes; other codings stay as they are."""

    def __init__(self, encoding: str) -> None:
        bits = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS}
        bits["deflate"] = zlib.MAX_WBITS
        self._zlib = zlib.decompressobj(bits[encoding]) if encoding in bits else None

    def unpack(self, body: bytes, into: Callable[[bytes], object]) -> None:
        """Give what `body` holds, in pieces of bounded size.

        Raises zlib.error if it is not packed as the head says.
        """
        if self._zlib is None:
            into(body)
            return
        while body:
            piece = self._zlib.decompress(body, READ)
            body = self._zlib.unconsumed_tail
            if piece:
                into(piece)


async def record(
    seen: Seen,
    *,
    seconds: float | None = None,
    began: Callable[[], object] = lambda: None,
    arrived: Callable[[Arrival, list[bytes]], bool | None] = lambda _, __: None,
) -> None:
    """Send the request and note in `seen` what comes, at most for `seconds`.

    `began` is called with the head, `arrived` with each arrival and its unpacked
    pieces; the stream is left when it returns True.

    Raises NoAnswerError if no response begins within 30 s, or at all.
    """
    ask = seen.ask
    # Made first: reading certificates is no part of the request.
    context = certificates(ask.insecure)
    started = time.perf_counter()
    now = asyncio.get_running_loop().time()
    patience = WAIT if seconds is None else min(seconds, WAIT)
    try:
        url = address(ask.url)
        headers = [("Accept", "*/*"), ("Accept-Encoding", "identity")]
        given = {name.lower() for name, _ in ask.headers}
        headers = [pair for pair in headers if pair[0].lower() not in given]
        headers += ask.headers
        async with (
            httpx2.AsyncClient(
                timeout=None,  # The limit below is for everything.
                verify=context,
                trust_env=False,
                follow_redirects=ask.follow,
                max_redirects=HOPS,
            ) as client,
            asyncio.timeout(patience) as limit,
            client.stream(
                ask.method,
                url,
                headers=[(k.encode(), v.encode()) for k, v in headers],
                content=ask.body or None,
            ) as response,
        ):
            limit.reschedule(None if seconds is None else now + seconds)
            seen.url = shown(response.url)
            seen.status = response.status_code
            seen.reason = response.reason_phrase
            seen.version = response.http_version
            seen.headers = response.headers
            seen.head = seen.seconds = time.perf_counter() - started
            began()
            await _body(seen, response, started, arrived)
    except TimeoutError:
        if not seen.status:
            said = f"{escape(ask.url)} did not answer within {patience:g} s."
            raise NoAnswerError(said) from None
    except httpx2.TooManyRedirects:
        said = f"{escape(ask.url)} redirects more than {HOPS} times."
        raise NoAnswerError(said) from None
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, UnicodeError) as error:
        said = f"{escape(ask.url)} is no address to watch: {escape(str(error))}"
        raise NoAnswerError(said) from None
    except httpx2.TransportError as error:
        raise NoAnswerError(why(ask, error)) from None
    finally:
        seen.seconds = time.perf_counter() - started


async def _body(
    seen: Seen,
    response: httpx2.Response,
    started: float,
    arrived: Callable[[Arrival, list[bytes]], bool | None],
) -> None:
    unpacker = Unpacker(seen.encoding)
    before = 0.0
    try:
        async for body in response.aiter_raw():
            now = time.perf_counter() - started
            arrival = Arrival(now, now - before, body)
            before = now
            seen.note(arrival)
            pieces = list[bytes]()
            stop = False

            def keep(
                piece: bytes, arrival: Arrival = arrival, pieces: list[bytes] = pieces
            ) -> None:
                nonlocal stop
                if seen.unpacked is None:
                    seen.unpacked = arrival.seconds
                seen.start += piece[: START - len(seen.start)]
                pieces.append(piece)
                # A small body may unpack to gigabytes: they are told piece by piece.
                if len(pieces) * READ > 4 * START:
                    stop = bool(arrived(arrival, pieces)) or stop
                    pieces.clear()

            if not seen.packed:
                try:
                    unpacker.unpack(body, keep)
                except zlib.error as error:
                    seen.packed = str(error)
            if arrived(arrival, pieces) or stop:
                return
        seen.ending = "complete"
    except httpx2.TransportError:
        seen.ending = "broken off"


@cache
def certificates(insecure: bool) -> ssl.SSLContext:
    """Read once whom to trust; it takes longer than most requests."""
    return httpx2.create_ssl_context(verify=not insecure)


def address(url: str) -> httpx2.URL:
    """Read an address; one without a scheme is for `http`, as with curl.

    Raises httpx2.InvalidURL or httpx2.UnsupportedProtocol if it is none.
    """
    read = httpx2.URL(url if "://" in url else f"http://{url}")
    if read.scheme not in {"http", "https"} or not read.host:
        raise httpx2.UnsupportedProtocol("it begins with http:// or https://")
    return read


def shown(url: httpx2.URL) -> str:
    """Write an address without the name and password that it may hold."""
    return escape(str(url.copy_with(userinfo=b"")))


def why(ask: Ask, error: httpx2.TransportError) -> str:
    """Say in words why nobody answered."""
    url = escape(ask.url)
    said = escape(str(error)) or type(error).__name__
    causes = list[BaseException]()
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return (
            f"No secure connection to {url} ({said}). "
            "-k goes on without looking at the certificate."
        )
    if isinstance(error, httpx2.ConnectError):
        return (
            f"No connection to {url} ({said}). "
            "Is the server running, and are its name and its port right?"
        )
    return f"{url} gave no response ({said})."
