"""What claims about speed and defaults are measured with; run as `python -m benchmarks --help`."""
