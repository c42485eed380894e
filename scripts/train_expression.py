"""``python scripts/train_expression.py --network=RUN --data=captures.zip``: see
training/cli/train_expression.py."""

from gghead.training.cli.train_expression import main

if __name__ == "__main__":
    main()
