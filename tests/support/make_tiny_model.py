#!/usr/bin/env python3
"""Make a tiny DeepSeek-V3-architecture model of random weights: make_tiny_model.py FOLDER [--seed N].

The folder is a complete Hugging Face model directory (config, bfloat16 safetensors, byte-level tokenizer with a chat
template) plus manifest.json, and is served by the real vLLM. Standard library only, offline; the same seed gives the same
bytes. The weights mean nothing, but the output layer favours printable ASCII, so that an answer is always readable text.
"""

from __future__ import annotations

import argparse
import array
import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

SPECIALS = ["<|begin|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
BEGIN, END, PAD, USER, ASSISTANT = SPECIALS
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}" + ASSISTANT + "{{ m['content'] }}{{ eos_token }}"
    "{% else %}" + USER + "{{ m['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)

# MLA on a CPU wants kv_lora_rank 512 and a rope head of 64; everything else is as small as the architecture allows.
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 256 + len(SPECIALS),
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": 64,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 64,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "moe_layer_freq": 1,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 1024,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "use_cache": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Each tensor's name in the checkpoint and its shape (rows = outputs, columns = inputs)."""
    c = config
    hidden, heads, rope, nope = c["hidden_size"], c["num_attention_heads"], c["qk_rope_head_dim"], c["qk_nope_head_dim"]
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], hidden)}

    def mlp(prefix: str, inner: int) -> None:
        out[f"{prefix}.gate_proj.weight"] = out[f"{prefix}.up_proj.weight"] = (inner, hidden)
        out[f"{prefix}.down_proj.weight"] = (hidden, inner)

    for layer in range(c["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        out[f"{block}.input_layernorm.weight"] = out[f"{block}.post_attention_layernorm.weight"] = (hidden,)
        out[f"{block}.self_attn.q_a_proj.weight"] = (c["q_lora_rank"], hidden)
        out[f"{block}.self_attn.q_a_layernorm.weight"] = (c["q_lora_rank"],)
        out[f"{block}.self_attn.q_b_proj.weight"] = (heads * (nope + rope), c["q_lora_rank"])
        out[f"{block}.self_attn.kv_a_proj_with_mqa.weight"] = (c["kv_lora_rank"] + rope, hidden)
        out[f"{block}.self_attn.kv_a_layernorm.weight"] = (c["kv_lora_rank"],)
        out[f"{block}.self_attn.kv_b_proj.weight"] = (heads * (nope + c["v_head_dim"]), c["kv_lora_rank"])
        out[f"{block}.self_attn.o_proj.weight"] = (hidden, heads * c["v_head_dim"])
        if layer < c["first_k_dense_replace"]:
            mlp(f"{block}.mlp", c["intermediate_size"])
            continue
        out[f"{block}.mlp.gate.weight"] = (c["n_routed_experts"], hidden)
        out[f"{block}.mlp.gate.e_score_correction_bias"] = (c["n_routed_experts"],)
        for expert in range(c["n_routed_experts"]):
            mlp(f"{block}.mlp.experts.{expert}", c["moe_intermediate_size"])
        mlp(f"{block}.mlp.shared_experts", c["moe_intermediate_size"] * c["n_shared_experts"])
    out["model.norm.weight"] = (hidden,)
    out["lm_head.weight"] = (c["vocab_size"], hidden)
    return out


def bfloat16(values: list[float]) -> bytes:
    """The upper half of each float32, little-endian: bfloat16 by truncation."""
    singles = array.array("f", values)
    if sys.byteorder == "big":
        singles.byteswap()
    halves = array.array("H", singles.tobytes())
    return halves[1::2].tobytes()


def values(name: str, shape: tuple[int, ...], seed: int) -> list[float]:
    """A tensor's numbers, row by row; each tensor has a generator of its own, seeded by its name."""
    rng = random.Random(f"{seed}/{name}")
    columns = shape[-1]
    count = shape[0] * columns if len(shape) == 2 else columns
    if name.endswith("norm.weight"):
        return [1.0] * count
    if name.endswith("e_score_correction_bias"):
        return [0.0] * count
    spread = 0.9 if name == "lm_head.weight" else 0.12
    numbers = [(2 * rng.random() - 1) * spread for _index in range(count)]
    if name == "lm_head.weight":  # rows of what is no printable ASCII are zero: hardly ever the likeliest token
        for row in range(shape[0]):
            if not 32 <= row < 127:
                numbers[row * columns : (row + 1) * columns] = [0.0] * columns
    return numbers


def safetensors(config: dict, seed: int) -> bytes:
    """The weights file: 8 bytes with the header's length, a JSON header, the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, shape in sorted(shapes(config).items()):
        blob = bfloat16(values(name, shape, seed))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blobs)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, in byte order; token id = byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def tokenizer() -> dict:
    """tokenizer.json: a token for each byte and the special ones, no merges."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + i, "content": text, **flags} for i, text in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate([*byte_alphabet(), *SPECIALS])},
            "merges": [],
        },
    }


def model_files(seed: int) -> dict[str, bytes]:
    """The model directory without its manifest: file name to bytes."""

    def text(data: dict) -> bytes:
        return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()

    ids = {key: CONFIG[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tokens = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    return {
        "config.json": text(CONFIG),
        "generation_config.json": text({**ids, "do_sample": False}),
        "model.safetensors": safetensors(CONFIG, seed),
        "tokenizer.json": text(tokenizer()),
        "tokenizer_config.json": text(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": CONFIG["max_position_embeddings"],
                "clean_up_tokenization_spaces": False,
                "chat_template": CHAT_TEMPLATE,
                **tokens,
            }
        ),
    }


def write(folder: Path, seed: int = 0) -> int:
    """Write the model and its manifest into `folder` (replaced as a whole); returns the bytes written."""
    files = model_files(seed)
    rows = [{"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(files.items())]
    files["manifest.json"] = (json.dumps({"files": rows}, indent=2) + "\n").encode()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)  # a service user reads them
    return sum(len(data) for data in files.values())


def main() -> None:
    """Read the command line, write the model, say what it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{args.folder}: {CONFIG['architectures'][0]}, {write(args.folder, args.seed):,} bytes, seed {args.seed}")


if __name__ == "__main__":
    main()
