"""Batches to parameters. `loop.train(config, workdir)` is the room's door."""
