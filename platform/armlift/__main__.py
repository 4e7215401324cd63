"""What `python -m armlift` runs, which is how `torchrun` starts it."""

from armlift.cli import main

main()
