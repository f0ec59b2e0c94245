"""`python -m bench` is the `bench` command."""

from distill.base.signals import signals_answered_to_the_end


def start() -> None:
    """The command; a signal ends it in one sentence also while it is being loaded."""
    with signals_answered_to_the_end():
        from bench.cli import main  # takes a while: signals are answered before

        main()


if __name__ == "__main__":
    start()
