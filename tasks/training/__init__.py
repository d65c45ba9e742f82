"""What the loop of `tasks.train` is made of."""
