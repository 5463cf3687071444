"""Run the recipe on port 8000, and print each span when it has ended.

Needs opentelemetry-sdk (pip install opentelemetry-sdk), in the cookbook's environment.
"""

import uvicorn
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

URL = "http://127.0.0.1:8000"


def in_a_line(span: ReadableSpan) -> str:
    """Give the name of a span, the name of its trace, what was measured, and errors."""
    facts = dict(span.attributes or {})
    wanted = {
        name: facts[name]
        for name in sorted(facts)
        if name == "error.type" or name.startswith("stream.")
    }
    return f"span {span.name!r}, trace {span.context.trace_id:032x}, {wanted}\n"


provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=in_a_line)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

if __name__ == "__main__":
    host, port = URL.removeprefix("http://").split(":")
    uvicorn.run("recipes.stream_middleware:app", host=host, port=int(port))
