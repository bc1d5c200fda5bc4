"""Published weights: taken from where they lie, and a clear end where they are not and there is no network."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.published import load_published
from gol_decouple.errors import EnvironmentFailure, InputError

C = 5
TIMM, TORCHVISION = "timm:resnet18.a1_in1k", "torchvision:resnet18"
FILES = {TIMM: "resnet18.a1_in1k.safetensors", TORCHVISION: "resnet18-f37072fd.pth"}

Weights = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's hub folder, empty; there is no network, and whoever asks for it twice asks too often."""
    import huggingface_hub

    tries = []

    def refuse(*_: object, **__: object) -> None:
        assert not tries, "another try, although there is no network"
        tries.append(1)
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("retries for a minute"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def theirs(name: str) -> Weights:
    """The state of the library's own model with a thousand classes, of random weights."""
    torch.manual_seed(3)
    library, _, rest = name.partition(":")
    model = timm.create_model(rest) if library == "timm" else models.get_model(rest)
    return model.state_dict()


def save(weights: Weights, path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    else:
        torch.save(weights, path)


def model(name: str) -> ImageClassifier:
    return build_model(name, C, seed=0, size=32)


@pytest.mark.parametrize(
    ("name", "file"), [*FILES.items(), (TIMM, "resnet18.a1_in1k.pth"), ("timm:resnet18", "resnet18.a1_in1k.pth")]
)
def test_a_file_at_its_place_is_taken_without_network_and_the_classifier_stays(hub: Path, name: str, file: str) -> None:
    weights = theirs(name)
    save(weights, hub / file)
    loaded, before = model(name), model(name)
    drawn = torch.get_rng_state()
    load_published(loaded, name, 32)
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.backbone.state_dict().items())
    assert torch.equal(loaded.classifier.weight, before.classifier.weight)
    assert not torch.equal(loaded.backbone.conv1.weight, before.backbone.conv1.weight)


@pytest.mark.parametrize("name", list(FILES))
def test_without_file_and_network_the_place_for_it_is_named(hub: Path, name: str) -> None:
    with pytest.raises(EnvironmentFailure) as error:
        load_published(model(name), name, 32)
    assert error.value.exit_code == 3
    place = hub / FILES[name]
    assert error.value.message.startswith(f"the weights of {name} are not at {place} and could not be downloaded: ")
    assert "no network in tests" in error.value.message
    url = {
        TIMM: "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors",
        TORCHVISION: "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    }[name]
    assert error.value.hint == f"fetch {url} on a machine with a network and put it at {place}"
    assert not place.exists()


@pytest.mark.parametrize("name", list(FILES))
def test_the_place_that_is_named_is_the_place_that_is_looked_at(hub: Path, name: str) -> None:
    with pytest.raises(EnvironmentFailure) as error:
        load_published(model(name), name, 32)
    save(theirs(name), Path((error.value.hint or "").rpartition(" put it at ")[2]))
    load_published(model(name), name, 32)


def test_offline_by_setting_asks_no_server(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked a server"))
    with pytest.raises(EnvironmentFailure, match="offline mode is enabled"):
        load_published(model(TIMM), TIMM, 32)


def test_the_hubs_own_cache_is_used(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    weights = theirs(TIMM)
    save(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "model.safetensors"))
    loaded = model(TIMM)
    load_published(loaded, TIMM, 32)
    assert torch.equal(loaded.backbone.conv1.weight, weights["conv1.weight"])


@pytest.mark.parametrize("answer", ["here", "elsewhere"])
def test_what_the_hub_has_is_downloaded(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    import huggingface_hub

    asked, weights = [], theirs(TIMM)
    save(weights, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")

    def head(request: urllib.request.Request, timeout: float) -> None:
        assert (request.get_method(), request.host) == ("HEAD", "huggingface.co")
        raise urllib.error.HTTPError(request.full_url, 404 if answer == "elsewhere" else 401, "?", None, None)

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if answer == "elsewhere" and file == "model.safetensors":
            raise huggingface_hub.errors.EntryNotFoundError("no such file")
        return str(tmp_path / file)

    monkeypatch.setattr(urllib.request, "urlopen", head)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = model(TIMM)
    load_published(loaded, TIMM, 32)
    assert torch.equal(loaded.backbone.conv1.weight, weights["conv1.weight"])
    files = ["model.safetensors", "pytorch_model.bin"][: 1 + (answer == "elsewhere")]
    assert asked == [("timm/resnet18.a1_in1k", file, None) for file in files]


def test_torchvisions_file_is_downloaded_to_its_place(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = theirs(TORCHVISION)
    torch.save(weights, tmp_path / "served.pth")

    def download(url: str, target: str, hash_prefix: str) -> None:
        assert url.endswith("/resnet18-f37072fd.pth")
        assert hash_prefix == "f37072fd"
        shutil.copy(tmp_path / "served.pth", target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    loaded = model(TORCHVISION)
    load_published(loaded, TORCHVISION, 32)
    assert torch.equal(loaded.backbone.conv1.weight, weights["conv1.weight"])
    assert (hub / FILES[TORCHVISION]).is_file()


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("content", ["truncated", "empty", "text"])
def test_a_damaged_file_is_an_error_that_names_it(hub: Path, name: str, content: str) -> None:
    path = hub / FILES[name]
    save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello world"}[content])
    with pytest.raises(InputError, match=f"{path} is not a readable"):
        load_published(model(name), name, 32)


@pytest.mark.parametrize("name", list(FILES))
def test_another_models_weights_are_an_error_that_names_the_file(hub: Path, name: str) -> None:
    library = name.partition(":")[0]
    save(theirs(f"{library}:resnet34"), hub / FILES[name])
    target = model(name)
    before = target.backbone.conv1.weight.clone()
    with pytest.raises(
        InputError, match=f"{hub / FILES[name]} does not hold the weights of {name}: .*layer1.2"
    ) as error:
        load_published(target, name, 32)
    assert "--checkpoint" in (error.value.hint or "")
    assert torch.equal(target.backbone.conv1.weight, before)


def test_a_file_that_holds_code_is_refused(hub: Path) -> None:
    torch.save(model(TORCHVISION), hub / FILES[TORCHVISION])
    with pytest.raises(InputError, match="needs code to be read, which is refused"):
        load_published(model(TORCHVISION), TORCHVISION, 32)


@pytest.mark.parametrize(
    ("name", "file", "size"),
    [
        ("timm:vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors", 32),
        ("timm:vit_small_patch14_dinov2", "vit_small_patch14_dinov2.lvd142m.safetensors", 28),
    ],
)
def test_positions_are_fitted_to_the_size_of_the_images(hub: Path, name: str, file: str, size: int) -> None:
    weights = theirs(name)
    save(weights, hub / file)
    loaded = build_model(name, C, seed=0, size=size)
    load_published(loaded, name, size)
    state = loaded.backbone.state_dict()
    assert state["pos_embed"].shape != weights["pos_embed"].shape
    assert torch.equal(state["blocks.3.attn.qkv.weight"], weights["blocks.3.attn.qkv.weight"])


def test_torchvisions_positions_are_fitted_too(hub: Path) -> None:
    weights = theirs("torchvision:vit_b_32")
    save(weights, hub / "vit_b_32-d86f8d99.pth")
    loaded = build_model("torchvision:vit_b_32", C, seed=0, size=64)
    load_published(loaded, "torchvision:vit_b_32", 64)
    assert loaded.backbone.encoder.pos_embedding.shape == (1, 5, 768)
    assert torch.equal(loaded.backbone.class_token, weights["class_token"])
