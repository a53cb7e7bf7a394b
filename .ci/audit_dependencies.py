"""Hold the locked dependencies against the advisory database. `make audit-dependencies`.

Exits 1 when one has a known vulnerability and 2 when nobody could be asked: then nothing is known, and saying that
none is vulnerable would be a lie. pip-audit alone exits 0 when the database knows none of the packages.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = "requirements.lock"
FAILED, UNKNOWN = 1, 2
COMMAND = ("-r", LOCK, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")


def main() -> int:
    """The exit status; tells on standard output what was found."""
    pip_audit = Path(sys.executable).with_name("pip-audit")
    asked = subprocess.run([pip_audit, *COMMAND], capture_output=True, text=True, check=False)  # noqa: S603  # ours
    try:
        found: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(
            f"UNKNOWN: the advisory database could not be reached: {(asked.stderr.strip() or 'no reason given')[-300:]}"
        )
        return UNKNOWN
    return verdict(found)


def verdict(found: list[dict[str, Any]]) -> int:
    """Of pip-audit's list of dependencies: 0 only where each was looked up and is clean."""
    vulnerable = [dependency for dependency in found if dependency.get("vulns")]
    skipped = [dependency["name"] for dependency in found if "skip_reason" in dependency]
    for dependency in vulnerable:
        for advisory in dependency["vulns"]:
            mended = ", ".join(advisory["fix_versions"]) or "no version yet"
            print(f"VULNERABLE: {dependency['name']} {dependency['version']}: {advisory['id']}, mended in {mended}")
    if vulnerable:
        return FAILED
    if skipped:
        print(f"UNKNOWN: {len(skipped)} of {len(found)} packages are not in the database that answered: {skipped[:5]}…")
        return UNKNOWN
    print(f"no known vulnerability in the {len(found)} packages of {LOCK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
