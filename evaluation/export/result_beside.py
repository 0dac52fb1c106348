"""The result of the job that wrote a checkpoint."""

import json
from pathlib import Path
from typing import Any


def result_beside(checkpoint: Path) -> dict[str, Any]:
    """Returns the content of the `result.json` beside a checkpoint of train.py or prune.py.

    Returns:
        The content, with "metrics"; {} if there is no such file, if it is damaged, or if it belongs to another
        checkpoint. A result has the bytes of its checkpoint.
    """
    try:
        result = json.loads(checkpoint.with_name("result.json").read_text())
        size = checkpoint.stat().st_size
    except (OSError, ValueError):
        return {}
    belongs = isinstance(result, dict) and result.get("bytes") == size and isinstance(result.get("metrics"), dict)
    return result if belongs else {}
