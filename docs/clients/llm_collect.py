"""Print an answer as it is written, and what is kept: llm_collect.py 'Why …?'."""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000"
# seconds: the recipe is never silent for more than 15
TIMEOUT = 40.0


def show(client: httpx2.Client, prompt: str) -> str | None:
    """Ask, and print the tokens as they come.

    Returns:
        What is wrong with the answer, or None if it is complete and stored.
    """
    with client.sse("/answer", params={"prompt": prompt}) as events:
        if events.response.status_code != 200:
            events.response.read()
            return f"{events.response.status_code}: {events.response.text}"
        for event in events:
            data = json.loads(event.data)
            if event.event == "token":
                print(data["text"], end="", flush=True)
            elif event.event == "failed":
                return f"{data['message']} Stored: {data['stored']}."
            elif event.event == "done":
                print(f"\nComplete: {data['finish_reason']}.")
                return None if data["stored"] else "It is not stored."
    return "The connection was lost."


def list_past(client: httpx2.Client) -> None:
    """Print the last answers, with what each of them has taken."""
    for answer in client.get("/answers", params={"limit": 3}).raise_for_status().json():
        usage = answer["usage"]
        about = "about " if usage["estimated"] else ""
        tokens = f"{about}{usage['prompt_tokens']} + {usage['completion_tokens']}"
        cost = usage["cost"] or "unknown"
        print(f"{answer['status']}: {tokens} tokens, cost {cost}, {answer['prompt']}")


if __name__ == "__main__":
    with httpx2.Client(base_url=URL, timeout=TIMEOUT) as client:
        try:
            fault = show(client, " ".join(sys.argv[1:]) or "Why is tea hot?")
        except httpx2.TransportError as error:
            fault = f"The connection was lost: {type(error).__name__}."
        if fault:
            sys.exit(f"\nNot complete, or not stored. {fault}")
        list_past(client)
