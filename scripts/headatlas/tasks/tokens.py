"""From items of text to items of tokens: the model input, and which of its tokens are the answer.

Knows nothing about task files and weights. Imports transformers (seconds) only if a tokenizer needs it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.jobs.shared import shared
from headatlas.models.source import shown_to_transformers
from headatlas.tasks.item import Item
from headatlas.wording import shorten

# Tokenizers for which `load_tokeniser` may skip transformers, because AutoTokenizer adds nothing to their
# tokenizer.json (read in transformers 5.23, compared in tests/unit/tasks/test_tokens.py). All others need it.
PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
PLAIN_MODELS = ("llama", "gpt2", "gpt_neox")
PLAIN_OPTIONS = (
    "backend", "bos_token", "chat_template", "clean_up_tokenization_spaces", "eos_token", "is_local",
    "local_files_only", "model_input_names", "model_max_length", "pad_token", "padding_side",
    "tokenizer_class", "truncation_side", "unk_token",
)  # fmt: skip
UNFINISHED = "\ufffd"  # what a decoder writes for a part of a character
PLAIN_VOCABULARY = 100_000  # tokens; transformers corrects the splitting of some larger ones


@dataclass(frozen=True)
class Tokeniser:
    """A tokenizer as this project uses it.

    Attributes:
        encode: from a text, and whether to add the tokenizer's special tokens, to token ids.
        decode: from token ids, and whether to keep the tokenizer's special tokens, to a text.
        chat: from a prompt to token ids, as a user message in the chat template; None for plain text.
    """

    encode: Callable[[str, bool], list[int]]
    decode: Callable[[list[int], bool], str]
    chat: Callable[[str], list[int]] | None = None


def tokenise(
    items: Sequence[Item], tokeniser: Tokeniser, max_tokens: int | None, partners: Sequence[str] = ()
) -> list[Item]:
    """Fill in the token ids; leave out items of more than `max_tokens` tokens, and log their number.

    With foils an answer ends at its first token that differs from the foil's, to which the margin refers.

    Args:
        partners: those of `partners.PARTNERS` that are needed; every item's `extra` has them.

    Raises:
        HeadAtlasError: a text has no tokens, the answer begins with the foil or vice versa, or no item is short enough.
    """
    done = [_with_partners(_tokenised(item, tokeniser), tokeniser, partners) for item in items]
    lengths = [max(map(len, _prompts(item))) + len(item.answer_ids) for item in done]
    if max_tokens is None or max(lengths, default=0) <= max_tokens:
        return done
    kept = [item for item, length in zip(done, lengths, strict=True) if length <= max_tokens]
    if not kept:
        raise HeadAtlasError(
            f"{done[0].where}: this and all other items of the task are longer than {max_tokens} tokens (the "
            f"shortest has {min(lengths)}); raise items.max_tokens, or use a model with a longer context"
        )
    log.warning(
        "%d of %d items are longer than %d tokens and left out (the longest has %d)",
        len(done) - len(kept), len(done), max_tokens, max(lengths),
    )  # fmt: skip
    return kept


def text_ids(tokeniser: Tokeniser, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Tokenise a prompt and its answer as one text, and cut it between them.

    A space is inserted between them unless one of them has white space there. If the tokens of the whole do not begin
    with those of the prompt (a token would span the cut), the answer is tokenised on its own. Special tokens that the
    tokenizer appends to a text (an end of sequence) are removed.
    """
    joiner = "" if prompt[-1:].isspace() or answer[:1].isspace() else " "
    alone = tokeniser.encode(prompt, True)
    behind = _tokens_behind(alone, tokeniser.encode(prompt, False))
    prompt_ids = _without_last(alone, behind)
    whole = _without_last(tokeniser.encode(prompt + joiner + answer, True), behind)
    if len(whole) > len(prompt_ids) and whole[: len(prompt_ids)] == prompt_ids:
        return prompt_ids, whole[len(prompt_ids) :]
    return prompt_ids, tokeniser.encode(joiner + answer, False)


