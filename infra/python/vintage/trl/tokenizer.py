"""Tokenizer of a run's model, as TRL needs it."""

from __future__ import annotations

import json
import os
from typing import Any

from transformers import AutoTokenizer


def load_tokenizer(folder: str) -> Any:
    """Tokenizer of a folder in the layout of Hugging Face. A run's folders may name the end of text in
    ``config.json`` alone; it is taken from there then."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token is None:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            ends = json.load(file).get("eos_token_id")
        ends = ends if isinstance(ends, list) else [ends]
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    return tokenizer
