"""Tokens of prompts and answers, tokenizers with and without transformers, and the two scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.item import Item
from headatlas.tasks.items import read_items
from headatlas.tasks.tokens import Tokeniser, is_plain, load_tokeniser, text_ids, token_texts, tokenise, tokeniser_of
from task_files import lines
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).parents[3]
BOS, EOS = 1, 2


def item(prompt: str, answer: str, where: str = "t.jsonl:1") -> Item:
    return Item(id="i", question_id="q", split="score", prompt=prompt, answer=answer, where=where)


def letters(before: tuple = (BOS,), behind: tuple = (), merges: tuple = (), silent: str = "") -> Tokeniser:
    """A tokenizer of one token a letter (its code), but for `merges`, which get 1000, 1001, …"""

    def encode(text: str, special: bool) -> list[int]:
        for number, merge in enumerate(merges):
            text = text.replace(merge, chr(1000 + number))
        ids = [ord(letter) for letter in text if letter not in silent]
        return [*before, *ids, *behind] if special else ids

    return Tokeniser(encode, decode=lambda ids, special: "".join(map(chr, ids)))


# --- text to tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("ab", "c", ([BOS, 97, 98], [32, 99])),  # a space comes between them
        ("ab ", "c", ([BOS, 97, 98, 32], [99])),
        ("ab\n", "c", ([BOS, 97, 98, 10], [99])),
        ("ab", " c", ([BOS, 97, 98], [32, 99])),
        ("a", "bc", ([BOS, 97], [32, 98, 99])),
    ],
)
def test_answer_tokens_are_what_follows_the_prompt_in_the_whole_text(prompt, answer, expected):
    assert text_ids(letters(), prompt, answer) == expected
    assert text_ids(letters(behind=(EOS,)), prompt, answer) == expected  # an end of sequence is taken off
    bare = text_ids(letters(before=(), behind=(EOS, EOS)), prompt, answer)
    assert bare == (expected[0][1:], expected[1])


def test_an_answer_that_merges_with_the_prompt_is_tokenised_on_its_own():
    merging = letters(merges=("b c",))
    assert merging.encode("ab cd", True) == [BOS, 97, 1000, 100]
    assert text_ids(merging, "ab", "cd") == ([BOS, 97, 98], [32, 99, 100])
    inside = letters(merges=("ab", " cd"))  # merges inside either part are kept
    assert text_ids(inside, "ab", "cd") == ([BOS, 1000], [1001])


def test_too_long_items_are_left_out_and_counted_aloud(caplog):
    items = [item("a", "b"), item("a", "bcd"), item("abcdef", "b")]  # 4, 6 and 9 tokens
    assert [i.answer for i in tokenise(items, letters(), 6)] == ["b", "bcd"]
    assert caplog.messages == ["1 of 3 items are longer than 6 tokens and left out (the longest has 9)"]
    assert len(tokenise(items, letters(), 9)) == len(tokenise(items, letters(), None)) == 3
    assert len(caplog.messages) == 1
    assert items[0].prompt_ids == []  # what was given is left as it was
    with pytest.raises(
        HeadAtlasError, match=r"^t\.jsonl:1: this and all other items .* than 3 .*shortest has 4\); raise"
    ):
        tokenise(items, letters(), 3)


def test_a_prompt_or_answer_without_tokens_is_told_with_its_place():
    message = r"^t\.jsonl:7: the answer '~~' has no tokens in this model's tokenizer; change it, or remove the "
    with pytest.raises(HeadAtlasError, match=message):
        tokenise([item("a ", "~~", "t.jsonl:7")], letters(silent="~"), None)
    with pytest.raises(HeadAtlasError, match="the prompt '~' has no tokens"):
        tokenise([item("~", "a")], letters(before=(), silent="~"), None)


def paired(answer: str, **extra: str) -> Item:
    return Item(id="i", question_id="q", split="score", prompt="ab", answer=answer, where="t.jsonl:7", extra=extra)


def test_an_answer_ends_where_it_parts_from_its_foil():
    (one,) = tokenise([paired("cde", foil="cxe")], letters(), None, ["foil"])
    assert (one.answer_ids, one.foil_id) == ([32, 99, 100], ord("x"))
    (first,) = tokenise([paired("cde", foil="de")], letters(), None, ["foil"])
    assert (first.answer_ids, first.foil_id) == ([32, 99], ord("d"))
    (unasked,) = tokenise([paired("cde", foil="cxe")], letters(), None)
    assert (unasked.answer_ids, unasked.foil_id) == ([32, 99, 100, 101], None)


@pytest.mark.parametrize("foil", ["c", "cd", "cde"])
def test_an_answer_that_goes_on_as_its_foil_has_no_margin(foil):
    with pytest.raises(HeadAtlasError, match=r"^t\.jsonl:7: the tokens of the answer 'cd' begin with those of"):
        tokenise([paired("cd", foil=foil)], letters(), None, ["foil"])


def test_other_prompts_get_tokens_and_count_for_the_length():
    item = paired("c", counterfactual="axy", same_answer="x")
    (done,) = tokenise([item], letters(), 6, ["counterfactual", "same_answer"])
    assert (done.counterfactual_ids, done.same_answer_ids) == ([BOS, 97, 120, 121], [BOS, 120])
    with pytest.raises(HeadAtlasError, match=r"longer than 5 tokens \(the shortest has 6\)"):
        tokenise([item], letters(), 5, ["counterfactual"])
    with pytest.raises(HeadAtlasError, match=r"^t\.jsonl:7: the counterfactual '~' has no tokens"):
        tokenise([paired("c", counterfactual="~")], letters(before=(), silent="~"), None, ["counterfactual"])


# --- tokenizers -------------------------------------------------------------------------------------

TEXTS = [
    "the cat sat on the mat",
    "Straße, naïve — 日本語 🙂",
    "a  b\n\nc\t d ",
    " 3 + 44 = 47.5",
    "<s> literally </s> <pad>",
]


WORDS = ("the", "cat", "sat", "on", "mat", "a", "b", "c", "d", "3", "44", "+", "=")


def word_level() -> Tokenizer:
    """As the demo's: a token a word, split at white space, unknown words <unk>."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(words[:4])
    return made


