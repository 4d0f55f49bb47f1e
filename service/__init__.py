"""The HTTP service and its page. This file imports nothing, so that service.port loads neither torch nor FAISS."""
