"""The README's lines do what they say."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_python_lines_run_one_after_the_other(tmp_path: pathlib.Path) -> None:
    (tmp_path / "plans.toml").write_text(blocks("toml")[0])
    script = "\n".join(blocks("python"))
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    said = run.stdout.splitlines()
    assert said[0].startswith("searches 1 3 ")
    assert said[1].startswith("tokens 321 10000 ")
    assert said[2] == "free [('searches', 1)]"
    assert said[3] == "312 tokens"
    assert "ana pro" in said
    assert "quota_check_success ana" in said
    assert any(line.endswith("rules are broken:") for line in said)
