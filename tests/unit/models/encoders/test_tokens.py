"""Claims about texts on their way to an encoder, held against Hugging Face's own tokenizers."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mangaassist_assets.models.encoders.tokens import (
    TokenizerError,
    clean_text,
    length_batches,
    load_tokenizer,
    pad_id,
    pad_ids,
    tokenize,
)
from tests.support.timing import growth

TEXTS = [
    "Where is volume 3 of The Blue Lantern?",
    "does the sequel  of the\n\nblue lantern come out in paperback this spring and what does it cost at the store",
    "返品できますか return policy",
    "",
    "   ",
    "🦊 manga",
]
CORPUS = [*TEXTS, "the store sends every volume back", "青い灯台 第三巻はいつ出ますか"]


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_pairs() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False, initial_alphabet=alphabet),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, show_progress=False, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


KINDS = {
    "WordPiece": (word_piece, "[PAD]", 0),
    "byte pairs": (byte_pairs, "<pad>", 1),
    "Unigram": (unigram, "<pad>", 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_tokens", [3, 8, 16, 128])
def test_texts_become_what_hugging_faces_tokenizer_makes_of_them(kind: str, max_tokens: int) -> None:
    from transformers import PreTrainedTokenizerFast

    make, pad_token, _ = KINDS[kind]
    tokenizer = make()
    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), pad_token=pad_token)
    fitting = [text for text in TEXTS if len(text) <= 16 * max_tokens]
    expected = theirs(fitting, truncation=True, max_length=max_tokens, padding=True)
    ids, mask = pad_ids(tokenize(tokenizer, fitting, max_tokens=max_tokens), pad=pad_id(tokenizer))
    assert ids.tolist() == expected["input_ids"]
    assert mask.astype(int).tolist() == expected["attention_mask"]
    assert (ids.dtype, mask.dtype) == (np.int64, np.bool_)


@pytest.mark.parametrize("kind", KINDS)
def test_the_token_for_padding_is_the_tokenizers_own(kind: str) -> None:
    make, _, number = KINDS[kind]
    assert pad_id(make()) == number


def test_a_tokenizer_without_a_token_for_padding_is_refused() -> None:
    with pytest.raises(TokenizerError, match="no token for padding"):
        pad_id(Tokenizer(models.WordLevel({"padding": 0}, unk_token="padding")))


def test_fixed_padding_and_truncation_of_a_file_do_not_count(tmp_path: Path) -> None:
    tokenizer = word_piece()
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (ids,) = tokenize(load_tokenizer(tmp_path / "tokenizer.json"), [TEXTS[0]], max_tokens=32)
    assert 4 < len(ids) < 32


@pytest.mark.parametrize("content", ["", "{}", '{"model": 3}'])
def test_a_file_without_a_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json holds no tokenizer"):
        load_tokenizer(path)
    with pytest.raises(TokenizerError, match=r"absent\.json holds no tokenizer"):
        load_tokenizer(tmp_path / "absent.json")


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    tokenizer = word_piece()
    assert tokenize(tokenizer, ["volume \ud800 3"], max_tokens=16) == tokenize(tokenizer, ["volume ? 3"], max_tokens=16)


def test_a_word_behind_many_spaces_is_read() -> None:
    assert clean_text(" " * 19_000 + "volume \n 3", max_tokens=8) == "volume 3"
    assert clean_text("volume  3", max_tokens=8) == "volume  3"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["where is volume 3? ", " ", "x", "返品"])
def test_a_long_message_costs_no_more_than_what_is_read_of_it(kind: str, unit: str) -> None:
    tokenizer = KINDS[kind][0]()

    def work(characters: int) -> object:
        return tokenize(tokenizer, [unit * (characters // len(unit))] * 50, max_tokens=128)

    assert growth(work, 20_000, 400_000, enough=3.0) < 3.0


def test_no_room_beside_the_special_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_tokens is 2, 2 of them are special"):
        tokenize(word_piece(), ["volume"], max_tokens=2)


def test_batches_hold_every_text_once_and_no_more_positions_than_allowed() -> None:
    lengths = [5, 60, 7, 1, 64, 30, 30]
    batches = list(length_batches(lengths, max_tokens=64))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[index] for index in batch) <= 64 for batch in batches)
    assert len(batches) < len(lengths)
