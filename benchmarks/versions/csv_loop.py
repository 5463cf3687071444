"""The limit: `csv.writer` over the same orders, its output thrown away.

Each number of rows that comes in on a line goes out as a line of JSON.
"""

import csv
import json
import sys
import time
from types import SimpleNamespace

from recipes.csv_export import orders

for line in sys.stdin:
    rows = int(line)
    began = time.perf_counter()
    # `len` takes the text and costs almost nothing: a file that goes nowhere.
    writer = csv.writer(SimpleNamespace(write=len))
    last = 0
    for order in orders(rows):
        writer.writerow(order)
        last = order.id
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "units": last}), flush=True)
