"""Run vision-language-action policies in MuJoCo and account for what happened."""

__version__ = "0.1.0"
