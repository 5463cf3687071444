"""Print an answer, whatever happens to the server: python llm_durable.py 'Why …?'."""

import json
import secrets
import sys
import time

import httpx2

URL = "http://127.0.0.1:8000/answers"
AGAIN = 0.5  # seconds until the server is asked again
PATIENCE = 60.0  # seconds for which a server may be away
# The recipe sends a comment after 15 silent seconds.
TIMEOUT = httpx2.Timeout(5.0, read=20.0)


def ask(client: httpx2.Client, prompt: str) -> str:
    """Ask, again with the same key if nobody answers; give where the events are."""
    key = secrets.token_hex(16)  # The server begins one answer for it, not two.
    until = time.monotonic() + PATIENCE
    while True:
        try:
            response = client.post(
                URL, params={"prompt": prompt}, headers={"Idempotency-Key": key}
            )
        except httpx2.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(AGAIN)
        else:
            response.raise_for_status()
            return str(response.url.join(response.headers["Location"]))


def show(client: httpx2.Client, url: str) -> str | None:
    """Print the answer; give what is wrong with it, or None if it is complete."""
    last_id = ""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with client.sse(url, headers=headers) as events:
                events.response.raise_for_status()
                for event in events:
                    if not event.data:
                        continue  # httpx2 gives also a `retry:` that stands alone.
                    data = json.loads(event.data)
                    last_id = event.id or last_id
                    until = time.monotonic() + PATIENCE
                    if event.event == "start" and data["attempt"] > 1:
                        # A terminal cannot take back what it has printed.
                        print(f"\n\n[attempt {data['attempt']}, from the beginning]")
                    elif event.event == "token":
                        print(data["text"], end="", flush=True)
                    elif event.event == "done":
                        print(f"\nComplete: {data['finish_reason']}.")
                        return None
                    elif event.event == "failed":
                        return f"It failed: {data['type']}."
        except httpx2.TransportError:
            pass  # The server is gone; perhaps it comes back.
        time.sleep(AGAIN)
    return "The server does not come back."


if __name__ == "__main__":
    try:
        with httpx2.Client(timeout=TIMEOUT) as client:
            fault = show(
                client, ask(client, " ".join(sys.argv[1:]) or "Why is tea hot?")
            )
    except httpx2.HTTPStatusError as error:
        fault = f"{error.response.status_code}: {error.response.reason_phrase}."
    except httpx2.TransportError as error:
        fault = f"Nobody listens: {type(error).__name__}."
    if fault:
        sys.exit(f"\nNot complete. {fault}")
