"""docs/recipes/llm_chat.md: what the page of the chat does, in a real browser."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from cookbook.llm import scripted
from tests.browser.test_sse_decoder import CASES, chunkings, stream
from tests.kit.llm import said
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(60)  # seconds; several servers are started


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    """Start a provider without pauses."""
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: scripted.Provider) -> Iterator[Server]:
    """Run the recipe; each token waits for a test to let it through."""
    env = {**provider.env, "OPENAI_MODEL": "gated"}
    with uvicorn("recipes.llm_chat:app", env=env) as running:
        yield running


@pytest.fixture
def gate(provider: scripted.Provider) -> scripted.Provider:
    """Give the provider without memory."""
    provider.reset()
    return provider


def play(name: str) -> bytes:
    """Write what the recipe sends for a scenario."""
    tokens = said(name)
    events = [("token", {"text": token}) for token in tokens]
    done = {"text": "".join(tokens), "finish_reason": "stop", "tokens": len(tokens)}
    lines = [
        f"event: {n}\ndata: {json.dumps(d)}\n\n" for n, d in [*events, ("done", done)]
    ]
    return "".join(lines).encode()


def answer_with(page: Page, body: bytes) -> list[Any]:
    """Answer every question in the page with these bytes; give what was asked."""
    asked: list[Any] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/chat/stream", answer)
    return asked


def say(page: Page, text: str = "Why is tea hot?") -> Locator:
    """Ask, and give the newest answer's text."""
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")
    return page.locator("article.assistant .text").last


def test_it_shows_each_token_before_the_next_is_made_and_stop_hangs_up(
    gate: scripted.Provider, server: Server, page: Page
) -> None:
    page.goto(server.url)
    gate.go(1)
    text = say(page)
    expect(text).to_have_text("Tea")
    assert gate.wait(1, lambda request: request.tokens_made == 1).tokens_made == 1
    gate.go(1)
    expect(text).to_have_text("Tea is")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert gate.wait(1).hung_up_after == 2
    expect(text).to_have_text("Tea is")
    expect(page.locator(".facts")).to_contain_text("stopped")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_escape_stops_as_well_and_so_does_clear(
    gate: scripted.Provider, server: Server, page: Page
) -> None:
    page.goto(server.url)
    for number, stop in [(1, "Escape"), (2, "Clear")]:
        gate.go(1)
        expect(say(page)).to_have_text("Tea")
        if stop == "Escape":
            page.keyboard.press("Escape")
        else:
            page.get_by_role("button", name="Clear").click()
        assert gate.wait(number).hung_up_after == 1
    expect(page.locator("article")).to_have_count(0)


def test_closing_the_tab_hangs_up_too(
    gate: scripted.Provider, server: Server, page: Page
) -> None:
    page.goto(server.url)
    gate.go(1)
    expect(say(page)).to_have_text("Tea")
    page.goto("about:blank")
    assert gate.wait(1).hung_up_after == 1


