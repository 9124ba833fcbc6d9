"""Ends with 0 when every case of a suite was run: `whole.py SUITE.JSON`."""

import json
import sys
from pathlib import Path


def main():
    suite = json.loads(Path(sys.argv[1]).read_text())
    left = [case["name"] for case in suite["cases"] if case["exit_code"] is None]
    if left:
        sys.exit(f"{len(left)} of {len(suite['cases'])} cases were not run: {', '.join(left)}")


if __name__ == "__main__":
    main()
