"""One training on several processes: the plan (layout), the interface (placement), and what carries it out."""
