"""Which tokens are masked, by hand and by count, and what a word is."""

import numpy as np
import pytest

from thaw.data.batch.masking import LONGEST_WORD, Masking, choose, uniform, word_numbers
from thaw.errors import ThawError

MASK, FREE = 4, np.arange(10, 100)


def masking(**options):
    return Masking(MASK, FREE, **options)


def rows_of_words(rows=4000, tokens=30):
    """Words of one, two and three tokens in turn between two special tokens."""
    inside = np.repeat(np.arange(tokens), np.resize([1, 2, 3], tokens))[:tokens]
    words = np.full((rows, tokens + 2), -1)
    words[:, 1:-1] = inside
    return words, np.arange(rows)


def test_tokens_below_the_probability_are_chosen():
    words = np.array([[-1, 0, 0, 1, 2, -1]])
    draws = np.array([[0.01, 0.1, 0.5, 0.2, 0.15, 0.0]])
    expected = [[False, True, False, False, False, False]]
    assert choose(words, draws, masking()).tolist() == expected


def test_a_words_first_draw_holds_for_all_its_tokens():
    words = np.array([[-1, 0, 0, 1, 2, 2, 2, -1]])
    draws = np.array([[0.01, 0.1, 0.9, 0.2, 0.14, 0.9, 0.9, 0.0]])
    expected = [[False, True, True, False, True, True, True, False]]
    assert choose(words, draws, masking(masking="whole_word")).tolist() == expected


@pytest.mark.parametrize(("units", "found"), [(6, 0), (7, 1), (20, 1)])
def test_a_long_enough_row_has_one_mask_at_least(units, found):
    words = np.array([[-1, *range(units), -1]])
    draws = np.linspace(0.9, 0.5, units + 2)[None]
    chosen = choose(words, draws, masking())
    assert chosen.sum() == found
    assert not found or chosen[0, units]  # the lowest draw, specials apart


def test_a_whole_word_is_taken_where_none_was_drawn():
    words = np.array([[-1, 0, 1, 2, 3, 4, 5, 6, 6, -1]])
    draws = np.array([[0.0, 0.9, 0.8, 0.7, 0.6, 0.8, 0.9, 0.3, 0.2, 0.0]])
    chosen = choose(words, draws, masking(masking="whole_word"))
    assert np.flatnonzero(chosen).tolist() == [7, 8]


def test_a_batch_of_special_tokens_has_no_mask():
    ids, positions = masking()(np.ones((2, 3), int), np.full((2, 3), -1), np.arange(2), 0, 0)
    assert positions.size == 0
    assert (ids == 1).all()


@pytest.mark.parametrize("kind", ["token", "whole_word"])
@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_the_rate_is_the_probability(kind, probability):
    words, rows = rows_of_words()
    chosen = masking(masking=kind, probability=probability)(words * 0 + 5, words, rows, 0, 0)[1]
    rate = len(chosen) / (words >= 0).sum()
    # 120,000 tokens. A row without a mask gets one: at 15 %, 0.85 ** 30 / 30 more of 30 tokens,
    # and 0.85 ** 15 / 15 = 0.006 more of 15 words.
    more = (1 - probability) ** 15 / 15 if kind == "whole_word" else 0
    assert rate == pytest.approx(probability + more, abs=0.004)


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.2, 0.3), (1.0, 0.0, 0.0)])
def test_masked_random_and_kept_have_their_shares(split):
    words, rows = rows_of_words()
    before = np.full_like(words, 5)  # not among the tokens that replace
    after, chosen = masking(split=split)(before, words, rows, 0, 0)
    seen = after.flatten()[chosen]
    shares = [(seen == MASK).mean(), np.isin(seen, FREE).mean(), (seen == 5).mean()]
    assert shares == pytest.approx(list(split), abs=0.01)
    assert np.delete(after.flatten(), chosen).tolist() == [5] * (after.size - len(chosen))


def test_a_random_token_is_any_ordinary_one():
    words, rows = rows_of_words()
    after, chosen = masking(split=(0, 1, 0))(words * 0 + 5, words, rows, 0, 0)
    values, counts = np.unique(after.flatten()[chosen], return_counts=True)
    assert values.tolist() == FREE.tolist()
    assert counts.min() > 0.6 * counts.mean()


def test_whole_words_are_masked_whole():
    words, rows = rows_of_words(200)
    _, chosen = masking(masking="whole_word")(words * 0 + 5, words, rows, 0, 0)
    marked = np.zeros(words.size, bool)
    marked[chosen] = True
    for row, marks in zip(words, marked.reshape(words.shape), strict=True):
        for word in range(row.max() + 1):
            assert len(set(marks[row == word])) == 1


