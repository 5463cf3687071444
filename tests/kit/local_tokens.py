"""See what tokens are, and how long the first takes, with the model of this machine.

python -m tests.kit.local_tokens           writes docs/learn/tokens.txt
python -m tests.kit.local_tokens measure   writes docs/learn/tokens_measured.txt
"""

import json
import sys
import time
from typing import NamedTuple

import httpx2

from cookbook.catalog import ROOT
from cookbook.llm import local
from tests.kit import docs

TABLE = ROOT / "docs/learn/tokens.txt"
MEASURED = ROOT / "docs/learn/tokens_measured.txt"
WAIT = 60  # seconds; a busy machine reads ten tokens a second
QUESTION = "Why is tea hot?"
CUP = "🍵"
TEXTS = [QUESTION, "Streaming", "unbelievable", "2026", "Tee trinken", "Kyōto", CUP]
ENGLISH = (
    "The shop has sold forty cups of green tea this morning. Two orders are still "
    "open, and one customer has asked for his money back. Please look at the list "
    "before noon."
)
TIMES = [1, 20, 60]  # how often a question says the same
ANSWER = 40  # tokens, in what is measured
ROUNDS = 3


def tokens(url: str, text: str) -> list[str | bytes]:
    """Cut a text into tokens; one that is not whole characters is given as bytes."""
    body = {"content": text, "with_pieces": True}
    answer = httpx2.post(f"{url}/tokenize", json=body, timeout=WAIT).raise_for_status()
    pieces = [token["piece"] for token in answer.json()["tokens"]]
    return [piece if isinstance(piece, str) else bytes(piece) for piece in pieces]


def shown(token: str | bytes) -> str:
    """Write a token so that its spaces can be seen, or its bytes."""
    if isinstance(token, bytes):
        return f"`{token.hex(' ').upper()}`"
    return f"`{token.replace(' ', '␣')}`"


def pieces(url: str) -> str:
    """Write a row for each text: its tokens, and how many they are."""
    rows = []
    for text in TEXTS:
        found = tokens(url, text)
        rows.append([text, " ".join(map(shown, found)), str(len(found))])
    return docs.table(["text", "tokens", "how many"], rows)


class Answer(NamedTuple):
    """What came of a streamed answer; times are in seconds since it was asked for."""

    chunks: list[str]
    first: float
    last: float
    usage: dict[str, int]
    read: int  # tokens of the question that the model had to read


def ask(url: str, question: str, **more: object) -> Answer:
    """Ask for a streamed answer, and take the time of its chunks."""
    body = {
        "model": local.MODEL,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "cache_prompt": False,
        "messages": [{"role": "user", "content": question}],
        **more,
    }
    chunks, times, last = list[str](), list[float](), {}
    begin = time.perf_counter()
    way = f"{url}/v1/chat/completions"
    with httpx2.stream("POST", way, json=body, timeout=WAIT) as response:
        for line in response.raise_for_status().iter_lines():
            if not line.startswith("data: {"):
                continue
            last = json.loads(line.removeprefix("data: "))
            choices = last["choices"]
            if choices and (text := choices[0]["delta"].get("content")):
                chunks.append(text)
                times.append(time.perf_counter() - begin)
    read = last["timings"]["prompt_n"]
    return Answer(chunks, times[0], times[-1], last["usage"], read)


def cup(url: str) -> Answer:
    """Let the model write one character that is several tokens."""
    return ask(url, QUESTION, grammar=f'root ::= "{CUP}"', max_tokens=9)


def counted(url: str) -> str:
    """Say what came of that character, and what was counted."""
    answer = cup(url)
    long = ask(url, QUESTION, max_tokens=1).usage["prompt_tokens"]
    english = len(tokens(url, ENGLISH))
    rows = [
        [f"the tokens of `{QUESTION}`", str(len(tokens(url, QUESTION)))],
        ["`prompt_tokens` when you ask only this", str(long)],
        [
            f"the chunks in which an answer of one {CUP} arrives",
            str(len(answer.chunks)),
        ],
        [f"the tokens of {CUP}", str(len(tokens(url, CUP)))],
        [
            "`completion_tokens` of this answer",
            str(answer.usage["completion_tokens"]),
        ],
        [
            f"the tokens of {len(ENGLISH.split())} words of English",
            str(english),
        ],
    ]
    return docs.table(["what", "how many"], rows)


def text(url: str) -> str:
    """Write the tables that are the same each time, a section each."""
    parts = {"pieces": pieces(url), "counted": counted(url), "waits": waits()}
    return "".join(
        f"--8<-- [start:{name}]\n{body}--8<-- [end:{name}]\n"
        for name, body in parts.items()
    )


# Seconds, by arithmetic


FIRST = 1.0  # seconds to the first token
RATES = [30, 100]  # tokens a second
LONG = {"a sentence": 25, "a paragraph": 150, "a page": 700}  # tokens


def total(first: float, count: int, rate: float) -> float:
    """Say after how many seconds an answer is complete."""
    return first + (count - 1) / rate


def waits() -> str:
    """Write how long a reader waits, with a stream and without."""
    rows = [
        [
            f"{name}, {count} tokens",
            f"{FIRST:g} s",
            *(f"{total(FIRST, count, rate):.1f} s" for rate in RATES),
        ]
        for name, count in LONG.items()
    ]
    head = ["answer", "with a stream"]
    head += [f"without, at {rate} tokens/s" for rate in RATES]
    return docs.table(head, rows)


# What is measured


def measured(url: str) -> str:
    """Measure when the first token comes, for questions of several lengths."""
    rows, base = [], 0.0
    for times in TIMES:
        question = " ".join([QUESTION] * times)
        more = {"max_tokens": ANSWER, "ignore_eos": True}
        answers = [ask(url, question, **more) for _ in range(ROUNDS)]
        # Other work on the machine only makes it slower: the quickest is nearest.
        best = min(answers, key=lambda answer: answer.last)
        first, share, read = best.first, best.first / best.last, best.read
        base = base or first
        rows.append([str(read), f"{first / base:.1f} times", f"{share:.0%}"])
    head = ["tokens of the question", "time to the first token"]
    return docs.table([*head, "share of the whole wait"], rows)


def main() -> None:
    """Write one of the two files."""
    with local.running() as model:
        if "measure" in sys.argv:
            MEASURED.write_text(measured(model.url), "utf-8")
        else:
            TABLE.write_text(text(model.url), "utf-8")


if __name__ == "__main__":
    main()
