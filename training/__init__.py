"""Training: from batches to parameters. The entry point is `loop.train(config, workdir)`."""
