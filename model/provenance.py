"""Which commit of this code made a file."""

import subprocess
from pathlib import Path

__all__ = ["commit"]


def commit() -> str | None:
    """Return the commit of this code's checkout; None outside one, and where there is no git (an image, a wheel)."""
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:
        return None
