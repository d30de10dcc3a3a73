"""One weight of the model is another one: a check says so, by name."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from llm42_sglang.cli.model import ensure_default_model
from tests.engine.conftest import BASE, Server, llm42

pytestmark = pytest.mark.server


@pytest.fixture
def changed_model(tmp_path):
    """The default model, one number of its last norm doubled."""
    source, folder = ensure_default_model(), tmp_path / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in source.glob("*.safetensors"):
        tensors = load_file(file)
        if "model.norm.weight" in tensors:
            tensors["model.norm.weight"][0] *= 2
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
    return folder


def test_one_changed_weight_is_named(golden, servers, changed_model, capsys):
    server = Server((*BASE.args, "--model-path", str(changed_model)))
    few = ("--only", "short", "--only", "chat", "--conditions", "alone")
    status = llm42("check", golden, "--url", servers.url(server), *few)
    said = capsys.readouterr().out
    assert status == 1
    assert "fingerprint: weights changed" in said
    assert said.count("the answer changed with the fingerprint (weights changed)") == 2
    assert said.splitlines()[-1] == "UNKNOWN: 0 of 2 cases passed"
    servers.stop()  # its model is gone with this test
