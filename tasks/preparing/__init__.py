"""The parts of `prepare`. Each module checks or changes one thing; only `writing` writes files."""
