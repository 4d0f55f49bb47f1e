"""The forward pass: the same network and weights on OpenVINO (a CPU) or torch (every device, and the reference)."""
