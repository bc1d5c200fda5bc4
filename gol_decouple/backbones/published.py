"""Published weights: the files they lie in, fetched once, and how a backbone starts from them."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gol_decouple.backbones import ImageClassifier
from gol_decouple.backbones.libraries import find
from gol_decouple.errors import EnvironmentFailure, InputError, few
from gol_decouple.files import disk_errors

PATIENCE = 10.0  # seconds a server may be silent


def load_published(model: ImageClassifier, name: str, size: int) -> None:
    """Load the library's published weights of backbone `name` for images [size, size]; the classifier stays as it is.

    Raises:
        InputError: the file of the weights is damaged or another model's, or they are for images of another size.
        EnvironmentFailure: they are not here and cannot be downloaded.
    """
    library, model_name = find(name)
    with torch.random.fork_rng(devices=[]):
        weights = library.published(model_name, size)
    state = model.backbone.state_dict()
    differ = [key for key, tensor in state.items() if key not in weights or weights[key].shape != tensor.shape]
    if differ:
        own = library.network_input(model_name).size
        raise InputError(
            f"the published weights of {name} do not fit for images of {size}x{size}: {few(differ)}",
            f"--set transform.size={own}" if own != size else None,
        )
    model.backbone.load_state_dict({key: weights[key] for key in state})


def place(file: str) -> Path:
    """Where a file of weights lies, or is to be put: torch's folder for them, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def fetch(what: str, url: str, path: Path) -> Path:
    """Download `url` to `path`; a hash in its name is checked.

    Raises:
        EnvironmentFailure: that is not possible.
    """
    found = torch.hub.HASH_REGEX.search(path.name)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _patience():
            torch.hub.download_url_to_file(url, str(path), found.group(1) if found else None)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(what, url, path, error) from None
    return path


def fetch_from_hub(what: str, repository: str, file: str, revision: str | None, path: Path) -> Path | None:
    """A file of the Hugging Face hub: from its cache, else downloaded into it; None if the repository has none.

    Args:
        path: where the user can put the file instead.

    Raises:
        EnvironmentFailure: that is not possible.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    url = huggingface_hub.hf_hub_url(repository, file, revision=revision)
    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            _reach(url)
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    except (OSError, EntryNotFoundError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        raise _not_fetched(what, url, path, error) from None


def wrong_weights(what: str, path: Path, error: Exception) -> InputError:
    """The error for a file that a library cannot take for the weights of its model."""
    return InputError(
        f"{path} does not hold the weights of {what}: {_reason(error)}",
        "remove it, then it is downloaded; weights of your own: --checkpoint",
    )


def wrong_size(what: str, size: int, error: Exception) -> InputError:
    """The error for a model that cannot take images of [size, size]."""
    return InputError(
        f"backbone {what} does not take images of {size}x{size}: {_reason(error)}",
        "leave transform.size out to have the backbone's own",
    )


def _not_fetched(what: str, url: str, path: Path, error: Exception) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"the weights of {what} are not at {path} and could not be downloaded: {_reason(error)}",
        f"fetch {url} on a machine with a network and put it at {path}",
    )


def _reach(url: str) -> None:
    """Meet at once what the hub's own client finds only after a minute of retries; an answer, any, is enough."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return


@contextmanager
def _patience() -> Iterator[None]:
    """torch's downloads wait for a silent server for as long as the system does, unless sockets have a timeout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
