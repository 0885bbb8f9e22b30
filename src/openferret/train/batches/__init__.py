"""From a built data set to batches: gathered by picture, planned, worded, collated, streamed."""
