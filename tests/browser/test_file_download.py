"""docs/recipes/file_download.md: a film can be played from anywhere, in Chromium.

The film is a recording of silence, ten minutes and 50 MB long: a `<video>` plays it
too, and Chromium looks for a place in it as in any other.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request

from tests.kit import clients, servers
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

RATE = 44_100  # samples of two bytes a second
LENGTH = 600  # seconds
SEEK = """async (to) => {
    const video = document.querySelector("video");
    const happens = (name) => new Promise((done) => {
        video.addEventListener(name, done, { once: true });
    });
    if (video.readyState < 1) await happens("loadedmetadata");
    const limit = new Promise((done) => setTimeout(done, 3000));
    const sought = happens("seeked");
    video.currentTime = to;
    await Promise.race([sought, limit]);
    return [video.duration, video.currentTime, video.readyState >= 2];
}"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the film."""
    path = tmp_path_factory.mktemp("films") / "film.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(bytes(2 * RATE * LENGTH))
    return path


@pytest.fixture(scope="module")
def server(film: Path) -> Iterator[Server]:
    env = {"FILES_DIR": str(film.parent)}
    with uvicorn("recipes.file_download:app", env=env, warm=True) as running:
        yield running


def opened(page: Page, url: str, folder: Path) -> list[Request]:
    """Open the page's client; give the list of requests for the film, as it grows."""
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    client = clients.copied("file_download.html", url, folder)
    client.write_text(client.read_text("utf-8").replace("film.webm", "film.wav"))
    page.goto(client.as_uri())
    return asked


def ranges(asked: list[Request]) -> list[str]:
    """Give the range of each request for the film, in the order of asking."""
    # Asked of the browser only now: an answer that is awaited while requests are still
    # noted would come after the test has looked.
    films = [request for request in asked if request.url.endswith("film.wav")]
    return [request.all_headers().get("range", "") for request in films]


def test_a_video_goes_to_any_place_by_asking_for_a_range(
    page: Page, server: Server, tmp_path: Path
) -> None:
    asked = opened(page, server.url, tmp_path)
    duration, now, playable = page.evaluate(SEEK, 500)
    assert (duration, now, playable) == (LENGTH, 500, True)
    starts = [
        int(field.removeprefix("bytes=").split("-")[0]) for field in ranges(asked)
    ]
    assert starts[0] == 0
    there = 500 * RATE * 2
    assert any(there - 2_000_000 < start <= there + 100 for start in starts), asked
