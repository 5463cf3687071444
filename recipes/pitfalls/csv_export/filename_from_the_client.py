"""Wrong: a file name put into a header as it came breaks the answer, or forges one.

Run it:   uvicorn recipes.pitfalls.csv_export.filename_from_the_client:app
Try it:   curl -sS -i 'http://127.0.0.1:8000/orders.csv?name=x%22;filename=%22evil.exe'
          curl -sS -i 'http://127.0.0.1:8000/orders.csv?name=100%20%E2%82%AC'
See it:   HTTP/1.1 500 Internal Server Error
"""

# --8<-- [start:wrong]
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/orders.csv")
def export_orders(name: str = "orders") -> StreamingResponse:
    """Download the orders under the name that the client asks for."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(["id,item\r\n"], headers=headers, media_type="text/csv")


# --8<-- [end:wrong]
