"""Begin a long answer, and stop it by a request when ten tokens have come."""

import json
import uuid

import httpx2

URL = f"http://127.0.0.1:8000/generations/{uuid.uuid4()}"
ASK = {"prompt": "Tell a long story about tea."}
LOGIN = {"Authorization": "Bearer ada"}  # The same for both requests.
ENOUGH = 10  # tokens

# A comment comes after fifteen silent seconds, so this is long enough.
client = httpx2.Client(headers=LOGIN, timeout=30)
tokens = 0
last = None
with client, client.sse(URL, method="PUT", params=ASK) as events:
    if events.response.status_code != 200:
        raise SystemExit(events.response.read().decode())
    for event in events:
        data = json.loads(event.data)
        if event.event == "token":
            print(data["text"], end="", flush=True)
            tokens += 1
            if tokens == ENOUGH:
                answer = client.post(f"{URL}/cancel")
                print(f"\n[Stop: {answer.status_code}]", flush=True)
        elif event.event != "start":
            last = event.event, data
if last is None:
    raise SystemExit("\nThe connection was lost.")
print(f"\n{last[0]}: {json.dumps(last[1])}")