def test_the_conversation_outlives_a_reload_until_it_is_cleared(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    expect(say(page)).to_have_text("Tea is hot because the water was.")
    expect(page.locator(".facts")).to_have_text(
        re.compile(r"^first token after \d+\.\d\d s( · \d+\.\d tokens/s)?$")
    )
    page.reload()
    expect(page.locator("article")).to_have_count(2)
    expect(say(page, "And coffee?")).to_be_visible()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert [m["role"] for m in asked[-1]["messages"]] == ["user", "assistant", "user"]
    page.get_by_role("button", name="Clear").click()
    page.reload()
    expect(page.locator("article")).to_have_count(0)


def remember(page: Page, turns: list[dict[str, str]]) -> None:
    """Let the page find this conversation, and nothing else, in its memory."""
    page.evaluate("turns => localStorage.setItem(KEY, JSON.stringify(turns))", turns)
    page.reload()


def test_a_long_conversation_is_sent_as_far_back_as_a_small_model_takes(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    turns = [
        {"role": role, "content": f"{number:03} " + "x" * 496}
        for number in range(200)
        for role in ("user", "assistant")
    ]
    remember(page, turns)
    expect(say(page, "And coffee?")).to_have_text("Tea is hot because the water was.")
    sent = asked[0]["messages"]
    assert sent[-1] == {"role": "user", "content": "And coffee?"}
    assert sent[:-1] == turns[-len(sent) + 1 :]
    assert sent[0]["role"] == "user"
    assert 5000 < sum(len(message["content"]) for message in sent) <= 6000


def test_of_many_short_messages_it_sends_as_many_as_the_server_takes(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    remember(page, [{"role": "user", "content": f"{n}"} for n in range(200)])
    expect(say(page, "Last?")).to_have_text("Tea is hot because the water was.")
    assert [m["content"] for m in asked[0]["messages"]] == [
        *(f"{n}" for n in range(151, 200)),
        "Last?",
    ]


def test_size_is_counted_in_bytes_and_the_question_is_always_sent(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    remember(page, [{"role": "user", "content": "茶" * 1900}])
    say(page, "Why?")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert [len(m["content"]) for m in asked[0]["messages"]] == [1900, 4]
    say(page, "茶" * 4000)
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert [len(m["content"]) for m in asked[1]["messages"]] == [4000]


def test_no_emoji_is_cut_in_half(server: Server, page: Page) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    text = "a" + "🫖" * 7999
    remember(page, [{"role": "user", "content": text + "🫖"}])
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert asked[0]["messages"] == [{"role": "user", "content": text}]
    page.evaluate(
        """() => {
          turns = [{ role: "user", content: "a\\ud83d" }];
          return answer();
        }"""
    )
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert asked[1]["messages"] == [{"role": "user", "content": "a\ufffd"}]


def test_regenerate_asks_the_last_question_again(server: Server, page: Page) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    say(page)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    expect(page.locator("article")).to_have_count(2)
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_shift_enter_begins_a_line_and_nothing_is_not_sent(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.goto(server.url)
    say(page, "   ")
    page.get_by_role("textbox", name="Message").fill("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(page.locator(".user .text")).to_have_text("one\ntwo")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert [a["messages"][-1]["content"] for a in asked] == ["one\ntwo"]


def test_a_refusal_counts_down_and_retry_gets_the_answer(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.clock.install()
    page.goto(server.url)
    page.route(
        "**/chat/stream",
        lambda route: route.fulfill(
            status=429, headers={"Retry-After": "5"}, json={"detail": "Wait a moment."}
        ),
    )
    say(page)
    expect(page.locator(".error span")).to_have_text("Wait a moment.")
    retry = page.get_by_role("button", name=re.compile("Retry"))
    expect(retry).to_be_disabled()
    expect(retry).to_contain_text("Retry in")
    answer_with(page, play("ok"))
    page.clock.run_for(6000)
    expect(retry).to_have_text("Retry")
    retry.click()
    page.clock.run_for(100)
    answer = page.locator(".assistant .text")
    expect(answer).to_have_text("Tea is hot because the water was.")
    expect(page.locator(".error")).to_have_count(0)
    assert "429" in page_errors.pop()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (b"", "The connection was lost."),
        (
            b'event: failed\ndata: {"status":502,"message":"It broke off."}\n\n',
            "It broke off.",
        ),
    ],
)
def test_what_was_cut_off_keeps_its_text_and_says_so(
    end: bytes, said: str, server: Server, page: Page
) -> None:
    answer_with(page, b'event: token\ndata: {"text":"Tea is"}\n\n' + end)
    page.goto(server.url)
    expect(say(page)).to_have_text("Tea is")
    expect(page.locator(".error span")).to_have_text(said)
    expect(page.get_by_role("button", name="Retry")).to_be_enabled()


def test_a_server_that_is_gone_and_an_answer_left_alone_can_be_tried_again(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.goto(server.url)
    page.route("**/chat/stream", lambda route: route.abort())
    say(page)
    expect(page.locator(".error span")).to_have_text("The server cannot be reached.")
    assert "ERR_FAILED" in page_errors.pop()
    page.evaluate(
        "localStorage.setItem(KEY, JSON.stringify([{role: 'user', content: 'Hi'}]))"
    )
    page.reload()
    expect(page.locator(".error span")).to_have_text("The answer was not finished.")


def test_a_reload_in_mid_answer_keeps_the_text_that_has_come(
    gate: scripted.Provider, server: Server, page: Page
) -> None:
    page.goto(server.url)
    gate.go(2)
    expect(say(page)).to_have_text("Tea is")
    page.reload()
    assert gate.wait(1).hung_up_after == 2
    expect(page.locator(".assistant .text")).to_have_text("Tea is")
    expect(page.locator(".error span")).to_have_text("The answer was not finished.")
    expect(page.get_by_role("button", name="Retry")).to_be_enabled()


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_told(text: str, server: Server, page: Page) -> None:
    done = json.dumps({"text": text, "finish_reason": "stop", "tokens": 0})
    token = json.dumps({"text": text})
    tokens = f"event: token\ndata: {token}\n\n" if text else ""
    answer_with(page, f"{tokens}event: done\ndata: {done}\n\n".encode())
    page.goto(server.url)
    say(page)
    expect(page.locator(".error span")).to_have_text("The model answered nothing.")
    expect(page.get_by_role("button", name="Retry")).to_be_enabled()


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("begun", [False, True])
def test_what_would_fail_again_is_not_offered_again(
    status: int, begun: bool, server: Server, page: Page, page_errors: list[str]
) -> None:
    said = "The model refuses this. It may be too long."
    page.goto(server.url)
    if begun:
        event = json.dumps({"status": status, "message": said})
        answer_with(page, f"event: failed\ndata: {event}\n\n".encode())
    else:
        page.route(
            "**/chat/stream",
            lambda route: route.fulfill(status=status, json={"detail": said}),
        )
    say(page)
    expect(page.locator(".error span")).to_have_text(said)
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    expect(page.get_by_role("button", name="Regenerate")).to_have_count(0)
    page_errors.clear()


def test_a_message_that_is_too_long_is_told_and_kept_and_not_sent(
    server: Server, page: Page
) -> None:
    asked = answer_with(page, play("ok"))
    page.set_viewport_size({"width": 390, "height": 700})  # The hint is hidden here.
    page.goto(server.url)
    say(page, "🫖" * 8001)
    told = "8001 characters are too many. A message may have 8000."
    expect(page.locator("#hint")).to_be_visible()
    expect(page.locator("#hint")).to_have_text(told)
    expect(page.get_by_role("status")).to_have_text(told)
    message = page.get_by_role("textbox", name="Message")
    expect(message).to_have_value("🫖" * 8001)
    expect(message).to_be_focused()
    assert asked == []
    say(page, "🫖" * 8000)
    expect(page.locator("#hint")).to_be_hidden()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert [len(m["content"]) for m in asked[0]["messages"]] == [8000]


def test_hostile_markdown_is_shown_and_does_nothing(server: Server, page: Page) -> None:
    """Attack: The model writes scripts, frames, images: text, nothing is loaded."""
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    answer_with(page, play("hostile-markdown"))
    page.goto(server.url)
    text = say(page)
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert page.title() == "llm_chat"
    expect(text.locator("h1")).to_have_text("Your order")
    for forbidden in ("script", "img", "iframe", "style", "[onerror]", "[href^=java]"):
        expect(text.locator(forbidden)).to_have_count(0)
    expect(text).to_contain_text("<script>document.title = 'stolen'</script>")
    link = text.get_by_role("link", name="pixel")
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert link.get_attribute("target") == "_blank"
    assert hosts == {server.url.split("/")[2]}


def test_what_markdown_lets_through_the_sanitizer_stops(
    server: Server, page: Page
) -> None:
    page.goto(server.url)
    left = page.evaluate(
        """() => {
          const hostile = ["<a href='javascript:alert(1)'>a</a>", "<form>b</form>",
            "<p id=form class=x data-x=1>c</p>", "<svg></svg>",
            "<a href='https://a.example' target=_self rel=opener>d</a>"];
          const box = document.createElement("div");
          box.append(DOMPurify.sanitize(hostile.join(""), SAFE));
          return box.innerHTML;
        }"""
    )
    assert left == (
        "<a>a</a>b<p>c</p>"
        '<a href="https://a.example" target="_blank" rel="noopener noreferrer">d</a>'
    )


def test_html_that_is_not_from_the_sanitizer_is_refused_by_the_browser(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    """Attack: HTML that the sanitizer has not made: the browser refuses it."""
    page.goto(server.url)
    refused = page.evaluate(
        """() => {
          try { document.body.innerHTML = "<b>mine</b>"; } catch (error) {
            return error.name;
          }
        }"""
    )
    assert refused == "TypeError"
    page_errors.clear()


def test_messages_and_code_can_be_copied(server: Server, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    body = {"text": "Run:\n\n```py\nprint(1)\n```\n"}
    done = {**body, "finish_reason": "length", "tokens": 1}
    wire = f"event: token\ndata: {json.dumps(body)}\n\n"
    answer_with(page, f"{wire}event: done\ndata: {json.dumps(done)}\n\n".encode())
    page.goto(server.url)
    say(page)
    for label, copied in [("Copy code", "print(1)\n"), ("Copy message", body["text"])]:
        button = page.get_by_role("button", name=label)
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == copied
    expect(page.locator(".facts")).to_contain_text("cut at the limit")


def test_a_screen_reader_hears_the_answer_once_and_whole(
    gate: scripted.Provider, server: Server, page: Page
) -> None:
    page.goto(server.url)
    status = page.get_by_role("status")
    gate.go(2)
    expect(say(page)).to_have_text("Tea is")
    expect(status).to_have_text("Answering.")
    page.keyboard.press("Escape")
    expect(status).to_have_text("Stopped. Tea is")
    expect(page.locator("[aria-live]")).to_have_count(0)
    gate.wait(1)


READ = """async (cases) => {
  const read = async (bytes, sizes) => {
    let from = 0;
    const body = new ReadableStream({ start(controller) {
      for (const size of sizes) controller.enqueue(bytes.slice(from, from += size));
      controller.close();
    } });
    const found = [];
    for await (const { event, data } of readEvents(body)) found.push([event, data]);
    return found;
  };
  const found = [];
  for (const { bytes, chunkings } of cases)
    for (const sizes of chunkings) found.push(await read(new Uint8Array(bytes), sizes));
  return found;
}"""


def test_it_reads_the_stream_as_the_standard_says_however_it_is_cut(
    server: Server, page: Page
) -> None:
    page.goto(server.url)
    sent, expected = [], []
    for case in CASES:
        ways = list(chunkings(case).values())
        sent.append({"bytes": list(stream(case)), "chunkings": ways})
        # The page leaves an event without a name without one.
        wanted = [[event["event"], event["data"]] for event in case["expected"]]
        expected += [wanted] * len(ways)
    found = page.evaluate(READ, sent)
    named = [[[event or "message", data] for event, data in one] for one in found]
    wrong = [(f, e) for f, e in zip(named, expected, strict=True) if f != e]
    assert wrong == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_and_has_its_colours(
    width: int, scheme: str, server: Server, page: Page
) -> None:
    answer_with(page, play("huge-token"))
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(server.url)
    say(page, "x" * 500)
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != (
        "rgb(255, 255, 255)"
    )
    assert dark == (scheme == "dark")
