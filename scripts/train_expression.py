"""``python scripts/train_expression.py --network=RUN --data=captures.zip``: see training/expression/cli.py."""

from gghead.training.expression.cli import main

if __name__ == "__main__":
    main()
