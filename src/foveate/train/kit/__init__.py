"""Parts that every recipe trains with: loop, optimisers, checkpoints, logs, processes."""
