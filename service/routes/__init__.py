"""The routes that answer questions about images, by subject."""
