"""Pretrained weights: the table, finding and fetching files, importing, loading."""
