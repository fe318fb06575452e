"""Models on a Hub that is a folder behind a local server, laid out as the Hub's addresses are."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError
from medcore_prune.checkpoints import hub as hub_module
from medcore_prune.models.fingerprint import model_hash

hub = pytest.importorskip("huggingface_hub")


class Hub(BaseHTTPRequestHandler):
    """Serves ROOT/user/name/REVISION/file at /user/name/resolve/REVISION/file."""

    def __init__(self, root: Path, *arguments: Any) -> None:
        self.root = root
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        error, content = "RepoNotFound", b""
        if parts[0] != "api" and len(parts) > 4:
            user, name, _, revision, *file = parts
            page = self.root / user / name
            commit = page / revision
            place = commit.joinpath(*file)
            error = "EntryNotFound" if commit.is_dir() else "RevisionNotFound" if page.is_dir() else "RepoNotFound"
            if place.is_file():
                error, content = "", place.read_bytes()
        self.send_response(404 if error else 200)
        if error:
            self.send_header("X-Error-Code", error)
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", hashlib.sha1(str(commit).encode()).hexdigest())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the Hub serves; nothing is fetched from elsewhere."""
    root = tmp_path / "hub"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)

    def upload_folder(_api: Any, *, repo_id: str, folder_path: str, revision: str | None, **_: Any) -> Any:
        content = {each.name: each.read_bytes() for each in Path(folder_path).iterdir()}
        oid = hashlib.sha1(b"".join(content.values())).hexdigest()
        for commit in (revision or "main", oid):
            place = root / repo_id / commit
            place.mkdir(parents=True, exist_ok=True)
            for name, each in content.items():
                (place / name).write_bytes(each)
        return SimpleNamespace(oid=oid)

    monkeypatch.setattr(hub.HfApi, "create_repo", lambda _api, name, **given: asked.append((name, given)))
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    asked: list[Any] = []
    yield root
    server.shutdown()
    server.server_close()


def small(seed: int = 0) -> torch.nn.Module:
    model = tiny_sam(seed)
    return mp.prune(model, mp.make_plan(model, "h50_m70", protect=1))


def test_what_is_pushed_is_loaded_again_by_its_commit(served: Path, tmp_path: Path) -> None:
    first, second = small(), small(1)
    address = mp.push(first, "ana/polyps", license="mit")
    mp.save(second, tmp_path / "b.safetensors")
    newer = mp.push(tmp_path / "b.safetensors", "ana/polyps")
    assert address.startswith("hf://ana/polyps@")
    assert address != newer
    for where, expected in ((address, first), (newer, second), ("hf://ana/polyps", second)):
        loaded = mp.load(where)
        assert model_hash(loaded) == model_hash(expected)
        assert not any(part.training for part in loaded.modules())
    # what save keeps beside the weights came along: what was cut
    assert mp.count(mp.load(address)).params < mp.count(tiny_sam()).params
    card = (served / "ana/polyps" / address.partition("@")[2] / "README.md").read_text()
    assert hub.ModelCard(card).data.license == "mit"
    assert "# polyps\n" in card
    assert 'mp.load("hf://ana/polyps")' in card


def test_what_was_fetched_is_there_without_a_network(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mp.push(small(), "ana/polyps")
    expected = model_hash(mp.load("hf://ana/polyps"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert model_hash(mp.load("hf://ana/polyps")) == expected
    with pytest.raises(CheckpointError, match=r"hf://ana/other: the Hub cannot be reached.*is there a network\?"):
        mp.load("hf://ana/other")


def test_files_that_may_hold_code_are_refused_by_name(served: Path) -> None:
    page = served / "ana/pickle/main"
    page.mkdir(parents=True)
    (page / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin is no .safetensors file, and others may hold code"):
        mp.load("hf://ana/pickle/pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"hf://ana/pickle holds no model.safetensors, but"):
        mp.load("hf://ana/pickle")
    (page / "model.safetensors").write_bytes(b"code")
    with pytest.raises(CheckpointError, match=r"expected a file that medcore_prune.save wrote"):
        mp.load("hf://ana/pickle")


def test_what_is_not_there_is_said_in_one_line(served: Path, tmp_path: Path) -> None:
    mp.push(small(), "ana/polyps")
    for address, said in (
        ("hf://ana/none", "there is no such model, or it is private"),
        ("hf://ana/polyps@v9", "it has no such revision"),
        ("hf://ana/polyps/other.safetensors", r"holds no other\.safetensors, but"),
        ("hf://polyps", "expected hf://user/name"),
        ("hf://ana/polyps@", "expected hf://user/name"),
    ):
        with pytest.raises(CheckpointError, match=said) as caught:
            mp.load(address)
        assert "\n" not in str(caught.value)
    (tmp_path / "x.pth").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"expected a file that medcore_prune.save wrote; nothing was uploaded"):
        mp.push(tmp_path / "x.pth", "ana/new")
    assert not (served / "ana/new").exists()


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r'needs huggingface_hub: pip install "medcore-prune\[hub\]"'):
        mp.load("hf://ana/polyps")


@pytest.mark.parametrize("kind", ["GatedRepoError", "OfflineModeIsEnabled"])
def test_refusals_of_the_hub_are_said_plainly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise type(kind, (Exception,), {})("many\nlines")

    monkeypatch.setattr(hub, "hf_hub_download", fails)
    with pytest.raises(CheckpointError, match=f"hf://ana/a: {hub_module._REASONS[kind][:20]}".replace("(", r"\(")):
        mp.load("hf://ana/a")
