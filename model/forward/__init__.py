"""The forward pass: the same network and weights on OpenVINO (a CPU) or torch (every device, and the reference)."""

import sys

# `import openvino` sends a message to Google Analytics through this package of its, without being asked to, and writes
# a file in the user's home; where the package cannot be imported, it does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
