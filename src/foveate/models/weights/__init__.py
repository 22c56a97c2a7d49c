"""Pretrained weights: the table, finding and downloading files, importing, loading."""
