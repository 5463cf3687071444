"""Providers of language models that run on this machine, without a key."""