def byte_level() -> Tokenizer:
    """As Llama 3's and GPT-2's: byte-level BPE, a beginning of sequence put before."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    made.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def metaspace() -> Tokenizer:
    """As Llama 2's: BPE over text whose spaces are made visible; beginning and end put around."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.train_from_iterator(
        TEXTS[:4], trainers.BpeTrainer(vocab_size=120, special_tokens=["<pad>", "<s>", "</s>", "<unk>"])
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return made


def save(made: Tokenizer, folder: Path, model_type: str = "llama", **options) -> dict:
    """Save a tokenizer and a model's config as `save_pretrained` does; return the settings that load it."""
    from transformers import AutoConfig, PreTrainedTokenizerFast

    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **named, **options).save_pretrained(folder)
    AutoConfig.for_model(model_type).save_pretrained(folder)
    return {"path": str(folder), "revision": None, "chat_template": False, "trust_remote_code": False}


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("make", [word_level, byte_level, metaspace])
def test_a_plain_tokenizer_read_directly_is_what_autotokenizer_gives(make, model_type, tmp_path):
    from transformers import AutoTokenizer

    settings = save(make(), tmp_path, model_type)
    assert is_plain(tmp_path)
    direct, auto = load_tokeniser(settings), AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, *" ".join(TEXTS).split(" ")]:
        for special in (True, False):
            assert direct.encode(text, special) == auto.encode(text, add_special_tokens=special)


OPTIONS = "tokenizer_config.json"
VARIANTS = {
    "another class": lambda f: edit(f / OPTIONS, tokenizer_class="LlamaTokenizer"),
    "no class": lambda f: edit(f / OPTIONS, tokenizer_class=None),
    "a beginning of sequence by option": lambda f: edit(f / OPTIONS, add_bos_token=True),
    "a special token that is not in the vocabulary": lambda f: edit(f / OPTIONS, pad_token="<new>"),
    "another model type": lambda f: edit(f / "config.json", model_type="qwen2"),
    "truncation": lambda f: edit(
        f / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    ),
    "no tokenizer_config.json": lambda f: (f / OPTIONS).unlink(),
}  # fmt: skip


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS.keys())
def test_any_other_tokenizer_goes_through_autotokenizer(change, tmp_path):
    from transformers import AutoTokenizer

    settings = save(word_level(), tmp_path)
    change(tmp_path)
    assert not is_plain(tmp_path)
    loaded, auto = load_tokeniser(settings), AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert loaded.encode(text, True) == auto.encode(text)


