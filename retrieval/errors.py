"""What can go wrong, as a small tree.

    ImgretError            anything imgret says in one sentence instead of a traceback
    ├── ImageError         one image cannot be used: the message is the reason, without the path
    ├── BackboneError      a network or its weights cannot be had, or do not fit
    ├── GalleryError       a gallery is missing, locked, of another format, or damaged
    └── RecipeError        a recipe cannot be read, or has a key or value that is none

Library code raises these; only the command line prints them and exits.
"""


class ImgretError(Exception):
    """Says what is wrong and what to do, for a person to read."""


class ImageError(ImgretError):
    """One image cannot be used; the message is the reason."""


class BackboneError(ImgretError):
    """A backbone or its weights cannot be loaded, exported or run."""


class GalleryError(ImgretError):
    """A gallery is missing, locked, damaged, or was made otherwise."""


class RecipeError(ImgretError):
    """A recipe cannot be read, or a key of it is wrong."""
