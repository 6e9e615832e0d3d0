"""Write the weights that ship from what `training.encode.train` wrote: interpolated, in half precision.

    python -m training.encode.weights out/encoder.npz --start DIRECTORY --share 0.5 -o weights

Between the weights that training started from and those it ended with, `--share` of the way (WiSE-FT, Wortsman et al.,
arXiv 2109.01903); 0 is the start. The tokenizer is that of the embedded MiniLM, whose vocabulary is the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from thresher.models.files import embedded_path
from thresher.models.minilm import load_tokenizer

SHAPE = (
    "architectures", "hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings",
    "model_type", "num_attention_heads", "num_hidden_layers", "tie_word_embeddings", "type_vocab_size", "vocab_size",
)  # fmt: skip


def main() -> None:
    """Write weights from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("trained", type=Path, nargs="?", help="what training wrote; none for the start as it is")
    parser.add_argument("--start", type=Path, required=True, help="directory of the model that training started from")
    parser.add_argument("--share", type=float, default=1.0, help="how far from the start, 0 to 1")
    parser.add_argument("--table", action="store_true", help="queries are looked up in the trained table")
    parser.add_argument("--max-active-terms", type=int, default=128)
    parser.add_argument("--max-query-terms", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the weights")
    options = parser.parse_args()
    known = load_tokenizer(embedded_path()).get_vocab()
    if known != load_tokenizer(options.start).get_vocab():
        parser.error(f"the tokenizer of {options.start} has another vocabulary than that of the embedded MiniLM")
    tensors = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in load_file(options.start / "model.safetensors").items()
    }
    if options.trained is not None:
        with np.load(options.trained, allow_pickle=False) as held:
            tensors = {
                name: (1 - options.share) * value + options.share * held[name].astype(np.float32)
                for name, value in tensors.items()
            }
            if options.table:
                tensors["query"] = held["table"]
    given = json.loads((options.start / "config.json").read_text(encoding="utf-8"))
    config: dict[str, Any] = {name: given[name] for name in SHAPE}
    config["thresher"] = {
        "query": "table" if options.table else "model",
        "max_tokens": 256,
        "max_active_terms": options.max_active_terms,
        "max_query_terms": options.max_query_terms,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value.astype(np.float16)) for name, value in tensors.items()},
        options.out / "model.safetensors",
    )
    (options.out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