def test_the_tokenizer_and_the_chat_template_of_a_gguf_file_are_read(tmp_path):
    """And not those of a tokenizer next to it."""
    torch, hf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from gguf_files import WORDS, write_gguf

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.LlamaConfig(vocab_size=97, **shape)
    write_gguf(tmp_path / "model.gguf", hf.LlamaForCausalLM(config))
    settings = save(word_level(), tmp_path) | {"path": str(tmp_path / "model.gguf")}
    assert load_tokeniser(settings).encode("cab e", False) == [WORDS.index(word) for word in ("c", "ab", "Ġ", "e")]
    chat = load_tokeniser(settings | {"chat_template": True}).chat
    assert chat("cab") == [WORDS.index(word) for word in ("x", "c", "ab", "y")]  # the template is x, message, y


def test_one_such_tokenizer_would_have_been_read_wrongly(tmp_path):
    settings = save(word_level(), tmp_path)
    before = load_tokeniser(settings).encode("the cat", False)
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert load_tokeniser(settings).encode("the cat", False) != before  # the class makes a BPE of tokenizer.json


@pytest.mark.parametrize("make", [word_level, byte_level, metaspace])
def test_prompt_and_answer_of_real_tokenizers_make_up_the_whole_text(make, tmp_path):
    tokeniser = load_tokeniser(save(make(), tmp_path))
    prompt, answer = text_ids(tokeniser, "the cat sat on", "the mat")
    whole = tokeniser.encode("the cat sat on the mat", True)
    assert prompt + answer == [token for token in whole if token != EOS]
    assert len(answer) >= 2


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %} {{ m.role }} {{ m.content }} </s>{% endfor %}"
    "{% if add_generation_prompt %} <pad>{% endif %}"
)


def test_a_chat_template_wraps_the_prompt_and_the_answer_follows_bare(tmp_path):
    made = word_level()
    settings = save(made, tmp_path, chat_template=TEMPLATE) | {"chat_template": True}
    (done,) = tokenise([item("the cat", "sat on")], load_tokeniser(settings), None)
    ids = made.get_vocab()
    words = ["<s>", "<unk>", "the", "cat", "</s>", "<pad>"]  # `user` is no word of this tokenizer
    assert done.prompt_ids == [ids[word] for word in words]
    assert done.answer_ids == [ids["sat"], ids["on"]]


def test_a_chat_template_that_is_missing_or_fails_is_told(tmp_path):
    settings = save(word_level(), tmp_path) | {"chat_template": True}
    with pytest.raises(HeadAtlasError, match="has no chat template; set chat_template: false"):
        load_tokeniser(settings)
    settings = save(word_level(), tmp_path, chat_template="{{ raise_exception('only\nfor two') }}") | {
        "chat_template": True
    }
    with pytest.raises(HeadAtlasError, match=r"^t\.jsonl:1: the model's chat template fails on it: only for two$"):
        tokenise([item("a", "b")], load_tokeniser(settings), None)


def test_a_tokenizer_that_cannot_be_loaded_is_told(tmp_path):
    settings = save(word_level(), tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["type"] = "Oracle"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(HeadAtlasError, match=r"tokenizer\.json: cannot be read: ") as error:
        load_tokeniser(settings)
    assert "\n" not in str(error.value)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(HeadAtlasError, match=r": its tokenizer cannot be loaded: \w+: \S") as error:
        load_tokeniser(settings)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_transformers_can_be_given_directly(tmp_path):
    from transformers import AutoTokenizer

    settings = save(byte_level(), tmp_path)
    tokeniser = tokeniser_of(AutoTokenizer.from_pretrained(tmp_path))
    assert text_ids(tokeniser, "the cat", "sat") == text_ids(load_tokeniser(settings), "the cat", "sat")


# --- the scripts ------------------------------------------------------------------------------------


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})


@pytest.fixture
def job(tmp_path):
    """A task of ten questions and a tokenizer, in a folder of an awkward name."""
    folder = tmp_path / "Ordner mit Ümläut"
    settings = {
        "task": "sums", "format": "jsonl", "join": "auto", "max_items": 6, "max_tokens": 6, "seed": 0,
        "validate_fraction": 0.3, "partners": [],
        "tokenizer": save(word_level(), folder / "model"),
    }  # fmt: skip
    entries = [{"prompt": "3 + 3 " + "a " * n, "answer": 44} for n in range(10)]
    return settings, lines(folder / "sums.jsonl", *entries), folder / "results" / "sums.json"


