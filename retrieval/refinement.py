"""What follows the first search: query expansion, database-side augmentation, re-ranking."""
