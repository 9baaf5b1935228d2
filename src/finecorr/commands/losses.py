"""`finecorr losses`: the losses to choose from."""

from __future__ import annotations

from jsonargparse import Namespace

from finecorr.losses import available


def run(options: Namespace) -> None:
    explanations = available()
    width = max(map(len, explanations))
    for name, explanation in explanations.items():
        print(f"{name:{width}}  {explanation}")
