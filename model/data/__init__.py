"""Collections and packed datasets: where images come from, how they are packed, split, and read as batches."""
