"""What things cost: each module here is a command, ``python -m benchmarks.<name>``."""
