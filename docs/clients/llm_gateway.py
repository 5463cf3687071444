"""Ask a gateway with OpenAI's own library: python llm_gateway.py 'Why …?'."""

import os
import sys

import openai

URL = "http://127.0.0.1:8000/v1"


def show(prompt: str) -> None:
    """Print the models, then the answer as it comes; raises openai.APIError."""
    key = os.environ.get("GATEWAY_KEY") or "not-needed"
    with openai.OpenAI(base_url=URL, api_key=key) as client:
        print("Models:", *(model.id for model in client.models.list()))
        with client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": prompt}],
            stream=True,
        ) as chunks:
            for chunk in chunks:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
        print("\nComplete.")


if __name__ == "__main__":
    try:
        show(" ".join(sys.argv[1:]) or "Why is tea hot?")
    except openai.APIError as error:
        sys.exit(f"\nNot complete. {type(error).__name__}: {error.message}")
