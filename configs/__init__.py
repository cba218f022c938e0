"""One file a recipe: plain values."""
