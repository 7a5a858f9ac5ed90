"""An architecture and a file of weights -> a network, and how its pixels are prepared."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.backbones.configuration import check_architecture, needs_image_size, reason
from retrieval.errors import BackboneError
from retrieval.images import Preprocessing
from retrieval.words import Fit

if TYPE_CHECKING:
    import torch

MAX_SIDE, LEAST_STD = 4096, 1e-6
MOST_PREFIXES = 100  # of names in a file, that are tried


def create_backbone(
    name: str,
    size: int | None,
    *,
    weights: Path | None = None,
    cfg: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """Create a network by timm, by default without its classifier. Raises BackboneError.

    weights: a safetensors file; None for random ones. arguments: of the architecture.
    """
    import timm

    check_architecture(name)
    arguments = {"num_classes": 0} | sized(name, size, cfg, arguments)
    if weights:
        cfg = dict(cfg or {}) | {"file": str(weights), "custom_load": False}
    try:
        with _filled() as filled:
            network = timm.create_model(
                name, pretrained=weights is not None, pretrained_cfg=cfg, **arguments
            )
    except Exception as error:  # timm and safetensors raise all kinds on a bad file
        if weights:
            _check_unprefixed(weights, _keys_of(name, arguments))
        raise BackboneError(
            f"The backbone {weights.parent if weights else name} cannot be loaded "
            f"({reason(error)}). Use weights and a config.json of the same timm architecture."
        ) from error
    if weights:
        _check_complete(network, weights, filled)
    return network.eval().requires_grad_(requires_grad=False)


def sized(
    name: str,
    size: int | None,
    cfg: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the arguments with which timm makes a network for inputs of side `size`, pixels.

    Most networks take any size and need none. Those that are built for one size, as most
    transformers are, and those whose arguments name one, are built for `size`.
    """
    arguments = dict(arguments or {})
    if size and ("img_size" in arguments or needs_image_size(name, cfg)):
        arguments["img_size"] = size
    return arguments


@contextlib.contextmanager
def _filled() -> Iterator[list[torch.Tensor]]:
    """Collect the tensors that are copied into meanwhile, as load_state_dict() does.

    What timm leaves random can only be told so: its filters rename and reshape what a file holds.
    """
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

    filled: list[Tensor] = []

    class Noting(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is Tensor.copy_:
                filled.append(args[0])
            return func(*args, **(kwargs or {}))

    with Noting():
        yield filled


def _check_complete(
    network: torch.nn.Module, weights: Path, filled: Sequence[torch.Tensor]
) -> None:
    """Raise BackboneError if timm left weights random that a file does not have."""
    places = {tensor.data_ptr() for tensor in filled}
    lacking = [
        key
        for key, tensor in network.state_dict().items()
        if tensor.data_ptr() not in places and not key.endswith("num_batches_tracked")
    ]
    if lacking:
        _check_unprefixed(weights, network.state_dict().keys())
        raise BackboneError(
            f"{weights} lacks {len(lacking)} of the network's weights, such as {lacking[0]}. "
            "Use weights and a config.json of the same timm architecture."
        )


def _keys_of(name: str, arguments: Mapping[str, Any]) -> Collection[str]:
    """Name the weights of a network, which is not filled; none where it cannot be made."""
    import timm
    import torch

    with contextlib.suppress(Exception), torch.device("meta"):  # the first error is told
        return timm.create_model(name, **arguments).state_dict().keys()
    return ()


def _check_unprefixed(weights: Path, wanted: Collection[str]) -> None:
    """Raise BackboneError where a file has the wanted names behind a prefix, as of a wrapper."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "numpy") as file:
            keys = set(file.keys())
    except (OSError, SafetensorError):
        return
    parts = (key.split(".") for key in keys)
    prefixes = {".".join(of[:n]) + "." for of in parts for n in range(1, min(len(of), 4))}
    for prefix in sorted(prefixes, key=len)[:MOST_PREFIXES]:
        if 2 * sum(prefix + name in keys for name in wanted) > len(wanted):
            raise BackboneError(
                f"{weights} has {prefix!r} before the names of the network's weights. Remove it "
                "from each name."
            )


def preprocessing_of(
    name: str, network: torch.nn.Module, size: int | None, fit: Fit
) -> Preprocessing:
    """Return what the network's configuration says of its pixels, checked."""
    from timm.data import resolve_model_data_config

    try:
        cfg = resolve_model_data_config(network)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unusable(name, error) from error
    preprocessing = preprocessing_from(name, cfg, size, fit)
    patch = patch_size(network)
    if preprocessing.size % patch and preprocessing.size != cfg["input_size"][1]:
        raise BackboneError(
            f"{name} looks at patches of {patch} px, and {preprocessing.size} px is not a multiple "
            "of that. Choose another size (--size, or input.size in a recipe)."
        )
    return preprocessing


def patch_size(network: torch.nn.Module) -> int:
    """Return the side of the patches that a network cuts a picture into, in pixels; else 1.

    Where timm gives a number instead of a pair, convolutions make the tokens, of any size; so they
    do where patches overlap.
    """
    embedding = getattr(network, "patch_embed", None)
    sides = getattr(embedding, "patch_size", 1)
    if not isinstance(sides, (tuple, list)):
        return 1
    cut = getattr(embedding, "proj", getattr(embedding, "conv", None))
    steps = getattr(cut, "stride", sides)
    return int(sides[0]) if tuple(steps) == tuple(sides) else 1


def preprocessing_from(
    name: str, cfg: Mapping[str, Any], size: int | None, fit: Fit
) -> Preprocessing:
    """Read what a whole configuration says of pixels, without timm or a network; check it."""
    try:
        channels, height, width = map(int, cfg["input_size"])
        if channels != 3 or (size is None and height != width):
            raise BackboneError(
                f"{name} takes inputs of {channels} x {height} x {width}, but imgret needs 3 "
                "channels and a square. Choose another backbone, or give --size."
            )
        mean, std = _three(cfg["mean"]), _three(cfg["std"])
        if not 1 <= height <= MAX_SIDE or min(std) < LEAST_STD:
            raise ValueError(f"an input of {height} px, a standard deviation of {min(std)}")
        return Preprocessing(
            size=size or height,
            mean=mean,
            std=std,
            interpolation=cfg["interpolation"],
            fit=fit,
            crop_pct=float(cfg["crop_pct"]),
        )
    except (TypeError, ValueError, OverflowError, LookupError) as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> BackboneError:
    return BackboneError(
        f"{name} has a configuration that cannot be used ({reason(error)}). Correct config.json."
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"{values} are not three numbers")
    return red, green, blue


def sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes, hex."""
    import torch

    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
