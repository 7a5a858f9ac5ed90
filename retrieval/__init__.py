"""Images -> embeddings -> transform -> index -> matches."""

__version__ = "0.1.0"  # of all that is installed together; the builds read it here
