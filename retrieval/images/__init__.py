"""Which files are images, and decode one: a path in, an RGB image or a named failure out.

folders.py     folders and files -> the names of images, folder by folder, one stat each
files.py       the same as ImageFile, one after the other
facts.py       what a picture's file tells beside its pixels
formats.py     a file's bytes -> the name of its format; raws.py and jxl.py: those of extras
sources.py     whatever a picture may be given as -> opened
opened.py      bytes -> a picture whose header is read, by the one decoder its first bytes ask for;
               png.py, jpeg.py, tiff.py, boxes.py, animation.py, orientation.py know what
               Pillow does not
budget.py      memory that all decoders share
upright.py     opened -> decoded, flat, upright; greys.py and colour.py: what samples mean
pixels.py      an upright picture -> the square pixels that a backbone is fed
"""

from retrieval.images.budget import file_budget
from retrieval.images.facts import PictureFacts
from retrieval.images.files import ImageFile, find_images
from retrieval.images.folders import FoundFile, FoundFolder, find_folders, subfolders
from retrieval.images.formats import MAX_FILE_BYTES, read_bytes, sniff
from retrieval.images.pixels import (
    Decoded,
    Preprocessing,
    decode,
    fit_square,
    open_image,
    thumbnail,
)
from retrieval.images.sources import Source, as_sent, is_tensor, memory_needed
from retrieval.words import DEFAULT_MAX_PIXELS

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MAX_FILE_BYTES",
    "Decoded",
    "FoundFile",
    "FoundFolder",
    "ImageFile",
    "PictureFacts",
    "Preprocessing",
    "Source",
    "as_sent",
    "decode",
    "file_budget",
    "find_folders",
    "find_images",
    "fit_square",
    "is_tensor",
    "memory_needed",
    "open_image",
    "read_bytes",
    "sniff",
    "subfolders",
    "thumbnail",
]
