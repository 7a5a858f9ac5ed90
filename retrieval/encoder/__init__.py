"""A backbone on an engine: (n, size, size, 3) uint8 RGB -> (n, dim) float32.

Embeddings have unit length. Engines, best first: torch in bfloat16 on CUDA; OpenVINO on a CPU, in
bfloat16 where the processor has it; torch in float32 where OpenVINO cannot convert the network.
OpenVINO takes the uint8 pixels themselves, since normalisation is part of what is exported, and
the exported file needs neither torch nor timm. imgret's own encoder comes as an ONNX file, and
needs no export. What each engine is worth is measured by benchmarks/ and stands
in docs/benchmarks.md.

catalogue.py      the backbones that one can name, and what is known of each
compilation.py    imgret's own network as OpenVINO compiled it, kept in the cache folder
encoder.py        an Encoder, and the names of engines
engines.py        a backbone -> the best engine that runs it here
exports.py        a network -> OpenVINO's files in a cache folder
onnx_files.py     a network -> an ONNX file for other runtimes
openvino_cpu.py   OpenVINO's files or model -> what runs them
portable.py       a backbone -> ONNX or a folder of OpenVINO for other programs
torch_runners.py  a network -> what runs it in torch, on a CPU or CUDA
"""

from retrieval.encoder.catalogue import Catalogue, ListedBackbone, list_backbones
from retrieval.encoder.encoder import Encoder, Runner, normalise
from retrieval.encoder.engines import AGREEMENT, exported_encoder, open_encoder
from retrieval.encoder.exports import CONVERSIONS, cache_folder
from retrieval.encoder.onnx_files import share_weights, write_onnx
from retrieval.encoder.openvino_cpu import compiled, precision_of
from retrieval.encoder.portable import check_export, export_backbone
from retrieval.encoder.torch_runners import keep_freed_memory

__all__ = [
    "AGREEMENT",
    "CONVERSIONS",
    "Catalogue",
    "Encoder",
    "ListedBackbone",
    "Runner",
    "cache_folder",
    "check_export",
    "compiled",
    "export_backbone",
    "exported_encoder",
    "keep_freed_memory",
    "list_backbones",
    "normalise",
    "open_encoder",
    "precision_of",
    "share_weights",
    "write_onnx",
]
