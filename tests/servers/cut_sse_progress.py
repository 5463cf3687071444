"""A job whose stream ends before the job does, as a proxy may cut it."""

from fastapi import FastAPI, Response


def app() -> FastAPI:
    """Make a server that starts every job and ends every stream early."""
    short = FastAPI()

    @short.post("/jobs", status_code=202)
    def start() -> Response:
        return Response(status_code=202, headers={"Location": "jobs/1/events"})

    @short.get("/jobs/1/events")
    def events() -> Response:
        text = 'event: progress\ndata: {"rows":0,"percent":0}\n\n'
        return Response(text, media_type="text/event-stream")

    return short
