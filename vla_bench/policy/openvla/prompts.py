"""What the model is asked, as text and as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from vla_bench.errors import DataError, MissingDataError, UnknownNameError

FILE = "tokenizer.json"
BEGIN = 1
STOP = 2
# "▁" alone: the training text has it between prompt and first action token, the tokenizer leaves it out
BOUNDARY = "▁"
EMPTY = 29871  # its id in Llama's vocabulary

TEMPLATES = {
    "openvla": "In: What action should the robot take to {instruction}?\nOut:",
    "openvla-v01": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: What action should the robot take to {instruction}? ASSISTANT:"
    ),
}


def prompt(instruction: str, template: str) -> str:
    """Return the text for an instruction; it is lowered, and otherwise taken as it is.

    Raises:
        UnknownNameError: There is no such template.
    """
    if template not in TEMPLATES:
        raise UnknownNameError("prompt", template, TEMPLATES)
    return TEMPLATES[template].format(instruction=instruction.lower())


def with_empty(ids: Sequence[int], empty: int = EMPTY) -> list[int]:
    """Return the ids with the lone word boundary at the end, as in training; `empty` is its id."""
    return [*ids] if ids and ids[-1] == empty else [*ids, empty]


class PromptTokenizer:
    """The tokenizer of a checkpoint folder.

    Read with the `tokenizers` library: transformers would look into config.json and ask to run the
    checkpoint's code.

    Raises:
        MissingDataError: There is no `tokenizer.json`.
        DataError: It is broken, or another language model's.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / FILE
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in folder.glob("*token*"))) or "none"
            raise MissingDataError(f"{path}: missing; instructions need the tokenizer (found: {found})")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise DataError(path, f"is not a tokenizer: {error}") from error
        empty = self._tokenizer.token_to_id(BOUNDARY)
        if empty is None:
            found = self._tokenizer.get_vocab_size()
            raise DataError(path, f"has no token {BOUNDARY!r}, Llama's lone word boundary, among its {found}")
        self._empty: int = empty

    def __call__(self, text: str) -> list[int]:
        """Text → ids, from the beginning-of-text token to the lone word boundary."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return with_empty([BEGIN, *ids], self._empty)
