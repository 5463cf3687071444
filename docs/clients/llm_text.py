"""Print a language model's answer as it is written: python llm_text.py 'Why …?'."""

import sys

import httpx2

URL = "http://127.0.0.1:8000/answer"
TIMEOUT = 40.0  # seconds: the provider may be silent for 30, and then so is the recipe


def show(prompt: str) -> str | None:
    """Ask, and print the text as it comes.

    Returns:
        What is wrong with the answer, or None if its end has come.
    """
    asked = {"prompt": prompt}
    with httpx2.stream("GET", URL, params=asked, timeout=TIMEOUT) as response:
        if response.status_code != 200:
            response.read()
            return f"{response.status_code}: {response.text}"
        for text in response.iter_text():
            print(text, end="", flush=True)
    print()
    return None


if __name__ == "__main__":
    try:
        fault = show(" ".join(sys.argv[1:]) or "Why is tea hot?")
    except httpx2.TransportError as error:
        fault = f"The connection was lost: {type(error).__name__}."
    if fault:
        sys.exit(f"\nNot complete. {fault}")
