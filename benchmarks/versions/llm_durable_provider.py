"""The provider of `llm_openai`, with a sign behind each token: so joined ones count."""

from benchmarks.versions import llm_provider

llm_provider.AFTER = b";" + llm_provider.AFTER
app = llm_provider.app
