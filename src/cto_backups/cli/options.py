"""Options that every command takes, before or after its name."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GlobalOptions:
    """How the user wants to be answered, and by which policy."""

    policy: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    def also(self, other: "GlobalOptions") -> "GlobalOptions":
        """These, and what `other` adds: options given after the command's name join those given before it."""
        return GlobalOptions(
            policy=other.policy or self.policy,
            json=self.json or other.json,
            quiet=self.quiet or other.quiet,
            verbose=self.verbose or other.verbose,
            no_color=self.no_color or other.no_color,
        )

    @property
    def colored(self) -> bool:
        """Whether colours may be used at all (on a terminal): not with --no-color, NO_COLOR or TERM=dumb."""
        return not (self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")

    @property
    def debugging(self) -> bool:
        """Whether a defect shows its traceback."""
        return self.verbose or bool(os.environ.get("CTO_BACKUPS_DEBUG"))


def presumed(arguments: Sequence[str]) -> GlobalOptions:
    """The options that a command line asks for, as far as can be told before it is understood: for its own errors."""
    words = set()
    for argument in arguments:
        if argument == "--":
            break
        # -vq is -v -q
        words |= {f"-{letter}" for letter in argument[1:]} if _is_cluster(argument) else {argument}
    return GlobalOptions(
        json="--json" in words,
        quiet=bool(words & {"--quiet", "-q"}),
        verbose=bool(words & {"--verbose", "-v"}),
        no_color="--no-color" in words,
    )


def _is_cluster(argument: str) -> bool:
    return argument.startswith("-") and not argument.startswith("--") and argument[1:].isalpha()


def attended() -> bool:
    """Whether a person sits at a terminal and can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
