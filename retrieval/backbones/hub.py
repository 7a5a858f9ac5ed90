"""Files of the Hugging Face hub, or of its cache where no hub can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import BackboneError
from retrieval.libraries import is_installed
from retrieval.text import one_sentence


def from_hub(name: str, repository: str, file: str) -> Path:
    """Return a file of a hub repository, from the hub's cache if it is there.

    Weights are safetensors, whatever else a repository holds: nothing is ever unpickled.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        EntryNotFoundError,
        LocalEntryNotFoundError,
    )

    repository, _, revision = repository.partition("@")
    try:
        with _one_try_at_the_hub():
            return Path(hf_hub_download(repository, file, revision=revision or None))
    except LocalEntryNotFoundError as error:
        raise BackboneError(_without_network(name)) from error
    except EntryNotFoundError as error:
        raise BackboneError(f"{name} has no {file} on the hub. Choose another backbone.") from error
    except (OSError, ValueError) as error:  # no such repository, no right to it, a wrong name
        raise BackboneError(_without_network(name, f" ({one_sentence(error)})")) from error


def is_cached(repository: str) -> bool:
    """Tell whether the hub's cache on this machine has a repository's weights; ask no hub."""
    if not is_installed("huggingface_hub"):
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)


@contextmanager
def _one_try_at_the_hub() -> Iterator[None]:
    """Let the hub library use only its cache if no hub answers.

    By itself it tries five times and waits in between, 45 seconds in all, before it looks into
    its cache or gives up.
    """
    from huggingface_hub import constants, get_session

    was = constants.HF_HUB_OFFLINE
    if not was:
        try:
            get_session().head(constants.ENDPOINT, timeout=5)
        except Exception:  # noqa: BLE001  whatever the transport says, it did not answer
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


def _without_network(name: str, why: str = "") -> str:
    from huggingface_hub import constants

    offline = "" if constants.HF_HUB_OFFLINE else ", and set HF_HUB_OFFLINE=1 here"
    return (
        f"The weights of {name} are not on this machine, and no hub could be reached{why}. Give a "
        "folder with config.json and model.safetensors instead. Or fill the hub's cache (HF_HOME "
        f"names it) where there is a network{offline}."
    )
