"""The Python of docs/data.md runs, and prints what stands below it."""

import re
from pathlib import Path

from support.coloured_images import colours, png, write_tar

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    members = [(f"{at}.{kind}", data) for at, colour in enumerate(colours(2)) for kind, data in (
        ("png", png(colour)), ("cls", b"dog" if at == 0 else b"0"),
    )]  # fmt: skip
    write_tar(tmp_path / "pets" / "0000.tar", members)
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    exec(compile(block[0], "docs/data.md", "exec"), {})
    assert capsys.readouterr().out == block[1]
