"""The parts of the training loop in `tasks.train`."""
