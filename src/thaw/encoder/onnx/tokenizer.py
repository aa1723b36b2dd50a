"""The tokenizer of an ONNX export, without transformers, which imports torch.

Shapes: B batch, T tokens.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from thaw.errors import ThawError


class Encoded(dict[str, list]):
    """Columns of tokenized texts, and the words that the tokens are of."""

    def __init__(self, pieces: Sequence[Encoding], columns: Mapping[str, list]) -> None:
        super().__init__(columns)
        self.pieces = pieces

    def word_ids(self, index: int) -> list[int | None]:
        """Returns the word of each token of one text or window."""
        return self.pieces[index].word_ids


class ExportedTokenizer:
    """What predictors use of transformers' tokenizer, on the files that `thaw.export` wrote.

    Args:
        directory: directory of the export, whose `tokenizer.json` holds how texts are padded.

    Raises:
        ThawError: it does not hold that, since another program wrote it.
    """

    def __init__(self, directory: Path) -> None:
        self.backend_tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        config = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
        cut: Any = self.backend_tokenizer.truncation
        self.padding: Any = self.backend_tokenizer.padding
        if not cut or not self.padding:
            raise ThawError(
                f"{directory / 'tokenizer.json'} does not say how texts are cut and padded: write "
                f"it again, python -m thaw.export run={directory.parents[1]}"
            )
        self.truncation_side, self.padding_side = (
            str(how["direction"]).lower() for how in (cut, self.padding)
        )
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))
        self.model_max_length = int(config.get("model_max_length", 1e30))
        self.unk_token, self.mask_token, self.sep_token = (
            config.get(name) for name in ("unk_token", "mask_token", "sep_token")
        )

    def __call__(
        self,
        *texts: Sequence[Any],
        truncation: bool,
        max_length: int,
        stride: int = 0,
        is_split_into_words: bool = False,
        return_overflowing_tokens: bool = False,
    ) -> Encoded:
        """Returns tokenized texts, or pairs, cut at a length: a list of T numbers for each.

        Args:
            texts: one list of texts, or two for pairs.
            truncation: always true.
            max_length: length of the longest text in tokens.
            stride: number of tokens that neighbouring windows share.
            is_split_into_words: whether a text is a list of words.
            return_overflowing_tokens: whether what is cut off follows as further windows.
        """
        self.backend_tokenizer.enable_truncation(
            max_length, stride=stride, direction=self.truncation_side
        )
        given = list(zip(*texts, strict=True)) if len(texts) > 1 else list(texts[0])
        found = self.backend_tokenizer.encode_batch(given, is_pretokenized=is_split_into_words)
        more = return_overflowing_tokens
        windows = [[one, *one.overflowing] if more else [one] for one in found]
        pieces = [piece for mine in windows for piece in mine]
        columns: dict[str, list] = {
            "input_ids": [piece.ids for piece in pieces],
            "attention_mask": [piece.attention_mask for piece in pieces],
            "token_type_ids": [piece.type_ids for piece in pieces],
        }
        if more:
            owners = [number for number, mine in enumerate(windows) for _ in mine]
            columns["overflow_to_sample_mapping"] = owners
        return Encoded(pieces, columns)

    def num_special_tokens_to_add(self) -> int:
        """Returns the number of tokens that are added to a text."""
        return self.backend_tokenizer.num_special_tokens_to_add(False)

    def pad(self, columns: Mapping[str, list], return_tensors: str) -> dict[str, np.ndarray]:
        """Returns columns of tokens as arrays (B, T), T that of the longest.

        Args:
            columns: lists of numbers by column.
            return_tensors: always np.
        """
        length = max(map(len, columns["input_ids"]))
        fill = {"input_ids": self.padding["pad_id"], "token_type_ids": self.padding["pad_type_id"]}
        left = self.padding_side == "left"
        padded = {}
        for name, rows in columns.items():
            array = np.full((len(rows), length), fill.get(name, 0), dtype=np.int64)
            for row, values in zip(array, rows, strict=True):
                row[length - len(values) if left else 0 :][: len(values)] = values
            padded[name] = array
        return padded
