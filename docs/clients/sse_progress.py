"""Send new_orders.csv to be imported, and follow the job to its end."""

import json
from pathlib import Path
from urllib.parse import urljoin

import httpx2

URL = "http://127.0.0.1:8000/jobs"
SOURCE = Path("new_orders.csv")

if not SOURCE.exists():  # Something to send: 100,000 orders.
    lines = ["id,item,quantity,price"]
    lines += [f"{number},green tea,2,3.50" for number in range(1, 100_001)]
    SOURCE.write_text("\n".join(lines), "utf-8")

with httpx2.Client(timeout=60) as client:
    started = client.post(URL, content=SOURCE.read_bytes())
    started.raise_for_status()
    job = urljoin(URL, started.headers["Location"])
    with client.sse(job) as events:
        events.response.raise_for_status()
        for event in events:
            news = json.loads(event.data)
            if event.event == "progress":
                print(f"{news['percent']} %, {news['rows']} rows", flush=True)
            elif event.event == "completed":
                print(f"completed, {news['rows']} rows")
                break
            elif event.event == "failed":
                where = f"line {news['line']}: " if news["line"] else ""
                raise SystemExit(f"failed: {where}{news['reason']}")
        else:
            raise SystemExit("The stream ended before the job did.")
