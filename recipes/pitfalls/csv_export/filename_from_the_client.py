"""Wrong: a file name put into a header as it came breaks the answer, or forges one."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


# --8<-- [start:wrong]
@app.get("/orders.csv")
def export_orders(name: str = "orders") -> StreamingResponse:
    """Download the orders under the name that the client asks for."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(["id,item\r\n"], headers=headers, media_type="text/csv")


# --8<-- [end:wrong]