def test_prepare_task_writes_the_items_without_importing_transformers(job):
    settings, source, items = job
    program = (
        "import sys, json; from pathlib import Path; sys.path[:0] = [sys.argv[1]]; import prepare_task; "
        "settings = prepare_task.Settings(**json.loads(sys.argv[2])); "
        "prepare_task.main(settings, [Path(sys.argv[3])], Path(sys.argv[4])); "
        "print([m for m in ('transformers', 'torch', 'numpy', 'polars') if m in sys.modules])"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(ROOT / "scripts"),
        json.dumps(settings),
        str(source),
        str(items),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    content = read_items(items)
    # prompts of 3, 4, 5 tokens and one of the answer fit into six; of ten questions three were to validate
    assert content["counts"]["read"] == 10
    assert content["counts"]["too_long"] == 7
    assert content["counts"]["score"] + content["counts"]["validate"] == 3
    for entry in content["items"]:
        n = entry["prompt"].count("a")
        vocabulary = word_level().get_vocab()
        assert entry["prompt_ids"] == [vocabulary[word] for word in ["3", "+", "3", *"a" * n]]
        assert entry["answer_ids"] == [vocabulary["44"]]
        assert entry["id"] == f"sums.jsonl:{n + 1}"
    assert (
        script("prepare_task", "--settings", json.dumps(settings), "--source", source, "--items", items).returncode == 0
    )
    assert read_items(items) == content


def test_prepare_task_says_a_mistake_in_one_line_and_writes_nothing(job):
    settings, source, items = job
    source.write_text(source.read_text() + '{"prompt": "x", "answr": 1}\n')
    done = script("prepare_task", "--settings", json.dumps(settings), "--source", source, "--items", items)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {source}:11: unknown key 'answr'; did you mean 'answer'?\n"
    assert not items.exists()


def test_balance_tasks_cuts_files_to_the_smallest(job):
    settings, source, items = job
    settings["max_tokens"] = None
    for name, n in (("big", 10), ("small", 5)):
        out = items.with_name(f"{name}.json")
        changes = json.dumps(settings | {"task": name, "max_items": n})
        assert script("prepare_task", "--settings", changes, "--source", source, "--items", out).returncode == 0
    given = [items.with_name("big.json"), items.with_name("small.json")]
    wanted = [items.with_name("even big.json"), items.with_name("even small.json")]
    done = script("balance_tasks", "--items", *given, "--balanced", *wanted)
    assert done.returncode == 0, done.stderr
    big, small = map(read_items, wanted)
    assert big["counts"] == {
        "read": 10,
        "other_label": 0,
        "too_long": 0,
        "not_sampled": 5,
        "score": 3,
        "validate": 2,
    }
    assert small == read_items(given[1])
    assert [entry["id"] for entry in big["items"]] == [entry["id"] for entry in small["items"]]


# --- tokens to text ---------------------------------------------------------------------------------


def in_bytes(ids: list[int], special: bool) -> str:
    return bytes(ids).decode("utf-8", "replace")


def in_words(ids: list[int], special: bool) -> str:
    """A decoder that separates tokens by spaces."""
    return " ".join(f"w{token}" for token in ids)


def test_a_character_of_several_tokens_is_the_text_of_the_last():
    tokeniser = Tokeniser(letters().encode, in_bytes)
    text = "né🙂 x"
    assert token_texts(tokeniser, list(text.encode())) == ["n", "", "é", "", "", "", "🙂", " ", "x"]
    assert token_texts(tokeniser, list(text.encode())[:5]) == ["n", "", "é", "", "\ufffd"]  # the text ends within one
    assert token_texts(tokeniser, []) == []


def test_a_token_has_the_space_that_stands_before_it():
    assert token_texts(Tokeniser(letters().encode, in_words), [3, 1, 3]) == ["w3", " w1", " w3"]


def test_texts_of_a_byte_level_tokenizer_add_up_to_the_text():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["the cat sat"] * 9, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet))
    tokeniser = Tokeniser(letters().encode, lambda ids, special: tokenizer.decode(ids, skip_special_tokens=not special))
    text = "the cat Zoë 🙂;\n\n  然后 x = y**2\t<b>"
    texts = token_texts(tokeniser, tokenizer.encode(text).ids)
    assert "".join(texts) == text
    assert texts[:2] == ["the", " cat"]
    assert {"🙂", "然", ""} <= {*texts}
