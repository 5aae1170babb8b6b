"""Files that a reader never sees half of."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file beside it and rename. Raises OSError, and leaves nothing, where that cannot be done."""
    with tempfile.NamedTemporaryFile("w", dir=path.resolve().parent, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.close()
            os.chmod(file.name, 0o644)  # a temporary file is its owner's alone
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
