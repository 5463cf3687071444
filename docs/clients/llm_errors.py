"""Print a language model's answer as it is written: python llm_errors.py 'Why …?'."""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/answer"
TIMEOUT = 40.0  # seconds: within 30 the recipe sends its first token, or a status


def show(prompt: str) -> str | None:
    """Ask, and print the tokens as they come.

    Returns:
        What is wrong with the answer, or None if it is complete.
    """
    with (
        httpx2.Client(timeout=TIMEOUT) as client,
        client.sse(URL, params={"prompt": prompt}) as events,
    ):
        if events.response.status_code != 200:
            events.response.read()
            wait = events.response.headers.get("retry-after", "not said")
            return f"{events.response.text} Seconds to wait: {wait}."
        for event in events:
            data = json.loads(event.data)
            if event.event == "start":
                provider = data["provider"]
            elif event.event == "token":
                print(data["text"], end="", flush=True)
            elif event.event == "failed":
                return f"{data['message']} Try again: {data['retryable']}."
            elif event.event == "done":
                print(f"\nComplete: {data['finish_reason']}, from {provider}.")
                return None
    return "The connection was lost."


if __name__ == "__main__":
    try:
        fault = show(" ".join(sys.argv[1:]) or "Why is tea hot?")
    except httpx2.TransportError as error:
        fault = f"The connection was lost: {type(error).__name__}."
    if fault:
        sys.exit(f"\nNot complete. {fault}")
