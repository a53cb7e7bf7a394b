"""The picture of the dashboard in the README: `make picture` (needs Chromium)."""

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from projections.read_model import ReadModel
from tests.console.activity import Day
from tests.console.browser import chromium, running

COMMITS_PER_HOUR = 260


def main(into: Path) -> None:
    """Take a screenshot of the dashboard over a day of activity."""
    with tempfile.TemporaryDirectory(prefix="heirloom-picture-") as directory:
        path = Path(directory) / "read-model.db"
        model = ReadModel(path)
        model.apply(Day(datetime.now(UTC)).pass_by(COMMITS_PER_HOUR))
        model.close()
        with (
            running("--read-model", path, "--no-login") as console,
            chromium(Path(directory) / "chromium", scale=2) as browser,
        ):
            browser.get(console.url)
            browser.save_screenshot(str(into))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
