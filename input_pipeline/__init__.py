"""Records to batches: where examples lie, how they are decoded and cut, and in which order they come."""
