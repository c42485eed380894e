"""``python scripts/train_expression.py --data=captures.zip --preset=tiny``: see training/expression/cli.py."""

from training.expression.cli import main

if __name__ == "__main__":
    main()
