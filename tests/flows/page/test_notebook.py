"""docs/notebook.md: all code blocks run, on a generated show."""

import os
import re
from datetime import timedelta
from pathlib import Path

from flows.report.export import export_rows

NOTEBOOK = Path(__file__).resolve().parents[3] / "docs" / "notebook.md"


def test_each_block_runs(page, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin = page.made.begin
    with page.made.engine.connect() as connection:
        export_rows(
            connection,
            "late-night",
            begin,
            begin + timedelta(minutes=1),
            tmp_path / "late-night.parquet",
            form="parquet",
        )
    blocks = re.findall(r"```python\n(.*?)```", NOTEBOOK.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"url": page.made.url}
    for block in blocks:
        exec(compile(block, str(NOTEBOOK), "exec"), names)
    assert len(names["seconds"]) > 20
    assert names["longest"].iloc[0] > 5
    assert isinstance(names["angry"], list)
    names["engine"].dispose()
    assert os.listdir(tmp_path)
