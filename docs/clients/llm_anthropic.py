"""Print an answer as it is written: python llm_anthropic.py 'Why …?'.

The answer goes to standard output, the thoughts go to standard error.
"""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/answer"
# seconds: the recipe answers within 30, and then is never silent for more than 15
TIMEOUT = 40.0


def show(prompt: str) -> str | None:
    """Ask, and print what comes as it comes.

    Returns:
        What is wrong with the answer, or None if it is complete.
    """
    with (
        httpx2.Client(timeout=TIMEOUT) as client,
        client.sse(URL, params={"prompt": prompt}) as events,
    ):
        if events.response.status_code != 200:
            events.response.read()
            return f"{events.response.status_code}: {events.response.text}"
        for event in events:
            data = json.loads(event.data)
            if event.event == "thinking":
                print(data["text"], end="", flush=True, file=sys.stderr)
            elif event.event == "token":
                print(data["text"], end="", flush=True)
            elif event.event == "tool":
                print(f"\nIt asks for {data['name']}: {json.dumps(data['arguments'])}")
            elif event.event == "failed":
                return f"{data['message']} Try again: {data['retryable']}."
            elif event.event == "done":
                print(f"\nComplete: {data['finish_reason']}.")
                return None
    return "The connection was lost."


if __name__ == "__main__":
    try:
        fault = show(" ".join(sys.argv[1:]) or "Why is tea hot?")
    except httpx2.TransportError as error:
        fault = f"The connection was lost: {type(error).__name__}."
    if fault:
        sys.exit(f"\nNot complete. {fault}")
