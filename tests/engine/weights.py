"""The two weights of a server, and updates from one to the other."""

from pathlib import Path

from tests.engine import client, tiny_models


class Weights:
    """Both weights of a server of the list, and the update from one to the other."""

    def __init__(self, url: str, folder: Path, model: str):
        self.url = url
        self.plain = tiny_models.make(model, folder)
        self.changed = tiny_models.make(f"{model}, one weight changed", folder)

    def load(self, path: Path, **more) -> dict:
        """What the server answers to an update from disk."""
        body = {"model_path": str(path), **more}
        return client.post(self.url, body, "/update_weights_from_disk").json()

    def update(self, path: Path, **more) -> str:
        """The fingerprint after an update from disk, which must succeed."""
        answer = self.load(path, **more)
        assert answer["success"], answer
        return fingerprint(self.url)


def fingerprint(url: str) -> str:
    shown = client.get(url, "/llm42/fingerprint").json()
    return shown["fingerprint"] if "fingerprint" in shown else shown["error"]["message"]
