"""``python scripts/score_expression.py --network=RUN --data=captures.zip``: see training/expression/score_cli.py."""

from gghead.training.expression.score_cli import main

if __name__ == "__main__":
    main()
