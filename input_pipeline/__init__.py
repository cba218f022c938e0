"""From data sets to batches: opening them, decoding and cropping images, ordering and batching examples."""