def test_masks_follow_from_seed_epoch_and_row_alone():
    words, rows = rows_of_words(50)
    ids = np.full_like(words, 5)
    whole, _ = masking()(ids, words, rows, 1, 2)
    order = np.random.default_rng(0).permutation(50)[:7]
    wide = np.pad(words[order], ((0, 0), (0, 9)), constant_values=-1)
    some, _ = masking()(np.pad(ids[order], ((0, 0), (0, 9))), wide, rows[order], 1, 2)
    assert (some[:, :-9] == whole[order]).all()
    for seed, epoch in ((1, 3), (2, 2)):
        other, _ = masking()(ids, words, rows, seed, epoch)
        assert 0.5 < (other == whole).mean() < 0.9


def test_draws_are_uniform_and_without_visible_order():
    draws = uniform(np.arange(2000), 64, seed=3, epoch=0, stream=0)
    counts = np.histogram(draws, 20, (0, 1))[0] / draws.size
    assert counts == pytest.approx(np.full(20, 0.05), abs=0.003)
    for a, b in (
        (draws[:, 1:], draws[:, :-1]),
        (draws[1:], draws[:-1]),
        (draws, uniform(np.arange(2000), 64, 3, 1, 0)),
        (draws, uniform(np.arange(2000), 64, 3, 0, 1)),
    ):
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.015


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masking": "words"}, "task.masking=words: expected one of token, whole_word"),
        ({"probability": 0.0}, "task.mask_probability=0.0: expected a number between 0 and 1"),
        ({"probability": 15}, "task.mask_probability=15: expected a number between 0 and 1"),
        ({"split": [0.8, 0.2]}, r"task.mask_split=\[0.8, 0.2\]: expected the shares"),
        ({"split": [0.8, 0.1, 0.2]}, "with the sum 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ThawError, match=message):
        masking(**options)


TEXT = "the unforgettable films weren't great, naïve 🎬 movie."


def words_by(tokenizer, text=TEXT):
    """The text of each word's tokens, joined."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    words = word_numbers(text, encoded["offset_mapping"], encoded.word_ids())
    parts: dict[int, list[int]] = {}
    for word, (begin, end) in zip(words, encoded["offset_mapping"], strict=True):
        if word >= 0:
            parts.setdefault(word, []).extend((begin, end))
    return [text[min(p) : max(p)].strip() for p in parts.values()]


def trained(model, pre_tokenizer, trainer, **options):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator([TEXT, "films were unforgettable", "a great movie"] * 20, trainer)
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options)


def word_piece():
    from tokenizers import models, pre_tokenizers, trainers

    return trained(
        models.WordPiece(unk_token="<unk>"),
        pre_tokenizers.BertPreTokenizer(),
        trainers.WordPieceTrainer(vocab_size=70, special_tokens=["<unk>", "<pad>", "<mask>"]),
    )


def byte_level():
    from tokenizers import models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        trainers.BpeTrainer(
            vocab_size=280, special_tokens=["<unk>", "<pad>", "<mask>"], initial_alphabet=alphabet
        ),
    )


def sentence_piece(split=True):
    from tokenizers import models, pre_tokenizers, trainers

    return trained(
        models.Unigram(),
        pre_tokenizers.Metaspace(split=split),
        trainers.UnigramTrainer(
            vocab_size=45,
            special_tokens=["<unk>", "<pad>", "<mask>"],
            unk_token="<unk>",
            max_piece_length=4,
        ),
    )


WORDS = ["the", "films", "great", ",", "naïve", "🎬", "movie", "."]


@pytest.mark.parametrize(
    "make",
    [word_piece, byte_level, sentence_piece, lambda: sentence_piece(split=False)],
    ids=["WordPiece", "byte-level BPE", "SentencePiece", "SentencePiece that does not split"],
)
def test_a_word_is_the_same_for_every_tokenizer(make):
    found = words_by(make())
    assert [w for w in found if w in WORDS] == WORDS
    assert "unforgettable" in found
    assert "'" in found or "'t" in found


def test_a_run_without_end_is_cut():
    offsets = [(i, i + 1) for i in range(40)]
    words = word_numbers("x" * 40, offsets, [0] * 40)
    assert words == [i // LONGEST_WORD for i in range(40)]


def test_ideographs_are_words_and_marks_belong_to_theirs():
    text = "很好 नमस्ते"
    offsets = [(i, i + 1) for i in range(len(text)) if text[i] != " "]
    words = word_numbers(text, offsets, [0, 0] + [1] * (len(offsets) - 2))
    assert words == [0, 1] + [2] * (len(offsets) - 2)
