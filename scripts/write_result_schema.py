"""Writes docs/result.schema.json from the Result model."""

import json
from pathlib import Path

from foveate.core import Result


def main() -> None:
    path = Path(__file__).parents[1] / "docs" / "result.schema.json"
    schema = Result.model_json_schema(by_alias=True, mode="serialization")
    path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
