"""The benchmarks: each recipe beside the version most tutorials show, and the limit."""
