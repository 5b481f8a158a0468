"""Writes the table of all checks into docs/doctor.md: `python -m tests.unit.doctor.renew`."""

from __future__ import annotations

from pathlib import Path

from cardoon.doctor.telling import table

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
MARK = "| id | severity |"


def main() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(MARK)
    after = "".join(line for line in rest.splitlines(keepends=True)[1:] if not line.startswith("|"))
    PAGE.write_text(before + "\n".join(table()) + "\n" + after, "utf-8")


if __name__ == "__main__":
    main()
