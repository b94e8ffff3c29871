"""
Run every bench, or those named: ``python -m bench single``. Exit code 1 when one missed a target.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    known = {path.stem.removeprefix("bench_"): path.stem for path in sorted(HERE.glob("bench_*.py"))}
    if unknown := [name for name in names if name not in known]:
        print(f"no bench is called {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    # A process each: no bench runs in what another one loaded or left behind.
    codes = [subprocess.call([sys.executable, "-m", f"bench.{known[name]}"]) for name in names or known]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
