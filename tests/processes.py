"""What a process that a test starts is given."""

import os


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without the user's FC7_* settings, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FC7_")}
    return {**kept, **variables}
