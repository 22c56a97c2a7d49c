"""`python -m foveate`, and what torchrun starts: the command."""

from foveate.app.main import main

main()
