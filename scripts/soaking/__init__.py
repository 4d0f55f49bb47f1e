"""The service at its capacity for minutes, with faults: what clients do, what is done to it, and what came of it."""
