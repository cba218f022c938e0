"""Speed compared with named peers."""
