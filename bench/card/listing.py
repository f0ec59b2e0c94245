"""The table of known cards as text or JSON: what each has, can do, and was seen to do. Pure."""

import json
from typing import Any

from bench.card.budget import CONTEXT_BYTES, MARGIN_BYTES, limit_on
from bench.card.cards import BUILT_FROM, Card, has_bf16, has_tensor_cores, known_cards
from distill.base.units import mib
from distill.report.tables import Row, as_text


def cards_text(*, as_json: bool) -> str:
    """Every card of the table, a row each, and what the columns mean."""
    if as_json:
        return json.dumps({name: _document(card, name) for name, card in known_cards().items()})
    rows = [_row(name, card) for name, card in known_cards().items()]
    return "\n".join([as_text(rows), "", *_legend()])


def _row(name: str, card: Card) -> Row:
    capability = card.compute_capability
    return {
        "name": name,
        "box GiB": f"{card.box_gib:g}",
        "seen MiB": mib(card.total_bytes),
        "source": "assumed" if card.total_mib is None else "reported",
        "run MiB": mib(limit_on(card.target(name))),
        "CC": f"{capability[0]}.{capability[1]}",
        "SMs": str(card.multiprocessors),
        "tensor cores": _word(has_tensor_cores(card.title, capability)),
        "bf16": _word(has_bf16(capability)),
        "recorded": _word(card.recorded),
    }


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _legend() -> list[str]:
    return [
        f"seen: by PyTorch. run: less {mib(CONTEXT_BYTES)} MiB of CUDA context and "
        f"{mib(MARGIN_BYTES)} of margin, both assumed. SMs: multiprocessors.",
        "tensor cores: without them fp16 saves memory and hardly time; users report NaN in it.",
        "bf16: with it flash attention; without, fp32 and fp16 are predicted, with the "
        "memory-efficient kernel.",
        f"CC: compute capability. Below {BUILT_FROM[0]}.{BUILT_FROM[1]} a card needs PyTorch for "
        "CUDA 12.6, as later builds have no kernels for it.",
        "recorded: PyTorch's allocator, on that card; of the others everything is predicted.",
        "Another card: --target takes a TOML file (docs/prediction.md).",
    ]


def _document(card: Card, name: str) -> dict[str, Any]:
    capability = card.compute_capability
    return {
        **card.target(name).model_dump(mode="json"),
        "box_gib": card.box_gib,
        "total_source": "assumed" if card.total_mib is None else "reported",
        "limit_bytes": limit_on(card.target(name)),
        "tensor_cores": has_tensor_cores(card.title, capability),
        "bf16": has_bf16(capability),
        "recorded": card.recorded,
    }
