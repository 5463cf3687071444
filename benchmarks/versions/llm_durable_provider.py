"""The provider of `llm_openai`, with a sign behind each token: joined ones count too."""

from benchmarks.versions import llm_provider

llm_provider.AFTER = b";" + llm_provider.AFTER
app = llm_provider.app
