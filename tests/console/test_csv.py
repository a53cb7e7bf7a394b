"""CSV downloads are for spreadsheets, which execute some text as formulas (OWASP, CSV injection)."""

import csv
import io
from pathlib import Path

import pytest

from heirloom.console.csv_guard import guarded_rows
from heirloom.export.csv_cell import FORMULA, cell
from projections.read_model import ReadModel
from tests.console.site import site
from tests.projections.logs import LogMaker

PAYLOADS = ('=HYPERLINK("https://evil.example","x")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\uff1d1+1")


@pytest.mark.parametrize("stream", ["", "?_stream=1"])
async def test_no_cell_of_the_console_is_a_formula(stream: str, tmp_path: Path) -> None:
    """An attacker may choose a `sub`; the export's guard applies here, too."""
    made = LogMaker()
    for number, sub in enumerate(PAYLOADS):
        made.open(f"f{number}", sub=sub)
    model = ReadModel(tmp_path / "model.db")
    model.apply(made.log)
    model.close()
    async with site(tmp_path / "model.db") as browser:
        answer = await browser.get(f"/read-model/readable_families.csv{stream}")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sorted(row["sub"] for row in rows) == sorted(f"'{sub}" for sub in PAYLOADS)
    assert not [value for row in rows for value in row.values() if value.startswith(FORMULA)]


def test_other_cells_stay_as_they_are() -> None:
    """Numbers stay numbers, also negative ones; quotes and line breaks stay within their cell."""
    assert guarded_rows(b'a,-1,-2.5,"x, ""y"""\r\n') == b'a,-1,-2.5,"x, ""y"""\r\n'
    assert guarded_rows(b'"=1\nb",c\r\n') == b"'=1\\nb,c\r\n"


@pytest.mark.parametrize("payload", [*PAYLOADS, "\t=1", "\r=1", "\n=1"])
def test_export_and_console_have_one_guard(payload: str) -> None:
    """Each character that begins a formula."""
    assert cell(payload).startswith("'")
