"""Ask the chat a question and print the answer as it comes."""

import json

import httpx2

URL = "http://127.0.0.1:8000/chat/stream"
QUESTION = {"messages": [{"role": "user", "content": "Why is tea hot?"}]}

done = None
# A token may take thirty seconds. The server limits how long it waits itself.
client = httpx2.Client(timeout=60)
with client, client.sse(URL, method="POST", json=QUESTION) as events:
    if events.response.status_code != 200:
        raise SystemExit(events.response.read().decode())
    for event in events:
        data = json.loads(event.data)
        if event.event == "token":
            print(data["text"], end="", flush=True)
        elif event.event == "done":
            done = data
        elif event.event == "failed":
            raise SystemExit(f"\n{data['status']}: {data['message']}")
if done is None:
    raise SystemExit("\nThe connection was lost.")
print(f"\n{done['finish_reason']}, {done['tokens']} tokens")
