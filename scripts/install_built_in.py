"""Puts a trained run into the package as built-in weights: half precision, with its model card.

    python scripts/install_built_in.py RUN ARCH.TAG --data TEXT --limits TEXT --result FILE

The card (`MODEL_CARD.md`) is written from the run and the result file, so its figures are measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from foveate.core.files import replace_file
from foveate.models.weights.builtin import FOLDER
from foveate.models.weights.run import load_run, write_run

LIMIT = 8_000_000  # bytes of one set of weights


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Figures with intervals, a line each."""
    out = []
    for name, value in figures.items():
        if isinstance(value, dict) and "top1" in value:
            out.append(f"* {name}: {value['top1']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
        elif isinstance(value, dict) and "says" in value:
            out.append(f"* {value['says']}")
        elif isinstance(value, dict):
            for part, found in value.items():
                if isinstance(found, dict):
                    out.append(
                        f"* {name}, {part}: {found['top1']:.3f} "
                        f"({found['low']:.3f} to {found['high']:.3f}, n = {found['n']})"
                    )
        elif isinstance(value, str) and "against" in name:
            out.append(f"* {value}")
    return out


def main() -> None:
    """Install one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="ARCH.TAG")
    parser.add_argument("--data", required=True, help="what it was trained on, in one sentence")
    parser.add_argument("--limits", required=True, help="what not to expect, in one sentence")
    parser.add_argument("--result", type=Path, required=True, help="file of benchmarks/results")
    parser.add_argument("--headline", required=True, help="of its figures, as a/b")
    options = parser.parse_args()
    result = json.loads(options.result.read_text("utf-8"))
    loaded = load_run(options.run)
    card = loaded.card
    assert card is not None
    target = FOLDER / options.name
    notice = (
        f"Fine-tuned by the foveate project from {card.started_from} (weights by Google, "
        f"Apache-2.0) on {options.data} {options.limits}"
    )
    headline = result["figures"]
    for key in options.headline.split("/"):
        headline = headline[key]
    figures = {"top1": headline["top1"], "top1-low": headline["low"], "top1-high": headline["high"]}
    card = card.model_copy(
        update={
            "notice": notice,
            "licence": "Apache-2.0",
            "protocol": result["protocol"],
            "figures": figures,
        }
    )
    card = write_run(target, loaded.networks, card, half=True)
    if card.size > LIMIT:
        raise SystemExit(f"{card.size} bytes, more than {LIMIT}")
    spec = card.input
    settings = yaml.safe_dump(card.configuration, sort_keys=False).strip()
    text = f"""# {options.name}

Classes: {", ".join(card.classes)}.

**Trained from** {card.started_from} (weights by Google, Apache-2.0), all layers, **on**
{options.data}

**Input**: {spec.size} pixels, {spec.frames_per_second:g} frames/s, windows of {spec.clip_frames}
frames, RGB 0..1. **Licence**: {card.licence}. **Size**: {card.size / 1e6:.1f} MB, half precision.

**Limits**: {options.limits}

## Figures

{result["protocol"]}. n = {result["n"]}, seeds {result["seeds"]}, {result["date"][:10]}, commit
{result["commit"][:12]}.

{chr(10).join(lines_of(result["figures"]))}

## Recipe

`foveate train --recipe {card.recipe}` with

```yaml
{settings}
```
"""
    replace_file(target / "MODEL_CARD.md", text.encode())
    print(f"{target.name}: {card.size} bytes")


if __name__ == "__main__":
    main()
