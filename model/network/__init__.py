"""The network: the tables that describe it, the module built from them, response normalisation and dropout masks."""
