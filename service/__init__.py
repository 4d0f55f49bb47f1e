"""The answers over HTTP, and the page. Nothing is imported here, so that service.port costs no network and no index."""
