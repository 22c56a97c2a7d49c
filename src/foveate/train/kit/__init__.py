"""What all recipes share: loop, optimisers, checkpoints, logs and distributed processes."""
