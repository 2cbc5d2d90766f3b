"""What these tests run, they run by `running`, of the other example's tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tender-search"))
