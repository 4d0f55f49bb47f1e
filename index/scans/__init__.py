"""Ways to find candidates for the nearest rows of a segment. Each says what it may have left out."""
