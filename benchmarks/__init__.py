"""Speed beside named peers."""
