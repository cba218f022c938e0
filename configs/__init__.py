"""The recipes: one file each, with plain values."""
