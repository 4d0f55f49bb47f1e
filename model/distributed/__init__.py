"""One training over several processes: planned (layout), behind one interface (placement), and carried out."""
