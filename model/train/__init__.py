"""Training: what a preset prescribes, one step, the loop, what is logged and what is kept."""