def token_texts(tokeniser: Tokeniser, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to that of the tokens before it.

    Of a character that several tokens encode, the last of them has the text, and the others have none. Each token is
    decoded with those since the end of the last character, and with the tokens before, which decide about a space.
    """
    texts, before, done = [], 0, 0
    for end in range(1, len(ids) + 1):
        known, grown = (tokeniser.decode(list(ids[before:to]), True) for to in (done, end))
        whole = not grown.endswith(UNFINISHED) or end == len(ids)
        texts.append(grown[len(known) :] if whole else "")
        before, done = (done, end) if whole else (before, done)
    return texts


@shared
def load_tokeniser(settings: dict) -> Tokeniser:
    """Load a model's tokenizer: directly from tokenizer.json if that gives the same tokens, otherwise with
    AutoTokenizer.

    Args:
        settings: `path`, `revision`, `chat_template`, `trust_remote_code` as for a model in the config. Raises:
        HeadAtlasError: there is none, it cannot be read, or it lacks a requested chat template.
    """
    if not settings["chat_template"] and is_plain(Path(settings["path"])):
        return _plain_tokeniser(Path(settings["path"]))
    from transformers import AutoTokenizer

    options = {"revision": settings["revision"] or "main", "trust_remote_code": settings["trust_remote_code"]}
    try:
        with shown_to_transformers(settings["path"]) as (path, gguf):
            tokenizer = AutoTokenizer.from_pretrained(path, **gguf, **options)
    except Exception as error:  # the libraries raise OSError, ValueError, ImportError and their own errors
        why = shorten(" ".join(str(error).split()), 300)
        raise HeadAtlasError(
            f"{settings['path']}: its tokenizer cannot be loaded: {type(error).__name__}: {why}"
        ) from None
    tokenizer.name_or_path = settings["path"]
    return tokeniser_of(tokenizer, settings["chat_template"])


def tokeniser_of(tokenizer, chat_template: bool = False) -> Tokeniser:
    """Wrap a transformers tokenizer.

    Raises:
        HeadAtlasError: it lacks a requested chat template.
    """

    def encode(text: str, special: bool) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=special)

    def decode(ids: list[int], special: bool) -> str:
        return tokenizer.decode(ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False)

    def chat(prompt: str) -> list[int]:
        message = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)

    if not chat_template:
        return Tokeniser(encode, decode)
    if not tokenizer.chat_template:
        raise HeadAtlasError(f"{tokenizer.name_or_path}: its tokenizer has no chat template; set chat_template: false")
    return Tokeniser(encode, decode, chat)


def is_plain(folder: Path) -> bool:
    """Whether AutoTokenizer would add nothing to the folder's tokenizer.json. If in doubt, False."""
    try:
        model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        options = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        added = {token["content"] for token in content["added_tokens"]}
        named = [options.get(f"{name}_token") for name in ("bos", "eos", "pad", "unk")]
        return (
            model["model_type"] in PLAIN_MODELS
            and options["tokenizer_class"] in PLAIN_CLASSES
            and set(options) <= set(PLAIN_OPTIONS)
            and all(token is None or token in added for token in named)
            and content["truncation"] is None
            and content["padding"] is None
            and len(content["model"]["vocab"]) + len(added) <= PLAIN_VOCABULARY
            and not any((folder / name).exists() for name in ("special_tokens_map.json", "added_tokens.json"))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _plain_tokeniser(folder: Path) -> Tokeniser:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises plain Exception
        raise HeadAtlasError(f"{folder / 'tokenizer.json'}: cannot be read: {shorten(str(error), 300)}") from None
    return Tokeniser(
        encode=lambda text, special: tokenizer.encode(text, add_special_tokens=special).ids,
        decode=lambda ids, special: tokenizer.decode(ids, skip_special_tokens=not special),
    )


def _prompts(item: Item) -> list[list[int]]:
    return [item.prompt_ids, item.counterfactual_ids or [], item.same_answer_ids or []]


def _tokenised(item: Item, tokeniser: Tokeniser) -> Item:
    prompt_ids, answer_ids = _pair_ids(item, tokeniser, item.prompt, item.answer)
    _require_tokens(item, prompt=prompt_ids, answer=answer_ids)
    return replace(item, prompt_ids=prompt_ids, answer_ids=answer_ids)


def _pair_ids(item: Item, tokeniser: Tokeniser, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    if tokeniser.chat is None:
        return text_ids(tokeniser, prompt, answer)
    try:
        prompt_ids = tokeniser.chat(prompt)
    except Exception as error:  # a template is code that comes with the model
        why = shorten(" ".join(str(error).split()), 300)
        raise HeadAtlasError(f"{item.where}: the model's chat template fails on it: {why}") from None
    return prompt_ids, tokeniser.encode(answer, False)


def _require_tokens(item: Item, **texts: list[int]) -> None:
    for what, ids in texts.items():
        if not ids:
            text = getattr(item, what, None) or item.extra[what]
            raise HeadAtlasError(
                f"{item.where}: the {what} '{shorten(text)}' has no tokens in this model's tokenizer; "
                "change it, or remove the item"
            )


def _with_partners(item: Item, tokeniser: Tokeniser, partners: Sequence[str]) -> Item:
    for key in (key for key in partners if key != "foil"):
        ids, _ = _pair_ids(item, tokeniser, item.extra[key], item.answer)
        _require_tokens(item, **{key: ids})
        item = replace(item, **{f"{key}_ids": ids})
    return _with_foil(item, tokeniser) if "foil" in partners else item


def _with_foil(item: Item, tokeniser: Tokeniser) -> Item:
    _, foil = _pair_ids(item, tokeniser, item.prompt, item.extra["foil"])
    for at, (own, other) in enumerate(zip(item.answer_ids, foil, strict=False)):
        if own != other:
            return replace(item, answer_ids=item.answer_ids[: at + 1], foil_id=other)
    raise HeadAtlasError(
        f"{item.where}: the tokens of the answer '{shorten(item.answer)}' begin with those of the foil "
        f"'{shorten(item.extra['foil'])}', or vice versa, so there is no margin between them; change one of them"
    )


def _tokens_behind(with_special: list[int], without: list[int]) -> int:
    """Number of special tokens appended to a text."""
    spare = len(with_special) - len(without)
    starts = (start for start in range(spare + 1) if with_special[start : start + len(without)] == without)
    return spare - next(starts, spare) if without else 0


def _without_last(ids: list[int], n: int) -> list[int]:
    return ids[: len(ids) - n]
