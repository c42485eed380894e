"""``python scripts/score_expression.py --network=RUN --data=captures.zip``: see
training/cli/score_expression.py."""

from gghead.training.cli.score_expression import main

if __name__ == "__main__":
    main()
