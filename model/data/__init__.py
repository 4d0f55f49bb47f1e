"""Datasets: collections of images and their labels, packed for training, and read in batches."""
