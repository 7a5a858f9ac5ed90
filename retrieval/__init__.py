"""Images -> embeddings -> transform -> index -> matches."""
