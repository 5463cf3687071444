"""A client that stops reading and then leaves, and what the provider noticed of it."""

import time

import httpx2

CHAT = "http://127.0.0.1:8000/chat/stream"
RECORD = "http://127.0.0.1:8001/scripted/requests"
QUESTION = {"messages": [{"role": "user", "content": "Why is tea hot?"}]}

with httpx2.stream("POST", CHAT, json=QUESTION) as response:
    response.raise_for_status()
    print("The answer has begun. Reading nothing for two seconds.")
    time.sleep(2)
print("Gone. Waiting one second for the provider to notice.")
time.sleep(1)
request = httpx2.get(RECORD).json()[-1]
if request["hung_up_after"] is None:
    print("The provider still waits for this client.")
else:
    print("The provider has seen it leave and has stopped.")
