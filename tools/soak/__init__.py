"""Whether a blocker uses after hours what it used after minutes; `python -m tools.soak --help`."""
