"""AlexNets that others trained and published: their tables, their file formats, and the import."""
